"""One run of an analog link, on stream time; the sibling of `benchmarks.link`, and plain SoftCast beside it.

    source -> AnalogSender -> records, symbols -> AnalogChannel -> AnalogDecoder -> ReceiverSession -> sink

A group is sent in the time that its pictures took, after the last of them, and shown once that is over: every picture
as long after its capture as the first one of a full group. Bytes are those of the records alone; what the symbols took
is in the channel's report, in channel uses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from operator import sub
from typing import NamedTuple

from benchmarks.link import Clip, LinkResult, as_recorded
from channel.analog_link import AnalogChannel
from channel.analog_spec import AnalogSpec
from common.clock import SystemClock
from common.config import Config
from common.container import RecordJoiner, SgvWriter
from common.errors import BitstreamError
from common.ports import FrameSource
from common.softcast import AnalogGroup, decode_group
from common.softcast_layout import MAX_COEFFICIENTS, MAX_PICTURES
from common.stats import FreezeSummary, find_freezes
from common.types import Frame, Layer, Picture
from common.units import StreamConfig
from receiver.analog import AnalogDecoder
from receiver.painter import BasePainter, Painter
from receiver.pipeline import ReceiverSession, Shown
from sender.analog import AirBudget, AnalogSender, Transmission, filled


@dataclass(slots=True)
class AnalogLink:
    """Both ends and what lies between.

    on_shown : called for each picture with the source frame of the same slot and the time
    record : writes the units that reached the receiver, or None
    """

    config: Config
    spec: AnalogSpec
    stream: StreamConfig
    painter: Painter
    on_shown: Callable[[Frame, Shown, float], None]
    record: SgvWriter | None = None
    channel: AnalogChannel = field(init=False)
    sender: AnalogSender = field(init=False)
    decoder: AnalogDecoder = field(default_factory=AnalogDecoder)
    receiver: ReceiverSession = field(init=False)
    joiner: RecordJoiner = field(default_factory=RecordJoiner)
    result: LinkResult = field(default_factory=LinkResult)
    _waiting: list[Frame] = field(default_factory=list)
    _free_s: float = 0.0

    def __post_init__(self) -> None:
        self.channel = AnalogChannel(self.spec, self.config.stream.seed)
        budget = AirBudget(self.spec.uses_per_s, self.spec.digital_share, self.channel.uses_of)
        self.sender = AnalogSender(self.stream, self.config, budget)
        self.receiver = ReceiverSession(self.config.receiver, self.painter, SystemClock(), self.decoder)

    def run(self, source: FrameSource) -> LinkResult:
        """Send every frame of the source and show every frame slot."""
        pixels = 0
        for frame in source:
            pixels += frame.picture.width * frame.picture.height
            sent, cut = self.sender.step(frame)
            self._waiting.append(frame)
            self.result.layer_bytes.append({})
            if cut:
                self.result.events.append((frame.time_s, "cut"))
            if sent is not None:
                self._carry(sent, frame.time_s)
        last = self.sender.flush()
        if last is not None:
            self._carry(last, self._waiting[-1].time_s)
        self.result.channel = self._report(pixels)
        return self.result

    def _carry(self, sent: Transmission, captured_s: float) -> None:
        """One transmission over the air, and its frames on the screen."""
        self._note(sent, captured_s)
        duration_s = sent.frames / float(self.stream.frame_rate)
        self._free_s = max(self._free_s, captured_s) + duration_s
        arrival_s = self._free_s + self.spec.delay_ms / 1e3
        if sent.symbols is not None:
            arrived = self.channel.transmit(sent.records, sent.symbols)
            self.decoder.hear(arrived.analog.symbols, arrived.analog.noise)
            for record in arrived.records:
                self._take_in(record, arrival_s)
        if self.decoder.config is None:
            return
        end = sent.slot + sent.frames
        while self._waiting and self._waiting[0].slot < end:
            self._show(self._waiting.pop(0), arrival_s, sent.symbols is not None)

    def _take_in(self, record: bytes | None, arrival_s: float) -> None:
        try:
            unit = self.joiner.push(record)
        except BitstreamError:
            self.decoder.counts["damaged"] += 1
            return
        if unit is None:
            return
        if self.record is not None:
            self.record.write([as_recorded(unit)])
        self.receiver.receive(unit, arrival_s)

    def _show(self, frame: Frame, arrival_s: float, sent: bool) -> None:
        shown = self.receiver.paint(frame.slot)
        longest_s = 2 * self.sender.group_frames / float(self.stream.frame_rate) + self.spec.delay_ms / 1e3
        shown_s = max(arrival_s, frame.time_s + longest_s)
        self.result.latency_s.append(shown_s + shown.spent_s - frame.time_s)
        if shown.concealed and sent:
            self.result.events.append((frame.time_s, "concealment"))
        self.on_shown(frame, shown, shown_s)

    def _note(self, sent: Transmission, captured_s: float) -> None:
        layers: Counter[str] = Counter()
        for unit in sent.units:
            for layer, size in unit.layer_bytes:
                layers[layer.name.lower()] += size
        if sent.piece:
            layers[Layer.ANCHOR.name.lower()] += len(sent.piece)
        self.result.layer_bytes[min(sent.slot, len(self.result.layer_bytes) - 1)] = dict(layers)
        self.result.sent_bytes += sum(map(len, sent.records))
        self.result.events += [(captured_s, "anchor") for event in sent.events if event == "anchor"]

    def _report(self, pixels: int) -> dict[str, object]:
        """What the air was used for; cbr as of the radio links."""
        stats, counts = self.channel.stats, self.decoder.counts
        return {
            "spec": self.config.channel.spec, "snr_db": self.spec.snr_db, "guide_scale": self.sender.scale,
            "uses": {"digital": stats.uses_digital, "analog": stats.uses_analog}, "cbr": stats.cbr(max(1, pixels)),
            "groups": stats.transmissions, "lost_groups": stats.transmissions - counts["group"],
            "records": stats.records, "lost_records": stats.lost_records, "anchors": counts["anchor"],
        }  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class AnalogRun:
    """What an analog link showed and took.

    shown : one entry for each source frame
    uses_digital, uses_analog : channel uses
    freezes : as W3C webrtc-stats counts them
    result : everything else
    """

    shown: tuple[Shown, ...]
    uses_digital: int
    uses_analog: int
    freezes: FreezeSummary
    result: LinkResult


def run_analog(
    config: Config,
    spec: AnalogSpec,
    stream: StreamConfig,
    frames: Sequence[Frame],
    painter: Painter | None = None,
) -> AnalogRun:
    """Send frames that are in memory.

    painter : None for the base picture, which needs no network (with `receiver.steps` 0)
    """
    shown: list[Shown] = []
    fresh_s: list[float] = []

    def on_shown(frame: Frame, picture: Shown, at_s: float) -> None:
        shown.append(picture)
        if not picture.concealed:
            fresh_s.append(at_s)

    link = AnalogLink(config, spec, stream, painter or BasePainter(), on_shown)
    result = link.run(Clip(frames))
    stats, freezes = link.channel.stats, find_freezes(fresh_s, float(1 / stream.frame_rate))
    return AnalogRun(tuple(shown), stats.uses_digital, stats.uses_analog, FreezeSummary.of(freezes), result)


class SoftcastRun(NamedTuple):
    """What plain SoftCast showed and took.

    pictures : one for each source picture; fresh : False where the one before stood still
    uses : channel uses, those of metadata included
    """

    pictures: list[Picture]
    uses: int
    fresh: list[bool]


def softcast_alone(
    pictures: Sequence[Picture], frame_rate: Fraction, spec: AnalogSpec, seed: int
) -> SoftcastRun:
    """Plain SoftCast: whole pictures in groups of eight, in all the uses.

    As published, only the means of whole pictures are told beside the variances. Metadata take their uses as records;
    where they are lost the last picture stands still, grey before any.
    """
    channel, shown, fresh, reserved = AnalogChannel(spec, seed), [grey_like(pictures[0])], [], 0
    size = max(1, min(MAX_PICTURES, MAX_COEFFICIENTS // (pictures[0].y.size * 3 // 2)))
    for first in range(0, len(pictures), size):
        group = pictures[first : first + size]
        ends = (int(spec.uses_per_s * slot / frame_rate) for slot in (first, first + len(group)))
        uses = -next(ends) + next(ends)
        coded, reserved = filled(
            group, partial(sub, uses), lambda g: channel.uses_of(len(g.metadata)), min(reserved, uses // 4), 1
        )
        received = None if coded is None else _softcast_over(channel, coded)
        fresh += [received is not None] * len(group)
        shown += [shown[-1]] * len(group) if received is None else received
    return SoftcastRun(shown[1:], channel.stats.uses, fresh)


def _softcast_over(channel: AnalogChannel, group: AnalogGroup) -> tuple[Picture, ...] | None:
    """A group as it arrives, None where its metadata do not."""
    arrived = channel.transmit([group.metadata], group.symbols)
    (metadata,), analog = arrived.records, arrived.analog
    if metadata is None:
        return None
    return decode_group(analog.symbols, analog.noise, metadata[: len(group.metadata)]).pictures


def grey_like(picture: Picture) -> Picture:
    """A picture of that size without content."""
    y, u, v = (plane * 0 + 128 for plane in picture.planes)
    return Picture(y, u, v)

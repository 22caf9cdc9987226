"""One run of the whole link: sender, packets, channel, receiver, on stream time that a loop moves forward.

    source -> SenderSession -> Packetiser -> channel -> Reassembler -> ReceiverSession -> sink
                    ^______________ feedback <- channel <-________________|

Only bytes cross. Channel delays are simulated; the work of both ends is timed on the real clock, and the receiver's
deadline control acts on those times. What crosses therefore depends on the seed alone, never on the machine's speed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from channel.packetise import Packetiser, PacketiserConfig
from channel.radio.link import RadioStats
from channel.simulated import make_link
from channel.spec import parse_channel
from channel.traffic import Traffic
from common.clock import Clock
from common.config import Config
from common.container import SgvWriter
from common.datagram import pack_feedback, parse_feedback
from common.errors import BitstreamError, SourceError
from common.ports import FrameSource
from common.stats import StageTimer
from common.types import EncodedUnit, Frame, Layer, UnitKind
from common.wire import kind_of
from receiver.pipeline import ReceiverSession, Shown
from receiver.reassembly import Reassembler
from sender.anchors import AnchorOrder
from sender.pipeline import SenderSession, Step
from sender.sources import VideoSource

TICK_S = 0.005
REPORT_S = 0.05
WIRE_BYTES = 28  # IPv4 and UDP headers
PROBE_FRAMES = 13


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames in memory, so that reading them is not timed; a `common.ports.FrameSource`."""

    frames: Sequence[Frame]

    @classmethod
    def of(cls, source: VideoSource) -> Clip:
        """All of a source; SourceError where that is less than two pictures."""
        clip = cls(tuple(source))
        if len(clip.frames) < 2:
            raise SourceError(f"{source.name} holds {len(clip.frames)} pictures: name a longer clip")
        return clip

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class LinkResult:
    """What happened; lists have one entry per source frame.

    layer_bytes : bytes of every layer handed to the link while the frame was current
    sent_bytes, datagrams : totals, all overheads included
    events : (time in the stream, kind)
    carried : bytes that really left, of the layers that may be left behind in a queue
    """

    layer_bytes: list[dict[str, int]] = field(default_factory=list)
    sent_bytes: int = 0
    datagrams: int = 0
    events: list[tuple[float, str]] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)
    channel: dict[str, object] = field(default_factory=dict)
    carried: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Link:
    """Both ends and what lies between.

    on_sent : called for each frame with what the sender made of it
    on_shown : called for each picture with the source frame of the same slot
    record : writes the units that reached the receiver, or None
    """

    config: Config
    sender: SenderSession
    receiver: ReceiverSession
    clock: Clock
    on_sent: Callable[[Frame, Step], None]
    on_shown: Callable[[Frame, Shown, float], None]
    record: SgvWriter | None = None

    def run(self, source: FrameSource) -> LinkResult:
        """Send every frame of the source and show every frame slot."""
        run = _Run(self, self.config)
        frames = iter(source)
        first = list(islice(frames, PROBE_FRAMES))
        self.sender.probe(first)
        for frame in chain(first, frames):
            run.frame(frame)
        run.drain()
        return run.result


def packetiser_config(config: Config) -> PacketiserConfig:
    """The sending end's settings: what can still be shown is worth sending again."""
    channel = config.channel
    usual = PacketiserConfig(
        rate_bps=config.stream.bitrate_bps, hold_ms=channel.hold_ms, repair_ratio=channel.repair_ratio
    )
    window_ms = max(usual.retransmit_window_ms, config.receiver.playout_delay_ms)
    return usual.model_copy(update={"retransmit_window_ms": window_ms})


class _Run:
    """The state of one run."""

    def __init__(self, link: Link, config: Config) -> None:
        self.link = link
        self.result = LinkResult()
        self.timer = StageTimer(link.clock)
        self._forward, self._backward = make_link(parse_channel(config.channel.spec), config.stream.seed)
        self._packetiser = Packetiser(packetiser_config(config))
        self._reassembler = Reassembler()
        self._now_s = 0.0
        self._reported_s = 0.0
        self._waiting: dict[int, Frame] = {}
        self._overhead_bytes = 0
        self._sent_slots: set[int] = set()
        self._pixels = 0

    def frame(self, frame: Frame) -> None:
        """Let time pass up to the capture of `frame`, then send it."""
        self._pass_until(frame.time_s)
        self._waiting[frame.slot] = frame
        self._pixels += frame.picture.width * frame.picture.height
        step = self.link.sender.step(frame)
        self._packetiser.push(step.units, self._now_s)
        self._note(frame, step)
        self._send()
        self.link.sender.keeper.link_overhead(self._new_overhead())

    def _new_overhead(self) -> int:
        """Bytes that packets added since the last frame."""
        stats = self._packetiser.stats
        total = stats.header_bytes + stats.fec_bytes + stats.retransmission_bytes
        new, self._overhead_bytes = total - self._overhead_bytes, total
        return new

    def drain(self) -> None:
        """Let time pass until every frame has been shown, and never for more than the playout delay and two seconds."""
        end_s = self._now_s + self.link.config.receiver.playout_delay_ms / 1e3 + 2.0
        while self._waiting and self._now_s < end_s:
            self._pass_until(self._now_s + TICK_S)
        for slot in sorted(self._waiting):  # frames after the last one that arrived
            if self.link.receiver.decoder.config is not None:
                self._show(self.link.receiver.paint(slot))
        sent = self._packetiser.stats
        self.result.carried = {"anchor": sent.anchor_bytes, "residual": sent.residual_bytes}
        stats = self._forward.stats
        self.result.channel = {
            "spec": self.link.config.channel.spec, "sent": stats.sent, "delivered": stats.delivered,
            "drops": dict(stats.drops), "corrupted": stats.corrupted, "duplicated": stats.duplicated,
            "fec_bytes": self._packetiser.stats.fec_bytes,
            "retransmission_bytes": self._packetiser.stats.retransmission_bytes,
            "header_bytes": self._packetiser.stats.header_bytes,
        }  # fmt: skip
        if isinstance(stats, RadioStats):
            self.result.channel["radio"] = radio_report(stats, self._pixels)

    def _pass_until(self, end_s: float) -> None:
        while self._now_s + TICK_S <= end_s + 1e-9:
            self._now_s += TICK_S
            self._send()
            self._take_in()
            self._feed_back()
            for shown in self.link.receiver.due(self._now_s):
                if shown.frame.slot in self._waiting:
                    self._show(shown)

    def _send(self) -> None:
        for datagram, traffic in self._packetiser.poll_with_traffic(self._now_s):
            self._forward.send(datagram, self._now_s, traffic)
            self.result.sent_bytes += len(datagram)
            self.result.datagrams += 1

    def _take_in(self) -> None:
        for datagram in self._forward.receive(self._now_s):
            for unit in self._reassembler.push(datagram):
                if self.link.record is not None:
                    self.link.record.write([as_recorded(unit.data)])
                self.link.receiver.receive(unit.data, unit.arrival_s)
        for datagram in self._backward.receive(self._now_s):
            try:
                report = parse_feedback(datagram.data)
            except BitstreamError:
                continue
            self._packetiser.on_feedback(report, self._now_s, self._forward.busy)
            self.link.sender.on_feedback(report)

    def _feed_back(self) -> None:
        due = self._now_s - self._reported_s >= REPORT_S - 1e-9
        if not due and not self._reassembler.ask_due(self._now_s):
            return
        self._reported_s = self._now_s
        decoder, refresh = self.link.receiver.decoder, self.link.receiver.refresh_wanted(self._now_s)
        if refresh:
            self.result.events.append((self._now_s, "refresh_request"))
        last = decoder.state.slot if decoder.state is not None else -1
        report = self._reassembler.report(
            self._now_s, last, decoder.anchor_ids, refresh, decoder.anchor_wanted
        )
        self._backward.send(pack_feedback(report), self._now_s, Traffic.CONFIG)

    def _note(self, frame: Frame, step: Step) -> None:
        self.link.on_sent(frame, step)
        if step.units:
            self._sent_slots.add(frame.slot)
        layers: Counter[str] = Counter()
        for unit in step.units:
            for layer, size in unit.layer_bytes:
                layers[layer.name.lower()] += size
        self.result.layer_bytes.append(dict(layers))
        kinds = {"cut": "cut", "anchor in use": "anchor"}
        self.result.events += [(frame.time_s, kinds[event]) for event in step.events if event in kinds]

    def _show(self, shown: Shown) -> None:
        frame = self._waiting.pop(shown.frame.slot)
        self.result.latency_s.append(self._now_s + shown.spent_s - frame.time_s)
        if shown.concealed and frame.slot in self._sent_slots:
            self.result.events.append((frame.time_s, "concealment"))
        self.link.on_shown(frame, shown, self._now_s)


def launch_anchor(sender: SenderSession) -> None:
    """Have an anchor on its way or in use, whatever the policy says; call it before each step for which that holds."""
    if sender.order.drop or sender.order.give_up:
        sender.order = AnchorOrder()
    if sender.state.anchor is None and sender.anchors.flight is None:
        sender.order = AnchorOrder(launch=True)


def radio_report(stats: RadioStats, pixels: int) -> dict[str, object]:
    """What a radio link spent on a video of so many pixels; uses and schemes by name."""
    return {
        "cbr": stats.cbr(pixels), "uses": stats.uses, "offered_uses": stats.offered_uses,
        "uses_by_traffic": dict(stats.uses_by_traffic), "blocks": stats.blocks, "failed_blocks": stats.failed_blocks,
        "blocks_by_mcs": {name: {"sent": sent, "failed": failed} for name, sent, failed in stats.blocks_by_mcs},
    }  # fmt: skip


def as_recorded(data: bytes) -> EncodedUnit:
    """A received unit as the recorder wants it (anchors may be written in pieces)."""
    kind = kind_of(data) if len(data) >= 6 else UnitKind.FRAME
    return EncodedUnit(kind, 0, data)


def layer_totals(result: LinkResult) -> dict[str, int]:
    """Bytes by layer; what the packets, repairs and retransmissions add counts as overhead. Sums to `sent_bytes`."""
    totals: Counter[str] = Counter({layer.name.lower(): 0 for layer in Layer})
    for layers in result.layer_bytes:
        totals.update(layers)
    for layer, size in result.carried.items():
        totals[layer] = min(totals[layer], size)
    totals["overhead"] += max(0, result.sent_bytes - sum(totals.values()))
    return dict(totals)

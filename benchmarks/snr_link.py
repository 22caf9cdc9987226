"""What each system shows at the end of a link: one `Shown` per source picture.

    semcast          sender -> packets -> channel -> receiver          (benchmarks/link.py, both ways)
    a codec          its packets -> the same packets, protection and retransmission -> channel -> its own decoder
    semcast-analog, softcast        symbols and metadata -> noise -> pictures    (benchmarks/analog_link.py)

All have the same time: what arrives within the delay is shown in its own place, what comes later is not shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from benchmarks.analog_link import grey_like, run_analog, softcast_alone
from benchmarks.files import open_sender, stream_of
from benchmarks.link import REPORT_S, TICK_S, Clip, Link, LinkResult, packetiser_config
from benchmarks.peers import PeerCodec
from benchmarks.rd_clip import Loaded
from benchmarks.snr_streams import PeerStream, concealed
from channel.analog_spec import AnalogSpec
from channel.packetise import Packetiser
from channel.radio.link import RadioStats
from channel.simulated import ChannelStats, make_link
from channel.spec import parse_channel
from channel.traffic import Traffic
from common.clock import SystemClock
from common.config import Config
from common.datagram import pack_feedback, parse_feedback
from common.errors import BitstreamError
from common.types import EncodedUnit, Frame, Picture, UnitKind
from receiver.painter import open_painter
from receiver.pipeline import ReceiverSession, Shown
from receiver.reassembly import Reassembler
from sender.rate import FILE, LINK
from sender.sources import VideoSource

_SLOT_BYTES = 2
_PATIENT_MS = 2000.0


@dataclass(frozen=True, slots=True)
class Received:
    """A clip at the far end.

    pictures : one for each of the source's; the last one again where nothing new came
    fresh : whether each is new; a picture that the sender left out counts as new, since nothing is missing
    sent_bytes : all that was handed to the link, None where symbols carry the picture
    uses : complex channel uses spent, None where the channel has none
    """

    pictures: tuple[Picture, ...]
    fresh: tuple[bool, ...]
    sent_bytes: int | None
    uses: int | None


def through_semcast(clip: Loaded, source: VideoSource, config: Config) -> Received:
    """Our system over `config.channel.spec`, shown `receiver.playout_delay_ms` after capture.

    With seconds of delay it takes the time for key pictures that a file would.
    """
    patient = config.receiver.playout_delay_ms >= _PATIENT_MS
    sender = open_sender(source, config, FILE if patient else LINK)
    stream = sender.config
    painter = open_painter(config, stream.seed, (stream.coded_height, stream.coded_width))
    session = ReceiverSession(config.receiver, painter, SystemClock())
    shown: dict[int, Shown] = {}

    def on_shown(frame: Frame, picture: Shown, shown_s: float) -> None:
        shown[frame.slot] = picture

    link = Link(config, sender, session, SystemClock(), lambda frame, step: None, on_shown)
    result = link.run(Clip(clip.frames))
    sender.close()
    pictures = [shown[frame.slot].frame.picture if frame.slot in shown else None for frame in clip.frames]
    fresh = _fresh([frame.slot for frame in clip.frames], shown, result)
    return Received(_held(pictures, clip.pictures[0]), fresh, result.sent_bytes, _uses(result))


def _fresh(slots: Sequence[int], shown: dict[int, Shown], result: LinkResult) -> tuple[bool, ...]:
    left_out = {slot for slot, layers in zip(slots, result.layer_bytes, strict=True) if not layers}
    return tuple(slot in left_out or (slot in shown and not shown[slot].concealed) for slot in slots)


def _uses(result: LinkResult) -> int | None:
    radio = result.channel.get("radio")
    return int(radio["uses"]) if isinstance(radio, dict) else None


# --- symbols without bits -----------------------------------------------------------------------------------------


def through_analog(clip: Loaded, source: VideoSource, config: Config) -> Received:
    """Our system over `config.channel.spec`, an analog one."""
    stream = stream_of(source, config)
    painter = open_painter(config, stream.seed, (stream.coded_height, stream.coded_width))
    run = run_analog(config, _analog(config), stream, clip.frames, painter)
    shown = {picture.frame.slot: picture for picture in run.shown}  # none where the configuration never came
    fresh = tuple(f.slot in shown and not shown[f.slot].concealed for f in clip.frames)
    pictures = [shown[f.slot].frame.picture if f.slot in shown else None for f in clip.frames]
    return Received(_held(pictures, clip.pictures[0]), fresh, None, run.uses_digital + run.uses_analog)


def through_softcast(clip: Loaded, config: Config) -> Received:
    """Plain SoftCast over `config.channel.spec`, an analog one."""
    run = softcast_alone(clip.pictures, clip.frame_rate, _analog(config), config.stream.seed)
    return Received(tuple(run.pictures), tuple(run.fresh), None, run.uses)


def _analog(config: Config) -> AnalogSpec:
    spec = parse_channel(config.channel.spec)
    assert isinstance(spec, AnalogSpec)
    return spec


# --- peers --------------------------------------------------------------------------------------------------------


def through_codec(codec: PeerCodec, stream: PeerStream, clip: Loaded, config: Config) -> Received:
    """A peer's stream over `config.channel.spec`."""
    units = [
        EncodedUnit(UnitKind.FRAME, slot, slot.to_bytes(_SLOT_BYTES, "big") + packet, key=key, protect=key)
        for slot, (packet, key) in enumerate(zip(stream.packets, stream.keys, strict=True))
    ]
    arrived, sent_bytes, stats = _carry(units, clip.frame_rate, config)
    packets = [arrived[slot].packet if slot in arrived else None for slot in range(len(units))]
    delay_s, frame_s = config.receiver.playout_delay_ms / 1e3, float(1 / clip.frame_rate)
    in_time = [
        slot in arrived and arrived[slot].at_s <= slot * frame_s + delay_s for slot in range(len(units))
    ]
    decoded = concealed(codec, packets, clip.pictures[0])
    shown = [picture if on_time else None for picture, on_time in zip(decoded, in_time, strict=True)]
    fresh = tuple(picture is not None for picture in shown)
    uses = stats.uses if isinstance(stats, RadioStats) else None
    return Received(_held(shown, clip.pictures[0]), fresh, sent_bytes, uses)


class _Arrival(NamedTuple):
    packet: bytes
    at_s: float


def _carry(
    units: Sequence[EncodedUnit], frame_rate: Fraction, config: Config
) -> tuple[dict[int, _Arrival], int, ChannelStats]:
    """Packets by slot as they arrived, bytes handed to the link, and what the channel did."""
    forward, backward = make_link(parse_channel(config.channel.spec), config.stream.seed)
    packetiser = Packetiser(packetiser_config(config).model_copy(update={"hold_ms": 0.0}))
    reassembler, arrived = Reassembler(), dict[int, _Arrival]()
    ticks_per_frame = 1 / (float(frame_rate) * TICK_S)
    drain_ticks = config.receiver.playout_delay_ms / 1e3 / TICK_S
    last_tick, reported_s, sent = round(len(units) * ticks_per_frame + drain_ticks), 0.0, 0
    for tick in range(last_tick):
        now_s = tick * TICK_S
        while sent < len(units) and sent * ticks_per_frame <= tick:
            packetiser.push([units[sent]], now_s)
            sent += 1
        for datagram, traffic in packetiser.poll_with_traffic(now_s):
            forward.send(datagram, now_s, traffic)
        for received in forward.receive(now_s):
            for unit in reassembler.push(received):
                slot = int.from_bytes(unit.data[:_SLOT_BYTES], "big")
                arrived[slot] = _Arrival(unit.data[_SLOT_BYTES:], unit.arrival_s)
        for received in backward.receive(now_s):
            try:
                packetiser.on_feedback(parse_feedback(received.data), now_s, forward.busy)
            except BitstreamError:
                continue
        if now_s - reported_s >= REPORT_S - 1e-9 or reassembler.ask_due(now_s):
            reported_s = now_s
            backward.send(pack_feedback(reassembler.report(now_s)), now_s, Traffic.CONFIG)
    return arrived, packetiser.stats.total_bytes, forward.stats


def _held(pictures: Sequence[Picture | None], like: Picture) -> tuple[Picture, ...]:
    """Every gap filled with the picture before it, mid-grey before the first."""
    held, filled = grey_like(like), []
    for picture in pictures:
        held = held if picture is None else picture
        filled.append(held)
    return tuple(filled)

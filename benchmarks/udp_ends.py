"""One end alone over UDP, on the real clock: what `python -m sender` and `python -m receiver` run.

    SendingEnd    source -> SenderSession -> Packetiser -> socket        <- feedback, on the same socket
    ReceivingEnd  socket -> Reassembler -> ReceiverSession -> received.mkv        -> feedback

Both are plain loops: work, then wait on the socket for at most one tick.
"""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

from rich.console import Console

from benchmarks.files import open_input, open_sender
from benchmarks.link import PROBE_FRAMES, REPORT_S, TICK_S
from channel.packetise import Packetiser, PacketiserConfig
from channel.udp import Address, UdpTransport, parse_address, parse_udp_url
from common.clock import Clock, SystemClock
from common.config import Config
from common.datagram import pack_feedback, parse_feedback
from common.errors import BitstreamError, ChannelError, SourceError
from common.state import SceneState, compose, picture_digest
from common.types import Datagram, Frame, UnitKind
from common.units import ConfigUnit
from common.wire import kind_of, parse_unit
from receiver.jitter import Playout
from receiver.painter import open_painter
from receiver.pipeline import ReceiverSession, Shown
from receiver.provenance import PaintedTally
from receiver.reassembly import Reassembler
from receiver.sinks import BackgroundSink, Ffv1Sink
from sender.pipeline import SenderSession

AHEAD_FRAMES = 24
"""How far a fast sender may run ahead of the receiver's reports: less than what the receiver keeps for display."""
LIKELY_SIZE = (512, 512)
"""Height and width for which a receiver gets ready before it knows."""
SETTLE_S, DRAIN_S = 0.3, 3.0
"""After its last frame a sender stays at least, and at most, so long to repeat what got lost."""


@dataclass(slots=True)
class Pace:
    """How many pictures a second were done, between the first and the last."""

    pictures: int = 0
    first_s: float = 0.0
    last_s: float = 0.0

    def done(self, now_s: float) -> None:
        """One more picture is done."""
        self.first_s = now_s if self.pictures == 0 else self.first_s
        self.last_s = now_s
        self.pictures += 1

    @property
    def fps(self) -> float:
        """0 where there is nothing to compare."""
        return (self.pictures - 1) / (self.last_s - self.first_s) if self.last_s > self.first_s else 0.0


def peak_memory_mib() -> float:
    """Of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def base_digest(state: SceneState) -> str:
    """Digest of the base picture before any residual, which a link may drop: equal at both ends or something broke."""
    return f"{picture_digest(compose(state).base):08x}"


# --- sending ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class SendingEnd:
    """Sends every frame of a source.

    fast : a file as quickly as the receiver keeps up, on stream time; else each frame at its own time
    digests : base-picture digest by slot, filled only where it is a dictionary
    """

    session: SenderSession
    packetiser: Packetiser
    transport: UdpTransport
    clock: Clock
    fast: bool
    digests: dict[int, str] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    pace: Pace = field(default_factory=Pace)
    began_s: float = 0.0
    now_s: float = 0.0
    acknowledged: int = -1

    def run(self, frames: Iterable[Frame]) -> None:
        """Send all frames, then stay until the receiver has what it needs."""
        self.began_s = self.clock.now_s()
        for frame in frames:
            self._wait_for(frame)
            step = self.session.step(frame)
            self.counts.update(("frames", *step.events))
            if self.digests is not None and step.units:
                self.digests[frame.slot] = base_digest(step.state)
            self.packetiser.push(step.units, self.now_s)
            self._exchange()
            self.pace.done(self.clock.now_s())
        self._drain()

    def _wait_for(self, frame: Frame) -> None:
        """Until the frame's own time, or, when fast, until the receiver is not too far behind."""
        while True:
            elapsed_s = self.clock.now_s() - self.began_s
            self.now_s = max(self.now_s, frame.time_s if self.fast else elapsed_s)
            self._exchange()
            keeps_up = self.fast and frame.slot - self.acknowledged <= AHEAD_FRAMES
            if keeps_up or elapsed_s >= frame.time_s:
                return
            self.transport.wait(min(TICK_S, frame.time_s - elapsed_s))

    def _drain(self) -> None:
        last_s, began_s, elapsed_s = self.now_s, self.clock.now_s(), 0.0
        while elapsed_s < SETTLE_S or (self.acknowledged < self.session.state.slot and elapsed_s < DRAIN_S):
            elapsed_s = self.clock.now_s() - began_s
            self.now_s = last_s + elapsed_s
            self._exchange()
            self.transport.wait(TICK_S)

    def _exchange(self) -> None:
        """Send what is due and take in the receiver's reports."""
        for datagram in self.transport.receive(self.now_s):
            try:
                report = parse_feedback(datagram.data)
            except BitstreamError:
                self.counts["damaged reports"] += 1
                continue
            self.counts.update({"reports": 1, "refresh requests": int(report.refresh)})
            self.acknowledged = max(self.acknowledged, report.last_slot)
            self.packetiser.on_feedback(report, self.now_s)
            self.session.on_feedback(report)
        for data in self.packetiser.poll(self.now_s):
            self.transport.send(data, self.now_s)


def send_udp(
    source_name: str | None,
    to: str,
    config: Config,
    seconds: float | None = None,
    fast: bool = False,
    digests: bool = False,
) -> None:
    """Send a source to `udp://HOST:PORT`; the last line printed is JSON.

    source_name : as for `open_source`, None for the built-in clip
    fast : do not wait for the frames' own times
    digests : add the digest of every base picture to the JSON
    ChannelError when the receiver never answered.
    """
    remote = parse_udp_url(to)
    with (
        open_input(source_name, config, seconds) as source,
        closing(UdpTransport(Address("", 0), remote)) as transport,
    ):
        frames = iter(source)
        first = list(islice(frames, PROBE_FRAMES)) if not source.name.startswith("camera:") else []
        sender = open_sender(source, config)
        sender.probe(first)
        end = SendingEnd(
            sender,
            Packetiser(_packetiser_config(config)),
            transport,
            SystemClock(),
            fast,
            {} if digests else None,
        )
        try:
            end.run(chain(first, frames))
        finally:
            sender.close()
        name = source.name
    _print_sent(name, remote, end)


def _packetiser_config(config: Config) -> PacketiserConfig:
    channel = config.channel
    return PacketiserConfig(
        rate_bps=config.stream.bitrate_bps, hold_ms=channel.hold_ms, repair_ratio=channel.repair_ratio
    )


def _print_sent(name: str, remote: Address, end: SendingEnd) -> None:
    if not end.counts["frames"]:
        raise SourceError(f"{name} holds no picture")
    if not end.counts["reports"]:
        raise ChannelError(f"no answer from {remote}: start `python -m receiver --listen` there first")
    stats = end.transport.stats
    document: dict[str, object] = {
        "source": name, "to": str(remote), "frames": end.counts["frames"], "skipped": end.counts["skipped"],
        "cuts": end.counts["cut"], "datagrams": stats.sent, "bytes": stats.sent_bytes,
        "reports": end.counts["reports"], "refresh_requests": end.counts["refresh requests"],
        "acknowledged_slot": end.acknowledged, "drops": dict(stats.drops), "fps": end.pace.fps,
        "peak_memory_mib": peak_memory_mib(),
    }  # fmt: skip
    if end.digests is not None:
        document["digests"] = end.digests
    print(json.dumps(document))


# --- receiving ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ReceivingEnd:
    """Receives one stream and records every frame slot of it, from the first configuration that arrives.

    session, sink : None until then
    digests : base-picture digest by slot, filled only where it is a dictionary
    """

    config: Config
    out: Path
    transport: UdpTransport
    clock: Clock
    digests: dict[int, str] | None = None
    session: ReceiverSession | None = None
    sink: BackgroundSink | None = None
    tally: PaintedTally = field(default_factory=lambda: PaintedTally(None))
    reassembler: Reassembler = field(default_factory=Reassembler)
    counts: Counter[str] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)
    pace: Pace = field(default_factory=Pace)
    heard_s: float | None = None
    reported_s: float = float("-inf")
    last_pts: int = -1
    replaced: bool = False

    def run(self, seconds: float | None, idle_s: float) -> None:
        """Until nothing came for `idle_s`, `seconds` have passed, another stream begins, or the user interrupts."""
        began_s = self.clock.now_s()
        with suppress(KeyboardInterrupt):
            while not self.replaced:
                now_s = self.clock.now_s()
                silent = self.heard_s is not None and now_s - self.heard_s > idle_s
                if silent or (seconds is not None and now_s - began_s > seconds):
                    break
                if not self._turn(now_s):  # painting took its time: the next picture may be due already
                    self.transport.wait(TICK_S)

    def close(self) -> None:
        """Show what is still waiting and complete the recording."""
        if self.session is None or self.sink is None:
            return
        while self.session.playout.next_slot <= self.session.decoder.newest_slot and not self.replaced:
            self._show(self.session.paint(self.session.playout.next_slot))
        self.sink.close()

    def _turn(self, now_s: float) -> bool:
        """Take in what came and show what is due; False where nothing was."""
        for datagram in self.transport.receive(now_s):
            self.heard_s = now_s
            self._take(datagram)
        if self.session is None or self.replaced:
            return False
        self._report(self.session, now_s)
        due = self.session.due(now_s)
        for shown in due:
            self._show(shown)
            if (
                shown.frame.slot <= self.session.decoder.newest_slot
            ):  # after the last one the picture is only held
                self.pace.done(self.clock.now_s())
        return bool(due)

    def _take(self, datagram: Datagram) -> None:
        for unit in self.reassembler.push(datagram):
            if self.session is None:
                self._start(unit.data)
            if self.session is not None and not self.replaced:
                before = self.session.decoder.config
                self.session.receive(unit.data, unit.arrival_s)
                self.replaced = before is not None and self.session.decoder.config != before

    def _start(self, data: bytes) -> None:
        """Open painter and recording as soon as the stream says what it is."""
        try:
            unit = parse_unit(data, 0, 0) if kind_of(data) is UnitKind.CONFIG else None
        except BitstreamError:
            return
        if not isinstance(unit, ConfigUnit):
            return
        stream, settings = unit.config, self.config.receiver
        size = (stream.coded_height, stream.coded_width)
        painter = open_painter(self.config, stream.seed, size)
        self.session = ReceiverSession(settings, painter, self.clock)
        # Who joins late starts with the frame that follows, not with the stream's first.
        self.session.playout = Playout(settings.playout_delay_ms / 1e3, next_slot=unit.slot)
        self.tally = PaintedTally.of(settings)
        self.sink = BackgroundSink(
            Ffv1Sink(self.out, stream.frame_rate, stream.time_base, stream.colour, self.tally.marking)
        )

    def _report(self, session: ReceiverSession, now_s: float) -> None:
        if now_s - self.reported_s < REPORT_S and not self.reassembler.ask_due(now_s):
            return
        self.reported_s = now_s
        decoder, refresh = session.decoder, session.refresh_wanted(now_s)
        last = decoder.state.slot if decoder.state is not None else -1
        report = self.reassembler.report(now_s, last, decoder.anchor_ids, refresh, decoder.anchor_wanted)
        self.transport.send(pack_feedback(report), now_s)

    def _show(self, shown: Shown) -> None:
        """Record one picture; a concealed one has only a nominal time, which must not run into its neighbours'."""
        assert self.session is not None and self.sink is not None
        self.last_pts = max(shown.frame.pts, self.last_pts + 1)
        self.tally.add(shown)
        self.sink.show(replace(shown.frame, pts=self.last_pts))
        self.levels[shown.level] += 1
        self.counts.update({"frames": 1, "concealed": int(shown.concealed), "late": int(shown.late)})
        state = self.session.decoder.scene_at(shown.frame.slot)
        if self.digests is not None and state is not None:
            self.digests[shown.frame.slot] = base_digest(state)


def receive_udp(
    listen: str,
    out: Path,
    config: Config,
    seconds: float | None = None,
    idle_s: float = 5.0,
    digests: bool = False,
) -> None:
    """Receive one stream on `HOST:PORT` (port 0 takes any) and record it; the last line printed is JSON.

    seconds : stop after this; idle_s : stop when a stream that had begun was silent for so long
    digests : add the digest of every base picture to the JSON
    ChannelError when no stream came.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    # Loads the libraries now, so that the stream's first pictures need not wait for them, and says what is missing.
    open_painter(config, 0, LIKELY_SIZE)
    with closing(UdpTransport(parse_address(listen))) as transport:
        end = ReceivingEnd(config, out, transport, SystemClock(), {} if digests else None)
        console.print(f"listening on {transport.local}", markup=False)
        try:
            end.run(seconds, idle_s)
            end.close()
        finally:
            if end.sink is not None:
                end.sink.abandon()
        _print_received(out, transport.local, end)


def _print_received(out: Path, local: Address, end: ReceivingEnd) -> None:
    if end.session is None:
        raise ChannelError(f"no stream came to {local}: send to this address with `python -m sender --to`")
    decoder, stats = end.session.decoder, end.reassembler.stats
    document: dict[str, object] = {
        "file": str(out), "frames": end.counts["frames"], "concealed": end.counts["concealed"],
        "late": end.counts["late"], "levels": dict(end.levels), "datagrams": stats.datagrams,
        "bytes": stats.received_bytes, "damaged_units": decoder.counts["damaged"], "anchors": decoder.counts["anchor"],
        "digest_mismatches": len(decoder.mismatches), "drops": dict(stats.drops), "fps": end.pace.fps,
        "paced_frames": end.pace.pictures, "peak_memory_mib": peak_memory_mib(),
    }  # fmt: skip
    if end.digests is not None:
        document["digests"] = end.digests
    print(json.dumps(document))

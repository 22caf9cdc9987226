"""The receiving live end: what arrives on a link becomes pictures, and a page to watch them.

    link -> Impaired -> Stream: Reassembler -> ReceiverSession -> page, recording, output
      ^________________ feedback, wishes _______|

A sender that starts anew, or another one, begins another `Stream`; the page stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from benchmarks.live.links import Impaired, ReceivingLink
from benchmarks.live.sameness import Sameness
from benchmarks.live.sending import LEAST_BPS, MOST_BPS
from benchmarks.live.streams import Stream, Studio
from channel.spec import parse_channel
from channel.webrtc.link import PeerLink
from channel.webrtc.stats import PeerState
from common.clock import Clock
from common.config import Config, ReceiverSettings
from common.datagram import pack_feedback
from common.errors import BitstreamError, ReleaseError, SinkError, UsageError
from common.queues import BoundedQueue
from common.types import Datagram, UnitKind
from common.units import ConfigUnit
from common.wire import kind_of, parse_unit
from receiver.chain import SceneDecoder
from receiver.outputs import open_output
from receiver.pipeline import ReceiverSession, Shown
from receiver.provenance import PaintedTally, model_of
from receiver.reassembly import Reassembler
from receiver.recording import Recorder
from receiver.web.messages import Control, PageStats
from receiver.web.server import PageServer

T = TypeVar("T")

TICK_S = 0.005
REPORT_S, MOST_REPORT_S = 0.05, 0.25
REPORT_BITS, REPORT_SHARE = 568, 0.2
"""A report with SRTP, UDP and IP is 71 bytes, and the way back may be as narrow as the way here: together they take no
more than this part of what arrives (RFC 3550 gives RTCP a twentieth, too little to follow a link by)."""
RATE_MEMORY_S = 1.0
FIRST_BPS = 24_000.0
FIGURES_S = 0.2
STEPS = ("auto", "0", "1", "2", "4")
ORDER_S = 5.0
"""How long somebody at the page waits for the receiver to do what it was asked."""


@dataclass(slots=True)
class LiveReceiver:
    """Shows what comes on `link`, which is None until somebody sends.

    folder : where recordings are put
    warn : told what went wrong without ending anything, in one line
    output : where pictures go besides, as for `open_output`; page : where they are watched
    heard_s : when anything arrived last
    met_s, connected_s : when the sender of `link` was there, and when the connection to it first stood
    received_bps : of the last second or so
    ended : what was shown of streams that are over
    shut : why no other sender can come, None while one can
    foreign : why what the sender of `link` sends cannot be read, None while it can
    """

    config: Config
    clock: Clock
    studio: Studio
    folder: Path
    warn: Callable[[str], None]
    output: str | None = None
    page: PageServer | None = None
    settings: ReceiverSettings = field(init=False)
    impaired: Impaired = field(init=False)
    link: ReceivingLink | None = None
    stream: Stream | None = None
    reassembler: Reassembler = field(init=False)
    sameness: Sameness | None = None
    orders: BoundedQueue[Callable[[], None]] = field(default_factory=lambda: BoundedQueue(16, "refuse"))
    heard_s: float | None = None
    met_s: float | None = None
    connected_s: float | None = None
    reported_s: float = float("-inf")
    received_bps: float = FIRST_BPS
    figures_s: float = float("-inf")
    stats: PageStats = field(default_factory=PageStats)
    ended: list[dict[str, object]] = field(default_factory=list)
    shut: str | None = None
    foreign: str | None = None
    recordings: int = 0
    idle: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self.settings = self.config.receiver
        self.impaired = Impaired(parse_channel(self.config.channel.spec), self.config.stream.seed)
        self.reassembler = Reassembler()

    def turn(self) -> None:
        """Take in what came, report, show what is due; waits a tick where there is nothing to do."""
        now_s = self.clock.now_s()
        while (order := self.orders.get()) is not None:
            order()
        if self.link is not None:
            self._hear(self.link, now_s)
        stream = self.stream
        shown = None if stream is None else stream.session.newest_due(now_s)
        if shown is not None:
            self._show(shown)
        elif stream is not None and self._left(stream):
            self.close_stream()
        if now_s - self.figures_s >= FIGURES_S:
            self._publish(None)
        if shown is None:
            (self.idle.wait if self.link is None else self.link.wait)(TICK_S)

    def follow(self, link: ReceivingLink) -> None:
        """Take the stream from `link` from now on."""
        self.close_stream()
        self.link, self.reassembler, self.sameness = link, Reassembler(), None
        self.received_bps, self.foreign = FIRST_BPS, None
        self.met_s, self.connected_s = self.clock.now_s(), None

    def close_stream(self) -> None:
        """The stream is over."""
        if self.stream is not None:
            if self.stream.recorder is not None and self.page is not None:
                self.page.recording_over()
            self.stream.end(self.warn)
            document = self.stream.tally.document(self.stream.frame_s, self.heard_s or 0.0)
            self.ended.append(document | self._beginning(self.stream.tally.first_s))
        self.stream = None

    def _left(self, stream: Stream) -> bool:
        """Whether the sender has gone for good, and all that came was shown."""
        gone = isinstance(self.link, PeerLink) and self.link.state is PeerState.CLOSED
        return gone and stream.session.playout.next_slot > stream.session.decoder.newest_slot

    def _beginning(self, first_s: float | None) -> dict[str, float | None]:
        """JSON: from meeting the sender to a connection, and from there to a picture."""
        return {
            "connect_s": _between(self.met_s, self.connected_s),
            "first_picture_s": _between(self.connected_s, first_s),
        }

    # --- in -------------------------------------------------------------------------------------------------------

    def _hear(self, link: ReceivingLink, now_s: float) -> None:
        for message in link.receive_control():
            self._introduced(message)
        for datagram in self.impaired.through(link.receive(now_s), now_s):
            self.heard_s = now_s
            self._take(datagram)
        if self.stream is not None:
            self._report(link, self.stream.session, now_s)

    def _introduced(self, message: Mapping[str, Any]) -> None:
        """What the sender says of itself."""
        self.sameness = Sameness.of(message) or self.sameness
        rate_bps = message.get("bitrate_bps")
        if self.page is not None and isinstance(rate_bps, int | float) and LEAST_BPS <= rate_bps <= MOST_BPS:
            self.page.set_control(Control("bitrate_bps", float(rate_bps), LEAST_BPS, MOST_BPS))

    def _take(self, datagram: Datagram) -> None:
        for unit in self.reassembler.push(datagram):
            self._configure(unit.data)
            if self.stream is None:
                continue
            self.stream.meter.unit(unit.data)
            self._record(partial(Recorder.unit, data=unit.data))
            self.stream.session.receive(unit.data, unit.arrival_s)

    def _configure(self, data: bytes) -> None:
        """Open a stream as soon as it says what it is, and another one when it says something else."""
        try:
            unit = parse_unit(data, 0, 0) if kind_of(data) is UnitKind.CONFIG else None
        except ReleaseError as error:
            self._foreign(str(error))
            return
        except BitstreamError:
            return
        if not isinstance(unit, ConfigUnit) or (
            self.stream is not None and unit.config == self.stream.config
        ):
            return
        if self.stream is not None:  # it counts its packets from 0
            self.reassembler = Reassembler()
        self.close_stream()
        self.stream = Stream.open(unit, self.studio.session(unit.config, self.settings))
        if self.output is not None:
            marking = PaintedTally.of(self.config.receiver).marking()
            self.stream.output = open_output(self.output, unit.config, self.warn, marking=marking)

    def _foreign(self, why: str) -> None:
        """The sender is of another release: nothing will ever be seen of it, which somebody has to be told, once."""
        if self.stream is None and self.foreign != why:
            self.foreign = why
            self.warn(f"cannot show this sender: {why}")

    def _report(self, link: ReceivingLink, session: ReceiverSession, now_s: float) -> None:
        since_s = now_s - self.reported_s
        if since_s < report_interval_s(self.received_bps) and not self.reassembler.ask_due(now_s):
            return
        self.reported_s = now_s
        decoder, refresh = session.decoder, session.refresh_wanted(now_s)
        last = decoder.state.slot if decoder.state is not None else -1
        report = self.reassembler.report(now_s, last, decoder.anchor_ids, refresh, decoder.anchor_wanted)
        weight = min(1.0, since_s / RATE_MEMORY_S) if report.sequence else 0.0  # the first is about no time
        self.received_bps += weight * (report.received_bps - self.received_bps)
        link.send_poll((pack_feedback(report),), now_s)

    # --- out ------------------------------------------------------------------------------------------------------

    def _show(self, shown: Shown) -> None:
        assert self.stream is not None
        now_s = self.clock.now_s()
        delay_ms = None if self.sameness is None else self.sameness.delay_ms(shown.frame.time_s, now_s)
        self.stream.meter.picture(shown, now_s)
        self.stream.tally.picture(shown, now_s, delay_ms)
        self._record(lambda recorder: recorder.shown(shown))
        if self.stream.output is not None:
            self.stream.output.show(shown.frame)
        if self.page is not None and self.sameness is not None:
            source = self.sameness.source_at(shown.frame)
            if source is not None:
                self.page.publish_source(source)
        self._publish(shown, delay_ms)

    def _record(self, step: Callable[[Recorder], None]) -> None:
        """One step of the recording under way, if any; a disk that is full ends it and nothing else."""
        if self.stream is None or self.stream.recorder is None:
            return
        try:
            step(self.stream.recorder)
        except SinkError as error:
            self.stream.recorder.abandon()
            self.stream.recorder = None
            if self.page is not None:
                self.page.recording_over()
            self.warn(str(error))

    def _publish(self, shown: Shown | None, delay_ms: float | None = None) -> None:
        self.figures_s = now_s = self.clock.now_s()
        if self.stream is not None:
            decoder = self.stream.session.decoder
            assert isinstance(decoder, SceneDecoder), "no live link is an analog one"
            self.stats = self.stream.meter.stats(
                now_s, self.heard_s, decoder.layers, self.reassembler.stats, self.settings.budget_ms,
                self.stats.delay_ms if delay_ms is None else delay_ms,
            )  # fmt: skip
        elif self.stats.link != "waiting":
            self.stats = replace(self.stats, link="waiting", fps=0.0, rate_bps=0.0, layer_bps=())
        if self.page is not None:
            self.page.publish(shown, self.stats)

    # --- what viewers ask for, on the page's thread ---------------------------------------------------------------

    def controls(self) -> tuple[Control, ...]:
        """What can be changed, as it is now."""
        settings, channel = self.settings, self.impaired.spec
        without = self.config.receiver.steps == 0  # then no decoder is loaded
        return (
            Control("bitrate_bps", self.config.stream.bitrate_bps, LEAST_BPS, MOST_BPS),
            Control("budget_ms", settings.budget_ms or 1e3, 5, 1e3),
            Control("steps", str(settings.steps), choices=("0",) if without else STEPS),
            Control("loss", channel.loss, 0, 0.5),
            Control("delay_ms", channel.delay_ms, 0, 1e3),
            Control("rate_kbps", channel.rate_kbps or 4e3, 6, 4e3),
        )

    def change(self, name: str, value: float | str) -> None:
        """One of `controls` shall be `value`, which was checked."""
        self._order(partial(self._change, name, value))

    def start_recording(self) -> tuple[str, ...]:
        """Names of the files of a recording that begins with the next key picture."""
        return self._order(self._start_recording)

    def stop_recording(self) -> tuple[str, ...]:
        """Names of the files that are now complete."""
        return self._order(self._stop_recording)

    def _order(self, work: Callable[[], T]) -> T:
        """What `work` gives, done between two pictures by the thread that owns everything here."""
        done: Future[T] = Future()

        def order() -> None:
            if not done.set_running_or_notify_cancel():
                return  # whoever wished it was told that it failed
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)

        if not self.orders.put(order):
            raise UsageError("too much at once: wait a moment")
        try:
            return done.result(ORDER_S)
        except TimeoutError:
            done.cancel()
            raise UsageError("the receiver is busy: try again") from None

    def _change(self, name: str, value: float | str) -> None:
        if name == "bitrate_bps":
            if self.link is None or not self.link.send_control({"bitrate_bps": value}):
                raise UsageError("the sender cannot be asked for another rate now")
        elif name in ("budget_ms", "steps"):
            number = value if isinstance(value, float) else "auto" if value == "auto" else int(value)
            self.settings = self.settings.model_copy(update={name: number})
            if self.stream is not None:
                self.stream.session.settings = self.settings
        else:
            self.impaired.change(name, float(value))

    def _start_recording(self) -> tuple[str, ...]:
        if self.stream is None:
            raise UsageError("nothing is coming yet: record once there is a picture")
        self.recordings += 1
        name = f"recording-{self.stream.config.session:05d}-{self.recordings}"
        model = model_of(self.config.receiver)
        self.stream.recorder = Recorder(self.folder, name, self.stream.config, model)
        self.stream.session.refresh_due = True
        return self.stream.recorder.files

    def _stop_recording(self) -> tuple[str, ...]:
        if self.stream is None or self.stream.recorder is None:
            raise UsageError("nothing is being recorded")
        recorder, self.stream.recorder = self.stream.recorder, None
        return recorder.close()


def report_interval_s(received_bps: float) -> float:
    """Time between two reports on a stream of this rate."""
    paid_s = REPORT_BITS / (REPORT_SHARE * max(1.0, received_bps))
    return min(MOST_REPORT_S, max(REPORT_S, paid_s))


def _between(begin_s: float | None, end_s: float | None) -> float | None:
    return None if begin_s is None or end_s is None else round(end_s - begin_s, 3)

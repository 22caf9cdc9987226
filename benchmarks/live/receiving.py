"""The receiving live end: what arrives on a link becomes pictures, and a page to watch them.

    link -> Impaired -> Stream: Reassembler -> ReceiverSession -> page, recording, output
      ^________________ feedback, wishes _______|

A sender that starts anew, or another one, begins another `Stream`; the page stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import numpy as np

from benchmarks.live.links import Impaired, ReceivingLink
from benchmarks.live.sameness import Sameness
from benchmarks.live.sending import LEAST_BPS, MOST_BPS
from benchmarks.udp_ends import LIKELY_SIZE
from channel.spec import parse_channel
from common.clock import Clock
from common.config import Config, ReceiverSettings
from common.datagram import pack_feedback
from common.errors import BitstreamError, SinkError, UsageError
from common.queues import BoundedQueue
from common.stats import FreezeSummary, Latency, find_freezes
from common.types import Datagram, UnitKind
from common.wire import ConfigUnit, StreamConfig, kind_of, parse_unit
from receiver.budget import CostModel
from receiver.jitter import Playout
from receiver.outputs import OutputSink, open_output
from receiver.painter import Painter, open_painter
from receiver.pipeline import ReceiverSession, Shown, prime
from receiver.reassembly import Reassembler
from receiver.recording import Recorder
from receiver.web.messages import Control, PageStats
from receiver.web.meter import Meter
from receiver.web.server import PageServer

T = TypeVar("T")

TICK_S = 0.005
REPORT_S = 0.05
FIGURES_S = 0.2
FORGETTING = 1e-3
"""See `Playout`: follows clocks that drift, and after a change of route the pictures are smooth again within minutes."""
ORDER_S = 5.0
"""How long somebody at the page waits for the receiver to do what it was asked."""
_SOME = 180
"""Pictures compared for drift, at the beginning and at the end."""
_KEPT = 1 << 16
"""Times of pictures kept for the report: half an hour at 30 a second."""


@dataclass(slots=True)
class Tally:
    """What one stream has shown, for the report at the end. Times are this end's."""

    shown_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    delay_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    first_s: float | None = None

    def picture(self, shown: Shown, now_s: float, delay_ms: float | None) -> None:
        """One picture was shown."""
        if shown.concealed:
            return
        self.first_s = now_s if self.first_s is None else self.first_s
        self.shown_s.append(now_s)
        if delay_ms is not None:
            self.delay_ms.append(delay_ms)

    def document(self, frame_s: float, end_s: float) -> dict[str, object]:
        """JSON: how smoothly, and how long after capture."""
        end_s = max(end_s, self.shown_s[-1] + frame_s) if self.shown_s else end_s
        freezes = FreezeSummary.of(find_freezes(self.shown_s, frame_s, end_s))
        watched_s = end_s - self.shown_s[0] if self.shown_s else 0.0
        latency = Latency.of(self.delay_ms) if self.delay_ms else None
        return {
            "pictures": len(self.shown_s), "watched_s": round(watched_s, 3),
            "fps": round(len(self.shown_s) / watched_s, 2) if watched_s else 0.0,
            "freezes": freezes.count, "longest_freeze_s": round(freezes.longest_s, 3),
            "freeze_ratio": round(freezes.total_s / watched_s, 4) if watched_s else 0.0,
            "drift_ms": self._drift_ms(),
            "glass_to_glass_ms": None if latency is None else {
                "p50": round(latency.p50_ms, 1), "p95": round(latency.p95_ms, 1), "max": round(latency.max_ms, 1),
            },
        }  # fmt: skip

    def _drift_ms(self) -> float | None:
        """How much later pictures were shown at the end than at the beginning; None where that is not known."""
        if len(self.delay_ms) < 2 * _SOME:
            return None
        delays = np.asarray(self.delay_ms)
        return round(float(np.median(delays[-_SOME:]) - np.median(delays[:_SOME])), 1)


class Studio:
    """A painter that is ready before there is a stream, and what its levels cost on this machine.

    size : (height, width) of the coded pictures that it is ready for
    """

    def __init__(self, config: Config, clock: Clock, size: tuple[int, int] = LIKELY_SIZE) -> None:
        self._config, self._clock = config, clock
        self._size, self._painter, self._costs = self._ready(size)

    def session(self, stream: StreamConfig, settings: ReceiverSettings) -> ReceiverSession:
        """For another stream. settings : as changed on the page"""
        size = (stream.coded_height, stream.coded_width)
        if size != self._size:
            self._size, self._painter, self._costs = self._ready(size)
        self._painter.reset(stream.seed)
        return ReceiverSession(settings, self._painter, self._clock, costs=self._costs)

    def _ready(self, size: tuple[int, int]) -> tuple[tuple[int, int], Painter, CostModel]:
        painter, costs = open_painter(self._config, 0, size), CostModel()
        prime(costs, painter, self._clock, size)
        return size, painter, costs


@dataclass(slots=True)
class Stream:
    """One stream that arrives: packets to pictures. Opened by its first configuration."""

    config: StreamConfig
    session: ReceiverSession
    meter: Meter = field(default_factory=Meter)
    tally: Tally = field(default_factory=Tally)
    recorder: Recorder | None = None
    output: OutputSink | None = None

    @classmethod
    def open(cls, unit: ConfigUnit, session: ReceiverSession) -> Stream:
        """Begin with the configuration that has come."""
        # Who joins late starts with the frame that follows, not with the stream's first.
        session.playout = Playout(session.playout.delay_s, next_slot=unit.slot, forgetting=FORGETTING)
        return cls(unit.config, session)

    @property
    def frame_s(self) -> float:
        return float(1 / self.config.frame_rate)

    def end(self, warn: Callable[[str], None]) -> None:
        """What was being recorded is completed."""
        recorder, self.recorder = self.recorder, None
        try:
            if recorder is not None:
                recorder.close()
        except SinkError as error:
            warn(str(error))
        if self.output is not None:
            self.output.close()
        self.session.aside.shutdown(wait=False)


@dataclass(slots=True)
class LiveReceiver:
    """Shows what comes on `link`, which is None until somebody sends.

    folder : where recordings are put
    warn : told what went wrong without ending anything, in one line
    output : where pictures go besides, as for `open_output`; page : where they are watched
    heard_s : when anything arrived last
    met_s, connected_s : when the sender of `link` was there, and when the connection to it first stood
    ended : what was shown of streams that are over
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
    figures_s: float = float("-inf")
    stats: PageStats = field(default_factory=PageStats)
    ended: list[dict[str, object]] = field(default_factory=list)
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
        if now_s - self.figures_s >= FIGURES_S:
            self._publish(None)
        if shown is None:
            (self.idle.wait if self.link is None else self.link.wait)(TICK_S)

    def follow(self, link: ReceivingLink) -> None:
        """Take the stream from `link` from now on."""
        self.close_stream()
        self.link, self.reassembler, self.sameness = link, Reassembler(), None
        self.met_s, self.connected_s = self.clock.now_s(), None

    def close_stream(self) -> None:
        """The stream is over."""
        if self.stream is not None:
            self.stream.end(self.warn)
            document = self.stream.tally.document(self.stream.frame_s, self.heard_s or 0.0)
            self.ended.append(document | self._beginning(self.stream.tally.first_s))
        self.stream = None

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
            self._record(lambda recorder, unit=unit: recorder.unit(unit.data))
            self.stream.session.receive(unit.data, unit.arrival_s)

    def _configure(self, data: bytes) -> None:
        """Open a stream as soon as it says what it is, and another one when it says something else."""
        try:
            unit = parse_unit(data, 0, 0) if kind_of(data) is UnitKind.CONFIG else None
        except BitstreamError:
            return
        if not isinstance(unit, ConfigUnit) or (
            self.stream is not None and unit.config == self.stream.config
        ):
            return
        self.close_stream()
        self.stream = Stream.open(unit, self.studio.session(unit.config, self.settings))
        if self.output is not None:
            self.stream.output = open_output(self.output, unit.config, self.warn)

    def _report(self, link: ReceivingLink, session: ReceiverSession, now_s: float) -> None:
        if now_s - self.reported_s < REPORT_S and not self.reassembler.ask_due(now_s):
            return
        self.reported_s = now_s
        decoder, refresh = session.decoder, session.refresh_wanted(now_s)
        last = decoder.state.slot if decoder.state is not None else -1
        report = self.reassembler.report(now_s, last, decoder.anchor_ids, refresh)
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
            self.warn(str(error))

    def _publish(self, shown: Shown | None, delay_ms: float | None = None) -> None:
        self.figures_s = now_s = self.clock.now_s()
        if self.stream is not None:
            decoder = self.stream.session.decoder
            self.stats = self.stream.meter.stats(
                now_s, self.heard_s, decoder.layers, self.reassembler.stats, self.settings.budget_ms,
                self.stats.delay_ms if delay_ms is None else delay_ms,
            )  # fmt: skip
        if self.page is not None:
            self.page.publish(shown, self.stats)

    # --- what viewers ask for, on the page's thread ---------------------------------------------------------------

    def controls(self) -> tuple[Control, ...]:
        """What can be changed, as it is now."""
        settings, channel = self.settings, self.impaired.spec
        return (
            Control("bitrate_bps", self.config.stream.bitrate_bps, LEAST_BPS, MOST_BPS),
            Control("budget_ms", settings.budget_ms or 1e3, 5, 1e3),
            Control("steps", str(settings.steps), choices=("auto", "0", "1", "2", "4")),
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
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)

        if not self.orders.put(order):
            raise UsageError("too much at once: wait a moment")
        try:
            return done.result(ORDER_S)
        except TimeoutError:
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
        self.stream.recorder = Recorder(self.folder, name, self.stream.config)
        self.stream.session.refresh_due = True
        return self.stream.recorder.files

    def _stop_recording(self) -> tuple[str, ...]:
        if self.stream is None or self.stream.recorder is None:
            raise UsageError("nothing is being recorded")
        recorder, self.stream.recorder = self.stream.recorder, None
        return recorder.close()


def _between(begin_s: float | None, end_s: float | None) -> float | None:
    return None if begin_s is None or end_s is None else round(end_s - begin_s, 3)

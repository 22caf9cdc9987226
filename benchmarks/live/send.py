"""`semcast send`: the sending live end on the real clock, until Ctrl-C, SIGTERM or the end of the source.

Progress goes to stderr; the last line on stdout is JSON.
"""

from __future__ import annotations

import json
import secrets
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from typing import Any

from benchmarks.files import open_input, open_sender
from benchmarks.link import PROBE_FRAMES
from benchmarks.live.addresses import Target, without_token
from benchmarks.live.console import MEASURE_S, Meeting, event_line, plain, say, served, until_interrupted
from benchmarks.live.figures import OutletFigures
from benchmarks.live.getstats import get_sender_stats
from benchmarks.live.links import UdpLink
from benchmarks.live.metrics import SenderMetrics
from benchmarks.live.outlets import Outlet, Outlets
from benchmarks.live.pacing import PacedFrames
from benchmarks.live.sameness import Sameness, SourceWindow
from benchmarks.live.sending import TICK_S, LiveSender
from benchmarks.udp_ends import peak_memory_mib
from channel.packetise import PacketiserConfig
from channel.udp import Address
from channel.webrtc.link import PeerLink
from channel.webrtc.stats import PeerState
from channel.webrtc.transport import WebRtcTransport
from common.clock import SystemClock, UnixClock
from common.config import Config
from common.errors import ChannelError, SourceError
from common.memory import FreedMemory
from sender.budget import SenderBudget
from sender.sources import VideoSource

UPKEEP_S = 0.1


@dataclass(slots=True)
class SendingDesk:
    """Who comes and goes at a live sender.

    webrtc, room : None for plain UDP
    shut : why nobody new can join any more, None while they can
    """

    sender: LiveSender
    limit_bps: float
    packets: PacketiserConfig
    webrtc: WebRtcTransport | None = None
    room: Meeting | None = None
    said: dict[str, Any] | None = None
    metrics: SenderMetrics | None = None
    attended_s: float = float("-inf")
    measured_s: float = float("-inf")
    shut: str | None = None
    gone: list[dict[str, Any]] = field(default_factory=list)

    def attend(self) -> None:
        """Let in who came, let go who left, hear what they ask for; now and then.

        Raises ChannelError where nobody is left, and nobody can come.
        """
        now_s = self.sender.clock.now_s()
        if self.metrics is not None and now_s - self.measured_s >= MEASURE_S:
            self.measured_s = now_s
            self.metrics.update(self.figures(), self.sender.figures())
        if self.webrtc is None or self.room is None or now_s - self.attended_s < UPKEEP_S:
            return
        self.attended_s = now_s
        for link in self.room.new_links():
            self.sender.outlets.all.append(Outlet.to(link, self.packets, self.limit_bps))
        for event in self.webrtc.events():
            say(event_line("receiver", event))
            if event.state is PeerState.CLOSED:
                self._let_go()
        failure = self.room.take_failure()
        if failure is not None:
            self.shut = f"nobody new can join any more: {failure}"
            say(self.shut)
        if self.shut is not None and not self.sender.outlets.all:
            raise ChannelError(self.shut)
        for outlet in self.sender.outlets.all:
            if isinstance(outlet.link, PeerLink):
                self.sender.hear(outlet, outlet.link.receive_control())

    def introduce(self, said: dict[str, Any]) -> None:
        """Tell everybody, and everybody who comes from now on, about this end."""
        if self.webrtc is None:
            return
        self.webrtc.set_welcome(said)
        for link in self.webrtc.links:
            link.send_control(said)

    def figures(self) -> list[OutletFigures]:
        """Of the far ends that are there."""
        return [_figures(outlet) for outlet in self.sender.outlets.all]

    def documents(self) -> list[dict[str, Any]]:
        """JSON of every far end, those that have left first."""
        return self.gone + [plain(asdict(figures)) for figures in self.figures()]

    def _let_go(self) -> None:
        """Whose link is closed; one of the same name may be on its way up, as that end was started anew."""
        leaving: list[Outlet] = []
        staying: list[Outlet] = []
        for outlet in self.sender.outlets.all:
            closed = isinstance(outlet.link, PeerLink) and outlet.link.state is PeerState.CLOSED
            (leaving if closed else staying).append(outlet)
        self.gone += [plain(asdict(_figures(outlet))) for outlet in leaving]
        self.sender.outlets.all = staying


def _figures(outlet: Outlet) -> OutletFigures:
    return outlet.figures(outlet.link.stats() if isinstance(outlet.link, PeerLink) else None)


def send_live(
    source_name: str | None,
    target: Target,
    config: Config,
    seconds: float | None = None,
    loop: bool = False,
    metrics: Address | None = None,
) -> None:
    """Send a source live; the last line printed is JSON.

    source_name : as for `open_source`, None for the built-in clip
    loop : start a file again at its end
    metrics : where Prometheus finds them
    """
    clock = SystemClock()
    with ExitStack() as stack:
        source = stack.enter_context(open_input(source_name, config, seconds, loop, live=True))
        frames = iter(source)
        first = [] if source.real_time else list(islice(frames, PROBE_FRAMES))
        # A receiver must not take a sender that was started anew for the one before.
        session = open_sender(source, config, session=secrets.randbits(16))
        session.budget = SenderBudget(float(1 / source.frame_rate))
        stack.callback(session.close)
        session.probe(first)
        paced = stack.enter_context(
            closing(PacedFrames(chain(first, frames), clock, paced=not source.real_time))
        )
        desk = _sending_desk(
            stack, LiveSender(session, paced, Outlets(), clock, lambda timeout_s: None), target, config
        )
        if metrics is not None:
            desk.metrics = SenderMetrics(served(stack, metrics))
        with until_interrupted():
            _send_all(desk, paced, source, stack)
        _print_sent(source, target, desk)


def _sending_desk(stack: ExitStack, sender: LiveSender, target: Target, config: Config) -> SendingDesk:
    channel = config.channel
    packets = PacketiserConfig(hold_ms=channel.hold_ms, repair_ratio=channel.repair_ratio)
    limit_bps = config.stream.bitrate_bps
    if isinstance(target, Address):
        link = stack.enter_context(closing(UdpLink(Address("", 0), target)))
        sender.outlets.all.append(Outlet.to(link, packets, limit_bps))
        sender.wait = link.wait
        say(f"sending to {without_token(target)}; Ctrl-C ends it")
        return SendingDesk(sender, limit_bps, packets)
    from benchmarks.live.room import Room

    webrtc = stack.enter_context(closing(WebRtcTransport(sender.clock)))
    sender.wait = webrtc.wait
    room = Room(webrtc, target, "sender")
    say(f"in room {target.room} of {target.server}; waiting for a receiver")
    return SendingDesk(sender, limit_bps, packets, webrtc, room)


def _send_all(desk: SendingDesk, paced: PacedFrames, source: VideoSource, stack: ExitStack) -> None:
    """From the first receiver to the last frame; the source waits for the former."""
    sender = desk.sender
    while not sender.outlets.wanted:
        desk.attend()
        sender.wait(TICK_S)
    paced.start()
    window = _source_window(source, stack)
    if window is not None:
        sender.on_frame = window.put
    said = Sameness.message(paced.began_s, window, *_even_size(source))
    desk.introduce({**said, "bitrate_bps": desk.limit_bps})
    give_back = FreedMemory(sender.clock)
    while not paced.ended:
        desk.attend()
        sender.turn()
        give_back()
    sender.drain()


def _source_window(source: VideoSource, stack: ExitStack) -> SourceWindow | None:
    """Where a receiver on this machine sees the source; None where the system has no memory to share."""
    try:
        return stack.enter_context(closing(SourceWindow.create(*_even_size(source))))
    except OSError:
        return None


def _left_out(sender: LiveSender) -> dict[str, int]:
    """How often which stage of the encoder was, as a frame came late."""
    budget = sender.session.budget
    return {} if budget is None else dict(budget.left_out)


def _even_size(source: VideoSource) -> tuple[int, int]:
    return source.width + source.width % 2, source.height + source.height % 2


def _print_sent(source: VideoSource, target: Target, desk: SendingDesk) -> None:
    if source.frame_count == 0:
        raise SourceError(f"{source.name} holds no picture")
    document = {
        "source": source.name, "to": without_token(target), "stream": asdict(desk.sender.figures()),
        "counts": dict(desk.sender.counts), "left_out": _left_out(desk.sender), "receivers": desk.documents(),
        "getStats": get_sender_stats(UnixClock().now_s(), desk.figures(), desk.sender.figures()),
        "peak_memory_mib": peak_memory_mib(),
    }  # fmt: skip
    print(json.dumps(document))

"""`semcast receive`: the receiving live end on the real clock, until Ctrl-C or SIGTERM, and its page.

Progress goes to stderr. The first line on stdout says where the end is, the last what came of it: JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.live.addresses import Listening
from benchmarks.live.console import MEASURE_S, Meeting, event_line, plain, say, served, until_interrupted
from benchmarks.live.getstats import get_receiver_stats
from benchmarks.live.links import UdpLink
from benchmarks.live.metrics import ReceiverMetrics
from benchmarks.live.receiving import LiveReceiver
from benchmarks.live.streams import Studio
from benchmarks.udp_ends import peak_memory_mib
from channel.signalling.urls import parse_room_url
from channel.udp import SCHEME, Address
from channel.webrtc.link import PeerLink
from channel.webrtc.stats import PeerState
from channel.webrtc.transport import WebRtcTransport
from common.clock import SystemClock, UnixClock
from common.config import Config
from common.errors import ChannelError
from common.files import made_folder
from common.logs import stderr_log
from common.memory import FreedMemory
from receiver.web.server import Owner, PageServer


def receive_live(
    listening: Listening,
    folder: Path,
    config: Config,
    seconds: float | None = None,
    idle_s: float | None = None,
    output: str | None = None,
    metrics: Address | None = None,
) -> None:
    """Receive, and show what comes on a page, until interrupted; the last line printed is JSON.

    folder : for recordings
    seconds : stop after this; idle_s : stop when a stream that had begun was silent for so long
    output : where pictures go besides, as for `open_output`; metrics : where Prometheus finds them
    """
    clock = SystemClock()
    if folder.exists():  # said now, not at the first recording, which makes the folder
        made_folder(folder)
    studio = Studio(config, clock, lambda text: receiver.warn(text))  # noqa: PLW0108 - it is another one below
    receiver = LiveReceiver(config, clock, studio, folder, say, output)
    owner = Owner(receiver.controls(), receiver.change, receiver.start_recording, receiver.stop_recording)
    with ExitStack() as stack:
        page = stack.enter_context(PageServer(listening.page.host, listening.page.port, owner, clock))
        receiver.page, receiver.warn = page, partial(_warn, page)
        receiver.studio.prepare()  # takes its time, and says what is missing; before anybody may send
        attend = _receiving_desk(stack, receiver, listening, page)
        measure, give_back = _receiver_meter(stack, receiver, metrics), FreedMemory(clock)
        began_s = clock.now_s()
        with until_interrupted():
            while not _over(receiver, clock.now_s(), began_s, seconds, idle_s):
                attend()
                measure()
                receiver.turn()
                give_back()
        link = receiver.link.stats() if isinstance(receiver.link, PeerLink) else None
        receiver.close_stream()
    document = {
        "streams": receiver.ended, "link": None if link is None else plain(asdict(link)),
        "wire": plain(asdict(receiver.reassembler.stats)),
        "getStats": get_receiver_stats(UnixClock().now_s(), receiver.stats, link), "peak_memory_mib": peak_memory_mib(),
    }  # fmt: skip
    print(json.dumps(document))


def _receiver_meter(stack: ExitStack, receiver: LiveReceiver, metrics: Address | None) -> Callable[[], None]:
    """What keeps the metrics up to date when it is called again and again."""
    if metrics is None:
        return lambda: None
    found, measured_s = ReceiverMetrics(served(stack, metrics)), float("-inf")

    def measure() -> None:
        nonlocal measured_s
        now_s = receiver.clock.now_s()
        if now_s - measured_s >= MEASURE_S:
            measured_s = now_s
            link = receiver.link.stats() if isinstance(receiver.link, PeerLink) else None
            found.update(receiver.stats, receiver.reassembler.stats, link)

    return measure


def _over(
    receiver: LiveReceiver, now_s: float, began_s: float, seconds: float | None, idle_s: float | None
) -> bool:
    silent_s = 0.0 if receiver.heard_s is None else now_s - receiver.heard_s
    return (seconds is not None and now_s - began_s > seconds) or (idle_s is not None and silent_s > idle_s)


def _receiving_desk(
    stack: ExitStack, receiver: LiveReceiver, listening: Listening, page: PageServer
) -> Callable[[], None]:
    """Open what the stream comes through, and say where; gives what has to be called again and again."""
    say(f"open {page.url} in a browser")
    if listening.udp is not None:
        link = stack.enter_context(closing(UdpLink(listening.udp)))
        receiver.follow(link)
        _announce(page, f"{SCHEME}{link.local}")
        return lambda: None
    from benchmarks.live.room import OwnSignalling, Room

    webrtc = stack.enter_context(closing(WebRtcTransport(receiver.clock)))
    if listening.room is not None:
        room = Room(webrtc, listening.room, "receiver")
        _announce(page, None)
    else:
        own = OwnSignalling(webrtc, _beside(listening.page), stderr_log())
        room = Room(webrtc, parse_room_url(own.url("receiver", _reachable(listening.page.host))), "receiver")
        _announce(page, own.url("sender", urlsplit(page.url).hostname or "localhost"))
    return partial(_attend_sender, receiver, webrtc, room)


def _warn(page: PageServer, text: str) -> None:
    """To people at the terminal, and at the page."""
    say(text)
    page.notice(text)


def _attend_sender(receiver: LiveReceiver, webrtc: WebRtcTransport, room: Meeting) -> None:
    """The newest sender is the one to show."""
    for link in room.new_links():
        receiver.follow(link)
    for event in webrtc.events():
        say(event_line("sender", event))
        if event.state is PeerState.CONNECTED and receiver.connected_s is None:
            receiver.connected_s = receiver.clock.now_s()
    failure = room.take_failure()
    if failure is not None:
        say(f"no new sender can come any more: {failure}")
        receiver.shut = failure
    if receiver.shut is not None and receiver.stream is None:
        raise ChannelError(f"nobody sends, and nobody can come any more: {receiver.shut}")


def _announce(page: PageServer, send_to: str | None) -> None:
    if send_to is not None:
        say(f"on the other machine: semcast send camera:0 --to '{send_to}'")
    print(json.dumps({"page": page.url, "send_to": send_to}), flush=True)


def _beside(page: Address) -> Address:
    """The port after the page's, where that was chosen."""
    return Address(page.host, page.port + 1 if page.port else 0)


def _reachable(host: str) -> str:
    """An address on which this machine reaches itself."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)

"""The live link as the rest of the program sees it: plain calls from any thread, no `await`.

    WebRtcTransport ─┬─ PeerLink "a" ─ connection        send, send_poll: to every link
                     ├─ PeerLink "b" ─ connection        receive: what came from any of them
                     └─ ...                              an event loop in a background thread runs them all

A sender has one link for each far end; who wants a packetiser for each (so that loss on one link costs the others
nothing) uses the links by themselves, each of which is a `common.ports.Transport` too. A receiver has one link.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

from channel.traffic import Traffic
from channel.webrtc.link import PeerLink
from channel.webrtc.loop import LoopThread
from channel.webrtc.settings import IceServer, WebRtcConfig
from channel.webrtc.signaller import Message, Signaller
from channel.webrtc.stats import LinkStats, PeerEvent, PeerState
from common.clock import Clock
from common.errors import ChannelError
from common.types import Datagram

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

Session = Callable[[Signaller, PeerLink, WebRtcConfig], Coroutine[Any, Any, None]]


class WebRtcTransport:
    """One end of a live link; implements `common.ports.Transport`.

    clock : what arrival times are read from
    Raises ChannelError where aiortc is missing or not the one that this was written for.
    """

    def __init__(self, clock: Clock, config: WebRtcConfig | None = None) -> None:
        self._sessions = _load_sessions()
        self._clock = clock
        self._config = config or WebRtcConfig()
        self._links: list[PeerLink] = []
        self._welcome: Message | None = None
        self._arrived = threading.Event()
        self._lock = threading.Lock()
        self._loop = LoopThread("webrtc")

    # --- far ends -------------------------------------------------------------------------------------------------

    def offer(self, signaller: Signaller, name: str = "receiver") -> PeerLink:
        """Begin to send to the far end behind `signaller`; from any thread, the event loop's included."""
        return self._add(self._sessions.offer_sending, signaller, name)

    def answer(self, signaller: Signaller, name: str = "sender") -> PeerLink:
        """Begin to receive from the far end behind `signaller`."""
        return self._add(self._sessions.answer_receiving, signaller, name)

    @property
    def links(self) -> tuple[PeerLink, ...]:
        """The far ends that are not gone for good, in the order in which they came."""
        with self._lock:
            return tuple(self._links)

    def drop(self, link: PeerLink) -> None:
        """Leave one far end; the others go on."""
        self._loop.cancel(link)

    def set_welcome(self, message: Message) -> None:
        """The control message that opens every connection from now on, on all links: who joins late needs it."""
        self._welcome = message
        for link in self.links:
            link.set_welcome(message)

    def set_ice_servers(self, servers: Sequence[IceServer]) -> None:
        """What far ends that are offered or answered from now on are reached by; TURN credentials expire."""
        self._config = self._config.model_copy(update={"ice_servers": tuple(servers)})

    def start(
        self, work: Callable[[], Coroutine[Any, Any, None]], done: Callable[[BaseException | None], None]
    ) -> None:
        """Run `work` on the event loop until it ends or the transport is closed.

        done : called on the loop with what it raised, None for nothing
        """
        self._loop.start(object(), work, done)

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """The result of `work`, run on the event loop: where signallers live."""
        return self._loop.call(work, timeout_s)

    # --- common.ports.Transport, all links at once ----------------------------------------------------------------

    def send(self, datagram: bytes, now_s: float, traffic: Traffic = Traffic.FRAME) -> None:
        """Send to every far end now, or count a drop there. All `traffic` is alike here."""
        self.send_poll((datagram,), now_s)

    def send_poll(self, datagrams: Sequence[bytes], now_s: float) -> None:
        """Send what left the packetiser together: the last one carries the RTP marker bit."""
        for link in self.links:
            link.send_poll(datagrams, now_s)

    def receive(self, now_s: float) -> list[Datagram]:
        """What has arrived from any far end, each with the time of its arrival."""
        self._arrived.clear()
        return [datagram for link in self.links for datagram in link.receive(now_s)]

    def wait(self, timeout_s: float) -> None:
        """Until something arrived since the last `receive` or `wait`, or the time is over.

        So it also serves who takes what arrives from the links.
        """
        self._arrived.wait(max(0.0, timeout_s))
        self._arrived.clear()

    def events(self) -> list[PeerEvent]:
        """Changes of state since the last call. A link that is closed is reported once more, and forgotten."""
        closed = [link for link in self.links if link.state is PeerState.CLOSED]
        found = [event for link in self.links for event in link.events()]
        with self._lock:
            self._links = [link for link in self._links if link not in closed]
        return found

    def stats(self) -> dict[str, LinkStats]:
        """By far end."""
        return {link.name: link.stats() for link in self.links}

    def close(self) -> None:
        """Leave all far ends and end the event loop, signalling last. Closing twice is harmless."""
        self._loop.close(first=self.links)

    def _add(self, session: Session, signaller: Signaller, name: str) -> PeerLink:
        link = PeerLink(
            name, self._clock, self._loop.loop, self._config.max_queue_datagrams, self._arrived.set
        )
        if self._welcome is not None:
            link.set_welcome(self._welcome)
        with self._lock:
            self._links.append(link)
        self._loop.start(link, partial(session, signaller, link, self._config), partial(_finish, link))
        return link


def _finish(link: PeerLink, error: BaseException | None) -> None:
    """Say how a far end's session ended; what is no ChannelError is a fault of ours and goes to the log as well."""
    link.report(PeerState.CLOSED, "" if error is None else str(error) or type(error).__name__)
    link.close()
    if error is not None and not isinstance(error, ChannelError):
        _LOG.error("the session with %s failed", link.name, exc_info=error)


def _load_sessions() -> ModuleType:
    """The module that needs aiortc. Raises ChannelError where it is missing or another."""
    try:
        from channel.webrtc import payload, peer
    except ImportError as error:
        raise ChannelError(f"live links need aiortc 1.16: {error}; pip install 'semcast[live]'") from error
    payload.check_aiortc()
    return peer

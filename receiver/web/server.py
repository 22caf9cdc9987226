"""The page as its owner sees it: a server on a thread of its own, to which pictures are handed without waiting."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

from common.clock import Clock, SystemClock
from common.errors import ChannelError, ConfigError
from common.queues import DropCounter, Drops, Mailbox
from common.types import Frame
from receiver.web.access import Access
from receiver.web.messages import Control, PageStats
from receiver.web.pictures import Sources

if TYPE_CHECKING:
    from receiver.pipeline import Shown
    from receiver.web.app import Page, Publication

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8080


@dataclass(frozen=True, slots=True)
class Owner:
    """What viewers may do in this run; the page greys out the rest. Callbacks come one at a time, from another thread,
    and say by a SemcastError, which the page shows, that something was not possible.

    controls : what can be changed; change : called with a control's name and its new value, already checked
    start_recording, stop_recording : give the names of the recording's files
    """

    controls: tuple[Control, ...] = ()
    change: Callable[[str, float | str], None] | None = None
    start_recording: Callable[[], Sequence[str]] | None = None
    stop_recording: Callable[[], Sequence[str]] | None = None


class PageServer:
    """Serves from `start` to `close`; a context manager. Every method may be called from any thread.

    host, port : where; port 0 takes any free one. Addresses that others can reach get a token in the URL.
    Raises ConfigError where aiohttp is missing.
    """

    def __init__(
        self,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        owner: Owner | None = None,
        clock: Clock | None = None,
    ) -> None:
        if find_spec("aiohttp") is None:
            raise ConfigError("the page needs aiohttp, which is not installed: pip install 'semcast[live]'")
        self._host, self._port = host, port
        self._owner = owner or Owner()
        self._clock = clock or SystemClock()
        self._access = Access.to(host)
        self._pictures: Mailbox[Publication] = Mailbox()
        self._figures: Mailbox[PageStats] = Mailbox()
        self._sources = Sources()
        self._page: Page | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started = Event()
        self._thread: Thread | None = None
        self._failure: BaseException | None = None

    @property
    def url(self) -> str:
        """What to open in a browser, token included."""
        host = self._host if self._host not in ("", "0.0.0.0", "::") else _own_address()
        bracketed = f"[{host}]" if ":" in host else host
        token = f"?token={self._access.token}" if self._access.token else ""
        return f"http://{bracketed}:{self._port}/{token}"

    def start(self) -> Self:
        """Begin to serve. Raises ChannelError where the address cannot be used."""
        bound = _bind(self._host, self._port)
        self._port = bound.getsockname()[1]
        self._thread = Thread(target=self._run, args=(bound,), name="page", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self.close()
        return self

    def publish(self, shown: Shown | None, stats: PageStats) -> None:
        """Show one picture, or only figures where there is none. Never waits: browsers that are behind miss it."""
        from receiver.web.app import Publication

        self._figures.put(stats)
        if shown is not None:
            self._pictures.put(Publication(shown, self._clock.now_s()))
        self._call(lambda page: page.news.set())

    def publish_source(self, frame: Frame) -> None:
        """What the source showed, before the picture of the same slot is published; for seeing both side by side."""
        self._sources.put(frame)

    def set_control(self, control: Control) -> None:
        """A control has another value or other bounds now."""
        self._call(lambda page: page.set_control(control))

    def recording_over(self) -> None:
        """The recording under way has ended by itself, with its stream or since the disk is full."""
        self._call(lambda page: page.recording_over())

    def notice(self, text: str) -> None:
        """One line for everybody who watches."""
        self._call(lambda page: page.notice(text))

    @property
    def counts(self) -> Drops:
        """What was dropped or refused so far, by reason; "page busy": pictures that a newer one replaced."""
        counts = DropCounter()
        for reason, count in () if self._page is None else self._page.counts():
            counts.add(reason, count)
        for reason, count in self._pictures.drops:
            counts.add("page busy" if reason == "full" else "page closed", count)
        return counts.snapshot()

    def close(self) -> None:
        """Send everybody away and stop. Safe to call again. Raises what the page itself has failed with."""
        self._pictures.close()
        self._figures.close()
        if self._loop is not None and self._stop is not None:
            with suppress(RuntimeError):  # it has stopped by itself
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- on the page's thread -------------------------------------------------------------------------------------

    def _run(self, bound: socket.socket) -> None:
        try:
            with bound, asyncio.Runner(loop_factory=_event_loop_factory()) as runner:
                runner.run(self._serve(bound))
        except Exception as error:
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self, bound: socket.socket) -> None:
        from receiver.web.app import Page

        self._stop = asyncio.Event()
        self._page = Page(
            self._pictures, self._figures, self._sources, self._owner, self._access, self._clock
        )
        self._loop = asyncio.get_running_loop()
        await self._page.serve(bound, self._started.set, self._stop)

    def _call(self, action: Callable[[Page], None]) -> None:
        """Do something on the page's thread, soon; nothing once it is closed."""
        page, loop = self._page, self._loop
        if page is not None and loop is not None:
            with suppress(RuntimeError):  # closed in between
                loop.call_soon_threadsafe(action, page)


def _event_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _bind(host: str, port: int) -> socket.socket:
    try:
        if not 0 <= port < 1 << 16:  # getaddrinfo takes what is left of a larger one
            raise OverflowError("there is no such port")
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(16)
        except OSError:
            bound.close()
            raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ChannelError(
            f"cannot serve the page on {host or '*'}:{port}: {reason}; choose another address or port"
        ) from error
    return bound


def _own_address() -> str:
    """Of this machine, as others reach it; choosing a route sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # an address for documentation (RFC 5737)
        return str(probe.getsockname()[0])
    return "localhost"

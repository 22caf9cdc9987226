"""The page's application, on the page's own event loop. Nothing else of the receiver imports aiohttp.

inbox -> render each view once, aside -> Viewer -> browser
browser -> parse, count what is refused -> wishes (newest wins, by name) -> the owner's callbacks, aside, in turn
"""

from __future__ import annotations

import asyncio
import socket
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from aiohttp.typedefs import Handler, Middleware

from common.clock import Clock
from common.errors import BitstreamError, SemcastError, UsageError
from common.queues import DropCounter, Drops, Mailbox
from receiver.web.access import Access
from receiver.web.messages import (
    BrowserMessage,
    ChooseView,
    Control,
    ControlName,
    Drawn,
    Look,
    PageStats,
    Record,
    SetControl,
    parse_browser_message,
    picture_message,
    setup_message,
)
from receiver.web.pictures import Sources, View, rendered
from receiver.web.viewers import Viewer

if TYPE_CHECKING:
    from receiver.pipeline import Shown
    from receiver.web.server import Owner

MAX_VIEWERS = 8
MAX_MESSAGE_BYTES = 1024
MAX_FAULTS = 50
"""Messages refused before a browser is sent away."""
STATS_EVERY_S = 0.2
HEARTBEAT_S = 10.0
"""A browser that does not answer for so long is gone."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True, eq=False)
class Publication:
    """A picture to show; at_s : when it was published"""

    shown: Shown
    at_s: float


def page_and_policy() -> tuple[str, str]:
    """The page in one piece, and the Content-Security-Policy that allows just its own script and style."""
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    html = (_FOLDER / "page.html").read_text(encoding="utf-8")
    html = html.replace("/*STYLE*/", style, 1).replace("/*SCRIPT*/", script, 1)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html, policy


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


class Page:
    """All browsers of one receiver. Everything but `counts` belongs to the event loop.

    pictures, figures : from the receiver's thread; `news` is set when there are some
    """

    def __init__(
        self,
        pictures: Mailbox[Publication],
        figures: Mailbox[PageStats],
        sources: Sources,
        owner: Owner,
        access: Access,
        clock: Clock,
    ) -> None:
        self.news = asyncio.Event()
        self._pictures, self._figures, self._sources = pictures, figures, sources
        self._owner, self._access, self._clock = owner, access, clock
        self._controls: dict[ControlName, Control] = {control.name: control for control in owner.controls}
        self._recording: bool | None = None if owner.start_recording is None else False
        self._files: tuple[str, ...] = ()
        self._viewers: set[Viewer] = set()
        self._wishes: dict[str, SetControl | Record] = {}
        self._wished = asyncio.Event()
        self._newest: Publication | None = None
        self._stats, self._stats_at_s = PageStats(), float("-inf")
        self._has_source = False
        self._number = 0
        self._drops, self._lock = DropCounter(), Lock()

    def counts(self) -> Drops:
        """What was thrown away or refused, by reason; safe from any thread."""
        with self._lock:
            return self._drops.snapshot()

    # --- serving --------------------------------------------------------------------------------------------------

    async def serve(self, bound: socket.socket, started: Callable[[], None], stop: asyncio.Event) -> None:
        """Serve on a bound socket until `stop`."""
        runner = web.AppRunner(
            self.application(), access_log=None, handle_signals=False, shutdown_timeout=1.0, keepalive_timeout=15.0
        )  # fmt: skip
        await runner.setup()
        tasks = []
        try:
            await web.SockSite(runner, bound, backlog=16).start()
            tasks = [asyncio.create_task(work) for work in (self._pump(), self._fulfil(), stop.wait())]
            started()
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # a page that fails says so when it is closed
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await runner.cleanup()

    def application(self) -> web.Application:
        """The two addresses: the page, and its WebSocket."""
        html, policy = page_and_policy()

        async def index(_: web.Request) -> web.Response:
            return web.Response(text=html, content_type="text/html")

        async def harden(_: web.BaseRequest, response: web.StreamResponse) -> None:
            response.headers.update({**HEADERS, "Content-Security-Policy": policy})

        application = web.Application(middlewares=[self._guard()], client_max_size=MAX_MESSAGE_BYTES)
        application.on_response_prepare.append(harden)
        application.on_shutdown.append(self._part)
        application.router.add_get("/", index)
        application.router.add_get("/link", self._attend)
        return application

    def _guard(self) -> Middleware:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            headers = request.headers
            reason = self._access.refusal(
                headers.get("Host", ""), headers.get("Origin"), request.query.get("token", "")
            )
            if reason is None:
                return await handler(request)
            self._count("request refused")
            return web.Response(status=403, text=reason + "\n")

        return guard

    async def _part(self, _: web.Application) -> None:
        goodbye = (
            viewer.close(WSCloseCode.GOING_AWAY, "the receiver has stopped") for viewer in self._viewers
        )
        await asyncio.gather(*goodbye, return_exceptions=True)

    # --- browsers -------------------------------------------------------------------------------------------------

    async def _attend(self, request: web.Request) -> web.StreamResponse:
        """One browser, for as long as it stays."""
        if len(self._viewers) >= MAX_VIEWERS:
            self._count("too many browsers")
            return web.Response(status=503, text=f"{MAX_VIEWERS} browsers are watching; that is all.\n")
        connection = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE_BYTES, compress=False, timeout=1.0
        )
        viewer = Viewer(connection, self._clock.now_s())
        self._viewers.add(viewer)
        try:
            await connection.prepare(request)
            viewer.tell(self._setup())
            viewer.tell(self._stats.as_message(viewer.figures()))
            self.news.set()
            sending = asyncio.create_task(viewer.send())
            try:
                async for message in connection:
                    await self._hear(viewer, message)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        finally:
            self._viewers.discard(viewer)
        return connection

    async def _hear(self, viewer: Viewer, message: WSMessage) -> None:
        try:
            if message.type is not WSMsgType.TEXT:
                raise BitstreamError("not a message of the page")
            self._take(viewer, parse_browser_message(message.data))
        except (BitstreamError, UsageError) as error:
            self._count("message refused")
            viewer.faults += 1
            viewer.tell({"type": "notice", "text": str(error)})
            if viewer.faults > MAX_FAULTS:
                await viewer.close(WSCloseCode.POLICY_VIOLATION, "too many messages that make no sense")

    def _take(self, viewer: Viewer, message: BrowserMessage) -> None:
        """Do what a browser says; UsageError where this run cannot."""
        now_s = self._clock.now_s()
        if isinstance(message, Drawn):
            if viewer.reports.take(now_s):
                viewer.drew(message.number, now_s)
            if viewer.behind:
                self.news.set()
        elif not viewer.orders.take(now_s):
            self._count("message too soon")
        elif isinstance(message, Look):
            viewer.looking, viewer.behind = message.visible, message.visible
            self.news.set()
        elif isinstance(message, ChooseView):
            viewer.view, viewer.behind = View(frozenset(message.overlays), message.source), True
            self.news.set()
        else:
            self._wish(message)

    def _wish(self, message: SetControl | Record) -> None:
        if isinstance(message, Record):
            if self._recording is None:
                raise UsageError("there is nothing to record with in this run")
            self._wishes["record"] = message
        else:
            if message.name not in self._controls:
                raise UsageError(f"{message.name} cannot be changed in this run")
            self._controls[message.name].checked(message.value)
            self._wishes[message.name] = message
        self._wished.set()

    async def _fulfil(self) -> None:
        """The owner's callbacks, one after another; one that takes long holds up no picture."""
        while True:
            await self._wished.wait()
            self._wished.clear()
            while self._wishes:
                wish = self._wishes.pop(next(iter(self._wishes)))
                try:
                    await (self._record(wish.on) if isinstance(wish, Record) else self._change(wish))
                except SemcastError as error:
                    self._tell_all({"type": "notice", "text": str(error)})
                self._tell_all(self._setup())

    async def _change(self, wish: SetControl) -> None:
        value = self._controls[wish.name].checked(wish.value)
        if self._owner.change is not None:
            await asyncio.to_thread(self._owner.change, wish.name, value)
        self._controls[wish.name] = replace(self._controls[wish.name], value=value)

    async def _record(self, on: bool) -> None:
        callback = self._owner.start_recording if on else self._owner.stop_recording
        if on is self._recording or callback is None:
            return
        self._recording = False  # also where the callback fails
        self._files = tuple(await asyncio.to_thread(callback))
        self._recording = on

    # --- pictures and figures -------------------------------------------------------------------------------------

    async def _pump(self) -> None:
        """Show what the receiver publishes, and the last of it to browsers that look anew."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "page") as aside:
            while True:
                await self.news.wait()
                self.news.clear()
                if (stats := self._figures.get()) is not None:
                    self._take_stats(stats)
                if (fresh := self._pictures.get()) is not None:
                    self._newest = fresh
                    self._number += 1
                    await self._show(fresh, self._due(), loop, aside)
                elif self._newest is not None:
                    again = [
                        viewer
                        for viewer in self._viewers
                        if viewer.behind and viewer.looking and viewer.ready
                    ]
                    self._number += bool(again)
                    await self._show(self._newest, again, loop, aside)

    def _due(self) -> list[Viewer]:
        """Who gets the next picture; counts those who look and cannot."""
        looking = [viewer for viewer in self._viewers if viewer.looking]
        for viewer in looking:
            if not viewer.ready:
                viewer.dropped += 1
                viewer.behind = True
                self._count("slow browser")
        return [viewer for viewer in looking if viewer.ready]

    async def _show(
        self,
        publication: Publication,
        viewers: list[Viewer],
        loop: asyncio.AbstractEventLoop,
        aside: ThreadPoolExecutor,
    ) -> None:
        """Render each view once, and hand it to those who have it."""
        shown = publication.shown
        source = self._sources.at(shown.frame.slot)
        for view in {viewer.view for viewer in viewers}:
            jpeg, flags = await loop.run_in_executor(aside, rendered, shown, source, view)
            message = picture_message(jpeg, shown, self._number, flags)
            for viewer in viewers:
                if viewer.view == view and viewer.ready:
                    viewer.show(self._number, message, publication.at_s)

    def _take_stats(self, stats: PageStats) -> None:
        """Figures go out a few times a second, a change of the link at once."""
        now_s, changed = self._clock.now_s(), stats.link != self._stats.link
        self._stats = stats
        if bool(self._sources) != self._has_source:
            self._has_source = bool(self._sources)
            self._tell_all(self._setup())
        if changed or now_s - self._stats_at_s >= STATS_EVERY_S:
            self._stats_at_s = now_s
            for viewer in self._viewers:
                viewer.tell(self._stats.as_message(viewer.figures()))

    def set_control(self, control: Control) -> None:
        """A control has another value or other bounds now."""
        self._controls[control.name] = control
        self._tell_all(self._setup())

    def recording_over(self) -> None:
        """It has ended by itself."""
        self._recording = None if self._recording is None else False
        self._tell_all(self._setup())

    def notice(self, text: str) -> None:
        """One line for everybody."""
        self._tell_all({"type": "notice", "text": text})

    def _setup(self) -> dict[str, object]:
        return setup_message(self._controls, self._recording, self._files, self._has_source)

    def _tell_all(self, message: dict[str, object]) -> None:
        for viewer in self._viewers:
            viewer.tell(message)

    def _count(self, reason: str) -> None:
        with self._lock:
            self._drops.add(reason)

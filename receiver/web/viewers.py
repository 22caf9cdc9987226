"""One browser: what it wants to see, what waits for it, and what it has not drawn yet.

A browser says which picture it has drawn; with too many on the way it gets none, so that a slow one sees fewer pictures
but never old ones, and holds up nobody else.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from receiver.web.pictures import View

WINDOW = 3
"""Pictures on the way to one browser: 100 ms at 30 a second, a round trip to another room."""


class Socket(Protocol):
    """What is used of a WebSocket."""

    async def send_str(self, data: str) -> None: ...
    async def send_bytes(self, data: bytes) -> None: ...
    async def close(self, *, code: int, message: bytes) -> bool: ...


class Bucket:
    """Lets through `rate_hz` events a second, and `burst` at once."""

    def __init__(self, rate_hz: float, burst: int, now_s: float) -> None:
        self._rate_hz, self._burst = rate_hz, burst
        self._left, self._at_s = float(burst), now_s

    def take(self, now_s: float) -> bool:
        """False where an event comes too soon."""
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._rate_hz)
        self._at_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Viewer:
    """Belongs to the page's event loop.

    view : what it wants to see; looking : whether it is visible; behind : lacks the newest picture in its view
    drawn, dropped : pictures; to_screen_ms : from publishing to drawing of the last one, None before
    faults : messages refused
    """

    def __init__(self, socket: Socket, now_s: float) -> None:
        self.view = View()
        self.looking, self.behind = True, True
        self.drawn = self.dropped = self.faults = 0
        self.to_screen_ms: float | None = None
        self.orders = Bucket(20.0, 40, now_s)  # a slider moves ten times a second
        self.reports = Bucket(120.0, 240, now_s)
        self._socket = socket
        self._texts: dict[str, str] = {}
        self._picture: bytes | None = None
        self._on_the_way: OrderedDict[int, float] = OrderedDict()
        self._work = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether one more picture may go out."""
        return self._picture is None and len(self._on_the_way) < WINDOW

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send JSON; of each type only the newest waits."""
        self._texts[message["type"]] = json.dumps(message, allow_nan=False)
        self._work.set()

    def show(self, number: int, message: bytes, published_s: float) -> None:
        """Send a picture; only where `ready`."""
        self._picture, self.behind = message, False
        self._on_the_way[number] = published_s
        self._work.set()

    def drew(self, number: int, now_s: float) -> None:
        """The browser has drawn picture `number`; those before it are out of the way too."""
        if number not in self._on_the_way:
            return
        self.to_screen_ms = (now_s - self._on_the_way[number]) * 1e3
        self.drawn += 1
        while self._on_the_way and next(iter(self._on_the_way)) <= number:
            self._on_the_way.popitem(last=False)

    def figures(self) -> dict[str, Any]:
        """What the page says about itself."""
        return {"drawn": self.drawn, "dropped": self.dropped, "to_screen_ms": self.to_screen_ms}

    async def close(self, code: int, reason: str) -> None:
        """Send it away."""
        await self._socket.close(code=code, message=reason.encode())

    async def send(self) -> None:
        """Send what waits, until cancelled or the browser is gone."""
        with suppress(ConnectionError):
            while True:
                await self._work.wait()
                self._work.clear()
                texts, self._texts = self._texts, {}
                for text in texts.values():
                    await self._socket.send_str(text)
                if self._picture is not None:
                    await self._socket.send_bytes(self._picture)
                    self._picture = None

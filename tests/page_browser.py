"""A browser that does what the page does, without drawing, and an owner that remembers what it was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="the page needs the extra `live`")

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from common.errors import SinkError
from receiver.web.messages import PICTURE_HEADER, Control
from receiver.web.server import Owner, PageServer

FILES = ("talk.sgv", "talk.mp4")


@dataclass
class Calls:
    """An owner that remembers what it was asked for, and refuses a bit rate of 13 kbit/s and a second recording."""

    made: list[object] = field(default_factory=list)

    def owner(self) -> Owner:
        controls = (
            Control("bitrate_bps", 24_000.0, 8_000, 100_000),
            Control("steps", "auto", choices=("auto", "1")),
        )
        return Owner(controls, self.change, self.start, self.stop)

    def change(self, name: str, value: float | str) -> None:
        if value == 13_000:
            raise SinkError("not thirteen")
        self.made.append((name, value))

    def start(self) -> tuple[str, ...]:
        if "stop" in self.made:
            raise SinkError("the disk is full")
        self.made.append("start")
        return FILES

    def stop(self) -> tuple[str, ...]:
        self.made.append("stop")
        return FILES


@dataclass
class Browser:
    """What a page does, without drawing."""

    link: ClientWebSocketResponse

    async def until(
        self, kind: str, holds: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any]:
        """The next message of a type for which something holds."""
        async for message in self.link:
            if message.type is WSMsgType.TEXT:
                found = message.json()
                if found["type"] == kind and holds(found):
                    return found
        raise AssertionError(f"the link ended without {kind}")

    async def picture(self) -> tuple[tuple[Any, ...], np.ndarray]:
        """Header and [H, W, 3] RGB of the next picture."""
        async for message in self.link:
            if message.type is WSMsgType.BINARY:
                header = PICTURE_HEADER.unpack(message.data[: PICTURE_HEADER.size])
                jpeg = np.frombuffer(message.data, np.uint8, offset=PICTURE_HEADER.size)
                return header, cv2.cvtColor(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        raise AssertionError("the link ended without a picture")

    async def say(self, **message: object) -> None:
        await self.link.send_json(message)

    async def drew(self, header: tuple[Any, ...]) -> None:
        await self.say(type="drawn", number=header[3])


@asynccontextmanager
async def browser(http: ClientSession, page: PageServer) -> AsyncIterator[Browser]:
    async with asyncio.timeout(20), http.ws_connect(f"{page.url}link", origin=page.url.rstrip("/")) as link:
        opened = Browser(link)
        await opened.until("setup")
        yield opened

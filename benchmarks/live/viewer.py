"""Somebody who watches a receiver's page, as a program: what the page is told becomes lines of JSON.

python -m benchmarks.live.viewer URL [--deaf]      what comes in on stdin, a line of JSON each, is said to the page

A line says when (on this machine's monotonic clock) and what: picture, stats, notice, setup, closed.
--deaf : never reads anything, as a browser on a link that has died
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from common.clock import SystemClock
from receiver.web.messages import CONCEALED, PICTURE_HEADER

_TOLD = {"stats": ("link", "level", "fps"), "notice": ("text",), "setup": ("recording", "files")}
"""What is passed on of each kind of message."""
_CLOCK = SystemClock()


def link_of(url: str) -> str:
    """The WebSocket of the page at `url`."""
    parts = urlsplit(url)
    return urlunsplit(("ws", parts.netloc, "/link", parts.query, ""))


def say(kind: str, **what: object) -> None:
    """One line."""
    print(json.dumps({"at_s": _CLOCK.now_s(), "kind": kind, **what}), flush=True)


async def watch(url: str, deaf: bool) -> None:
    """Until the page is gone."""
    async with ClientSession() as http, http.ws_connect(link_of(url), max_msg_size=0) as link:
        speaking = asyncio.create_task(_speak(link))
        say("open")
        if deaf:
            await asyncio.Event().wait()
        async for message in link:
            if message.type is WSMsgType.BINARY:
                await _picture(link, message.data)
            elif message.type is WSMsgType.TEXT:
                _told(json.loads(message.data))
        speaking.cancel()
    say("closed")


async def _picture(link: ClientWebSocketResponse, data: bytes) -> None:
    _, flags, _, number, slot, _, level = PICTURE_HEADER.unpack_from(data)
    say("picture", slot=slot, concealed=bool(flags & CONCEALED), level=level.rstrip(b"\0").decode())
    await link.send_json({"type": "drawn", "number": number})


def _told(message: dict[str, object]) -> None:
    kind = str(message["type"])
    say(kind, **{name: message[name] for name in _TOLD.get(kind, ())})


async def _speak(link: ClientWebSocketResponse) -> None:
    """Say to the page what is typed."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        await link.send_json(json.loads(line))


def main(arguments: Sequence[str]) -> None:
    """See the top of this file."""
    asyncio.run(watch(arguments[0], "--deaf" in arguments))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(0)

"""A headless Chromium, driven over its DevTools protocol: for pictures of pages, and for tests of them.

python -m benchmarks.live.browser URL PICTURE.png      once the page shows moving pictures
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import ChannelError

if TYPE_CHECKING:
    from aiohttp import ClientWebSocketResponse

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WINDOW = (1280, 1000)
DRAWN = 300
"""Pictures that a page must have drawn before its own picture is taken."""
PATIENCE_S = 90.0


def find_browser() -> str | None:
    """Its path, None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def chromium(folder: Path) -> Iterator[str]:
    """A browser that keeps its files in `folder`; gives the address of its DevTools. Raises ChannelError."""
    program = find_browser()
    if program is None:
        raise ChannelError(f"there is no browser: none of {', '.join(BROWSERS)} is on the PATH")
    options = ["--headless", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0", "--mute-audio"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium's sandbox refuses to run as root
    command = [program, *options, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as started:
        assert started.stderr is not None
        try:
            found = next(filter(None, (re.search(r"ws://([^/]+)/", line) for line in started.stderr)), None)
            if found is None:
                raise ChannelError("the browser did not start")
            # Nobody may stop reading what it complains about, or it stops too.
            threading.Thread(target=started.stderr.read, daemon=True).start()
            yield found[1]
        finally:
            started.terminate()
            started.wait()


@dataclass
class Tab:
    """One page of the browser. complaints : errors that the page has run into"""

    link: ClientWebSocketResponse
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    complaints: list[str] = field(default_factory=list)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command and its result. Raises ChannelError when the browser has gone."""
        number = next(self.numbers)
        await self.link.send_json({"id": number, "method": method, "params": parameters})
        async for message in self.link:
            found = message.json()
            if found.get("id") == number:
                return dict(found["result"])
            entry = found.get("params", {}).get("entry", {})
            if found["method"] == "Runtime.exceptionThrown" or entry.get("level") == "error":
                self.complaints.append(str(found["params"]))
        raise ChannelError("the browser has gone")

    async def value(self, expression: str) -> Any:
        """What an expression gives in the page."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise ChannelError(f"the page failed: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression holds, asked once for every refresh of the screen."""
        await self.value(
            "new Promise((done) => { const look = () => "
            f"({expression}) ? done(true) : requestAnimationFrame(look); look(); }})"
        )

    async def press(self, key: str) -> None:
        """One key, down and up."""
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def picture(self) -> bytes:
        """PNG of what is visible."""
        return b64decode((await self.call("Page.captureScreenshot"))["data"])


@asynccontextmanager
async def opened(address: str, url: str) -> AsyncIterator[Tab]:
    """The page at `url`, in the browser whose DevTools are at `address`."""
    from aiohttp import ClientSession

    async with ClientSession() as http:
        async with http.get(f"http://{address}/json") as answer:
            (target,) = [found for found in await answer.json() if found["type"] == "page"]
        async with http.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as link:
            tab = Tab(link)
            for domain in ("Log", "Runtime", "Page"):
                await tab.call(f"{domain}.enable")
            await tab.call("Page.navigate", url=url)
            yield tab


async def _take_picture(url: str, path: Path) -> None:
    width, height = WINDOW
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder)) as address:
        async with asyncio.timeout(PATIENCE_S), opened(address, url) as tab:
            await tab.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                mobile=False,
            )  # fmt: skip
            await tab.until(f"Number(document.getElementById('drawn')?.textContent) >= {DRAWN}")
            path.write_bytes(await tab.picture())


if __name__ == "__main__":
    asyncio.run(_take_picture(sys.argv[1], Path(sys.argv[2])))

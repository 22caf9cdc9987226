"""The page in a real browser, driven over the DevTools protocol: pictures change, keys and buttons do what they say."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="the page needs the extra `live`")

from aiohttp import ClientSession, ClientWebSocketResponse

from receiver.web.messages import Control, PageStats
from receiver.web.server import Owner, PageServer
from tests.page_pictures import plain, shown

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 90.0
"""Until a test fails; a browser on a busy machine starts slowly."""

STATS = PageStats(
    "connected", 64, 64, 25.0, 24_000.0, (("guide", 20_000.0),), 12.5, 42.0, None, "bridge1", 1.5, 0.02
)


@contextmanager
def _chromium(folder: Path) -> Iterator[str]:
    """A headless browser; gives the address of its DevTools."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is on the PATH")
    options = ["--headless", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0", "--mute-audio"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium's sandbox refuses to run as root
    command = [program, *options, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as started:
        assert started.stderr is not None
        try:
            found = next(filter(None, (re.search(r"ws://([^/]+)/", line) for line in started.stderr)), None)
            assert found, "the browser did not start"
            # Nobody may stop reading what it complains about, or it stops too.
            threading.Thread(target=started.stderr.read, daemon=True).start()
            yield found[1]
        finally:
            started.terminate()
            started.wait()


@dataclass
class Tab:
    """One page of the browser."""

    link: ClientWebSocketResponse
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    complaints: list[str] = field(default_factory=list)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command and its result; what the page complains about meanwhile is kept."""
        number = next(self.numbers)
        await self.link.send_json({"id": number, "method": method, "params": parameters})
        async for message in self.link:
            found = message.json()
            if found.get("id") == number:
                return found["result"]
            entry = found.get("params", {}).get("entry", {})
            if found["method"] == "Runtime.exceptionThrown" or entry.get("level") == "error":
                self.complaints.append(str(found["params"]))
        raise AssertionError("the browser has gone")

    async def value(self, expression: str) -> Any:
        """What an expression gives in the page."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression holds, asked once for every refresh of the screen."""
        await self.value(
            "new Promise((done) => { const look = () => "
            f"({expression}) ? done(true) : requestAnimationFrame(look); look(); }})"
        )

    async def press(self, key: str) -> None:
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)


@asynccontextmanager
async def _tab(address: str, url: str) -> AsyncIterator[Tab]:
    async with ClientSession() as http:
        async with http.get(f"http://{address}/json") as answer:
            (target,) = [found for found in await answer.json() if found["type"] == "page"]
        async with http.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as link:
            tab = Tab(link)
            for domain in ("Log", "Runtime", "Page"):
                await tab.call(f"{domain}.enable")
            await tab.call("Page.navigate", url=url)
            yield tab


PIXEL = "[...document.getElementById('picture').getContext('2d').getImageData(32, 32, 1, 1).data].slice(0, 3)"
TEXT = "document.getElementById('{}').textContent"


@pytest.mark.slow
async def test_the_page_in_a_browser(tmp_path: Path) -> None:
    made: list[object] = []
    owner = Owner(
        (Control("bitrate_bps", 24_000.0, 8_000, 100_000),),
        lambda name, value: made.append((name, value)),
        lambda: ("talk.sgv", "talk.mp4"),
        lambda: ("talk.sgv", "talk.mp4"),
    )
    doubt = np.full((8, 8), 255, np.uint8)
    with PageServer(port=0, owner=owner) as page, _chromium(tmp_path) as address:
        async with asyncio.timeout(PATIENCE_S), _tab(address, page.url) as tab:
            await tab.until("document.body?.dataset.link === 'waiting'")
            seen = []
            for slot, luma in enumerate((60, 120, 180)):
                page.publish_source(shown(slot, plain(235)).frame)
                page.publish(shown(slot, plain(luma), uncertainty=doubt), STATS)
                await tab.until(f"document.getElementById('picture').dataset.slot === '{slot}'")
                seen.append(await tab.value(PIXEL))
            assert [round(pixel[0], -1) for pixel in seen] == [50, 120, 190]  # limited range
            assert int(str(await tab.value(TEXT.format("drawn")))) >= 3  # one may come again with its source
            assert await tab.value(TEXT.format("state-text")) == "connected"
            assert await tab.value(TEXT.format("size")) == "64\u00d764"

            await tab.press("u")
            await tab.until(f"(([r, g]) => r > g + 60)({PIXEL})")  # red: the decoder is unsure everywhere
            assert await tab.value("document.getElementById('uncertainty').ariaPressed") == "true"
            await tab.press("u")
            await tab.until(f"(([r, g]) => r < g + 20)({PIXEL})")
            await tab.until("!document.getElementById('source').disabled")
            await tab.press("s")
            await tab.until("document.getElementById('picture').width === 128")
            await tab.press("?")
            await tab.until("document.getElementById('keys').open")
            await tab.press("?")
            await tab.press("r")
            await tab.until(f"{TEXT.format('files')} === 'Recording to talk.sgv, talk.mp4'")

            await tab.value(
                "(() => { const slider = document.querySelector('#controls input:enabled');"
                "slider.value = 1; slider.dispatchEvent(new Event('input')); })()"
            )
            await tab.until("document.querySelector('#controls output').textContent === '100 kbit/s'")
            while ("bitrate_bps", 100_000) not in made:
                await tab.value("new Promise(requestAnimationFrame)")
            assert await tab.value("document.querySelectorAll('#controls input:disabled').length") == 5
            assert tab.complaints == []
            page.close()
            await tab.until("document.body.dataset.link === 'lost'")

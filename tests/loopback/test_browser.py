"""The page in a real browser, driven over the DevTools protocol: pictures change, keys and buttons do what they say."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="the page needs the extra `live`")

from benchmarks.live.browser import BROWSERS, chromium, find_browser, opened
from receiver.web.messages import Control, PageStats
from receiver.web.server import Owner, PageServer
from tests.page_pictures import plain, shown

PATIENCE_S = 90.0
"""Until a test fails; a browser on a busy machine starts slowly."""

STATS = PageStats(
    "connected", 64, 64, 25.0, 24_000.0, (("guide", 20_000.0),), 12.5, 42.0, None, "bridge1", 1.5, 0.02
)


PIXEL = "[...document.getElementById('picture').getContext('2d').getImageData(32, 32, 1, 1).data].slice(0, 3)"
TEXT = "document.getElementById('{}').textContent"


@pytest.mark.slow
async def test_the_page_in_a_browser(tmp_path: Path) -> None:
    if find_browser() is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is on the PATH")
    made: list[object] = []
    owner = Owner(
        (Control("bitrate_bps", 24_000.0, 8_000, 100_000),),
        lambda name, value: made.append((name, value)),
        lambda: ("talk.sgv", "talk.mp4"),
        lambda: ("talk.sgv", "talk.mp4"),
    )
    doubt = np.full((8, 8), 255, np.uint8)
    with PageServer(port=0, owner=owner) as page, chromium(tmp_path) as address:
        async with asyncio.timeout(PATIENCE_S), opened(address, page.url) as tab:
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

"""The page, served on this machine to real connections."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="the page needs the extra `live`")

from aiohttp import ClientSession, WSServerHandshakeError

from common.clock import VirtualClock
from common.colour import picture_to_rgb
from common.errors import ChannelError
from receiver.pipeline import Shown
from receiver.web import app
from receiver.web.messages import CONCEALED, GENERATED, LEVEL, SOURCE, UNCERTAINTY, Control, PageStats
from receiver.web.server import PageServer
from receiver.web.viewers import WINDOW
from tests.page_browser import FILES, Calls, browser
from tests.page_pictures import SIDE, plain, shown

STATS = PageStats(link="connected", fps=25.0)


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1.0)


@pytest.fixture
def page(calls: Calls, clock: VirtualClock) -> Iterator[PageServer]:
    with PageServer(port=0, owner=calls.owner(), clock=clock) as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


def rgb(given: Shown) -> np.ndarray:
    return picture_to_rgb(given.frame.picture, given.frame.colour)


def far(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b).mean())


# --- the page -----------------------------------------------------------------------------------------------------


async def test_the_page_is_one_piece_that_may_run_only_its_own_script(
    http: ClientSession, page: PageServer
) -> None:
    async with http.get(page.url) as answer:
        html, headers = await answer.text(), answer.headers
    policy = headers["Content-Security-Policy"]
    for kind in ("script", "style"):
        (body,) = re.findall(rf"<{kind}[^>]*>(.*?)</{kind}>", html, re.DOTALL)
        assert f"{kind}-src 'sha256-{b64encode(sha256(body.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store" and headers["X-Frame-Options"] == "DENY"
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", html)
    assert " style=" not in html and " onclick=" not in html


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("", {"Host": "evil.example"}, 403),
        ("", {"Origin": "http://evil.example"}, 403),
        ("link", {"Host": "evil.example"}, 403),
        ("page.js", {}, 404),
        ("../pyproject.toml", {}, 404),
    ],
)
async def test_others_are_sent_away(
    http: ClientSession, page: PageServer, path: str, headers: dict[str, str], status: int
) -> None:
    async with http.get(page.url + path, headers=headers) as answer:
        assert answer.status == status
        assert "Content-Security-Policy" in answer.headers


async def test_another_sites_page_cannot_open_the_link(http: ClientSession, page: PageServer) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await http.ws_connect(f"{page.url}link", origin="http://evil.example")
    assert refused.value.status == 403
    assert dict(page.counts)["request refused"] == 1


async def test_where_others_can_reach_it_the_address_has_a_token(http: ClientSession) -> None:
    with PageServer("0.0.0.0", 0) as page:
        port, token = re.fullmatch(r"http://[^/]+:(\d+)/\?token=([\w-]{20,})", page.url).groups()  # type: ignore[union-attr]
        here = f"http://127.0.0.1:{port}"
        for query, status in (("", 403), ("?token=guess", 403), (f"?token={token}", 200)):
            async with http.get(f"{here}/{query}") as answer:
                assert answer.status == status
        with pytest.raises(WSServerHandshakeError):
            await http.ws_connect(f"{here}/link", origin=here)
        async with http.ws_connect(f"{here}/link?token={token}", origin=here) as link:
            assert (await link.receive_json())["type"] == "setup"


def test_a_port_in_use_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ChannelError, match=rf"cannot serve the page on 127.0.0.1:{port}: .*in use; choose"
        ):
            PageServer(port=port).start()


@pytest.mark.parametrize(("host", "port"), [("256.1.1.1", 0), ("127.0.0.1", 99_999)])
def test_an_impossible_address_too(host: str, port: int) -> None:
    with pytest.raises(ChannelError, match="choose another"):
        PageServer(host, port).start()


async def test_only_so_many_browsers(
    http: ClientSession, page: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "MAX_VIEWERS", 1)
    async with browser(http, page):
        with pytest.raises(WSServerHandshakeError) as refused:
            await http.ws_connect(f"{page.url}link")
    assert refused.value.status == 503


# --- pictures -----------------------------------------------------------------------------------------------------


async def test_pictures_and_figures_arrive(http: ClientSession, page: PageServer) -> None:
    given = shown(5, plain(120, 90, 170), concealed=True)
    async with browser(http, page) as viewer:
        page.publish(given, STATS)
        assert (await viewer.until("stats", lambda stats: stats["fps"] == 25.0))["link"] == "connected"
        header, picture = await viewer.picture()
    assert header == (1, CONCEALED, 125, 1, 5, 200_000, b"bridge1\0")
    assert far(picture, rgb(given)) < 2


async def test_figures_alone_displace_no_picture(http: ClientSession, page: PageServer) -> None:
    async with browser(http, page) as viewer:
        page.publish(shown(5), STATS)
        page.publish(None, replace(STATS, link="silent"))
        assert (await viewer.picture())[0][4] == 5
        await viewer.drew((1, 0, 0, 1))
        page.publish(None, replace(STATS, link="waiting"))
        await viewer.until("stats", lambda stats: stats["link"] == "waiting")


async def test_who_comes_later_sees_the_last_picture_at_once(http: ClientSession, page: PageServer) -> None:
    page.publish(shown(5), STATS)
    for _ in range(2):
        async with browser(http, page) as viewer:
            assert (await viewer.picture())[0][4] == 5


async def test_a_slow_browser_misses_pictures_and_holds_up_nobody(
    http: ClientSession, page: PageServer
) -> None:
    async with browser(http, page) as slow, browser(http, page) as fast:
        for slot in range(WINDOW + 3):
            page.publish(shown(slot), STATS)
            header, _ = await fast.picture()
            assert header[4] == slot
            await fast.drew(header)
            if slot < WINDOW:
                late, _ = await slow.picture()
        assert dict(page.counts)["slow browser"] >= 3
        await slow.drew(late)  # now it gets the newest, none of those in between
        assert (await slow.picture())[0][4] == WINDOW + 2


async def test_a_hidden_page_gets_none_until_it_is_seen_again(http: ClientSession, page: PageServer) -> None:
    async with browser(http, page) as hidden, browser(http, page) as other:
        await hidden.say(type="look", visible=False)
        await hidden.say(type="nonsense")
        await hidden.until("notice")  # so the first message was taken too
        for slot in range(2):
            page.publish(shown(slot), STATS)
            await other.drew((await other.picture())[0])
        await hidden.say(type="look", visible=True)
        assert (await hidden.picture())[0][4] == 1
    assert "slow browser" not in dict(page.counts)


def test_publishing_never_waits_and_needs_no_browser(page: PageServer) -> None:
    for slot in range(200):
        page.publish(shown(slot), STATS)
    assert set(dict(page.counts)) <= {"page busy"}


@pytest.mark.parametrize(
    ("overlay", "flag"), [("uncertainty", UNCERTAINTY), ("generated", GENERATED), ("level", LEVEL)]
)
async def test_each_browser_has_its_own_overlays(
    http: ClientSession, page: PageServer, overlay: str, flag: int
) -> None:
    given = shown(3, plain(150), uncertainty=np.full((SIDE // 8, SIDE // 8), 200, np.uint8))
    async with browser(http, page) as plainly, browser(http, page) as marked:
        page.publish(given, STATS)
        assert (await marked.picture())[0][1] == 0
        await marked.say(type="view", overlays=[overlay], source=False)
        header, picture = await marked.picture()  # of the picture that is there, not only of the next
        assert header[1] == flag and far(picture, rgb(given)) > 5
        header, picture = await plainly.picture()
        assert header[1] == 0 and far(picture, rgb(given)) < 2


async def test_the_source_stands_beside_its_own_picture(http: ClientSession, page: PageServer) -> None:
    source = replace(shown(8, plain(200)).frame, slot=8)
    async with browser(http, page) as viewer:
        page.publish_source(source)
        page.publish(shown(8, plain(60)), STATS)
        assert (await viewer.until("setup"))["source"] is True
        await viewer.say(type="view", overlays=[], source=True)
        while not (found := await viewer.picture())[0][1] & SOURCE:
            pass
        picture = found[1]
        assert picture.shape[1] == 2 * SIDE and picture.shape[0] > SIDE
        assert picture[-8:, : SIDE - 8].mean() - picture[-8:, SIDE + 8 :].mean() > 100
        page.publish(shown(9, plain(60)), STATS)  # nothing is known of this one's source
        header, picture = await viewer.picture()
        assert header[4] == 9 and not header[1] & SOURCE and picture.shape[1] == SIDE


# --- what viewers wish --------------------------------------------------------------------------------------------


async def test_controls_reach_the_owner_and_everybody_sees_them(
    http: ClientSession, page: PageServer, calls: Calls
) -> None:
    async with browser(http, page) as one, browser(http, page) as other:
        await one.say(type="set", name="bitrate_bps", value=48_000)
        await one.say(type="set", name="steps", value="1")
        for viewer in (one, other):
            values = await viewer.until("setup", lambda setup: _values(setup)["steps"] == "1")
            assert _values(values)["bitrate_bps"] == 48_000 and _values(values)["loss"] is None
    assert calls.made == [("bitrate_bps", 48_000), ("steps", "1")]


def _values(setup: dict[str, Any]) -> dict[str, object]:
    return {control["name"]: control["value"] for control in setup["controls"]}


@pytest.mark.parametrize(
    ("message", "notice"),
    [
        ({"type": "set", "name": "bitrate_bps", "value": 1}, "Bit rate goes from 8000"),
        ({"type": "set", "name": "loss", "value": 0.1}, "loss cannot be changed in this run"),
        ({"type": "set", "name": "rm", "value": 1}, "not a message of the page"),
        ({"type": "set", "name": "bitrate_bps", "value": 13_000}, "not thirteen"),
    ],
)
async def test_what_cannot_be_is_refused(
    http: ClientSession, page: PageServer, calls: Calls, message: dict[str, object], notice: str
) -> None:
    async with browser(http, page) as viewer:
        await viewer.say(**message)
        assert notice in (await viewer.until("notice"))["text"]
    assert calls.made == []


async def test_nonsense_is_counted_and_in_the_end_sent_away(http: ClientSession, page: PageServer) -> None:
    async with browser(http, page) as viewer:
        for _ in range(app.MAX_FAULTS):
            await viewer.link.send_bytes(b"?")
        await viewer.link.send_str("?")
        async for _ in viewer.link:
            pass
        assert viewer.link.close_code == 1008
    assert dict(page.counts)["message refused"] == app.MAX_FAULTS + 1


async def test_a_message_too_long_ends_the_link(http: ClientSession, page: PageServer) -> None:
    async with browser(http, page) as viewer:
        await viewer.link.send_str("x" * (app.MAX_MESSAGE_BYTES + 1))
        async for _ in viewer.link:
            pass
        assert viewer.link.close_code == 1009


async def test_wishes_come_at_a_bounded_rate(
    http: ClientSession, page: PageServer, clock: VirtualClock
) -> None:
    async with browser(http, page) as viewer:
        for value in range(50):
            await viewer.say(type="set", name="bitrate_bps", value=20_000 + value)
        await viewer.say(type="nonsense")
        await viewer.until("notice")
        assert dict(page.counts)["message too soon"] == 10
        clock.advance_to(2.0)
        await viewer.say(type="set", name="bitrate_bps", value=30_000)
        await viewer.until("setup", lambda setup: _values(setup)["bitrate_bps"] == 30_000)


async def test_a_recording_starts_stops_and_names_its_files(
    http: ClientSession, page: PageServer, calls: Calls
) -> None:
    async with browser(http, page) as viewer:
        await viewer.say(type="record", on=True)
        setup = await viewer.until("setup", lambda setup: setup["recording"])
        assert setup["files"] == list(FILES)
        await viewer.say(type="record", on=True)  # twice is once
        await viewer.say(type="record", on=False)
        setup = await viewer.until("setup", lambda setup: not setup["recording"])
        assert setup["files"] == list(FILES)
        await viewer.say(type="record", on=True)
        assert (await viewer.until("notice"))["text"] == "the disk is full"
        assert (await viewer.until("setup"))["recording"] is False
    assert calls.made == ["start", "stop"]


async def test_without_an_owner_nothing_can_be_changed(http: ClientSession) -> None:
    with PageServer(port=0) as page:
        async with browser(http, page) as viewer:
            await viewer.say(type="record", on=True)
            assert "nothing to record with" in (await viewer.until("notice"))["text"]


async def test_the_owner_can_change_things_too(http: ClientSession, page: PageServer) -> None:
    async with browser(http, page) as viewer:
        page.set_control(Control("loss", 0.1, 0, 0.5))
        page.notice("the other end has left")
        assert _values(await viewer.until("setup"))["loss"] == 0.1
        assert (await viewer.until("notice"))["text"] == "the other end has left"


# --- the end ------------------------------------------------------------------------------------------------------


async def test_closing_says_so_to_browsers_and_leaves_nothing_behind(http: ClientSession) -> None:
    page = PageServer(port=0).start()
    async with browser(http, page) as viewer:
        closing = asyncio.create_task(asyncio.to_thread(page.close))
        async for _ in viewer.link:
            pass
        assert viewer.link.close_code == 1001
        await closing
    page.publish(shown(0), STATS)  # too late, and harmless
    page.set_control(Control("loss", 0.1, 0, 0.5))
    page.close()
    assert dict(page.counts)["page closed"] == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("page")]


async def test_a_page_that_fails_says_so_when_it_is_closed(http: ClientSession, clock: VirtualClock) -> None:
    page = PageServer(port=0, clock=clock).start()
    broken = replace(shown(0), level="é")  # no level has such a name
    with pytest.raises(UnicodeEncodeError):
        async with browser(http, page) as viewer:
            page.publish(broken, STATS)
            async for _ in viewer.link:
                pass
            page.close()

"""The client of a room: what it gives, and how it comes back."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.signalling.client import Backoff, RoomClient
from channel.signalling.far_end import Inbox
from channel.signalling.limits import Limits
from channel.signalling.refusals import Reason, RefusedError
from channel.signalling.urls import parse_room_url
from channel.udp import Address
from channel.webrtc.signaller import Signal, Signaller, parse_signal
from common.clock import VirtualClock
from common.errors import ChannelError, UsageError
from tests.signalling import Running, running, until


def skipping(clock: VirtualClock, waits: list[float]) -> Callable[[float], Awaitable[None]]:
    """Sleep that only moves the clock."""

    async def sleep(duration_s: float) -> None:
        waits.append(duration_s)
        clock.advance_to(clock.now_s() + duration_s)
        await asyncio.sleep(0)

    return sleep


def client(host: Running, role: Any, token: str | None = None, **options: Any) -> RoomClient:
    clock = VirtualClock()
    options = {"clock": clock, "rng": random.Random(1), "sleep": skipping(clock, []), **options}
    return RoomClient(host.room_url(token or host.token(role)), role, **options)


def cut(host: Running) -> None:
    """Break every connection, as a network does."""
    for connection in tuple(host.server._connections):
        assert connection._transport is not None
        connection._transport.abort()


async def test_offer_and_answer() -> None:
    async with running() as host, client(host, "sender") as sender, client(host, "receiver") as receiver:
        far = await sender.far_end()
        assert far.id == receiver.welcome.id and far.present
        await far.send({"type": "offer", "sdp": "v=0"})
        assert await receiver.receive() == {"type": "offer", "sdp": "v=0"}
        await receiver.send({"type": "answer", "sdp": "v=1"})
        await receiver.send({"type": "candidate", "candidate": "c", "sdpMid": "0", "sdpMLineIndex": 0})
        assert await far.receive() == {"type": "answer", "sdp": "v=1"}
        assert await sender.receive() == {
            "type": "candidate", "candidate": "c", "sdpMid": "0", "sdpMLineIndex": 0
        }  # fmt: skip
        await sender.send({"type": "bye"})
        assert await receiver.receive() == {"type": "bye"}
        assert sender.drops == ()


@pytest.mark.parametrize(
    "said", [Signal("offer", 3, "v=0"), Signal("answer", 3, "v=1"), Signal("renew", 3), Signal("bye")]
)
async def test_what_peer_connections_say_crosses_unchanged(said: Signal) -> None:
    async with running() as host, client(host, "sender") as sender, client(host, "receiver") as receiver:
        ends: list[Signaller] = [await sender.far_end(), receiver]
        for speaker, listener in (ends, reversed(ends)):
            await speaker.send(said.as_message())
            assert parse_signal(await listener.receive()) == said


async def test_several_receivers_are_kept_apart() -> None:
    async with running() as host, client(host, "sender") as sender:
        async with client(host, "receiver") as one, client(host, "receiver") as two:
            ends = {far.id: far for far in (await sender.far_end(), await sender.far_end())}
            for room in (one, two):
                await ends[room.welcome.id].send({"type": "offer", "sdp": room.welcome.id})
                assert (await room.receive())["sdp"] == room.welcome.id
            await two.send({"type": "bye"})
            assert await ends[two.welcome.id].receive() == {"type": "bye"}
        await until(lambda: not any(far.present for far in ends.values()))


async def test_a_broken_connection_is_made_again_in_silence() -> None:
    async with running() as host, client(host, "sender") as sender, client(host, "receiver") as receiver:
        far = await sender.far_end()
        first = sender.welcome
        cut(host)
        await until(lambda: sender.welcome is not first and host.server.rooms.receivers == 1 and far.present)
        await far.send({"type": "offer", "sdp": "after"})
        assert await receiver.receive() == {"type": "offer", "sdp": "after"}
        assert sender.welcome.id == first.id
        waiting = asyncio.ensure_future(sender.far_end())
        await asyncio.sleep(0)
        assert not waiting.done()  # nobody new has come
        waiting.cancel()


async def test_a_program_started_anew_is_another_far_end() -> None:
    async with running() as host, client(host, "sender") as sender:
        token = host.token("receiver")
        async with client(host, "receiver", token):
            old = await sender.far_end()
        async with client(host, "receiver", token) as receiver:
            new = await sender.far_end()
            assert new is not old and new.id == old.id
            with pytest.raises(ChannelError, match="started anew"):
                await old.receive()
            with pytest.raises(ChannelError, match="started anew"):
                await old.send({"type": "bye"})  # the new one must not take it for its own
            await sender.send({"type": "bye"})
            assert await receiver.receive() == {"type": "bye"}


@pytest.mark.parametrize(
    ("role", "token_role", "minutes", "reason"),
    [("receiver", "sender", 5, Reason.OTHER_ROLE), ("sender", "sender", -1, Reason.EXPIRED_TOKEN)],
)
async def test_refused_at_the_door(role: Any, token_role: Any, minutes: float, reason: Reason) -> None:
    async with running() as host:
        token = host.token(token_role, minutes=minutes)
        with pytest.raises(RefusedError) as raised:
            async with client(host, role, token):
                pass
        assert raised.value.reason is reason and token not in str(raised.value)


async def test_a_second_sender_hears_why() -> None:
    async with running() as host, client(host, "sender"):
        with pytest.raises(RefusedError, match="has a sender already"):
            async with client(host, "sender"):
                pass


async def test_who_was_replaced_does_not_fight_back() -> None:
    async with running() as host:
        token = host.token("sender")
        async with client(host, "sender", token) as old, client(host, "sender", token):
            with pytest.raises(RefusedError, match="a token of its own"):
                await old.receive()
            with pytest.raises(RefusedError, match="a token of its own"):
                await old.send({"type": "bye"})
            with pytest.raises(RefusedError, match="a token of its own"):
                await old.far_end()
        assert host.server.stats.replaced == 1


async def test_an_expired_token_ends_the_attempts() -> None:
    async with running() as host, client(host, "receiver") as receiver:
        host.unix.advance_to(host.unix.now_s() + 3600)
        cut(host)
        with pytest.raises(RefusedError, match="expired"):
            await receiver.receive()


async def test_a_server_that_stays_away_is_given_up() -> None:
    clock, waits = VirtualClock(), []
    backoff = Backoff(first_s=1.0, factor=2.0, longest_s=8.0, jitter=0.5, give_up_s=30.0)
    async with running() as host:
        token = host.token("receiver")
        receiver = client(host, "receiver", token, backoff=backoff, clock=clock, sleep=skipping(clock, waits))
        await receiver.__aenter__()
    with pytest.raises(
        ChannelError, match=r"gave up after 3[0-9] s: cannot reach the signalling server"
    ) as raised:
        await receiver.receive()
    assert token not in str(raised.value)
    await receiver.__aexit__(None, None, None)
    for wait, whole in zip(waits, (1, 2, 4, 8, 8, 8, 8, 8, 8), strict=False):
        assert whole / 2 <= wait <= whole
    assert len(set(waits)) == len(waits) > 4


async def test_unreachable_at_once() -> None:
    async with running() as host:
        address = host.address
    with pytest.raises(
        ChannelError,
        match=r"cannot reach the signalling server .*: Connection refused; .* semcast signal runs there",
    ):
        async with RoomClient(f"ws://{address}/studio?token=hush", "sender"):
            pass


async def test_what_cannot_be_sent() -> None:
    limits = Limits(max_message_bytes=1024)
    async with running(limits) as host, client(host, "sender") as sender, client(host, "receiver"):
        far = await sender.far_end()
        for message in ({"type": "x"}, {}, {"type": "offer"}, {"type": "offer", "sdp": b"v=0"}):
            with pytest.raises(UsageError, match="cannot send"):
                await far.send(message)
        with pytest.raises(ChannelError, match="the server takes 1024"):
            await far.send({"type": "offer", "sdp": "x" * 1000})


async def test_what_was_refused_is_counted() -> None:
    limits = Limits(burst=1, messages_per_s=1.0)
    async with (
        running(limits) as host,
        client(host, "sender") as sender,
        client(host, "receiver") as receiver,
    ):
        await receiver.send({"type": "bye"})
        await receiver.send({"type": "bye"})
        await until(lambda: receiver.drops == (("too_fast", 1),))
        assert await sender.receive() == {"type": "bye"}


async def test_before_entering() -> None:
    with pytest.raises(ChannelError, match="async with"):
        _ = RoomClient("ws://localhost/studio", "sender").welcome


async def test_inboxes_are_bounded() -> None:
    inbox: Inbox[int] = Inbox(2)
    assert [inbox.put(number) for number in range(3)] == [True, True, False]
    inbox.close(ChannelError("gone"))
    assert [await inbox.get(), await inbox.get()] == [0, 1]
    with pytest.raises(ChannelError, match="gone"):
        await inbox.get()
    assert not inbox.put(4)


@given(st.integers(0, 10_000), st.integers(0, 2**32))
def test_backoff_is_bounded(attempt: int, seed: int) -> None:
    backoff = Backoff()
    assert 0.25 <= backoff.delay_s(attempt, random.Random(seed)) <= 15.0


def test_urls() -> None:
    url = parse_room_url("wss://example.org:8765/studio?token=abc.def")
    assert (url.secure, url.address, url.room, url.token) == (
        True,
        Address("example.org", 8765),
        "studio",
        "abc.def",
    )
    assert url.socket("sender", "s1") == (
        "wss://example.org:8765/ws/studio?role=sender&session=s1&token=abc.def"
    )
    assert "abc.def" not in repr(url) + url.server
    assert parse_room_url("ws://[::1]:9/a").server == "ws://[::1]:9"
    assert parse_room_url("wss://host/a").address.port == 443
    assert parse_room_url("ws://host/a/?id=me").id == "me"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no scheme"),
        ("host:8765/studio", "begins with"),
        ("https://host/studio", "begins with https:"),
        ("wss:///studio", "no host"),
        ("wss://host:99999/studio", "make no sense"),
        ("wss://host:0/studio", "port 0"),
        ("wss://host:port/studio", "make no sense"),
        ("wss://[::1/studio", "make no sense"),
        ("wss://host", "no room"),
        ("wss://host/a/b", "1 to 64"),
        ("wss://host/a%20b", "1 to 64"),
        ("wss://user:hush@host/studio", "user names"),
        ("wss://host/studio#x", "user names"),
        ("wss://host/studio?tokn=hush", "did you mean token"),
        ("wss://host/studio?token=", "empty"),
        ("wss://host/studio?token=hush&token=hush", "twice"),
        ("ws://host/studio?id=a b", "an id"),
    ],
)
def test_url_mistakes(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        parse_room_url(text)
    assert "hush" not in str(raised.value) and "wss://HOST:PORT/ROOM" in str(raised.value)


@given(st.text() | st.text().map(lambda rest: "wss://host/" + rest))
def test_any_url_is_read_or_refused(text: str) -> None:
    with suppress(UsageError):
        parse_room_url(text)


async def test_an_answer_that_is_no_welcome() -> None:
    from aiohttp import web

    async def enter(request: web.Request) -> web.StreamResponse:
        if request.match_info["room"] == "page":
            return web.Response(text="hello")
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.send_str(json.dumps({"type": "left", "id": "a", "role": "sender"}))
        await websocket.receive()
        return websocket

    from aiohttp.test_utils import TestServer

    application = web.Application()
    application.router.add_get("/ws/{room}", enter)
    async with TestServer(application, host="127.0.0.1") as server:
        for room in ("page", "room"):
            with pytest.raises(ChannelError, match="is it a semcast signalling server"):
                async with RoomClient(f"ws://127.0.0.1:{server.port}/{room}", "sender"):
                    pass

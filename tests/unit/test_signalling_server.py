"""The server over real sockets: who may come in, what is passed on, and that nobody disturbs anybody."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType
from pydantic import SecretStr

from channel.signalling.ice import IceServerSettings
from channel.signalling.limits import Limits
from channel.signalling.refusals import Reason
from tests.signalling import START_UNIX_S, Running, running, until

OFFER = {"type": "offer", "sdp": "v=0 a very private description", "to": "watcher"}


async def heard(websocket: aiohttp.ClientWebSocketResponse[Any], count: int = 1) -> list[dict[str, Any]]:
    return [json.loads(await websocket.receive_str()) for _ in range(count)]


async def told_and_closed(websocket: aiohttp.ClientWebSocketResponse[Any]) -> tuple[list[str], str]:
    """(what was said, why the connection ended)."""
    said = []
    while (message := await websocket.receive()).type is WSMsgType.TEXT:
        said.append(json.loads(message.data).get("reason", json.loads(message.data)["type"]))
    return said, str(message.extra or message.data)


async def works(host: Running, room: str = "quiet") -> None:
    """A sender and a receiver of another room talk to one another as if nothing were."""
    token = host.token("receiver", room, nonce="watcher")
    async with host.member("sender", room) as sender, host.member("receiver", room, token=token) as receiver:
        await heard(receiver)
        await sender.send_json(OFFER)
        (offer,) = await heard(receiver)
        assert offer["sdp"] == OFFER["sdp"]
        await receiver.send_json({"type": "answer", "sdp": "v=1"})
        assert [m["type"] for m in await heard(sender, 3)] == ["welcome", "joined", "answer"]


async def test_two_ends_talk_and_see_each_other_come_and_go() -> None:
    async with running() as host:
        await works(host)
        async with host.member("sender") as sender:
            (welcome,) = await heard(sender)
            assert welcome["members"] == [] and welcome["ice_servers"] == [] and welcome["role"] == "sender"
            async with host.member("receiver", session="mine") as receiver:
                (joined,) = await heard(sender)
                (there,) = (await heard(receiver))[0]["members"]
                assert there["id"] == welcome["id"] and joined["session"] == "mine"
            (left,) = await heard(sender)
            assert left == {"type": "left", "id": joined["id"], "role": "receiver"}
        await until(lambda: host.server.rooms.rooms == 0)


async def test_strangers_are_refused_and_counted() -> None:
    async with running(Limits(failed_tokens=100)) as host:
        expired = host.token(minutes=1)
        host.unix.advance_to(START_UNIX_S + 61)
        other, receiver = host.token(room="hall"), host.token("receiver")
        assert await host.refusal("/ws/studio") == (401, "no_token")
        assert await host.refusal("/ws/studio", token="guessed.it") == (401, "bad_token")
        assert await host.refusal("/ws/studio", token=expired) == (401, "expired_token")
        assert await host.refusal("/ws/studio", token=other) == (403, "other_room")
        assert await host.refusal("/ws/studio", token=receiver, role="sender") == (403, "other_role")
        assert await host.refusal("/ws/studio", token=receiver, role="cook") == (400, "bad_request")
        assert await host.refusal("/ws/a%2Fb", token=receiver) == (400, "bad_request")
        assert await host.refusal("/ws/studio", token=receiver, session="a b") == (400, "bad_request")
        assert await host.refusal("/somewhere") == (404, "not_found")
        async with host.http.get(f"{host.base}/ws/studio", params={"token": receiver}) as plain:
            assert plain.status == 400
        async with host.http.post(f"{host.base}/health", data=b"x" * 100_000) as post:
            assert post.status == 405
        assert host.refused() == {
            "no_token": 1, "bad_token": 1, "expired_token": 1, "other_room": 1, "other_role": 1, "bad_request": 5,
            "not_found": 1,
        }  # fmt: skip
        assert host.server.rooms.rooms == 0
        await works(host)


async def test_an_address_with_many_wrong_tokens_has_to_wait() -> None:
    async with running(Limits(failed_tokens=3, failed_tokens_per_min=6)) as host, host.member() as inside:
        await heard(inside)
        for _ in range(3):
            assert await host.refusal("/ws/studio", token="wrong") == (401, "bad_token")
        right = host.token("receiver")
        assert await host.refusal("/ws/studio", token=right) == (429, "address_limited")
        host.clock.advance_to(10.0)
        async with host.member("receiver") as receiver:
            await heard(receiver)
            assert (await heard(inside))[0]["type"] == "joined"  # who was inside has noticed nothing
        logged = [event["reason"] for event in host.logged if event["event"] == "refused"]
        assert logged == ["bad_token"] * 3  # a flood does not fill the log


async def test_a_second_sender_is_refused() -> None:
    async with running() as host, host.member("sender") as first:
        await heard(first)
        assert await host.refusal("/ws/studio", token=host.token("sender")) == (409, "second_sender")
        async with host.member("receiver") as receiver:
            await heard(receiver)
            assert (await heard(first))[0]["type"] == "joined"


async def test_coming_again_replaces_the_old_connection() -> None:
    async with running() as host:
        token = host.token("sender")
        async with host.member("receiver") as receiver, host.member(token=token) as old:
            await heard(receiver, 2)
            async with host.member(token=token) as new:
                assert await told_and_closed(old) == (["welcome"], "replaced")
                assert [m["type"] for m in await heard(receiver)] == ["joined"]
                await receiver.send_json({"type": "bye"})
                assert [m["type"] for m in await heard(new, 2)] == ["welcome", "bye"]
                assert host.server.rooms.senders == 1 and host.server.stats.replaced == 1
                assert host.refused() == {}


async def test_a_flood_is_refused_and_its_author_put_out() -> None:
    async with (
        running(Limits(messages_per_s=1.0, burst=3, patience=2)) as host,
        host.member("sender") as other,
    ):
        async with host.member("receiver") as flooder:
            await heard(other, 2)
            for _ in range(10):
                await flooder.send_json({"type": "bye"})
            said, why = await told_and_closed(flooder)
        assert said == ["welcome", "too_fast", "too_fast"] and why == "expelled"
        assert [m["type"] for m in await heard(other, 4)] == ["bye", "bye", "bye", "left"]
        await until(lambda: "expelled" in host.refused())
        assert host.refused() == {"too_fast": 3, "expelled": 1}
        await works(host)


async def test_the_rate_comes_back_with_time() -> None:
    limits = Limits(messages_per_s=2.0, burst=2)
    async with running(limits) as host, host.member("sender") as sender, host.member("receiver") as receiver:
        await heard(sender, 2)
        for number in range(3):
            await receiver.send_json({"type": "bye", "reason": str(number)})
        assert (await heard(receiver, 2))[-1]["reason"] == "too_fast"
        host.clock.advance_to(0.5)
        await receiver.send_json({"type": "bye", "reason": "late"})
        assert [m["reason"] for m in await heard(sender, 3)] == ["0", "1", "late"]


@pytest.mark.parametrize("size", [2_000, 500_000])
async def test_oversized_messages(size: int) -> None:
    async with running(Limits(max_message_bytes=1024)) as host, host.member("sender") as sender:
        async with host.member("receiver") as receiver:
            await heard(sender, 2)
            await receiver.send_json({"type": "answer", "sdp": "x" * size})
            assert (await heard(sender))[0]["type"] == "left"
        await until(lambda: "oversized" in host.refused())
        assert host.refused() == {"oversized": 1} and host.server.stats.relayed == {}
        await works(host)


async def test_what_is_no_message() -> None:
    async with running() as host, host.member("sender") as sender, host.member("receiver") as receiver:
        await heard(sender, 2)
        await receiver.send_str("{}")
        await receiver.send_bytes(b'{"type": "bye"}')
        await sender.send_json({"type": "bye"})
        await sender.send_json({"type": "bye", "to": "nobody"})
        await receiver.ping(b"there?")
        assert [m.get("reason") for m in await heard(receiver, 3)] == [None, "malformed", "malformed"]
        assert [m["reason"] for m in await heard(sender, 2)] == ["unknown_member"] * 2
        assert host.refused() == {"malformed": 2, "unknown_member": 2}


async def test_broken_frames_end_only_their_own_connection() -> None:
    async with running() as host, host.member("sender") as sender, host.member("receiver") as receiver:
        await heard(sender, 2)
        await receiver.send_frame(b"\xff\xfe", WSMsgType.TEXT)  # not UTF-8
        assert (await heard(sender))[0]["type"] == "left"
        await until(lambda: "malformed" in host.refused())
        await works(host)


async def test_who_gives_no_sign_of_life_goes() -> None:
    limits = Limits(idle_s=60, handshake_s=10)
    async with running(limits) as host, host.member("sender") as sender, host.member("receiver") as silent:
        await heard(sender, 2)
        await heard(silent)
        host.clock.advance_to(50.0)
        host.server.sweep()  # asks both; only one reads, and so answers
        await sender.send_json({"type": "bye", "to": "nobody"})
        assert (await heard(sender))[0]["type"] == "refused"
        host.clock.advance_to(61.0)
        host.server.sweep()
        assert (await heard(sender))[0]["type"] == "left"
        await until(lambda: "idle" in host.refused())
        assert host.refused()["idle"] == 1 and host.server.rooms.senders == 1


async def test_connections_that_ask_nothing_are_cut() -> None:
    async with running(Limits(handshake_s=10)) as host, host.member() as inside:
        reader, writer = await asyncio.open_connection(host.address.host, host.address.port)
        writer.write(b"GET /health HTTP/1.1\r\nX-Slow: ")
        await until(lambda: host.server.connections == 2)
        host.server.sweep()
        host.clock.advance_to(10.5)
        host.server.sweep()
        with suppress(ConnectionResetError):  # what it had sent was not read
            assert await reader.read() == b""
        assert host.refused() == {"handshake_timeout": 1}
        writer.transport.abort()
        assert not inside.closed


async def test_a_member_that_does_not_listen_is_put_out() -> None:
    limits = Limits(outbox_messages=4, messages_per_s=10_000, burst=100_000, max_message_bytes=1 << 20)
    async with running(limits) as host, host.member("sender") as sender:
        slow = host.token("receiver", nonce="slow")
        request = f"GET /ws/studio?token={slow} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        keys = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        _, writer = await asyncio.open_connection(host.address.host, host.address.port, limit=1024)
        writer.write((request + keys).encode())
        await heard(sender, 2)
        while not host.refused():
            await sender.send_json({"type": "offer", "sdp": "x" * 200_000, "to": "slow"})
        assert host.refused() == {"slow": 1} or "unknown_member" in host.refused()
        writer.transport.abort()
        await works(host)


async def test_open_servers_believe_what_members_say() -> None:
    async with running(secret=None) as host:
        assert await host.refusal("/ws/studio") == (400, "bad_request")  # no role
        assert await host.refusal("/ws/studio", role="sender", id="a b") == (400, "bad_request")
        async with host.http.ws_connect(f"{host.base}/ws/studio?role=sender&id=me") as me:
            assert (await heard(me))[0]["id"] == "me"


async def test_ice_servers_are_in_the_welcome() -> None:
    turn = IceServerSettings(urls=["turn:turn.example.org"], secret=SecretStr("north"), minutes=1)
    async with running(ice=[turn]) as host, host.member() as member:
        (welcome,) = await heard(member)
        (server,) = welcome["ice_servers"]
        assert server["username"] == f"{int(START_UNIX_S) + 60}:{welcome['id']}" and server["credential"]


async def test_health_and_metrics_tell_counts_and_nothing_else() -> None:
    async with running() as host:
        await works(host, room="my-secret-room")
        await host.refusal("/ws/studio", token="wrong")
        await until(lambda: host.server.rooms.rooms == 0)
        async with host.http.get(f"{host.base}/health") as response:
            text = await response.text()
        assert json.loads(text) == {
            "status": "ok", "rooms": 0, "senders": 0, "receivers": 0, "joined": {"sender": 1, "receiver": 1},
            "replaced": 0, "relayed": {"offer": 1, "answer": 1}, "refused": {"bad_token": 1},
            "relayed_bytes": json.loads(text)["relayed_bytes"],
        }  # fmt: skip
        async with host.http.get(f"{host.base}/metrics") as response:
            metrics = await response.text()
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert 'semcast_signalling_refused_total{reason="bad_token"} 1.0' in metrics
        assert 'semcast_signalling_relayed_messages_total{type="offer"} 1.0' in metrics
        assert 'semcast_signalling_members{role="receiver"} 0.0' in metrics
        for line in metrics.splitlines():
            assert line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith("semcast_signalling_")
        assert "my-secret-room" not in text + metrics and "watcher" not in text + metrics


async def test_without_prometheus_client_metrics_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channel.signalling.stats.find_spec", lambda name: None)
    async with running() as host, host.http.get(f"{host.base}/metrics") as response:
        assert response.status == 501 and "pip install" in await response.text()


async def test_logs_hold_no_tokens_and_no_descriptions() -> None:
    async with running() as host:
        token = host.token("sender")
        async with host.member(token=token) as sender:
            await heard(sender)
            await sender.send_json(OFFER)
            await heard(sender)
        await host.refusal("/ws/studio", token=token + "x")
        await works(host)
        await until(lambda: host.server.rooms.rooms == 0)
        logged = json.dumps(host.logged)
    assert "private" not in logged and token.partition(".")[2] not in logged and "token=" not in logged
    assert [event["event"] for event in host.logged][:3] == ["joined", "left", "refused"]


async def test_a_bug_is_logged_without_its_text_and_ends_one_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as host, host.member("sender") as sender, host.member("receiver") as receiver:
        await heard(sender, 2)

        def broken(*_: object) -> None:
            raise RuntimeError("v=0 a very private description")

        with monkeypatch.context() as patch:
            patch.setattr(host.server.rooms, "relay", broken)
            await receiver.send_json({"type": "bye"})
            assert await told_and_closed(receiver) == (["welcome"], "internal")
        assert (await heard(sender))[0]["type"] == "left"
        (failed,) = (event for event in host.logged if event["event"] == "failed")
        assert failed["error"] == "RuntimeError" and "private" not in json.dumps(host.logged)
        await until(lambda: Reason.INTERNAL in host.server.stats.refused)


async def test_stopping_says_goodbye() -> None:
    async with aiohttp.ClientSession() as http:
        async with running() as host:
            websocket = await http.ws_connect(f"{host.base}/ws/studio", params={"token": host.token()})
            await heard(websocket)
        message = await websocket.receive()
        assert message.type is WSMsgType.CLOSE and message.data == aiohttp.WSCloseCode.GOING_AWAY
        await websocket.close()

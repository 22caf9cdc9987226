"""Who is let in: pages of other sites, addresses behind a proxy, and tokens that expire during a stay."""

from __future__ import annotations

import aiohttp
import pytest

from channel.signalling.admission import Policy, forwarded_for
from channel.signalling.limits import Limits
from channel.signalling.refusals import PASSING, Reason
from tests.signalling import START_UNIX_S, Running, running, until


async def enter(host: Running, headers: dict[str, str], **query: str) -> str:
    """The first thing that a member hears which sends these headers."""
    params = {"token": host.token("receiver"), **query}
    async with host.http.ws_connect(f"{host.base}/ws/studio", params=params, headers=headers) as websocket:
        return str((await websocket.receive_json())["type"])


async def test_pages_of_other_sites_are_refused_and_counted() -> None:
    async with running() as host:
        right = host.token("receiver")
        for origin in ("https://elsewhere.example", "null", "http://[broken", "http://127.0.0.1:1"):
            refused = await host.refusal("/ws/studio", {"Origin": origin}, token=right)
            assert refused == (403, "foreign_origin")
        assert host.refused() == {"foreign_origin": 4}
        assert await enter(host, {"Origin": host.base}) == "welcome"
        assert await enter(host, {}) == "welcome"  # our own programs say nothing


async def test_a_page_of_another_site_does_not_use_up_tries() -> None:
    async with running(Limits(failed_tokens=1)) as host:
        for _ in range(3):
            await host.refusal("/ws/studio", {"Origin": "https://elsewhere.example"}, token="guessed")
        assert await enter(host, {}) == "welcome"


async def test_without_tokens_every_page_is_foreign() -> None:
    async with running(secret=None) as host:
        rebound = {"Host": "rebound.example", "Origin": "http://rebound.example"}
        assert await host.refusal("/ws/studio", rebound, role="sender") == (403, "foreign_origin")
        assert await host.refusal("/ws/studio", {"Origin": host.base}, role="sender") == (
            403,
            "foreign_origin",
        )
        assert await enter(host, {}, role="sender") == "welcome"


async def test_forwarded_addresses_are_for_a_proxy_to_name() -> None:
    limits = Limits(failed_tokens=2)
    async with running(limits) as host:
        for number in range(2):
            await host.refusal("/ws/studio", {"X-Forwarded-For": f"192.0.2.{number}"}, token="wrong")
        refused = await host.refusal("/ws/studio", {"X-Forwarded-For": "192.0.2.9"}, token="wrong")
        assert refused == (429, "address_limited")  # all of them came from this machine
        assert {event["address"] for event in host.logged} == {"127.0.0.1"}


async def test_behind_a_proxy_each_address_has_its_own_tries() -> None:
    async with running(Limits(failed_tokens=2), policy=Policy(behind_proxy=True)) as host:
        guesser = {"X-Forwarded-For": "203.0.113.1, 198.51.100.7"}
        for _ in range(2):
            assert await host.refusal("/ws/studio", guesser, token="wrong") == (401, "bad_token")
        assert await host.refusal("/ws/studio", guesser, token="wrong") == (429, "address_limited")
        pretended = {
            "X-Forwarded-For": "192.0.2.200, 198.51.100.7"
        }  # what comes before the last anybody can write
        assert await host.refusal("/ws/studio", pretended, token="wrong") == (429, "address_limited")
        assert await enter(host, {"X-Forwarded-For": "198.51.100.8"}) == "welcome"
        assert await enter(host, {}) == "welcome"  # straight to the server
        await until(lambda: host.server.rooms.rooms == 0)
        addresses = [event["address"] for event in host.logged if "address" in event]
        assert addresses == ["198.51.100.7", "198.51.100.7", "198.51.100.8", "127.0.0.1"]


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ((), None),
        (("",), None),
        (("192.0.2.7",), "192.0.2.7"),
        (("10.0.0.1, 192.0.2.7:4711",), "192.0.2.7"),
        (("10.0.0.1", "192.0.2.7"), "192.0.2.7"),
        (("[2001:db8::1]:4711",), "2001:db8::1"),
        (("2001:db8::1",), "2001:db8::1"),
        (("192.0.2.7,",), None),
    ],
)
def test_forwarded_for(headers: tuple[str, ...], address: str | None) -> None:
    assert forwarded_for(headers) == address


async def test_a_token_lets_in_and_does_not_put_out() -> None:
    async with running() as host, host.member(token=host.token(minutes=1)) as member:
        await member.receive_json()
        host.unix.advance_to(START_UNIX_S + 3600)
        host.server.sweep()
        await member.send_json({"type": "bye", "to": "nobody"})
        assert (await member.receive_json())["type"] == "refused"  # still there to be told


async def test_a_stay_may_end_with_its_token() -> None:
    async with running(policy=Policy(end_with_token=True)) as host, host.member("receiver") as stays:
        short = host.token(minutes=1)
        async with host.member(token=short) as goes:
            await goes.receive_json()
            host.unix.advance_to(START_UNIX_S + 59)
            host.server.sweep()
            host.unix.advance_to(START_UNIX_S + 60)
            host.server.sweep()
            message = await goes.receive()
            assert message.type is aiohttp.WSMsgType.CLOSE and message.extra == "expired_token"
        await until(lambda: Reason.EXPIRED_TOKEN in host.server.stats.refused)
        assert Reason.EXPIRED_TOKEN not in PASSING  # a client does not come again with the same one
        assert await host.refusal("/ws/studio", token=short) == (401, "expired_token")
        assert not stays.closed and host.server.rooms.receivers == 1

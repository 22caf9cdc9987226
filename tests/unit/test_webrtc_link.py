"""One far end's queues: bounded, the newest win, and nothing waits. The event loop that runs it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from functools import partial

import pytest

from channel.webrtc.link import MAX_CONTROL_BYTES, PeerLink
from channel.webrtc.loop import LoopThread
from channel.webrtc.stats import PathStats, PeerEvent, PeerState
from common.clock import VirtualClock
from common.errors import ChannelError
from common.types import Datagram


def _link(max_datagrams: int = 4, connected: bool = True) -> PeerLink:
    link = PeerLink("far", VirtualClock(2.0), asyncio.get_running_loop(), max_datagrams)
    if connected:
        link.report(PeerState.CONNECTED, connected=True)
    return link


async def _drops(link: PeerLink) -> dict[str, int]:
    return dict((await link.get_stats()).drops)


async def test_polls_stay_together() -> None:
    link = _link()
    link.send_poll((b"a", b"b"), 1.0)
    link.send(b"c", 2.0)
    assert await link.next_poll() == ([b"a", b"b"], 90_000)
    assert await link.next_poll() == ([b"c"], 180_000)
    waiting = asyncio.create_task(link.next_poll())
    await asyncio.to_thread(link.send, b"from another thread", 3.0)
    assert await waiting == ([b"from another thread"], 270_000)
    stats = await link.get_stats()
    assert (stats.packetsSent, stats.bytesSent, stats.framesSent) == (4, 22, 3)


async def test_a_full_queue_keeps_the_newest() -> None:
    link = _link(2)
    for number in range(5):
        link.send(bytes([number]), 0.0)
        link.deliver(bytes([number]), ends_poll=True)
    assert [(await link.next_poll())[0] for _ in range(2)] == [[b"\3"], [b"\4"]]
    assert [datagram.data for datagram in link.receive(0.0)] == [b"\3", b"\4"]
    assert await _drops(link) == {"send_full": 3, "receive_full": 3}


async def test_nothing_is_kept_for_a_connection_to_come() -> None:
    link = _link(connected=False)
    link.send_poll((b"a", b"b"), 0.0)
    assert await _drops(link) == {"not_connected": 2}
    link.report(PeerState.CONNECTED, connected=True)
    link.send(b"c", 0.0)
    link.report(PeerState.LOST, "silence")
    link.report(PeerState.CONNECTED, connected=True)
    link.send(b"d", 0.0)
    assert (await link.next_poll())[0] == [b"d"]
    assert await _drops(link) == {"not_connected": 3}


async def test_sizes_are_checked() -> None:
    link = _link()
    for datagram in (b"", bytes(1201)):
        with pytest.raises(ChannelError, match="1 to 1200"):
            link.send(datagram, 0.0)
        link.deliver(datagram, ends_poll=True)
    assert await _drops(link) == {"damaged": 2}


async def test_arrivals_have_their_own_time_and_end_a_wait() -> None:
    link = _link(512)
    for _ in range(300):
        link.deliver(b"x", ends_poll=False)
    link.wait(60.0)
    assert link.receive(9.0) == [Datagram(b"x", 2.0)] * 256
    link.wait(60.0)  # there is more
    assert len(link.receive(9.0)) == 44
    link.wait(0.0)
    link.wait(-1.0)


async def test_a_newcomer_and_a_pli_ask_for_a_refresh() -> None:
    link = _link()
    assert link.take_refresh() and not link.take_refresh()
    link.want_refresh()
    assert link.take_refresh() and not link.take_refresh()
    assert (await link.get_stats()).pliCount == 1


async def test_changes_of_state_are_told_once() -> None:
    link = _link()
    link.report(PeerState.CONNECTED, connected=True)
    link.report(PeerState.CLOSED, "gone")
    assert link.events() == [
        PeerEvent("far", PeerState.CONNECTED), PeerEvent("far", PeerState.CLOSED, "gone"),
    ]  # fmt: skip
    assert link.events() == [] and link.state is PeerState.CLOSED


async def test_silence_counts_from_the_first_word() -> None:
    clock = VirtualClock()
    link = PeerLink("far", clock, asyncio.get_running_loop(), 4)
    clock.advance_to(5.0)
    assert link.silent_s == 0
    link.heard()
    clock.advance_to(7.0)
    assert link.silent_s == 2


async def test_control_messages() -> None:
    link = _link()
    link.set_welcome({"type": "stream"})
    assert link.welcome == '{"type":"stream"}'
    assert all(link.send_control({"number": number}) for number in range(32))
    assert not link.send_control({"number": 32})
    assert await link.next_control() == '{"number":0}'
    with pytest.raises(ChannelError, match="control message"):
        link.send_control({"text": "x" * MAX_CONTROL_BYTES})
    for text in ('{"a":1}', "[1]", "{", b"{}", "[" * 10_000, '"' + "x" * MAX_CONTROL_BYTES + '"'):
        link.deliver_control(text)
    assert link.receive_control() == [{"a": 1}]
    for _ in range(40):
        link.deliver_control('{"b":2}')
    assert len(link.receive_control()) == 32
    assert await _drops(link) == {"control_damaged": 5, "control_full": 9}


async def test_a_closed_link_takes_nothing() -> None:
    link = _link()
    link.close()
    link.close()
    link.send(b"x", 0.0)
    link.deliver(b"x", ends_poll=True)
    assert link.receive(0.0) == [] and not link.send_control({})
    assert (await link.get_stats()).path == PathStats()


async def test_statistics_say_from_where_to_ask_them() -> None:
    with pytest.raises(ChannelError, match="get_stats"):
        _link().stats()


def test_a_link_outlives_its_event_loop() -> None:
    loop = asyncio.new_event_loop()
    link = PeerLink("far", VirtualClock(), loop, 4)
    link.report(PeerState.CONNECTED, connected=True)
    loop.close()
    link.send(b"x", 0.0)
    link.request_refresh()
    assert link.stats().state is PeerState.CONNECTED


# --- the event loop -----------------------------------------------------------------------------------------------


async def _answer() -> int:
    return 42


def test_loop_thread_runs_and_ends() -> None:
    thread = LoopThread("test")
    began, ended = threading.Event(), Future[BaseException | None]()
    cleaned = []

    async def work() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    assert thread.call(_answer()) == 42
    thread.start("key", work, ended.set_result)
    assert began.wait(20)
    thread.close()
    thread.close()
    assert ended.result(20) is None and cleaned == [True]
    thread.cancel("key")
    assert thread.loop.is_closed() and "test" not in {other.name for other in threading.enumerate()}


def test_who_needs_another_for_its_last_words_ends_first() -> None:
    thread = LoopThread("test")
    began, ended, order = threading.Semaphore(0), Future[BaseException | None](), []

    async def work(name: str) -> None:
        try:
            began.release()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            order.append(name)

    for name in ("signalling", "link"):
        thread.start(name, partial(work, name), ended.set_result if name == "link" else lambda error: None)
        assert began.acquire(timeout=20)
    thread.close(first=["link", "gone already"])
    assert order == ["link", "signalling"] and ended.result(20) is None


def test_loop_thread_tells_what_failed() -> None:
    thread = LoopThread("test")
    failed, cancelled = Future[BaseException | None](), Future[BaseException | None]()

    async def fail() -> None:
        raise ChannelError("as expected")

    async def forever() -> None:
        await asyncio.Event().wait()

    async def wait_for_itself() -> None:
        with pytest.raises(RuntimeError, match="its own event loop"):
            thread.call(_answer())

    try:
        thread.start(1, fail, failed.set_result)
        assert isinstance(failed.result(20), ChannelError)
        thread.start(2, forever, cancelled.set_result)
        thread.cancel(2)
        assert cancelled.result(20) is None
        thread.call(wait_for_itself())
    finally:
        thread.close()

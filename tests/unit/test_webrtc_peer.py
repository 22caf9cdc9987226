"""The end of one connection."""

from __future__ import annotations

import asyncio

import pytest

from channel.webrtc.link import PeerLink
from channel.webrtc.peer import Connection
from channel.webrtc.settings import WebRtcConfig
from common.clock import VirtualClock


async def test_cancelled_while_the_library_closes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    link = PeerLink("far", VirtualClock(2.0), asyncio.get_running_loop(), 4)
    connection = Connection(link, WebRtcConfig(), 1)
    connection._peer.createDataChannel("any")
    transport = connection._peer.sctp.transport
    stop, go_on = transport.stop, asyncio.Event()

    async def slowly() -> None:
        await go_on.wait()
        await stop()

    monkeypatch.setattr(transport, "stop", slowly)
    by_itself = asyncio.create_task(connection._peer.close())  # what aiortc does when the far end has closed
    ours = asyncio.create_task(connection.close())
    for _ in range(5):
        await asyncio.sleep(0)
    ours.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ours
    go_on.set()
    await by_itself
    assert connection._peer.connectionState == "closed"

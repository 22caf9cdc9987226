"""One browser: newest wins, nothing piles up."""

from __future__ import annotations

import asyncio
import json

from receiver.web.viewers import WINDOW, Bucket, Viewer


class Recorded:
    """A socket that keeps what was sent; it takes nothing while `open` is clear."""

    def __init__(self) -> None:
        self.sent: list[str | bytes] = []
        self.open = asyncio.Event()
        self.open.set()

    async def send_str(self, data: str) -> None:
        await self.open.wait()
        self.sent.append(data)

    async def send_bytes(self, data: bytes) -> None:
        await self.open.wait()
        self.sent.append(data)

    async def close(self, *, code: int, message: bytes) -> bool:
        return True


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_browser_that_draws_nothing_gets_no_more_than_the_window() -> None:
    socket = Recorded()
    viewer = Viewer(socket, 0.0)
    sending = asyncio.create_task(viewer.send())
    for number in range(10):
        if viewer.ready:
            viewer.show(number, b"%d" % number, 0.0)
        await settle()
    assert socket.sent == [b"%d" % number for number in range(WINDOW)]
    viewer.drew(1, 0.04)
    assert viewer.ready and viewer.to_screen_ms == 40.0
    viewer.drew(99, 1.0)  # made up
    assert viewer.drawn == 1
    sending.cancel()


async def test_while_a_socket_is_stuck_only_the_newest_text_of_each_type_waits() -> None:
    socket = Recorded()
    socket.open.clear()
    viewer = Viewer(socket, 0.0)
    sending = asyncio.create_task(viewer.send())
    viewer.tell({"type": "stats", "n": 0})
    await settle()
    for n in range(1, 5):
        viewer.tell({"type": "stats", "n": n})
    viewer.tell({"type": "notice", "n": 9})
    socket.open.set()
    await settle()
    assert [json.loads(text)["n"] for text in socket.sent] == [0, 4, 9]
    sending.cancel()


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    bucket = Bucket(10.0, 3, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.15), bucket.take(0.16)] == [True, False]

"""Hand-over between threads."""

from __future__ import annotations

import threading

import pytest

from common.queues import BoundedQueue, DropCounter, Mailbox


def test_mailbox_keeps_the_newest_and_counts_the_rest() -> None:
    box: Mailbox[str] = Mailbox()
    for picture in ("a", "b", "c"):
        assert box.put(picture)
    assert (box.get(), box.get()) == ("c", None)
    assert box.drops == (("full", 2),)


def test_drop_oldest_keeps_order() -> None:
    queue: BoundedQueue[int] = BoundedQueue(3)
    for number in range(5):
        queue.put(number)
    assert len(queue) == 3
    assert [queue.get() for _ in range(4)] == [2, 3, 4, None]
    assert queue.drops == (("full", 2),)


def test_refuse_keeps_what_was_there() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2, "refuse")
    assert [queue.put(number) for number in range(3)] == [True, True, False]
    assert [queue.get(), queue.get()] == [0, 1]
    assert queue.drops == (("full", 1),)


def test_a_closed_queue_can_be_emptied_but_not_filled() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    queue.put(1)
    queue.close()
    queue.close()
    assert queue.closed
    assert not queue.put(2)
    assert (queue.get(None), queue.get(None)) == (1, None)
    assert queue.drops == (("closed", 1),)


def test_close_wakes_a_waiting_reader() -> None:
    queue: BoundedQueue[int] = BoundedQueue(1)
    got: list[int | None] = []
    reader = threading.Thread(target=lambda: got.append(queue.get(None)))
    reader.start()
    queue.close()
    reader.join(10)
    assert got == [None]


def test_nothing_is_lost_or_doubled_between_threads() -> None:
    queue: BoundedQueue[int] = BoundedQueue(10_000, "refuse")
    got: list[int] = []

    def read() -> None:
        while (item := queue.get(None)) is not None:
            got.append(item)

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [
        threading.Thread(target=lambda first=first: [queue.put(first + n) for n in range(1000)])
        for first in (0, 1000, 2000)
    ]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join(10)
    queue.close()
    for thread in readers:
        thread.join(10)
    assert sorted(got) == list(range(3000))
    assert queue.drops == ()


def test_capacity_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BoundedQueue(0)


def test_drop_counter_snapshot_is_frozen_and_sorted() -> None:
    drops = DropCounter()
    drops.add("late", 2)
    drops.add("full")
    drops.add("never", 0)
    before = drops.snapshot()
    drops.add("late")
    assert before == (("full", 1), ("late", 2))

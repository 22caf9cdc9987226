"""Hand-over between threads: bounded, closable, and honest about what was thrown away.

`Mailbox` carries pictures (only the newest matters), `BoundedQueue` carries what must keep its order.
`DropCounter` counts losses by reason, for these two and for every other bounded buffer of the project.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import Generic, Literal, TypeVar

T = TypeVar("T")

Drops = tuple[tuple[str, int], ...]
"""(reason, how many), sorted by reason: a frozen picture of a `DropCounter`."""


class DropCounter:
    """How much was dropped, by reason. Not locked: the owner does that where threads meet."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, reason: str, count: int = 1) -> None:
        """Count `count` more drops for `reason`; nothing is recorded for 0."""
        if count:
            self._counts[reason] += count

    def snapshot(self) -> Drops:
        """The counts so far, as a frozen value."""
        return tuple(sorted(self._counts.items()))


class BoundedQueue(Generic[T]):
    """First in, first out, at most `capacity` items; safe between threads.

    policy : when full, "drop_oldest" makes room (live data), "refuse" turns the new item away (requests)

    Drop reasons: "full" (displaced or refused), "closed" (put after `close`).
    """

    def __init__(self, capacity: int, policy: Literal["drop_oldest", "refuse"] = "drop_oldest") -> None:
        if capacity < 1:
            raise ValueError(f"a queue needs a capacity of at least 1, not {capacity}")
        self._capacity = capacity
        self._policy = policy
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._drops = DropCounter()
        self._closed = False

    def put(self, item: T) -> bool:
        """Add `item`; False when it was not accepted. Never blocks."""
        with self._changed:
            if self._closed:
                self._drops.add("closed")
                return False
            if len(self._items) >= self._capacity:
                self._drops.add("full")
                if self._policy == "refuse":
                    return False
                self._items.popleft()
            self._items.append(item)
            self._changed.notify()
            return True

    def get(self, timeout_s: float | None = 0.0) -> T | None:
        """The oldest item, waiting at most `timeout_s` (None: until there is one or the queue is closed).

        Items put before `close` still come out after it; None means there is none.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout_s)
            return self._items.popleft() if self._items else None

    def close(self) -> None:
        """Accept nothing more and wake everybody who waits. Closing twice is harmless."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called; items may still be inside."""
        with self._changed:
            return self._closed

    @property
    def drops(self) -> Drops:
        """What was thrown away so far, by reason."""
        with self._changed:
            return self._drops.snapshot()

    def __len__(self) -> int:
        with self._changed:
            return len(self._items)


class Mailbox(BoundedQueue[T]):
    """Room for one item; a newer one replaces it. What pictures travel in."""

    def __init__(self) -> None:
        super().__init__(capacity=1, policy="drop_oldest")

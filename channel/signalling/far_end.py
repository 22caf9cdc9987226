"""One other end in a room, as the client of that room sees it, and the inbox that its messages wait in."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

from channel.signalling.messages import Somebody
from common.errors import ChannelError, SemcastError

INBOX_MESSAGES = 256
_ANEW = "the other end was started anew"

T = TypeVar("T")


class Inbox(Generic[T]):
    """Bounded hand-over within one event loop; after `close` waiting for more raises its error."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = asyncio.Event()
        self._error: SemcastError | None = None

    def put(self, item: T) -> bool:
        """False when there is no room, or nobody listens any more."""
        if self._error is not None or len(self._items) >= self._capacity:
            return False
        self._items.append(item)
        self._changed.set()
        return True

    async def get(self) -> T:
        """The next one, in order; waits for it."""
        while not self._items:
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()
        return self._items.popleft()

    def close(self, error: SemcastError) -> None:
        """Nothing more comes, for this reason; the first one counts."""
        self._error = self._error or error
        self._changed.set()


class FarEnd:
    """One other end in the room.

    present : whether the server sees it now; it may come back
    replaced : another session of the same name is there instead, which must not get what is meant for this one
    """

    def __init__(self, card: Somebody, send: Callable[[Mapping[str, Any]], Awaitable[None]]) -> None:
        self.id = card.id
        self.session = card.session
        self.present, self.replaced = True, False
        self.inbox: Inbox[dict[str, Any]] = Inbox(INBOX_MESSAGES)
        self._send = send

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send an offer, answer, candidate, renew or bye once there is a connection; one that breaks may lose it.

        Raises UsageError for anything else, ChannelError when it is too large or the server cannot be had any more.
        """
        if self.replaced:
            raise ChannelError(_ANEW)
        await self._send({**message, "to": self.id})

    async def receive(self) -> dict[str, Any]:
        """The next message; raises ChannelError when none can come any more."""
        return await self.inbox.get()

    def replace(self) -> None:
        """Another session of this name is there: nothing is sent or comes any more."""
        self.replaced = True
        self.inbox.close(ChannelError(_ANEW))

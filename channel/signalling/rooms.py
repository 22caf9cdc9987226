"""Who is in which room, and who may talk to whom. No I/O: what is said goes to each member's `Outlet`.

A room has at most one sender. The sender sees and addresses every receiver; a receiver sees and addresses the sender
alone, and never learns who else is watching.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from channel.signalling.ice import IceServer
from channel.signalling.limits import Limits
from channel.signalling.messages import Joined, Left, Said, Somebody, Welcome
from channel.signalling.refusals import Reason, RefusedError
from channel.signalling.stats import Stats
from channel.signalling.tokens import Role


class Outlet(Protocol):
    """Where a member hears. Neither call waits or raises."""

    def deliver(self, text: str) -> None: ...
    def close(self, reason: Reason) -> None: ...


@dataclass(slots=True, eq=False)
class Member:
    """One connection of somebody. id : who; session : another one when its program was started anew"""

    id: str
    role: Role
    session: str
    outlet: Outlet

    @property
    def card(self) -> Somebody:
        return Somebody(id=self.id, role=self.role, session=self.session)


class Rooms:
    """All rooms of a server; one exists as long as somebody is in it."""

    def __init__(self, limits: Limits, stats: Stats) -> None:
        self._limits = limits
        self._stats = stats
        self._rooms: dict[str, dict[str, Member]] = {}
        self._present: Counter[Role] = Counter()

    @property
    def rooms(self) -> int:
        return len(self._rooms)

    @property
    def senders(self) -> int:
        return self._present["sender"]

    @property
    def receivers(self) -> int:
        return self._present["receiver"]

    def join(self, room: str, member: Member, ice_servers: Sequence[IceServer] = ()) -> None:
        """Let `member` in, in the place of its old connection if it has one; raises RefusedError."""
        members = self._rooms.get(room, {})
        old = members.get(member.id)
        self._check_place(members, member, old)
        self._rooms.setdefault(room, members)[member.id] = member
        self._present[member.role] += 0 if old else 1
        self._stats.joined[member.role] += 1
        if old is not None:
            self._stats.replaced += 1
            old.outlet.close(Reason.REPLACED)
        others = _partners(members, member)
        member.outlet.deliver(self._welcome(member, others, ice_servers))
        _tell(others, Joined(**member.card.model_dump()).text())

    def leave(self, room: str, member: Member) -> None:
        """`member` has gone; nothing happens if another connection has taken its place."""
        members = self._rooms.get(room, {})
        if members.get(member.id) is not member:
            return
        del members[member.id]
        self._present[member.role] -= 1
        _tell(_partners(members, member), Left(id=member.id, role=member.role).text())
        if not members:
            del self._rooms[room]

    def relay(self, room: str, member: Member, said: Said) -> None:
        """Pass on what `member` says; raises RefusedError when nobody of that name can hear it."""
        members = self._rooms.get(room, {})
        if members.get(member.id) is not member:
            raise RefusedError(Reason.REPLACED)
        text = said.model_copy(update={"to": None, "from_": member.id}).text()
        _listener(members, member, said.to).outlet.deliver(text)
        self._stats.relayed[said.type] += 1
        self._stats.relayed_bytes += len(text.encode())

    def _check_place(self, members: dict[str, Member], member: Member, old: Member | None) -> None:
        if old is not None:
            if old.role != member.role:
                raise RefusedError(Reason.OTHER_ROLE)
        elif not members and len(self._rooms) >= self._limits.max_rooms:
            raise RefusedError(Reason.TOO_MANY_ROOMS)
        elif member.role == "sender" and any(other.role == "sender" for other in members.values()):
            raise RefusedError(Reason.SECOND_SENDER)
        elif len(members) >= self._limits.max_members - _kept_for_sender(members, member):
            raise RefusedError(Reason.ROOM_FULL)

    def _welcome(self, member: Member, others: Sequence[Member], ice: Sequence[IceServer]) -> str:
        return Welcome(
            id=member.id, role=member.role, members=[other.card for other in others], ice_servers=list(ice),
            max_message_bytes=self._limits.max_message_bytes,
        ).text()  # fmt: skip


def _kept_for_sender(members: dict[str, Member], member: Member) -> int:
    """Receivers that came early must not keep the sender out."""
    return int(member.role == "receiver" and all(other.role == "receiver" for other in members.values()))


def _partners(members: dict[str, Member], member: Member) -> list[Member]:
    return [other for other in members.values() if other.role != member.role]


def _listener(members: dict[str, Member], member: Member, to: str | None) -> Member:
    """Whom `member` addresses: the sender has to say whom, a receiver need not."""
    if to is None and member.role == "receiver":
        found = next(iter(_partners(members, member)), None)
    else:
        found = members.get(to or "")
    if found is None or found.role == member.role:
        raise RefusedError(Reason.UNKNOWN_MEMBER)
    return found


def _tell(members: Sequence[Member], text: str) -> None:
    for member in members:
        member.outlet.deliver(text)

"""Who is where, and who may talk to whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.signalling.limits import Limits
from channel.signalling.messages import Bye, Offer
from channel.signalling.refusals import Reason, RefusedError
from channel.signalling.rooms import Member, Rooms
from channel.signalling.stats import Stats
from channel.signalling.tokens import Role
from tests.unit.test_signalling_messages import Ears


def member(name: str, role: Role, session: str = "first") -> tuple[Member, Ears]:
    ears = Ears()
    return Member(name, role, session, ears), ears


def refusal(rooms: Rooms, room: str, who: Member) -> Reason:
    with pytest.raises(RefusedError) as raised:
        rooms.join(room, who)
    return raised.value.reason


def test_a_room_from_beginning_to_end() -> None:
    rooms = Rooms(Limits(), stats := Stats())
    sender, hears_sender = member("s", "sender")
    first, hears_first = member("a", "receiver")
    second, hears_second = member("b", "receiver")
    for one in (first, sender, second):
        rooms.join("studio", one)
    assert [m["type"] for m in hears_first.heard] == ["welcome", "joined"]
    assert hears_sender.heard[0]["members"] == [{"id": "a", "role": "receiver", "session": "first"}]
    assert hears_sender.heard[1] == {"type": "joined", "id": "b", "role": "receiver", "session": "first"}
    assert hears_second.heard[0]["members"] == [{"id": "s", "role": "sender", "session": "first"}]
    rooms.relay("studio", sender, Offer(sdp="v=0", to="b"))
    rooms.relay("studio", second, Bye())
    assert hears_second.heard[1:] == [{"from": "s", "type": "offer", "sdp": "v=0"}]
    assert hears_sender.heard[2:] == [{"from": "b", "type": "bye"}]
    assert (rooms.rooms, rooms.senders, rooms.receivers) == (1, 1, 2)
    for one in (sender, first, second):
        rooms.leave("studio", one)
    assert hears_first.heard[2:] == [{"type": "left", "id": "s", "role": "sender"}]
    assert (rooms.rooms, rooms.senders, rooms.receivers) == (0, 0, 0)
    assert stats.relayed == {"offer": 1, "bye": 1} and stats.joined == {"sender": 1, "receiver": 2}


def test_receivers_never_hear_of_one_another() -> None:
    rooms = Rooms(Limits(), Stats())
    first, hears = member("a", "receiver")
    second, _ = member("b", "receiver")
    rooms.join("studio", first)
    rooms.join("studio", second)
    with pytest.raises(RefusedError, match="cannot be talked to"):
        rooms.relay("studio", second, Bye(to="a"))
    rooms.leave("studio", second)
    assert [m["type"] for m in hears.heard] == ["welcome"]


def test_who_can_be_addressed() -> None:
    rooms = Rooms(Limits(), Stats())
    sender, _ = member("s", "sender")
    receiver, _ = member("a", "receiver")
    rooms.join("studio", sender)
    rooms.join("hall", receiver)
    for room, who, to in (("studio", sender, None), ("studio", sender, "a"), ("studio", sender, "s"),
                          ("hall", receiver, None), ("hall", receiver, "s")):  # fmt: skip
        with pytest.raises(RefusedError) as raised:
            rooms.relay(room, who, Bye(to=to))
        assert raised.value.reason is Reason.UNKNOWN_MEMBER


def test_limits() -> None:
    rooms = Rooms(Limits(max_rooms=1, max_members=3), Stats())
    for name in "ab":
        rooms.join("studio", member(name, "receiver")[0])
    assert refusal(rooms, "studio", member("c", "receiver")[0]) is Reason.ROOM_FULL  # kept for the sender
    rooms.join("studio", member("s", "sender")[0])
    assert refusal(rooms, "studio", member("t", "sender")[0]) is Reason.SECOND_SENDER
    assert refusal(rooms, "studio", member("c", "receiver")[0]) is Reason.ROOM_FULL
    assert refusal(rooms, "hall", member("c", "receiver")[0]) is Reason.TOO_MANY_ROOMS
    assert (rooms.rooms, rooms.senders, rooms.receivers) == (1, 1, 2)


def test_who_comes_again_takes_the_place_of_the_old_connection() -> None:
    rooms = Rooms(Limits(max_members=2), stats := Stats())
    old, hears_old = member("s", "sender")
    receiver, hears = member("a", "receiver")
    new, hears_new = member("s", "sender", "second")
    for one in (old, receiver, new):
        rooms.join("studio", one)
    assert hears_old.closed == [Reason.REPLACED] and stats.replaced == 1
    assert hears.heard[-1] == {"type": "joined", "id": "s", "role": "sender", "session": "second"}
    with pytest.raises(RefusedError):
        rooms.relay("studio", old, Bye(to="a"))
    rooms.leave("studio", old)
    rooms.relay("studio", receiver, Bye())
    assert hears_new.heard[-1] == {"from": "a", "type": "bye"} and rooms.senders == 1
    assert refusal(rooms, "studio", member("s", "receiver")[0]) is Reason.OTHER_ROLE


@given(
    st.lists(
        st.tuples(st.sampled_from("xyz"), st.sampled_from("abcd"), st.booleans(), st.booleans()), max_size=40
    )
)
def test_counts_stay_right(steps: list[tuple[str, str, bool, bool]]) -> None:
    rooms = Rooms(Limits(max_rooms=2, max_members=3), Stats())
    inside: dict[tuple[str, str], Member] = {}
    for room, name, sends, comes in steps:
        if not comes:
            if found := inside.pop((room, name), None):
                rooms.leave(room, found)
            continue
        who = member(name, "sender" if sends else "receiver")[0]
        try:
            rooms.join(room, who)
        except RefusedError:
            continue
        inside[room, name] = who
    roles = [who.role for who in inside.values()]
    assert (rooms.senders, rooms.receivers) == (roles.count("sender"), roles.count("receiver"))
    assert rooms.rooms == len({room for room, _ in inside}) <= 2
    for room in "xyz":
        here = [who.role for (place, _), who in inside.items() if place == room]
        assert here.count("sender") <= 1 and len(here) <= 3

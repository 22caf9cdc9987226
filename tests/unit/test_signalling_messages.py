"""What is said is checked: any bytes are a message or a refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.signalling.limits import Limits
from channel.signalling.messages import (
    Bye,
    Candidate,
    Joined,
    Left,
    Offer,
    Refused,
    Welcome,
    parse_heard,
    parse_said,
)
from channel.signalling.refusals import Reason, RefusedError
from channel.signalling.rooms import Member, Rooms
from channel.signalling.stats import Stats

CANDIDATE = "candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
near_messages = st.fixed_dictionaries(
    {"type": st.sampled_from(["offer", "answer", "candidate", "bye", "welcome", "x"]) | json_values},
    optional={
        "sdp": st.text() | json_values, "to": st.sampled_from(["a", "b"]) | json_values, "from": json_values,
        "candidate": st.text() | json_values, "sdpMid": json_values, "sdpMLineIndex": json_values,
    },
)  # fmt: skip


class Ears:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.closed: list[Reason] = []

    def deliver(self, text: str) -> None:
        self.heard.append(json.loads(text))

    def close(self, reason: Reason) -> None:
        self.closed.append(reason)


@given(
    st.binary()
    | st.text()
    | near_messages.map(json.dumps)
    | near_messages.map(lambda m: json.dumps(m).encode())
)
def test_any_bytes_are_refused_or_relayed(data: bytes | str) -> None:
    rooms, sender, receiver = Rooms(Limits(), Stats()), Ears(), Ears()
    speaker = Member("a", "receiver", "s", receiver)
    rooms.join("r", speaker)
    rooms.join("r", Member("b", "sender", "s", sender))
    before = len(sender.heard)
    try:
        rooms.relay("r", speaker, parse_said(data))
    except RefusedError:
        assert len(sender.heard) == before
    else:
        (heard,) = sender.heard[before:]
        said = json.loads(data)
        assert heard["from"] == "a" and "to" not in heard and heard["type"] == said["type"]
        assert heard.get("sdp") == said.get("sdp")


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{}", "1", '{"type": "offer"}', '{"type": "offer", "sdp": 1}', '{"type": "bye", "more": 1}',
        '{"type": "offer", "sdp": "v=0", "from": "b"}', '{"type": "bye", "to": "a b"}', '{"type": "bye", "from_": "b"}',
        '{"type": "welcome", "id": "a", "role": "sender", "max_message_bytes": 1}', '{"type": "joined"}',
        '{"type": "bye", "to": "' + "x" * 33 + '"}', "[" * 100_000, '{"type": "candidate", "sdpMLineIndex": -1}',
        '{"type": "bye", "reason": "\\ud800"}', '{"type": "bye"} x',
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(RefusedError) as raised:
        parse_said(text)
    assert raised.value.reason is Reason.MALFORMED
    assert raised.value.__cause__ is None and (not text or text not in str(raised.value))


def test_said() -> None:
    assert parse_said('{"type": "offer", "sdp": "v=0", "to": "a"}') == Offer(sdp="v=0", to="a")
    text = json.dumps({"type": "candidate", "candidate": CANDIDATE, "sdpMid": "0", "sdpMLineIndex": 0})
    assert parse_said(text) == Candidate(candidate=CANDIDATE, sdpMid="0", sdpMLineIndex=0)
    assert parse_said('{"type": "candidate", "candidate": null}') == Candidate()


@pytest.mark.parametrize(
    "message",
    [
        Welcome(id="a", role="sender", max_message_bytes=10),
        Joined(id="a", role="receiver", session="s"),
        Left(id="a", role="receiver"),
        Refused(reason=Reason.TOO_FAST, message="slower"),
        Offer(sdp="v=0", from_="b"),
        Bye(from_="b"),
    ],
)
def test_heard_as_said(message: Welcome | Joined | Left | Refused | Offer | Bye) -> None:
    assert parse_heard(message.text()) == message

"""A token lets one member into one room for a time; whatever else it is made into lets nobody in."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.signalling.refusals import Reason, RefusedError
from channel.signalling.tokens import (
    Grant,
    Role,
    check_token,
    find_secret,
    grant_for,
    issue_token,
)
from common.errors import ConfigError

SECRET = b"a secret of sufficient length"
NOW_S = 1_800_000_000.0
GRANT = Grant(room="studio", role="sender", expires_s=int(NOW_S) + 60, nonce="abcdef012345")
TOKEN = issue_token(SECRET, GRANT)

names = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
roles: st.SearchStrategy[Role] = st.sampled_from(["sender", "receiver"])


def reason_for(token: str, room: str = "studio", role: str | None = None, now_s: float = NOW_S) -> Reason:
    with pytest.raises(RefusedError) as raised:
        check_token(SECRET, token, room, role, now_s)
    return raised.value.reason


@given(names, roles, st.binary(min_size=16, max_size=80))
def test_what_is_issued_is_accepted(room: str, role: Role, secret: bytes) -> None:
    grant = grant_for(room, role, 10, NOW_S)
    token = issue_token(secret, grant)
    assert (
        check_token(secret, token, room, role, NOW_S)
        == check_token(secret, token, room, None, NOW_S)
        == grant
    )
    assert grant.expires_s == NOW_S + 600


@given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_any_change_refuses(place: int, other: str) -> None:
    changed = TOKEN[:place] + other + TOKEN[place + 1 :]
    if changed != TOKEN:
        assert reason_for(changed) is Reason.BAD_TOKEN


def test_every_byte_counts() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
    for place in range(len(TOKEN)):
        for other in letters.replace(TOKEN[place], ""):
            assert reason_for(TOKEN[:place] + other + TOKEN[place + 1 :]) is Reason.BAD_TOKEN


@given(
    st.text(min_size=1, max_size=700) | st.sampled_from([TOKEN + "=", TOKEN + ".", TOKEN[:-1], " " + TOKEN])
)
def test_any_other_text_refuses(text: str) -> None:
    assert reason_for(text) is Reason.BAD_TOKEN


def test_reasons() -> None:
    assert reason_for("") is Reason.NO_TOKEN
    assert reason_for(TOKEN, now_s=NOW_S + 60) is Reason.EXPIRED_TOKEN
    assert reason_for(TOKEN, room="Studio") is Reason.OTHER_ROOM
    assert reason_for(TOKEN, role="receiver") is Reason.OTHER_ROLE
    assert reason_for(issue_token(SECRET + b"!", GRANT)) is Reason.BAD_TOKEN
    assert check_token(SECRET, TOKEN, "studio", "sender", NOW_S + 59.9) == GRANT


def test_a_signature_for_something_else_is_no_token() -> None:
    import hmac

    payload = TOKEN.partition(".")[0]
    signature = hmac.digest(SECRET, payload.encode(), "sha256")
    assert reason_for(f"{payload}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}") is Reason.BAD_TOKEN


def test_tokens_differ() -> None:
    first, second = (grant_for("studio", "sender", 10, NOW_S) for _ in range(2))
    assert first.nonce != second.nonce


@pytest.mark.parametrize(
    ("room", "role", "minutes", "message"),
    [
        ("a b", "sender", 1, "room"),
        ("", "sender", 1, "room"),
        ("x" * 65, "sender", 1, "room"),
        ("studio\n", "sender", 1, "room"),
        ("studio", "cook", 1, "role"),
        ("studio", "sender", 0, "minutes"),
        ("studio", "sender", float("nan"), "minutes"),
        ("studio", "sender", 1e9, "minutes"),
    ],
)
def test_impossible_grants(room: str, role: str, minutes: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grant_for(room, role, minutes, NOW_S)


def test_where_the_secret_is_found(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("  from the file, long enough \n")
    environment = {"SEMCAST_SECRET": "from the environment"}
    assert find_secret(None, {}) is None
    assert find_secret(None, environment) == b"from the environment"
    assert find_secret(file, environment) == b"from the file, long enough"


def test_secrets_that_will_not_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 0 bytes, at least 16"):
        find_secret(None, {"SEMCAST_SECRET": "  "})
    with pytest.raises(ConfigError, match="cannot read the secret"):
        find_secret(tmp_path / "none", {})
    with pytest.raises(ConfigError) as raised:
        find_secret(None, {"SEMCAST_SECRET": "hunter2"})
    assert "hunter2" not in str(raised.value)


def test_a_signed_grant_of_another_kind_is_refused() -> None:
    from channel.signalling.tokens import _signature

    for document in ({}, {"room": "studio"}, [], {**GRANT.model_dump(), "admin": True}):
        payload = urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()
        assert reason_for(f"{payload}.{_signature(SECRET, payload)}") is Reason.BAD_TOKEN

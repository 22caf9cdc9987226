"""Limits on a clock that is moved by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.signalling.limits import FailedTokens, Limits, TokenBucket, network_of


def test_a_burst_then_the_rate() -> None:
    bucket = TokenBucket(2.0, 3, 10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(10.4)
    assert bucket.take(10.5) and not bucket.take(10.5)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_looking_takes_nothing() -> None:
    bucket = TokenBucket(1.0, 1, 0.0)
    assert bucket.has(0.0) and bucket.has(0.0) and bucket.take(0.0) and not bucket.has(0.0)


@given(st.floats(0.1, 100), st.integers(1, 50), st.lists(st.floats(0, 2), max_size=200))
def test_never_more_than_burst_and_rate(per_s: float, burst: int, gaps_s: list[float]) -> None:
    bucket, now_s, taken = TokenBucket(per_s, burst, 0.0), 0.0, 0
    for gap_s in gaps_s:
        now_s += gap_s
        taken += bucket.take(now_s)
        assert taken <= burst + per_s * now_s + 1e-6


def test_wrong_tokens_of_one_address() -> None:
    failed = FailedTokens(Limits(failed_tokens=3, failed_tokens_per_min=6))
    for _ in range(3):
        assert failed.may_try("a", 0.0)
        failed.failed("a", 0.0)
    assert not failed.may_try("a", 9.9) and failed.may_try("b", 9.9)
    assert failed.may_try("a", 10.0)


def test_addresses_are_forgotten_oldest_first() -> None:
    failed = FailedTokens(Limits(failed_tokens=1, addresses=2))
    for name in "abac":
        failed.failed(name, 0.0)
    assert [failed.may_try(name, 0.0) for name in "abc"] == [False, True, False]


@pytest.mark.parametrize(
    ("remote", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::1", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        (None, "unknown"),
        ("nonsense", "unknown"),
    ],
)
def test_networks(remote: str | None, network: str) -> None:
    assert network_of(remote) == network

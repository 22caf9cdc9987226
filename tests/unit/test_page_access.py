"""Who may open the page: this machine, or who has the token; never another site's page."""

from __future__ import annotations

import pytest

from receiver.web.access import Access

HERE = Access.to("127.0.0.1")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "localhost:9000", "[::1]:8080", "localhost", "LOCALHOST:1"]
)
def test_this_machine_needs_no_token(host: str) -> None:
    assert HERE.token == ""
    assert HERE.refusal(host, None, "") is None
    assert HERE.refusal(host, f"http://{host}", "") is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8080",
        "192.168.1.5:8080",
        "0.0.0.0:8080",
        "",
        "a@localhost",
        "localhost:x",
        "[::1",
        "x/y",
    ],
)
def test_a_name_that_points_here_does_not_count(host: str) -> None:
    assert "name" in str(HERE.refusal(host, None, ""))


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:9", "null", "http://localhost:8080"]
)
def test_another_page_is_refused(origin: str) -> None:
    assert "Another site" in str(HERE.refusal("127.0.0.1:8080", origin, ""))


def test_an_address_that_others_reach_needs_its_own_token() -> None:
    access, other = Access.to("0.0.0.0"), Access.to("0.0.0.0")
    assert len(access.token) >= 24 and access.token != other.token
    assert access.refusal("192.168.1.5:8080", None, access.token) is None
    for token in ("", other.token, access.token[:-1], "ä"):
        assert "token" in str(access.refusal("192.168.1.5:8080", None, token))
    assert "name" in str(access.refusal("evil.example", None, access.token))


def test_what_is_no_origin_or_no_text_is_refused_too() -> None:
    """Headers and queries may hold bytes that are no text."""
    access = Access("0.0.0.0", "the token")
    for origin in ("http://[", "http://[x]", "\udcff"):
        assert "Another site" in str(access.refusal("192.0.2.1:8080", origin, "the token"))
    assert "lacks its token" in str(access.refusal("192.0.2.1:8080", None, "\udcff"))

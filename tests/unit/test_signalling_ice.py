"""ICE servers: handed out as configured, with credentials that coturn would accept; nothing unless configured."""

from __future__ import annotations

import hmac
from base64 import b64decode
from pathlib import Path

import pytest

from channel.signalling.ice import load_ice
from common.errors import ConfigError

CONFIGURED = """
[[server]]
urls = ["stun:stun.example.org:3478", "stuns:[2001:db8::1]:5349"]

[[server]]
urls = ["turn:turn.example.org:3478?transport=udp"]
username = "semcast"
credential = "fixed"

[[server]]
urls = ["turns:turn.example.org"]
secret_file = "turn.secret"
minutes = 2
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "ice.toml"
    path.write_text(text, encoding="utf-8")
    (folder / "turn.secret").write_text("north\n", encoding="utf-8")
    return path


def test_what_a_member_gets(tmp_path: Path) -> None:
    stun, fixed, limited = (s.for_member("abc", 1000.5) for s in load_ice(written(tmp_path, CONFIGURED)))
    assert stun.model_dump(exclude_none=True) == {
        "urls": ["stun:stun.example.org:3478", "stuns:[2001:db8::1]:5349"]
    }
    assert (fixed.username, fixed.credential) == ("semcast", "fixed")
    assert limited.username == "1120:abc"
    assert limited.credential is not None
    assert b64decode(limited.credential) == hmac.digest(b"north", b"1120:abc", "sha1")


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    servers = load_ice(written(tmp_path, CONFIGURED))
    given = [server.for_member("abc", 0.0) for server in servers]
    assert not any(word in repr((servers, given)) for word in ("fixed", "north", str(given[2].credential)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "server"),
        ("server = [", "not valid TOML"),
        ('[[servers]]\nurls = ["stun:a"]', "server"),
        ('[[server]]\nurl = ["stun:a"]', "urls"),
        ('[[server]]\nurls = ["http://a"]', "stun:HOST"),
        ('[[server]]\nurls = ["stun:a?transport=udp"]', "stun:HOST"),
        ('[[server]]\nurls = ["turn:a"]', "turn needs"),
        ('[[server]]\nurls = ["turn:a"]\nusername = "x"', "belong together"),
        ('[[server]]\nurls = ["turn:a"]\nusername = "x"\ncredential = "hush"\nsecret = "hush"', "either"),
        ('[[server]]\nurls = ["stun:a"]\nsecret = "hush"', "no credentials"),
        ('[[server]]\nurls = ["turn:a"]\nsecret = "hush"\nminutes = 0', "minutes"),
        ('[[server]]\nurls = ["turn:a"]\nsecret_file = "none"', "cannot read the secret"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        load_ice(written(tmp_path, text))
    assert "hush" not in str(raised.value)

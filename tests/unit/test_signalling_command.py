"""`semcast signal` as the user meets it: tokens, one clear line for every mistake, and a clean end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from channel.signalling import command
from channel.signalling.client import RoomClient
from channel.signalling.command import Service, serve
from channel.signalling.limits import Limits
from channel.signalling.tokens import check_token
from cli import app
from common.clock import UnixClock
from common.errors import ChannelError
from tests.signalling import SECRET, running

ANYWHERE = "127.0.0.1:0"


@pytest.fixture(autouse=True)
def no_secret_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEMCAST_SECRET", raising=False)


def failure(*arguments: str) -> tuple[int, str]:
    """(exit code, what standard error says) of a command that fails."""
    result = CliRunner().invoke(app, ["signal", *arguments])
    assert result.exit_code and "Traceback" not in result.output
    return result.exit_code, " ".join(result.stderr.split())


def self_signed(folder: Path) -> tuple[Path, Path]:
    """(certificate for 127.0.0.1, its key), made for this test."""
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "semcast test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = builder.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_file, key_file


def test_a_new_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMCAST_SECRET", SECRET.decode())
    result = CliRunner().invoke(
        app, ["signal", "--new-token", "studio", "--role", "sender", "--minutes", "60"]
    )
    assert result.exit_code == 0 and result.stdout.count("\n") == 1
    now_s = UnixClock().now_s()
    grant = check_token(SECRET, result.stdout.strip(), "studio", "sender", now_s)
    assert 3500 < grant.expires_s - now_s <= 3600


def test_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ice = tmp_path / "ice.toml"
    ice.write_text('[[server]]\nurls = ["http://x"]\n')
    cert, _ = self_signed(tmp_path)
    (tmp_path / "secret").write_text("short")
    for arguments, message in [
        ((), "no secret to check tokens with: set SEMCAST_SECRET"),
        (("--new-token", "studio"), "needs a role"),
        (("--new-token", "studio", "--role", "sender"), "no secret to sign"),
        (("--secret-file", str(tmp_path / "secret")), "at least 16"),
        (("--open", "--listen", "nonsense"), "write HOST:PORT"),
        (("--open", "--key", "key.pem"), "--key needs --cert"),
        (("--open", "--cert", str(tmp_path / "none.pem")), "cannot read"),
        (("--open", "--cert", str(ice)), "must be PEM"),
        (("--open", "--cert", str(cert)), "must be PEM"),  # no key in it
        (("--open", "--ice-config", str(ice)), "write stun:HOST"),
        (("--open", "--max-rooms", "0"), "--max-rooms"),
    ]:
        code, text = failure(*arguments)
        assert code == 2 and message in text, (arguments, text)
    monkeypatch.setenv("SEMCAST_SECRET", SECRET.decode())
    assert failure("--open") == (
        2,
        "semcast: --open lets everybody in, yet there is a secret: leave out --open, or SEMCAST_SECRET",
    )


def test_port_in_use() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        code, text = failure("--open", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert code == 1 and "cannot listen on 127.0.0.1" in text and "choose another port" in text


def test_a_host_that_is_not_there() -> None:
    code, text = failure("--open", "--listen", "no such host:1")
    assert code == 1 and "no such host" in text


def test_without_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert failure("--open") == (
        2,
        "semcast: signalling needs aiohttp, which is not installed: pip install 'semcast[live]'",
    )


def test_nothing_heavy_is_imported_for_a_token() -> None:
    code = "import sys, channel.signalling.command; print('aiohttp' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_help_has_an_example() -> None:
    result = CliRunner().invoke(app, ["signal", "--help"])
    assert result.exit_code == 0 and "semcast signal --new-token studio" in " ".join(result.stdout.split())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed: list[str] = []

    def listening(text: str, flush: bool) -> None:
        printed.append(text)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(command, "print", listening, raising=False)
    serve(Service(ANYWHERE, open_=True), Limits())
    assert json.loads(printed[0])["listening"].startswith("ws://127.0.0.1:")
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event["event"] for event in events] == ["open", "stopping"]


def test_tokens_in_the_clear_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEMCAST_SECRET", SECRET.decode())
    monkeypatch.setattr(
        command, "print", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM), raising=False
    )
    serve(Service("0.0.0.0:0"), Limits())
    logged = capsys.readouterr().err
    assert json.loads(logged.splitlines()[0])["event"] == "no_tls" and SECRET.decode() not in logged


def test_behind_a_proxy_the_proxy_sees_to_tls(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEMCAST_SECRET", SECRET.decode())
    monkeypatch.setattr(
        command, "print", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM), raising=False
    )
    result = CliRunner().invoke(app, ["signal", "--listen", "0.0.0.0:0", "--behind-proxy"])
    assert result.exit_code == 0
    logged = (result.stderr + capsys.readouterr().err).splitlines()
    assert [json.loads(line)["event"] for line in logged] == ["stopping"]


async def test_tls(tmp_path: Path) -> None:
    import ssl

    cert, key = self_signed(tmp_path)
    context = command.tls_context(cert, key)
    async with running(tls=context) as host:
        url = host.room_url(host.token("sender")).replace("ws:", "wss:")
        async with RoomClient(url, "sender", tls=ssl.create_default_context(cafile=cert)) as room:
            assert room.welcome.role == "sender"
        with pytest.raises(ChannelError, match="is not trusted"):
            async with RoomClient(url, "sender"):
                pass
        with pytest.raises(ChannelError, match="cannot reach"):
            async with RoomClient(url.replace("wss:", "ws:"), "sender"):
                pass

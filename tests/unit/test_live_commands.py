"""`semcast send` and `semcast receive` where something is wrong: one clear line, and nothing heavy is loaded first."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from typer.testing import CliRunner

from benchmarks.live import room, send, streams
from cli import app

SMALL = ("--size", "64x64", "--set", "semantics.enabled=false")
TOO_EARLY = "was loaded before the mistake was found"


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SEMCAST_URL", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources and decoders cannot be had."""

    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise AssertionError(TOO_EARLY)

    monkeypatch.setattr(send, "open_input", refuse)
    monkeypatch.setattr(streams, "open_painter", refuse)


@contextmanager
def taken_port(listening: bool = True) -> Iterator[int]:
    """A port of this machine that nothing else can use; nobody is `listening` there, or nobody answers."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        if listening:
            taken.listen()
        yield taken.getsockname()[1]


def failure(*arguments: str) -> tuple[int, str]:
    """(exit code, what standard error says) of a command that fails."""
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result.exit_code, " ".join(result.stderr.split())


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("send",), "nowhere to send to: give --to what `semcast receive` printed"),
        (("send", "--to", ""), "nowhere to send to"),
        (
            ("send", "--to", "https://192.0.2.1/live"),
            "it begins with https:; write wss://HOST:PORT/ROOM?token=TOKEN",
        ),
        (("send", "--to", "192.0.2.1:8081"), "is no room"),
        (("send", "--to", "ws://192.0.2.1:8081"), "there is no room in it"),
        (("send", "--to", "udp://192.0.2.1"), "write HOST:PORT"),
        (("send", "--to", "udp://:5004"), "it needs a host and a port"),
        (("send", "--to", "udp://192.0.2.1:5004", "--metrics", "9101"), "write HOST:PORT"),
        (("send", "--to", "udp://192.0.2.1:5004", "--bitrate", "0"), "the least is 1k"),
        (("receive", "--udp", ":5004", "--from", "ws://192.0.2.1:8081/live"), "choose one"),
        (("receive", "--from", "http://192.0.2.1/live"), "it begins with http:"),
        (("receive", "--udp", "nonsense"), "write HOST:PORT"),
        (("receive", "--listen", "8080"), "write HOST:PORT"),
        (("receive", "--output", "ftp://192.0.2.1/x"), "is not understood; write"),
        (("receive", "--output", "rtmp://192.0.2.1"), "needs a server and a path"),
        (("receive", "--channel", "analog:snr_db=7"), "can only be made worse by a packet channel"),
        (("receive", "--channel", "awgn:snr_db=7"), "can only be made worse by a packet channel"),
        (("receive", "--channel", "packet:los=0.1"), "did you mean `loss`"),
        (("receive", "--idle-s", "0"), "--idle-s"),
        (("receive", "--steps", "3"), "steps"),
    ],
)
def test_wrong_usage_is_found_before_anything_is_loaded(arguments: tuple[str, ...], message: str) -> None:
    code, text = failure(*arguments)
    assert code == 2 and message in text and TOO_EARLY not in text, text


@pytest.mark.usefixtures("light")
def test_a_token_is_never_shown() -> None:
    for command in (("send", "--to"), ("receive", "--from")):
        code, text = failure(*command, "ws://192.0.2.1:8081/a/b?token=SECRET")
        assert code == 2 and "SECRET" not in text


@pytest.mark.usefixtures("light")
def test_the_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMCAST_URL", "ftp://192.0.2.1/live")
    for command in ("send", "receive"):
        code, text = failure(command)
        assert code == 2 and "it begins with ftp:" in text


@pytest.mark.usefixtures("light")
def test_a_place_that_takes_no_recordings(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, text = failure("receive", "--out", str(tmp_path / "file"))
    assert code == 1 and "is a file, not a folder; choose another folder" in text


@pytest.mark.usefixtures("light")
def test_a_page_whose_port_is_in_use() -> None:
    with taken_port() as port:
        code, text = failure("receive", "--listen", f"127.0.0.1:{port}")
    assert code == 1 and f"cannot serve the page on 127.0.0.1:{port}" in text and "choose another" in text


@pytest.mark.usefixtures("light")
def test_an_output_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, text = failure("receive", "--output", f"hls:{tmp_path / 'file' / 'folder'}")
    assert code == 1 and "cannot be made" in text


def test_weights_that_are_missing(tmp_path: Path) -> None:
    code, text = failure("receive", "--listen", "127.0.0.1:0", "--decoder", str(tmp_path / "none"))
    assert code == 1 and "none" in text


def test_a_source_that_is_not_there() -> None:
    code, text = failure("send", "none.mp4", "--to", "udp://127.0.0.1:9")
    assert code == 1 and "none.mp4: cannot be opened" in text


def test_ports_in_use() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
        taken.bind(("127.0.0.1", 0))
        there = f"127.0.0.1:{taken.getsockname()[1]}"
        code, text = failure("receive", "--listen", "127.0.0.1:0", "--steps", "0", "--udp", there)
    assert code == 1 and f"cannot listen on {there}" in text


def test_a_signalling_server_that_is_not_there() -> None:
    with taken_port(listening=False) as port:
        where = f"ws://127.0.0.1:{port}/live?token=SECRET"
        for command in (
            ("send", *SMALL, "--to", where),
            ("receive", "--listen", "127.0.0.1:0", "--steps", "0", "--from", where),
        ):
            code, text = failure(*command)
            assert (
                code == 1
                and f"cannot reach the signalling server ws://127.0.0.1:{port}" in text
                and "SECRET" not in text
            )


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_START_S", 0.1)
    with taken_port() as port:
        code, text = failure(
            "receive", "--listen", "127.0.0.1:0", "--steps", "0", "--from", f"ws://127.0.0.1:{port}/live"
        )
    assert code == 1 and f"ws://127.0.0.1:{port} takes connections and says nothing" in text

"""The log on standard error."""

from __future__ import annotations

import json

import pytest

from common.logs import stderr_log


def test_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log = stderr_log()
    log.debug("too much")
    log.warning("refused", reason="bad_token")
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    event = json.loads(line)
    assert (event.pop("timestamp").endswith("Z"), said.out) == (True, "")
    assert event == {"event": "refused", "reason": "bad_token", "level": "warning"}


def test_for_people_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    stderr_log().info("listening", port=8765)
    text = capsys.readouterr().err
    assert "listening" in text and "8765" in text and not text.startswith("{")

"""How a command ends: one line on standard error, and an exit code."""

from __future__ import annotations

import pytest
import typer

from common.errors import SourceError, UsageError
from common.options import reported


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("no [such] clip"), 2, "semcast: no [such] clip"),
        (SourceError("a.mp4: " + "cannot be read " * 20), 1, "semcast: a.mp4: " + "cannot be read " * 20),
        (KeyboardInterrupt(), 1, "semcast: interrupted; results written so far, if any, are kept"),
    ],
)
def test_what_is_expected_is_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @reported
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as ended:
        command()
    assert (ended.value.exit_code, capsys.readouterr().err) == (code, f"{line}\n")


def test_what_is_not_expected_is_not_hidden() -> None:
    @reported
    def command() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command()

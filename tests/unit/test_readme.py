"""The commands that the documents show can be given as they stand: every one is parsed, none is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "docs/live.md", "docs/gate.md", "docs/security.md")


def shown_commands(text: str) -> Iterator[str]:
    """What stands behind `semcast` in blocks of code, without the explanation beside it."""
    for block in re.findall(r"^ *```\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            found = re.search(r"(?:^|--no-python |run .*signalling )\s*semcast (.*)", line)
            command = re.split(r"\s{2,}(?![-\s])|\s# |\s&", found[1])[0] if found else ""
            if command and not command.endswith(" ..."):
                yield command


COMMANDS = sorted({found for name in DOCUMENTS for found in shown_commands((ROOT / name).read_text("utf-8"))})
WHOLE = get_command(app)


def parse(command: str) -> str:
    """The path of the command that was named; raises what the program would where it cannot be given so."""
    named: Any = WHOLE
    arguments, path = shlex.split(command), list[str]()
    while hasattr(named, "commands"):
        path.append(arguments.pop(0))
        assert path[-1] in named.commands, f"there is no command {' '.join(path)}"
        named = named.commands[path[-1]]
    named.make_context(" ".join(path), arguments)
    return " ".join(path)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_shown_can_be_given(command: str) -> None:
    assert parse(command)


def test_there_are_commands_to_be_looked_at() -> None:
    assert {"demo", "encode", "send", "gate", "train calibrate", "bench rd"} <= set(map(parse, COMMANDS))


def test_a_command_that_lacks_what_it_needs_is_found() -> None:
    with pytest.raises(Exception, match="out"):
        parse("train calibrate --clips clips/")

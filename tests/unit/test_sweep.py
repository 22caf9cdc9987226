"""The runner of long sweeps: nothing is done twice, whatever ended the run before."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from benchmarks.kept import kept_result
from benchmarks.report import Model
from benchmarks.sweep import run_all
from common.errors import SemcastError, SourceError, UsageError

ROOT = Path(__file__).resolve().parents[2]
LOG, GATE = "log", "gate"


class Square(Model):
    value: int


@dataclass(frozen=True)
class SquareRun:
    """Squares a number, and says so in a file. Where there is a gate, those from `held` on wait before it for ever."""

    number: int
    held: int = 100

    @property
    def name(self) -> str:
        return f"square-{self.number}"

    @property
    def weight(self) -> int:
        return 10 - self.number

    def key(self) -> str:
        return f"{self.number}"

    def run(self, out: Path) -> Square:
        with (out / LOG).open("a") as log:
            log.write(f"{self.number}\n")
        if self.number >= self.held and (out / GATE).exists():
            (out / GATE).read_bytes()
        if self.number < 0:
            raise UsageError("no negative numbers")
        return Square(value=self.number**2)


@dataclass(frozen=True)
class EndingRun(SquareRun):
    """Takes its process with it."""

    def run(self, out: Path) -> Square:
        os._exit(3)


stored = partial(kept_result, kind=Square)


def log_of(out: Path) -> list[str]:
    return (out / LOG).read_text().split()


def test_the_longest_is_first_and_nothing_is_done_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [SquareRun(number) for number in (3, 1, 2, 1)]
    found = run_all(runs, tmp_path, 1, "squares", stored)
    assert found == {run: Square(value=run.number**2) for run in runs}
    assert log_of(tmp_path) == ["1", "2", "3"]
    assert run_all([*runs, SquareRun(0)], tmp_path, 1, "squares", stored).items() >= found.items()
    assert log_of(tmp_path) == ["1", "2", "3", "0"]
    shown = capsys.readouterr()
    assert "squares, 0 left" in shown.err and not shown.out


def test_processes_leave_the_same_files(tmp_path: Path) -> None:
    runs = [SquareRun(number) for number in range(4)]
    files = []
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        out.mkdir()
        run_all(runs, out, jobs, "squares", stored)
        files.append({path.name: path.read_bytes() for path in (out / "runs").iterdir()})
    assert files[0] == files[1] and len(files[0]) == 4


CHILD = """
import sys
from pathlib import Path
from benchmarks.sweep import run_all
from tests.unit.test_sweep import SquareRun, stored

if __name__ == "__main__":
    run_all([SquareRun(number, 2) for number in range(6)], Path(sys.argv[1]), 2, "squares", stored)
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_killed_sweep_goes_on_where_it_stopped(tmp_path: Path) -> None:
    out, script = tmp_path / "out", tmp_path / "child.py"
    script.write_text(CHILD)
    out.mkdir()
    os.mkfifo(out / GATE)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, script, out]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        gate = (out / GATE).open("wb")  # opens when a run waits there
        child.kill()
        assert child.stdout is not None
        child.stdout.read()  # ends when the last process has
        gate.close()
    (out / GATE).unlink()
    runs = [SquareRun(number, 2) for number in range(6)]
    kept = [run for run in runs if stored(run, out)]
    before = log_of(out)
    found = run_all(runs, out, 1, "squares", stored)
    assert found == {run: Square(value=run.number**2) for run in runs}
    assert log_of(out)[len(before) :] == [str(run.number) for run in runs if run not in kept]
    assert kept and len(kept) < 6


def test_an_expected_failure_names_its_run_and_keeps_its_kind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^square--1: no negative numbers$"):
        run_all([SquareRun(-1)], tmp_path, 1, "squares", stored)


def test_an_unexpected_failure_is_not_hidden(tmp_path: Path) -> None:
    (tmp_path / LOG).mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        run_all([SquareRun(1)], tmp_path, 1, "squares", stored)
    assert not isinstance(caught.value, SourceError)


def test_a_process_that_ended_is_said(tmp_path: Path) -> None:
    with pytest.raises(SemcastError, match=r"a process ended while square-\d ran.*fewer --jobs"):
        run_all([EndingRun(1), EndingRun(2)], tmp_path, 2, "squares", stored)

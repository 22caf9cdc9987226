"""`semcast gate` as a command: exit codes, files, acceptance; and the workflow and hooks that call it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from benchmarks.gate import run
from benchmarks.gate.baseline import read_baseline, write_baseline
from benchmarks.gate.model import Part, Row
from cli import app
from common.errors import UsageError
from tests.gate_rows import ROWS, baseline, changed

ROOT = Path(__file__).parents[2]
RUNNER = CliRunner()


def gate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows: Sequence[Row], *options: str
) -> tuple[int, list[str]]:
    """Exit code and output of the command with these figures measured, against those of `baseline.json` there."""
    monkeypatch.setattr(run, "measure", lambda *args, **kwargs: list(rows))
    where = ["--baseline", str(tmp_path / "baseline.json"), "--out", str(tmp_path / "out")]
    result = RUNNER.invoke(app, ["gate", *where, *options])
    return result.exit_code, result.stdout.splitlines()


def test_nothing_moved_is_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_baseline(baseline(), tmp_path / "baseline.json")
    code, lines = gate(monkeypatch, tmp_path, ROWS)
    assert code == 0 and json.loads(lines[-1])["passed"] is True
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"gate.json", "gate.md"}


def test_a_regression_is_exit_code_1_and_acceptance_makes_it_good(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_baseline(baseline(), tmp_path / "baseline.json")
    worse = changed("bytes", 8800)
    code, lines = gate(monkeypatch, tmp_path, worse)
    assert code == 1 and json.loads(lines[-1])["passed"] is False
    assert any("talk: bytes" in line and "10.0x" in line for line in lines)
    code, lines = gate(monkeypatch, tmp_path, worse, "--accept", "larger on purpose")
    assert code == 0
    kept = read_baseline(tmp_path / "baseline.json")
    assert kept is not None and kept.history[-1].reason == "larger on purpose"
    assert kept.rows["talk: bytes"].value == 8800
    assert gate(monkeypatch, tmp_path, worse)[0] == 0


def test_a_first_baseline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, lines = gate(monkeypatch, tmp_path, ROWS, "--accept", "first figures")
    assert code == 0 and any("accepted" in line for line in lines)
    assert read_baseline(tmp_path / "baseline.json") is not None


WRONG = {
    "no reason": (["--accept", " "], 2),
    "no baseline": ([], 2),
    "clips that are not there": (["--clips", "absent"], 2),
    "an unknown part": (["--only", "luck"], 2),
    "mutations of one's own clips": (["--mutations", "--clips", "."], 2),
}


@pytest.mark.parametrize(("options", "code"), WRONG.values(), ids=WRONG.keys())
def test_wrong_usage_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], code: int
) -> None:
    monkeypatch.setattr(run, "measure", lambda *args, **kwargs: pytest.fail("measured"))
    result = RUNNER.invoke(
        app, ["gate", "--baseline", str(tmp_path / "b.json"), "--out", str(tmp_path), *options]
    )
    assert result.exit_code == code


def test_a_part_that_is_not_asked_for_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "case_rows", lambda cases, advance: [*ROWS])
    monkeypatch.setattr(run.memory, "started", lambda: pytest.fail("memory measured"))
    monkeypatch.setattr(run.speed, "record", lambda: pytest.fail("speed measured"))
    assert run.measure([Part.CASES], (), None, "", careful=False) == list(ROWS)


def test_gate_without_baseline_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--accept"):
        run.run_gate(None, tmp_path, tmp_path / "absent.json", None, [])


# --- who calls it -------------------------------------------------------------------------------------------------

WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
HOOKS: dict[str, Any] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))


def steps() -> list[dict[str, Any]]:
    return [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def test_the_workflow_runs_what_has_to_pass_and_may_write_nothing() -> None:
    commands = "\n".join(step.get("run", "") for step in steps())
    for needed in ("make install", "make lint", "make types", "make test", "semcast gate"):
        assert needed in commands
    assert "GITHUB_STEP_SUMMARY" in commands
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in WORKFLOW["jobs"].values())
    assert all(re.fullmatch(r"[\w./-]+@v\d+", step["uses"]) for step in steps() if "uses" in step)


def test_the_workflow_uses_options_that_exist() -> None:
    known = {option for p in typer.main.get_command(app).commands["gate"].params for option in p.opts}  # type: ignore[attr-defined]
    calls = re.findall(
        r"(?:semcast|-m cli) gate ([^\n]*)", "\n".join(step.get("run", "") for step in steps())
    )
    assert calls
    for call in calls:
        assert set(re.findall(r"(?<!\S)--[\w-]+", call)) <= known
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"make ([\w-]+)", "\n".join(step.get("run", "") for step in steps()))) <= targets


def test_hooks_are_the_projects_own_tools() -> None:
    hooks = [hook for repo in HOOKS["repos"] for hook in repo["hooks"]]
    assert {hook["id"] for hook in hooks} == {"ruff-check", "ruff-format", "mypy"}
    assert all(repo["repo"] == "local" for repo in HOOKS["repos"])
    assert all(hook["language"] == "system" and hook["types_or"] for hook in hooks)
    development = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][
        "dev"
    ]
    for hook in hooks:
        tool = hook["entry"].split()[0].removeprefix(".venv/bin/")
        assert any(requirement.startswith(tool) for requirement in development)

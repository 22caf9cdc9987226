"""Fuzz every reader of foreign bytes: `python -m tests.fuzz --executions 100000`. Needs atheris (extra `dev`).

The table says for each target how often it ran, its slowest execution (processor time) and how much the process grew;
the last line is one JSON object. What is found lies in the folder of results, as an input and its traceback.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from common.clock import SystemClock
from tests.fuzz.targets import TARGETS


@dataclass(frozen=True, slots=True)
class Result:
    """Of one target. fault : name of the input that failed, None where none did"""

    target: str
    executions: int
    slowest_ms: float
    grown_mb: float
    took_s: float
    fault: str | None = None


def shares(executions: int, names: Sequence[str]) -> dict[str, int]:
    """Executions of each target: slow ones get fewer."""
    total = sum(TARGETS[name].share for name in names)
    return {name: max(1, round(executions * TARGETS[name].share / total)) for name in names}


def fuzz(name: str, executions: int, seed: int, out: Path, bar: Progress) -> Result:
    """Run one target to its end in a process of its own."""
    folder, clock = out / name, SystemClock()
    folder.mkdir(parents=True, exist_ok=True)
    before = {path.name for path in folder.glob("fault-*")}
    task, began_s = bar.add_task(name, total=executions), clock.now_s()
    figures: dict[str, float | str] = {"done": 0, "slowest_ms": 0.0, "grown_mb": 0.0}
    command = [sys.executable, "-m", "tests.fuzz.process", name, str(executions), str(seed), str(folder)]
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            figures = json.loads(line) if line.startswith("{") else figures
            (folder / "figures.json").write_text(json.dumps(figures) + "\n", encoding="utf-8")
            bar.update(task, completed=int(figures["done"]))
        process.wait()
    fault = figures.get("fault")
    if "end" not in figures:  # it died: libFuzzer has left the input, if there is one
        left = sorted({path.name for path in folder.glob("fault-*")} - before)
        fault = left[0] if left else "log.txt"
    return Result(
        name, int(figures["done"]), float(figures["slowest_ms"]), float(figures["grown_mb"]),
        round(clock.now_s() - began_s, 1), None if fault is None else str(fault),
    )  # fmt: skip


def table(results: Sequence[Result], out: Path) -> Table:
    """What there is to see."""
    shown = Table("target", "executions", "slowest, ms", "grown, MB", "s", "fault")
    for result in results:
        fault = "none" if result.fault is None else str(out / result.target / result.fault)
        shown.add_row(
            result.target, f"{result.executions:,}", f"{result.slowest_ms:.1f}", f"{result.grown_mb:.0f}",
            f"{result.took_s:.0f}", fault,
        )  # fmt: skip
    return shown


def main(
    executions: Annotated[int, typer.Option(help="Of all targets together.", min=1)] = 100_000,
    target: Annotated[list[str] | None, typer.Option(help="Only these.")] = None,
    seed: Annotated[int, typer.Option(help="Of the mutations.", min=1)] = 1,
    jobs: Annotated[int, typer.Option(help="Targets at a time.", min=1)] = 1,
    out: Annotated[Path, typer.Option(help="Folder for what is found.")] = Path("out/fuzz"),
) -> None:
    """Fuzz all readers of foreign bytes."""
    console, names = Console(stderr=True), target or list(TARGETS)
    unknown = sorted(set(names) - TARGETS.keys())
    if unknown:
        console.print(f"no target {', '.join(unknown)}: there are {', '.join(TARGETS)}")
        raise typer.Exit(2)
    if importlib.util.find_spec("atheris") is None:
        console.print(
            "atheris is not installed (it has wheels for Linux on x86-64): pip install 'atheris>=3'"
        )
        raise typer.Exit(1)
    columns = (TextColumn("{task.description:>14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar, ThreadPoolExecutor(jobs) as pool:
        counts = shares(executions, names)
        results = list(pool.map(lambda name: fuzz(name, counts[name], seed, out, bar), names))
    Console().print(table(results, out))
    faults = [result for result in results if result.fault is not None]
    total = sum(result.executions for result in results)
    print(json.dumps({"executions": total, "faults": len(faults), "targets": [asdict(r) for r in results]}))
    raise typer.Exit(1 if faults else 0)


if __name__ == "__main__":
    typer.run(main)

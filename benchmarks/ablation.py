"""`semcast bench ablation`: each idea of the decoder turned off, or on, by itself, on the same bytes.

    clips x sets of the sender's settings -> AblationRun, each in its own process and file
          -> rows beside the reference -> tables, ablation.json, ablation.html

Every run that is done is in a file below the results' folder, so a bench that was stopped goes on from there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.ablation_report import (
    AblationReport,
    ClipAblation,
    means,
    print_ablation,
    requirements,
    write_ablation,
)
from benchmarks.ablation_rows import REFERENCE, ROWS, Row, config_of
from benchmarks.ablation_runs import AblationRun, Contender, RunResult
from benchmarks.files import open_input
from benchmarks.kept import kept_result
from benchmarks.plans import Clip
from benchmarks.rd_clip import Material, agreed
from benchmarks.rd_quality import Metrics
from benchmarks.report import versions
from benchmarks.sweep import run_all


def run_ablation(
    clips: Sequence[Clip],
    out: Path,
    config_path: Path | None,
    overrides: Sequence[str],
    seconds: float | None = None,
    jobs: int | None = None,
    vmaf: bool = False,
    rows: Sequence[Row] = ROWS,
) -> AblationReport:
    """Measure every row on every clip, write ablation.json and ablation.html to `out`, print tables and JSON.

    seconds : of each clip; jobs : None for one a core
    config_path, overrides : settings of the reference
    rows : the reference and those of the requirements among them

    Raises ConfigError, SourceError and WeightsError before any work.
    """
    contenders = [Contender(row, config_of(row, config_path, overrides)) for row in rows]
    for clip in clips:
        open_input(clip.path, contenders[0].config, seconds).close()
    of_clip = {clip: clip_runs(clip, contenders, seconds, Metrics(vmaf=vmaf)) for clip in clips}
    everything = [run for runs in of_clip.values() for run in runs]
    stored = partial(kept_result, kind=RunResult)
    results = run_all(everything, out, jobs or os.cpu_count() or 1, "ablation", stored)
    found = [gather(clip, [results[run] for run in runs], rows) for clip, runs in of_clip.items()]
    reference = next(one for one in contenders if one.row == REFERENCE)
    report = AblationReport(
        config=reference.config.as_dict(), versions=versions(), requirements=requirements(found),
        means=means(found), clips=found,
    )  # fmt: skip
    Console(stderr=True).print(f"see {write_ablation(report, out)}")
    print_ablation(report)
    return report


def clip_runs(
    clip: Clip, contenders: Sequence[Contender], seconds: float | None, metrics: Metrics
) -> list[AblationRun]:
    """The rows of one clip, those together that are painted from the same bytes."""
    reference = next(one for one in contenders if one.row == REFERENCE)
    sent: dict[tuple[str, ...], list[Contender]] = {}
    for one in contenders:
        sent.setdefault(one.row.sent_with, []).append(one)
    return [
        AblationRun(Material(clip, of[0].config, seconds), reference, tuple(of), metrics, with_levels=not how)
        for how, of in sent.items()
    ]


def gather(clip: Clip, results: Sequence[RunResult], rows: Sequence[Row]) -> ClipAblation:
    """All rows of one clip in their order, then those without a network. SourceError for a clip that changed."""
    facts = agreed(clip.name, (result.clip for result in results))
    order = [row.name for row in rows]
    painted = [row for result in results for row in result.rows]
    painted.sort(key=lambda row: order.index(row.name) if row.name in order else len(order))
    return ClipAblation(name=clip.name, clip=facts, rows=tuple(painted))

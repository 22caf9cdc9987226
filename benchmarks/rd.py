"""`semcast bench rd`: our system against the best-of-ladder codecs at equal rate, on the same pictures.

    plan -> runs (clip, system), each in its own process and file -> pictures of the best peer at our rates
         -> ClipRuns -> report: tables, rd.json, rd.csv, results/NAME.json, rd.html

Every run that is done is in a file below the results' folder, so a bench that was killed goes on where it stopped, and
one whose plan grew only does what is new.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from pydantic import JsonValue
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from benchmarks.envelope import family_at
from benchmarks.files import open_input
from benchmarks.kept import carry_out
from benchmarks.peers import SCALES, RdPoint
from benchmarks.pool import as_done
from benchmarks.rd_clip import Material
from benchmarks.rd_figures import compare, mean_systems, summarise
from benchmarks.rd_model import ClipRuns, RdReport
from benchmarks.rd_page import write_rd_page
from benchmarks.rd_plan import Clip, Level, RdPlan, find_clips
from benchmarks.rd_report import print_rd, write_rd
from benchmarks.rd_requirements import requirements
from benchmarks.rd_runs import (
    OurPoint,
    OurRun,
    PeerRun,
    PictureRun,
    Result,
    Run,
    stored,
)
from benchmarks.rd_sr import network_facts
from benchmarks.report import versions
from common.config import Config, load_config
from common.errors import SemcastError, SourceError

SPEED_WINDOW_S = 3600.0
"""The time left is judged by the speed over this long: single runs take up to minutes."""


def run_rd(
    plan: RdPlan,
    folder: Path,
    out: Path,
    jobs: int | None,
    config_path: Path | None,
    overrides: Sequence[str],
) -> RdReport:
    """Compare, write everything below `out` and print tables and JSON.

    folder : where the plan's clips are looked for first
    jobs : processes at a time, None for one a core
    config_path, overrides : settings of our system; those of the plan come before `overrides`

    Raises UsageError for a plan that makes no sense, SourceError for a clip and WeightsError for weights that cannot
    be read.
    """
    found = find_clips(plan.clips, folder)
    configs = our_configs(plan, config_path, overrides)
    for clip in found:  # before any work
        open_input(clip.path, configs[0], plan.seconds).close()
    networks = used_networks(plan, configs[0])
    everything = [clip_runs(clip, plan, configs) for clip in found]
    jobs = jobs or os.cpu_count() or 1
    results = run_all(list(chain(*everything)), out, jobs, "compare")
    shown = [picture_runs(runs, results) for runs in everything]
    results |= run_all([run for of_clip in shown for run in of_clip.values()], out, jobs, "pictures")
    gathered = [gather(runs, of, results) for runs, of in zip(everything, shown, strict=True)]
    report = evaluate(plan, configs[0], networks, gathered)
    write_rd(report, out)
    page = write_rd_page(report, out)
    Console(stderr=True).print(f"see {page}")
    print_rd(report)
    return report


def used_networks(plan: RdPlan, config: Config) -> dict[Level, dict[str, JsonValue]]:
    """Facts of the networks that the plan needs; WeightsError where one is missing."""
    names: dict[Level, str | None] = {"sr": plan.sr_weights}
    if config.receiver.steps != 0:
        names["output"] = config.receiver.decoder
    return {level: network_facts(name) for level, name in names.items() if name and level in plan.levels}


def our_configs(plan: RdPlan, path: Path | None, overrides: Sequence[str]) -> list[Config]:
    """Settings of our system, one for each rate."""
    texts = [*plan.set, *overrides, f"stream.size={plan.size}"]
    return [
        load_config(path, ["receiver.threads=1", *texts, f"stream.bitrate_bps={rate}"]) for rate in plan.rates
    ]


# --- what there is to do ------------------------------------------------------------------------------------------


def clip_runs(clip: Clip, plan: RdPlan, configs: Sequence[Config]) -> list[Run]:
    """Everything to be measured on one clip."""
    material = Material(clip, configs[0], plan.seconds)
    peers = [PeerRun(material, codec, scale, plan.metrics) for codec in plan.codecs for scale in SCALES]
    ours = [
        OurRun(
            Material(clip, config, plan.seconds), plan.levels, plan.metrics,
            shown=config.stream.bitrate_bps in plan.shown_bps, sr_weights=plan.sr_weights,
        )
        for config in configs
    ]  # fmt: skip
    return [*ours, *peers]


def picture_runs(runs: Sequence[Run], results: dict[Run, Result]) -> dict[OurRun, PictureRun]:
    """For each of our runs whose pictures are kept: the best peer at its rate."""
    peers = [run for run in runs if isinstance(run, PeerRun)]
    ladder = [point for run in peers for point in results[run].ladder]
    codecs = {run.codec.name: run.codec for run in peers}
    found = {}
    for run in runs:
        if isinstance(run, OurRun) and run.shown and ladder:
            codec, scale, crf = nearest_rung(ladder, _ours(results[run]).kbps)
            slot = results[run].pictures[0].slot
            found[run] = PictureRun(peers[0].material, codecs[codec], scale, crf, slot)
    return found


def nearest_rung(ladder: Sequence[RdPoint], kbps: float) -> tuple[str, int, int]:
    """Codec, scale and quality setting that give the best PSNR at `kbps`; the cheapest where all need more."""
    family = family_at(ladder, kbps)
    if not family:
        cheapest = min(ladder, key=lambda point: point.kbps)
        return cheapest.codec, cheapest.scale, cheapest.crf
    rates = [np.log(point.kbps) for point in family]
    crf = np.interp(np.log(kbps), rates, [point.crf for point in family])
    return family[0].codec, family[0].scale, round(float(crf))


def _ours(result: Result) -> OurPoint:
    assert result.ours is not None
    return result.ours


# --- doing it -----------------------------------------------------------------------------------------------------


def run_all(runs: Sequence[Run], out: Path, jobs: int, title: str) -> dict[Run, Result]:
    """Results of all runs; what is not yet below `out` is done now, the longest first, `jobs` at a time."""
    results = {run: found for run in dict.fromkeys(runs) if (found := stored(run, out)) is not None}
    waiting = sorted((run for run in dict.fromkeys(runs) if run not in results), key=lambda run: -run.weight)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=SPEED_WINDOW_S) as bar:
        task = bar.add_task(title, total=sum(run.weight for run in waiting))
        for run, finish in as_done(partial(carry_out, out=out), waiting, jobs):
            results[run] = _named(run, finish)
            left = len(runs) - len(results)
            bar.update(task, advance=run.weight, description=f"{title}, {left} left")
    return results


def _named(run: Run, finish: Callable[[], Result]) -> Result:
    """The result; an expected failure says which run it was."""
    try:
        return finish()
    except BrokenProcessPool as error:
        raise SemcastError(
            f"a process ended while {run.name} ran, perhaps for lack of memory: start the same command again with fewer"
            " --jobs; it goes on where it stopped"
        ) from error
    except SourceError as error:
        raise SourceError(f"{run.name}: {error}") from error


# --- the result ---------------------------------------------------------------------------------------------------


def gather(runs: Sequence[Run], shown: dict[OurRun, PictureRun], results: dict[Run, Result]) -> ClipRuns:
    """All results of one clip. SourceError when the systems were not given the same pictures."""
    facts = {results[run].clip for run in (*runs, *shown.values())}
    ours = [run for run in runs if isinstance(run, OurRun)]
    name = ours[0].material.clip.name
    if len(facts) > 1:
        raise SourceError(f"{name} gave other pictures the second time: did it change? Start again")
    pictures = {}
    for run, peer in shown.items():
        source, *rest = results[run].pictures
        pictures[run.target_kbps] = (source, *results[peer].pictures, *rest)
    return ClipRuns(
        name, facts.pop(), tuple(_ours(results[run]) for run in ours),
        tuple(point for run in runs for point in results[run].ladder), pictures,
    )  # fmt: skip


def evaluate(
    plan: RdPlan,
    config: Config,
    networks: dict[Level, dict[str, JsonValue]],
    gathered: Sequence[ClipRuns],
) -> RdReport:
    """Figures, means and requirements of everything that was measured."""
    clips = [compare(runs) for runs in gathered]
    summary = summarise(clips)
    return RdReport(
        plan=plan.model_dump(mode="json"), config=config.as_dict(), versions=versions(), networks=networks,
        requirements=requirements(clips, summary), summary=summary, systems=mean_systems(clips), clips=clips,
    )  # fmt: skip

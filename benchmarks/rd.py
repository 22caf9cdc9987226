"""`semcast bench rd`: our system against the best-of-ladder codecs at equal rate, on the same pictures.

    plan -> runs (clip, system), each in its own process and file -> pictures of the best peer at our rates
         -> ClipRuns -> report: tables, rd.json, rd.csv, results/NAME.json, rd.html

What is done is not done again (benchmarks/sweep.py): a bench goes on where it stopped, and a larger plan adds to it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from pydantic import JsonValue
from rich.console import Console

from benchmarks.envelope import family_at
from benchmarks.files import open_input
from benchmarks.peers import SCALES, RdPoint
from benchmarks.plans import Clip
from benchmarks.rd_clip import Material, agreed
from benchmarks.rd_figures import compare, mean_systems, summarise
from benchmarks.rd_model import ClipRuns, RdReport
from benchmarks.rd_page import write_rd_page
from benchmarks.rd_plan import Level, RdPlan
from benchmarks.rd_report import print_rd, write_rd
from benchmarks.rd_requirements import requirements
from benchmarks.rd_runs import OurPoint, OurRun, PeerRun, PictureRun, Result, Run, stored
from benchmarks.rd_sr import network_facts
from benchmarks.report import versions
from benchmarks.sweep import run_all
from common.config import Config, load_config


def run_rd(
    plan: RdPlan,
    found: Sequence[Clip],
    out: Path,
    jobs: int | None,
    config_path: Path | None,
    overrides: Sequence[str],
    scheduler: str | None = None,
) -> RdReport:
    """Compare, write everything below `out` and print tables and JSON.

    found : the plan's clips
    jobs : processes at a time, None for one a core
    config_path, overrides : settings of our system; those of the plan come before `overrides`
    scheduler : address of a Dask cluster to use instead of this machine's processes

    Raises ConfigError for settings that make no sense, SourceError for a clip and WeightsError for weights that cannot
    be read.
    """
    configs = our_configs(plan, config_path, overrides)
    for clip in found:  # before any work
        open_input(clip.path, configs[0], plan.seconds).close()
    networks = used_networks(plan, configs[0])
    everything = [clip_runs(clip, plan, configs) for clip in found]
    jobs = jobs or os.cpu_count() or 1
    results = run_all(list(chain(*everything)), out, jobs, "compare", stored, scheduler)
    shown = [picture_runs(runs, results) for runs in everything]
    results |= run_all(
        [run for of_clip in shown for run in of_clip.values()], out, jobs, "pictures", stored, scheduler
    )
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


# --- the result ---------------------------------------------------------------------------------------------------


def gather(runs: Sequence[Run], shown: dict[OurRun, PictureRun], results: dict[Run, Result]) -> ClipRuns:
    """All results of one clip. SourceError when the systems were not given the same pictures."""
    ours = [run for run in runs if isinstance(run, OurRun)]
    name = ours[0].material.clip.name
    facts = agreed(name, (results[run].clip for run in (*runs, *shown.values())))
    pictures = {}
    for run, peer in shown.items():
        source, *rest = results[run].pictures
        pictures[run.target_kbps] = (source, *results[peer].pictures, *rest)
    return ClipRuns(
        name, facts, tuple(_ours(results[run]) for run in ours),
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

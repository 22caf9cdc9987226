"""`semcast bench ...`: what was given is looked at before libraries are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.plans import find_clips, parse_sizes
from common.options import (
    Bitrate,
    ConfigFile,
    Overrides,
    Seconds,
    Seed,
    SizeOption,
    Steps,
    Threads,
    reported,
    settings,
)

bench_app = typer.Typer(no_args_is_help=True, help="Measure. Try: semcast bench latency")

Clips = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CLIP]...", help="Files or patterns; nothing: the built-in clip."),
]
OneClip = Annotated[
    str | None, typer.Argument(metavar="[CLIP]", help="What is sent; nothing: the built-in clip.")
]
Results = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
KeptResults = Annotated[
    Path, typer.Option("--out", help="Folder for the results; goes on with what is there.")
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Processes at a time; one for each core by default.")
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", metavar="tcp://HOST:PORT", help="A Dask cluster to use instead.")
]


@bench_app.command("latency")
@reported
def bench_latency(
    out: Results = Path("out/latency"),
    source: Annotated[
        str | None, typer.Option("--input", help="Clip to measure on; the built-in one by default.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds")] = 4.0,
    sizes: Annotated[
        str, typer.Option("--sizes", help="Where every level is timed as well, e.g. 256x256,1280x720.")
    ] = "256x256,512x512,1280x720",
    load: Annotated[
        int, typer.Option("--load", min=0, max=64, help="Meanwhile so many other processes take a core each.")
    ] = 0,
    load_gpu: Annotated[
        float,
        typer.Option(
            "--load-gpu",
            min=0.0,
            max=1.0,
            metavar="SHARE",
            help="Meanwhile another process takes this share of the GPU's time: 0.5.",
        ),
    ] = 0.0,
    bitrate: Bitrate = None,
    threads: Threads = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Time every stage of both ends and every level of the ladder. Example: semcast bench latency --bitrate 24k"""
    from sender.sources import check_source

    effective = settings(
        config, set_, stream__bitrate_bps=bitrate, stream__size="512x512", receiver__threads=threads,
        sender__threads=threads,
    )  # fmt: skip
    others = parse_sizes(sizes)
    check_source(source)
    from benchmarks.busy import Load
    from benchmarks.latency import run_latency

    run_latency(source, out, effective, seconds, others, Load(load, load_gpu))


@bench_app.command("rd")
@reported
def bench_rd(
    clips: Clips = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="What to compare, TOML.", metavar="FILE.toml")
    ] = None,
    out: KeptResults = Path("out/rd"),
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A first look in minutes: five low rates, the output too, one peer."),
    ] = False,
    sr_weights: Annotated[
        str | None,
        typer.Option("--sr-weights", help="Also a plain super-resolution of the guide, with this network."),
    ] = None,
    seconds: Seconds = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Against the best-of-ladder codecs at equal rate. Example: semcast bench rd 'clips/*.mp4' --seconds 5"""
    settings(config, set_)  # what is wrong in them is said at once
    from benchmarks.rd_plan import load_plan

    chosen = load_plan(plan, clips or [], seconds, quick, sr_weights)
    found = find_clips(chosen.clips, plan.parent if plan and not clips else Path())
    from benchmarks.rd import run_rd

    run_rd(chosen, found, out, jobs, config, set_, scheduler)


@bench_app.command("snr")
@reported
def bench_snr(
    clips: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CLIP]...", help="Files or patterns; nothing: those of the plan."),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="What to sweep, TOML.", metavar="FILE.toml")
    ] = None,
    out: KeptResults = Path("out/snr"),
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="A first look in minutes: the built-in clip. Without a plan the default."
        ),
    ] = False,
    seconds: Seconds = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Over radio and packet channels at equal channel use. Example: semcast bench snr --plan docs/snr/plan.toml"""
    settings(config, set_)  # what is wrong in them is said at once
    from benchmarks.snr_plan import load_plan

    chosen = load_plan(plan, clips or [], seconds, quick)
    found = find_clips(chosen.clips, plan.parent if plan and not clips else Path())
    from benchmarks.snr import run_snr

    run_snr(chosen, found, out, jobs, scheduler, config, set_)


@bench_app.command("live")
@reported
def bench_live(
    clip: OneClip = None,
    out: Results = Path("out/live"),
    only: Annotated[
        list[str], typer.Option("--only", help="Run this trial; may be given again.", metavar="NAME")
    ] = [],  # noqa: B006
    picture: Annotated[
        bool, typer.Option("--picture/--no-picture", help="Also take a picture of the page in a browser.")
    ] = True,
) -> None:
    """Both live ends on two hosts, over bad links. Example: semcast bench live talk.mp4 --only '5 % loss'"""
    from benchmarks.live.trials import run_live

    run_live(clip, out, only, picture)


@bench_app.command("soak")
@reported
def bench_soak(
    clip: OneClip = None,
    out: Results = Path("out/soak"),
    receivers: Annotated[int, typer.Option("--receivers", min=1, max=64)] = 1,
    seconds: Annotated[float, typer.Option("--seconds", min=30.0)] = 3600.0,
    size: Annotated[str, typer.Option("--size", help="Coded size WxH.")] = "512x512",
    bitrate: Annotated[str, typer.Option("--bitrate")] = "48k",
    steps: Steps = "auto",
    link: Annotated[
        str | None,
        typer.Option("--link", help="One that stays as it is; without, it changes.", metavar="SPEC"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the changes.", min=0)] = 0,
) -> None:
    """Both live ends for long, over a link that changes: does anything grow? Example: semcast bench soak talk.mp4"""
    from benchmarks.live.soak import SoakPlan, run_soak

    run_soak(clip, out, SoakPlan(receivers, seconds, size, bitrate, steps or "auto", link, seed))


@bench_app.command("faults")
@reported
def bench_faults(
    clip: OneClip = None,
    out: Results = Path("out/faults"),
    only: Annotated[
        list[str], typer.Option("--only", help="Do only this; may be given again.", metavar="NAME")
    ] = [],  # noqa: B006
    everything: Annotated[bool, typer.Option("--all", help="Also the cut of a minute.")] = False,
    docs: Annotated[
        Path | None, typer.Option("--docs", help="Write the table there.", metavar="FILE.md")
    ] = None,
) -> None:
    """Kills, cuts, full disks, wrong versions: what comes of them. Example: semcast bench faults --only 'cut of 2 s'"""
    from benchmarks.live.faults_run import run_faults

    run_faults(clip, out, only, everything, docs)


@bench_app.command("recovery")
@reported
def bench_recovery(
    clips: Clips = None,
    out: Results = Path("out/recovery"),
    seconds: Seconds = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs under random losses.")] = 3,
    bitrate: Annotated[
        str, typer.Option("--bitrate", help="Target rates, one or several.")
    ] = "12k,24k,48k,96k",
    jobs: Jobs = None,
    size: SizeOption = "512x512",
    steps: Steps = "0",
    seed: Seed = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """How soon the picture is back after cuts and losses. Example: semcast bench recovery talk.mp4 --bitrate 24k,48k"""
    flags = {"stream__size": size, "stream__seed": seed, "receiver__steps": steps}
    each = [
        settings(config, set_, stream__bitrate_bps=rate, **flags).stream.bitrate_bps
        for rate in bitrate.split(",")
    ]
    found = find_clips(clips or [])
    from benchmarks.recovery import run_recovery

    run_recovery(found, out, settings(config, set_, **flags), seconds, seeds, each, jobs)


@bench_app.command("cuts")
@reported
def bench_cuts(
    clips: Annotated[
        Path | None,
        typer.Option("--clips", metavar="DIR", help="Folder with clips; the built-in clip by default."),
    ] = None,
    out: KeptResults = Path("out/cuts"),
    reels: Annotated[int, typer.Option("--reels", min=1, max=999, help="Clips to join from the scenes.")] = 6,
    blind: Annotated[
        bool, typer.Option("--blind", help="Also a receiver that sees no cuts: what seeing them is worth.")
    ] = False,
    seconds: Seconds = None,
    bitrate: Bitrate = None,
    size: SizeOption = "512x512",
    steps: Steps = "1",
    seed: Seed = None,
    threads: Threads = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Whether both ends see new scenes, and show none of the old ones. Example: semcast bench cuts --clips clips/"""
    effective = settings(
        config, set_, stream__bitrate_bps=bitrate, stream__size=size, stream__seed=seed, receiver__steps=steps,
        receiver__threads=threads, sender__threads=threads,
    )  # fmt: skip
    from benchmarks.cuts import run_cuts

    run_cuts(clips, out, effective, seconds, reels, blind)


@bench_app.command("uncertainty")
@reported
def bench_uncertainty(
    clips: Clips = None,
    folder: Annotated[Path | None, typer.Option("--clips", help="All clips of this folder.")] = None,
    out: Results = Path("out/uncertainty"),
    seconds: Seconds = None,
    bitrate: Bitrate = None,
    size: SizeOption = "512x512",
    steps: Steps = None,
    seed: Seed = None,
    threads: Threads = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Whether pictures say where they are wrong. Example: semcast bench uncertainty --clips clips --seconds 5"""
    effective = settings(
        config, set_, stream__bitrate_bps=bitrate, stream__size=size, stream__seed=seed, receiver__steps=steps,
        receiver__threads=threads, sender__threads=threads,
    )  # fmt: skip
    from training.clips import list_clips

    found = find_clips([*(clips or []), *(map(str, list_clips(folder)) if folder else [])])
    from benchmarks.uncertainty import run_uncertainty

    run_uncertainty(found, out, effective, seconds)


@bench_app.command("ablation")
@reported
def bench_ablation(
    clips: Clips = None,
    out: KeptResults = Path("out/ablation"),
    jobs: Jobs = None,
    vmaf: Annotated[bool, typer.Option("--vmaf", help="VMAF too, which takes long.")] = False,
    seconds: Seconds = None,
    bitrate: Bitrate = None,
    size: SizeOption = "512x512",
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Turn each idea of the decoder off, or on, by itself. Example: semcast bench ablation talk.mp4 --seconds 4"""
    flags = {"stream.bitrate_bps": bitrate, "stream.size": size}
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    overrides = [*set_, *given]
    settings(config, overrides)  # what is wrong in them is said at once
    found = find_clips(clips or [])
    from benchmarks.ablation import run_ablation

    run_ablation(found, out, config, overrides, seconds, jobs, vmaf)

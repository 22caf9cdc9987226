"""`semcast`: the one place that puts sender, channel and receiver together.

Exit codes: 0 done, 1 failed, 2 usage. Logs go to stderr, results to stdout; the last stdout line is one JSON object.
A command looks at what it was given first, and only then imports what does the work, which takes seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands import bench_app
from benchmarks.gate.model import Part
from benchmarks.live.commands import receive, send, signal
from common.errors import UsageError
from common.files import check_there
from common.options import (
    Bitrate,
    Budget,
    ConfigFile,
    Decoder,
    Device,
    Input,
    Overrides,
    Seconds,
    Seed,
    SizeOption,
    Steps,
    Threads,
    reported,
    settings,
)

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Real-time generative semantic video link. Try: semcast demo --out out/demo",
)  # fmt: skip
train_app = typer.Typer(
    no_args_is_help=True,
    help="Make the weights: pack examples, train and calibrate the decoder, train the label network.",
)
app.add_typer(train_app, name="train")
app.add_typer(bench_app, name="bench")
for command in (send, receive, signal):
    app.command()(command)


@app.command()
@reported
def demo(
    source: Input = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("out/demo"),
    channel: Annotated[
        str | None, typer.Option("--channel", help="e.g. packet:loss=0.05,delay_ms=40")
    ] = None,
    bitrate: Bitrate = None,
    size: SizeOption = None,
    budget_ms: Budget = None,
    decoder: Decoder = None,
    steps: Steps = None,
    seconds: Seconds = None,
    seed: Seed = None,
    threads: Threads = None,
    device: Device = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Sender, channel and receiver in one go. Example: semcast demo talk.mp4 --channel packet:loss=0.05 --bitrate 24k"""
    from channel.spec import check_channel
    from sender.sources import check_source

    effective = settings(
        config, set_, channel__spec=channel, stream__bitrate_bps=bitrate, stream__size=size, stream__seed=seed,
        receiver__budget_ms=budget_ms, receiver__decoder=decoder, receiver__steps=steps, receiver__threads=threads,
        sender__threads=threads, receiver__device=device,
    )  # fmt: skip
    check_channel(effective.channel.spec)
    check_source(source)
    from benchmarks.demo import run_demo

    run_demo(source, out, effective, seconds)


@app.command()
@reported
def encode(
    source: Annotated[str, typer.Argument(metavar="IN")],
    out: Annotated[Path, typer.Argument(metavar="OUT.sgv")],
    bitrate: Bitrate = None,
    size: SizeOption = None,
    guide_scale: Annotated[str | None, typer.Option("--guide-scale", help="auto, 1, 2, 4 or 8.")] = None,
    seconds: Seconds = None,
    seed: Seed = None,
    threads: Threads = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Sender to a file. Example: semcast encode talk.mp4 talk.sgv --bitrate 24k --size 512x512"""
    from sender.sources import check_source

    effective = settings(
        config, set_, stream__bitrate_bps=bitrate, stream__size=size, guide__scale=guide_scale, stream__seed=seed,
        sender__threads=threads,
    )  # fmt: skip
    check_source(source)
    from benchmarks.files import encode_file

    encode_file(source, out, effective, seconds)


@app.command()
@reported
def decode(
    source: Annotated[Path, typer.Argument(metavar="IN.sgv")],
    out: Annotated[Path, typer.Argument(metavar="OUT.mkv")],
    decoder: Decoder = None,
    steps: Steps = None,
    budget_ms: Budget = "none",
    overlay: Annotated[
        str, typer.Option("--overlay", help="none, uncertainty, generated or level.")
    ] = "none",
    threads: Threads = None,
    device: Device = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Receiver from a file. Example: semcast decode talk.sgv talk.mkv --steps 1"""
    effective = settings(
        config, set_, receiver__decoder=decoder, receiver__steps=steps, receiver__budget_ms=budget_ms,
        receiver__threads=threads, receiver__device=device,
    )  # fmt: skip
    check_there(source)
    from benchmarks.files import decode_file

    decode_file(source, out, effective, overlay)


@app.command()
@reported
def info(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    json_only: Annotated[bool, typer.Option("--json", help="Print only the JSON document.")] = False,
) -> None:
    """What is inside a .sgv file, or what a recording says of its pictures. Example: semcast info talk.sgv --json"""
    check_there(file)
    from benchmarks.files import describe_file

    describe_file(file, json_only)


@app.command()
@reported
def doctor() -> None:
    """What works on this machine, and what to install for the rest. Example: semcast doctor"""
    from benchmarks.doctor import examine

    examine()


@app.command()
@reported
def gate(
    clips: Annotated[
        Path | None, typer.Option("--clips", help="A folder of clips to measure as well, 2 s of each.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for gate.md and gate.json.")] = Path("out/gate"),
    accept: Annotated[
        str | None,
        typer.Option("--accept", metavar="REASON", help="Make these figures the baseline, and why."),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline", metavar="FILE.json", help="Other than the one that comes with the project."
        ),
    ] = None,
    only: Annotated[list[Part], typer.Option("--only", help="Measure this part; may be given again.")] = [],  # noqa: B006
    mutations: Annotated[
        bool,
        typer.Option("--mutations", help="Put known regressions in, and see whether the gate finds them."),
    ] = False,
) -> None:
    """Did a change make anything worse? Compares with the accepted figures. Example: semcast gate --out out/gate"""
    from benchmarks.gate.baseline import BASELINE
    from benchmarks.gate.run import run_gate
    from benchmarks.gate.trials import run_trials

    if mutations and (accept is not None or clips is not None):
        raise UsageError("--mutations makes its own baseline and clips: leave out --accept and --clips")
    good = run_trials(out, only) if mutations else run_gate(clips, out, baseline or BASELINE, accept, only)
    if not good:
        raise typer.Exit(1)


@train_app.command("pack")
@reported
def train_pack(
    clips: Annotated[Path, typer.Option("--clips", help="Folder of video files.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the examples.")],
    minutes: Annotated[float, typer.Option("--minutes")] = 10.0,
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    """Make decoder examples with the real sender. Example: semcast train pack --clips videos --out examples"""
    from sender.labels import LabelAnalyzer
    from training.pack import pack

    print(f'{{"examples": {pack(clips, out, minutes, LabelAnalyzer(), seed)}}}')


@train_app.command("decoder")
@reported
def train_decoder_command(
    clips: Annotated[Path, typer.Option("--clips", help="Folder of examples from `train pack`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for weights, card, log and checkpoints.")],
    minutes: Annotated[float, typer.Option("--minutes")] = 60.0,
    resume: Annotated[bool, typer.Option("--resume")] = False,
    device: Annotated[str, typer.Option("--device")] = "auto",
    threads: Annotated[int, typer.Option("--threads")] = 1,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    start: Annotated[
        str | None, typer.Option("--start", help="Weights to begin from (name or file), not from scratch.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="tiny (processors) or base (a GPU).")] = "tiny",
    teacher: Annotated[
        Path | None, typer.Option("--teacher", help="MobileNetV2, .tflite, as a second judge of pictures.")
    ] = None,
    adversarial_share: Annotated[
        float, typer.Option("--adversarial-share", help="Part of the time, at its end, with an opponent.")
    ] = 0.0,
    batch: Annotated[int | None, typer.Option("--batch", help="Crops a step, of each process.")] = None,
    crop: Annotated[int | None, typer.Option("--crop", help="Side of the crops, pixels.")] = None,
    guide_only: Annotated[
        bool, typer.Option("--guide-only", help="A plain super-resolution of the guide, for `bench rd`.")
    ] = False,
) -> None:
    """Train the decoder. Example: semcast train decoder --clips examples --out runs/tiny --minutes 60 --resume

    On several GPUs: torchrun --standalone --nproc-per-node 4 --no-python semcast train decoder ...
    """
    from training.entry import decoder_from

    decoder_from(
        clips, out, minutes, resume, device, threads, seed, start, model=model, teacher=teacher,
        adversarial_share=adversarial_share, batch=batch, crop=crop, guide_only=guide_only,
    )  # fmt: skip


@train_app.command("calibrate")
@reported
def train_calibrate(
    clips: Annotated[
        Path,
        typer.Option(
            "--clips", help="Folder of video files: those of the training, of which it held some back."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the weights with their calibration.")],
    decoder: Annotated[str, typer.Option("--decoder", help="Weights (name or file).")] = "tiny",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Streams of every held-back clip.")] = 8,
    threads: Annotated[int, typer.Option("--threads", min=1)] = 1,
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    """Calibrate the uncertainty on held-back clips. Example: semcast train calibrate --clips videos --out runs/tiny"""
    from training.entry import calibration_from

    print(calibration_from(clips, out, decoder, rounds, threads, seed))


@train_app.command("labels")
@reported
def train_labels_command(
    clips: Annotated[Path, typer.Option("--clips", help="Folder of video files.")],
    teacher: Annotated[Path, typer.Option("--teacher", help="Teacher network, .tflite, 21 classes.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for weights, card and checkpoints.")],
    minutes: Annotated[float, typer.Option("--minutes")] = 60.0,
    resume: Annotated[bool, typer.Option("--resume")] = False,
    device: Annotated[str, typer.Option("--device")] = "auto",
    seed: Annotated[int, typer.Option("--seed")] = 0,
    frames: Annotated[int, typer.Option("--frames", help="Of each clip, shown to the teacher.")] = 24,
    dev: Annotated[Path | None, typer.Option("--dev", help="Folder of more clips to measure on.")] = None,
) -> None:
    """Distil the label network. Example: semcast train labels --clips videos --teacher net.tflite --out runs/labels"""
    from training.entry import labels_from

    weights = labels_from(clips, out, teacher, minutes, resume, device, seed, frames, dev)
    print(f'{{"weights": "{weights}"}}')


def main() -> None:
    """Console entry point."""
    try:
        app(standalone_mode=True)
    except UsageError as error:
        print(f"semcast: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()

"""`semcast`: the one place that puts sender, channel and receiver together.

Exit codes: 0 done, 1 failed, 2 usage. Logs go to stderr, results to stdout; the last stdout line is one JSON object.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from common.config import Config, load_config
from common.errors import SemcastError, UsageError
from common.memory import keep_freed_memory

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Real-time generative semantic video link. Try: semcast demo --out out/demo",
)  # fmt: skip
train_app = typer.Typer(
    no_args_is_help=True, help="Make the weights: pack examples, train the decoder, the label network."
)
bench_app = typer.Typer(no_args_is_help=True, help="Measure. Try: semcast bench latency")
app.add_typer(train_app, name="train")
app.add_typer(bench_app, name="bench")

Input = Annotated[
    str | None,
    typer.Argument(metavar="[INPUT]", help="File, folder, camera:0, -, or nothing for the built-in clip."),
]
Seconds = Annotated[float | None, typer.Option("--seconds", help="Stop after this much of the input.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Settings file, TOML.", metavar="FILE.toml")
]
Overrides = Annotated[
    list[str],
    typer.Option("--set", help="One setting, e.g. --set anchor.max_age_s=6", metavar="SECTION.KEY=VALUE"),
]
Bitrate = Annotated[str | None, typer.Option("--bitrate", help="Target rate, e.g. 24k or 1.5M.")]
SizeOption = Annotated[
    str | None, typer.Option("--size", help="Coded size WxH (the whole picture scaled), or auto.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")]
Threads = Annotated[int | None, typer.Option("--threads", help="Processor threads of each end.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
Budget = Annotated[
    str | None, typer.Option("--budget-ms", help="Time for one picture at the receiver, or none.")
]
Decoder = Annotated[str | None, typer.Option("--decoder", help="tiny, base, or a .safetensors file.")]
Steps = Annotated[str | None, typer.Option("--steps", help="auto, 0 (base picture), 1, 2 or 4.")]
Digests = Annotated[
    bool, typer.Option("--digests", help="Add the digest of every base picture to the result.")
]
"""For the two live ends, `python -m sender` and `python -m receiver`."""


def settings(config: Path | None, overrides: list[str], **options: object) -> Config:
    """The effective configuration; `options` are command-line flags by section__key, None where not given."""
    flags = [f"{name.replace('__', '.')}={value}" for name, value in options.items() if value is not None]
    return load_config(config, [*overrides, *flags])


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """Expected failures become one line on stderr and an exit code, never a traceback; memory is kept for reuse."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        keep_freed_memory()
        try:
            command(*args, **kwargs)
        except SemcastError as error:
            Console(stderr=True, highlight=False, soft_wrap=True).print(f"semcast: {error}", markup=False)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            Console(stderr=True).print("semcast: interrupted; what was written so far is kept")
            raise typer.Exit(1) from None

    return run


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
    from benchmarks.demo import run_demo

    effective = settings(
        config, set_, channel__spec=channel, stream__bitrate_bps=bitrate, stream__size=size, stream__seed=seed,
        receiver__budget_ms=budget_ms, receiver__decoder=decoder, receiver__steps=steps, receiver__threads=threads,
        sender__threads=threads, receiver__device=device,
    )  # fmt: skip
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
    from benchmarks.files import encode_file

    effective = settings(
        config, set_, stream__bitrate_bps=bitrate, stream__size=size, guide__scale=guide_scale, stream__seed=seed,
        sender__threads=threads,
    )  # fmt: skip
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
    from benchmarks.files import decode_file

    effective = settings(
        config, set_, receiver__decoder=decoder, receiver__steps=steps, receiver__budget_ms=budget_ms,
        receiver__threads=threads, receiver__device=device,
    )  # fmt: skip
    decode_file(source, out, effective, overlay)


@app.command()
@reported
def info(
    file: Annotated[Path, typer.Argument(metavar="FILE.sgv")],
    json_only: Annotated[bool, typer.Option("--json", help="Print only the JSON document.")] = False,
) -> None:
    """What is inside a .sgv file. Example: semcast info talk.sgv --json"""
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
def signal(
    listen: Annotated[
        str, typer.Option("--listen", help="Where to serve; port 0 takes any.", metavar="HOST:PORT")
    ] = "127.0.0.1:8765",
    cert: Annotated[
        Path | None, typer.Option("--cert", help="Certificate chain, PEM: serve wss://.", metavar="FILE")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="Its key, PEM, if not in the same file.", metavar="FILE")
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option("--secret-file", help="What signs tokens; SEMCAST_SECRET by default.", metavar="FILE"),
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="No tokens: lets everybody in. Only for a lab.")
    ] = False,
    ice_config: Annotated[
        Path | None,
        typer.Option("--ice-config", help="STUN and TURN servers to hand to members.", metavar="FILE.toml"),
    ] = None,
    max_rooms: Annotated[int, typer.Option("--max-rooms", min=1, max=100_000)] = 200,
    max_members: Annotated[int, typer.Option("--max-members", help="Of one room.", min=2, max=10_000)] = 16,
    max_message_bytes: Annotated[int, typer.Option("--max-message-bytes", min=1024, max=1 << 20)] = 65_536,
    messages_per_s: Annotated[
        float, typer.Option("--messages-per-s", help="Of one member, lasting.", min=0.1, max=10_000)
    ] = 20.0,
    burst: Annotated[
        int, typer.Option("--burst", help="Messages of one member at once.", min=1, max=100_000)
    ] = 60,
    idle_s: Annotated[
        float, typer.Option("--idle-s", help="A member that answers no ping for so long goes.", min=1.0)
    ] = 60.0,
    handshake_s: Annotated[
        float, typer.Option("--handshake-s", help="A connection that asks nothing for so long goes.", min=0.1)
    ] = 10.0,
    new_token: Annotated[
        str | None,
        typer.Option("--new-token", help="Serve nothing: print a token for this room.", metavar="ROOM"),
    ] = None,
    role: Annotated[str | None, typer.Option("--role", help="For --new-token: sender or receiver.")] = None,
    minutes: Annotated[
        float, typer.Option("--minutes", help="For --new-token: how long it lets its owner in.")
    ] = 60.0,
) -> None:
    """Help the ends of live links find each other: rooms on a WebSocket server, entered with tokens.

    Example: semcast signal --new-token studio --role sender --minutes 60, then semcast signal --listen 0.0.0.0:8765
    """
    from channel.signalling.command import Service, print_token, serve
    from channel.signalling.limits import Limits

    if new_token is not None:
        return print_token(new_token, role, minutes, secret_file)
    limits = Limits(
        max_rooms=max_rooms, max_members=max_members, max_message_bytes=max_message_bytes,
        messages_per_s=messages_per_s, burst=burst, idle_s=idle_s, handshake_s=handshake_s,
    )  # fmt: skip
    serve(Service(listen, cert, key, secret_file, open_, ice_config), limits)


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


Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Processes at a time; one for each core by default.")
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", metavar="tcp://HOST:PORT", help="A Dask cluster to use instead.")
]


@bench_app.command("latency")
@reported
def bench_latency(
    out: Annotated[Path, typer.Option("--out", help="Folder for the result.")] = Path("out/latency"),
    source: Annotated[
        str | None, typer.Option("--input", help="Clip to measure on; the built-in one by default.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds")] = 4.0,
    sizes: Annotated[
        str, typer.Option("--sizes", help="Where every level is timed as well, e.g. 256x256,1280x720.")
    ] = "256x256,512x512,1280x720",
    bitrate: Bitrate = None,
    threads: Threads = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Time every stage of both ends and every level of the ladder. Example: semcast bench latency --bitrate 24k"""
    from benchmarks.latency import parse_sizes, run_latency

    effective = settings(
        config, set_, stream__bitrate_bps=bitrate, stream__size="512x512", receiver__threads=threads,
        sender__threads=threads,
    )  # fmt: skip
    run_latency(source, out, effective, seconds, parse_sizes(sizes))


@bench_app.command("rd")
@reported
def bench_rd(
    clips: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CLIP]...", help="Files or patterns; nothing: the built-in clip."),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="What to compare, TOML.", metavar="FILE.toml")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the results; goes on with what is there.")
    ] = Path("out/rd"),
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
    from benchmarks.rd import run_rd
    from benchmarks.rd_plan import load_plan

    chosen = load_plan(plan, clips or [], seconds, quick, sr_weights)
    run_rd(chosen, plan.parent if plan and not clips else Path(), out, jobs, config, set_, scheduler)


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
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the results; goes on with what is there.")
    ] = Path("out/snr"),
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
    from benchmarks.snr import run_snr
    from benchmarks.snr_plan import load_plan

    chosen = load_plan(plan, clips or [], seconds, quick)
    run_snr(chosen, plan.parent if plan and not clips else Path(), out, jobs, scheduler, config, set_)


@bench_app.command("recovery")
@reported
def bench_recovery(
    clips: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CLIP]...", help="Files or patterns; nothing: the built-in clip."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("out/recovery"),
    seconds: Seconds = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs under random losses.")] = 3,
    bitrate: Bitrate = None,
    size: SizeOption = "512x512",
    steps: Steps = "0",
    seed: Seed = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """How soon the picture is back after cuts and losses. Example: semcast bench recovery talk.mp4 --bitrate 24k"""
    from benchmarks.recovery import run_recovery

    effective = settings(
        config, set_, stream__bitrate_bps=bitrate, stream__size=size, stream__seed=seed, receiver__steps=steps
    )
    run_recovery(clips or [], out, effective, seconds, seeds)


@bench_app.command("ablation")
@reported
def bench_ablation(
    clips: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CLIP]...", help="Files or patterns; nothing: the built-in clip."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the results; goes on with what is there.")
    ] = Path("out/ablation"),
    jobs: Jobs = None,
    vmaf: Annotated[bool, typer.Option("--vmaf", help="VMAF too, which takes long.")] = False,
    seconds: Seconds = None,
    bitrate: Bitrate = None,
    size: SizeOption = "512x512",
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Turn each idea of the decoder off, or on, by itself. Example: semcast bench ablation talk.mp4 --seconds 4"""
    from benchmarks.ablation import run_ablation

    flags = {"stream.bitrate_bps": bitrate, "stream.size": size}
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    run_ablation(clips or [], out, config, [*set_, *given], seconds, jobs, vmaf)


def main() -> None:
    """Console entry point."""
    try:
        app(standalone_mode=True)
    except UsageError as error:
        print(f"semcast: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()

"""`python -m sender`: the sending end alone, over UDP. Its other end is `python -m receiver`."""

from __future__ import annotations

from typing import Annotated

import typer

from common.options import (
    Bitrate,
    ConfigFile,
    Digests,
    Input,
    Overrides,
    Seconds,
    Seed,
    SizeOption,
    Threads,
    reported,
    settings,
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
@reported
def send(
    to: Annotated[str, typer.Option("--to", help="Where the receiver listens.", metavar="udp://HOST:PORT")],
    source: Input = None,
    bitrate: Bitrate = None,
    size: SizeOption = None,
    seconds: Seconds = None,
    realtime: Annotated[
        bool,
        typer.Option(
            "--realtime/--fast", help="Each frame at its own time, or as fast as the receiver keeps up."
        ),
    ] = True,
    digests: Digests = False,
    seed: Seed = None,
    threads: Threads = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Send a source over UDP. Example: python -m sender talk.mp4 --to udp://127.0.0.1:5004 --bitrate 24k"""
    from sender.sources import check_source

    effective = settings(
        config, set_, stream__bitrate_bps=bitrate, stream__size=size, stream__seed=seed, sender__threads=threads
    )  # fmt: skip
    check_source(source)
    from benchmarks.udp_ends import send_udp

    send_udp(source, to, effective, seconds, fast=not realtime, digests=digests)


if __name__ == "__main__":
    app(prog_name="python -m sender")

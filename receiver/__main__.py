"""`python -m receiver`: the receiving end alone, over UDP. Its other end is `python -m sender`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.options import (
    Budget,
    ConfigFile,
    Decoder,
    Device,
    Digests,
    Overrides,
    Steps,
    Threads,
    reported,
    settings,
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
@reported
def receive(
    listen: Annotated[
        str, typer.Option("--listen", help="Address to listen on; port 0 takes any.", metavar="HOST:PORT")
    ],
    out: Annotated[Path, typer.Option("--out", help="Lossless recording.")] = Path("received.mkv"),
    steps: Steps = None,
    decoder: Decoder = None,
    budget_ms: Budget = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="Stop after this time.")] = None,
    idle_s: Annotated[
        float, typer.Option("--idle-s", help="Stop when a stream was silent for so long.", min=0.1)
    ] = 5.0,
    digests: Digests = False,
    threads: Threads = None,
    device: Device = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Receive one stream over UDP and record it. Example: python -m receiver --listen 0.0.0.0:5004 --steps 0"""
    effective = settings(
        config, set_, receiver__steps=steps, receiver__decoder=decoder, receiver__budget_ms=budget_ms,
        receiver__threads=threads, receiver__device=device,
    )  # fmt: skip
    from benchmarks.udp_ends import receive_udp

    receive_udp(listen, out, effective, seconds, idle_s, digests)


if __name__ == "__main__":
    app(prog_name="python -m receiver")

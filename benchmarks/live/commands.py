"""`semcast send`, `semcast receive` and `semcast signal`: options are looked at before libraries are loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

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

Metrics = Annotated[
    str | None, typer.Option("--metrics", help="Serve Prometheus metrics there.", metavar="HOST:PORT")
]


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
    behind_proxy: Annotated[
        bool,
        typer.Option("--behind-proxy", help="Believe X-Forwarded-For: all come from one proxy of yours."),
    ] = False,
    end_with_token: Annotated[
        bool, typer.Option("--end-with-token", help="Put members out when their token expires.")
    ] = False,
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
    from channel.signalling.admission import Policy
    from channel.signalling.command import Service, print_token, serve
    from channel.signalling.limits import Limits

    if new_token is not None:
        return print_token(new_token, role, minutes, secret_file)
    limits = Limits(
        max_rooms=max_rooms, max_members=max_members, max_message_bytes=max_message_bytes,
        messages_per_s=messages_per_s, burst=burst, idle_s=idle_s, handshake_s=handshake_s,
    )  # fmt: skip
    policy = Policy(behind_proxy, end_with_token)
    serve(Service(listen, cert, key, secret_file, open_, ice_config, policy), limits)


@reported
def send(
    source: Input = None,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="What the receiver printed.",
            metavar="ws[s]://HOST:PORT/ROOM?token=... | udp://HOST:PORT",
            envvar="SEMCAST_URL",
            show_envvar=True,
        ),
    ] = "",
    bitrate: Bitrate = None,
    size: SizeOption = None,
    loop: Annotated[bool, typer.Option("--loop", help="Start a file again at its end.")] = False,
    metrics: Metrics = None,
    seconds: Seconds = None,
    seed: Seed = None,
    threads: Threads = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Send live to everybody in a room. Example: semcast send camera:0 --to 'ws://192.0.2.7:8081/live?token=...'

    The bit rate is the highest, unless a receiver asks for another on its page (6 kbit/s to 2 Mbit/s); where the
    link carries less, less is sent.
    """
    from benchmarks.live.addresses import parse_target
    from channel.udp import parse_address
    from sender.sources import check_source

    effective = settings(
        config,
        set_,
        stream__bitrate_bps=bitrate,
        stream__size=size,
        stream__seed=seed,
        sender__threads=threads,
    )
    target, where = parse_target(to), None if metrics is None else parse_address(metrics)
    check_source(source)
    from benchmarks.live.send import send_live

    send_live(source, target, effective, seconds, loop, where)


@reported
def receive(
    listen: Annotated[
        str, typer.Option("--listen", help="Where the page is served; port 0 takes any.", metavar="HOST:PORT")
    ] = "127.0.0.1:8080",
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="A room elsewhere; without, this end serves one on the next port.",
            metavar="ws[s]://HOST:PORT/ROOM?token=...",
            envvar="SEMCAST_URL",
            show_envvar=True,
        ),
    ] = None,
    udp: Annotated[
        str | None, typer.Option("--udp", help="Take plain UDP here instead of WebRTC.", metavar="HOST:PORT")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for recordings.")] = Path("out/live"),
    channel: Annotated[
        str | None,
        typer.Option("--channel", help="Make what arrives worse, e.g. packet:loss=0.05,delay_ms=40"),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            help="Pictures go there as well.",
            metavar="hls:FOLDER | rtmp://... | v4l2:/dev/videoN",
        ),
    ] = None,
    metrics: Metrics = None,
    decoder: Decoder = None,
    steps: Steps = None,
    budget_ms: Budget = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="Stop after this time.")] = None,
    idle_s: Annotated[
        float | None, typer.Option("--idle-s", help="Stop when a stream was silent for so long.", min=0.1)
    ] = None,
    threads: Threads = None,
    device: Device = None,
    config: ConfigFile = None,
    set_: Overrides = [],  # noqa: B006
) -> None:
    """Receive live and show it on a page. Example: semcast receive --listen 0.0.0.0:8080"""
    from benchmarks.live.addresses import Listening
    from channel.signalling.urls import parse_room_url
    from channel.spec import parse_channel
    from channel.udp import parse_address
    from receiver.outputs import check_output

    effective = settings(
        config, set_, channel__spec=channel, receiver__decoder=decoder, receiver__steps=steps,
        receiver__budget_ms=budget_ms, receiver__threads=threads, receiver__device=device,
    )  # fmt: skip
    listening = Listening(
        parse_address(listen),
        None if from_ is None else parse_room_url(from_),
        None if udp is None else parse_address(udp),
    )
    where = None if metrics is None else parse_address(metrics)
    parse_channel(effective.channel.spec)
    if output is not None:
        check_output(output)
    # Before PyTorch is loaded: threads that spin while they wait take the time of the packets' and the page's.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from benchmarks.live.receive import receive_live

    receive_live(listening, out, effective, seconds, idle_s, output, where)

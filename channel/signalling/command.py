"""`semcast signal`: the signalling server on the real clock, until Ctrl-C or SIGTERM; and tokens for its rooms."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from channel.signalling.admission import DEFAULT_POLICY, Policy
from channel.signalling.ice import IceServerSettings, load_ice
from channel.signalling.limits import Limits
from channel.signalling.tokens import SECRET_VARIABLE, find_secret, grant_for, issue_token
from channel.udp import Address, parse_address
from common.clock import SystemClock, UnixClock
from common.errors import ConfigError, UsageError
from common.logs import stderr_log

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


@dataclass(frozen=True, slots=True)
class Service:
    """What to serve. open_ : without tokens, for a lab's network; policy : see there"""

    listen: str
    cert: Path | None = None
    key: Path | None = None
    secret_file: Path | None = None
    open_: bool = False
    ice_file: Path | None = None
    policy: Policy = DEFAULT_POLICY


def print_token(room: str, role: str | None, minutes: float, secret_file: Path | None) -> None:
    """Print a token for one new member of `room`. Raises UsageError without a role or a secret."""
    if role is None:
        raise UsageError("a token needs a role: --role sender or --role receiver")
    secret = find_secret(secret_file, os.environ)
    if secret is None:
        raise UsageError(f"no secret to sign a token with: {_WHERE_TO_PUT_IT}")
    print(issue_token(secret, grant_for(room, role, minutes, UnixClock().now_s())))


def serve(service: Service, limits: Limits) -> None:
    """Run until Ctrl-C or SIGTERM; prints one line of JSON when it listens. Raises UsageError, ChannelError."""
    check_installed()
    address = parse_address(service.listen)
    secret = _secret(service)
    if service.key is not None and service.cert is None:
        raise UsageError("--key needs --cert, the certificate it belongs to")
    tls = None if service.cert is None else tls_context(service.cert, service.key)
    ice = () if service.ice_file is None else load_ice(service.ice_file)
    log = stderr_log()
    proxied = service.policy.behind_proxy
    if secret is not None and tls is None and not _loopback(address) and not proxied:
        log.warning(
            "no_tls",
            hint="tokens cross in the clear: use --cert, or a proxy that speaks TLS, and --behind-proxy",
        )
    if secret is None:
        log.warning("open", hint="anybody who can reach this server can enter any room")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(address, tls, secret, limits, ice, log, service.policy))


def check_installed() -> None:
    """Raises ConfigError, saying how to install it, where aiohttp is missing."""
    if find_spec("aiohttp") is None:
        raise ConfigError("signalling needs aiohttp, which is not installed: pip install 'semcast[live]'")


_WHERE_TO_PUT_IT = f"set {SECRET_VARIABLE}, or give --secret-file FILE"


def _secret(service: Service) -> bytes | None:
    secret = find_secret(service.secret_file, os.environ)
    if secret is None and not service.open_:
        raise UsageError(f"no secret to check tokens with: {_WHERE_TO_PUT_IT}, or --open to let everybody in")
    if secret is not None and service.open_:
        raise UsageError(
            f"--open lets everybody in, yet there is a secret: leave out --open, or {SECRET_VARIABLE}"
        )
    return secret


def tls_context(cert: Path, key: Path | None) -> ssl.SSLContext:
    """For serving with the PEM files `cert` and `key` (None: in the same file); raises ConfigError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key, password=lambda: "")  # never asks on the terminal
    except ssl.SSLError as error:
        raise ConfigError(
            f"certificate {cert} and key {key or cert} cannot be used ({error.reason or 'not PEM'}): "
            "both must be PEM, belong together, and have no password"
        ) from error
    except OSError as error:
        named = " or ".join(str(path) for path in (cert, key) if path)
        raise ConfigError(f"cannot read {named}: {error.strerror}") from error
    return context


def _loopback(address: Address) -> bool:
    with suppress(ValueError):
        return ip_address(address.host).is_loopback
    return address.host == "localhost"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where there is one: there is none for Windows."""
    if find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


async def _serve(
    address: Address,
    tls: ssl.SSLContext | None,
    secret: bytes | None,
    limits: Limits,
    ice: Sequence[IceServerSettings],
    log: FilteringBoundLogger,
    policy: Policy,
) -> None:
    from channel.signalling.server import SignallingServer

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C interrupts there
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = SignallingServer(secret, limits, SystemClock(), UnixClock(), log, ice, policy)
    async with server.serving(address, tls) as local:
        print(json.dumps({"listening": f"{'wss' if tls else 'ws'}://{local}"}), flush=True)
        await stop.wait()
        log.info("stopping", rooms=server.rooms.rooms)

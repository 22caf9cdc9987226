"""Two hosts on one machine: network namespaces whose only way out is a TUN device, joined by a relay.

    namespace a: programs - 10.77.0.1 - TUN ~ Relay (this process) ~ TUN - 10.77.0.2 - programs: namespace b

    with two_hosts("packet:rate_kbps=100,delay_ms=25") as hosts:
        hosts.popen("b", ["semcast", "receive", ...])
        hosts.relay.change("packet:rate_kbps=24,delay_ms=25")

Needs Linux, the program `ip` and the right to make namespaces (root). Nothing that runs inside reaches the machine's own
network, nor is reached from it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.live.relay import HOSTS, MTU, Host, Relay, packet_link
from channel.spec import PacketChannelSpec
from common.errors import ChannelError

_NETWORK = "10.77.0"
_TUN = Path("/dev/net/tun")
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
"""Of linux/if_tun.h: a device of IP packets, without a header of its own."""
_PATIENCE_S = 5.0
"""Until a program that does not end when asked is killed."""


@dataclass(frozen=True)
class Hosts:
    """Two hosts, "a" and "b".

    address : IPv4 address by host
    relay : what lies between them
    """

    address: Mapping[Host, str]
    relay: Relay
    _namespaces: Mapping[Host, str]
    _programs: list[subprocess.Popen[Any]] = field(default_factory=list)

    def command(self, host: Host, command: Sequence[str | Path]) -> list[str]:
        """The command line that runs `command` inside a host; its process is that of the program itself."""
        return ["ip", "netns", "exec", self._namespaces[host], *map(str, command)]

    def popen(self, host: Host, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
        """Start a program inside a host, with the options of `subprocess.Popen`; it ends with the hosts at the latest."""
        program = subprocess.Popen(self.command(host, command), **options)
        self._programs.append(program)
        return program

    def end_programs(self) -> None:
        """End what still runs inside, first by asking, and close its pipes."""
        running = [program for program in self._programs if program.poll() is None]
        for program in running:
            program.terminate()
        for program in running:
            try:
                program.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                program.kill()
        for namespace in self._namespaces.values():  # what they started and left behind
            for number in _ip("netns", "pids", namespace).split():
                with suppress(ProcessLookupError):
                    os.kill(int(number), signal.SIGKILL)
        for program in self._programs:
            with program:  # waits, and closes its pipes
                pass


@contextmanager
def two_hosts(link: str, back: str | None = None, seed: int = 0, mtu: int = MTU) -> Iterator[Hosts]:
    """Two hosts until the end of the block; ended by an error, Ctrl-C or SIGTERM they are cleaned up as well.

    link : channel SPEC of what host a sends
    back : of what host b sends, None for the same link
    seed : as for `Relay`
    mtu : largest packet in bytes, IP header included

    Raises ConfigError for a link that is none, ChannelError where hosts cannot be made.
    """
    forward = packet_link(link)
    links: dict[Host, PacketChannelSpec] = {"a": forward, "b": packet_link(back) if back else forward}
    with ExitStack() as stack:
        stack.enter_context(_terminable())
        try:
            devices, namespaces = _open_devices(stack), _open_namespaces(stack)
            address = {host: f"{_NETWORK}.{number}" for number, host in enumerate(HOSTS, 1)}
            for host in HOSTS:
                _join(devices[host][0], namespaces[host], address[host], mtu)
            numbers = {host: number for host, (_, number) in devices.items()}
            relay = stack.enter_context(Relay(numbers, links, seed, mtu))
            hosts = Hosts(address, relay, namespaces)
            stack.callback(hosts.end_programs)
            yield hosts
        finally:
            _ignore_signals()


def _open_devices(stack: ExitStack) -> dict[Host, tuple[str, int]]:
    """(name, file descriptor) of a TUN device for each host; closing the descriptor removes the device."""
    devices = {}
    for host in HOSTS:
        name = f"tun{secrets.token_hex(4)}{host}"  # at most 15 characters
        devices[host] = name, _open_tun(name)
        stack.callback(os.close, devices[host][1])
    return devices


def _open_tun(name: str) -> int:
    try:
        number = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(number, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
        except OSError:
            os.close(number)
            raise
    except OSError as error:
        raise _impossible(f"{_TUN}: {error.strerror}") from error
    return number


def _open_namespaces(stack: ExitStack) -> dict[Host, str]:
    """Names of a new network namespace for each host."""
    unique = secrets.token_hex(4)
    namespaces = {host: f"semcast-{unique}-{host}" for host in HOSTS}
    for namespace in namespaces.values():
        stack.callback(_delete, namespace)  # first, since Ctrl-C may come right after it is made
        _ip("netns", "add", namespace)
    return namespaces


def _delete(namespace: str) -> None:
    if namespace in _ip("netns", "list").split():
        _ip("netns", "delete", namespace)


def _join(device: str, namespace: str, address: str, mtu: int) -> None:
    """Make a device the way from a namespace to the other hosts of the network, and bring it up."""
    _ip("link", "set", device, "netns", namespace)
    commands = (
        "link set lo up",
        f"address add {address}/24 dev {device}",
        f"link set {device} mtu {mtu} up",
    )
    _ip("-n", namespace, "-batch", "-", typed="\n".join(commands))


def _ip(*arguments: str, typed: str = "") -> str:
    """What `ip` prints. Raises ChannelError."""
    program = shutil.which("ip")
    if program is None:
        raise _impossible("the program `ip` is not there")
    done = subprocess.run(
        [program, *arguments],
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,  # Ctrl-C is for us; half a command would leave something behind
    )
    if done.returncode != 0:
        raise _impossible(f"ip {' '.join(arguments)}: {' '.join(done.stderr.split())}")
    return done.stdout


def _impossible(why: str) -> ChannelError:
    return ChannelError(
        f"cannot make two hosts on this machine ({why}); run as root on Linux, with iproute2 and {_TUN}"
    )


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM interrupts the block as Ctrl-C does, unless somebody handles it already."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if kept[signal.SIGTERM] is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in kept.items():
            if handler is not None:  # None: not set from Python, and lost by now
                signal.signal(number, handler)


def _ignore_signals() -> None:
    """Cleaning up takes a moment; an impatient second Ctrl-C must not end it half way."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

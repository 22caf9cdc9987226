"""Two hosts on this machine: programs inside them talk over UDP, and the relay between them acts on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.live import hosts as hosts_module
from benchmarks.live.hosts import Hosts, two_hosts
from common.errors import ChannelError

GIVE_UP_S = 60
COUNT = 60
"""Datagrams at once: as many large ones fit into the buffer of a socket that nobody reads yet."""

ECHO = """
import socket, sys
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.bind((sys.argv[1], 5000))
print("listening", flush=True)
while True:
    link.sendto(*link.recvfrom(2000))
"""

ASK = """
import json, socket, sys
# Sends COUNT numbered datagrams of SIZE bytes at once; prints the numbers that come back. Nothing overtakes: once the
# answer to a last one is there, which is sent until it comes, all the others have come that ever will.
address, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.settimeout(0.2)
link.connect((address, 5000))
for number in range(count):
    link.send(number.to_bytes(4, "big") + bytes(size - 4))
answered, left = [], 100
while count not in answered and left:
    link.send(count.to_bytes(4, "big"))
    left -= 1
    try:
        while count not in answered:
            answered.append(int.from_bytes(link.recv(2000)[:4], "big"))
    except TimeoutError:
        pass
print(json.dumps([number for number in answered if number < count]))
"""

STREAM = """
import json, socket, sys
# Sends numbered datagrams, one every 10 ms, until one is answered after others were not; prints those that were.
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.settimeout(0.01)
link.connect((sys.argv[1], 5000))
answered = []
for number in range(3000):
    link.send(number.to_bytes(4, "big"))
    try:
        while True:
            answered.append(int.from_bytes(link.recv(2000), "big"))
            if len(answered) == 1:
                print("answered", flush=True)
    except TimeoutError:
        pass
    if answered and answered[-1] - answered[0] >= len(answered):
        break
print(json.dumps(answered))
"""


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Two hosts joined by a clean link; an echo answers on host b."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(two_hosts("clean"))
        except ChannelError as error:
            pytest.skip(str(error))
        echo = start(made, "b", ECHO, made.address["b"])
        assert echo.stdout is not None and echo.stdout.readline() == "listening\n"
        yield made


def start(hosts: Hosts, host: hosts_module.Host, program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return hosts.popen(host, command, text=True, stdout=subprocess.PIPE)


def answered(program: subprocess.Popen[str]) -> list[int]:
    out, _ = program.communicate(timeout=GIVE_UP_S)
    assert program.returncode == 0
    return json.loads(out.splitlines()[-1])


def ask(hosts: Hosts, count: int, size: int) -> list[int]:
    return answered(start(hosts, "a", ASK, hosts.address["b"], count, size))


def test_all_arrive_over_a_clean_link_and_some_over_a_lossy_one(hosts: Hosts) -> None:
    assert ask(hosts, COUNT, 1250) == list(range(COUNT))
    hosts.relay.change("packet:loss=0.2", "a")
    arrived = ask(hosts, COUNT, 250)
    assert arrived == sorted(arrived) and 0.6 * COUNT <= len(arrived) < COUNT
    there, back = hosts.relay.stats("a").link, hosts.relay.stats("b").link
    assert dict(there.drops)["loss"] >= COUNT - len(arrived)
    assert there.delivered == back.sent == back.delivered
    assert there.sent_bytes > COUNT * (1278 + 278)


def test_what_is_more_than_the_link_carries_waits_and_is_dropped(hosts: Hosts) -> None:
    """1028 bytes at 400 kbit/s take 20.6 ms: ten fit into 200 ms."""
    hosts.relay.change("packet:rate_kbps=400,queue_ms=200")
    arrived = ask(hosts, COUNT, 1000)
    stats = hosts.relay.stats("a")
    assert arrived[:10] == list(range(10)) and len(arrived) < COUNT
    assert dict(stats.link.drops)["queue"] >= COUNT - len(arrived)
    assert 0.1 < stats.most_queue_s() < 0.2207
    hosts.relay.change("packet:rate_kbps=4000,queue_ms=1000")
    assert ask(hosts, COUNT, 1000) == list(range(COUNT))


def test_an_outage_takes_all_and_ends(hosts: Hosts) -> None:
    streaming = start(hosts, "a", STREAM, hosts.address["b"])
    assert streaming.stdout is not None and streaming.stdout.readline() == "answered\n"
    hosts.relay.cut(0.3, "a")
    arrived = answered(streaming)
    missing = set(range(arrived[-1])) - set(arrived)
    assert missing == set(range(min(missing), max(missing) + 1))
    assert dict(hosts.relay.stats("a").link.drops)["outage"] == len(missing)
    assert hosts.relay.stats("b").link.drops == ()


def left_behind(hosts: Hosts) -> list[str]:
    """Namespaces and devices of these hosts that are still there."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [word for word in listed.split() if word in hosts.command("a", []) + hosts.command("b", [])]


def test_nothing_is_left_behind(hosts: Hosts) -> None:
    """Nor of what programs started: who still holds the pipe open is still there."""
    reading, writing = os.pipe()
    with open(reading, "rb") as held:
        with two_hosts("clean") as others:
            assert len(left_behind(others)) == 2
            assert others.address == hosts.address  # and yet they do not meet
            sleeper = others.popen("a", ["sh", "-c", "sleep 600 & sleep 600"], pass_fds=[writing])
            os.close(writing)
        assert sleeper.returncode is not None and held.read() == b""
    assert left_behind(others) == []
    assert ask(hosts, 5, 100) == list(range(5))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts, also where whoever started the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_them_cleanly(hosts: Hosts, number: signal.Signals) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), two_hosts("clean") as others:
        os.kill(os.getpid(), number)
        signal.pause()
    assert left_behind(others) == []
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


def test_without_ip_the_devices_go_again(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(Path("/sys/class/net").iterdir())
    with monkeypatch.context() as without:
        without.setattr(hosts_module.shutil, "which", lambda name: None)
        with pytest.raises(ChannelError, match="the program `ip` is not there"), two_hosts("clean"):
            pass
    assert set(Path("/sys/class/net").iterdir()) == before

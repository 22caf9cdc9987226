"""`semcast bench live`: both live ends as programs on two hosts, over links that lose, delay, fail and narrow.

    host a: semcast send CLIP --loop ~ relay ~ host b: semcast receive        a trial for each row of the table

The hosts are network namespaces (`benchmarks.live.hosts`), which needs root on Linux; without that both ends run on this
host as it is, and what the relay would do to the packets is done by the receiver's `--channel`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from benchmarks.live.browser import find_browser
from benchmarks.live.hosts import Hosts, two_hosts
from benchmarks.live.relay import Host
from common.clock import SystemClock
from common.errors import ChannelError, SemcastError
from common.files import made_folder

START_S = 90.0
"""A program that has not said by then that it runs has failed; a busy machine takes its time to load libraries."""
PAGE_PORT = 8080
_MARGIN_S = 30.0
_SILENCE_S = 4.0
_OF_HOSTS = ("recovery_s", "most_queue_s", "settled_queue_s")
"""Figures that only a link between two hosts can give."""
_NO_FIGURES = ("name", "sent", "received", "of_hosts")


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of both ends.

    link : channel SPEC of each way; seconds : of sending
    outage_s, narrow_to : what happens to the link at half time: nothing crosses for so long; another SPEC from then on
    limits : largest values of figures that issue and README promise
    """

    name: str
    link: str
    bitrate: str = "48k"
    seconds: float = 24.0
    outage_s: float = 0.0
    narrow_to: str = ""
    limits: Mapping[str, float] = field(default_factory=dict)


_WAY = "packet:delay_ms=25"
CONNECT = {"connect_s": 2.0, "first_picture_s": 1.0}
TRIALS = (
    Trial("25 ms each way", _WAY, limits={"p50_ms": 200, "p95_ms": 300, **CONNECT}),
    Trial("2 % loss", f"{_WAY},loss=0.02", limits={"freeze_ratio": 0.01}),
    Trial("5 % loss", f"{_WAY},loss=0.05", limits={"freeze_ratio": 0.03}),
    Trial("10 % loss", f"{_WAY},loss=0.1", limits={"freeze_ratio": 0.06}),
    Trial("outage of 2 s", _WAY, outage_s=2.0, limits={"recovery_s": 1.0}),
    Trial(
        "100, then 24 kbit/s", f"{_WAY},rate_kbps=100,queue_ms=3000", "100k", 30.0,
        narrow_to=f"{_WAY},rate_kbps=24,queue_ms=3000", limits={"most_queue_s": 0.4},
    ),
    Trial("12 kbit/s", f"{_WAY},rate_kbps=12,queue_ms=3000"),
    Trial("2 Mbit/s", f"{_WAY},rate_kbps=2000,queue_ms=300", "2M"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial gave; None where that cannot be known.

    p50_ms, p95_ms : glass to glass; recovery_s : longest standstill less the outage
    most_queue_s : at the bottleneck, from two seconds after the start of the trial on; settled_queue_s : from two
        seconds after it narrowed on
    kbps : received
    of_hosts : whether there were two hosts
    """

    name: str
    connect_s: float | None
    first_picture_s: float | None
    fps: float
    p50_ms: float | None
    p95_ms: float | None
    freeze_ratio: float
    longest_freeze_s: float
    recovery_s: float | None
    most_queue_s: float | None
    settled_queue_s: float | None
    kbps: float
    sent: Mapping[str, Any]
    received: Mapping[str, Any]
    of_hosts: bool = True

    def missed(self, limits: Mapping[str, float]) -> list[str]:
        """Names of the figures that are not within their limits, or are not there; without two hosts some cannot be."""
        values = {name: getattr(self, name) for name in limits if name not in _OF_HOSTS or self.of_hosts}
        return [name for name, value in values.items() if value is None or value > limits[name]]


class Program:
    """A live end that was started: its lines on both outputs are read as they come."""

    def __init__(self, started: subprocess.Popen[str]) -> None:
        self._started = started
        self.pid = started.pid
        self.lines: dict[str, list[str]] = {"out": [], "err": []}
        self._news, self._open = threading.Condition(), {"out", "err"}
        assert started.stdout is not None and started.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("out", started.stdout), ("err", started.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def wait_for(self, where: str, what: Callable[[str], bool], timeout_s: float = START_S) -> str:
        """The first line for which `what` is true. Raises ChannelError where the program ends, or none comes."""

        def found() -> str | None:
            return next(filter(what, self.lines[where]), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or not self._open, timeout_s)
            line = found()
        if line is None:
            self.end()
            raise ChannelError(f"a live end did not start: {' / '.join(self.lines['err'][-3:]) or 'no word'}")
        return line

    def document(self, timeout_s: float) -> dict[str, Any]:
        """What it printed last, once it has ended. Raises ChannelError where that is no JSON."""
        try:
            self._started.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.end()
        for reader in self._readers:
            reader.join()
        try:
            return dict(json.loads(self.lines["out"][-1]))
        except (IndexError, ValueError):
            raise ChannelError(f"a live end failed: {' / '.join(self.lines['err'][-3:])}") from None

    def tell(self, line: str) -> None:
        """Type a line."""
        assert self._started.stdin is not None
        self._started.stdin.write(line + "\n")
        self._started.stdin.flush()

    def ended(self, timeout_s: float) -> int | None:
        """Its exit status, None where it goes on for longer than that."""
        try:
            return self._started.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """Ask it to end, where it still runs."""
        self._started.terminate()
        self._started.wait()
        if self._started.stdin is not None:
            with suppress(OSError):
                self._started.stdin.close()

    def _read(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._news:
                    self.lines[name].append(line.rstrip())
                    self._news.notify_all()
        with self._news:
            self._open.discard(name)
            self._news.notify_all()


@contextmanager
def hosts_or_none(link: str) -> Iterator[Hosts | None]:
    """Two hosts, or None where this machine or user cannot have them."""
    try:
        made = two_hosts(link)
        hosts = made.__enter__()
    except ChannelError as error:
        Console(stderr=True, soft_wrap=True).print(f"both ends on this host: {error}", markup=False)
        yield None
        return
    try:
        yield hosts
    finally:
        made.__exit__(None, None, None)


def start(hosts: Hosts | None, host: Host, command: Sequence[str | Path]) -> Program:
    """Start `semcast COMMAND` on a host, or here."""
    return run_python(hosts, host, ["cli", *map(str, command)])


def run_python(hosts: Hosts | None, host: Host, command: Sequence[str]) -> Program:
    """Start `python -m COMMAND` on a host, or here."""
    line = [sys.executable, "-m", *command]
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    return Program(hosts.popen(host, line, **pipes) if hosts else subprocess.Popen(line, **pipes))


def run_trial(trial: Trial, clip: str | None, options: Sequence[str], steps: str = "1") -> Outcome:
    """Both ends for one trial. options : more for the sender; raises ChannelError where an end fails"""
    with hosts_or_none(trial.link) as hosts:
        receiver, send_to = start_receiver(hosts, trial, steps)
        try:
            sender = start_sender(hosts, trial, clip, send_to, options)
            sender.wait_for("err", lambda line: line.endswith(": connected"))
            began_s = 0.0 if hosts is None else hosts.relay.now_s()
            _disturb(hosts, trial)
            sent = sender.document(trial.seconds + _MARGIN_S)
            received = receiver.document(_MARGIN_S)
        finally:
            receiver.end()
        return _outcome(trial, sent, received, hosts, began_s)


def start_receiver(hosts: Hosts | None, trial: Trial, steps: str = "1") -> tuple[Program, str]:
    """A receiver that runs, and what to send to."""
    where = f"{hosts.address['b']}:{PAGE_PORT}" if hosts else "127.0.0.1:0"
    command = ["receive", "--listen", where, "--idle-s", str(_SILENCE_S), "--steps", steps, "--threads", "1"]
    program = start(hosts, "b", command if hosts else [*command, "--channel", trial.link])
    return program, json.loads(program.wait_for("out", lambda line: line.startswith("{")))["send_to"]


def start_sender(
    hosts: Hosts | None, trial: Trial, clip: str | None, send_to: str, options: Sequence[str]
) -> Program:
    """A sender of `clip` (None: the built-in one) that may not have connected yet."""
    command = ["send", *([clip] if clip else []), "--to", send_to, "--bitrate", trial.bitrate, "--loop"]
    return start(hosts, "a", [*command, "--size", "512x512", "--seconds", str(trial.seconds), *options])


def _disturb(hosts: Hosts | None, trial: Trial) -> None:
    """Do to the link what the trial asks for, at half time."""
    if hosts is None or not (trial.outage_s or trial.narrow_to):
        return
    threading.Event().wait(trial.seconds / 2)
    if trial.outage_s:
        hosts.relay.cut(trial.outage_s)
    if trial.narrow_to:
        hosts.relay.change(trial.narrow_to)


def _outcome(
    trial: Trial, sent: Mapping[str, Any], received: Mapping[str, Any], hosts: Hosts | None, began_s: float
) -> Outcome:
    if not received["streams"] or not received["streams"][-1]["pictures"]:
        raise ChannelError(f"{trial.name}: no picture arrived")
    stream = received["streams"][-1]
    delay = stream["glass_to_glass_ms"] or {}
    queue = None if hosts is None else hosts.relay.stats("a")
    half_s = began_s + trial.seconds / 2
    return Outcome(
        trial.name, stream["connect_s"], stream["first_picture_s"], stream["fps"], delay.get("p50"),
        delay.get("p95"), stream["freeze_ratio"], stream["longest_freeze_s"],
        max(0.0, stream["longest_freeze_s"] - trial.outage_s) if trial.outage_s and hosts else None,
        None if queue is None else round(queue.most_queue_s(began_s + 2.0), 3),
        None if queue is None or not trial.narrow_to else round(queue.most_queue_s(half_s + 2.0), 3),
        round(received["wire"]["received_bytes"] * 8e-3 / max(1.0, stream["watched_s"]), 1),
        sent, received, hosts is not None,
    )  # fmt: skip


def picture_of_page(clip: str | None, path: Path, console: Console) -> None:
    """What a browser on the receiver's host shows after some seconds; a word why not where there is none."""
    if find_browser() is None:
        console.print("no picture of the page: no Chromium is installed")
        return
    trial = Trial("page", _WAY, seconds=60.0)
    with hosts_or_none(trial.link) as hosts:
        receiver, send_to = start_receiver(hosts, trial, "auto")
        url = json.loads(next(line for line in receiver.lines["out"] if line.startswith("{")))["page"]
        sender = start_sender(hosts, trial, clip, send_to, ())
        sender.wait_for("err", lambda line: line.endswith(": connected"))
        command = [sys.executable, "-m", "benchmarks.live.browser", url, str(path.resolve())]
        line = hosts.command("b", command) if hosts else command
        subprocess.run(line, stderr=subprocess.DEVNULL, timeout=3 * trial.seconds, check=False)
    if not path.exists():
        console.print("no picture of the page: the browser took none")


def run_live(clip: str | None, out: Path, only: Sequence[str] = (), picture: bool = True) -> None:
    """All trials, or those named; the last line printed is JSON.

    picture : also one of the page in a browser, where there is a browser
    Raises UsageError for a name that is none.
    """
    from benchmarks.live.trials_page import chosen, write_page

    console, clock = Console(stderr=True, highlight=False, soft_wrap=True), SystemClock()
    made_folder(out)
    outcomes: list[Outcome] = []
    trials = chosen(only)
    limits = {trial.name: trial.limits for trial in trials}
    for number, trial in enumerate(trials, 1):
        began_s = clock.now_s()
        console.print(f"{number}/{len(trials)} {trial.name} ...", markup=False)
        try:
            outcomes.append(run_trial(trial, clip, ()))
        except SemcastError as error:
            console.print(f"  failed: {error}", markup=False)
            continue
        missed = outcomes[-1].missed(trial.limits)
        console.print(
            f"  {clock.now_s() - began_s:.0f} s; missed: {', '.join(missed) or 'nothing'}", markup=False
        )
    if not outcomes:
        raise ChannelError("no trial came to its end")
    if picture:
        picture_of_page(clip, out / "page.png", console)
    result = out / "live.json"
    result.write_text(
        json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n", encoding="utf-8"
    )
    write_page(outcomes, trials, out)
    print(json.dumps({
        "result": str(result), "page": str(out / "live.html"), "failed": len(trials) - len(outcomes),
        "trials": {
            o.name: {key: value for key, value in asdict(o).items() if key not in _NO_FIGURES}
            for o in outcomes
        },
        "missed": {o.name: m for o in outcomes if (m := o.missed(limits[o.name]))},
    }))  # fmt: skip

"""A live link of real programs that somebody watches and records, for doing things to it.

host a: semcast send ~ relay ~ host b: semcast signal, semcast receive, a viewer of its page
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.live.hosts import Hosts
from benchmarks.live.relay import Host
from benchmarks.live.trials import Program, run_python
from common.clock import SystemClock
from common.errors import ChannelError

LINK = "packet:delay_ms=25"
SIGNAL_PORT = 8765
START_S = 90.0
LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Event:
    """What the page was told. kind : picture, stats, notice, setup, open, closed; at_s : on this machine's clock"""

    at_s: float
    kind: str
    what: dict[str, Any]

    @classmethod
    def of(cls, line: str) -> Event:
        """Of a line of `benchmarks.live.viewer`."""
        what = json.loads(line)
        return cls(what.pop("at_s"), what.pop("kind"), what)

    @property
    def fresh(self) -> bool:
        """A picture with something new in it."""
        return self.kind == "picture" and not self.what["concealed"]


@dataclass(slots=True)
class Rig:
    """Both ends, where they meet, and who watches; every program that was ever started ends with it.

    recordings : folder that the receiver records into
    faults : by end ("send", "receive"): one of `benchmarks.live.faulty` that is built in
    """

    hosts: Hosts
    clip: str | None
    recordings: Path
    receiver_options: Sequence[str] = ("--steps", "0")
    faults: dict[str, str] = field(default_factory=dict)
    started: list[Program] = field(default_factory=list)
    viewers: list[Program] = field(default_factory=list)
    said: dict[str, list[Program]] = field(default_factory=dict)
    clock: SystemClock = field(default_factory=SystemClock)

    @property
    def sender(self) -> Program:
        """The newest."""
        return self.said["sender"][-1]

    @property
    def receiver(self) -> Program:
        """The newest."""
        return self.said["receiver"][-1]

    def now_s(self) -> float:
        """On the clock of `Event`."""
        return self.clock.now_s()

    # --- programs -------------------------------------------------------------------------------------------------

    def run(self, host: Host, command: Sequence[str], name: str) -> Program:
        """Start `python -m COMMAND`; what it says for people counts as said by `name`."""
        program = run_python(self.hosts, host, command)
        self.started.append(program)
        self.said.setdefault(name, []).append(program)
        return program

    def meet(self) -> None:
        """Start the place where ends meet."""
        command = ["cli", "signal", "--open", "--listen", f"{self.hosts.address['b']}:{SIGNAL_PORT}"]
        _ready(self.run("b", command, "signalling"))

    def receive(self) -> Program:
        """Start a receiver, and watch its page."""
        here = self.hosts.address["b"]
        command = ["receive", "--listen", f"{here}:0", "--from", f"{self._room}?id=receiver", "--out"]
        command += [str(self.recordings), "--threads", "1", *self.receiver_options]
        program = self.run("b", self._with_fault(command), "receiver")
        self.watch(json.loads(_ready(program))["page"])
        return program

    def watch(self, url: str, *options: str) -> Program:
        """One more viewer of a page."""
        viewer = self.run("b", ["benchmarks.live.viewer", url, *options], "viewer")
        _ready(viewer)
        self.viewers += [viewer] if not options else []
        return viewer

    def page(self) -> str:
        """Address of the newest receiver's page."""
        return str(json.loads(self.receiver.lines["out"][0])["page"])

    def send(self, name: str = "sender") -> Program:
        """Start a sender; it may not have connected yet. name : its identity in the room"""
        command = ["send", *([self.clip] if self.clip else []), "--to", f"{self._room}?id={name}", "--loop"]
        command += ["--bitrate", "48k", "--size", "256x256", "--threads", "1"]
        return self.run("a", self._with_fault(command), "sender")

    def end(self) -> None:
        """All of them, also those that are suspended."""
        for program in reversed(self.started):
            if program.ended(0.0) is None:
                os.kill(program.pid, signal.SIGCONT)
                program.end()

    @property
    def _room(self) -> str:
        return f"ws://{self.hosts.address['b']}:{SIGNAL_PORT}/faults"

    def _with_fault(self, command: list[str]) -> list[str]:
        fault = self.faults.get(command[0])
        return ["cli", *command] if fault is None else ["benchmarks.live.faulty", fault, *command]

    # --- what is seen ---------------------------------------------------------------------------------------------

    def events(self, after_s: float = 0.0) -> list[Event]:
        """Of all viewers, by time."""
        lines = (line for viewer in self.viewers for line in list(viewer.lines["out"]))
        return sorted(
            (event for event in map(Event.of, lines) if event.at_s > after_s), key=lambda event: event.at_s
        )

    def wait_for(
        self, what: Callable[[Event], bool], after_s: float = 0.0, timeout_s: float = START_S
    ) -> Event | None:
        """The first such event after a time; None where none comes."""
        until_s = self.now_s() + timeout_s
        while self.now_s() < until_s:
            found = next((event for event in self.events(after_s) if what(event)), None)
            if found is not None:
                return found
            pause(LOOK_S)
        return None

    def picture(self, after_s: float = 0.0, timeout_s: float = START_S) -> Event | None:
        """The first new picture after a time."""
        return self.wait_for(lambda event: event.fresh, after_s, timeout_s)

    def record(self, on: bool) -> None:
        """Begin or end a recording, as somebody at the page does. Raises ChannelError where nothing comes of it."""
        asked_s = self.now_s()
        self.viewers[-1].tell(json.dumps({"type": "record", "on": on}))
        if self.wait_for(lambda e: e.kind == "setup" and e.what["recording"] is on, asked_s, 20.0) is None:
            raise ChannelError(f"the page did not {'begin' if on else 'end'} a recording")

    def lines(self, name: str) -> list[str]:
        """All that programs of this name have said for people."""
        return [line for program in self.said.get(name, ()) for line in program.lines["err"]]


@contextmanager
def rig(hosts: Hosts, clip: str | None, recordings: Path, **options: Any) -> Iterator[Rig]:
    """A link that stands, with pictures on the page. options : of `Rig`. Raises ChannelError where there are none."""
    made = Rig(hosts, clip, recordings, **options)
    try:
        made.meet()
        made.receive()
        made.send()
        yield made
    finally:
        made.end()


def pause(seconds: float) -> None:
    """Let the programs go on."""
    threading.Event().wait(seconds)


def _ready(program: Program) -> str:
    return program.wait_for("out", lambda line: line.startswith("{"), START_S)

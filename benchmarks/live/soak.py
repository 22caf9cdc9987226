"""One sender and its receivers for a long time, over a link that changes: does anything grow?

host a: semcast send --metrics ~ relay ~ host b: semcast signal, semcast receive --metrics, as many as asked for

Every `SAMPLE_S` memory, descriptors, threads, queues and delay of each program become a line of `samples.jsonl`, so that
a run that ends early has its samples. What grows is told by slopes, see `benchmarks.live.slopes`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.progress import Progress

from benchmarks.live.hosts import Hosts
from benchmarks.live.relay import Host
from benchmarks.live.scrape import DELAY, FAR_END_QUEUE, PARTIAL_BYTES, PARTIAL_UNITS
from benchmarks.live.slopes import Measured, Slope, slope_of
from benchmarks.live.trials import Program, hosts_or_none, run_python, start
from benchmarks.live.weather import PERIOD_S, Spell, changing_link, due
from common.clock import SystemClock
from common.errors import ChannelError
from common.files import made_folder

SIGNAL_PORT = 8765
SAMPLE_S = 10.0
LOOK_S = 1.0
WARM_UP_S = 600.0
_MARGIN_S = 60.0
_SAID = 100
"""Last lines for people that are kept of each program."""


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """What runs. steps : of the receivers; link : a channel SPEC that stays, None for one that changes by `seed`"""

    receivers: int = 1
    seconds: float = 3600.0
    size: str = "512x512"
    bitrate: str = "48k"
    steps: str = "auto"
    link: str | None = None
    seed: int = 0

    @property
    def spells(self) -> tuple[Spell, ...]:
        """How the link is, and from when on."""
        return changing_link(self.seed, self.seconds) if self.link is None else (Spell(0.0, self.link),)


@dataclass(frozen=True, slots=True)
class Kind:
    """A figure that is watched. bound : growth an hour that counts as flat"""

    unit: str
    bound: float


KINDS: Mapping[str, Kind] = {
    "memory": Kind("MiB", 16.0),
    "descriptors": Kind("", 1.0),
    "threads": Kind("", 1.0),
    "queue": Kind("ms", 20.0),
    "delay p50": Kind("ms", 20.0),
    "partial units": Kind("", 1.0),
    "partial bytes": Kind("KiB", 4.0),
}
_SCALES = {
    "queue": (FAR_END_QUEUE, 1e3),
    "delay p50": (DELAY, 1e3),
    "partial units": (PARTIAL_UNITS, 1.0),
    "partial bytes": (PARTIAL_BYTES, 1 / 1024),
}
"""Figures that are scraped: of the name, times the factor, the median of the interval."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Figures of one program at one time, by their names in `KINDS`."""

    at_s: float
    program: str
    figures: Mapping[str, float]


@dataclass(slots=True)
class Watched:
    """A program under watch. row : its place in its scraper's lines; seen : what was scraped since the last sample"""

    name: str
    program: Program
    scraper: Program | None = None
    row: int = 0
    read: int = 0
    seen: dict[str, list[float]] = field(default_factory=dict)

    def look(self) -> None:
        """Take in what has been scraped since."""
        if self.scraper is None:
            return
        lines = self.scraper.lines["out"]
        while self.read < len(lines):
            for name, value in (json.loads(lines[self.read])[self.row] or {}).items():
                self.seen.setdefault(name, []).append(value)
            self.read += 1

    def sample(self, at_s: float) -> Sample:
        """As of now. Raises ChannelError where the program is gone."""
        try:
            process = psutil.Process(self.program.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                raise psutil.ZombieProcess(process.pid)
            figures = {
                "memory": process.memory_info().rss / (1 << 20), "descriptors": float(process.num_fds()),
                "threads": float(process.num_threads()),
            }  # fmt: skip
        except psutil.Error:
            raise ChannelError(f"{self.name} has stopped in the middle") from None
        for figure, (name, scale) in _SCALES.items():
            if name in self.seen:
                figures[figure] = float(np.median(self.seen[name])) * scale
        self.seen = {}
        return Sample(round(at_s, 1), self.name, {name: round(value, 3) for name, value in figures.items()})


def run_soak(clip: str | None, out: Path, plan: SoakPlan) -> None:
    """Print the figures as a line of JSON, and keep them in `out`: samples.jsonl, soak.json, soak.html.

    Ctrl-C and SIGTERM end it early, with the report of what there is. Raises ChannelError where an end fails.
    """
    from benchmarks.live.soak_page import write_page

    made_folder(out)
    samples: list[Sample] = []
    with ExitStack() as stack, (out / "samples.jsonl").open("w", encoding="utf-8") as kept:

        def keep(sample: Sample) -> None:
            samples.append(sample)
            kept.write(json.dumps(asdict(sample)) + "\n")
            kept.flush()

        hosts = stack.enter_context(hosts_or_none(plan.spells[0].link))
        watched, sender, ends = _start(stack, hosts, clip, plan)
        failure = _watch(watched, plan, hosts, keep)
        if failure is not None:
            for end in (sender, *ends):
                end.end()
        sent, received = _documents(sender, ends)
    slopes = slopes_of(samples, warm_up_of(samples), period_of(plan, samples))
    figures = _figures(plan, samples, slopes, sent, received, failure)
    said = {each.name: each.program.lines["err"][-_SAID:] for each in watched}
    document = {"figures": figures, "said": said, "plan": asdict(plan), "spells": [asdict(s) for s in plan.spells],
                "slopes": [asdict(s) for s in slopes], "sent": sent, "received": received}  # fmt: skip
    result = out / "soak.json"
    result.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    write_page(plan, samples, slopes, figures, out)
    print(json.dumps({"result": str(result), "page": str(out / "soak.html"), **figures}))
    if failure is not None:
        raise ChannelError(f"the soak ended after {figures['watched_s']:.0f} s: {failure}")


def _start(
    stack: ExitStack, hosts: Hosts | None, clip: str | None, plan: SoakPlan
) -> tuple[list[Watched], Program, list[Program]]:
    """All programs, running: those to watch, the sender's first, and the ends themselves."""

    def run(host: Host, command: Sequence[str]) -> Program:
        """Started, and ended with everything else whatever happens."""
        program = start(hosts, host, command)
        stack.callback(program.end)
        return program

    a, b = (hosts.address["a"], hosts.address["b"]) if hosts else ("127.0.0.1", "127.0.0.1")
    where = f"{b}:{SIGNAL_PORT}"
    signalling = run("b", ["signal", "--open", "--listen", where, "--max-members", str(plan.receivers + 1)])
    signalling.wait_for("out", lambda line: line.startswith("{"))
    room = f"ws://{where}/soak"
    ends = [run("b", _receive(b, room, number, plan.steps)) for number in range(plan.receivers)]
    for end in ends:
        end.wait_for("out", lambda line: line.startswith("{"))
    command = ["send", *([clip] if clip else []), "--to", f"{room}?id=sender", "--loop", "--size", plan.size]
    sender = run(
        "a", [*command, "--bitrate", plan.bitrate, "--seconds", str(plan.seconds), "--metrics", f"{a}:0"]
    )
    sender.wait_for("err", lambda line: line.endswith(": connected"))

    def scraper(host: Host, programs: Sequence[Program]) -> Program:
        urls = [program.wait_for("err", _says_metrics).split()[-1] for program in programs]
        program = run_python(hosts, host, ["benchmarks.live.scrape", *urls])
        stack.callback(program.end)
        return program

    watched = [Watched("sender", sender, scraper("a", [sender]))]
    of_receivers = scraper("b", ends)
    watched += [Watched(f"receiver {n + 1}", end, of_receivers, n) for n, end in enumerate(ends)]
    return [*watched, Watched("signalling", signalling)], sender, ends


def _says_metrics(line: str) -> bool:
    return line.startswith("metrics at ")


def _receive(here: str, room: str, number: int, steps: str) -> list[str]:
    command = ["receive", "--listen", f"{here}:0", "--from", f"{room}?id=receiver{number}", "--steps", steps]
    return [*command, "--threads", "1", "--idle-s", "20", "--metrics", f"{here}:0"]


def _watch(
    watched: Sequence[Watched], plan: SoakPlan, hosts: Hosts | None, keep: Callable[[Sample], None]
) -> str | None:
    """Sample until the time is over, and change the link; returns why it ended before, None where it did not."""
    clock, spells = SystemClock(), plan.spells
    began_s, before_s, sampled_s = clock.now_s(), 0.0, 0.0
    try:
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("soak", total=plan.seconds)
            while (now_s := clock.now_s() - began_s) < plan.seconds - SAMPLE_S:
                if hosts is not None:
                    _change(hosts, due(spells, before_s, now_s))
                before_s = now_s
                for each in watched:
                    each.look()
                if now_s - sampled_s >= SAMPLE_S:
                    sampled_s += SAMPLE_S
                    bar.update(task, completed=now_s)
                    for each in watched:
                        keep(each.sample(now_s))
                threading.Event().wait(LOOK_S)
            bar.update(task, completed=plan.seconds)
    except ChannelError as error:
        return str(error)
    except KeyboardInterrupt:
        return "it was interrupted"
    return None


def _change(hosts: Hosts, spell: Spell | None) -> None:
    if spell is not None:
        hosts.relay.change(spell.link)
        if spell.cut_s:
            hosts.relay.cut(spell.cut_s)


def _documents(sender: Program, ends: Sequence[Program]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the ends say last; nothing of those that failed."""

    def last(program: Program) -> dict[str, Any]:
        try:
            return program.document(_MARGIN_S)
        except ChannelError:
            return {}

    sent = last(sender)
    if "source" in sent:  # figures travel, folders of a machine do not
        sent["source"] = Path(sent["source"]).name
    return sent, [last(end) for end in ends]


def warm_up_of(samples: Sequence[Sample]) -> float:
    """What slopes leave out: libraries, caches and histories fill up first, and a first anchor takes its place."""
    return min(WARM_UP_S, max((sample.at_s for sample in samples), default=0.0) / 4)


def period_of(plan: SoakPlan, samples: Sequence[Sample]) -> float | None:
    """After which the link was the same again, None where that did not happen twice after the warm-up."""
    end_s = max((sample.at_s for sample in samples), default=0.0)
    return PERIOD_S if plan.link is None and end_s >= warm_up_of(samples) + 2 * PERIOD_S else None


def slopes_of(samples: Sequence[Sample], warm_up_s: float, period_s: float | None = None) -> list[Slope]:
    """Of each figure of each program, in the order of `KINDS`."""
    programs = list(dict.fromkeys(sample.program for sample in samples))
    measured = [series(samples, program, figure) for program in programs for figure in KINDS]
    return [slope for each in measured if (slope := slope_of(each, warm_up_s, period_s)) is not None]


def series(samples: Sequence[Sample], program: str, figure: str) -> Measured:
    """One figure of one program over time."""
    of = [s for s in samples if s.program == program and figure in s.figures]
    at_s, values = tuple(s.at_s for s in of), tuple(s.figures[figure] for s in of)
    return Measured(program, figure, KINDS[figure].unit, KINDS[figure].bound, at_s, values)


def _figures(
    plan: SoakPlan, samples: Sequence[Sample], slopes: Sequence[Slope], sent: Mapping[str, Any],
    received: Sequence[Mapping[str, Any]], failure: str | None,
) -> dict[str, Any]:  # fmt: skip
    """What it comes to: of several receivers the worst figure."""
    streams = [document["streams"][-1] for document in received if document.get("streams")]
    delays = [s["glass_to_glass_ms"] for s in streams if s["glass_to_glass_ms"] is not None]
    drifts = [abs(s["drift_ms"]) for s in streams if s["drift_ms"] is not None]
    return {
        "receivers": plan.receivers, "ended": failure, "watched_s": max((s.at_s for s in samples), default=0.0),
        "spells": len(plan.spells), "cuts": sum(spell.cut_s > 0 for spell in plan.spells),
        "grows": [f"{s.program}: {s.figure}" for s in slopes if s.verdict == "grows"],
        "unclear": [f"{s.program}: {s.figure}" for s in slopes if s.verdict == "unclear"],
        "flat": sum(slope.verdict == "flat" for slope in slopes),
        "pictures": [s["pictures"] for s in streams], "streams_each": [len(d.get("streams", ())) for d in received],
        "fps": min((s["fps"] for s in streams), default=None),
        "freeze_ratio": max((s["freeze_ratio"] for s in streams), default=None),
        "longest_freeze_s": max((s["longest_freeze_s"] for s in streams), default=None),
        "p50_ms": max((d["p50"] for d in delays), default=None), "p95_ms": max((d["p95"] for d in delays), default=None),
        "drift_ms": max(drifts, default=None),
        "keys": sent["stream"]["keys"] if sent else None, "frames": sent["stream"]["frames"] if sent else None,
    }  # fmt: skip

"""`semcast bench faults`: what goes wrong in the field (faults.py), done to real programs, and what comes of it.

    a link that stands, watched and recorded (rig.py) -> the fault -> what is said, when it is back, what is recorded

The programs run on two hosts (network namespaces), which takes root on Linux.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Literal

from rich.console import Console

from benchmarks.live.faults import PATIENCE_S, Fault, Refusal, chosen
from benchmarks.live.faults_page import (
    FaultRow,
    Kept,
    fault_table,
    kept_in,
    merged,
    rows_as_text,
    rows_of,
    write_document,
)
from benchmarks.live.hosts import two_hosts
from benchmarks.live.rig import LINK, Rig, pause, rig
from benchmarks.live.trials import run_python
from benchmarks.tables import rich_table
from common.clock import SystemClock
from common.errors import ChannelError, SemcastError
from common.files import made_folder

BEFORE_S = 4.0
"""Recorded before the fault."""


def run_faults(clip: str | None, out: Path, only: Sequence[str], everything: bool, docs: Path | None) -> None:
    """The faults of these names, or all of them; the last line printed is JSON.

    out : rows that are there already are kept, those of faults that are done again replaced
    everything : also the long ones; docs : file that the table is written to
    Raises UsageError for a name that is none, ChannelError where there cannot be two hosts.
    """
    console, faults = Console(stderr=True, highlight=False, soft_wrap=True), chosen(only, everything)
    result = made_folder(out) / "faults.json"
    rows = rows_of(result.read_text(encoding="utf-8")) if result.exists() else []
    for number, fault in enumerate(faults, 1):
        console.print(f"{number}/{len(faults)} {fault.name} ...", markup=False)
        rows = merged(rows, refused(fault) if isinstance(fault, Refusal) else run_fault(fault, clip))
        result.write_text(rows_as_text(rows), encoding="utf-8")
    console.print(rich_table(fault_table(rows)))
    if docs is not None:
        write_document(rows, docs)
    failed = [row.fault for row in rows if row.verdict != "good"]
    print(json.dumps({"result": str(result), "faults": len(rows), "failed": failed}))
    if failed:
        raise ChannelError(f"not all is well after: {', '.join(failed)}")


def run_fault(fault: Fault, clip: str | None) -> FaultRow:
    """Do it to a link of its own."""
    with two_hosts(LINK) as hosts, tempfile.TemporaryDirectory() as folder:
        options = [*fault.receiver_options]
        if fault.weights is not None:
            options = ["--steps", "1", "--decoder", str(fault.weights(Path(folder)))]
        with (
            disk(Path(folder) / "recordings", fault.disk) as recordings,
            rig(hosts, clip, recordings, receiver_options=options, faults=dict(fault.built_in)) as made,
        ):
            try:
                return _done(fault, made)
            except SemcastError as error:
                return FaultRow(fault.name, fault.meaning, (str(error),), Kept(), None, None, "failed")


def _done(fault: Fault, rig: Rig) -> FaultRow:
    if rig.picture() is None:
        raise ChannelError("no picture before the fault")
    rig.record(True)
    pause(BEFORE_S)
    began_s, told = rig.now_s(), _told(rig)
    over_s = fault.act(rig)
    back = rig.wait_for(
        lambda event: event.fresh and event.what["level"].startswith(fault.recovered), over_s, PATIENCE_S
    )
    pause(fault.after_s)
    _stop_recording(rig)
    seen = [line for line in _told(rig) if line not in told] + _on_page(rig, began_s)
    traces = [line for line in seen if line.startswith("Traceback")]
    steady = _steady(rig)
    rig.end()
    recovered_s = None if back is None else round(back.at_s - over_s, 2)
    longest_s = _longest_gap_s(rig, began_s)
    kept = kept_in(rig.recordings)
    in_time = recovered_s is not None and (fault.most_s is None or recovered_s <= fault.most_s)
    good = steady and in_time and not traces and kept.readable
    verdict: Literal["good", "failed"] = "good" if good else "failed"
    return FaultRow(
        fault.name, fault.meaning, tuple(dict.fromkeys(seen)), kept, recovered_s, longest_s, verdict
    )


def refused(fault: Refusal) -> FaultRow:
    """Start a receiver with it, which must end with a line that says why."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        began_s, path = clock.now_s(), fault.weights(Path(folder))
        command = ["receive", "--listen", "127.0.0.1:0", "--decoder", str(path), "--steps", "1"]
        program = run_python(None, "b", ["cli", *command])
        status = program.ended(PATIENCE_S)
        program.end()
        took_s = round(clock.now_s() - began_s, 2)
        said = [line.replace(f"{folder}/", "") for line in program.lines["err"] if _is_news(line)]
    good = status == 1 and not any("Traceback" in line for line in said) and bool(said)
    seen = tuple(f"receiver: {line}" for line in said)
    return FaultRow(fault.name, fault.meaning, seen, Kept(), None, took_s, "good" if good else "failed")


def _stop_recording(rig: Rig) -> None:
    """Where it still runs: an end that was started anew, and a disk that was full, have none."""
    setups = [event for event in rig.events() if event.kind == "setup"]
    if setups and setups[-1].what["recording"]:
        rig.record(False)


def _told(rig: Rig) -> list[str]:
    """What people at the terminals of both ends have read."""
    lines = [f"{end}: {line}" for end in ("sender", "receiver") for line in rig.lines(end) if _is_news(line)]
    return [line.replace(f"{rig.recordings}/", "") for line in lines]


def _is_news(line: str) -> bool:
    """Not what is always said at the start."""
    usual = line.startswith(("open http", "in room ", "metrics at"))
    # Python's own, when it cleans up after a program that was killed.
    return bool(line.strip()) and not usual and "resource_tracker" not in line


def _on_page(rig: Rig, after_s: float) -> list[str]:
    """How the page's link stood, in order, and what it was told."""
    events = rig.events(after_s)
    links = [event.what["link"] for event in events if event.kind == "stats"]
    steps = [link for link, before in zip(links, [None, *links], strict=False) if link != before]
    notices = [event.what["text"] for event in events if event.kind == "notice"]
    return [
        f"page: {', '.join(steps)}",
        *(f"page: {text}".replace(f"{rig.recordings}/", "") for text in notices),
    ]


def _steady(rig: Rig) -> bool:
    """Whether it has stayed recovered: the page's last word is that the link stands."""
    states = [event.what["link"] for event in rig.events() if event.kind == "stats"]
    return bool(states) and states[-1] == "connected"


def _longest_gap_s(rig: Rig, after_s: float) -> float | None:
    """Between two new pictures."""
    at_s = [after_s, *(event.at_s for event in rig.events(after_s) if event.fresh)]
    gaps_s = [b - a for a, b in pairwise(at_s)]
    return round(max(gaps_s), 2) if gaps_s else None


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A folder; of a size, on a disk of its own."""
    folder.mkdir()
    if not size:
        yield folder
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "semcast", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)

"""`semcast bench faults`: what goes wrong in the field, done to real programs, and what comes of it.

    a link that stands, watched and recorded (rig.py) -> the fault -> what is said, when it is back, what is recorded

The programs run on two hosts (network namespaces), which takes root on Linux. What nothing outside can do to a program is
built into it when it starts (faulty.py); which of them, the table says. Each fault is a function here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from rich.console import Console

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
from benchmarks.tables import rich_table
from common.clock import SystemClock
from common.errors import ChannelError, SemcastError, UsageError
from common.files import made_folder
from common.weights import ASSETS

BEFORE_S, AFTER_S = 4.0, 4.0
"""Recorded before the fault and after the picture is back."""
LONG_AFTER_S = 20.0
"""The same where ends still have to find out that a connection is gone for good."""
PATIENCE_S = 60.0
JUMP_S = 5.0
DISK = "192k"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong.

    act : does it; returns when it was over, from which on the recovery counts
    meaning : what is done, for the table
    most_s : recovery within this is good; None where nothing has to recover
    built_in : by end, of `benchmarks.live.faulty`; receiver_options : of `semcast receive`
    disk : size of the disk that is recorded to, empty for that of the machine
    recovered : what counts as recovery besides a new picture: the level that paints it
    after_s : watched after the picture is back; long : only with --all
    """

    name: str
    meaning: str
    act: Callable[[Rig], float]
    most_s: float | None = 2.0
    built_in: Mapping[str, str] = field(default_factory=dict)
    receiver_options: tuple[str, ...] = ("--steps", "0")
    disk: str = ""
    recovered: str = ""
    after_s: float = AFTER_S
    long: bool = False


# --- faults -------------------------------------------------------------------------------------------------------


def kill_sender(rig: Rig) -> float:
    """Another one is started a second later."""
    os.kill(rig.sender.pid, signal.SIGKILL)
    pause(1.0)
    over_s = rig.now_s()
    rig.send()
    return over_s


def kill_receiver(rig: Rig) -> float:
    """Another one is started a second later; who watched opens its page."""
    os.kill(rig.receiver.pid, signal.SIGKILL)
    pause(1.0)
    over_s = rig.now_s()
    rig.receive()
    return over_s


def suspend_sender(rig: Rig) -> float:
    """As when a laptop is closed: to the program all clocks jump."""
    return _suspend(rig, rig.sender.pid)


def suspend_receiver(rig: Rig) -> float:
    """Likewise."""
    return _suspend(rig, rig.receiver.pid)


def jump_clocks(rig: Rig) -> float:
    """Both wall clocks are set an hour ahead, and back."""
    at_s = rig.now_s()
    for _ in range(2):
        for end in (rig.sender, rig.receiver):
            os.kill(end.pid, signal.SIGUSR1)
        pause(JUMP_S)
    return at_s


def fill_disk(rig: Rig) -> float:
    """The disk that is recorded to is small, and fills up."""
    at_s = rig.now_s()
    rig.wait_for(lambda event: event.kind == "notice", at_s, PATIENCE_S)
    return rig.now_s()


def watch_without_reading(rig: Rig) -> float:
    """A second browser that takes nothing any more."""
    at_s = rig.now_s()
    rig.watch(rig.page(), "--deaf")
    pause(12.0)
    return at_s


def cut(seconds: float) -> Callable[[Rig], float]:
    """Nothing crosses for so long."""

    def act(rig: Rig) -> float:
        rig.hosts.relay.cut(seconds)
        pause(seconds)
        return rig.now_s()

    return act


def disorder(rig: Rig) -> float:
    """For some seconds."""
    at_s = rig.now_s()
    rig.hosts.relay.change(f"{LINK},reorder=0.3,duplicate=0.3")
    pause(JUMP_S)
    rig.hosts.relay.change(LINK)
    return at_s


def corrupt(rig: Rig) -> float:
    """For some seconds."""
    os.kill(rig.sender.pid, signal.SIGUSR1)
    pause(JUMP_S)
    os.kill(rig.sender.pid, signal.SIGUSR1)
    return rig.now_s()


def lose_memory(rig: Rig) -> float:
    """For some seconds."""
    os.kill(rig.receiver.pid, signal.SIGUSR1)
    pause(JUMP_S)
    os.kill(rig.receiver.pid, signal.SIGUSR1)
    return rig.now_s()


def second_sender(rig: Rig) -> float:
    """It is refused, and the first goes on."""
    at_s = rig.now_s()
    if rig.send("sender2").ended(PATIENCE_S) != 1:
        raise ChannelError("the second sender was not refused")
    return at_s


def change_release(rig: Rig) -> float:
    """A sender of the next release takes the place of the one that was there; then that comes back."""
    rig.sender.end()
    rig.faults["send"] = "version"
    rig.send("newer").wait_for("err", lambda line: line.endswith(": connected"))
    pause(3.0)
    rig.sender.end()
    del rig.faults["send"]
    over_s = rig.now_s()
    rig.send("sender3")
    return over_s


def other_weights(rig: Rig) -> float:
    """Nothing more: the receiver runs with them from the beginning."""
    return rig.now_s()


def _suspend(rig: Rig, pid: int) -> float:
    os.kill(pid, signal.SIGSTOP)
    pause(JUMP_S)
    over_s = rig.now_s()
    os.kill(pid, signal.SIGCONT)
    return over_s


FAULTS = (
    Fault("kill -9 of the sender", "started again after 1 s", kill_sender, 12.0, after_s=LONG_AFTER_S),
    Fault("kill -9 of the receiver", "started again after 1 s, page opened again", kill_receiver, 12.0,
        after_s=LONG_AFTER_S,
    ),
    Fault("sender suspended", "5 s, SIGSTOP: all its clocks jump", suspend_sender),
    Fault("receiver suspended", "5 s, SIGSTOP: all its clocks jump", suspend_receiver),
    Fault(
        "wall clocks jump", "both ends, an hour ahead and back; built in", jump_clocks,
        built_in={"send": "clock", "receive": "clock"},
    ),
    Fault("full disk", f"a recording on a disk of {DISK}B", fill_disk, disk=DISK),
    Fault("slow consumer", "a second browser that reads nothing for 12 s", watch_without_reading),
    Fault("cut of 0.5 s", "nothing crosses, either way", cut(0.5)),
    Fault("cut of 2 s", "nothing crosses, either way", cut(2.0)),
    Fault("cut of 10 s", "nothing crosses, either way", cut(10.0), 5.0),
    Fault("cut of 60 s", "nothing crosses, either way", cut(60.0), 30.0, long=True),
    Fault("disorder", "30 % of the packets held back, 30 % twice, 5 s", disorder),
    Fault(
        "wrong bytes, right CRC", "1 % of the datagrams, 5 s; built in", corrupt, built_in={"send": "corrupt"}
    ),
    Fault("other weights at the receiver", "not those that the project ships", other_weights, None),
    Fault("version skew", "a sender of the next stream version, then of this one", change_release, 12.0),
    Fault(
        "GPU out of memory", "simulated, 5 s; built in", lose_memory, 15.0, {"receive": "memory"},
        ("--steps", "1"), recovered="bridge1",
    ),
    Fault("two senders in one room", "the second one comes later", second_sender),
)  # fmt: skip


# --- running ------------------------------------------------------------------------------------------------------


def run_faults(clip: str | None, out: Path, only: Sequence[str], everything: bool, docs: Path | None) -> None:
    """The faults of these names, or all of them; the last line printed is JSON.

    out : rows that are there already are kept, those of faults that are done again replaced
    everything : also the long ones; docs : file that the table is written to
    Raises UsageError for a name that is none, ChannelError where there cannot be two hosts.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    made_folder(out)
    result, faults = out / "faults.json", chosen(only, everything)
    rows = rows_of(result.read_text(encoding="utf-8")) if result.exists() else []
    for number, fault in enumerate(faults, 1):
        console.print(f"{number}/{len(faults)} {fault.name} ...", markup=False)
        rows = merged(rows, run_fault(fault, clip))
        result.write_text(rows_as_text(rows), encoding="utf-8")
    for row in refused_weights() if not only else ():
        rows = merged(rows, row)
    result.write_text(rows_as_text(rows), encoding="utf-8")
    console.print(rich_table(fault_table(rows)))
    if docs is not None:
        write_document(rows, docs)
    failed = [row.fault for row in rows if row.verdict != "good"]
    print(json.dumps({"result": str(result), "faults": len(rows), "failed": failed}))
    if failed:
        raise ChannelError(f"not all is well after: {', '.join(failed)}")


def chosen(only: Sequence[str], everything: bool) -> list[Fault]:
    """The faults of these names, all but the long ones without any. Raises UsageError."""
    known = {fault.name: fault for fault in FAULTS}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise UsageError(f"there is no fault {unknown[0]!r}: there are {'; '.join(known)}")
    return [known[name] for name in only] or [fault for fault in FAULTS if everything or not fault.long]


def run_fault(fault: Fault, clip: str | None) -> FaultRow:
    """Do it to a link of its own."""
    with two_hosts(LINK) as hosts, tempfile.TemporaryDirectory() as folder:
        options = [*fault.receiver_options]
        if fault.act is other_weights:
            options = ["--steps", "1", "--decoder", str(changed_weights(Path(folder)))]
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


# --- weights ------------------------------------------------------------------------------------------------------


def changed_weights(folder: Path) -> Path:
    """The shipped decoder with some of its numbers changed a little: of the same family, with another hash."""
    path = folder / "other.safetensors"
    data = bytearray((ASSETS / "tiny.safetensors").read_bytes())
    for at in range(len(data) // 2, len(data), 4096):
        data[at // 4 * 4] ^= 1  # the last bit of a mantissa
    path.write_bytes(data)
    return path


def refused_weights() -> list[FaultRow]:
    """Weights that no receiver can start with: those of another network, and a file that is damaged."""
    from benchmarks.live.trials import run_python

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        damaged, clock = Path(folder) / "damaged.safetensors", SystemClock()
        damaged.write_bytes((ASSETS / "tiny.safetensors").read_bytes()[:10_000])
        other = Path(folder) / "other.safetensors"
        shutil.copy(ASSETS / "labels.safetensors", other)
        for meaning, path in (("weights of another network", other), ("a damaged file", damaged)):
            began_s = clock.now_s()
            command = ["receive", "--listen", "127.0.0.1:0", "--decoder", str(path), "--steps", "1"]
            program = run_python(None, "b", ["cli", *command])
            status = program.ended(PATIENCE_S)
            program.end()
            said = [line.replace(f"{folder}/", "") for line in program.lines["err"] if _is_news(line)]
            seen = tuple(f"receiver: {line}" for line in said)
            good = status == 1 and not any("Traceback" in line for line in said) and bool(said)
            took_s = round(clock.now_s() - began_s, 2)
            verdict: Literal["good", "failed"] = "good" if good else "failed"
            what = f"{meaning}; it does not start"
            rows.append(FaultRow("wrong weights", what, seen, Kept(), None, took_s, verdict))
    return rows

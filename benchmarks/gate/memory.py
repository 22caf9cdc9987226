"""Does memory grow? Some minutes of a small stream on virtual time, in a process of its own.

    128x128 pictures, round after round -> sender -> link with losses -> receiver -> one diffusion step, one session
    once a round: what is allocated, and what is resident -> MiB for a minute of the stream

The process takes all its memory, Python's objects too, from the C library, which knows to the byte how much is in use:
that figure is exact, whoever leaks. Resident memory also grows where freed memory cannot be used again. What is meant
to grow (the harness keeps a few hundred bytes for each picture) is in the baseline. Linux with glibc only.

`python -m benchmarks.gate.memory` measures and prints the samples as JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from pydantic import ValidationError

from benchmarks.files import open_input, open_sender
from benchmarks.gate.model import Kind, Row
from benchmarks.kept import ROOT
from benchmarks.link import Link
from benchmarks.report import Model
from common.clock import SystemClock
from common.config import load_config
from common.errors import ChannelError, UsageError
from common.memory import keep_freed_memory
from common.stats import StageTimer
from common.types import Frame
from receiver.painter import open_painter
from receiver.pipeline import ReceiverSession, Shown

CASE = "memory"
MINUTES, WARM_UP_MINUTES = 2.0, 0.6
PATIENCE_S = 600.0
_SETTINGS = (
    "stream.size=128x128", "stream.bitrate_bps=40k", "guide.scale=2", "receiver.steps=1", "receiver.threads=1",
    "receiver.budget_ms=none", "receiver.device=cpu", "receiver.backend=torch",
    "channel.spec=packet:loss=0.02,delay_ms=20",
)  # fmt: skip
_MIB = 1 << 20
_TIMER_WINDOW = 100  # until it is full the stage timers' window looks like a leak
_RESAMPLES = 300
_STATM = Path("/proc/self/statm")


class Samples(Model):
    """One entry a round. minutes : of the stream; allocated_mib, resident_mib : of the process"""

    minutes: list[float]
    allocated_mib: list[float]
    resident_mib: list[float]


_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _Mallinfo(ctypes.Structure):
    """struct mallinfo2 of glibc: see mallinfo(3)."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _FIELDS.split())


def allocated_mib() -> Callable[[], float] | None:
    """What tells how much this process has allocated and not freed, None without glibc 2.33 or newer."""
    found = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None
    if found is None:
        return None
    found.restype = _Mallinfo

    def read() -> float:
        info = found()
        return float(info.uordblks + info.hblkhd) / _MIB

    return read


def resident_mib() -> float:
    """Of this process; Linux only."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / _MIB


# --- the process that is watched ------------------------------------------------------------------------------------


class _Rounds:
    """The built-in clip at 128x128, round after round, as one stream (a `common.ports.FrameSource`)."""

    def __init__(self, frames: Sequence[Frame], count: int) -> None:
        self._frames, self._count = frames, count

    def __iter__(self) -> Iterator[Frame]:
        for slot in range(self._count):
            frame = self._frames[slot % len(self._frames)]
            yield Frame(frame.picture, slot, frame.time_base, slot, frame.colour)

    def close(self) -> None:
        """Nothing is held."""


def watch(minutes: float) -> Samples:
    """Run the stream in this process. UsageError on a system that does not tell what is allocated."""
    allocated, config = allocated_mib(), load_config(None, _SETTINGS)
    if allocated is None:
        raise UsageError(
            "memory is measured on Linux with glibc 2.33 or newer only: choose other parts with --only"
        )
    torch.set_num_threads(1)
    with open_input(None, config, None) as source:
        frames, sender = tuple(source), open_sender(source, config)
    sender.anchors.frames = None  # the stream goes on and on
    stream = sender.config
    painter = open_painter(config, stream.seed, (stream.coded_height, stream.coded_width))
    receiver = ReceiverSession(config.receiver, painter, SystemClock())
    sender.timer, receiver.timer = (StageTimer(SystemClock(), _TIMER_WINDOW) for _ in range(2))
    samples = Samples(minutes=[], allocated_mib=[], resident_mib=[])

    def on_shown(frame: Frame, shown: Shown, shown_s: float) -> None:
        if (frame.slot + 1) % len(frames) == 0:
            gc.collect()
            samples.minutes.append(shown_s / 60)
            samples.allocated_mib.append(allocated())
            samples.resident_mib.append(resident_mib())

    count = round(minutes * 60 * stream.frame_rate)
    link = Link(config, sender, receiver, SystemClock(), lambda frame, step: None, on_shown)
    link.run(_Rounds(frames, count))
    sender.close()
    return samples


def main(
    minutes: Annotated[float, typer.Option("--minutes", min=0.3, help="Of the stream.")] = MINUTES,
    mutation: Annotated[
        str | None, typer.Option("--mutation", help="One of benchmarks/gate/mutations.py, at work meanwhile.")
    ] = None,
) -> None:
    """Run the stream and print the samples as one line of JSON."""
    keep_freed_memory()
    at_work: AbstractContextManager[None] = nullcontext()
    if mutation is not None:
        from benchmarks.gate.mutations import mutation_named

        at_work = mutation_named(mutation).apply()
    with at_work:
        print(watch(minutes).model_dump_json())


# --- from outside -------------------------------------------------------------------------------------------------


@contextmanager
def started(mutation: str | None = None, minutes: float = MINUTES) -> Iterator[Callable[[], Samples]]:
    """The process, at work while the block runs; calling what it gives waits for the samples.

    ChannelError where it fails. It is ended with the block, whatever happens.
    """
    command = [sys.executable, "-m", "benchmarks.gate.memory", "--minutes", f"{minutes}"]
    command += [] if mutation is None else ["--mutation", mutation]
    environment = {**os.environ, "PYTHONMALLOC": "malloc", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield lambda: _samples(process)
        finally:
            process.kill()


def _samples(process: subprocess.Popen[str]) -> Samples:
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise ChannelError(
            f"the stream whose memory is watched did not end within {PATIENCE_S:.0f} s: is this machine overloaded?"
        ) from error
    try:
        return Samples.model_validate(json.loads(out.splitlines()[-1]))
    except (IndexError, ValueError, ValidationError) as error:
        last = err.strip().splitlines()[-1:] or ["it said nothing"]
        raise ChannelError(f"the stream whose memory is watched failed: {last[0]}") from error


# --- figures ------------------------------------------------------------------------------------------------------


def memory_rows(samples: Samples, warm_up_minutes: float = WARM_UP_MINUTES) -> list[Row]:
    """Growth after the warm-up."""
    minutes = np.asarray(samples.minutes)
    late = minutes >= warm_up_minutes
    series = {"allocated": samples.allocated_mib, "resident": samples.resident_mib}
    rows = []
    for name, values in series.items():
        kind = Kind.ALLOCATED if name == "allocated" else Kind.RESIDENT
        value, low, high = (round(x, 3) for x in growth(minutes[late], np.asarray(values)[late]))
        rows.append(Row(case=CASE, name=name, kind=kind, value=value, low=low, high=high))
    return rows


def growth(minutes: NDArray[np.float64], mib: NDArray[np.float64]) -> tuple[float, float, float]:
    """MiB a minute and its 95 % interval: the median slope between any two samples (Theil 1950, Sen 1968), for steps and
    a late allocation must not look like a leak. The interval is by bootstrap over the samples. ValueError below three."""
    if len(minutes) < 3:
        raise ValueError(f"{len(minutes)} samples say nothing about growth")
    rng, slopes = np.random.default_rng(len(minutes)), []
    for _ in range(_RESAMPLES):
        chosen = rng.integers(0, len(minutes), len(minutes))
        slopes.append(_median_slope(minutes[chosen], mib[chosen]))
    low, high = np.nanquantile(slopes, [0.025, 0.975])
    return _median_slope(minutes, mib), float(low), float(high)


def _median_slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """NaN where all samples are of one time."""
    first, second = np.triu_indices(len(x), 1)
    apart = x[second] != x[first]
    if not apart.any():
        return float("nan")
    return float(np.median((y[second] - y[first])[apart] / (x[second] - x[first])[apart]))


if __name__ == "__main__":
    typer.run(main)

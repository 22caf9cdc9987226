"""Processes that take processor cores and a GPU's time, for measuring under load. They end with their block."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.busy_gpu import READY
from common.errors import SemcastError

_WORK = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""
"""Even when the parent is killed this ends within a second."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is taken. cores : processor cores, each by a process; gpu : share of a GPU's time, 0..1, by one process"""

    cores: int = 0
    gpu: float = 0.0

    def __bool__(self) -> bool:
        return self.cores > 0 or self.gpu > 0.0

    def __str__(self) -> str:
        parts = [
            f"{self.cores} core{'s' * (self.cores > 1)}" if self.cores else "",
            f"{100 * self.gpu:g} % of the GPU's time" if self.gpu else "",
        ]
        return " and ".join(filter(None, parts)) or "nothing"


CALM = Load()


@dataclass(frozen=True, slots=True)
class Busy:
    """Processes that wait until they are told to begin."""

    processes: tuple[subprocess.Popen[str], ...]

    def set(self, busy: bool) -> None:
        """From now on they take what they are there to take, or leave it."""
        for process in self.processes:
            os.kill(process.pid, signal.SIGCONT if busy else signal.SIGSTOP)


@contextmanager
def busy(load: Load, device: str = "cuda") -> Iterator[Busy]:
    """The processes of `load`, stopped at first.

    device : of `load.gpu`, as torch names it; raises SemcastError where no process can work on it
    """
    processes: list[subprocess.Popen[str]] = []
    try:
        for _ in range(load.cores):
            processes.append(_started("-S", "-c", _WORK))
        if load.gpu:
            processes.append(_started("-m", "benchmarks.busy_gpu", f"{load.gpu}", device))
            _await_ready(processes[-1], device)
        found = Busy(tuple(processes))
        found.set(False)
        yield found
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)


def _await_ready(process: subprocess.Popen[str], device: str) -> None:
    """Until it has loaded its libraries and tried the device, which takes seconds."""
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    if said != READY:
        raise SemcastError(f"no load can be put on {device}: {said or 'its process ended'}")

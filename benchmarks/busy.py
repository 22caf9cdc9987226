"""Processes that take a processor core each, for measuring under load. They end with the block that began them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_WORK = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""
"""Even when the parent is killed this ends within a second."""


@dataclass(frozen=True, slots=True)
class BusyCores:
    """Processes that wait until they are told to begin."""

    processes: tuple[subprocess.Popen[bytes], ...]

    def set(self, busy: bool) -> None:
        """From now on they take their cores, or leave them."""
        for process in self.processes:
            os.kill(process.pid, signal.SIGCONT if busy else signal.SIGSTOP)


@contextmanager
def busy_cores(count: int) -> Iterator[BusyCores]:
    """`count` processes, stopped at first."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            processes.append(subprocess.Popen([sys.executable, "-S", "-c", _WORK]))
        cores = BusyCores(tuple(processes))
        cores.set(False)
        yield cores
    finally:
        for process in processes:
            process.kill()
            process.wait()

"""One target under atheris, in a process of its own: `python -m tests.fuzz.process TARGET EXECUTIONS SEED FOLDER`.

libFuzzer mutates the corpus and keeps what reaches new code. Lines of JSON on standard output say how far it is; the
last one has "end". An input that fails is left in FOLDER as fault-*, with its traceback beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING

from common.clock import SystemClock

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

MAX_SECONDS = 1.0
MAX_GROWTH_BYTES = 200_000_000
_ROOM_BYTES = 600_000_000
"""Of addresses, beyond those in use at the start: a large allocation fails even where nothing is ever written to it.
The threads' stacks, libFuzzer and the allocator's reserve need the rest."""
_REPORT_S = 0.5


class TooSlowError(AssertionError):
    """An execution took more than `MAX_SECONDS` of processor time."""


class TooLargeError(AssertionError):
    """The process has grown by more than `MAX_GROWTH_BYTES`."""


def _spent_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(slots=True)
class Run:
    """Counts and measures the executions of one target.

    slowest_s : processor time, which other programs on the machine do not lengthen
    """

    target: Target
    executions: int
    folder: Path
    done: int = 0
    slowest_s: float = 0.0
    clock: SystemClock = field(default_factory=SystemClock)
    reported_s: float = 0.0
    start_bytes: int = field(default_factory=_peak_bytes)

    def __call__(self, data: bytes) -> None:
        """One execution, of which the process does not come back after the last."""
        before_s = _spent_s()
        try:
            self.target.one(data)
            self._check(_spent_s() - before_s)
        except BaseException:  # a panic of a Rust library is no Exception
            self._fault(data)
        self.done += 1
        now_s = self.clock.now_s()
        if self.done >= self.executions:
            self._leave({"end": "done"})
        elif now_s - self.reported_s > _REPORT_S:
            self.reported_s = now_s
            self._say({})

    def _check(self, took_s: float) -> None:
        self.slowest_s = max(self.slowest_s, took_s)
        if took_s > MAX_SECONDS:
            raise TooSlowError(f"one execution took {took_s:.2f} s")
        if self.grown_bytes > MAX_GROWTH_BYTES:
            raise TooLargeError(f"the process has grown by {self.grown_bytes >> 20} MiB")

    @property
    def grown_bytes(self) -> int:
        return _peak_bytes() - self.start_bytes

    def _fault(self, data: bytes) -> None:
        path = self.folder / f"fault-{hashlib.sha256(data).hexdigest()[:12]}"
        path.write_bytes(data)
        path.with_suffix(".txt").write_text(traceback.format_exc(), encoding="utf-8")
        self._leave({"end": "fault", "fault": path.name})

    def _say(self, more: dict[str, str]) -> None:
        figures = {
            "done": self.done, "slowest_ms": round(self.slowest_s * 1e3, 3),
            "grown_mb": round(self.grown_bytes / 1e6, 1), **more,
        }  # fmt: skip
        print(json.dumps(figures), flush=True)

    def _leave(self, end: dict[str, str]) -> None:
        self._say(end)
        os._exit(0)  # libFuzzer has its own idea of when to end


def _keep_arrays_out(import_hook: ModuleType) -> None:
    """Follow comparisons in modules without NumPy alone: atheris 3.0.0 never frees the array that one of arrays gives."""
    patch = import_hook.patch_code

    def patched(code: CodeType, trace_dataflow: bool) -> CodeType:
        return patch(code, trace_dataflow and "numpy" not in code.co_names)

    import_hook.patch_code = patched  # type: ignore[attr-defined]


def _limit_addresses() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + _ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Run until the count is reached or something is found."""
    import atheris

    _keep_arrays_out(atheris.import_hook)
    name, executions, seed, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    with atheris.instrument_imports(include=["common", "channel", "receiver"]):
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.seeds import CORPUS

    target, inputs = TARGETS[name], CORPUS / name
    for path in sorted(inputs.iterdir()):  # loads what is loaded on use, before memory is measured
        target.one(path.read_bytes())
    found = folder / "found"
    found.mkdir(parents=True, exist_ok=True)
    _limit_addresses()
    run = Run(target, executions, folder)
    options = [f"-max_len={target.max_bytes}", f"-seed={seed}", "-timeout=60", "-rss_limit_mb=0"]
    options += ["-verbosity=0", "-print_final_stats=0", f"-artifact_prefix={folder}/fault-"]
    atheris.Setup([sys.argv[0], *options, str(found), str(inputs)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

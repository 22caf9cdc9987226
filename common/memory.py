"""Keeps freed memory in the process, for a while: the difference between 5 ms and 1.5 ms for a pass over a picture.

glibc gives arrays of a picture's size back to the system when they are freed and asks for them anew for the next
picture, and every fresh page costs a fault. A real-time loop frees and needs the same sizes all the time.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass

from common.clock import Clock

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc; see mallopt(3)
_KEEP_BYTES = 256 << 20
_LARGEST_BYTES = 32 << 20
"""The largest threshold that glibc accepts; larger blocks are mapped one by one as before."""
RETURN_EVERY_S = 300.0


def keep_freed_memory() -> bool:
    """Call once when a process starts. True where it took effect: on Linux with glibc."""
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES))


@dataclass(slots=True)
class FreedMemory:
    """Gives back now and then what a program for hours has kept: else each stall leaves its mark, for what was needed
    for it lies scattered over the heap. Call it again and again; it takes 3 to 10 ms every five minutes, and the next
    pictures a few more for their first pages."""

    clock: Clock
    returned_s: float | None = None

    def __call__(self) -> bool:
        """Whether the time had come."""
        now_s = self.clock.now_s()
        if self.returned_s is None:
            self.returned_s = now_s
        if now_s - self.returned_s < RETURN_EVERY_S:
            return False
        self.returned_s = now_s
        trim = _of_glibc("malloc_trim")
        if trim is not None:
            trim(0)
        return True


def _of_glibc(name: str) -> Callable[..., int] | None:
    """One of its own functions on memory; None on other systems, and where musl stands in its place."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None

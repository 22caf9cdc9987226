"""What two ends on the same machine can share: the clock, and the source's pictures. Only for measuring and showing.

The sender says which boot of which machine it runs on, when its stream time began on that machine's clock, and the name
of a block of shared memory; a receiver on another machine can use none of it, and does not try.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.types import Frame, Picture

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CELLS = 64
"""Pictures kept: two seconds, 25 MB at 512x512."""
_MOST_SIDE_PX = 8192


def boot_id() -> str | None:
    """Of the running kernel, which containers and network namespaces share; None where there is no such thing."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return None


class SourceWindow:
    """The newest source pictures in shared memory: a cell for each slot modulo 64, its number before and after.

    A reader that sees the same number in both places has read a whole picture.
    """

    def __init__(self, memory: SharedMemory, width: int, height: int, owner: bool) -> None:
        self._memory, self._owner = memory, owner
        self._shapes = [(height, width), (height // 2, width // 2), (height // 2, width // 2)]
        cells = np.ndarray((_CELLS, _cell_bytes(width, height)), np.uint8, memory.buf)
        self._numbers: NDArray[np.int64] = cells[:, :16].view(np.int64)
        self._samples = cells[:, 16:]

    @classmethod
    def create(cls, width: int, height: int) -> SourceWindow:
        """Raises OSError where the system gives no shared memory."""
        memory = SharedMemory(create=True, size=_CELLS * _cell_bytes(width, height))
        window = cls(memory, width, height, owner=True)
        window._numbers[:] = -1
        return window

    @classmethod
    def attach(cls, name: str, width: int, height: int) -> SourceWindow | None:
        """None where it is not there, or of another size."""
        try:
            memory = SharedMemory(name)
        except (OSError, ValueError):
            return None
        # Python 3.11 would otherwise delete the sender's memory when this process ends (bpo-38119).
        with suppress(KeyError):
            resource_tracker.unregister(f"/{memory.name.lstrip('/')}", "shared_memory")
        if memory.size < _CELLS * _cell_bytes(width, height):
            memory.close()
            return None
        return cls(memory, width, height, owner=False)

    @property
    def name(self) -> str:
        """What another process attaches it by."""
        return self._memory.name

    def put(self, frame: Frame) -> None:
        """Keep one; the oldest goes."""
        cell = frame.slot % _CELLS
        self._numbers[cell] = frame.slot, -1
        start = 0
        for plane in frame.picture.planes:
            self._samples[cell, start : start + plane.size] = plane.reshape(-1)
            start += plane.size
        self._numbers[cell, 1] = frame.slot

    def at(self, slot: int) -> Picture | None:
        """What the source showed at `slot`, while it is kept."""
        cell = slot % _CELLS
        if tuple(self._numbers[cell]) != (slot, slot):
            return None
        planes, start = [], 0
        for shape in self._shapes:
            size = shape[0] * shape[1]
            planes.append(self._samples[cell, start : start + size].reshape(shape).copy())
            start += size
        return Picture(*planes) if tuple(self._numbers[cell]) == (slot, slot) else None

    def close(self) -> None:
        """Let go of it; the owner's copy is gone then."""
        self._numbers, self._samples = np.empty((0, 2), np.int64), np.empty((0, 0), np.uint8)
        with suppress(BufferError):
            self._memory.close()
        if self._owner:
            with suppress(FileNotFoundError):
                self._memory.unlink()


def _side(said: object) -> int | None:
    """A picture's width or height, None for what is none."""
    return said if isinstance(said, int) and 0 < said <= _MOST_SIDE_PX else None


def _cell_bytes(width: int, height: int) -> int:
    """Two numbers and three planes, in whole 16 bytes."""
    return 16 + -(-width * height * 3 // 2 // 16) * 16


@dataclass(slots=True)
class Sameness:
    """What a sender on this machine has said. began_s : its stream time 0 on this machine's clock"""

    began_s: float
    window: SourceWindow | None = field(default=None)

    @staticmethod
    def message(began_s: float, window: SourceWindow | None, width: int, height: int) -> dict[str, Any]:
        """What the sender says; width, height : of its pictures, even"""
        said: dict[str, Any] = {"boot_id": boot_id(), "began_s": began_s, "width": width, "height": height}
        return said if window is None else {**said, "window": window.name}

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Sameness | None:
        """None where the sender is on another machine, or the message is about something else."""
        here, began_s = boot_id(), message.get("began_s")
        if here is None or message.get("boot_id") != here:
            return None
        if not isinstance(began_s, float) or not math.isfinite(began_s):
            return None
        name, width, height = message.get("window"), _side(message.get("width")), _side(message.get("height"))
        window = None
        if isinstance(name, str) and width is not None and height is not None:
            window = SourceWindow.attach(name, width, height)
        return cls(began_s, window)

    def delay_ms(self, capture_s: float, now_s: float) -> float:
        """From capture (stream time) to now."""
        return (now_s - self.began_s - capture_s) * 1e3

    def source_at(self, frame: Frame) -> Frame | None:
        """What the source showed at the slot of `frame`."""
        picture = None if self.window is None else self.window.at(frame.slot)
        return None if picture is None else replace(frame, picture=picture)

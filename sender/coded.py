"""What the guide's three encoders have in common: one interface, one quantiser scale, one place to find libraries."""

from __future__ import annotations

import ctypes as c
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from common.errors import CodecError
from common.types import Picture

MAX_QP = 63
"""Coarsest quantiser; 1 is the best. The scale is AV1's, other encoders map it to their own."""


Speed = int | None
"""A preset on SVT-AV1's scale, 0 (slow) .. 13 (fast); None for what `preset_for` finds fitting."""

_PRESETS = ((160 * 160, 7), (320 * 320, 8), (640 * 480, 9))
"""Most luma samples, preset. A small picture leaves time for a slower one, which saves 10-20 % of the bits."""
_LARGE = 10


def preset_for(speed: Speed, width: int, height: int) -> int:
    """The preset for pictures of this size: with None, one that keeps real time on one core."""
    if speed is not None:
        return speed
    return next((preset for samples, preset in _PRESETS if width * height <= samples), _LARGE)


@dataclass(frozen=True, slots=True)
class CodedPicture:
    """One unit of a codec, without what every unit of it begins with (common/codecs.py).

    key : decodable on its own
    disposable : no later picture refers to it
    """

    data: bytes
    key: bool
    disposable: bool


class GuideEncoder(Protocol):
    """One low-delay stream on one thread; each picture comes back as soon as it goes in."""

    @property
    def position(self) -> int:
        """Place of the next picture in its group of four (`sender.rate.ROLES`); a key picture is at place 0."""

    def encode(self, picture: Picture, qp: int, key: bool = False) -> CodedPicture:
        """Encode one picture with quantiser `qp` (1 best .. 63 coarsest). Raises CodecError. Where the encoder had to
        begin anew it is a key picture without being asked."""

    def close(self) -> None: ...


def bundled_library(name: str) -> c.CDLL:
    """The shared library inside the PyAV wheel whose file name contains `name`; CodecError when it is not there."""
    spec = find_spec("av")
    root = Path(spec.origin).parent if spec and spec.origin else Path()
    for place in (root.parent / "av.libs", root / ".dylibs", root):
        for path in sorted(place.glob(f"*{name}*")):
            return c.CDLL(str(path))
    raise CodecError(
        f"the {name} library inside PyAV was not found: install the PyAV wheel from PyPI (av==18.1.0)"
    )


def check_picture(picture: Picture, shape: tuple[int, int], qp: int) -> None:
    """ValueError for what an encoder that was opened for luma planes of `shape` cannot take."""
    if picture.y.shape != shape:
        raise ValueError(f"picture is {picture.y.shape}, encoder was opened for {shape}")
    if not 1 <= qp <= MAX_QP:
        raise ValueError(f"quantiser {qp} is not 1..{MAX_QP}")

"""Pictures for the tests of the page, and a page that serves them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from common.state import Composition
from common.types import Frame, Picture
from receiver.pipeline import Shown

SIDE = 64


def plain(luma: int, cb: int = 128, cr: int = 128) -> Picture:
    """One colour."""
    half = (SIDE // 2, SIDE // 2)
    return Picture(
        np.full((SIDE, SIDE), luma, np.uint8), np.full(half, cb, np.uint8), np.full(half, cr, np.uint8)
    )


def shown(
    slot: int,
    picture: Picture | None = None,
    level: str = "bridge1",
    uncertainty: NDArray[np.uint8] | None = None,
    concealed: bool = False,
    late: bool = False,
    taken_back: float = 0.0,
) -> Shown:
    """A picture as the receiver shows it, 12.5 ms of work behind it; its base picture is dark."""
    base, cells = plain(30), np.zeros((SIDE // 16, SIDE // 16), np.uint8)
    scene = Composition(base, None, base, np.zeros((SIDE // 8, SIDE // 8), np.uint8), cells, cells)
    frame = Frame(picture or plain(60 + slot % 100), slot, Fraction(1, 25), slot)
    return Shown(frame, level, concealed, scene, uncertainty, 0.0125, late, taken_back=taken_back)

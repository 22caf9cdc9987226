"""What the receiver knows about a picture, drawn into it: where it is unsure, what it painted itself, at which level.

Tints change chroma only, so the picture stays readable underneath.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from common.colour import crop
from common.errors import UsageError
from common.fusion import CELL
from common.types import Frame, Picture, Plane
from receiver.uncertainty import BYTES_PER_STEP

if TYPE_CHECKING:
    from receiver.pipeline import Shown

OVERLAYS = ("none", "uncertainty", "generated", "level")

Weight = NDArray[np.float32]
"""[H/2, W/2] 0..1, how far the tint replaces the picture's own chroma."""

_HOT = (88, 212)
_GREEN = (72, 64)
"""Cb and Cr of the tints, for all matrices and ranges."""

_SURELY_WRONG = 16 * BYTES_PER_STEP
"""Uncertainty at which the tint is complete, 16 sample steps."""
_VISIBLE, _PLAIN = 2.0, 10.0
"""Mean luma change of a neighbourhood, in sample steps, at which the tint starts and is complete."""

_FONT, _FONT_SCALE, _MARGIN = cv2.FONT_HERSHEY_SIMPLEX, 0.5, 6
_STRIP_LUMA, _TEXT_LUMA, _NEUTRAL = 24, 235, 128


def overlaid(shown: Shown, overlay: str) -> Frame:
    """The frame of `shown` with one of `OVERLAYS` drawn in; UsageError for any other name.

    uncertainty : red where the picture may be wrong, more so the longer it has been held; unchanged before the first
    generated : green where the picture differs visibly from the deterministic base picture; unchanged without one
    level : the level's name in the upper left corner
    """
    picture = shown.frame.picture
    match overlay:
        case "none":
            drawn = picture
        case "uncertainty":
            drawn = (
                picture
                if shown.uncertainty is None
                else _tinted(picture, _doubt(shown.uncertainty, picture), _HOT)
            )
        case "generated":
            drawn = (
                picture
                if shown.scene is None
                else _tinted(picture, _change(picture, shown.scene.base), _GREEN)
            )
        case "level":
            drawn = _captioned(picture, shown.level)
        case _:
            raise UsageError(f"overlay {overlay!r} is not known: use one of {', '.join(OVERLAYS)}")
    return replace(shown.frame, picture=drawn)


def _doubt(uncertainty: NDArray[np.uint8], picture: Picture) -> Weight:
    """Uncertainty [H/8, W/8] of the coded size as weights at the chroma size of `picture`, cells blended."""
    rows, cols = uncertainty.shape
    half = cv2.resize(uncertainty, (cols * CELL // 2, rows * CELL // 2), interpolation=cv2.INTER_LINEAR)
    height, width = picture.u.shape
    return np.minimum(half[:height, :width].astype(np.float32) / _SURELY_WRONG, 1.0)


def _change(picture: Picture, base: Picture) -> Weight:
    """How visibly `picture` differs from the base picture around each chroma sample."""
    difference = cv2.absdiff(picture.y, crop(base, picture.width, picture.height).y)
    size = (picture.width // 2, picture.height // 2)
    halved = cv2.resize(difference.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    around = cast(Weight, cv2.blur(halved, (CELL // 2 + 1, CELL // 2 + 1)))
    return np.clip((around - _VISIBLE) / (_PLAIN - _VISIBLE), 0.0, 1.0)


def _tinted(picture: Picture, weight: Weight, tint: tuple[int, int]) -> Picture:
    """`picture` with its chroma moved towards `tint`."""

    def towards(plane: Plane, target: int) -> Plane:
        return np.rint(plane + (target - plane.astype(np.float32)) * weight).astype(np.uint8)

    return Picture(picture.y, towards(picture.u, tint[0]), towards(picture.v, tint[1]))


def _captioned(picture: Picture, text: str) -> Picture:
    """`picture` with `text` on a dark strip in the upper left corner, cut off where the picture is too small."""
    (text_width, text_height), descent = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
    height, width = (-(-(side + 2 * _MARGIN) // 2) * 2 for side in (text_height + descent, text_width))
    strip = np.full((height, width), _STRIP_LUMA, np.uint8)
    cv2.putText(
        strip, text, (_MARGIN, _MARGIN + text_height), _FONT, _FONT_SCALE, (_TEXT_LUMA,), 1, cv2.LINE_AA
    )
    y, u, v = (plane.copy() for plane in picture.planes)
    height, width = min(height, picture.height), min(width, picture.width)
    y[:height, :width] = strip[:height, :width]
    for chroma in (u, v):
        chroma[: height // 2, : width // 2] = _NEUTRAL
    return Picture(y, u, v)

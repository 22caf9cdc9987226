"""Random views of a clip: clips are few, and a network remembers what it sees often.

    clip -> window -> square -> flips and turns -> light and colour -> a clip never seen before

Packed without this, the decoder took 0.3 dB and 10 % of the loss of structure off the base picture on the clips that it
was trained on, and nothing and 5 % on others.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.colour import resize
from common.types import Picture, Plane

SIDES = (256, 256, 320, 384, 512)
"""Sides of the square pictures, pixels: small ones are sent quickly, so that more views fit into the time."""

_STRETCH = 0.15
_NEGATIVE = 0.08


@dataclass(frozen=True, slots=True)
class ClipView:
    """What is seen of a clip, and how.

    side : of the square picture that the window becomes, pixels
    top, left, height, width : the window, even, pixels of the clip
    mirrored, upended, turned : left to right, top to bottom, about the diagonal
    backwards : the last picture first
    gain, offset : of the luma about mid grey; chroma_gain : of both chroma planes; swapped : U for V
    """

    side: int
    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False
    upended: bool = False
    turned: bool = False
    backwards: bool = False
    gain: float = 1.0
    offset: float = 0.0
    chroma_gain: float = 1.0
    swapped: bool = False


def draw_view(height: int, width: int, rng: np.random.Generator) -> ClipView:
    """A view of a clip of this size. The window has at least as many pixels as the picture, where the clip has."""
    side = int(rng.choice(SIDES))
    shorter = min(height, width)
    span = side * (shorter / side) ** rng.random() if shorter > side else shorter
    stretch = np.exp(rng.uniform(-_STRETCH, _STRETCH) / 2)
    tall, wide = _even(min(height, span * stretch)), _even(min(width, span / stretch))
    top, left = (2 * int(rng.integers(0, room // 2 + 1)) for room in (height - tall, width - wide))
    gain = float(np.exp(rng.uniform(-0.35, 0.3))) * (-1 if rng.random() < _NEGATIVE else 1)
    mirrored, upended, turned, backwards = (bool(rng.random() < chance) for chance in (0.5, 0.3, 0.3, 0.3))
    return ClipView(
        side, top, left, tall, wide, mirrored, upended, turned, backwards, gain, float(rng.uniform(-20, 20)),
        float(rng.uniform(0.5, 1.25)), bool(rng.random() < 0.2),
    )  # fmt: skip


def whole_view(height: int, width: int) -> ClipView:
    """The middle of a clip of this size as it is, as large as the decoder is meant for where the clip is."""
    span = min(height, width) // 2 * 2
    side = min(max(SIDES), span // 16 * 16)
    return ClipView(side, (height - span) // 4 * 2, (width - span) // 4 * 2, span, span)


def seen(view: ClipView, picture: Picture) -> Picture:
    """One picture of the clip as the view shows it, [side,side]."""
    cut = Picture(_window(picture.y, view, 1), *(_window(plane, view, 2) for plane in (picture.u, picture.v)))
    y, u, v = resize(cut, view.side, view.side).planes
    u, v = (v, u) if view.swapped else (u, v)
    y = cv2.LUT(y, _curve(view.gain, view.offset)).astype(np.uint8, copy=False)
    u, v = (cv2.LUT(plane, _curve(view.chroma_gain, 0.0)).astype(np.uint8, copy=False) for plane in (u, v))
    return Picture(*(_flipped(plane, view) for plane in (y, u, v)))


def _even(length: float) -> int:
    return int(length) // 2 * 2


def _window(plane: Plane, view: ClipView, cell: int) -> Plane:
    top, left = view.top // cell, view.left // cell
    return plane[top : top + view.height // cell, left : left + view.width // cell]


def _curve(gain: float, offset: float) -> NDArray[np.uint8]:
    values = (np.arange(256) - 128.0) * gain + 128.0 + offset
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _flipped(plane: Plane, view: ClipView) -> Plane:
    if view.mirrored:
        plane = plane[:, ::-1]
    if view.upended:
        plane = plane[::-1]
    return np.ascontiguousarray(plane.T if view.turned else plane)

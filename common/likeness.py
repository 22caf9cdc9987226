"""Whether two pictures show the same scene: what cut detectors at both ends compare. Not part of the closed loop.

    picture --look_of--> thumbnails                             0.15 ms at 512x512
    two looks --likeness--> change, layout, detail, palette     0.4 ms, where the change alone does not settle it

Movement keeps the palette, light keeps layout or detail, a new scene keeps nothing. Detail is compared as the normalised
correlation of local structure at the shift that suits it best (Padfield 2012, "Masked object registration in the Fourier
domain", with the frames of both pictures as masks), so that a camera that moves takes its detail along.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from common.types import Picture, Plane

Reals = NDArray[np.float32]
Inside = tuple[int, int, int, int]
"""First row, row after the last, first column, column after the last."""

SIDE = 32
"""Side of the thumbnails."""
COARSE = 16
"""Side of the thumbnails that changes are measured on."""

CHANGE = 9.0
"""Mean change, sample steps, below which two pictures are of one scene."""
DETAIL = 0.45
"""Correlation of the detail from which on they are."""
TRACE = 0.28
"""Correlation of the detail that light that changes and things that move fast may leave of a scene, and another scene
does not."""
LAYOUT = 0.75
"""Correlation of light and dark parts from which on they are."""
PALETTE = 0.40
"""Difference of the palettes, 0..2, up to which they are."""
BLANK, BLANK_IN_THE_DARK = 2.0, 6.0
"""Contrast, luma steps, below which a picture shows nothing: white as in a flash, or black and the start of a fade
from it. A key picture of the first glimmer serves the scene less well than one of what can be made out."""
DARK = 32.0
"""Mean luma below which a picture is dark."""

EARLIER = (1, 2, 3, 5)
"""Which pictures before the present one it is compared with."""

RESTLESS = 0.8
"""Of the change to the present picture, the changes just before from which on as much changes anyway: new scenes change
1.5 times as much and more."""
_STILL = 0.15
"""The same, up to which nothing moved."""
_NO_PALETTE = -1.0
_OVERLAP = 0.6
"""Least part of a picture that must be in view in both."""
_LOCAL = 7
"""Side of the windows within which detail is normalised, thumbnail samples."""
_BAR = 0.08
"""Of the luma's range, how much brighter than black a bar may be."""
_WEIGHTS = np.array([0.6, 0.2, 0.2], np.float32)
"""Of the planes in the change."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What is kept of a picture, 6 kB.

    planes : [3, 32, 32] uint8, thumbnails of luma and chroma
    coarse : [3, 16, 16], the same once more
    inside : the part without black bars
    contrast : standard deviation of the luma, sample steps
    light : mean luma
    """

    planes: NDArray[np.uint8]
    coarse: Reals
    inside: Inside
    contrast: float
    light: float

    @property
    def blank(self) -> bool:
        """Whether there is nothing to see."""
        return self.contrast < (BLANK_IN_THE_DARK if self.light < DARK else BLANK)


class Likeness(NamedTuple):
    """How alike two pictures are.

    change : weighted mean change of the planes, sample steps
    layout : correlation of the luma as it is, -1..1
    detail : correlation of the detail at the best shift, -1..1
    palette : difference of the palettes, 0 (equal) .. 2 (nothing in common)
    """

    change: float
    layout: float
    detail: float
    palette: float


def look_of(picture: Picture) -> Look:
    """What to keep of a picture of any size."""
    planes = np.stack([_thumbnail(plane, SIDE) for plane in picture.planes])
    coarse = np.stack([_thumbnail(plane, COARSE) for plane in planes]).astype(np.float32)
    return Look(planes, coarse, _inside(planes[0]), float(planes[0].std()), float(planes[0].mean()))


def likeness(a: Look, b: Look) -> Likeness:
    """How alike two pictures are."""
    return Likeness(change_between(a, b), layout_between(a, b), detail_between(a, b), palette_between(a, b))


def same_scene(a: Look, b: Look, detail: float = DETAIL, palette: float = PALETTE) -> bool:
    """Whether both show one scene; the dearest question is asked last. detail, palette : that are enough for it"""
    if change_between(a, b) < CHANGE or layout_between(a, b) >= LAYOUT or palette_between(a, b) <= palette:
        return True
    return detail_between(a, b) >= detail


def belongs(recent: Sequence[Look], look: Look, detail: float = DETAIL) -> bool:
    """Whether a picture shows the scene of one of the pictures before it, newest last: a flash is over in a few of them.

    Where nothing moved just before, what was in view has not gone out of it, and the palette is no excuse. Where as much
    changed just before, a change is no news, and little of the detail need be left (Yeo and Liu 1995, "Rapid scene
    analysis on compressed video", judge a change by those around it).
    """
    before = unrest(recent, look)
    palette = _NO_PALETTE if before is not None and before < _STILL else PALETTE
    if before is not None and before > RESTLESS:
        detail = min(detail, TRACE)
    return any(same_scene(recent[-k], look, detail, palette) for k in EARLIER if k <= len(recent))


def unrest(recent: Sequence[Look], look: Look) -> float | None:
    """The greatest change among the last pictures, newest last, over that to the present one; None for less than two.
    Some films show pictures twice: it looks at all that the next is compared with."""
    changes = [change_between(a, b) for a, b in pairwise(recent[-max(EARLIER) - 1 :])]
    if not changes:
        return None
    now = change_between(recent[-1], look)
    return max(changes) / now if now else math.inf


def change_between(a: Look, b: Look) -> float:
    """The `Likeness.change` of two looks, which costs next to nothing."""
    return float(cv2.absdiff(a.coarse, b.coarse).mean(axis=(1, 2)) @ _WEIGHTS)


def layout_between(a: Look, b: Look) -> float:
    """The `Likeness.layout` of two looks."""
    where = _both(a, b)
    first, second = (look.planes[0][where].astype(np.float32) for look in (a, b))
    first, second = first - first.mean(), second - second.mean()
    return float((first * second).mean() / np.sqrt((first**2).mean() * (second**2).mean() + 1))


def palette_between(a: Look, b: Look) -> float:
    """The `Likeness.palette` of two looks."""
    where = _both(a, b)
    before, now = _palette(a.planes[:, *where]), _palette(b.planes[:, *where])
    return float(np.abs(before - now).sum()) / 2


# --- parts --------------------------------------------------------------------------------------------------------


def _thumbnail(plane: Plane, side: int) -> Plane:
    return np.asarray(cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _inside(luma: Plane) -> Inside:
    """The part of a thumbnail without the black bars of a film of another shape, which all its scenes share."""
    darkest, brightest = int(luma.min()), int(luma.max())
    lit = luma > darkest + _BAR * (brightest - darkest)
    rows, columns = (np.flatnonzero(lit.any(axis=axis)) for axis in (1, 0))
    if min(len(rows), len(columns)) < SIDE // 2:
        return 0, SIDE, 0, SIDE
    # What lies next to a bar may in part be one.
    top, left = (int(at[0]) + (at[0] > 0) for at in (rows, columns))
    bottom, right = (int(at[-1]) + (at[-1] == SIDE - 1) for at in (rows, columns))
    return top, bottom, left, right


def _both(a: Look, b: Look) -> tuple[slice, slice]:
    """Where either has no bars: a flash may light up one of them."""
    rows = slice(min(a.inside[0], b.inside[0]), max(a.inside[1], b.inside[1]))
    return rows, slice(min(a.inside[2], b.inside[2]), max(a.inside[3], b.inside[3]))


def _palette(planes: NDArray[np.uint8]) -> Reals:
    """Histograms of the luma [16] and of chroma [256], one after the other; each sums to 1."""
    y, u, v = planes.reshape(3, -1) >> 4
    bins = np.concatenate([y.astype(np.intp), 16 + (u.astype(np.intp) << 4 | v)])
    return (np.bincount(bins, minlength=272) / y.size).astype(np.float32)


# --- detail -------------------------------------------------------------------------------------------------------

_PADDED = (2 * SIDE, 2 * SIDE)
_FRAME = np.fft.rfft2(np.ones((SIDE, SIDE), np.float32), _PADDED)
_COUNT = np.maximum(np.rint(np.fft.irfft2(_FRAME * _FRAME.conj(), _PADDED)), 1).astype(np.float32)
_FAR = _COUNT < _OVERLAP * SIDE * SIDE


def detail_between(a: Look, b: Look) -> float:
    """The `Likeness.detail` of two looks."""
    where = _both(a, b)
    first, second = (_spectra(_detail(_thumbnail(look.planes[0][where], SIDE))) for look in (a, b))
    products = np.stack(
        [
            first[0] * second[0].conj(), first[0] * _FRAME.conj(), _FRAME * second[0].conj(),
            first[1] * _FRAME.conj(), _FRAME * second[1].conj(),
        ]
    )  # fmt: skip
    both, sum_a, sum_b, square_a, square_b = np.fft.irfft2(products, _PADDED).astype(np.float32)
    of_a, of_b = (
        np.maximum(square - total * total / _COUNT, 1e-3)
        for square, total in ((square_a, sum_a), (square_b, sum_b))
    )
    correlation = (both - sum_a * sum_b / _COUNT) / np.sqrt(of_a * of_b + 0.02 * _COUNT)
    correlation[_FAR] = -1
    return float(correlation.max())


def _spectra(detail: Reals) -> NDArray[np.complexfloating]:
    """Of the detail and of its square."""
    spectra: NDArray[np.complexfloating] = np.fft.rfft2(np.stack([detail, detail**2]), _PADDED)
    return spectra


def _detail(luma: Plane) -> Reals:
    """Local structure whatever the light: less its mean, over its contrast, in windows around every sample."""
    wide = luma.astype(np.float32)
    fine = wide - _around(wide)
    local = np.sqrt(np.maximum(_around(fine * fine), 0))
    floor = 0.25 * float(np.sqrt(np.mean(fine * fine))) + 0.15  # what is weaker is noise or next to nothing
    return (fine / (local + floor)).astype(np.float32)


def _around(values: Reals) -> Reals:
    return np.asarray(cv2.blur(values, (_LOCAL, _LOCAL)), np.float32)

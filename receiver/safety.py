"""Takes the decoder's picture back where it contradicts what was received.

    output, base --low pass--> distance to the guide --excess of the output's over its own doubt--> weight of the base
    output, base --mixed by the weight, spread smoothly over the samples--> picture

The guide is right as far as it goes. A network may paint what the guide cannot carry, and depart from it within the error
that it expects of itself; a picture that is further from the guide than the base picture is, by more than that, is wrong.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from common.fusion import CELL
from common.types import Picture, Plane
from receiver.uncertainty import Cells, in_cells, low_passed

BEGINS, COMPLETE = 1.0, 2.0
"""Excess, in the network's own doubt, at which the base picture comes in, and at which nothing else is left. On clips
that it was not trained on the shipped network exceeds 0.6 in one cell of 20000, and there it was right."""
_ROUNDING = 1.0
"""Sample steps that are no contradiction, however sure the network is."""
_NOISE_REACHES = 4.0
"""So many times its deviation: in the smallest guide a cell is one sample."""
_AROUND = np.ones((3, 3), np.uint8)


class Taken(NamedTuple):
    """picture : what is left; share : of its cells where the base picture came in, 0..1"""

    picture: Picture
    share: float


def take_back(output: Picture, base: Picture, guide: Picture, doubt: Cells, scale: int) -> Taken:
    """`output`, with the base picture where it contradicts the guide.

    guide : enlarged; scale : how much smaller it was coded
    doubt : sample steps that the network expects to be wrong by, [H/8,W/8]
    The mean distance to the guide never grows.
    """
    received = _low(guide, scale)
    before, aim = (_apart(_low(picture, scale), received, scale) for picture in (output, base))
    weights = weights_of(before, aim, doubt)
    if not weights.any():
        return Taken(output, 0.0)
    box = _around(weights)
    part = mixed(_cut(output, box), _cut(base, box), weights[box])
    # Inside a cell the weight varies, so that samples which cancelled each other out need not any more.
    if distance(part, _cut(guide, box), scale).mean() > before[box].mean():
        return Taken(output, 0.0)
    return Taken(_with(output, part, box), float(np.mean(weights > 0)))


def doubt_of(head: Cells, noise: Cells | None) -> Cells:
    """What the network expects to be wrong by, with the noise that an analog link left in the guide: that contradicts
    nothing."""
    return head if noise is None else head + np.float32(_NOISE_REACHES) * noise


def distance(picture: Picture, guide: Picture, scale: int) -> Cells:
    """How far the low-passed picture is from the guide: mean over the cell in the worst of the three planes, sample
    steps, [H/8,W/8]."""
    return _apart(_low(picture, scale), _low(guide, scale), scale)


def _low(picture: Picture, scale: int) -> list[Plane]:
    return [low_passed(plane, scale) for plane in picture.planes]


def _apart(low: list[Plane], guide: list[Plane], scale: int) -> Cells:
    luma, *chroma = (cv2.absdiff(*planes) for planes in zip(low, guide, strict=True))
    worst = np.maximum(*(in_cells(plane, 2 * scale) for plane in chroma))
    return np.maximum(in_cells(luma, scale), worst)


def weights_of(before: Cells, aim: Cells, doubt: Cells) -> Cells:
    """How much of the base picture to show in each cell, 0..1.

    before, aim : distances of the output and of the base picture to the guide
    Around a contradiction the base picture comes in too, where it is no further from the guide: things have edges.
    """
    excess = (before - aim) / (doubt + np.float32(_ROUNDING))
    core = np.clip((excess - np.float32(BEGINS)) / np.float32(COMPLETE - BEGINS), 0, 1)
    if not core.any():
        return core
    spread = cv2.blur(cv2.dilate(core, _AROUND), (3, 3))
    return np.where(before >= aim, np.minimum(spread, 1), 0).astype(np.float32)


Box = tuple[slice, slice]
"""Rows and columns of cells."""


def _around(weights: Cells) -> Box:
    """All cells of some weight and those next to them, so that nothing changes beyond; in pairs, of which one sample of
    the smallest guide's chroma is."""
    rows, cols = (
        slice(max(0, int(at.min()) - 1) // 2 * 2, (int(at.max()) + 3) // 2 * 2) for at in np.nonzero(weights)
    )
    return rows, cols


def _samples(box: Box, size: int) -> Box:
    """The same in samples of a plane whose cells are of this size."""
    rows, cols = box
    return slice(rows.start * size, rows.stop * size), slice(cols.start * size, cols.stop * size)


def _cut(picture: Picture, box: Box) -> Picture:
    luma, chroma = _samples(box, CELL), _samples(box, CELL // 2)
    return Picture(picture.y[luma], picture.u[chroma], picture.v[chroma])


def _with(picture: Picture, part: Picture, box: Box) -> Picture:
    planes = [plane.copy() for plane in picture.planes]
    for plane, piece, size in zip(planes, part.planes, (CELL, CELL // 2, CELL // 2), strict=True):
        plane[_samples(box, size)] = piece
    return Picture(*planes)


def mixed(output: Picture, base: Picture, weights: Cells) -> Picture:
    """Both pictures, by weights that run linearly from the middle of one cell to the next: nothing shows a seam."""
    planes = []
    for under, over in zip(output.planes, base.planes, strict=True):
        share: NDArray[np.float32] = cv2.resize(
            weights, under.shape[::-1], interpolation=cv2.INTER_LINEAR
        ).astype(np.float32, copy=False)
        planes.append(np.asarray(cv2.blendLinear(over, under, share, 1 - share), np.uint8))
    return Picture(*planes)

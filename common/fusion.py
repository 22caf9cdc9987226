"""The deterministic base picture: guide and warped anchor fused by reliability, plus residual. Integers only.

    guide (small) --upsample--> g --------------\
                                                 blend by reliability --> (+ residual) --> base
    anchor --warp--> w --low-pass vs guide-----/

Where the low-passed warped anchor agrees with the guide the anchor is right and far sharper; where they disagree
something moved, turned or appeared since, and only the guide knows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.motion import Int16, Int32, filtered
from common.tables import RELIABILITY, STEPS
from common.types import Picture, Plane

CELL = 8  # reliability is decided per 8x8 luma samples

# OpenCV's bicubic kernel (a = -3/4) at a quarter sample, times 64.
NEAR = np.array([-7, 56, 17, -2], np.int16)


def _double(plane: Int16, axis: int) -> Int16:
    """Twice the samples along `axis`: bicubic, edge-replicated, centres aligned."""
    padded = np.pad(plane, _border(2, axis), "edge")
    shift = [_cut(padded, k, plane.shape[axis], axis) for k in range(5)]
    pair = filtered(shift[:4], NEAR[::-1]), filtered(shift[1:], NEAR)
    return np.stack(pair, axis + 1).reshape(_longer(plane, 2, axis))


def _border(width: int, axis: int) -> list[tuple[int, int]]:
    """What `np.pad` is to add on both sides along one of two axes."""
    return [(width, width) if a == axis else (0, 0) for a in (0, 1)]


def _cut(plane: Int16, first: int, length: int, axis: int) -> Int16:
    return plane[first : first + length] if axis == 0 else plane[:, first : first + length]


def _longer(plane: Int16, times: int, axis: int) -> list[int]:
    """Shape of a plane with `times` as many samples along `axis`."""
    return [size * times if a == axis else size for a, size in enumerate(plane.shape)]


def upsample_plane(plane: Plane, scale: int) -> Plane:
    """[h, w] uint8 -> [h*scale, w*scale] uint8, scale 1, 2, 4 or 8."""
    if scale == 1:
        return plane
    wide = plane.astype(np.int16)
    while scale > 1:
        wide = np.clip(_double(_double(wide, 0), 1), 0, 255)
        scale //= 2
    return wide.astype(np.uint8)


def upsample(picture: Picture, scale: int) -> Picture:
    """The guide at the coded size."""
    y, u, v = (upsample_plane(plane, scale) for plane in picture.planes)
    return Picture(y, u, v)


def downsample_plane(plane: Plane, scale: int) -> Plane:
    """Mean over scale x scale samples, rounded: [h, w] -> [h/scale, w/scale] uint8."""
    if scale == 1:
        return plane
    height, width = plane.shape
    wide = plane.astype(np.uint16)
    rows = wide.reshape(height // scale, scale, width)
    summed = rows[:, 0] + rows[:, 1]
    for k in range(2, scale):
        summed = summed + rows[:, k]
    columns = summed.reshape(height // scale, width // scale, scale)
    total = columns[..., 0] + columns[..., 1]
    for k in range(2, scale):
        total = total + columns[..., k]
    area = scale * scale
    return ((total + area // 2) // area).astype(np.uint8)


def downsample(picture: Picture, scale: int) -> Picture:
    y, u, v = (downsample_plane(plane, scale) for plane in picture.planes)
    return Picture(y, u, v)


def _box3(values: Int32) -> Int32:
    """Sums over 3x3 cells, edge replicated."""
    padded = np.pad(values, 1, "edge")
    vertical = padded[:-2] + padded[1:-1] + padded[2:]
    out: Int32 = vertical[:, :-2] + vertical[:, 1:-1] + vertical[:, 2:]
    return out


def _cell_sums(values: Plane, cell: int) -> Int32:
    rows, cols = values.shape[0] // cell, values.shape[1] // cell
    lines = values.reshape(rows, cell, values.shape[1]).sum(axis=1, dtype=np.int32)
    out: Int32 = lines.reshape(rows, cols, cell).sum(axis=2, dtype=np.int32)
    return out


def _distance(a: Plane, b: Plane) -> Plane:
    """|a - b|."""
    return np.maximum(a, b) - np.minimum(a, b)


def cell_features(warped: Plane, guide: Plane, guide_up: Plane, scale: int) -> tuple[Int32, Int32]:
    """What decides reliability, per 8x8 cell, int32 [H/8, W/8] each, in sixteenths of a luma step:
    disagreement of the low-passed warped anchor with the guide (over 3x3 cells), and mean |w - g|."""
    low, cell = downsample_plane(warped, scale), CELL // scale
    disagreement = _box3(_cell_sums(_distance(low, guide), cell)) * 16 // (9 * cell * cell)
    difference = _cell_sums(_distance(warped, guide_up), CELL) * 16 // (CELL * CELL)
    return disagreement, difference


def _classes(feature: Int32) -> NDArray[np.intp]:
    return np.searchsorted(STEPS, feature, side="right")


def reliability(warped: Plane, guide: Plane, guide_up: Plane, scale: int) -> NDArray[np.int16]:
    """Weight of the warped anchor per 8x8 cell, int16 [H/8, W/8] in 0..64 (common/tables.py)."""
    return weights_of(*cell_features(warped, guide, guide_up, scale))


def weights_of(disagreement: Int32, difference: Int32) -> NDArray[np.int16]:
    """Weights of the warped anchor, int16 0..64, by the two features."""
    return RELIABILITY[_classes(disagreement), _classes(difference)]


def _spread(weights: Int16, axis: int) -> Int16:
    """Linear interpolation from cell centres to the 8 samples of each cell along `axis`, times 16."""
    padded = np.pad(weights, _border(1, axis), "edge")
    before, after = (_cut(padded, k, weights.shape[axis], axis) for k in (0, 2))
    steps = []
    for k in range(CELL):
        other, share = (before, 7 - 2 * k) if k < 4 else (after, 2 * k - 7)
        steps.append(weights * np.int16(16 - share) + other * np.int16(share))
    return np.stack(steps, axis + 1).reshape(_longer(weights, CELL, axis))


def blend(warped: Picture, guide_up: Picture, weights: NDArray[np.int16]) -> Picture:
    """guide + weight * (warped - guide), weights [H/8, W/8] in 0..64 spread smoothly over the samples."""
    smooth = (_spread((_spread(weights, 0) + np.int16(8)) >> 4, 1) + np.int16(8)) >> 4
    halved = smooth[::2, ::2].copy()
    planes = []
    for over, under, weight in zip(warped.planes, guide_up.planes, (smooth, halved, halved), strict=True):
        low = under.astype(np.int16)
        mixed = over - low
        mixed *= weight
        mixed += np.int16(32)
        mixed >>= 6
        mixed += low
        planes.append(mixed.astype(np.uint8))
    return Picture(*planes)

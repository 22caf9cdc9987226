"""Block motion from the anchor to now: integer warp, integer search at the receiver, and its coding.

A field is int16 [H/B, W/B, 2] of (dy, dx) in quarter pixels of the coded picture (B = 16): the block at p shows what
the anchor shows at p + mv. Everything here is integer arithmetic on values far from overflow, so NumPy and torch,
CPU and GPU, give the same bits; `common.motion_torch` repeats the warp for tensors and a test compares them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from common.entropy import AdaptiveTable, RangeReader, RangeWriter, read_signed, write_signed
from common.errors import BitstreamError
from common.types import Picture, Plane

Field = NDArray[np.int16]
Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]

BLOCK = 16
MAX_MV = 2047  # quarter pixels: half a picture of 1024

# Interpolation at multiples of 1/8 pixel: the 4-tap filters of HEVC chroma (ITU-T H.265, table 8-13), sum 64.
TAPS = np.array(
    [[0, 64, 0, 0], [-2, 58, 10, -2], [-4, 54, 16, -2], [-6, 46, 28, -4],
     [-4, 36, 36, -4], [-4, 28, 46, -6], [-2, 16, 54, -4], [-2, 10, 58, -2]],
    dtype=np.int16,
)  # fmt: skip


def zero_field(height: int, width: int) -> Field:
    """The field that moves nothing, for a coded picture of height x width (multiples of 16)."""
    return np.zeros((height // BLOCK, width // BLOCK, 2), np.int16)


def warp_plane(plane: Plane, field: Field, eighths: int) -> Plane:
    """Move the blocks of one plane.

    plane : [h, w] uint8; a block of it is h / field rows by w / field columns samples
    eighths : eighth samples of this plane per quarter pixel of the picture, as a fraction of 8:
        16 for full-size luma (x2), 8 for half size (x1), 4 for quarter size, 2 for eighth size
    """
    rows, cols = field.shape[0], field.shape[1]
    block_h, block_w = plane.shape[0] // rows, plane.shape[1] // cols
    vectors = (field.astype(np.int32) * eighths + 4) >> 3  # now in eighth samples of this plane
    patch = _patches(plane, vectors >> 3, block_h + 3, block_w + 3)
    return _interpolate(patch, vectors & 7, block_h, block_w).reshape(plane.shape)


def _patches(plane: Plane, whole: Int32, tall: int, wide: int) -> Plane:
    """What blocks moved by `whole` samples [rows, cols, 2] show, one sample more before them and two after.

    Returns [rows, cols, tall, wide]. Edges are replicated; a block further out than its own size shows only the edge.
    """
    rows, cols = whole.shape[0], whole.shape[1]
    padded = np.pad(plane, ((tall, tall), (wide, wide)), "edge")
    y = np.arange(rows, dtype=np.int32)[:, None] * (tall - 3) + whole[..., 0] - 1
    x = np.arange(cols, dtype=np.int32) * (wide - 3) + whole[..., 1] - 1
    windows = sliding_window_view(padded, (tall, wide))
    moved: Plane = windows[np.clip(y, -tall, plane.shape[0]) + tall, np.clip(x, -wide, plane.shape[1]) + wide]
    return moved


def _interpolate(patch: Plane, phase: Int32, block_h: int, block_w: int) -> Plane:
    """Separable 4-tap interpolation of [rows, cols, block_h+3, block_w+3] patches at (y, x) phases [rows, cols, 2] of
    1/8. Returns [rows, block_h, cols, block_w].

    The patches of a row of blocks stand side by side as one strip, so that every operation runs over whole lines;
    what it computes across the seams is thrown away.
    """
    if not phase.any():
        return patch[:, :, 1 : 1 + block_h, 1 : 1 + block_w].swapaxes(1, 2)
    rows, cols, tall, wide = patch.shape
    strip = patch.swapaxes(1, 2).astype(np.int16, order="C").reshape(rows, tall, cols * wide)
    length = cols * wide - 3
    across = np.repeat(TAPS.T[:, phase[..., 1]], wide, axis=2)[:, :, None, :length]
    down = np.repeat(TAPS.T[:, phase[..., 0]], wide, axis=2)[:, :, None, :length]
    half = filtered([strip[:, :, tap : tap + length] for tap in range(4)], across)
    out = np.empty((rows, block_h, cols * wide), np.uint8)
    out[..., :length] = filtered([half[:, tap : tap + block_h] for tap in range(4)], down).clip(0, 255)
    return out.reshape(rows, block_h, cols, wide)[..., :block_w]


def filtered(shifted: Sequence[Int16], taps: Int16) -> Int16:
    """Sum of four shifted signals, each times its tap (a number or one per sample), over 64 and rounded."""
    total = shifted[0] * taps[0]
    for samples, tap in zip(shifted[1:], taps[1:], strict=True):
        total += samples * tap
    total += np.int16(32)
    total >>= 6
    return total


def warp(picture: Picture, field: Field) -> Picture:
    """The anchor as the field says it looks now. Sizes are multiples of 16."""
    return Picture(
        warp_plane(picture.y, field, 16), warp_plane(picture.u, field, 8), warp_plane(picture.v, field, 8)
    )


# --- motion derived at the receiver, at no bits -----------------------------------------------------------------


def _block_sums(values: Int32, rows: int, cols: int) -> Int32:
    """Sums over blocks, then over 3x3 neighbouring blocks: [h, w] -> [rows, cols]."""
    height, width = values.shape
    lines = values.reshape(rows, height // rows, width).sum(axis=1, dtype=np.int32)
    sums = lines.reshape(rows, cols, width // cols).sum(axis=2, dtype=np.int32)
    padded = np.pad(sums, 1)
    vertical = padded[:-2] + padded[1:-1] + padded[2:]
    return vertical[:, :-2] + vertical[:, 1:-1] + vertical[:, 2:]


def _slope(values: Int32, axis: int) -> Int32:
    """Central difference (twice the gradient) with zero at the border."""
    out = np.zeros_like(values)
    if axis == 0:
        out[1:-1] = values[2:] - values[:-2]
    else:
        out[:, 1:-1] = values[:, 2:] - values[:, :-2]
    return out


def refine(reference: Plane, current: Plane, field: Field, scale: int, turn: int, steps: int = 2) -> Field:
    """Follow `current` from `field` by trying candidates per block and keeping what lowers the difference.

    reference, current : luma of the low-passed anchor and of the guide, [H/scale, W/scale] uint8
    field : where the blocks were at the previous picture
    turn : frame number; picks the neighbour whose vectors are tried, a different one each frame
    steps : Gauss-Newton steps

    Candidates: the neighbours' vectors (as in PatchMatch, Barnes et al. 2009), the smoothed field, and
    integer Lucas-Kanade steps on sums over 3x3 blocks (IJCAI 1981). Both ends find the same vectors.
    """
    rows, cols = field.shape[0], field.shape[1]
    eighths = 16 // scale
    target = current.astype(np.int32)
    best, moved = field, warp_plane(reference, field, eighths).astype(np.int32)
    cost = _block_sums(np.abs(target - moved), rows, cols)
    for candidate in (_neighbour, _smoothed, *(_gauss_newton,) * steps):
        trial = candidate(best, moved, target, scale, turn)
        trial_moved = warp_plane(reference, trial, eighths).astype(np.int32)
        better = _block_sums(np.abs(target - trial_moved), rows, cols) < cost
        best = np.where(better[..., None], trial, best)
        samples = better.repeat(target.shape[0] // rows, 0).repeat(target.shape[1] // cols, 1)
        moved = np.where(samples, trial_moved, moved)
        cost = _block_sums(np.abs(target - moved), rows, cols)
    return best


def _neighbour(best: Field, moved: Int32, target: Int32, scale: int, turn: int) -> Field:
    """Each block tries the vector of the block on one side."""
    step, axis = ((1, 0), (1, 1), (-1, 0), (-1, 1))[turn & 3]
    return np.roll(best, step, axis)


def _smoothed(best: Field, moved: Int32, target: Int32, scale: int, turn: int) -> Field:
    """Mean vector of 3x3 blocks."""
    padded = np.pad(best.astype(np.int32), ((1, 1), (1, 1), (0, 0)), "edge")
    vertical = padded[:-2] + padded[1:-1] + padded[2:]
    total = vertical[:, :-2] + vertical[:, 1:-1] + vertical[:, 2:]
    return ((total + 4) // 9).astype(np.int16)


def _gauss_newton(best: Field, moved: Int32, target: Int32, scale: int, turn: int) -> Field:
    """`best` plus the step, at most one guide pixel, that best explains target - moved."""
    rows, cols = best.shape[0], best.shape[1]
    gy, gx, gt = _slope(moved, 0), _slope(moved, 1), target - moved
    yy, xx, xy = (_block_sums(p, rows, cols).astype(np.int64) for p in (gy * gy, gx * gx, gy * gx))
    yt, xt = (_block_sums(p, rows, cols).astype(np.int64) for p in (gy * gt, gx * gt))
    damping = 64 * (moved.size // (rows * cols)) + ((yy + xx) >> 6)
    yy, xx = yy + damping, xx + damping
    determinant = yy * xx - xy * xy
    unit = 2 * 4 * scale  # slopes are doubled; one guide pixel is 4 * scale quarter pixels
    dy = (unit * (xx * yt - xy * xt) + (determinant >> 1)) // determinant
    dx = (unit * (yy * xt - xy * yt) + (determinant >> 1)) // determinant
    limit = 4 * scale
    step = np.clip(np.stack([dy, dx], axis=-1), -limit, limit)
    return np.clip(best.astype(np.int64) + step, -MAX_MV, MAX_MV).astype(np.int16)


# --- motion sent on top ------------------------------------------------------------------------------------------

Tables = tuple[AdaptiveTable, AdaptiveTable, AdaptiveTable]


def default_tables() -> Tables:
    """Contexts at a key frame: group has updates, block is updated, magnitude of one component."""
    return AdaptiveTable((30, 2)), AdaptiveTable((4, 4)), AdaptiveTable.geometric(15, 170)


def _groups(rows: int, cols: int) -> tuple[int, int]:
    return -(-rows // 4), -(-cols // 4)


def encode_update(writer: RangeWriter, update: Field, mask: NDArray[np.bool_], tables: Tables) -> Tables:
    """Write corrections `update` [rows, cols, 2] of the blocks where `mask` [rows, cols] is set."""
    rows, cols = mask.shape
    group_rows, group_cols = _groups(rows, cols)
    padded = np.zeros((group_rows * 4, group_cols * 4), bool)
    padded[:rows, :cols] = mask
    grouped = padded.reshape(group_rows, 4, group_cols, 4).swapaxes(1, 2).reshape(-1, 16)
    used = np.asarray(grouped.any(axis=1), np.int32)
    flags = grouped[used > 0].astype(np.int32)
    writer.symbols(used, tables[0])
    writer.symbols(flags, tables[1])
    magnitudes = write_signed(
        writer, _in_group_order(update, group_rows, group_cols)[grouped.ravel()], tables[2]
    )
    return tables[0].update(used), tables[1].update(flags), tables[2].update(magnitudes)


def decode_update(reader: RangeReader, rows: int, cols: int, tables: Tables) -> tuple[Field, Tables]:
    """Inverse of `encode_update`: corrections int16 [rows, cols, 2], zero where none was sent."""
    group_rows, group_cols = _groups(rows, cols)
    used = reader.symbols(group_rows * group_cols, tables[0])
    flags = reader.symbols(16 * int(used.sum()), tables[1])
    grouped = np.zeros((group_rows * group_cols, 16), bool)
    grouped[used > 0] = flags.reshape(-1, 16) > 0
    values, magnitudes = read_signed(reader, 2 * int(grouped.sum()), tables[2])
    if values.size and int(np.abs(values).max()) > 2 * MAX_MV:
        raise BitstreamError("motion correction is out of range")
    ordered = np.zeros((grouped.size, 2), np.int16)
    ordered[grouped.ravel()] = values.reshape(-1, 2)
    update = ordered.reshape(group_rows, group_cols, 4, 4, 2).swapaxes(1, 2)
    update = update.reshape(group_rows * 4, group_cols * 4, 2)[:rows, :cols]
    after = tables[0].update(used), tables[1].update(flags), tables[2].update(magnitudes)
    return np.ascontiguousarray(update), after


def _in_group_order(update: Field, group_rows: int, group_cols: int) -> Field:
    padded = np.zeros((group_rows * 4, group_cols * 4, 2), np.int16)
    padded[: update.shape[0], : update.shape[1]] = update
    return padded.reshape(group_rows, 4, group_cols, 4, 2).swapaxes(1, 2).reshape(-1, 2)


def apply_update(field: Field, update: Field) -> Field:
    """Field plus corrections, clipped to the legal range."""
    return np.clip(field.astype(np.int32) + update, -MAX_MV, MAX_MV).astype(np.int16)

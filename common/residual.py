"""Residual blocks: integer transform, dead-zone quantiser, range coding.

A residual corrects the base picture of one frame in chosen 16x16 blocks (four luma and two chroma 8x8 transforms
each). It is never predicted from, so a lost residual costs nothing but itself, and its tables are fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.entropy import AdaptiveTable, RangeReader, RangeWriter, read_signed, write_signed
from common.errors import BitstreamError
from common.types import Picture, Plane

Mask = NDArray[np.bool_]
Int32 = NDArray[np.int32]

MAX_QUANTISER = 51
# The 8-point integer transform of ITU-T H.265 (8.6.4.2): rows are nearly orthogonal, norm 2**6.5.
_DCT = np.array(
    [[64, 64, 64, 64, 64, 64, 64, 64], [89, 75, 50, 18, -18, -50, -75, -89], [83, 36, -36, -83, -83, -36, 36, 83],
     [75, -18, -89, -50, 50, 89, 18, -75], [64, -64, -64, 64, 64, -64, -64, 64], [50, -89, 18, 75, -75, -18, 89, -50],
     [36, -83, 83, -36, -36, 83, -83, 36], [18, -50, 75, -89, 89, -75, 50, -18]],
    dtype=np.int32,
)  # fmt: skip
_LEVEL_SCALE = np.array([40, 45, 51, 57, 64, 72], np.int32)  # H.265 8.6.3: a step of 6 doubles the quantiser
_ZIGZAG = np.array(
    sorted(range(64), key=lambda k: (k // 8 + k % 8, k % 8 if (k // 8 + k % 8) % 2 else k // 8))
)
_LENGTHS = np.array([0, 1, 3, 6, 10, 21, 36, 64])  # coefficients kept, in zigzag order
_BAND = np.array([0] + [1] * 2 + [2] * 7 + [3] * 54)
_TABLES = tuple(AdaptiveTable.geometric(15, keep) for keep in (200, 170, 130, 90))
_LENGTH_TABLE = AdaptiveTable((40, 20, 20, 20, 20, 20, 15, 10))
_MASK_TABLE = AdaptiveTable((3, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """Decoded residual of one frame.

    mask : [H/16, W/16] bool, blocks that are corrected
    y, u, v : corrections in luma steps, int16, at the planes' sizes, zero outside the mask
    """

    mask: Mask
    y: NDArray[np.int16]
    u: NDArray[np.int16]
    v: NDArray[np.int16]


def step_of(quantiser: int) -> int:
    """Quantiser step times 64: 40 (0.6 luma steps) at 0, doubling every 6."""
    return int(_LEVEL_SCALE[quantiser % 6]) << (quantiser // 6)


def _blocks(plane: NDArray[np.int16], mask: Mask, size: int) -> Int32:
    """The 8x8 blocks of `plane` inside the chosen blocks of `size` samples: [n, 8, 8]."""
    rows, cols = mask.shape
    grid = plane.reshape(rows, size, cols, size).swapaxes(1, 2)[mask]
    split = size // 8
    return grid.reshape(-1, split, 8, split, 8).swapaxes(2, 3).reshape(-1, 8, 8).astype(np.int32)


def _unblocks(blocks: Int32, mask: Mask, size: int) -> NDArray[np.int16]:
    rows, cols = mask.shape
    split = size // 8
    grid = np.zeros((rows, cols, size, size), np.int16)
    grid[mask] = blocks.reshape(-1, split, split, 8, 8).swapaxes(2, 3).reshape(-1, size, size)
    return grid.swapaxes(1, 2).reshape(rows * size, cols * size)


def _inverse(levels: Int32, quantiser: int) -> Int32:
    """Levels [n, 64] in zigzag order -> corrections [n, 8, 8]; 32-bit integers throughout."""
    coefficients = np.zeros_like(levels)
    coefficients[:, _ZIGZAG] = np.clip(levels * step_of(quantiser), -(1 << 21), 1 << 21)
    square = (
        coefficients.reshape(-1, 8, 8) + 8
    ) >> 4  # quantiser step 64 = one unit of the orthonormal transform x4
    rows = (np.einsum("ki,nkj->nij", _DCT, square) + 64) >> 7
    out: Int32 = (np.einsum("nik,kj->nij", rows, _DCT) + (1 << 9)) >> 10
    return np.clip(out, -255, 255)


def _forward(blocks: Int32, quantiser: int) -> Int32:
    """Quantised levels [n, 64] in zigzag order, with a dead zone of a third of a step."""
    basis = _DCT / np.sqrt((_DCT.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    coefficients = np.einsum("ki,nij,lj->nkl", basis, blocks, basis).reshape(-1, 64)[:, _ZIGZAG]
    step = step_of(quantiser) / 64
    return (np.sign(coefficients) * np.floor(np.abs(coefficients) / step + 1 / 3)).astype(np.int32)


def encode_residual(wanted: tuple[NDArray[np.int16], ...], mask: Mask, quantiser: int) -> bytes:
    """Code source minus base in the chosen blocks.

    wanted : (y, u, v) differences, int16 at the planes' sizes
    """
    writer = RangeWriter()
    writer.symbols(mask.ravel().astype(np.int32), _MASK_TABLE)
    blocks = np.concatenate([_blocks(p, mask, s) for p, s in zip(wanted, (16, 8, 8), strict=True)])
    levels = np.clip(_forward(blocks, quantiser), -4095, 4095)
    used = np.where(levels.any(axis=1), 64 - np.argmax(levels[:, ::-1] != 0, axis=1), 0)
    length = np.searchsorted(_LENGTHS, used)
    writer.symbols(length, _LENGTH_TABLE)
    kept = np.arange(64)[None, :] < _LENGTHS[length][:, None]
    for band, table in enumerate(_TABLES):
        write_signed(writer, levels[kept & np.equal(_BAND, band)[None, :]], table)
    return bytes([quantiser]) + writer.finish()


def decode_residual(data: bytes, height: int, width: int) -> Residual:
    """Inverse of `encode_residual` for a coded picture of height x width."""
    if not data or data[0] > MAX_QUANTISER:
        raise BitstreamError("residual has no legal quantiser")
    reader = RangeReader(data[1:])
    rows, cols = height // 16, width // 16
    mask = reader.symbols(rows * cols, _MASK_TABLE).reshape(rows, cols) > 0
    count = int(mask.sum())
    length = reader.symbols(6 * count, _LENGTH_TABLE)
    kept = np.arange(64)[None, :] < _LENGTHS[length][:, None]
    levels = np.zeros((6 * count, 64), np.int32)
    for band, table in enumerate(_TABLES):
        where = kept & np.equal(_BAND, band)[None, :]
        levels[where] = read_signed(reader, int(where.sum()), table)[0]
    blocks = _inverse(np.clip(levels, -4095, 4095), data[0])
    y, u, v = blocks[: 4 * count], blocks[4 * count : 5 * count], blocks[5 * count :]
    return Residual(mask, _unblocks(y, mask, 16), _unblocks(u, mask, 8), _unblocks(v, mask, 8))


def add_residual(base: Picture, residual: Residual) -> Picture:
    """The corrected base picture."""

    def corrected(plane: Plane, correction: NDArray[np.int16]) -> Plane:
        return np.clip(plane.astype(np.int16) + correction, 0, 255).astype(np.uint8)

    return Picture(
        corrected(base.y, residual.y), corrected(base.u, residual.u), corrected(base.v, residual.v)
    )

"""Where the coefficients of the analog layer lie: octave chunks, their energies, and the order of sending.

A group is the 3D DCT of up to eight pictures, plane by plane: arrays [T, H, W] of orthonormal coefficients.
A chunk is one rectangle of them at one temporal frequency; its edges are 0, 1, 2, 4, 8, ... on either axis.
Octaves instead of SoftCast's equal squares, for energy falls with frequency by ratios: 0 to 0.9 dB better than 8 x 8
squares, which need as much metadata, and better than 16 x 16, which need four times as much (four clips, 128x128).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import UsageError
from common.units import MAX_SIDE

Floats = NDArray[np.float64]
Int32 = NDArray[np.int32]
Planes = tuple[Floats, Floats, Floats]

MAX_PICTURES = 8
MAX_COEFFICIENTS = 1 << 22
"""Eight pictures of 512x512 are below it: what hostile metadata can make a receiver allocate is bounded by this."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of a group; UsageError where it is out of range.

    pictures : 1..8
    width, height : of the luma plane, even, at most 4096
    """

    pictures: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if not 1 <= self.pictures <= MAX_PICTURES:
            raise UsageError(f"an analog group has 1 to {MAX_PICTURES} pictures, not {self.pictures}")
        if self.width < 2 or self.height < 2 or self.width % 2 or self.height % 2:
            raise UsageError(f"4:2:0 pictures have even sides, not {self.width}x{self.height}")
        if max(self.width, self.height) > MAX_SIDE or self.coefficients > MAX_COEFFICIENTS:
            raise UsageError(
                f"an analog group has sides up to {MAX_SIDE} and at most {MAX_COEFFICIENTS} samples:"
                " send fewer or smaller pictures"
            )

    @property
    def planes(self) -> tuple[tuple[int, int, int], ...]:
        """[T, H, W] of the three planes."""
        luma = (self.pictures, self.height, self.width)
        chroma = (self.pictures, self.height // 2, self.width // 2)
        return luma, chroma, chroma

    @property
    def coefficients(self) -> int:
        return self.pictures * self.width * self.height * 3 // 2


def edges(length: int) -> NDArray[np.intp]:
    """First frequency of each band: 0, 1, 2, 4, 8, ... below `length`."""
    return np.array([0] + [1 << k for k in range((length - 1).bit_length())], np.intp)


def widths(length: int) -> NDArray[np.intp]:
    """Frequencies in each band."""
    return np.diff(np.append(edges(length), length))


def chunk_shape(plane: tuple[int, int, int]) -> tuple[int, int, int]:
    """Chunks of a plane: [T, bands, bands]."""
    pictures, height, width = plane
    return pictures, edges(height).size, edges(width).size


def chunk_counts(plane: tuple[int, int, int]) -> NDArray[np.intp]:
    """Coefficients in every chunk of a plane, [T, bands, bands]."""
    pictures, height, width = plane
    one = np.outer(widths(height), widths(width))
    return np.broadcast_to(one, (pictures, *one.shape))


def chunk_sums(values: NDArray[Any]) -> Floats:
    """Sums over the chunks of one plane: [T, H, W] -> [T, bands, bands]."""
    rows = np.add.reduceat(values, edges(values.shape[1]), axis=1)
    return np.add.reduceat(rows, edges(values.shape[2]), axis=2)


@lru_cache(maxsize=4)
def chunk_of(shape: Shape) -> Int32:
    """Number of the chunk that each coefficient is in, over all planes, int32 [coefficients]."""
    first, numbers = 0, []
    for plane in shape.planes:
        chunks = chunk_shape(plane)
        number = first + np.arange(np.prod(chunks), dtype=np.int32).reshape(chunks)
        spread = np.repeat(np.repeat(number, widths(plane[1]), axis=1), widths(plane[2]), axis=2)
        numbers.append(spread.ravel())
        first += number.size
    joined = np.concatenate(numbers)
    joined.setflags(write=False)
    return joined


def join(planes: tuple[NDArray[Any], ...]) -> NDArray[Any]:
    """The planes one after the other, [coefficients] (or [chunks])."""
    return np.concatenate([plane.ravel() for plane in planes])


def split(values: Floats, shape: Shape) -> Planes:
    """Inverse of `join` for coefficients."""
    sizes = [int(np.prod(plane)) for plane in shape.planes]
    parts = np.split(values, np.cumsum(sizes)[:-1])
    y, u, v = (part.reshape(plane) for part, plane in zip(parts, shape.planes, strict=True))
    return y, u, v

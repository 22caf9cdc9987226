"""What the analog layer must tell digitally: its metadata, and their bytes.

    byte 0       version (3 bits) | corner (2 bits) | pictures - 1 (3 bits)
    varints      width / 2, height / 2, channel uses
    4 bytes      log2 of the means' step | exponent of level 1 + 128 | scale (16 bits)
    3 bytes      energy of what is not sent, by plane
    then         range coded: tables, means of the corner, levels of the chunks
    last 4       CRC-32 of everything before

All three numbers that vary over decades are in the log domain. The corner holds the lowest frequencies of every
picture and temporal frequency, whose means (a chunk there is a coefficient or four) are quantised and told: what
stays for the analog symbols is the remainder, so that a few huge coefficients do not take the power of all others.
Where a chunk's means are not all zero, its remainder's variance is known, and no level is told.
Chunks too weak to be sent have level 0: a short budget has short metadata.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import BitstreamError, UsageError
from common.softcast_layout import Floats, Int32, Shape
from common.softcast_numbers import MAX_LEVEL, IntPlanes, pack_numbers, parse_numbers
from common.wire import Cursor, varint

VERSION = 0
MAX_SYMBOLS = 1 << 22
CORNERS = (1, 4, 8, 16)
MAX_STEP_LOG2 = 15
_SCALE_STEPS, _LOST_STEPS, _LOST_OFFSET = 256, 5, 8
_MAX_SCALE = 16 * _SCALE_STEPS  # only a group of next to nothing would need more, and has no use for it
_FLOORS = range(-9, 48)


@dataclass(frozen=True, slots=True, eq=False)
class Metadata:
    """All that the receiver knows before the symbols.

    shape : size of the group
    symbols : channel uses
    corner : side of the corner whose means are told, 1, 4, 8 or 16 coefficients
    step_log2 : log2 of the step of the means, 0..15
    means : [T, corner, corner] of each plane, in steps
    floor : log2 of the variance that level 1 stands for; every level more doubles it
    levels : [T, bands, bands] of each plane, 0..63, 0 where nothing is sent
    scale : gain common to all coefficients, 256 log2(a)
    lost : energy of what is not sent in each plane, 0 for none, else 5 log2 + 41
    """

    shape: Shape
    symbols: int
    corner: int
    step_log2: int
    means: IntPlanes
    floor: int
    levels: IntPlanes
    scale: int
    lost: tuple[int, int, int]

    @property
    def gain(self) -> float:
        return float(2.0 ** (self.scale / _SCALE_STEPS))

    def variance(self, levels: NDArray[np.integer[Any]]) -> Floats:
        """Variance that levels stand for (of level 0: meaningless)."""
        return np.exp2(levels.astype(np.float64) + (self.floor - 1))

    def lost_energy(self, plane: int) -> float:
        code = self.lost[plane]
        return float(2.0 ** ((code - 1) / _LOST_STEPS - _LOST_OFFSET)) if code else 0.0


def scale_code(gain: float) -> int:
    """The largest scale that is no more than `gain`, within 0.3 %."""
    return int(np.clip(np.floor(_SCALE_STEPS * np.log2(gain)), -2 * _MAX_SCALE, _MAX_SCALE))


def lost_code(energy: float) -> int:
    """The code nearest to an energy, within 7 %; 0 below 2**-8."""
    if energy < 2.0**-_LOST_OFFSET:
        return 0
    return int(min(255, 1 + round(_LOST_STEPS * (np.log2(energy) + _LOST_OFFSET))))


def remainder_octave(step_log2: int) -> int:
    """log2 of the variance of what lies anywhere within one step (step² / 12), rounded."""
    return round(2 * step_log2 - math.log2(12))


def levels_of_octaves(octaves: NDArray[np.integer[Any]], floor: int) -> Int32:
    """Levels of chunks whose variances have these logarithms."""
    return np.clip(octaves - floor + 1, 0, MAX_LEVEL).astype(np.int32)


def _remainder_level(step_log2: int, floor: int) -> int:
    return int(levels_of_octaves(np.array(remainder_octave(step_log2)), floor))


def pack_metadata(metadata: Metadata) -> bytes:
    """The bytes of `metadata`."""
    shape = metadata.shape
    first = VERSION << 5 | CORNERS.index(metadata.corner) << 3 | shape.pictures - 1
    head = bytes([first]) + varint(shape.width // 2) + varint(shape.height // 2) + varint(metadata.symbols)
    head += bytes([metadata.step_log2, metadata.floor + 128])
    head += metadata.scale.to_bytes(2, "big", signed=True) + bytes(metadata.lost)
    body = head + pack_numbers(
        metadata.means, metadata.levels, shape, _remainder_level(metadata.step_log2, metadata.floor)
    )
    return body + zlib.crc32(body).to_bytes(4, "big")


def parse_metadata(data: bytes) -> Metadata:
    """Inverse of `pack_metadata`; BitstreamError when the bytes are damaged or of another version."""
    body, check = data[:-4], data[-4:]
    if len(data) < 5 or zlib.crc32(body).to_bytes(4, "big") != check:
        raise BitstreamError("the analog layer's metadata is damaged: its check does not match")
    cursor = Cursor(body)
    first = cursor.number(1)
    if first >> 5 != VERSION:
        raise BitstreamError(f"analog metadata of version {first >> 5}, this program reads {VERSION}")
    width, height = 2 * cursor.varint(1 << 22), 2 * cursor.varint(1 << 22)
    symbols = cursor.varint(MAX_SYMBOLS)
    try:
        shape = Shape((first & 7) + 1, width, height)
    except UsageError as error:
        raise BitstreamError(f"analog metadata: {error}") from error
    step_log2, floor = cursor.number(1), cursor.number(1) - 128
    scale = int.from_bytes(cursor.take(2), "big", signed=True)
    lost = (cursor.number(1), cursor.number(1), cursor.number(1))
    if not symbols or step_log2 > MAX_STEP_LOG2 or floor not in _FLOORS or abs(scale) > 2 * _MAX_SCALE:
        raise BitstreamError("analog metadata: a field is out of range")
    corner = CORNERS[first >> 3 & 3]
    means, levels = parse_numbers(cursor.rest(), shape, corner, _remainder_level(step_log2, floor))
    return Metadata(shape, symbols, corner, step_log2, means, floor, levels, scale, lost)

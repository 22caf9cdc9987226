"""Normative constant tables of the base picture. A change here is a change of the bitstream."""

from __future__ import annotations

import json
import zlib
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from common.short_code import SymbolTable


def _asset(name: str) -> NDArray[np.int8]:
    with files("common").joinpath("assets", name).open("rb") as file:
        table: NDArray[np.int8] = np.load(file, allow_pickle=False)
    return table


STEPS = np.array([1, 3, 6, 10, 16, 23, 35, 50, 73, 104, 149, 212, 301, 427, 605], np.int32)
"""Where a cell feature (sixteenths of a luma step) passes to the next of 16 classes: half octaves."""

# fmt: off
RELIABILITY = np.array([
    27, 44, 36, 37, 37, 37, 39, 41, 44, 49, 55, 59, 62, 63, 64, 64,
    23, 33, 37, 34, 37, 38, 40, 42, 46, 51, 56, 59, 61, 62, 63, 63,
    28, 35, 37, 34, 34, 39, 41, 44, 48, 53, 57, 60, 61, 62, 62, 62,
    23, 32, 37, 37, 35, 37, 42, 46, 50, 54, 58, 60, 61, 61, 61, 61,
    29, 36, 37, 37, 37, 38, 37, 47, 52, 55, 58, 60, 60, 60, 60, 60,
    37, 40, 36, 37, 37, 37, 37, 39, 46, 56, 59, 60, 60, 59, 59, 59,
    54, 37, 40, 36, 37, 36, 36, 38, 42, 52, 60, 62, 59, 58, 58, 57,
    37, 37, 37, 38, 34, 36, 37, 37, 39, 44, 53, 60, 62, 57, 57, 56,
    37, 37, 37, 31, 36, 33, 35, 36, 37, 40, 45, 55, 60, 58, 56, 55,
    37, 37, 36, 35, 28, 24, 28, 30, 32, 33, 38, 43, 51, 55, 55, 55,
    37, 36, 34, 33, 31, 26, 24, 21, 23, 26, 28, 32, 35, 40, 49, 61,
    37, 35, 33, 32, 30, 24, 24, 20, 16, 14, 14, 15, 18, 20, 23, 34,
    37, 35, 33, 31, 29, 28, 24, 23, 15, 11, 8, 6, 5, 6, 5, 3,
    37, 35, 32, 31, 29, 28, 27, 24, 16, 11, 8, 5, 2, 1, 1, 0,
    38, 35, 32, 31, 29, 27, 26, 25, 26, 16, 9, 7, 3, 0, 0, 0,
    38, 35, 33, 31, 29, 27, 26, 25, 23, 21, 14, 11, 3, 1, 0, 0,
], np.int16).reshape(16, 16)
# fmt: on
"""Weight of the warped anchor against the guide, 0..64, by [disagreement class, difference class].

Least squares over 2.8 million cells of the training clips (`training/fusion.py`): the weight that brings
guide + weight * (warped - guide) closest to the source. Rows fall with disagreement; at equal disagreement
a larger difference is mostly detail that the guide lost, so columns rise.
"""

SHARPEN = _asset("sharpen.npy")
"""Weights of common/sharpen.py, int8 [scale 2, 4, 8; band; class; difference], sixty-fourths, at most 36."""


def _header_tables() -> dict[str, tuple[SymbolTable, ...]]:
    text = files("common").joinpath("assets", "av1_headers.json").read_text(encoding="utf-8")
    counts: dict[str, list[list[int]]] = json.loads(text)
    return {name: tuple(SymbolTable.of_counts(tuple(row)) for row in rows) for name, rows in counts.items()}


HEADER_TABLES = _header_tables()
"""Probabilities of common/av1_headers.py: for each kind of symbol, a table for each of its contexts."""

TABLES_HASH = zlib.crc32(
    STEPS.astype("<i4").tobytes()
    + RELIABILITY.astype("<i2").tobytes()
    + SHARPEN.tobytes()
    + repr(HEADER_TABLES).encode()
)
"""Named in the stream configuration: an end with other tables refuses the stream."""

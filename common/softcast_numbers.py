"""Range coding of the analog layer's means and levels.

A level is predicted by the mean of its neighbours at the next lower frequency, vertically, horizontally and in time,
each less one, for energy falls with frequency; how far it falls from rest to motion differs most, and is told.
All chunks with the same sum of these three indices have their neighbours behind them, so they are coded in one go.
Of eight fixed tables the sender names the one that suits each context best: cheaper to tell than to learn,
for a group has some hundred levels at most and stands for itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.entropy import AdaptiveTable, RangeReader, RangeWriter, read_signed, write_signed
from common.softcast_layout import Int32, Shape, chunk_sums

MAX_LEVEL = 63
IntPlanes = tuple[Int32, Int32, Int32]

_KEEPS = (4, 24, 64, 104, 144, 184, 214, 236)
_LEVEL_TABLES = tuple(AdaptiveTable.geometric(MAX_LEVEL + 1, keep) for keep in _KEEPS)
_MEAN_TABLES = tuple(AdaptiveTable.geometric(15, keep) for keep in _KEEPS)
_CHOICE = AdaptiveTable.flat(len(_KEEPS))
_CONTEXTS = 3  # of a level: predicted 0, predicted 1, predicted more
_FIRST_LEVEL = 8  # predicted where there is no neighbour
_FALLS = AdaptiveTable.flat(16)

Front = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]


def corner_shape(plane: tuple[int, int, int], corner: int) -> tuple[int, int, int]:
    """Coefficients of a plane whose means are told: [T, corner, corner], less where the plane is smaller."""
    return plane[0], min(corner, plane[1]), min(corner, plane[2])


def told(means: Int32, plane: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Chunks of a plane that hold a mean other than zero, [T, bands, bands]."""
    spread = np.zeros(plane, np.int32)
    spread[:, : means.shape[1], : means.shape[2]] = means != 0
    return chunk_sums(spread) > 0


def pack_numbers(means: IntPlanes, levels: IntPlanes, shape: Shape, known_level: int) -> bytes:
    """Means (|m| < 2**15) and levels (0..63), as `Metadata` has them, to bytes.

    known_level : level of the chunks with told means, which is not coded
    """
    writer = RangeWriter()
    for group in _mean_groups(means):
        number = _best(np.minimum(np.abs(group), 14), _MEAN_TABLES)
        writer.symbols(np.array([number]), _CHOICE)
        write_signed(writer, group, _MEAN_TABLES[number])
    fall = _time_fall(levels)
    writer.symbols(np.array([fall]), _FALLS)
    runs: list[tuple[int, Int32]] = []
    for plane, mean, level in zip(shape.planes, means, levels, strict=True):
        runs += _level_runs(level, told(mean, plane), known_level, fall)
    chosen = []
    for context in range(_CONTEXTS):
        seen = [run for where, run in runs if where == context]
        chosen.append(_best(np.concatenate(seen), _LEVEL_TABLES) if seen else 0)
    writer.symbols(np.array(chosen), _CHOICE)
    for context, run in runs:
        writer.symbols(run, _LEVEL_TABLES[chosen[context]])
    return writer.finish()


def parse_numbers(data: bytes, shape: Shape, corner: int, known_level: int) -> tuple[IntPlanes, IntPlanes]:
    """Inverse of `pack_numbers`: (means, levels). BitstreamError when the bytes are damaged."""
    reader = RangeReader(data)
    means = tuple(np.zeros(corner_shape(plane, corner), np.int32) for plane in shape.planes)
    for group in _mean_groups(means):
        table = _MEAN_TABLES[int(reader.symbols(1, _CHOICE)[0])]
        group[...] = read_signed(reader, group.size, table)[0].reshape(group.shape)
    fall = int(reader.symbols(1, _FALLS)[0])
    tables = [_LEVEL_TABLES[int(number)] for number in reader.symbols(_CONTEXTS, _CHOICE)]
    y, u, v = (
        _read_levels(reader, told(mean, plane), known_level, fall, tables)
        for plane, mean in zip(shape.planes, means, strict=True)
    )
    return (means[0], means[1], means[2]), (y, u, v)


def _mean_groups(means: tuple[Int32, ...]) -> Iterator[Int32]:
    """Views of the means that have much the same distribution."""
    for mean in means:
        yield mean[0]
        yield mean[1:]


def _best(symbols: NDArray[np.integer[Any]], tables: tuple[AdaptiveTable, ...]) -> int:
    """Number of the table that codes `symbols` with the fewest bits."""
    bits = [-np.log2(table.frequencies()[symbols]).sum() for table in tables]
    return int(np.argmin(bits))


@lru_cache(maxsize=16)
def _fronts(chunks: tuple[int, ...]) -> tuple[Front, ...]:
    """Indices (t, i, j) of the chunks in the order of t + i + j, one front for each sum."""
    total = np.indices(chunks).sum(axis=0)
    fronts = []
    for number in range(int(total.max()) + 1):
        t, i, j = np.nonzero(total == number)
        fronts.append((t, i, j))
    return tuple(fronts)


def _time_fall(levels: IntPlanes) -> int:
    """How much lower, on the whole, levels are at the first temporal frequency than at rest, 0..15."""
    if levels[0].shape[0] == 1:
        return 0
    rest, motion = (np.concatenate([plane[t].ravel() for plane in levels]) for t in (0, 1))
    falls = np.arange(_FALLS.frequencies().size)
    return int(np.abs(np.maximum(rest - falls[:, None], 0) - motion).sum(axis=1).argmin())


def _predict(padded: Int32, front: Front, fall: int) -> tuple[Int32, Int32]:
    """Prediction and context of a front; `padded` has -1 before every axis, where nothing is."""
    t, i, j = front
    near = np.stack([padded[t, i + 1, j + 1], padded[t + 1, i, j + 1], padded[t + 1, i + 1, j]])
    count = (near >= 0).sum(axis=0)
    falls = np.ones_like(near)
    falls[0, t == 1] = fall
    total = np.maximum(near - falls, 0).sum(axis=0)
    mean = (2 * total + count) // np.maximum(2 * count, 1)
    predicted = np.where(count > 0, mean, _FIRST_LEVEL).astype(np.int32)
    return predicted, np.minimum(predicted, _CONTEXTS - 1)


def _fold(levels: Int32, predicted: Int32) -> Int32:
    """Difference to the prediction as 0, 1, 2, ... for 0, +1, -1, ...; where one side ends, the other goes on alone.

    So levels stay within 0..63 whatever is predicted, and no damaged stream can leave that range.
    """
    change = levels - predicted
    size, reach = np.abs(change), np.minimum(predicted, MAX_LEVEL - predicted)
    return np.where(size <= reach, 2 * size - (change > 0), size + reach)


def _unfold(folded: Int32, predicted: Int32) -> Int32:
    reach = np.minimum(predicted, MAX_LEVEL - predicted)
    near = np.where(folded & 1, (folded + 1) >> 1, -(folded >> 1))
    far = np.where(predicted == reach, folded - reach, reach - folded)
    return predicted + np.where(folded <= 2 * reach, near, far)


def _level_runs(
    levels: Int32, known: NDArray[np.bool_], known_level: int, fall: int
) -> list[tuple[int, Int32]]:
    """What is coded of one plane, in order: (context, folded levels)."""
    padded = np.pad(np.where(known, known_level, levels), ((1, 0),) * 3, constant_values=-1).astype(np.int32)
    runs = []
    for front in _fronts(levels.shape):
        predicted, contexts = _predict(padded, front, fall)
        for context in range(_CONTEXTS):
            here = (contexts == context) & ~known[front]
            if here.any():
                runs.append((context, _fold(levels[front][here], predicted[here])))
    return runs


def _read_levels(
    reader: RangeReader, known: NDArray[np.bool_], known_level: int, fall: int, tables: list[AdaptiveTable]
) -> Int32:
    """Levels of one plane, [T, bands, bands]."""
    padded = np.pad(np.where(known, known_level, 0), ((1, 0),) * 3, constant_values=-1).astype(np.int32)
    inner = padded[1:, 1:, 1:]
    for front in _fronts(known.shape):
        predicted, contexts = _predict(padded, front, fall)
        for context in range(_CONTEXTS):
            here = (contexts == context) & ~known[front]
            if here.any():
                folded = reader.symbols(int(np.count_nonzero(here)), tables[context])
                inner[tuple(axis[here] for axis in front)] = _unfold(folded, predicted[here])
    return inner

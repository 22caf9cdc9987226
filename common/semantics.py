"""Label maps: prediction by motion and coding of what changed.

A map is uint8 [H/16, W/16] of the 21 PASCAL VOC classes, on the motion grid. It is sent a few times a second; in
between both ends carry it along with the motion of the blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.entropy import AdaptiveTable, RangeReader, RangeWriter
from common.motion import Field
from common.types import LABEL_CLASSES

LabelMap = NDArray[np.uint8]
Tables = tuple[AdaptiveTable, AdaptiveTable, AdaptiveTable, AdaptiveTable]

_QUARTER_PIXELS_PER_BLOCK = 64


def default_tables() -> Tables:
    """Contexts at a key frame: change inside a region, change at a border, step to the left, class."""
    return (
        AdaptiveTable((60, 2)),
        AdaptiveTable((12, 4)),
        AdaptiveTable((28, 3)),
        AdaptiveTable.flat(LABEL_CLASSES),
    )


def carry(labels: LabelMap, then: Field, now: Field) -> LabelMap:
    """The map moved by what the blocks moved since it was sent.

    then, now : the motion fields (both to the same anchor) at the time of the map and now
    """
    step = (now.astype(np.int32) - then + _QUARTER_PIXELS_PER_BLOCK // 2) // _QUARTER_PIXELS_PER_BLOCK
    rows, cols = labels.shape
    y = np.clip(np.arange(rows)[:, None] + step[..., 0], 0, rows - 1)
    x = np.clip(np.arange(cols)[None, :] + step[..., 1], 0, cols - 1)
    return labels[y, x]


def _border(labels: LabelMap) -> NDArray[np.bool_]:
    """Cells with a neighbour of another class."""
    padded = np.pad(labels, 1, "edge")
    inner = padded[1:-1, 1:-1]
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.logical_or.reduce([side != inner for side in around])


def _left(labels: LabelMap) -> LabelMap:
    """Prediction inside one map: the cell to the left, in the first column the cell above."""
    left = np.empty_like(labels)
    left[:, 1:] = labels[:, :-1]
    left[1:, 0] = labels[:-1, 0]
    left[0, 0] = 0
    return left


def encode_labels(labels: LabelMap, predicted: LabelMap, tables: Tables) -> tuple[bytes, Tables]:
    """The shorter of two descriptions: changes against the prediction in time, or steps from the left."""
    in_time, in_space = _encode_changes(labels, predicted, tables), _encode_steps(labels, tables)
    return min(in_time, in_space, key=lambda coded: len(coded[0]))


def _encode_changes(labels: LabelMap, predicted: LabelMap, tables: Tables) -> tuple[bytes, Tables]:
    writer = RangeWriter()
    border, changed = _border(predicted), labels != predicted
    writer.symbols(np.array([0]), AdaptiveTable((1, 1)))
    inside, edge = changed[~border].astype(np.int32), changed[border].astype(np.int32)
    writer.symbols(inside, tables[0])
    writer.symbols(edge, tables[1])
    classes = labels[changed].astype(np.int32)
    writer.symbols(classes, tables[3])
    after = tables[0].update(inside), tables[1].update(edge), tables[2], tables[3].update(classes)
    return writer.finish(), after


def _encode_steps(labels: LabelMap, tables: Tables) -> tuple[bytes, Tables]:
    writer = RangeWriter()
    steps = labels != _left(labels)
    writer.symbols(np.array([1]), AdaptiveTable((1, 1)))
    flags = steps.ravel().astype(np.int32)
    writer.symbols(flags, tables[2])
    classes = labels[steps].astype(np.int32)
    writer.symbols(classes, tables[3])
    return writer.finish(), (tables[0], tables[1], tables[2].update(flags), tables[3].update(classes))


def decode_labels(data: bytes, predicted: LabelMap, tables: Tables) -> tuple[LabelMap, Tables]:
    """Inverse of `encode_labels`; any bytes give some legal map."""
    reader = RangeReader(data)
    if int(reader.symbols(1, AdaptiveTable((1, 1)))[0]):
        return _decode_steps(reader, predicted.shape, tables)
    border = _border(predicted)
    inside = reader.symbols(int(np.count_nonzero(~border)), tables[0])
    edge = reader.symbols(int(np.count_nonzero(border)), tables[1])
    changed = np.zeros(predicted.shape, bool)
    changed[~border], changed[border] = inside > 0, edge > 0
    classes = reader.symbols(int(np.count_nonzero(changed)), tables[3])
    labels = predicted.copy()
    labels[changed] = classes
    return labels, (tables[0].update(inside), tables[1].update(edge), tables[2], tables[3].update(classes))


def _decode_steps(reader: RangeReader, shape: tuple[int, ...], tables: Tables) -> tuple[LabelMap, Tables]:
    rows, cols = shape
    flags = reader.symbols(rows * cols, tables[2])
    steps = flags.reshape(rows, cols) > 0
    classes = reader.symbols(int(np.count_nonzero(steps)), tables[3])
    written = np.zeros((rows, cols), np.uint8)
    written[steps] = classes
    first = _fill(written[:, 0], steps[:, 0], np.zeros((), np.uint8))
    labels = np.stack([_fill(written[r], np.r_[True, steps[r, 1:]], first[r], first[r]) for r in range(rows)])
    return labels, (tables[0], tables[1], tables[2].update(flags), tables[3].update(classes))


def _fill(
    values: LabelMap,
    known: NDArray[np.bool_],
    before: NDArray[np.uint8],
    start: NDArray[np.uint8] | None = None,
) -> LabelMap:
    """Carry each known value to the right until the next known one; `before` fills what precedes the first."""
    line = np.concatenate([[before], values])
    if start is not None:
        line[1] = start
    index = np.maximum.accumulate(np.concatenate([[0], np.where(known, np.arange(1, values.size + 1), 0)]))
    return line[index[1:]]

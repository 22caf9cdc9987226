"""Label maps: prediction by motion and the coding of changes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.errors import BitstreamError
from common.semantics import LabelMap, carry, decode_labels, default_tables, encode_labels
from common.types import LABEL_CLASSES

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))


@st.composite
def map_pairs(draw: st.DrawFn) -> tuple[LabelMap, LabelMap]:
    """Two maps of one size, with few or many classes."""
    shape, top = draw(shapes), draw(st.sampled_from([1, 3, LABEL_CLASSES - 1]))
    labels = hnp.arrays(np.uint8, shape, elements=st.integers(0, top))
    return draw(labels), draw(labels)


def blob(row: int, col: int) -> LabelMap:
    labels = np.zeros((16, 16), np.uint8)
    labels[row : row + 6, col : col + 4] = 15
    return labels


@given(st.lists(map_pairs(), min_size=1, max_size=4))
def test_maps_come_back_and_both_ends_adapt_alike(pairs: list[tuple[LabelMap, LabelMap]]) -> None:
    encoder_tables = decoder_tables = default_tables()
    for labels, predicted in pairs:
        data, encoder_tables = encode_labels(labels, predicted, encoder_tables)
        decoded, decoder_tables = decode_labels(data, predicted, decoder_tables)
        assert decoded.dtype == np.uint8
        assert np.array_equal(decoded, labels)
        assert decoder_tables == encoder_tables


@given(st.binary(max_size=100), map_pairs())
def test_any_bytes_are_a_legal_map_or_an_error(data: bytes, pair: tuple[LabelMap, LabelMap]) -> None:
    try:
        labels, _ = decode_labels(data, pair[0], default_tables())
    except BitstreamError:
        return
    assert labels.shape == pair[0].shape
    assert labels.max() < LABEL_CLASSES


def test_a_good_prediction_saves_bytes() -> None:
    tables = default_tables()
    known = encode_labels(blob(4, 5), blob(4, 5), tables)[0]
    near = encode_labels(blob(4, 5), blob(4, 4), tables)[0]
    unknown = encode_labels(blob(4, 5), np.zeros((16, 16), np.uint8), tables)[0]
    assert len(known) < len(near) < len(unknown) <= 32


def test_a_useless_prediction_costs_little() -> None:
    """The map can be described on its own: nonsense as prediction must not cost more than a few bytes."""
    noise = np.random.default_rng(3).integers(0, LABEL_CLASSES, (16, 16), dtype=np.uint8)
    blank = np.zeros((16, 16), np.uint8)
    alone = len(encode_labels(blob(2, 2), blank, default_tables())[0])
    assert len(encode_labels(blob(2, 2), noise, default_tables())[0]) <= alone + 16


@given(map_pairs())
def test_without_motion_the_map_stays(pair: tuple[LabelMap, LabelMap]) -> None:
    field = np.random.default_rng(1).integers(-99, 99, (*pair[0].shape, 2)).astype(np.int16)
    assert np.array_equal(carry(pair[0], field, field), pair[0])


def test_the_map_moves_with_the_blocks() -> None:
    """Blocks that now look two cells further right in the anchor show what was two cells further right."""
    still = np.zeros((16, 16, 2), np.int16)
    moved = still.copy()
    moved[..., 1] = 2 * 64
    assert np.array_equal(carry(blob(4, 7), still, moved), blob(4, 5))
    moved[..., 1] = 31  # less than half a cell
    assert np.array_equal(carry(blob(4, 7), still, moved), blob(4, 7))


@given(map_pairs(), st.integers(0, 2**32 - 1))
def test_carried_maps_invent_no_class(pair: tuple[LabelMap, LabelMap], seed: int) -> None:
    generator = np.random.default_rng(seed)
    fields = [generator.integers(-2047, 2048, (*pair[0].shape, 2)).astype(np.int16) for _ in range(2)]
    assert set(np.unique(carry(pair[0], *fields))) <= set(np.unique(pair[0]))

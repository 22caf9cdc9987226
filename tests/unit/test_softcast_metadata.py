"""The analog layer's metadata: they come back exactly, and hostile ones are survived."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BitstreamError
from common.softcast import decode_group, encode_group
from common.softcast_layout import Shape, chunk_shape
from common.softcast_metadata import (
    CORNERS,
    Metadata,
    levels_of_octaves,
    pack_metadata,
    parse_metadata,
    remainder_octave,
)
from common.softcast_numbers import MAX_LEVEL, _fold, _unfold, corner_shape, told
from common.types import Picture
from common.wire import varint

SYMBOLS = 50


def noise_pictures() -> list[Picture]:
    generator = np.random.default_rng(1)
    return [
        Picture(*(generator.integers(0, 256, (side, side)).astype(np.uint8) for side in (16, 8, 8)))
        for _ in range(2)
    ]


def random_metadata(shape: Shape, corner: int, seed: int) -> Metadata:
    """Numbers over their whole range, most of them small."""
    generator = np.random.default_rng(seed)
    step_log2, floor = int(generator.integers(0, 16)), int(generator.integers(-9, 48))
    reach = generator.choice([1, 20, 32_000])
    means = tuple(
        generator.integers(-reach, reach, corner_shape(plane, corner)).astype(np.int32)
        * (generator.random(corner_shape(plane, corner)) < 0.3)
        for plane in shape.planes
    )
    known = levels_of_octaves(np.array(remainder_octave(step_log2)), floor)
    levels = tuple(
        np.where(told(mean, plane), known, generator.integers(0, 64, chunk_shape(plane)))
        for mean, plane in zip(means, shape.planes, strict=True)
    )
    scale = int(generator.integers(-8000, 4000))
    lost = (0, int(generator.integers(0, 256)), 255)
    return Metadata(shape, 1000, corner, step_log2, means, floor, levels, scale, lost)


@settings(max_examples=30)
@given(
    st.builds(
        Shape,
        st.integers(1, 8),
        st.integers(1, 30).map(lambda n: 2 * n),
        st.integers(1, 30).map(lambda n: 2 * n),
    ),
    st.sampled_from(CORNERS),
    st.integers(0, 2**32 - 1),
)
def test_metadata_come_back(shape: Shape, corner: int, seed: int) -> None:
    sent = random_metadata(shape, corner, seed)
    read = parse_metadata(pack_metadata(sent))
    for name in ("shape", "symbols", "corner", "step_log2", "floor", "scale", "lost"):
        assert getattr(read, name) == getattr(sent, name)
    for name in ("means", "levels"):
        for a, b in zip(getattr(read, name), getattr(sent, name), strict=True):
            assert np.array_equal(a, b)


def test_every_level_folds_and_unfolds_within_the_alphabet() -> None:
    levels, predicted = (numbers.astype(np.int32) for numbers in np.indices((MAX_LEVEL + 1, MAX_LEVEL + 1)))
    folded = _fold(levels, predicted)
    assert folded.min() == 0
    assert folded.max() == MAX_LEVEL
    assert np.array_equal(_unfold(folded, predicted), levels)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_damaged_metadata_are_refused(position: int, change: int) -> None:
    sent = encode_group(noise_pictures(), SYMBOLS)
    data = bytearray(sent.metadata)
    data[position % len(data)] ^= change
    with pytest.raises(BitstreamError):
        decode_group(sent.symbols, np.ones(SYMBOLS), bytes(data))


@settings(max_examples=80)
@given(st.binary(max_size=60), st.integers(0, 40))
def test_forged_metadata_decode_or_are_refused(noise: bytes, keep: int) -> None:
    honest = encode_group(noise_pictures(), SYMBOLS).metadata[:-4]
    forged = honest[:keep] + noise
    forged += zlib.crc32(forged).to_bytes(4, "big")
    try:
        received = decode_group(
            np.ones(SYMBOLS, np.complex64), np.resize([0.1, 0.2, np.inf], SYMBOLS), forged
        )
    except BitstreamError:
        return
    assert all(np.isfinite(plane).all() for plane in received.variance)


@pytest.mark.parametrize("cut", [0, 3, 4, 10, -1])
def test_cut_metadata_are_refused(cut: int) -> None:
    sent = encode_group(noise_pictures(), SYMBOLS)
    with pytest.raises(BitstreamError):
        decode_group(sent.symbols, np.ones(SYMBOLS), sent.metadata[:cut])


def test_metadata_cannot_ask_for_more_memory_than_a_large_group_takes() -> None:
    forged = bytes([7]) + varint(2048) + varint(2048) + varint(SYMBOLS) + bytes(40)
    forged += zlib.crc32(forged).to_bytes(4, "big")
    with pytest.raises(BitstreamError, match="at most 4194304 samples"):
        decode_group(np.ones(SYMBOLS, np.complex64), np.ones(SYMBOLS), forged)

"""Block motion: the warp against a slow one written from its definition, the search, and the coding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.entropy import RangeReader, RangeWriter
from common.errors import BitstreamError
from common.motion import (
    MAX_MV,
    TAPS,
    Field,
    apply_update,
    decode_update,
    default_tables,
    encode_update,
    refine,
    warp,
    warp_plane,
    zero_field,
)
from common.types import Picture, Plane

seeds = st.integers(0, 2**32 - 1)


def random_plane(seed: int, height: int, width: int) -> Plane:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def random_field(seed: int, rows: int, cols: int, reach: int) -> Field:
    return np.random.default_rng(seed).integers(-reach, reach + 1, (rows, cols, 2)).astype(np.int16)


def smooth_plane(height: int, width: int, dy: float = 0.0, dx: float = 0.0) -> Plane:
    """Texture without aliasing, sampled at (y + dy, x + dx)."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    y, x = y + dy, x + dx
    waves = (
        np.sin(0.31 * y + 0.12 * x) + np.sin(0.11 * y - 0.37 * x + 1) + np.sin(0.23 * y + 0.29 * x + 2)
    ) / 3
    return np.round(128 + 100 * waves).astype(np.uint8)


def slow_sample(plane: Plane, y8: int, x8: int) -> int:
    """One sample at (y8, x8) eighths of a sample, as common/motion.py defines it."""
    height, width = plane.shape

    def at(y: int, x: int) -> int:
        return int(plane[min(max(y, 0), height - 1), min(max(x, 0), width - 1)])

    y, x, down, across = y8 >> 3, x8 >> 3, TAPS[y8 & 7], TAPS[x8 & 7]
    rows = [(sum(at(y + j - 1, x + i - 1) * int(across[i]) for i in range(4)) + 32) >> 6 for j in range(4)]
    return min(255, max(0, (sum(r * int(t) for r, t in zip(rows, down, strict=True)) + 32) >> 6))


@settings(max_examples=10)
@given(seeds, st.sampled_from([(16, 16), (8, 8), (4, 4), (2, 2)]), st.sampled_from([6, 60, MAX_MV]))
def test_the_warp_is_its_definition(seed: int, kind: tuple[int, int], reach: int) -> None:
    block, eighths = kind
    plane, field = random_plane(seed, 2 * block, 3 * block), random_field(seed, 2, 3, reach)
    moved = warp_plane(plane, field, eighths)
    vectors = (field.astype(int) * eighths + 4) >> 3
    for y, x in np.ndindex(plane.shape):
        dy, dx = vectors[y // block, x // block]
        assert moved[y, x] == slow_sample(plane, 8 * y + int(dy), 8 * x + int(dx))


def test_no_motion_changes_nothing() -> None:
    picture = Picture(random_plane(1, 64, 96), random_plane(2, 32, 48), random_plane(3, 32, 48))
    moved = warp(picture, zero_field(64, 96))
    assert all(np.array_equal(a, b) for a, b in zip(moved.planes, picture.planes, strict=True))


@given(seeds, st.integers(-8, 8), st.integers(-8, 8))
def test_whole_pixels_are_moved_exactly(seed: int, dy: int, dx: int) -> None:
    """8 quarter pixels are two luma and one chroma sample; beyond the border the edge repeats."""
    picture = Picture(
        random_plane(seed, 64, 64), random_plane(seed + 1, 32, 32), random_plane(seed + 2, 32, 32)
    )
    field = np.empty((4, 4, 2), np.int16)
    field[:] = 8 * dy, 8 * dx
    for plane, moved, step in zip(picture.planes, warp(picture, field).planes, (2, 1, 1), strict=True):
        y, x = np.mgrid[: plane.shape[0], : plane.shape[1]]
        edge = plane.shape[0] - 1
        assert np.array_equal(moved, plane[np.clip(y + step * dy, 0, edge), np.clip(x + step * dx, 0, edge)])


def test_the_interpolation_filters_keep_flat_areas() -> None:
    assert (TAPS.sum(axis=1) == 64).all()
    for level in (0, 1, 128, 254, 255):
        plane = np.full((32, 32), level, np.uint8)
        assert np.array_equal(warp_plane(plane, random_field(level, 2, 2, 40), 16), plane)


# --- the search ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "dy", "dx"), [(2, 1.5, -2.0), (2, -0.75, 0.5), (4, 4.0, 3.0), (1, 1.0, 1.25)]
)
def test_the_search_finds_a_shift(scale: int, dy: float, dx: float) -> None:
    """The current picture shows at p what the reference shows at p + (dy, dx) luma pixels of the coded picture."""
    side = 128 // scale
    reference, current = smooth_plane(side, side), smooth_plane(side, side, dy / scale, dx / scale)
    field = zero_field(128, 128)
    for turn in range(6):
        field = refine(reference, current, field, scale, turn)
    inner = field[1:-1, 1:-1].astype(int)
    assert np.abs(np.median(inner[..., 0]) - 4 * dy) <= 1
    assert np.abs(np.median(inner[..., 1]) - 4 * dx) <= 1


@settings(max_examples=20)
@given(seeds, st.sampled_from([1, 2, 4]), st.integers(0, 300), st.sampled_from([0, 50, MAX_MV]))
def test_the_search_never_makes_a_block_worse(seed: int, scale: int, turn: int, reach: int) -> None:
    side = 128 // scale
    reference, current = random_plane(seed, side, side), random_plane(seed + 1, side, side)
    before = random_field(seed, 8, 8, reach)
    after = refine(reference, current, before, scale, turn)
    assert after.dtype == np.int16
    assert np.abs(after.astype(int)).max() <= MAX_MV
    assert np.array_equal(after, refine(reference, current, before, scale, turn))

    def error(field: Field) -> int:
        return int(np.abs(warp_plane(reference, field, 16 // scale).astype(int) - current).sum())

    # Costs are summed over 3x3 blocks, so single blocks may lose, by far less than the whole gains.
    assert error(after) <= 1.02 * error(before)


# --- the coding ----------------------------------------------------------------------------------


@given(seeds, st.integers(1, 11), st.integers(1, 11), st.floats(0, 1), st.sampled_from([2, 40, 2 * MAX_MV]))
def test_updates_come_back(seed: int, rows: int, cols: int, share: float, reach: int) -> None:
    generator = np.random.default_rng(seed)
    encoder_tables = decoder_tables = default_tables()
    for _ in range(3):
        mask = generator.random((rows, cols)) < share
        update = random_field(int(generator.integers(2**31)), rows, cols, reach)
        writer = RangeWriter()
        encoder_tables = encode_update(writer, update, mask, encoder_tables)
        decoded, decoder_tables = decode_update(RangeReader(writer.finish()), rows, cols, decoder_tables)
        assert np.array_equal(decoded, np.where(mask[..., None], update, 0))
        assert decoder_tables == encoder_tables


def test_an_empty_update_is_tiny() -> None:
    writer = RangeWriter()
    encode_update(writer, zero_field(512, 512), np.zeros((32, 32), bool), default_tables())
    assert len(writer.finish()) <= 8


@given(st.binary(max_size=200), st.integers(1, 16), st.integers(1, 16))
def test_any_bytes_are_an_update_or_an_error(data: bytes, rows: int, cols: int) -> None:
    try:
        update, _ = decode_update(RangeReader(data), rows, cols, default_tables())
    except BitstreamError:
        return
    assert update.shape == (rows, cols, 2)
    assert update.dtype == np.int16


@given(seeds)
def test_a_corrected_field_stays_legal(seed: int) -> None:
    field, update = random_field(seed, 4, 5, MAX_MV), random_field(seed + 1, 4, 5, 2 * MAX_MV)
    out = apply_update(field, update)
    assert np.array_equal(out, np.clip(field.astype(int) + update, -MAX_MV, MAX_MV))

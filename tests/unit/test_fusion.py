"""The base picture's integer arithmetic against slow versions written from their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.fusion import (
    blend,
    cell_features,
    downsample,
    downsample_plane,
    reliability,
    upsample,
    upsample_plane,
)
from common.tables import RELIABILITY, STEPS
from common.types import Picture, Plane

seeds = st.integers(0, 2**32 - 1)
scales = st.sampled_from([1, 2, 4, 8])


def random_plane(seed: int, height: int, width: int) -> Plane:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def random_picture(seed: int, side: int = 64) -> Picture:
    return Picture(
        random_plane(seed, side, side), random_plane(seed + 1, side // 2, side // 2),
        random_plane(seed + 2, side // 2, side // 2),
    )  # fmt: skip


def slow_double(line: list[int]) -> list[int]:
    """Bicubic at -1/4 and +1/4 of every sample, edges repeated."""
    out = []
    for place in range(len(line)):
        for taps, first in (((-2, 17, 56, -7), place - 2), ((-7, 56, 17, -2), place - 1)):
            near = [line[min(max(first + k, 0), len(line) - 1)] for k in range(4)]
            out.append((sum(t * s for t, s in zip(taps, near, strict=True)) + 32) >> 6)
    return out


@settings(max_examples=20)
@given(seeds, st.sampled_from([(4, 6), (5, 3), (1, 1)]))
def test_doubling_is_its_definition(seed: int, shape: tuple[int, int]) -> None:
    plane = random_plane(seed, *shape)
    tall = np.array([slow_double([int(v) for v in column]) for column in plane.T]).T
    wide = np.array([slow_double([int(v) for v in row]) for row in tall])
    assert np.array_equal(upsample_plane(plane, 2), np.clip(wide, 0, 255))


@given(seeds, scales)
def test_downsampling_is_the_rounded_mean(seed: int, scale: int) -> None:
    plane = random_plane(seed, 32, 48)
    mean = plane.reshape(32 // scale, scale, 48 // scale, scale).astype(float).mean(axis=(1, 3))
    assert np.array_equal(downsample_plane(plane, scale), np.floor(mean + 0.5).astype(np.uint8))


@given(st.integers(0, 255), scales)
def test_flat_pictures_stay_flat(level: int, scale: int) -> None:
    flat = Picture(*(np.full(size, level, np.uint8) for size in ((32, 64), (16, 32), (16, 32))))
    for scaled in (upsample(flat, scale), downsample(flat, scale)):
        assert all((plane == level).all() for plane in scaled.planes)


@pytest.mark.parametrize(("scale", "error"), [(2, 1), (4, 1), (8, 2)])
def test_a_ramp_survives_down_and_up(scale: int, error: int) -> None:
    """The kernel's centre of mass is 5/16 instead of 1/4: each doubling is off by 1/16 of its step."""
    ramp = np.tile(np.arange(128, dtype=np.uint8) + 60, (64, 1))
    again = upsample_plane(downsample_plane(ramp, scale), scale)
    inside = slice(2 * scale, -2 * scale)
    assert np.abs(again.astype(int) - ramp)[:, inside].max() <= error


@given(seeds)
def test_the_blend_ends_at_its_two_pictures(seed: int) -> None:
    over, under = random_picture(seed), random_picture(seed + 9)
    for weight, expected in ((0, under), (64, over)):
        base = blend(over, under, np.full((8, 8), weight, np.int16))
        assert all(np.array_equal(a, b) for a, b in zip(base.planes, expected.planes, strict=True))


@given(seeds)
def test_the_blend_stays_between_its_two_pictures(seed: int) -> None:
    over, under = random_picture(seed), random_picture(seed + 9)
    weights = np.random.default_rng(seed).integers(0, 65, (8, 8)).astype(np.int16)
    for a, b, mixed in zip(over.planes, under.planes, blend(over, under, weights).planes, strict=True):
        assert ((np.minimum(a, b) <= mixed) & (mixed <= np.maximum(a, b))).all()


def test_the_weight_changes_smoothly() -> None:
    """A step of the cell weights becomes a ramp: no 8x8 block shows."""
    over, under = (
        Picture(*(np.full(s, v, np.uint8) for s in ((64, 64), (32, 32), (32, 32)))) for v in (228, 100)
    )
    weights = np.zeros((8, 8), np.int16)
    weights[:, 4:] = 64
    row = blend(over, under, weights).y[20].astype(int)
    assert row[0] == 100 and row[-1] == 228
    assert np.diff(row).min() >= 0 and np.diff(row).max() <= 20


@given(seeds, st.sampled_from([2, 4, 8]))
def test_features_are_means_in_sixteenths(seed: int, scale: int) -> None:
    warped, guide = random_plane(seed, 64, 64), random_plane(seed + 1, 64 // scale, 64 // scale)
    guide_up = upsample_plane(guide, scale)
    disagreement, difference = cell_features(warped, guide, guide_up, scale)
    exact = np.abs(warped.astype(int) - guide_up).reshape(8, 8, 8, 8).mean(axis=(1, 3)) * 16
    assert np.array_equal(difference, np.floor(exact))
    low = np.abs(downsample_plane(warped, scale).astype(int) - guide)
    cells = np.pad(low.reshape(8, 8 // scale, 8, 8 // scale).mean(axis=(1, 3)), 1, "edge")
    around = sum(cells[y : y + 8, x : x + 8] for y in range(3) for x in range(3)) * 16 / 9
    assert np.abs(disagreement - around).max() <= 1.001


@given(seeds, st.sampled_from([2, 4, 8]))
def test_reliability_is_a_legal_weight(seed: int, scale: int) -> None:
    guide = random_plane(seed, 64 // scale, 64 // scale)
    weights = reliability(random_plane(seed + 1, 64, 64), guide, upsample_plane(guide, scale), scale)
    assert weights.shape == (8, 8)
    assert 0 <= weights.min() <= weights.max() <= 64


def test_an_anchor_that_fits_is_trusted_and_one_that_does_not_is_not() -> None:
    # Stripes that 2x2 means remove: the anchor knows them, the guide does not.
    detail = np.tile(np.array([90, 160], np.uint8), (64, 32))
    guide = downsample_plane(detail, 2)
    guide_up = upsample_plane(guide, 2)
    moved = detail.copy()
    moved[:, 32:] = 250
    weights = reliability(moved, guide, guide_up, 2)
    assert weights[:, :3].min() >= 55
    assert weights[:, 5:].max() <= 8


def test_the_tables_are_legal() -> None:
    assert (np.diff(STEPS) > 0).all()
    assert RELIABILITY.shape == (16, 16)
    assert RELIABILITY.min() >= 0 and RELIABILITY.max() <= 64

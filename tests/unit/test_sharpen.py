"""Edge-directed sharpening: integers, bounds, and never a loss where the sender chooses the strength."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.fusion import upsample_plane
from common.sharpen import (
    ACTIVITIES,
    CLASSES,
    CLIP,
    DIRECTIONS,
    MAX_STRENGTH,
    REACH,
    best_strength,
    differences,
    edge_classes,
    edge_detail,
    sharpened,
)
from common.tables import SHARPEN
from common.types import Plane


def planes(side: int = 16) -> st.SearchStrategy[Plane]:
    return arrays(np.uint8, (side, side))


def reference_classes(guide: Plane) -> Plane:
    """`edge_classes` in plain integers."""
    wide = np.pad(guide, 1, "edge").astype(np.int64)
    across, down = wide[1:-1, 2:] - wide[1:-1, :-2], wide[2:, 1:-1] - wide[:-2, 1:-1]

    def box(values: np.ndarray) -> np.ndarray:
        padded = np.pad(values, 1, "edge")
        height, width = values.shape
        return sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))

    xx, yy, xy = box(across * across), box(down * down), box(across * down)
    energy, cosine, sine = xx + yy, xx - yy, 2 * xy
    a, b = np.abs(cosine), np.abs(sine)
    sector = 4 * (cosine > 0) + 2 * (sine > 0) + (a > b)
    directed = np.maximum(a, b) * 8 + np.minimum(a, b) * 3 > 4 * energy
    activity = np.searchsorted(ACTIVITIES, energy, side="right")
    return activity * DIRECTIONS + np.where(directed, sector, DIRECTIONS - 1)


@given(planes())
def test_classes_are_exact(guide: Plane) -> None:
    assert np.array_equal(edge_classes(guide), reference_classes(guide))
    assert edge_classes(guide).max() < CLASSES


@pytest.mark.parametrize("scale", REACH)
def test_a_flat_picture_stays_as_it_is(scale: int) -> None:
    guide = np.full((8, 8), 77, np.uint8)
    wide = upsample_plane(guide, scale)
    assert not edge_detail(guide, wide, scale, 50).any()
    assert all(not bend.any() for bend in differences(wide, scale))


@given(planes(8), st.sampled_from(sorted(REACH)), st.integers(0, 63), st.integers(0, MAX_STRENGTH))
def test_nothing_overflows(guide: Plane, scale: int, quality: int, strength: int) -> None:
    wide = upsample_plane(guide, scale)
    detail = edge_detail(guide, wide, scale, quality)
    bound = int(np.abs(SHARPEN.astype(int)).max()) * CLIP * SHARPEN.shape[-1]
    assert bound * MAX_STRENGTH + 64 < 1 << 15
    exact = wide.astype(int) + ((detail.astype(int) * strength + 64) >> 7)
    assert np.array_equal(sharpened(wide, detail, strength), np.clip(exact, 0, 255))


def test_the_best_strength_is_found_again() -> None:
    rng = np.random.default_rng(0)
    guide = rng.integers(60, 190, (32, 32), np.uint8)
    wide = upsample_plane(guide, 2)
    detail = edge_detail(guide, wide, 2, 50)
    for strength in range(MAX_STRENGTH + 1):
        found = best_strength(sharpened(wide, detail, strength), wide, detail)
        assert round(found) == strength

"""Overlays mark the right place, leave the rest alone and never touch the frame they were given."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import UsageError
from common.state import Composition
from common.types import Frame, Picture
from receiver.overlay import OVERLAYS, overlaid
from receiver.pipeline import Shown

WIDTH, HEIGHT = 70, 50
"""Smaller than the coded 80x64."""


def grey(width: int, height: int, luma: int = 100) -> Picture:
    half = (height // 2, width // 2)
    return Picture(
        np.full((height, width), luma, np.uint8), np.full(half, 128, np.uint8), np.full(half, 128, np.uint8)
    )


def shown(
    picture: Picture,
    base: Picture | None = None,
    uncertainty: NDArray[np.uint8] | None = None,
    level: str = "bridge2",
) -> Shown:
    blocks = np.zeros((4, 5), np.uint8)
    scene = (
        None if base is None else Composition(base, None, base, np.zeros((8, 10), np.uint8), blocks, blocks)
    )
    frame = Frame(picture, 7, Fraction(1, 25), 7)
    return Shown(frame, level, scene is None, scene, uncertainty, 0.01, False)


def same(a: Picture, b: Picture) -> bool:
    return all(np.array_equal(p, q) for p, q in zip(a.planes, b.planes, strict=True))


@pytest.mark.parametrize("overlay", ["none", "uncertainty", "generated"])
def test_nothing_to_tell_leaves_the_picture_as_it_is(overlay: str) -> None:
    picture = grey(WIDTH, HEIGHT)
    assert same(overlaid(shown(picture), overlay).picture, picture)


def test_uncertainty_tints_where_it_is_high() -> None:
    uncertainty = np.zeros((8, 10), np.uint8)
    uncertainty[2:4, 4:6] = 255  # rows 16..31, columns 32..47
    picture = grey(WIDTH, HEIGHT)
    marked = overlaid(shown(picture, uncertainty=uncertainty), "uncertainty").picture
    assert marked.u[12, 20] < 100 and marked.v[12, 20] > 200
    assert marked.v[0, 0] == marked.v[-1, -1] == 128
    assert np.array_equal(marked.y, picture.y)


def test_more_uncertainty_is_a_stronger_tint() -> None:
    tints = [
        int(
            overlaid(
                shown(grey(64, 64), uncertainty=np.full((8, 8), value, np.uint8)), "uncertainty"
            ).picture.v[9, 9]
        )
        for value in (0, 16, 32, 64)
    ]
    assert tints == sorted(tints) and len(set(tints)) == 4


def test_generated_marks_what_differs_from_the_base_picture_and_ignores_what_nobody_sees() -> None:
    base, picture = grey(80, 64), grey(WIDTH, HEIGHT, 101)
    picture.y[20:40, 30:60] = 140
    marked = overlaid(shown(picture, base), "generated").picture
    assert marked.u[15, 22] < 90 and marked.v[15, 22] < 90
    assert marked.u[2, 2] == marked.v[2, 2] == 128
    assert np.array_equal(marked.y, picture.y)


@pytest.mark.parametrize("size", [(WIDTH, HEIGHT), (16, 16), (512, 288)])
def test_level_is_written_in_the_corner_of_any_size(size: tuple[int, int]) -> None:
    picture = grey(*size)
    one, four = (overlaid(shown(picture, level=level), "level").picture for level in ("bridge1", "bridge4"))
    assert one.y.shape == picture.y.shape and one.u.shape == picture.u.shape
    assert (one.y[:10, :10] < 100).any()
    assert size[0] == 16 or not same(one, four)
    assert size[0] == 16 or one.y[-1, -1] == 100


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_time_stays_and_the_input_is_not_touched(overlay: str) -> None:
    picture = grey(WIDTH, HEIGHT)
    given = shown(picture, grey(80, 64, 180), np.full((8, 10), 99, np.uint8))
    out = overlaid(given, overlay)
    assert (out.pts, out.slot, out.time_base) == (7, 7, Fraction(1, 25))
    assert same(picture, grey(WIDTH, HEIGHT))


def test_an_unknown_overlay_is_refused() -> None:
    with pytest.raises(UsageError, match="heat"):
        overlaid(shown(grey(16, 16)), "heat")

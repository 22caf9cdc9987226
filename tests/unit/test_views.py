"""Random views of training clips: inside the clip, square, and of the clip's own samples."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.types import Picture
from training.views import SIDES, ClipView, draw_view, seen


@given(st.integers(32, 500), st.integers(32, 500), st.integers(0, 2**32 - 1))
def test_windows_lie_in_the_clip(half_height: int, half_width: int, seed: int) -> None:
    height, width = 2 * half_height, 2 * half_width
    view = draw_view(height, width, np.random.default_rng(seed))
    assert view.side in SIDES
    assert (
        view.top >= 0
        and view.top + view.height <= height
        and view.left >= 0
        and view.left + view.width <= width
    )
    assert all(number % 2 == 0 for number in (view.top, view.left, view.height, view.width))
    assert view.height > 0 and view.width > 0


def _picture(side: int) -> Picture:
    rng = np.random.default_rng(0)
    y, u, v = (rng.integers(60, 180, (side // k, side // k)).astype(np.uint8) for k in (1, 2, 2))
    return Picture(y, u, v)


def test_a_plain_view_of_the_right_size_is_the_picture_itself() -> None:
    picture = _picture(64)
    shown = seen(ClipView(64, 0, 0, 64, 64), picture)
    assert all(np.array_equal(a, b) for a, b in zip(shown.planes, picture.planes, strict=True))


def test_flips_turns_and_swapped_chroma() -> None:
    picture = _picture(64)
    view = ClipView(64, 0, 0, 64, 64, mirrored=True, upended=True, turned=True, swapped=True)
    shown = seen(view, picture)
    assert np.array_equal(shown.y, picture.y[::-1, ::-1].T)
    assert np.array_equal(shown.u, picture.v[::-1, ::-1].T)


def test_gain_is_about_mid_grey_and_stays_in_range() -> None:
    picture = _picture(64)
    assert np.array_equal(seen(ClipView(64, 0, 0, 64, 64, gain=-1.0), picture).y, 256 - picture.y.astype(int))
    assert seen(ClipView(64, 0, 0, 64, 64, gain=9.0), picture).y.max() == 255

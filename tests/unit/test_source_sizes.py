"""Pictures of a source at the coded size, and their times."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SourceError
from sender.sources import _Timeline, auto_size, fit
from tests.videos import planes, read, same, write_video


def test_size_is_the_whole_picture_scaled(tmp_path: Path) -> None:
    y, u, v = planes(64, 48)
    y[:, :32], y[:, 32:] = 40, 200
    path = str(write_video(tmp_path / "a.mkv", [(y, u, v)]))
    source, frames = read(path, (32, 64))
    assert (source.width, source.height) == (32, 64)
    assert (frames[0].picture.y[:, :15] == 40).all() and (frames[0].picture.y[:, 17:] == 200).all()
    assert frames[0].picture.u.shape == (32, 16)


def test_odd_sources_lose_a_row_and_odd_sizes_are_padded(tmp_path: Path) -> None:
    y, u, v = planes(33, 19)
    path = str(write_video(tmp_path / "odd.mkv", [(y, u, v)]))
    source, frames = read(path)
    assert (source.width, source.height) == (32, 18)
    assert same(frames[0].picture, (y[:18, :32], u[:9, :16], v[:9, :16]))
    source, frames = read(path, (33, 19))
    picture = frames[0].picture
    assert (source.width, source.height, picture.width, picture.height) == (33, 19, 34, 20)
    assert np.array_equal(picture.y[:19, :33], y) and np.array_equal(picture.u, u)
    assert np.array_equal(picture.y[:, 33], picture.y[:, 32])


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_auto_size_is_even_in_range_and_keeps_the_aspect(width: int, height: int) -> None:
    try:
        out = auto_size(width, height, "x")
    except SourceError:
        scale = min(1.0, 512 / min(width, height))
        assert min(width, height) < 16 or max(width, height) * scale > 4096
        return
    assert all(side % 2 == 0 and 16 <= side <= 4096 for side in out)
    assert min(out) <= 512
    assert abs(out[0] / out[1] - width / height) <= 0.09 * width / height


@given(st.integers(8, 40), st.integers(8, 40), st.integers(8, 40), st.integers(8, 40))
def test_fit_always_gives_the_size_padded_to_even(w0: int, h0: int, width: int, height: int) -> None:
    picture = fit(planes(w0, h0), width, height)
    assert picture.y.shape == (height + height % 2, width + width % 2)
    assert picture.u.shape == picture.v.shape == (picture.height // 2, picture.width // 2)


@given(st.lists(st.none() | st.integers(-(2**40), 2**40), max_size=30), st.integers(1, 5000))
def test_times_always_start_at_zero_and_increase(stamps: list[int | None], step: int) -> None:
    timeline = _Timeline(step)
    placed = [pts for pts in map(timeline.place, stamps) if pts is not None]
    assert placed[:1] in ([], [0])
    assert all(a < b for a, b in pairwise(placed))
    repeats = sum(a is not None and a == b for a, b in pairwise(stamps))
    assert len(placed) >= len(stamps) - repeats - stamps.count(None)

"""Sources of a live sender: loops, stills, patterns and screens, numbered by time."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SourceError, UsageError
from sender.sources import VideoSource, _Slots, open_source
from tests.videos import planes, read, write_video


def some(source: VideoSource, count: int) -> list[Any]:
    """The first frames of a source that may have no end."""
    return list(islice(source, count))


def test_a_looping_variable_rate_keeps_each_frame_near_its_number(tmp_path: Path) -> None:
    """Ten pictures within 1.2 s: some close together, then a long rest. Nominal are 8.33 a second."""
    stamps = [0, 40, 80, 120, 160, 200, 600, 640, 900, 1080]
    path = write_video(
        tmp_path / "v.mkv", [planes(32, 32, s) for s in range(10)], pts=stamps, rate=Fraction(10)
    )
    with open_source(str(path), loop=True) as source:
        told = some(source, 60)
    assert max(abs(frame.time_s * source.frame_rate - frame.slot) for frame in told) > 2, "numbers say little"
    with open_source(str(path), loop=True, live=True) as source:
        frames = some(source, 30)
    assert source.frame_count is None and source.dropped > 0
    slots = [frame.slot for frame in frames]
    assert slots[0] == 0 and all(a < b for a, b in pairwise(slots))
    assert [frame.pts for frame in frames] == [
        round(slot / source.frame_rate / source.time_base) for slot in slots
    ]
    for frame in frames:
        same_picture = [other.time_s for other in told if np.array_equal(other.picture.y, frame.picture.y)]
        assert min(abs(frame.time_s - time_s) for time_s in same_picture) < 1 / source.frame_rate


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(5, 100))
def test_numbers_by_time_increase_and_stay_near(steps: list[int], frame_ticks: int) -> None:
    slots, pts, last = _Slots(Fraction(frame_ticks), by_time=True), 0, -1
    for step in steps:
        placed = slots.place(pts)
        if placed is None:
            assert pts / frame_ticks <= last
        else:
            assert placed[0] > last and placed[1] == placed[0] * frame_ticks
            assert abs(placed[0] - pts / frame_ticks) < 1
            last = placed[0]
        pts += step


def test_a_constant_rate_is_the_same_live(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.mkv", [planes(32, 32, s) for s in range(5)]))
    with open_source(path, loop=True, live=True) as source:
        frames = some(source, 12)
        assert [(f.slot, f.time_s) for f in frames] == [(k, pytest.approx(0.04 * k)) for k in range(12)]
        assert not source.real_time and source.dropped == 0


def test_a_single_picture_becomes_a_still_video(tmp_path: Path) -> None:
    path = tmp_path / "still.jpg"
    cv2.imwrite(str(path), np.full((48, 64, 3), 90, np.uint8))
    with open_source(str(path), loop=True, live=True) as source:
        frames = some(source, 30)
        assert source.frame_rate == 25 and source.frame_count is None
        path.unlink()  # it is read once
        assert [frame.time_s for frame in frames] == pytest.approx([k / 25 for k in range(30)])
        assert all(frame.picture is frames[0].picture for frame in frames)
    cv2.imwrite(str(path), np.full((48, 64, 3), 90, np.uint8))
    assert len(read(str(path), seconds=0.2, loop=True)[1]) == 5
    assert len(read(str(path))[1]) == 1


def test_a_folder_loops(tmp_path: Path) -> None:
    for index, level in enumerate((60, 180)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((32, 40, 3), level, np.uint8))
    with open_source(str(tmp_path), loop=True, live=True, folder_fps=Fraction(10)) as source:
        frames = some(source, 5)
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    bright = [bool(frame.picture.y[5, 5] > 100) for frame in frames]
    assert bright == [False, True, False, True, False]


def test_a_loop_that_has_nothing_left_ends(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [planes(32, 32, s) for s in range(3)])
    with open_source(str(path), loop=True) as source:
        path.write_bytes(b"")
        with pytest.raises(SourceError):
            some(source, 10)


@pytest.mark.parametrize("spec", ["-", "raw:16x16@25"])
def test_a_pipe_cannot_be_repeated(spec: str) -> None:
    with pytest.raises(UsageError, match="cannot be repeated"):
        open_source(spec, loop=True, stdin=io.BytesIO())


def test_the_test_pattern_moves_without_end_at_any_size() -> None:
    with open_source("test-pattern", live=True) as source:
        assert (source.width, source.height, source.frame_rate, source.frame_count) == (640, 360, 25, None)
        first = some(source, 30)
    assert [frame.slot for frame in first] == list(range(30))
    clock = [frame.picture.y[4:36, 4:100] for frame in first]
    assert all(not np.array_equal(a, b) for a, b in pairwise(clock)), "the counter counts"
    with open_source("test-pattern", (127, 65)) as source:
        (frame,) = some(source, 1)
    assert frame.picture.y.shape == (66, 128)
    _, frames = read("test-pattern", (64, 64), 0.2)
    assert len(frames) == 5


def test_a_screen_needs_a_display() -> None:
    with pytest.raises(SourceError, match="DISPLAY is not set"):
        open_source("screen", environment={})
    for spec, environment in (("screen", {"DISPLAY": ":987"}), ("screen::987", {}), ("screen:987", {})):
        with pytest.raises(SourceError, match="no X11 display :987") as caught:
            open_source(spec, environment=environment)
        assert "\n" not in str(caught.value)


def test_a_screen_is_read() -> None:
    """On a display of our own, where the X server for that is installed."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("needs Xvfb (the package xvfb)")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(writing), "-screen", "0", "641x481x24", "-nolisten", "tcp"],
        pass_fds=[writing], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writing)
    try:
        with os.fdopen(reading) as told:
            display = told.readline().strip()
        with open_source(f"screen:{display}", live=True) as source:
            frames = some(source, 3)
            assert (source.width, source.height, source.frame_count) == (640, 480, None)
            assert source.real_time and source.frame_rate == 25
        assert [frame.slot for frame in frames] == sorted({frame.slot for frame in frames})
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("testpattern", "test-pattern"),
        ("Test-Pattern", "test-pattern"),
        ("screeen", "screen"),
        ("scren::1", "screen"),
        ("camra:0", "camera:0"),
        ("camera0", "camera:0"),
    ],
)
def test_what_is_nearly_a_word_gets_a_hint(spec: str, meant: str) -> None:
    with pytest.raises(SourceError, match=f"did you mean {meant}[?]"):
        open_source(spec)

"""Everything a user can name as a source, and everything that can be wrong with it."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterable
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SourceError, UsageError
from common.types import Colour, Picture
from sender.sources import VideoSource, _Slots, _Timeline, auto_size, fit, open_source

REPOSITORY = Path(__file__).resolve().parents[2]
CORPUS = REPOSITORY.parent / "shared/corpus/dev"


def planes(width: int, height: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    chroma = ((height + 1) // 2, (width + 1) // 2)
    y = rng.integers(16, 236, (height, width), np.uint8)
    return y, rng.integers(60, 190, chroma, np.uint8), rng.integers(60, 190, chroma, np.uint8)


def av_frame(samples: Iterable[np.ndarray], pixel_format: str = "yuv420p") -> av.VideoFrame:
    samples = list(samples)
    frame = av.VideoFrame(samples[0].shape[1], samples[0].shape[0], pixel_format)
    for plane, values in zip(frame.planes, samples, strict=True):
        row = np.frombuffer(plane, values.dtype).reshape(values.shape[0], -1)
        row[:, : values.shape[1]] = values
    return frame


def write_video(
    path: Path,
    pictures: Iterable[Any],
    *,
    pts: list[int] | None = None,
    time_base: Fraction = Fraction(1, 1000),
    rate: Fraction = Fraction(25),
    matrix: int = 2,
    sample_range: int = 0,
    pixel_format: str = "yuv420p",
    turn_deg: int = 0,
) -> Path:
    """A lossless FFV1 file of planes or ready frames (Matroska or MOV-like by suffix)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate)
        if turn_deg:
            stream.set_display_rotation(turn_deg)
        for index, picture in enumerate(pictures):
            frame = picture if isinstance(picture, av.VideoFrame) else av_frame(picture, pixel_format)
            if index == 0:
                context = stream.codec_context
                context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
                context.time_base = time_base
                context.colorspace, context.color_range = matrix, sample_range
            frame.colorspace, frame.color_range = matrix, sample_range
            frame.time_base = time_base
            frame.pts = pts[index] if pts else round(index / rate / time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def same(picture: Picture, samples: Iterable[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(picture.planes, samples, strict=True))


def read(spec: str | None, *args: Any, **options: Any) -> tuple[VideoSource, list[Any]]:
    with open_source(spec, *args, **options) as source:
        return source, list(source)


# --- files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matrix", "sample_range", "colour"),
    [
        (1, 1, Colour("bt709")),
        (6, 1, Colour("bt601")),
        (5, 2, Colour("bt601", True)),
        (2, 0, Colour("bt601")),
    ],
)
def test_420_passes_untouched_with_its_colour(
    tmp_path: Path, matrix: int, sample_range: int, colour: Colour
) -> None:
    wanted = [planes(64, 48, seed) for seed in range(3)]
    path = write_video(tmp_path / "a.mkv", wanted, matrix=matrix, sample_range=sample_range)
    source, frames = read(str(path))
    assert source.colour == colour and all(frame.colour == colour for frame in frames)
    assert all(same(frame.picture, samples) for frame, samples in zip(frames, wanted, strict=True))
    assert [frame.slot for frame in frames] == [0, 1, 2]
    assert source.frame_rate == 25


def test_unmarked_hd_is_bt709(tmp_path: Path) -> None:
    path = write_video(tmp_path / "hd.mkv", [planes(720, 1280)])
    source, frames = read(str(path))
    assert source.colour == Colour("bt709")
    assert (frames[0].picture.width, frames[0].picture.height) == (512, 910)


def test_variable_frame_rate_keeps_its_times_and_drops_repeats(tmp_path: Path) -> None:
    stamps = [500, 533, 600, 600, 613, 900]
    path = write_video(tmp_path / "v.mkv", [planes(32, 32, s) for s in range(6)], pts=stamps)
    source, frames = read(str(path))
    assert [frame.pts * frame.time_base * 1000 for frame in frames] == [0, 33, 100, 113, 400]
    assert [frame.slot for frame in frames] == [0, 1, 2, 3, 4]
    assert source.dropped == 1


def test_seconds_and_loop(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.mkv", [planes(32, 32, s) for s in range(5)]))
    source, frames = read(path, seconds=0.12)
    assert len(frames) == 3 and source.frame_count == 3
    source, frames = read(path, seconds=0.5, loop=True)
    assert [frame.time_s for frame in frames] == pytest.approx([0.04 * k for k in range(13)])
    assert [frame.slot for frame in frames] == list(range(13))
    assert same(frames[7].picture, frames[2].picture.planes)


def test_a_source_can_be_read_twice(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.mkv", [planes(32, 32, s) for s in range(3)]))
    with open_source(path) as source:
        first, second = list(source), list(source)
    assert len(first) == len(second) == 3
    assert same(first[2].picture, second[2].picture.planes)


def test_one_frame_and_one_image(tmp_path: Path) -> None:
    _, frames = read(str(write_video(tmp_path / "one.mkv", [planes(48, 32)])))
    assert len(frames) == 1 and frames[0].pts == 0
    cv2.imwrite(str(tmp_path / "one%03d.png"), np.full((40, 60, 3), (0, 0, 255), np.uint8))
    _, frames = read(str(tmp_path / "one%03d.png"))
    assert len(frames) == 1
    assert [int(plane[4, 4]) for plane in frames[0].picture.planes] == pytest.approx([81, 90, 240], abs=1)


def test_other_pixel_formats_are_converted_once(tmp_path: Path) -> None:
    y, u, v = planes(32, 32)
    full_chroma = [np.repeat(np.repeat(plane, 2, 0), 2, 1) for plane in (u, v)]
    _, frames = read(
        str(write_video(tmp_path / "444.mkv", [(y, *full_chroma)], pixel_format="yuv444p", matrix=1))
    )
    assert np.array_equal(frames[0].picture.y, y)
    ten_bit = [plane.astype(np.uint16) * 4 for plane in (y, u, v)]
    source, frames = read(
        str(write_video(tmp_path / "10.mkv", [ten_bit], pixel_format="yuv420p10le", matrix=1, sample_range=2))
    )
    assert source.colour == Colour("bt709", True)
    assert np.abs(frames[0].picture.y.astype(int) - y).max() <= 1
    grey = np.full((32, 32), 90, np.uint8)
    red = av.VideoFrame.from_ndarray(np.full((32, 32, 3), (255, 0, 0), np.uint8), "rgb24").reformat(
        format="bgr0"
    )
    _, frames = read(str(write_video(tmp_path / "rgb.mkv", [red], matrix=0)))
    assert [int(plane[3, 3]) for plane in frames[0].picture.planes] == pytest.approx([81, 90, 240], abs=1)
    _, frames = read(str(write_video(tmp_path / "grey.mkv", [(grey,)], pixel_format="gray", sample_range=2)))
    assert abs(int(frames[0].picture.y[0, 0]) - 90) <= 1 and int(frames[0].picture.u[0, 0]) == 128


@pytest.mark.parametrize("turn_deg", [90, 180, -90])
def test_rotation_is_honoured(tmp_path: Path, turn_deg: int) -> None:
    samples = planes(64, 32)
    path = write_video(tmp_path / "r.mkv", [samples], turn_deg=turn_deg)
    source, frames = read(str(path))
    assert (source.width, source.height) == ((64, 32) if turn_deg == 180 else (32, 64))
    assert same(frames[0].picture, [np.rot90(plane, turn_deg // 90) for plane in samples])


def test_pixels_that_are_not_square_are_made_square(tmp_path: Path) -> None:
    y4m = b"YUV4MPEG2 W64 H48 F25:1 Ip A4:3 C420jpeg\nFRAME\n" + b"".join(map(bytes, planes(64, 48)))
    path = tmp_path / "sar.y4m"
    path.write_bytes(y4m)
    source, frames = read(str(path))
    assert (source.width, source.height, frames[0].picture.width) == (86, 48, 86)


def test_a_damaged_middle_is_skipped_and_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "d.mkv", [planes(64, 64, s) for s in range(8)])
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) * 2 // 3])
    _, frames = read(str(path))
    assert 1 <= len(frames) < 8


# --- sizes --------------------------------------------------------------------------------------------------


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


# --- folders, pipes, camera, clip ---------------------------------------------------------------------------


def test_folder_in_name_order_at_the_given_rate(tmp_path: Path) -> None:
    for name, level, size in (("b.png", 180, (40, 32)), ("a.PNG", 60, (40, 32)), ("c.jpg", 120, (80, 64))):
        cv2.imwrite(str(tmp_path / name), np.full((size[1], size[0], 3), level, np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    source, frames = read(str(tmp_path), folder_fps=Fraction(10))
    assert source.frame_count == 3 and source.frame_rate == 10
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.1, 0.2])
    levels = [int(frame.picture.y[5, 5]) for frame in frames]
    assert levels == pytest.approx([16 + 219 * level / 255 for level in (60, 180, 120)], abs=1.5)
    assert all((frame.picture.width, frame.picture.height) == (40, 32) for frame in frames)


def test_raw_pipe_in_pieces_with_a_cut_last_picture() -> None:
    wanted = [planes(18, 17, seed) for seed in range(3)]
    data = b"".join(plane.tobytes() for samples in wanted for plane in samples)

    class Dribble(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 100))

    source, frames = read("raw:18x17@30000/1001", (18, 17), stdin=Dribble(data + b"left over"))
    assert len(frames) == 3 and source.damaged == 1
    assert source.frame_rate == Fraction(30000, 1001)
    assert np.array_equal(frames[2].picture.y[:17], wanted[2][0])
    with pytest.raises(SourceError, match="before one whole picture"):
        read("raw:18x17@30", (18, 17), stdin=io.BytesIO(b"abc"))


def test_container_on_standard_input(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", [planes(32, 32, s) for s in range(3)])
    code = "from sender.sources import open_source\nprint(len(list(open_source('-'))))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        input=path.read_bytes(),
        capture_output=True,
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=60,
        check=True,
    )
    assert result.stdout.split() == [b"3"]


def test_nothing_named_is_the_built_in_clip() -> None:
    source, frames = read(None, (128, 128), 0.2)
    assert len(frames) == source.frame_count == 5
    assert source.cut_slots == ()
    assert frames[4].picture.y.shape == (128, 128)
    with open_source(None) as source:
        assert (source.width, source.height, source.frame_count) == (512, 512, 200)
        assert source.cut_slots == (80, 140)


# --- live use -----------------------------------------------------------------------------------------------


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


# --- bad input ----------------------------------------------------------------------------------------------


def bad_sources(folder: Path) -> dict[str, str]:
    """What the user names -> what the message must say."""
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("this is not a video\n" * 40)
    (folder / "text.txt").write_text("this is not a video\n" * 40)
    (folder / "noise.mkv").write_bytes(np.random.default_rng(3).bytes(20000))
    (folder / "bare").mkdir()
    (folder / "bare" / "notes.txt").write_text("no images here")
    (folder / "broken").mkdir()
    (folder / "broken" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    write_video(folder / "tiny.mkv", [planes(8, 8)])
    write_video(folder / "strip.mkv", [planes(4097, 17)])
    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    return {
        "empty.mp4": "empty",
        "text.mp4": "cannot be read as video",
        "text.txt": "no video|cannot be read",
        "noise.mkv": "cannot be read as video|not one picture",
        "missing.mp4": "cannot be opened",
        "bare": "no images",
        "broken": "cannot be read|not one picture",
        "sound.wav": "no video",
        "tiny.mkv": "8x8.*--size",
        "strip.mkv": "4097x17.*--size",
        "bad\0name": "cannot be opened",
    }


def test_bad_sources_get_one_clear_line(tmp_path: Path) -> None:
    for name, message in bad_sources(tmp_path).items():
        with pytest.raises(SourceError, match=message) as caught:
            read(str(tmp_path / name))
        assert "\n" not in str(caught.value), name
        assert str(caught.value).startswith(str(tmp_path)), name


def test_tiny_sources_can_be_scaled_up(tmp_path: Path) -> None:
    _, frames = read(str(write_video(tmp_path / "dot.mkv", [planes(1, 1)])), (16, 16))
    assert (frames[0].picture.y == frames[0].picture.y[0, 0]).all()


@pytest.mark.parametrize(
    "spec",
    [
        "camera:x",
        "camera:",
        "raw:16x16",
        "raw:axb@25",
        "raw:16x16@0",
        "raw:32x32@1/0",
        "screen:x y",
        "screen::a",
    ],
)
def test_malformed_specs_are_usage_errors(spec: str) -> None:
    with pytest.raises(UsageError, match="not understood"):
        open_source(spec)


def test_impossible_requests_are_usage_errors() -> None:
    for size in ((1, 1), (4097, 17), (0, 0), (16, -16)):
        with pytest.raises(UsageError, match="not possible"):
            open_source(None, size)
    for seconds in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="not possible"):
            open_source(None, seconds=seconds)
    with pytest.raises(UsageError, match="not possible"):
        open_source(None, folder_fps=Fraction(0))


def test_no_camera_is_said_plainly() -> None:
    with pytest.raises(SourceError, match="there is no camera 987"):
        open_source("camera:987")


def test_corpus_clip_has_its_real_times() -> None:
    path = CORPUS / "d05_juggle.mp4"
    if not path.exists():
        pytest.skip("the development corpus is not beside this repository")
    source, frames = read(str(path), (256, 256), 0.5)
    assert source.frame_rate == Fraction(24000, 1001) and source.colour == Colour("bt709")
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(1001 * k, 24000) for k in range(12)]

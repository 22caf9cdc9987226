"""Everything a user can name as a source: files, folders, pipes, the built-in clip."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from common.errors import SourceError
from common.types import Colour
from sender.sources import open_source
from tests.videos import planes, read, same, write_video

REPOSITORY = Path(__file__).resolve().parents[2]
CORPUS = REPOSITORY.parent / "shared/corpus/dev"

# --- files --------------------------------------------------------------------------------------------------------


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


# --- folders, pipes, camera, clip ---------------------------------------------------------------------------------


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


# --- bad input ----------------------------------------------------------------------------------------------------


def test_corpus_clip_has_its_real_times() -> None:
    path = CORPUS / "d05_juggle.mp4"
    if not path.exists():
        pytest.skip("the development corpus is not beside this repository")
    source, frames = read(str(path), (256, 256), 0.5)
    assert source.frame_rate == Fraction(24000, 1001) and source.colour == Colour("bt709")
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(1001 * k, 24000) for k in range(12)]

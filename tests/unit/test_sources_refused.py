"""Everything that can be wrong with a source is said in one clear line."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from common.errors import SourceError, UsageError
from sender.sources import open_source
from tests.videos import planes, read, write_video


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

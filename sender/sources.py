"""Opens whatever the user names and delivers frames: one size, one colour, times from 0 that increase.

nothing         the built-in clip (sender/clip.py)
PATH            any file PyAV reads, variable frame rate and single pictures included
FOLDER          its images in the order of their names
camera:N        /dev/videoN
-               a container stream (Y4M, Matroska, MPEG-TS, ...) on standard input
raw:WxH@FPS     headerless planar 4:2:0 on standard input
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal

from common.colour import pad_plane, resize_plane
from common.config import MAX_SIDE_PX, MIN_SIDE_PX, check_size, parse_size
from common.errors import SourceError, UsageError
from common.types import Frame, Picture
from sender.clip import BuiltinClip
from sender.planes import Planes
from sender.readers import AvReader, ClipReader, FolderReader, RawReader, Reader

Size = tuple[int, int]
"""Width and height in pixels."""

AUTO_SHORT_SIDE = 512
"""`auto` never sends a shorter side above this, pixels."""


def auto_size(width: int, height: int, name: str) -> Size:
    """Even size of the same aspect, shorter side at most 512; SourceError if it is out of range."""
    scale = min(1.0, AUTO_SHORT_SIDE / min(width, height))
    scaled = (width * scale, height * scale)
    if not all(MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in scaled):
        raise SourceError(
            f"{name}: its picture is {width}x{height}; {MIN_SIDE_PX}x{MIN_SIDE_PX} to {MAX_SIDE_PX}x{MAX_SIDE_PX}"
            " can be sent, choose one with --size"
        )
    # An odd row or column is cut off rather than resampled; a picture that is scaled anyway gets the nearest.
    rounded = math.floor if scale == 1.0 else round
    return 2 * rounded(scaled[0] / 2), 2 * rounded(scaled[1] / 2)


def fit(planes: Planes, width: int, height: int) -> Picture:
    """The whole picture at `width` x `height`; an odd side is padded to even by repeating the edge.

    A surplus of one row or column is cut off, so that samples which need no scaling stay as they are.
    """
    old_height, old_width = planes[0].shape
    chroma = ((width + 1) // 2, (height + 1) // 2)
    sizes = ((width, height), chroma, chroma)
    if old_width - width in (0, 1) and old_height - height in (0, 1):
        y, u, v = (plane[: size[1], : size[0]] for plane, size in zip(planes, sizes, strict=True))
    else:
        y, u, v = (resize_plane(plane, *size) for plane, size in zip(planes, sizes, strict=True))
    return Picture(pad_plane(y, 2 * chroma[0], 2 * chroma[1]), u, v)


class _Timeline:
    """Makes time stamps start at 0 and strictly increase, whatever the container says.

    A repeated stamp is a repeated picture and is dropped; a stamp that jumps back (a new loop, joined
    streams) goes on one nominal frame after the last.
    """

    def __init__(self, frame_ticks: int) -> None:
        self._frame_ticks = frame_ticks
        self._raw: int | None = None
        self._pts = -frame_ticks
        self.dropped = 0

    def place(self, raw: int | None) -> int | None:
        """The stamp to use for a picture stamped `raw`, None if the picture is a duplicate."""
        step = self._frame_ticks
        if raw is not None and self._raw is not None:
            if raw == self._raw:
                self.dropped += 1
                return None
            if raw > self._raw:
                step = raw - self._raw
        self._raw = raw
        self._pts += step
        return self._pts

    def restart(self) -> None:
        """The reader begins again: its first stamp follows the last one by one frame."""
        self._raw = None


class VideoSource:
    """Frames of one reader at one size (a `common.ports.FrameSource`).

    width, height : display size; may be odd when asked for, pictures are then padded to even
    frame_rate : nominal; time_base : unit of `Frame.pts`, seconds
    frame_count : expected number of frames, None if unknown or endless
    cut_slots : true cuts where known (the built-in clip), else None
    """

    def __init__(
        self,
        reader: Reader,
        size: Size | Literal["auto"] = "auto",
        seconds: float | None = None,
        loop: bool = False,
    ) -> None:
        info = reader.info
        self.name = info.name
        self.frame_rate = info.frame_rate
        self.time_base = info.time_base
        self.colour = info.colour
        self.cut_slots = info.cut_slots
        self.width, self.height = auto_size(info.width, info.height, info.name) if size == "auto" else size
        self._reader = reader
        self._seconds = math.inf if seconds is None else seconds
        self._loop = loop
        self.frame_count = self._expected_count(info.frame_count)
        self.dropped = 0

    @property
    def damaged(self) -> int:
        """Packets or pictures that could not be decoded so far."""
        return self._reader.damaged

    def __iter__(self) -> Iterator[Frame]:
        timeline = _Timeline(max(1, round(1 / (self.frame_rate * self.time_base))))
        slot = 0
        while True:
            for sample in self._reader.samples():
                pts = timeline.place(sample.pts)
                self.dropped = timeline.dropped
                if pts is None:
                    continue
                if pts * self.time_base >= self._seconds:
                    return
                yield Frame(
                    fit(sample.planes, self.width, self.height), pts, self.time_base, slot, self.colour
                )
                slot += 1
            if not self._loop:
                return
            timeline.restart()

    def close(self) -> None:
        """Release the file or device."""
        self._reader.close()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _expected_count(self, stated: int | None) -> int | None:
        """At the nominal rate; a variable rate makes it an estimate."""
        if math.isinf(self._seconds):
            return None if self._loop else stated
        wanted = math.ceil(self._seconds * self.frame_rate)
        return wanted if stated is None or self._loop else min(stated, wanted)


def open_source(
    spec: str | None,
    size: Size | Literal["auto"] = "auto",
    seconds: float | None = None,
    *,
    loop: bool = False,
    folder_fps: Fraction = Fraction(25),
    stdin: BinaryIO | None = None,
    seed: int = 0,
) -> VideoSource:
    """Open a source; see the top of this file for `spec`.

    size : the whole picture is scaled to exactly this, or "auto" (see `auto_size`)
    seconds : stop at this time, None for the whole source (8 s of the built-in clip)
    loop : start again at the end, for live use
    folder_fps : frames per second of an image folder
    stdin : binary stream to use as standard input
    seed : of the built-in clip

    Raises UsageError for a request that makes no sense and SourceError for a source that cannot be read.
    """
    if size != "auto":
        check_size(*size)
    if seconds is not None and not 0 < seconds < math.inf:
        raise UsageError(f"a duration of {seconds} s is not possible; give a positive number of seconds")
    if folder_fps <= 0:
        raise UsageError(f"{folder_fps} frames per second is not possible; give a positive rate")
    if spec is None:
        return VideoSource(ClipReader(BuiltinClip(seconds or 8.0, seed)), size, seconds, loop)
    reader = _open_reader(spec, folder_fps, stdin)
    try:
        return VideoSource(reader, size, seconds, loop)
    except SourceError:
        reader.close()
        raise


def _open_reader(spec: str, folder_fps: Fraction, stdin: BinaryIO | None) -> Reader:
    if spec == "-":
        return AvReader(stdin or sys.stdin.buffer, "standard input")
    if spec.startswith("raw:"):
        return _raw_reader(spec, stdin or sys.stdin.buffer)
    if spec.startswith("camera:"):
        return _camera_reader(spec)
    return _path_reader(Path(spec), folder_fps)


def _raw_reader(spec: str, stdin: BinaryIO) -> RawReader:
    match = re.fullmatch(r"raw:(\d{1,6}x\d{1,6})@(\d{1,6}(?:\.\d{1,6}|/\d{1,6})?)", spec)
    size = parse_size(match[1]) if match else "auto"
    if match is None or size == "auto" or re.fullmatch(r"[0.]+(/\d+)?|\d+/0+", match[2]):
        raise UsageError(
            f"{spec!r} is not understood; write raw:WIDTHxHEIGHT@FPS, for example raw:640x360@30"
        )
    return RawReader(stdin, *size, Fraction(match[2]))


def _camera_reader(spec: str) -> AvReader:
    number = spec.removeprefix("camera:")
    if not re.fullmatch(r"\d{1,3}", number):
        raise UsageError(f"{spec!r} is not understood; write camera:0 for the first camera")
    device = Path(f"/dev/video{int(number)}")
    if not device.exists():
        raise SourceError(
            f"there is no camera {int(number)} ({device} does not exist); plug one in or name a file"
        )
    return AvReader(str(device), spec, container_format="v4l2")


def _path_reader(path: Path, folder_fps: Fraction) -> Reader:
    try:
        if path.is_dir():
            return FolderReader(path, folder_fps)
        if path.is_file() and path.stat().st_size == 0:
            raise SourceError(f"{path}: the file is empty")
        with path.open("rb"):
            pass
    except SourceError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"{path}: cannot be opened ({reason})") from error
    return AvReader(f"file:{path}", str(path))

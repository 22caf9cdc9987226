"""Opens whatever the user names and delivers frames: one size, one colour, times from 0 that increase.

nothing         the built-in clip (sender/clip.py)
PATH            any file PyAV reads, variable frame rate and single pictures included
FOLDER          its images in the order of their names
camera:N        /dev/videoN
screen          what an X11 display shows; screen:DISPLAY for another than $DISPLAY
test-pattern    a moving picture with a clock and a frame counter, without end
-               a container stream (Y4M, Matroska, MPEG-TS, ...) on standard input
raw:WxH@FPS     headerless planar 4:2:0 on standard input

A file of the same name as one of these words is ./NAME.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
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
PATTERN_SIZE = (640, 360)
"""Of the test pattern, where none is asked for."""
WORDS = {"camera": "camera:0", "screen": "screen", "test-pattern": "test-pattern", "raw": "raw:640x360@30"}
"""What is not the name of a file, with an example of each."""
_SCREEN_RATE = 25


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

    def place(self, raw: int | None) -> int | None:
        """The stamp to use for a picture stamped `raw`, None if the picture is a duplicate."""
        step = self._frame_ticks
        if raw is not None and self._raw is not None:
            if raw == self._raw:
                return None
            if raw > self._raw:
                step = raw - self._raw
        self._raw = raw
        self._pts += step
        return self._pts

    def restart(self) -> None:
        """The reader begins again: its first stamp follows the last one by one frame."""
        self._raw = None


class _Slots:
    """Numbers frames: one after another, or, for live use, by their time.

    A live receiver knows a frame's time by its number alone. Where the source's rate is not constant numbers are left
    out, so that none is a frame or more away from its time, and pictures that come faster than that are dropped.
    """

    def __init__(self, frame_ticks: Fraction, by_time: bool) -> None:
        self._frame_ticks, self._by_time = frame_ticks, by_time
        self._next = 0

    def place(self, pts: int) -> tuple[int, int] | None:
        """Number and time stamp of the picture at `pts`, None to drop it.

        By time, the stamp is the number's own, which no byte has to tell.
        """
        slot, stamp = self._next, pts
        if self._by_time:
            due = pts / self._frame_ticks
            if due <= slot - 1:
                return None
            slot = round(due) if due >= slot + 1 else slot
            stamp = round(slot * self._frame_ticks)
        self._next = slot + 1
        return slot, stamp


class VideoSource:
    """Frames of one reader at one size (a `common.ports.FrameSource`).

    width, height : display size; may be odd when asked for, pictures are then padded to even
    frame_rate : nominal; time_base : unit of `Frame.pts`, seconds
    frame_count : expected number of frames, None if unknown or endless
    cut_slots : true cuts where known (the built-in clip), else None
    real_time : it delivers each picture when it happens, as a camera does
    dropped : repeated pictures, and with `live` those that came faster than the nominal rate
    """

    def __init__(
        self,
        reader: Reader,
        size: Size | Literal["auto"] = "auto",
        seconds: float | None = None,
        loop: bool = False,
        live: bool = False,
    ) -> None:
        info = reader.info
        self.real_time = info.real_time
        self.name = info.name
        self.frame_rate = info.frame_rate
        self.time_base = info.time_base
        self.colour = info.colour
        self.cut_slots = info.cut_slots
        self.width, self.height = auto_size(info.width, info.height, info.name) if size == "auto" else size
        self._reader = reader
        self._seconds = math.inf if seconds is None else seconds
        self._loop, self._live = loop, live
        self.frame_count = self._expected_count(info.frame_count)
        self.dropped = 0

    @property
    def damaged(self) -> int:
        """Packets or pictures that could not be decoded so far."""
        return self._reader.damaged

    def __iter__(self) -> Iterator[Frame]:
        frame_ticks = 1 / (self.frame_rate * self.time_base)
        timeline, slots = _Timeline(max(1, round(frame_ticks))), _Slots(frame_ticks, self._live)
        self.dropped = 0
        for picture, raw in self._pictures(timeline):
            pts = timeline.place(raw)
            if pts is not None and float(pts * self.time_base) >= self._seconds:
                return
            placed = None if pts is None else slots.place(pts)
            if placed is None:
                self.dropped += 1
            else:
                slot, stamp = placed
                yield Frame(picture, stamp, self.time_base, slot, self.colour)

    def _pictures(self, timeline: _Timeline) -> Iterator[tuple[Picture, int | None]]:
        """Pictures and the stamps they came with, round after round where the source loops."""
        rounds, count = 0, 0
        while rounds == 0 or (self._loop and count > 1):
            rounds, count = rounds + 1, 0
            timeline.restart()
            for sample in self._reader.samples():
                picture, count = fit(sample.planes, self.width, self.height), count + 1
                yield picture, sample.pts
        while self._loop and count == 1:  # a still needs no reading again
            timeline.restart()
            yield picture, None

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
    live: bool = False,
    folder_fps: Fraction = Fraction(25),
    stdin: BinaryIO | None = None,
    seed: int = 0,
    environment: Mapping[str, str] = os.environ,
) -> VideoSource:
    """Open a source; see the top of this file for `spec`.

    size : the whole picture is scaled to exactly this, or "auto" (see `auto_size`)
    seconds : stop at this time, None for the whole source (8 s of the built-in clip)
    loop : start again at the end, for live use; a single picture becomes a still video
    live : number frames by their time (see `_Slots`)
    folder_fps : frames per second of an image folder
    stdin : binary stream to use as standard input
    seed : of the built-in clip
    environment : says which display there is

    Raises UsageError for a request that makes no sense and SourceError for a source that cannot be read.
    """
    if size != "auto":
        check_size(*size)
    if seconds is not None and not 0 < seconds < math.inf:
        raise UsageError(f"a duration of {seconds} s is not possible; give a positive number of seconds")
    if folder_fps <= 0:
        raise UsageError(f"{folder_fps} frames per second is not possible; give a positive rate")
    if spec is None:
        return VideoSource(ClipReader(BuiltinClip(seconds or 8.0, seed)), size, seconds, loop, live)
    if loop and (spec == "-" or spec.startswith("raw:")):
        raise UsageError("standard input cannot be repeated; leave the loop out, or name a file")
    reader = _open_reader(spec, size, folder_fps, stdin, environment)
    try:
        return VideoSource(reader, size, seconds, loop, live)
    except SourceError:
        reader.close()
        raise


def is_path(spec: str) -> bool:
    """Whether a source is a file or folder, rather than one of the words at the top of this file."""
    return spec not in ("-", "screen", "test-pattern") and not spec.startswith(("raw:", "camera:", "screen:"))


def check_source(spec: str | None) -> None:
    """SourceError for a file that cannot be opened: at once, where the rest of a command takes seconds to load."""
    if spec is not None and is_path(spec):
        _check_path(Path(spec))


def _open_reader(
    spec: str,
    size: Size | Literal["auto"],
    folder_fps: Fraction,
    stdin: BinaryIO | None,
    environment: Mapping[str, str],
) -> Reader:
    if is_path(spec):
        return _path_reader(Path(spec), folder_fps)
    if spec == "-":
        return AvReader(stdin or sys.stdin.buffer, "standard input")
    if spec.startswith("raw:"):
        return _raw_reader(spec, stdin or sys.stdin.buffer)
    if spec.startswith("camera:"):
        return _camera_reader(spec)
    if spec == "test-pattern":
        return _pattern_reader(PATTERN_SIZE if size == "auto" else size)
    return _screen_reader(spec, environment)


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
    return AvReader(str(device), spec, container_format="v4l2", real_time=True)


def _screen_reader(spec: str, environment: Mapping[str, str]) -> AvReader:
    display = spec.removeprefix("screen").removeprefix(":") or environment.get("DISPLAY", "")
    if not display:
        raise SourceError(
            "there is no screen: DISPLAY is not set; start an X11 session, or name a display, screen::0 for example"
        )
    match = re.fullmatch(r"(?P<host>[\w./-]*:)?(?P<number>\d{1,5}(\.\d{1,3})?)", display)
    if match is None:
        raise UsageError(
            f"{spec!r} is not understood; write screen, or screen:DISPLAY, screen::0 for example"
        )
    target = f"{match['host'] or ':'}{match['number']}"
    try:
        return AvReader(target, spec, "x11grab", {"framerate": str(_SCREEN_RATE)}, real_time=True)
    except SourceError as error:
        raise SourceError(
            f"the screen cannot be read: no X11 display {target} lets this program in, or this PyAV lacks x11grab;"
            " name another display, screen::0 for example, or a file"
        ) from error


def _pattern_reader(size: Size) -> AvReader:
    pattern = f"testsrc2=size={size[0]}x{size[1]}:rate=25"
    return AvReader(pattern, "test-pattern", container_format="lavfi")


def _path_reader(path: Path, folder_fps: Fraction) -> Reader:
    _check_path(path)
    return FolderReader(path, folder_fps) if path.is_dir() else AvReader(f"file:{path}", str(path))


def _check_path(path: Path) -> None:
    try:
        if path.is_dir():
            return
        if path.is_file() and path.stat().st_size == 0:
            raise SourceError(f"{path}: the file is empty")
        with path.open("rb"):
            pass
    except SourceError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceError(f"{path}: cannot be opened ({reason}){_hint(str(path))}") from error


def _hint(spec: str) -> str:
    """What else may have been meant by something that is no file."""
    near = difflib.get_close_matches(spec.partition(":")[0].lower(), WORDS, n=1, cutoff=0.8)
    return f"; did you mean {WORDS[near[0]]}?" if near else ""

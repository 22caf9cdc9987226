"""Reads the clips of a training folder as 4:2:0 pictures of one size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from common.errors import SourceError
from common.types import Colour, Picture, Plane
from sender.planes import own_colour, quarter_turns

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".y4m")
_FALLBACK_RATE = Fraction(25)


@dataclass(frozen=True, slots=True, eq=False)
class ClipFrames:
    """Part of a clip. pictures : all of one size; frame_rate : of the clip, per second; colour : of the samples"""

    pictures: tuple[Picture, ...]
    frame_rate: Fraction
    colour: Colour = Colour()


def list_clips(folder: Path) -> list[Path]:
    """The video files of a folder in order of their names; raises SourceError when there are none."""
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise SourceError(f"{folder} holds no video files ({', '.join(SUFFIXES)}): name another folder")
    return found


def read_clip(path: Path, size: tuple[int, int] | None, max_frames: int, start: int = 0) -> ClipFrames:
    """Consecutive frames of a clip, upright.

    size : width and height, even, to stretch to; None keeps the clip's own (less an odd row or column)
    start : frames left out first; a shorter clip gives no pictures
    Raises SourceError when the file is missing, broken or holds no video.
    """
    return _read(path, size, start, 1, max_frames)


def sample_clip(path: Path, size: tuple[int, int] | None, count: int) -> ClipFrames:
    """Up to `count` frames spread evenly over a clip; otherwise as `read_clip`."""
    every = max(1, _length(path) // count)
    return _read(path, size, every // 2, every, count)


def _read(path: Path, size: tuple[int, int] | None, start: int, every: int, count: int) -> ClipFrames:
    with _opened(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or _FALLBACK_RATE
        chosen = islice(container.decode(stream), start, start + count * every, every)
        frames = list(_pictures(chosen, size))
    colour = frames[0][1] if frames else Colour()
    return ClipFrames(tuple(picture for picture, _ in frames), Fraction(rate), colour)


def _length(path: Path) -> int:
    """Number of frames that the container states, or what its duration gives, else 0."""
    with _opened(path) as (container, stream):
        if stream.frames:
            return int(stream.frames)
        seconds = (container.duration or 0) / av.time_base
        return int(seconds * float(stream.average_rate or _FALLBACK_RATE))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A clip and its video; what goes wrong inside the block is a SourceError too."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise SourceError(f"{path}: there is no video in this file; remove it from the folder")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            yield container, stream
    except SourceError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read as video ({error}); remove it from the folder") from error


def _pictures(
    frames: Iterator[av.VideoFrame], size: tuple[int, int] | None
) -> Iterator[tuple[Picture, Colour]]:
    for frame in frames:
        turns = quarter_turns(frame)
        width, height = _stored_size(frame, size, turns)
        method = Interpolation.AREA if width < frame.width else Interpolation.BICUBIC
        scaled = frame.reformat(width, height, "yuv420p", interpolation=method, threads=1)
        planes = (np.ascontiguousarray(np.rot90(_plane(scaled, k), turns)) for k in range(3))
        yield Picture(*planes), own_colour(frame)


def _stored_size(frame: av.VideoFrame, size: tuple[int, int] | None, turns: int) -> tuple[int, int]:
    """Width and height before the frame is turned upright."""
    if size is None:
        return frame.width & ~1, frame.height & ~1
    return (size[1], size[0]) if turns % 2 else size


def _plane(frame: av.VideoFrame, index: int) -> Plane:
    plane = frame.planes[index]
    padded = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
    return padded[: plane.height, : plane.width].copy()

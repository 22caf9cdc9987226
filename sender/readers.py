"""What can be read: container files and cameras, image folders, raw samples. One class each, one shape out.

A reader yields planes in the size and colour it found; `sender/sources.py` brings them to the size that is
sent and orders their time stamps.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np

from common.errors import SourceError
from common.types import Colour
from sender.clip import BuiltinClip
from sender.planes import Planes, default_colour, frame_to_planes, own_colour, quarter_turns

if TYPE_CHECKING:
    import av
    import av.container
    import av.video.stream

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

_TEXT_ART_FORMATS = frozenset({"tty", "bin", "adf", "idf", "xbin"})
"""libav demuxers that would paint any text file as a terminal screen."""

_FALLBACK_RATE = Fraction(25)
"""Nominal rate of a stream that states none (a still, some cameras)."""


@dataclass(frozen=True)
class SourceInfo:
    """What is known before the first picture is used.

    width, height : display size: after rotation, with square pixels; may be odd
    frame_rate : nominal frames per second
    time_base : unit of the time stamps, seconds
    frame_count : as the container states it, None if unknown
    cut_slots : true scene cuts, where somebody knows them
    real_time : pictures come when they happen
    """

    name: str
    width: int
    height: int
    frame_rate: Fraction
    time_base: Fraction
    colour: Colour
    frame_count: int | None = None
    cut_slots: tuple[int, ...] | None = None
    real_time: bool = False


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture as read; `pts` in the reader's time base, None if the container has none."""

    planes: Planes
    pts: int | None


class Reader(Protocol):
    """Reads pictures; `samples` starts from the first one again each time it is called."""

    info: SourceInfo
    damaged: int

    def samples(self) -> Iterator[Sample]: ...
    def close(self) -> None: ...


class AvReader:
    """A file, device or pipe that libav opens; `damaged` counts packets that could not be decoded.

    target : path with protocol, device, or a binary stream that is read once from where it stands
    name : how messages call it
    real_time : see `SourceInfo`

    Raises SourceError, in one line, when there is no video in it or not one picture can be decoded.
    """

    def __init__(
        self,
        target: str | BinaryIO,
        name: str,
        container_format: str | None = None,
        options: dict[str, str] | None = None,
        real_time: bool = False,
    ) -> None:
        self.damaged = 0
        self._real_time = real_time
        self._target = target
        self._name = name
        self._format = container_format
        self._options = options or {}
        self._container, self._stream = self._open()
        self._frames = self._decode()
        try:
            self._first: av.VideoFrame | None = next(self._frames, None)
            if self._first is None:
                raise SourceError(f"{name}: not one picture could be decoded; is it a video?")
            self.info = self._describe(self._first)
        except SourceError:
            self.close()
            raise

    def samples(self) -> Iterator[Sample]:
        """Pictures from the first on; a second call opens the source again (a pipe cannot: SourceError)."""
        if self._first is None:
            if not isinstance(self._target, str):
                raise SourceError(f"{self._name}: a pipe can be read only once")
            self.close()
            self._container, self._stream = self._open()
            self._frames = self._decode()
        else:
            first, self._first = self._first, None
            yield self._sample(first)
        for frame in self._frames:
            yield self._sample(frame)

    def close(self) -> None:
        """Release the file or device; safe to call again."""
        self._frames.close()
        self._container.close()

    def _sample(self, frame: av.VideoFrame) -> Sample:
        return Sample(frame_to_planes(frame, self.info.colour), frame.pts)

    def _open(self) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
        import av

        try:
            container = av.open(
                self._target, "r", format=self._format, options=self._options, metadata_errors="replace"
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"{self._name}: cannot be read as video ({_reason(error)})") from error
        if container.format.name in _TEXT_ART_FORMATS or not container.streams.video:
            container.close()
            raise SourceError(f"{self._name}: there is no video in this file")
        return container, container.streams.video[0]

    def _decode(self) -> Generator[av.VideoFrame, None, None]:
        import av

        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    self.damaged += 1
                    continue
                yield from frames
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{self._name}: reading stopped ({_reason(error)})") from error

    def _describe(self, frame: av.VideoFrame) -> SourceInfo:
        stream = self._stream
        aspect = stream.sample_aspect_ratio or Fraction(1)
        width, height = frame.width, frame.height
        if aspect != 1:
            width = max(2, 2 * round(width * aspect / 2))
        if quarter_turns(frame) % 2:
            width, height = height, width
        rate = stream.average_rate or stream.guessed_rate or _FALLBACK_RATE
        rate = Fraction(rate).limit_denominator(1001) or _FALLBACK_RATE
        return SourceInfo(
            name=self._name,
            width=width,
            height=height,
            frame_rate=rate,
            time_base=Fraction(stream.time_base or frame.time_base or 1 / rate),
            colour=own_colour(frame),
            frame_count=stream.frames or None,
            real_time=self._real_time,
        )


def _reason(error: BaseException) -> str:
    """The operating system's or libav's words, without path and number."""
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


class FolderReader:
    """The images of a folder in the order of their names, at a rate the caller states."""

    def __init__(self, folder: Path, frame_rate: Fraction) -> None:
        self.damaged = 0
        self._paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        if not self._paths:
            raise SourceError(
                f"{folder}: no images in this folder ({', '.join(IMAGE_SUFFIXES)}); videos are named one by one, or"
                " where many may be given as 'FOLDER/*.mp4'"
            )
        first = self._image(self._paths[0])
        self.info = replace(
            first.info,
            name=str(folder),
            frame_rate=frame_rate,
            time_base=1 / frame_rate,
            frame_count=len(self._paths),
        )

    def samples(self) -> Iterator[Sample]:
        """One picture per image, all in the colour of the first one."""
        for index, path in enumerate(self._paths):
            reader = self._image(path, self.info.colour)
            try:
                yield Sample(next(reader.samples()).planes, index)
            finally:
                reader.close()

    def close(self) -> None:
        """Nothing is held between images."""

    @staticmethod
    def _image(path: Path, colour: Colour | None = None) -> AvReader:
        reader = AvReader(f"file:{path}", str(path))
        if colour is None:
            reader.close()
        else:
            reader.info = replace(reader.info, colour=colour)
        return reader


class RawReader:
    """Planar 8-bit 4:2:0 without any header from a pipe; a last, incomplete picture counts as damaged."""

    def __init__(self, stream: BinaryIO, width: int, height: int, frame_rate: Fraction) -> None:
        self.damaged = 0
        self._stream = stream
        chroma = ((height + 1) // 2, (width + 1) // 2)
        self._shapes = ((height, width), chroma, chroma)
        colour = default_colour(width, height)
        self.info = SourceInfo("standard input", width, height, frame_rate, 1 / frame_rate, colour)

    def samples(self) -> Iterator[Sample]:
        """Pictures until the pipe ends; SourceError if it ends before the first."""
        sizes = [height * width for height, width in self._shapes]
        index = 0
        while len(data := self._read(sum(sizes))) == sum(sizes):
            parts = np.split(np.frombuffer(data, np.uint8), np.cumsum(sizes)[:-1])
            y, u, v = (part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True))
            yield Sample((y, u, v), index)
            index += 1
        self.damaged += bool(data)
        if index == 0:
            raise SourceError(f"{self.info.name}: ended before one whole picture of {sum(sizes)} bytes")

    def close(self) -> None:
        """The pipe belongs to the caller."""

    def _read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end (a pipe may deliver them in pieces)."""
        data = bytearray()
        while len(data) < size and (piece := self._stream.read(size - len(data))):
            data += piece
        return bytes(data)


class ClipReader:
    """The built-in clip in the shape of a reader."""

    def __init__(self, clip: BuiltinClip) -> None:
        self.damaged = 0
        self._clip = clip
        self.info = SourceInfo(
            clip.name,
            clip.width,
            clip.height,
            clip.frame_rate,
            clip.time_base,
            clip.colour,
            clip.frame_count,
            clip.cut_slots,
        )

    def samples(self) -> Iterator[Sample]:
        """The clip from its start."""
        for frame in self._clip:
            yield Sample(frame.picture.planes, frame.pts)

    def close(self) -> None:
        """Nothing is held."""

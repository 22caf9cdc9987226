"""Where pictures go: a lossless recording, a video for people, two pictures side by side, memory, nowhere.

Recordings are written as `NAME.partial.EXT` beside their final name and renamed when they are complete, so
a whole-looking file is whole. An interrupted recording stays under the partial name; both containers are
written such that it plays up to where it was cut.
"""

from __future__ import annotations

import contextlib
import errno
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import numpy as np

from common.colour import resize
from common.errors import CodecError, SinkError
from common.types import Colour, Frame, Picture, Plane

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

_MATRIX_CODES = {"bt709": (1, 1, 1), "bt601": (6, 6, 6)}
"""Matrix, primaries and transfer as numbered in ITU-T H.273 (BT.601: the 525-line numbers)."""
_LIMITED_RANGE, _FULL_RANGE = 1, 2
CAPTION_HEIGHT = 24
"""Of the strip above each picture of a pair, pixels."""


@dataclass(frozen=True)
class _Encoding:
    """How one kind of recording is written; `options` are libav's."""

    container: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)


class _Recording:
    """One video stream in one file. Raises SinkError, in one line, for whatever the system refuses."""

    def __init__(
        self, path: Path, encoding: _Encoding, frame_rate: Fraction, time_base: Fraction, colour: Colour
    ) -> None:
        import av

        self.path = path
        self.partial_path = path.with_name(f"{path.stem}.partial{path.suffix}")
        self._time_base = time_base
        self._colour = colour
        self._size: tuple[int, int] | None = None
        self._last_s: Fraction | None = None
        self._closed = False
        _check_writable(path, self.partial_path)
        self._container = av.open(
            str(self.partial_path),
            "w",
            format=encoding.container,
            container_options=encoding.container_options,
        )
        stream = self._container.add_stream(encoding.codec, frame_rate, dict(encoding.options))
        self._stream = cast("VideoStream", stream)

    def write(self, frame: Frame) -> None:
        """Encode one frame; frames come in time order and in one size and colour."""
        if self._closed:
            raise SinkError(f"{self.path}: the recording is already closed")
        size = (frame.picture.width, frame.picture.height)
        if self._size is None:
            self._start(size)
        if size != self._size or frame.colour != self._colour:
            raise SinkError(f"{self.path}: picture size or colour changed during the recording")
        time_s = frame.pts * frame.time_base
        if self._last_s is not None and time_s <= self._last_s:
            raise SinkError(f"{self.path}: frame at {float(time_s):.3f} s does not come after the last one")
        self._last_s = time_s
        self._mux(_to_av_frame(frame, *self._range_and_matrix()))

    def finish(self) -> None:
        """Complete the file and give it its name."""
        if self._closed:
            return
        if self._size is None:
            self.abandon()
            self.partial_path.unlink(missing_ok=True)
            raise SinkError(f"{self.path}: there was no picture to write, so no file was made")
        self._mux(None)
        self._close_file()
        try:
            self.partial_path.replace(self.path)
        except OSError as error:
            raise self._refused(error) from error

    def abandon(self) -> None:
        """Stop without renaming: what was written stays under the partial name."""
        if self._closed:
            return
        with contextlib.suppress(SinkError):  # the disk may be full by now; what is there stays
            if self._size is not None:
                self._mux(None)
            self._close_file()

    def _start(self, size: tuple[int, int]) -> None:
        context = self._stream.codec_context
        context.width, context.height = self._size = size
        context.pix_fmt = "yuv420p"
        context.time_base = self._time_base
        context.color_range, context.colorspace = self._range_and_matrix()
        _, context.color_primaries, context.color_trc = _MATRIX_CODES[self._colour.matrix]

    def _range_and_matrix(self) -> tuple[int, int]:
        sample_range = _FULL_RANGE if self._colour.full_range else _LIMITED_RANGE
        return sample_range, _MATRIX_CODES[self._colour.matrix][0]

    def _mux(self, frame: av.VideoFrame | None) -> None:
        import av

        try:
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            # Nothing may be written after a failed write: libav's MP4 writer crashes if it is asked to.
            with contextlib.suppress(SinkError):
                self._close_file()
            raise self._refused(error) from error

    def _close_file(self) -> None:
        import av

        self._closed = True
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            raise self._refused(error) from error

    def _refused(self, error: av.FFmpegError | OSError) -> SinkError:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        return SinkError(
            f"{self.path}: cannot be written ({reason}); the part so far is in {self.partial_path}"
        )


def _check_writable(path: Path, partial_path: Path) -> None:
    """Refuse at the start what would otherwise be refused at the first picture."""
    if path.is_dir():
        raise SinkError(f"{path}: is a folder; name a file")
    try:
        partial_path.open("wb").close()
    except OSError as error:
        raise SinkError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def _to_av_frame(frame: Frame, sample_range: int, matrix: int) -> av.VideoFrame:
    import av

    picture = frame.picture
    av_frame = av.VideoFrame(picture.width, picture.height, "yuv420p")
    for plane, samples in zip(av_frame.planes, picture.planes, strict=True):
        target = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
        target[: samples.shape[0], : samples.shape[1]] = samples
    av_frame.pts = frame.pts
    av_frame.time_base = frame.time_base
    av_frame.color_range, av_frame.colorspace = sample_range, matrix
    return av_frame


class _FileSink:
    """What all file sinks share: `show`, `close`, and use as a context manager.

    Leaving the `with` block by an exception keeps the partial file and notes on the exception where it is.
    """

    def __init__(self, recording: _Recording) -> None:
        self._recording = recording

    @property
    def partial_path(self) -> Path:
        """Where the recording is until `close`."""
        return self._recording.partial_path

    def show(self, frame: Frame) -> None:
        """Write one frame; raises SinkError."""
        self._recording.write(frame)

    def close(self) -> None:
        """Complete the file and rename it to its final name; raises SinkError. Safe to call again."""
        self._recording.finish()

    def abandon(self) -> None:
        """Give up: the part written so far stays at `partial_path`."""
        self._recording.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()
            error.add_note(f"what was recorded so far is in {self.partial_path}")


class Ffv1Sink(_FileSink):
    """Lossless FFV1 (RFC 9043) in Matroska (RFC 9559), 8-bit 4:2:0, every frame a key frame.

    Matroska counts time in milliseconds: a frame's time is exact where it is a whole number of them (25 or
    50 frames per second) and rounded to the nearest otherwise (33, 67, 100 ms for 30). The nominal rate is
    kept exactly beside it, and the frames are all there, one per frame shown.

    frame_rate : nominal; time_base : unit of the frames' pts, seconds; colour : written into the file
    Raises SinkError when the file cannot be written.
    """

    def __init__(self, path: Path, frame_rate: Fraction, time_base: Fraction, colour: Colour) -> None:
        options = {"level": "3", "slices": "4", "slicecrc": "1", "g": "1"}
        # Clusters of at most a second reach the disk early, so a cut recording loses little.
        encoding = _Encoding("matroska", "ffv1", options, {"cluster_time_limit": "1000"})
        super().__init__(_Recording(path, encoding, frame_rate, time_base, colour))


class Mp4Sink(_FileSink):
    """H.264 in MP4, for people to watch. Lossy; x264 comes inside PyAV's wheel and is GPL.

    codec : libav encoder name, to be chosen openly where libx264 is missing (`libopenh264`, `mpeg4`)
    Raises CodecError when PyAV lacks the encoder and SinkError when the file cannot be written.
    """

    def __init__(
        self, path: Path, frame_rate: Fraction, time_base: Fraction, colour: Colour, codec: str = "libx264"
    ) -> None:
        import av

        if codec not in av.codecs_available:
            raise CodecError(
                f"this PyAV has no {codec} encoder; install PyAV's own wheel or choose another codec"
            )
        options = {"preset": "veryfast", "crf": "18", "g": "48"} if codec == "libx264" else {"qscale": "2"}
        # Fragments of at most 48 frames while recording (playable when cut), one ordinary index at the end.
        encoding = _Encoding("mp4", codec, options, {"movflags": "hybrid_fragmented+frag_keyframe"})
        super().__init__(_Recording(path, encoding, frame_rate, time_base, colour))


class BackgroundSink:
    """Records on a thread of its own, so that encoding takes no time from painting; pictures stay in order.

    Errors of the recording come out of a later `show`, or of `close`.
    """

    _MAX_WAITING = 8
    """Pictures that may wait; a slower disk than that holds `show` up instead of filling the memory."""

    def __init__(self, sink: _FileSink) -> None:
        self._sink = sink
        self._worker = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def show(self, frame: Frame) -> None:
        """Hand one picture over."""
        while self._waiting and (self._waiting[0].done() or len(self._waiting) >= self._MAX_WAITING):
            self._waiting.popleft().result()
        self._waiting.append(self._worker.submit(self._sink.show, frame))

    def close(self) -> None:
        """Record what waits and complete the file."""
        self._worker.shutdown()
        while self._waiting:
            self._waiting.popleft().result()
        self._sink.close()

    def abandon(self) -> None:
        """Stop without completing the file."""
        self._worker.shutdown(cancel_futures=True)
        self._sink.abandon()


class SideBySideSink:
    """Two pictures beside each other under captions, into an `Mp4Sink`."""

    def __init__(self, sink: Mp4Sink) -> None:
        self._sink = sink

    def show_pair(
        self, left: Frame, right: Frame, left_caption: str = "source", right_caption: str = ""
    ) -> None:
        """Write one frame at the time of `left`; `right` is scaled to the size of `left` if it differs."""
        pair = side_by_side(left.picture, right.picture, left_caption, right_caption)
        self._sink.show(replace(left, picture=pair))

    def close(self) -> None:
        """Complete the file; raises SinkError."""
        self._sink.close()

    def abandon(self) -> None:
        """Give up: the part written so far stays under its partial name."""
        self._sink.abandon()


def side_by_side(left: Picture, right: Picture, left_caption: str, right_caption: str) -> Picture:
    """Two pictures beside each other under captions; `right` is scaled to the size of `left` if it differs."""
    size = (left.width, left.height)
    pictures = (left, right if (right.width, right.height) == size else resize(right, *size))
    halves = [
        _captioned(picture, caption, CAPTION_HEIGHT)
        for picture, caption in zip(pictures, (left_caption, right_caption), strict=True)
    ]
    y, u, v = (np.hstack(planes) for planes in zip(*(half.planes for half in halves), strict=True))
    return Picture(y, u, v)


def _captioned(picture: Picture, caption: str, height: int) -> Picture:
    """The picture under a dark strip of `height` rows (even) with white text, ASCII only."""
    import cv2

    strip: Plane = np.full((height, picture.width), 16, np.uint8)
    place, font = (6, height - 8), cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(strip, caption, place, font, 0.45, (235,), 1, cv2.LINE_AA)
    grey: Plane = np.full((height // 2, picture.width // 2), 128, np.uint8)
    y, u, v = picture.planes
    return Picture(np.vstack([strip, y]), np.vstack([grey, u]), np.vstack([grey, v]))


class MemorySink:
    """Keeps the frames, for tests and reports."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def show(self, frame: Frame) -> None:
        """Keep one frame."""
        self.frames.append(frame)

    def close(self) -> None:
        """The frames stay."""


class NullSink:
    """Counts the frames and forgets them."""

    def __init__(self) -> None:
        self.count = 0

    def show(self, frame: Frame) -> None:
        """Count one frame."""
        self.count += 1

    def close(self) -> None:
        """Nothing to do."""

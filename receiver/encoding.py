"""One video stream into one container, by libav: what recordings and live outputs have in common."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from common.errors import CodecError, SinkError
from common.types import Colour, Frame

if TYPE_CHECKING:
    import av
    from av.stream import Stream
    from av.video.stream import VideoStream

_MATRIX_CODES = {"bt709": (1, 1, 1), "bt601": (6, 6, 6)}
"""Matrix, primaries and transfer as numbered in ITU-T H.273 (BT.601: the 525-line numbers)."""
_LIMITED_RANGE, _FULL_RANGE = 1, 2


class ByteSink(Protocol):
    """What a container can be written to besides a path."""

    def write(self, data: bytes) -> int: ...


@dataclass(frozen=True)
class Encoding:
    """How a container is written; `options` are libav's.

    Raises CodecError when PyAV lacks the encoder.
    """

    container: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import av

        if self.codec not in av.codecs_available:
            raise CodecError(
                f"this PyAV has no {self.codec} encoder; install PyAV's own wheel or choose another codec"
            )


class VideoEncoder:
    """Frames in, a container out. Raises SinkError, in one line, for whatever the system refuses.

    target : path, URL or device that libav opens, or something to write the bytes to
    name : how messages call it; remark : what they end with; comment : goes into the container
    before_keys : bytes of the codec's own syntax that go before every key picture
    """

    def __init__(
        self,
        target: str | ByteSink,
        name: str,
        encoding: Encoding,
        frame_rate: Fraction,
        time_base: Fraction,
        colour: Colour,
        remark: str = "",
        comment: str = "",
        before_keys: bytes = b"",
    ) -> None:
        import av

        self.closed = False
        self._name, self._remark = name, remark
        self._before_keys = before_keys
        self._time_base, self._colour = time_base, colour
        self._size: tuple[int, int] | None = None
        self._last_s: Fraction | None = None
        try:
            self._container = av.open(
                target, "w", format=encoding.container, container_options=encoding.container_options
            )
        except (av.FFmpegError, OSError) as error:
            raise self._refused(error) from error
        if comment:
            self._container.metadata["comment"] = comment
        stream = self._container.add_stream(encoding.codec, frame_rate, dict(encoding.options))
        self._stream = cast("VideoStream", stream)

    @property
    def started(self) -> bool:
        """Whether there was a picture."""
        return self._size is not None

    def write(self, frame: Frame) -> None:
        """Encode one frame; frames come in time order and in one size and colour."""
        if self.closed:
            raise SinkError(f"{self._name}: is already closed")
        size = (frame.picture.width, frame.picture.height)
        if self._size is None:
            self._start(size)
        if size != self._size or frame.colour != self._colour:
            raise SinkError(f"{self._name}: picture size or colour changed on the way")
        time_s = frame.pts * frame.time_base
        if self._last_s is not None and time_s <= self._last_s:
            raise SinkError(f"{self._name}: frame at {float(time_s):.3f} s does not come after the last one")
        self._last_s = time_s
        self._mux(_to_av_frame(frame, *self._range_and_matrix()))

    def finish(self) -> None:
        """Write what the encoder holds, and complete the container. Safe to call again."""
        if self.closed:
            return
        if self.started:
            self._mux(None)
        self._close()

    def abandon(self) -> None:
        """Like `finish`, but nothing is raised where that is not possible."""
        with contextlib.suppress(SinkError):
            self.finish()

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
            self._container.mux([self._marked(packet) for packet in self._stream.encode(frame)])
        except (av.FFmpegError, OSError) as error:
            # Nothing may be written after a failed write: libav's MP4 writer crashes if it is asked to.
            with contextlib.suppress(SinkError):
                self._close()
            raise self._refused(error) from error

    def _marked(self, packet: av.Packet[Stream]) -> av.Packet[Stream]:
        import av

        if not (self._before_keys and packet.is_keyframe):
            return packet
        marked = av.Packet(self._before_keys + bytes(packet))
        marked.stream, marked.time_base, marked.duration = packet.stream, packet.time_base, packet.duration
        marked.pts, marked.dts, marked.is_keyframe = packet.pts, packet.dts, True
        return marked

    def _close(self) -> None:
        import av

        self.closed = True
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            raise self._refused(error) from error

    def _refused(self, error: av.FFmpegError | OSError) -> SinkError:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        return SinkError(f"{self._name}: cannot be written ({reason}){self._remark}")


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

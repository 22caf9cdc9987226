"""Decoders of the codec layers (guide, anchor), owned by one session object each.

AV1 decoding is bit-exact by its standard, so decoded pictures may enter the closed loop. Units carry AV1
temporal units without their temporal delimiter OBU (always the two bytes 12 00, AV1 specification 5.6), which is
put back here: two bytes a frame are 2 % of the rate at 24 kbit/s.
"""

from __future__ import annotations

import av
import numpy as np

from common.errors import BitstreamError, CodecError
from common.types import Picture, Plane

TEMPORAL_DELIMITER = b"\x12\x00"
MAX_CODED_PIXELS = 4096 * 4096


def strip_delimiter(data: bytes) -> bytes:
    """An AV1 temporal unit without its leading temporal delimiter."""
    return data.removeprefix(TEMPORAL_DELIMITER)


def _plane(plane: av.video.plane.VideoPlane) -> Plane:
    rows = np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * plane.height].reshape(
        plane.height, plane.line_size
    )
    return np.ascontiguousarray(rows[:, : plane.width])


def picture_of(frame: av.VideoFrame) -> Picture:
    """Copy a yuv420p libav frame into a Picture."""
    y, u, v = (_plane(plane) for plane in frame.planes)
    return Picture(y, u, v)


class Av1Decoder:
    """One AV1 elementary stream, decoded frame by frame without delay (dav1d through PyAV).

    width, height : the only picture size accepted; anything else is a BitstreamError, so that damaged or
        hostile data cannot make this end allocate large pictures
    """

    def __init__(self, width: int, height: int) -> None:
        if width * height > MAX_CODED_PIXELS:
            raise CodecError(f"pictures of {width}x{height} are larger than this decoder allows")
        self._size = (width, height)
        self._open()

    def _open(self) -> None:
        try:
            self._context: av.VideoCodecContext = av.CodecContext.create("libdav1d", "r")  # type: ignore[assignment]
        except av.error.FFmpegError as error:
            raise CodecError(
                "PyAV has no AV1 decoder (libdav1d): install the PyAV wheel from PyPI"
            ) from error
        self._context.thread_count = 1
        # A size announced where `_check_sequence_size` does not look must not be allocated either.
        self._context.options = {"max_pixels": str(self._size[0] * self._size[1])}

    def decode(self, data: bytes) -> Picture:
        """Decode one temporal unit to one picture; BitstreamError when it does not give exactly one."""
        _check_sequence_size(data, self._size)
        try:
            frames = self._context.decode(av.Packet(TEMPORAL_DELIMITER + data))
        except (av.error.FFmpegError, ValueError) as error:
            raise BitstreamError(f"AV1 data cannot be decoded: {error}") from error
        if len(frames) != 1:
            raise BitstreamError(f"AV1 unit gave {len(frames)} pictures instead of one")
        frame = frames[0]
        if (frame.width, frame.height) != self._size or frame.format.name != "yuv420p":
            raise BitstreamError(
                f"AV1 picture is {frame.width}x{frame.height} {frame.format.name}, expected "
                f"{self._size[0]}x{self._size[1]} yuv420p"
            )
        return picture_of(frame)


class _Bits:
    """Big-endian bit reader over a few header bytes."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise BitstreamError("AV1 sequence header is cut short")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)


def _check_sequence_size(data: bytes, size: tuple[int, int]) -> None:
    """Refuse, before any decoder sees it, a sequence header that announces another picture size.

    Only the header form that this project's encoder writes is accepted (AV1 specification 5.5.1): no timing
    information, no operating-point parameters.
    """
    if not data or (data[0] >> 3) & 15 != 1:  # OBU_SEQUENCE_HEADER comes first when there is one
        return
    bits = _Bits(data[2:34])
    bits.take(3)  # seq_profile
    bits.take(1)  # still_picture
    if bits.take(1):  # reduced_still_picture_header
        bits.take(5)
    else:
        if bits.take(1):  # timing_info_present_flag
            raise BitstreamError("AV1 timing information is not part of this stream format")
        bits.take(1)
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    width, height = bits.take(width_bits) + 1, bits.take(height_bits) + 1
    if (width, height) != size:
        raise BitstreamError(f"AV1 stream announces {width}x{height}, expected {size[0]}x{size[1]}")

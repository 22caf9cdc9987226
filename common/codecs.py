"""Decoders of the codec layers (guide, anchor), owned by one session object each.

AV1, VP9 and H.264 decoding are bit-exact by their standards, so decoded pictures may enter the closed loop.
What every unit of a codec begins with is left out of the stream and put back here: the temporal delimiter of AV1
(the two bytes 12 00, AV1 specification 5.6) and the first start code of H.264. At 24 kbit/s that is 2-4 % of the rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import av
import numpy as np

from common.codec_headers import START_CODE, SizeCheck, check_av1, check_h264, check_vp9
from common.errors import BitstreamError, CodecError
from common.types import GuideCodec, Picture, Plane

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


@dataclass(frozen=True, slots=True)
class _Format:
    """How one codec is decoded.

    name : for messages; library : libav's name of the decoder
    prefix : what a unit begins with in a file, left out of the stream
    check : refuses a unit that announces another size
    alignment : libav's own decoders size their buffers in multiples of this, which `max_pixels` has to allow
    options : of the decoder
    """

    name: str
    library: str
    prefix: bytes
    check: SizeCheck
    alignment: int = 1
    options: Mapping[str, str] = field(default_factory=dict)


_FORMATS: dict[GuideCodec, _Format] = {
    "av1": _Format("AV1", "libdav1d", TEMPORAL_DELIMITER, check_av1),
    "vp9": _Format("VP9", "vp9", b"", check_vp9, alignment=128),
    # Damage is to be an error, never concealed: a concealed picture is not the sender's.
    "h264": _Format(
        "H.264", "h264", b"\0" + START_CODE, check_h264, 128, {"flags": "low_delay", "err_detect": "explode"}
    ),
}


class GuideDecoder:
    """One elementary stream, decoded picture by picture without delay, on one thread.

    width, height : the only picture size accepted; anything else is a BitstreamError before memory is taken for it,
        so that damaged or hostile data cannot make this end allocate large pictures
    """

    def __init__(self, codec: GuideCodec, width: int, height: int) -> None:
        if width * height > MAX_CODED_PIXELS:
            raise CodecError(f"pictures of {width}x{height} are larger than this decoder allows")
        self._format = _FORMATS[codec]
        self._size = (width, height)
        self._open()

    def _open(self) -> None:
        coded = self._format
        try:
            self._context: av.VideoCodecContext = av.CodecContext.create(coded.library, "r")  # type: ignore[assignment]
        except av.error.FFmpegError as error:
            raise CodecError(
                f"PyAV has no {coded.name} decoder ({coded.library}): install the PyAV wheel from PyPI"
            ) from error
        self._context.thread_count = 1
        # A size announced where the check of headers does not look must not be allocated either.
        width, height = (-(-side // coded.alignment) * coded.alignment for side in self._size)
        self._context.options = {**coded.options, "max_pixels": str(width * height)}

    def decode(self, data: bytes) -> Picture:
        """Decode one unit to one picture; BitstreamError when it does not give exactly one.

        After an error only a key picture helps.
        """
        coded = self._format
        coded.check(data, self._size)
        try:
            frames = self._context.decode(av.Packet(coded.prefix + data))
        except (av.error.FFmpegError, ValueError) as error:
            self._open()  # what a decoder holds back after an error would come out later, as a picture too many
            raise BitstreamError(f"{coded.name} data cannot be decoded: {error}") from error
        if len(frames) != 1:
            self._open()
            raise BitstreamError(f"{coded.name} unit gave {len(frames)} pictures instead of one")
        frame = frames[0]
        if (frame.width, frame.height) != self._size or frame.format.name != "yuv420p":
            raise BitstreamError(
                f"{coded.name} picture is {frame.width}x{frame.height} {frame.format.name}, expected "
                f"{self._size[0]}x{self._size[1]} yuv420p"
            )
        return picture_of(frame)


class Av1Decoder(GuideDecoder):
    """The decoder of anchors, and of the guide unless another codec is chosen."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__("av1", width, height)

"""The codecs we are measured against.

    pictures -shrink-> encoder (low delay, one thread) -> packets -> decoder -enlarge-> pictures
    points of (codec, scale, quality) -benchmarks/envelope.py-> percent of bits at equal quality

A user who starves a codec lowers the resolution, so each codec runs at full, half and quarter size and the
best of them at each rate is the baseline. The group of pictures is infinite: only the first picture is a key.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame
from pydantic import TypeAdapter, ValidationError

from benchmarks.rd_quality import Judge, Quality
from benchmarks.report import write_text
from common.errors import CodecError
from common.types import Picture, Plane
from sender.coded import preset_for

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

SCALES = (1, 2, 4)
"""Divisors of both sides at which every peer runs."""

ENDLESS_GOP = 1_000_000
"""Pictures between keys: more than any clip has."""

CACHE_VERSION = 3
"""Raised when the meaning of a cached point changes."""

_H264_SEI = 6


@dataclass(frozen=True, slots=True)
class PeerCodec:
    """One encoder in its real-time, low-delay setting.

    name : how results call it
    encoder, decoder : names of FFmpeg's codecs
    options : fixed options of the encoder, as FFmpeg spells them; the preset "auto" is the one that our own guide
        uses at that size
    ladder : values of `crf`, from the lowest rate to the highest
    min_side : smallest side the encoder accepts, pixels
    drop_sei : leave out informative messages of H.264, which state the encoder's settings in every stream
    """

    name: str
    encoder: str
    decoder: str
    options: tuple[tuple[str, str], ...]
    ladder: tuple[int, ...]
    min_side: int = 16
    drop_sei: bool = False


SVT_AV1 = PeerCodec(
    name="svt-av1",
    encoder="libsvtav1",
    decoder="libdav1d",
    options=(("preset", "auto"), ("svtav1-params", "pred-struct=1:lp=1:keyint=-1:rtc=1")),
    ladder=(63, 58, 53, 48, 43, 38, 32, 26, 20),
    min_side=64,
)
X265 = PeerCodec(
    name="x265",
    encoder="libx265",
    decoder="hevc",
    options=(
        ("preset", "veryfast"),
        ("tune", "zerolatency"),
        ("x265-params", "keyint=-1:pools=none:frame-threads=1:info=0:log-level=none"),
    ),
    ladder=(51, 48, 45, 42, 39, 36, 32, 28, 24),
    min_side=32,
)
VP9 = PeerCodec(
    name="vp9",
    encoder="libvpx-vp9",
    decoder="vp9",
    options=(("deadline", "realtime"), ("cpu-used", "8"), ("lag-in-frames", "0"), ("b", "0")),
    ladder=(63, 60, 56, 52, 46, 40, 34, 28, 22),
)
X264 = PeerCodec(
    name="x264",
    encoder="libx264",
    decoder="h264",
    options=(("preset", "veryfast"), ("tune", "zerolatency")),
    ladder=(51, 47, 43, 40, 37, 34, 31, 27, 23),
    drop_sei=True,
)
PEERS = (SVT_AV1, X265, VP9, X264)


@dataclass(frozen=True, slots=True)
class RdPoint:
    """One run of one peer over a whole clip.

    codec, scale, crf : which run; `scale` divides both sides
    total_bytes : sum of all packets
    kbps : `total_bytes` over the duration (pictures / frame rate)
    """

    codec: str
    scale: int
    crf: int
    total_bytes: int
    kbps: float
    quality: Quality


_POINT = TypeAdapter(RdPoint)


def run_ladder(
    codec: PeerCodec,
    judge: Judge,
    scales: Sequence[int] = SCALES,
    ladder: Sequence[int] | None = None,
    cache: Path | None = None,
) -> list[RdPoint]:
    """Every (scale, quality) of one codec; scales at which a side is below the codec's minimum are left out.

    judge : holds the clip
    cache : folder of one JSON file per point, so that an interrupted sweep goes on where it stopped
    """
    clip = clip_hash(judge.source, judge.frame_rate)
    points = []
    for scale in scales:
        if min(scaled_size(judge.source[0], scale)) < codec.min_side:
            continue
        for crf in codec.ladder if ladder is None else ladder:
            path = cache and cache / f"{_settings_hash(clip, codec, scale, crf, judge)}.json"
            point = _load_point(path)
            if point is None:
                point = run_point(codec, judge, scale, crf)
                _store_point(path, point)
            points.append(point)
    return points


def run_point(codec: PeerCodec, judge: Judge, scale: int, crf: int) -> RdPoint:
    """Encode, decode and measure one clip. Raises CodecError when the codec is missing or loses a picture."""
    decoded, total_bytes = round_trip(codec, judge.source, judge.frame_rate, scale, crf)
    kbps = total_bytes * 8e-3 * float(judge.frame_rate) / len(judge.source)
    return RdPoint(codec.name, scale, crf, total_bytes, kbps, judge.quality(decoded))


def round_trip(
    codec: PeerCodec, pictures: Sequence[Picture], frame_rate: Fraction, scale: int, crf: int
) -> tuple[list[Picture], int]:
    """What a clip looks like after the codec, at its own size, and the bytes of all packets; errors as `run_point`."""
    full = pictures[0]
    size = scaled_size(full, scale)
    packets = encode(codec, (resized(p, *size) for p in pictures), frame_rate, crf)
    decoded = [resized(p, full.width, full.height) for p in decode(codec, packets)]
    if len(decoded) != len(pictures):
        raise CodecError(f"{codec.name} returned {len(decoded)} of {len(pictures)} pictures")
    return decoded, sum(map(len, packets))


def encode(
    codec: PeerCodec, pictures: Iterable[Picture], frame_rate: Fraction, crf: int, gop: int = ENDLESS_GOP
) -> list[bytes]:
    """Packets of one session; one quality per session, since SVT-AV1 cannot change `crf` on the way.

    gop : pictures from one key to the next
    """
    context: VideoCodecContext | None = None
    packets: list[bytes] = []
    try:
        for index, picture in enumerate(pictures):
            if context is None:
                context = _open_encoder(codec, picture, frame_rate, crf, gop)
            packets += map(bytes, context.encode(_to_av(picture, index)))
        if context is not None:
            packets += map(bytes, context.encode(None))
    except (av.FFmpegError, ValueError) as error:
        raise CodecError(f"{codec.name} cannot encode ({error}); see `semcast doctor`") from error
    return [without_sei(p) for p in packets] if codec.drop_sei else packets


def decode(codec: PeerCodec, packets: Sequence[bytes]) -> Iterator[Picture]:
    """Pictures of one session. Raises CodecError for packets that the decoder refuses."""
    try:
        context = cast("VideoCodecContext", av.CodecContext.create(codec.decoder, "r"))
        context.thread_count = 1
        for packet in packets:
            yield from map(from_av, context.decode(av.Packet(packet)))
        yield from map(from_av, context.decode(None))
    except (av.FFmpegError, ValueError) as error:
        raise CodecError(f"{codec.decoder} cannot decode ({error})") from error


def decode_rest(codec: PeerCodec, packets: Sequence[bytes | None]) -> Iterator[tuple[int, Picture]]:
    """(place, picture) of what the decoder makes of a session of which some packets, None, are lost.

    Where it conceals by itself (x264, x265: missing references) what it gives is taken; what it refuses is left out.
    """
    context = cast("VideoCodecContext", av.CodecContext.create(codec.decoder, "r"))
    context.thread_count = 1
    for place, data in [*enumerate(packets), (len(packets), b"")]:
        if data is None:
            continue
        packet = av.Packet(data) if data else None  # none flushes
        if packet is not None:
            packet.pts = packet.dts = place
            packet.time_base = Fraction(1)
        try:
            frames = context.decode(packet)
        except (av.FFmpegError, ValueError):
            continue
        yield from ((frame.pts, from_av(frame)) for frame in frames if frame.pts is not None)


def without_sei(packet: bytes) -> bytes:
    """An H.264 packet in Annex B form without its informative messages (NAL unit type 6)."""
    units = packet.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    return b"".join(b"\0\0\1" + unit for unit in units if unit and unit[0] & 31 != _H264_SEI)


def clip_hash(pictures: Sequence[Picture], frame_rate: Fraction) -> str:
    """Names a clip by its samples, size and rate."""
    digest = hashlib.sha256(f"{frame_rate} {pictures[0].width}x{pictures[0].height}".encode())
    for picture in pictures:
        for plane in picture.planes:
            digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def _open_encoder(
    codec: PeerCodec, picture: Picture, frame_rate: Fraction, crf: int, gop: int
) -> VideoCodecContext:
    os.environ.setdefault("SVT_LOG", "0")  # the library prints its banner to stderr otherwise
    context = cast("VideoCodecContext", av.CodecContext.create(codec.encoder, "w"))
    context.width, context.height, context.pix_fmt = picture.width, picture.height, "yuv420p"
    context.time_base, context.framerate = 1 / frame_rate, frame_rate
    context.thread_count = 1
    context.gop_size = gop
    context.options = {**dict(codec.options), "crf": str(crf)}
    if gop != ENDLESS_GOP:  # the encoders' own words for it
        for name in ("svtav1-params", "x265-params"):
            if name in context.options:
                context.options[name] = context.options[name].replace("keyint=-1", f"keyint={gop}")
    if context.options.get("preset") == "auto":
        context.options["preset"] = str(preset_for(None, picture.width, picture.height))
    return context


def _to_av(picture: Picture, index: int) -> VideoFrame:
    samples = np.concatenate([plane.ravel() for plane in picture.planes])
    frame = VideoFrame.from_ndarray(samples.reshape(-1, picture.width), format="yuv420p")
    frame.pts = index
    return frame


def from_av(frame: VideoFrame) -> Picture:
    """A decoded frame, 4:2:0 with 8 bits."""
    samples = np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8).ravel()
    height, width = frame.height, frame.width
    y, u, v = np.split(samples, [height * width, height * width * 5 // 4])
    return Picture(y.reshape(height, width), *(p.reshape(height // 2, width // 2) for p in (u, v)))


def scaled_size(picture: Picture, scale: int) -> tuple[int, int]:
    """Width and height divided by `scale`, even."""
    width, height = (max(2, 2 * round(side / (2 * scale))) for side in (picture.width, picture.height))
    return width, height


def resized(picture: Picture, width: int, height: int) -> Picture:
    """A picture at another size: means when it shrinks, bicubic when it grows."""
    if (width, height) == (picture.width, picture.height):
        return picture
    interpolation = cv2.INTER_AREA if width < picture.width else cv2.INTER_CUBIC

    def plane(samples: Plane, divisor: int) -> Plane:
        size = (width // divisor, height // divisor)
        return np.asarray(cv2.resize(samples, size, interpolation=interpolation), np.uint8)

    return Picture(plane(picture.y, 1), plane(picture.u, 2), plane(picture.v, 2))


def _settings_hash(clip: str, codec: PeerCodec, scale: int, crf: int, judge: Judge) -> str:
    what = asdict(replace(codec, ladder=()))
    settings = [CACHE_VERSION, av.__version__, clip, what, scale, crf, judge.metrics.stamp()]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def _load_point(path: Path | None) -> RdPoint | None:
    try:
        return _POINT.validate_json(path.read_text(encoding="utf-8")) if path is not None else None
    except (OSError, ValidationError):
        return None


def _store_point(path: Path | None, point: RdPoint) -> None:
    if path is not None:
        write_text(json.dumps(asdict(point)), path)

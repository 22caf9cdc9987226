"""A peer's stream at a rate, and what its decoder makes of it when parts are missing.

    clip -encode at each size, quality by bisection-> the best size at that rate -> packets
    packets, some missing -> the decoder with its own concealment -> one picture a slot, or none

A stream is kept in a file, since many links carry the same one.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from benchmarks.peers import (
    ENDLESS_GOP,
    SCALES,
    PeerCodec,
    decode,
    decode_rest,
    encode,
    resized,
    scaled_size,
)
from benchmarks.rd_clip import Loaded, Material, hash_of
from benchmarks.report import versions
from common.errors import CodecError, SinkError
from common.files import made_folder
from common.quality import psnr_yuv
from common.types import Picture

STREAM_VERSION = 1
PACKET_BYTES = 8
"""What a packet costs on the link besides its own bytes, about: datagram header, place in the stream."""
_JUDGED_EVERY = 8


@dataclass(frozen=True, slots=True)
class PeerStream:
    """A codec's packets for a clip, at most at a rate.

    packets : one per picture
    keys : whether the encoder was asked for a key picture there
    scale, crf : at which they were made
    """

    scale: int
    crf: int
    packets: tuple[bytes, ...]
    keys: tuple[bool, ...]

    def link_bytes(self) -> int:
        """Bytes on the link, about."""
        return sum(map(len, self.packets)) + PACKET_BYTES * len(self.packets)


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """Which stream.

    bps : most that it may take on the link; gop_s : seconds between keys, 0 for one at the start
    """

    material: Material
    codec: PeerCodec
    bps: int
    gop_s: float

    @property
    def name(self) -> str:
        return f"{self.material.clip.name}.{self.codec.name}-{self.bps / 1e3:.3g}k-gop{self.gop_s:g}"

    def key(self) -> str:
        codec = asdict(replace(self.codec, ladder=()))
        settings = [codec, self.bps, self.gop_s, versions()["av"], STREAM_VERSION]
        return hash_of([*self.material.stamp(), *settings])

    def open(self, clip: Loaded, out: Path) -> PeerStream:
        """From its file below `out`, or made now. Where no quality is low enough for the rate it is the smallest there
        is, of which the later parts come too late."""
        path = out / "streams" / f"{self.name}.{self.key()}.npz"
        found = _load(path)
        if found is None:
            found = self._make(clip)
            _store(found, path)
        return found

    def _make(self, clip: Loaded) -> PeerStream:
        limit = int(self.bps / 8 * len(clip.pictures) / float(clip.frame_rate))
        gop = max(1, round(self.gop_s * float(clip.frame_rate))) if self.gop_s else ENDLESS_GOP
        sizes = [s for s in SCALES if min(scaled_size(clip.pictures[0], s)) >= self.codec.min_side]
        fitting = [stream for s in sizes if (stream := _fitting(self.codec, clip, s, limit, gop)) is not None]
        if not fitting:  # then the smallest there is, which comes late
            crf = self.codec.ladder[0]
            fitting = [_encoded(self.codec, clip, sizes[-1], crf, gop)]
        return max(fitting, key=lambda stream: _clean_psnr(self.codec, clip, stream))


def _fitting(codec: PeerCodec, clip: Loaded, scale: int, limit: int, gop: int) -> PeerStream | None:
    """The best quality of a size that is at most so many bytes, None where all are more; by bisection."""
    worst, best = codec.ladder[0], codec.ladder[-1]
    found = _encoded(codec, clip, scale, worst, gop)
    if found.link_bytes() > limit:
        return None
    while worst - best > 1:
        middle = (worst + best) // 2
        stream = _encoded(codec, clip, scale, middle, gop)
        if stream.link_bytes() <= limit:
            worst, found = middle, stream
        else:
            best = middle
    return found


def _encoded(codec: PeerCodec, clip: Loaded, scale: int, crf: int, gop: int) -> PeerStream:
    size = scaled_size(clip.pictures[0], scale)
    pictures = (resized(picture, *size) for picture in clip.pictures)
    packets = encode(codec, pictures, clip.frame_rate, crf, gop)
    if len(packets) != len(clip.pictures):
        raise CodecError(f"{codec.name} made {len(packets)} packets of {len(clip.pictures)} pictures")
    keys = tuple(index % gop == 0 for index in range(len(packets)))
    return PeerStream(scale, crf, tuple(packets), keys)


def _clean_psnr(codec: PeerCodec, clip: Loaded, stream: PeerStream) -> float:
    """Of some pictures, where nothing is lost."""
    full = clip.pictures[0]
    pairs = zip(clip.pictures, decode(codec, stream.packets), strict=True)
    some = (pair for index, pair in enumerate(pairs) if index % _JUDGED_EVERY == 0)
    return float(np.mean([psnr_yuv(a, resized(b, full.width, full.height)) for a, b in some]))


# --- a decoder that goes on ----------------------------------------------------------------------------------------


def concealed(codec: PeerCodec, packets: Sequence[bytes | None], full: Picture) -> list[Picture | None]:
    """One entry for each packet, None where the decoder gives no picture: it is lost, or cannot be decoded.

    packets : None where lost; full : any picture of the size to enlarge to
    Where the decoder conceals by itself (x264, x265: missing references), what it gives is taken.
    """
    shown: list[Picture | None] = [None] * len(packets)
    for slot, picture in decode_rest(codec, packets):
        if 0 <= slot < len(shown):
            shown[slot] = resized(picture, full.width, full.height)
    return shown


# --- files ---------------------------------------------------------------------------------------------------------


def _store(stream: PeerStream, path: Path) -> None:
    made_folder(path.parent)
    draft = path.with_name(f"{path.stem}.{os.getpid()}.tmp.npz")  # two processes may make the same one
    joined = b"".join(stream.packets)
    try:
        np.savez(
            draft, facts=np.array([stream.scale, stream.crf]), lengths=np.array([*map(len, stream.packets)]),
            keys=np.array(stream.keys), data=np.frombuffer(joined, np.uint8), check=np.array([zlib.crc32(joined)]),
        )  # fmt: skip
        draft.replace(path)
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror}; choose another --out with room") from error


def _load(path: Path) -> PeerStream | None:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            joined = file["data"].tobytes()
            if zlib.crc32(joined) != int(file["check"][0]):
                return None
            ends = np.cumsum(file["lengths"])
            packets = tuple(joined[e - n : e] for e, n in zip(ends, file["lengths"], strict=True))
            scale, crf = map(int, file["facts"])
            return PeerStream(scale, crf, packets, tuple(map(bool, file["keys"])))
    except (OSError, ValueError, KeyError, BadZipFile):
        return None

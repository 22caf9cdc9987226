"""What units say, once parsed: values without offsets. Their bytes stand in common/wire.py."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from common.types import Colour, GuideCodec

MIN_CODED_SIDE = 64
MAX_SIDE = 4096
REGION_STEP = 16
"""Regions lie on a grid of so many luma samples."""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """Everything both ends must agree on; repeated in the stream for late joiners.

    session : random number of this stream, 16 bits
    width, height : picture size shown, 16..4096; coded size is padded to multiples of 16, at least 64
    frame_rate : nominal pictures per second
    time_base : seconds per unit of pts
    seed : seed of the receiver's noise, 32 bits
    guide_codec : codec of the guide; anchors are always AV1 stills
    """

    session: int
    width: int
    height: int
    frame_rate: Fraction
    time_base: Fraction
    colour: Colour = Colour()
    seed: int = 0
    guide_codec: GuideCodec = "av1"

    @property
    def coded_width(self) -> int:
        return max(MIN_CODED_SIDE, -(-self.width // 16) * 16)

    @property
    def coded_height(self) -> int:
        return max(MIN_CODED_SIDE, -(-self.height // 16) * 16)

    @property
    def scales(self) -> tuple[int, ...]:
        """Guide scales that leave both sides at least 64 samples (the AV1 encoder's minimum)."""
        side = min(self.coded_width, self.coded_height)
        return tuple(s for s in (1, 2, 4, 8) if side // s >= MIN_CODED_SIDE)

    @property
    def ticks_per_slot(self) -> Fraction:
        return 1 / self.frame_rate / self.time_base

    def pts_of(self, slot: int) -> int:
        """Time stamp of a slot at constant frame rate."""
        return round(slot * self.ticks_per_slot)


@dataclass(frozen=True, slots=True)
class FrameUnit:
    """A parsed FRAME.

    slot : full frame number
    key : starts from nothing but the named anchor
    scale : guide scale, only in key frames (else 0)
    pts : explicit time stamp, or None where the constant frame rate gives it
    mark : id of the anchor that this frame's picture will be sent as, or None
    activate : id of the anchor to warp from now on, or None
    drop_anchor : stop using the anchor
    quality : quantiser (0..63, AV1's scale) of the guide's base pictures when it changed, or None
    sharpness : strength 0..3 of `common.sharpen` from now on; told with the quality, without it 0
    motion, labels, guide : payloads, None where absent
    """

    slot: int
    key: bool = False
    disposable: bool = False
    scale: int = 0
    pts: int | None = None
    mark: int | None = None
    activate: int | None = None
    drop_anchor: bool = False
    quality: int | None = None
    sharpness: int = 0
    motion: bytes | None = None
    labels: bytes | None = None
    guide: bytes | None = None


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of the coded picture in luma samples: multiples of REGION_STEP, sides of at least MIN_CODED_SIDE."""

    x: int
    y: int
    width: int
    height: int

    def within(self, width: int, height: int) -> bool:
        """Whether a picture of this size holds all of it."""
        return self.x + self.width <= width and self.y + self.height <= height


@dataclass(frozen=True, slots=True)
class AnchorUnit:
    """A parsed ANCHOR: one AV1 still showing the frame at `slot`.

    region : what of the picture it shows; the rest is the base picture of that frame. None: the whole coded size
    base_digest : of the state after that frame, 0 without a region
    """

    slot: int
    anchor_id: int
    quality: int
    data: bytes
    region: Region | None = None
    base_digest: int = 0


@dataclass(frozen=True, slots=True)
class ResidualUnit:
    """A parsed RESIDUAL: correction of the base picture of the frame at `slot`."""

    slot: int
    data: bytes


@dataclass(frozen=True, slots=True)
class GroupUnit:
    """A parsed GROUP: what a receiver must know before the symbols of the frames `slot`, `slot` + 1, ...

    scene : no frame before them is of any use: a cut, or the start
    scale : guide scale
    pts : of each frame, empty where the constant frame rate gives them
    metadata : of `common.softcast`
    """

    slot: int
    scene: bool
    scale: int
    pts: tuple[int, ...]
    metadata: bytes


@dataclass(frozen=True, slots=True)
class ConfigUnit:
    """A parsed CONFIG."""

    config: StreamConfig
    slot: int


@dataclass(frozen=True, slots=True)
class NoteUnit:
    """A parsed NOTE: what a file says of itself (`common.provenance`)."""

    text: bytes


Unit = FrameUnit | AnchorUnit | ResidualUnit | GroupUnit | ConfigUnit | NoteUnit

"""The frozen values that travel between rooms.

    Frame -> SceneDescription -> EncodedUnit -> datagram bytes ~ channel ~> datagram bytes
          -> EncodedUnit -> SceneDescription -> SceneState -> Frame          back: Feedback

Pictures are planar YCbCr 4:2:0, 8 bit, in the source's own matrix and range: what cameras and codecs
deliver, so a 4:2:0 source of the coded size crosses the link without one colour conversion.
Arrays inside these values are treated as immutable: whoever wants to change one makes a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]
"""One picture plane, [H, W] uint8."""

GuideCodec = Literal["av1", "vp9", "h264"]
"""Video codecs of the guide layer; decoding each is bit-exact by its standard."""

LABEL_CLASSES = 21
"""PASCAL VOC classes of the label map; 0 is background, 15 is person."""


@dataclass(frozen=True, slots=True)
class Colour:
    """How samples map to light: YCbCr matrix and range (ITU-R BT.709 / BT.601)."""

    matrix: Literal["bt709", "bt601"] = "bt709"
    full_range: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """YCbCr 4:2:0 planes.

    y : [H, W] uint8, H and W even
    u, v : [H/2, W/2] uint8
    """

    y: Plane
    u: Plane
    v: Plane

    @property
    def height(self) -> int:
        return int(self.y.shape[0])

    @property
    def width(self) -> int:
        return int(self.y.shape[1])

    @property
    def planes(self) -> tuple[Plane, Plane, Plane]:
        return self.y, self.u, self.v


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture at one instant.

    picture : the samples
    pts : presentation time in units of `time_base` seconds
    slot : running number of the source frame, from 0
    """

    picture: Picture
    pts: int
    time_base: Fraction
    slot: int = 0
    colour: Colour = Colour()

    @property
    def time_s(self) -> float:
        return float(self.pts * self.time_base)


class UnitKind(IntEnum):
    """The four kinds of unit in the stream (two bits of the unit header)."""

    CONFIG = 0
    FRAME = 1
    ANCHOR = 2
    RESIDUAL = 3


class Layer(IntEnum):
    """What bytes are accounted to in every report."""

    CONFIG = 0
    GUIDE = 1
    ANCHOR = 2
    MOTION = 3
    SEMANTICS = 4
    RESIDUAL = 5
    OVERHEAD = 6


@dataclass(frozen=True, slots=True)
class EncodedUnit:
    """The smallest thing that the stream carries and the channel may lose.

    kind : what it is
    slot : number of the source frame it belongs to (for ANCHOR: the frame the anchor shows)
    data : the unit's bytes, header included, exactly as in a `.sgv` file
    key : decodable without any earlier FRAME unit
    disposable : no later unit builds on it
    protect : worth forward error correction (configuration, guide keys, anchors)
    ends_anchors : nothing can be made any more of anchors that are on their way and show a frame before this one
        (never sent: whoever still holds pieces of them gives them up)
    layer_bytes : how `data` divides between layers, for statistics only (never sent)
    """

    kind: UnitKind
    slot: int
    data: bytes
    key: bool = False
    disposable: bool = False
    protect: bool = False
    layer_bytes: tuple[tuple[Layer, int], ...] = ()
    ends_anchors: bool = False


@dataclass(frozen=True, slots=True)
class Datagram:
    """Bytes that arrived, and when.

    arrival_s : seconds on the receiver's clock
    """

    data: bytes
    arrival_s: float


@dataclass(frozen=True, slots=True)
class Feedback:
    """The receiver's periodic report (one small datagram on the way back).

    sequence : running number of the report, modulo 2**16
    highest_seq : highest datagram sequence number seen (unwrapped modulo 2**16), -1 if none yet
    missing : sequence numbers (modulo 2**16) below it that are wanted again, oldest first, at most 32
    loss_ratio : fraction of datagrams lost since the last report, 0..1
    received_bps : bits per second received since the last report
    last_slot : newest slot whose state is good, -1 if none
    anchors : ids of complete anchors held (at most 4)
    refresh : a self-contained frame is needed: the state is lost or nothing arrived yet
    held_ms : from the arrival of the datagram `highest_seq` to this report (DLSR in RFC 3550): no part of the round trip
    anchor_wanted : the anchor in use has been of little use for a while; less urgent than `refresh`
    """

    sequence: int
    highest_seq: int = -1
    missing: tuple[int, ...] = ()
    loss_ratio: float = 0.0
    received_bps: float = 0.0
    last_slot: int = -1
    anchors: tuple[int, ...] = ()
    refresh: bool = False
    held_ms: int = 0
    anchor_wanted: bool = False

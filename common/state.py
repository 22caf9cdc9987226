"""The closed loop: `SceneState`, and `follow` + `advance`, the only way it changes.

    bytes --parse--> FrameUnit --follow(state)--> what can be derived
          --describe--> SceneDescription --advance--> SceneState --compose--> base picture

Sender and receiver call the same functions on the same bytes, all integers, so both hold the same state; every FRAME
is sealed with the digest of the state it builds on (common/wire.py). The diffusion decoder only reads it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common import motion, semantics
from common.av1_headers import HeaderContext, begin, expand
from common.entropy import AdaptiveTable, RangeReader
from common.errors import BitstreamError, StateMismatchError
from common.fusion import blend, downsample_plane, reliability, upsample
from common.motion import Field
from common.residual import Residual, add_residual
from common.semantics import LabelMap
from common.sharpen import edge_detail, sharpened
from common.types import Picture, Plane
from common.units import AnchorUnit, FrameUnit, StreamConfig


@dataclass(frozen=True, slots=True, eq=False)
class Anchor:
    """A full-resolution picture to warp from.

    picture : at the coded size
    slot : the frame it shows
    digest : CRC-32 of its planes
    """

    anchor_id: int
    slot: int
    quality: int
    picture: Picture
    digest: int

    @classmethod
    def of(cls, anchor_id: int, slot: int, quality: int, picture: Picture) -> Anchor:
        return cls(anchor_id, slot, quality, picture, _crc(0, *picture.planes))


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Motion that is followed from a reference picture.

    reference : luma of the low-passed anchor (or of the guide at the anchor's frame), at guide size
    field : from the reference to the current frame
    """

    reference: Plane
    field: Field


@dataclass(frozen=True, slots=True, eq=False)
class SceneState:
    """What both ends know about the scene after the frame at `slot`.

    pts : explicit time stamp of this frame, None where the constant frame rate gives it
    scale : guide scale; quality : quantiser (AV1's scale) of the guide's base pictures
    guide : last guide picture, at the coded size / scale, None before the first key frame; guide_slot : its frame
    anchor, track : the anchor in use and the motion from it; None without anchor
    pending : (anchor id, motion from the frame that it will show) while an anchor is on its way
    headers : what the headers of coming guide pictures are predicted from, None before the first key frame
    labels, label_field : label map, and the motion field when it was sent
    digest : CRC-32 over all that anything is predicted from, chained with the digest of the state before
    spared : with this frame sharpening ended, because it would do the picture harm
    """

    config: StreamConfig
    slot: int
    pts: int | None
    scale: int
    quality: int
    sharpness: int
    guide: Picture | None
    guide_slot: int
    headers: HeaderContext | None
    anchor: Anchor | None
    track: Track | None
    pending: tuple[int, Track] | None
    labels: LabelMap
    label_field: Field
    motion_tables: motion.Tables
    label_tables: semantics.Tables
    digest: int
    spared: bool = False

    @property
    def field(self) -> Field:
        """Motion from the anchor to now; zero without anchor."""
        return self.track.field if self.track else _zero(self.config)

    def labels_now(self) -> LabelMap:
        """The label map carried to the current frame by the motion since it was sent."""
        return semantics.carry(self.labels, self.label_field, self.field)


@dataclass(frozen=True, slots=True, eq=False)
class SceneDescription:
    """What one frame says about the scene: a FRAME with its payloads decoded.

    anchor : the anchor to activate or None
    update : motion corrections int16 [H/16, W/16, 2] or None
    labels : the new label map or None
    """

    frame: FrameUnit
    anchor: Anchor | None
    update: Field | None
    labels: LabelMap | None
    motion_tables: motion.Tables
    label_tables: semantics.Tables


def _zero(config: StreamConfig) -> Field:
    return motion.zero_field(config.coded_height, config.coded_width)


def initial_state(config: StreamConfig) -> SceneState:
    """The state that a key frame builds on: nothing but the configuration."""
    zero = _zero(config)
    seed = zlib.crc32(repr((config.session, config.coded_width, config.coded_height, config.seed)).encode())
    return SceneState(
        config=config, slot=-1, pts=None, scale=config.scales[-1], quality=0, sharpness=0,
        guide=None, guide_slot=-1, headers=None, anchor=None, track=None, pending=None,
        labels=np.zeros(zero.shape[:2], np.uint8), label_field=zero,
        motion_tables=motion.default_tables(), label_tables=semantics.default_tables(), digest=seed,
    )  # fmt: skip


def base_of(state: SceneState, key: bool) -> SceneState:
    """The state that a frame builds on: for a key frame everything before is forgotten."""
    return initial_state(state.config) if key else state


def guide_size(config: StreamConfig, scale: int) -> tuple[int, int]:
    """(width, height) of the guide at `scale`."""
    return config.coded_width // scale, config.coded_height // scale


def follow(base: SceneState, frame: FrameUnit, decode: Callable[[bytes], Picture]) -> SceneState:
    """Step one of a frame: decode its guide and follow the motion to it, at no bits.

    base : `base_of(previous, frame.key)`; decode : of the guide's codec
    """
    if not frame.key and base.guide is None:
        raise StateMismatchError(f"frame {frame.slot} builds on a guide that this end does not have")
    quality = base.quality if frame.quality is None else frame.quality
    state = replace(
        base, slot=frame.slot, pts=frame.pts, quality=quality, scale=frame.scale if frame.key else base.scale
    )
    if frame.guide is None:
        return state
    coded, headers = _unpacked(frame.guide, frame, base)
    guide, track, pending = decode(coded), base.track, base.pending
    if track is not None:
        track = _followed(track, guide, state, steps=2)
    if pending is not None:
        pending = pending[0], _followed(pending[1], guide, state, steps=1)
    return replace(state, guide=guide, guide_slot=frame.slot, headers=headers, track=track, pending=pending)


def _unpacked(guide: bytes, frame: FrameUnit, base: SceneState) -> tuple[bytes, HeaderContext | None]:
    """A coded guide picture as its decoder wants it, and what later headers are predicted from."""
    if base.config.guide_codec != "av1":
        return guide, None
    return (guide, begin(guide, frame.slot)) if frame.key else expand(guide, base.headers, frame.slot)


def _followed(track: Track, guide: Picture, state: SceneState, steps: int) -> Track:
    field = motion.refine(track.reference, guide.y, track.field, state.scale, state.slot, steps)
    return Track(track.reference, field)


def describe(frame: FrameUnit, followed: SceneState, anchors: Mapping[int, Anchor]) -> SceneDescription:
    """Step two: decode what the sender said on top of what could be derived.

    anchors : complete anchors by id; StateMismatchError when the frame activates one that is not there
    """
    anchor = None
    if frame.activate is not None:
        anchor = anchors.get(frame.activate)
        if anchor is None:
            raise StateMismatchError(
                f"frame {frame.slot} uses anchor {frame.activate}, which has not arrived"
            )
    motion_tables, label_tables, update, labels = followed.motion_tables, followed.label_tables, None, None
    if frame.motion is not None:
        if anchor is None and followed.anchor is None:
            raise BitstreamError(f"frame {frame.slot} moves an anchor that does not exist")
        rows, cols = followed.labels.shape
        update, motion_tables = motion.decode_update(RangeReader(frame.motion), rows, cols, motion_tables)
    if frame.labels is not None:
        labels, label_tables = semantics.decode_labels(frame.labels, followed.labels_now(), label_tables)
    return SceneDescription(frame, anchor, update, labels, motion_tables, label_tables)


def advance(followed: SceneState, description: SceneDescription) -> SceneState:
    """Step three: the state after the frame, sealed with its digest."""
    state = with_anchor(followed, description.frame, description.anchor)
    if description.frame.quality is not None:
        state = replace(state, sharpness=description.frame.sharpness)
    if description.update is not None and state.track is not None:
        field = motion.apply_update(state.track.field, description.update)
        state = replace(
            state, track=Track(state.track.reference, field), motion_tables=description.motion_tables
        )
    if description.labels is not None:
        state = replace(
            state, labels=description.labels, label_field=state.field, label_tables=description.label_tables
        )
    spared = state.sharpness == 0 < followed.sharpness
    return replace(state, digest=_digest(followed.digest, state), spared=spared)


def with_anchor(state: SceneState, frame: FrameUnit, anchor: Anchor | None) -> SceneState:
    """Carry out a frame's orders about anchors: drop, activate, mark."""
    if frame.drop_anchor or anchor is not None:
        state = replace(
            state, labels=state.labels_now(), label_field=_zero(state.config), anchor=None, track=None
        )
    if anchor is not None:
        followed = (
            state.pending[1].field if state.pending and state.pending[0] == anchor.anchor_id else state.field
        )
        track = Track(downsample_plane(anchor.picture.y, state.scale), followed)
        state = replace(state, anchor=anchor, track=track, label_field=followed, pending=None)
    if frame.mark is not None and state.guide is not None:
        state = replace(state, pending=(frame.mark, Track(state.guide.y, _zero(state.config))))
    return state


def _crc(seed: int, *arrays: NDArray[np.generic]) -> int:
    for array in arrays:
        seed = zlib.crc32(np.ascontiguousarray(array).data, seed)
    return seed


def _table_bytes(tables: tuple[AdaptiveTable, ...]) -> NDArray[np.int32]:
    return np.concatenate([np.asarray(table.counts, "<i4") for table in tables])


def _digest(before: int, state: SceneState) -> int:
    """CRC-32 of everything in the state, chained: equal digests mean equal histories."""
    numbers = np.array(
        [
            state.slot, state.scale, state.quality, state.sharpness,
            state.anchor.digest if state.anchor else 0, state.headers.digest if state.headers else 0,
        ],
        "<i8",
    )  # fmt: skip
    crc = _crc(before, numbers, state.labels, state.label_field.astype("<i2"), state.field.astype("<i2"))
    crc = _crc(crc, _table_bytes(state.motion_tables), _table_bytes(state.label_tables))
    if state.guide is not None:
        crc = _crc(crc, *state.guide.planes)
    if state.pending is not None:
        crc = _crc(crc, np.array([state.pending[0]], "<i4"), state.pending[1].field.astype("<i2"))
    return crc


# --- the base picture ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Composition:
    """The deterministic base picture and what it was made of; all pictures at the coded size.

    base : sharpened guide and warped anchor fused by reliability, plus residual
    warped : the anchor as it looks now, None without anchor
    guide : the guide, upsampled
    reliability : uint8 [H/8, W/8], 255 = the warped anchor is fully trusted, 0 = not at all
    residual_mask : uint8 [H/16, W/16], 1 where a residual was received
    labels : uint8 [H/16, W/16] in 0..20
    noise : float32 [H/8, W/8], expected root-mean-square error of the base picture's luma by what an analog link did
        to it, sample steps; None where all came as bits
    """

    base: Picture
    warped: Picture | None
    guide: Picture
    reliability: NDArray[np.uint8]
    residual_mask: NDArray[np.uint8]
    labels: LabelMap
    noise: NDArray[np.float32] | None = None


def compose(
    state: SceneState, residual: Residual | None = None, aside: Executor | None = None
) -> Composition:
    """Paint the base picture of `state`. Integers only: the same bits on every machine.

    aside : where the anchor can be warped while the guide is enlarged; by default both are done here
    """
    if state.guide is None:
        raise StateMismatchError("no key frame has been decoded yet")
    anchor = state.anchor if state.scale > 1 else None
    warping = aside.submit(motion.warp, anchor.picture, state.field) if aside and anchor else None
    guide = upsample(state.guide, state.scale)
    base = sharpen(guide, state)
    rows, cols = state.labels.shape
    if anchor is not None:
        warped: Picture | None = warping.result() if warping else motion.warp(anchor.picture, state.field)
        assert warped is not None
        weights = reliability(warped.y, state.guide.y, guide.y, state.scale)
        base = blend(warped, base, weights)
    else:
        warped, weights = None, np.zeros((2 * rows, 2 * cols), np.int16)
    mask = np.zeros((rows, cols), np.uint8)
    if residual is not None:
        base, mask = add_residual(base, residual), residual.mask.astype(np.uint8)
    trust = np.minimum(weights * 4, 255).astype(np.uint8)
    return Composition(base, warped, guide, trust, mask, state.labels_now())


def patched(marked: SceneState, unit: AnchorUnit, decode: Callable[[bytes, int, int], Picture]) -> Anchor:
    """A partial anchor: the base picture of the frame that was marked, with the unit's picture in its region.

    marked : after that frame; its residual does not count, since it may get lost
    decode : of a still of (width, height)
    Raises StateMismatchError for another history of the frame, BitstreamError for a region that leaves the picture.
    """
    config, region = marked.config, unit.region
    if marked.digest != unit.base_digest:
        raise StateMismatchError(f"anchor {unit.anchor_id} builds on another state of frame {unit.slot}")
    if region is None or not region.within(config.coded_width, config.coded_height):
        raise BitstreamError(f"anchor region {region} leaves {config.coded_width}x{config.coded_height}")
    patch, planes = decode(unit.data, region.width, region.height), []
    for whole, part, step in zip(compose(marked).base.planes, patch.planes, (1, 2, 2), strict=True):
        plane, top, left = whole.copy(), region.y // step, region.x // step
        plane[top : top + part.shape[0], left : left + part.shape[1]] = part
        planes.append(plane)
    return Anchor.of(unit.anchor_id, unit.slot, unit.quality, Picture(*planes))


def sharpen(guide_up: Picture, state: SceneState) -> Picture:
    """The upsampled guide with its luma sharpened as the state says."""
    if not state.sharpness or state.scale == 1 or state.guide is None:
        return guide_up
    detail = edge_detail(state.guide.y, guide_up.y, state.scale, state.quality)
    return replace(guide_up, y=sharpened(guide_up.y, detail, state.sharpness))


def picture_digest(picture: Picture) -> int:
    """CRC-32 of a picture's planes."""
    return _crc(0, *picture.planes)

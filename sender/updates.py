"""Motion corrections worth their bits: per block keep what both ends derived, or send what optical flow found."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.entropy import RangeWriter
from common.motion import BLOCK, MAX_MV, Field, encode_update, warp_plane
from common.state import SceneState
from common.types import Picture, Plane

_BITS_PER_BLOCK = 14.0  # flag, two components, their share of group flags
_FUSED = 0.4  # share of a gain of the warped anchor that survives in the fused picture (mean square weight)

Costs = NDArray[np.float32]


class FlowEstimator:
    """Dense inverse search optical flow (DIS, Kroeger et al., ECCV 2016; OpenCV), source now to anchor source."""

    def __init__(self) -> None:
        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def field(self, now: Plane, reference: Plane, start: Field) -> Field:
        """Quarter-pixel block field [rows, cols, 2] from `now` to `reference`, started from `start`."""
        rows, cols = start.shape[0], start.shape[1]
        seed = start[..., ::-1].astype(np.float32) / 4
        initial = cv2.resize(seed, (now.shape[1], now.shape[0]), interpolation=cv2.INTER_NEAREST)
        flow = self._dis.calc(now, reference, initial)
        blocks = np.median(flow.reshape(rows, BLOCK, cols, BLOCK, 2)[:, 2::4, :, 2::4], axis=(1, 3))
        return np.clip(np.rint(blocks[..., ::-1] * 4), -MAX_MV, MAX_MV).astype(np.int16)


def _block_error(target: Plane, moved: Plane) -> Costs:
    difference = target.astype(np.float32) - moved
    rows, cols = target.shape[0] // BLOCK, target.shape[1] // BLOCK
    out: Costs = (difference * difference).reshape(rows, BLOCK, cols, BLOCK).sum(axis=(1, 3))
    return out


def choose_update(
    source: Picture, followed: SceneState, candidate: Field, error_per_bit: float
) -> bytes | None:
    """The payload of corrections that gain more than they cost, or None when no block does.

    followed : the state after `common.state.follow`
    error_per_bit : squared luma error that one bit buys elsewhere (rate control's exchange rate)
    """
    assert followed.anchor is not None
    anchor = followed.anchor.picture.y
    derived = followed.field
    gain = _block_error(source.y, warp_plane(anchor, derived, 16)) - _block_error(
        source.y, warp_plane(anchor, candidate, 16)
    )
    chosen = gain * _FUSED > _BITS_PER_BLOCK * error_per_bit
    chosen &= (candidate != derived).any(axis=-1)
    if not chosen.any():
        return None
    writer = RangeWriter()
    encode_update(
        writer, (candidate.astype(np.int32) - derived).astype(np.int16), chosen, followed.motion_tables
    )
    return writer.finish()

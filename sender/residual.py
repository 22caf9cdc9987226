"""Which blocks of the base picture get a residual: importance times error, as many as the rate leaves room for.

AV1 spends a bit better than these blocks as long as its quantiser can still fall, so residuals only use what the
guide leaves over: at the top of the rate range they make the picture near lossless.
"""

from __future__ import annotations

import numpy as np

from common.config import ResidualSettings
from common.residual import encode_residual
from common.state import SceneState, compose
from common.types import Picture
from common.units import ResidualUnit
from sender.labels import importance
from sender.rate import RateState, RateTarget

_FINE_Q = 8.0  # the guide's quantiser below which bits are left over
_QUANTISER = 6  # 1.25 luma steps
_BYTES_PER_BLOCK = 60.0


def choose_residual(
    source: Picture, state: SceneState, rate: RateState, target: RateTarget, settings: ResidualSettings
) -> ResidualUnit | None:
    """The residual of the frame that `state` is at, or None when the rate has no room for one."""
    room = target.picture_bytes - rate.debt_bytes / 8
    if not settings.enabled or rate.quantiser > _FINE_Q or rate.debt_bytes > 0 or room < 2 * _BYTES_PER_BLOCK:
        return None
    scene = compose(state)
    wanted = tuple(s.astype(np.int16) - b for s, b in zip(source.planes, scene.base.planes, strict=True))
    rows, cols = scene.labels.shape
    error = np.square(wanted[0].astype(np.float32)).reshape(rows, 16, cols, 16).sum(axis=(1, 3))
    worth = error * importance(scene.labels) if settings.by_labels else error
    count = min(rows * cols, int(room / _BYTES_PER_BLOCK))
    threshold = np.partition(worth.ravel(), rows * cols - count)[rows * cols - count]
    mask = (worth >= max(threshold, 1.0)) & (worth > 0)
    if not mask.any():
        return None
    return ResidualUnit(state.slot, encode_residual(wanted, mask, _QUANTISER))

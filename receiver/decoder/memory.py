"""What the decoder keeps from one picture to the next, and how it is moved to the next one.

    base now, base before --motion--> flow --move--> previous output, its noise

Private to this receiver and never part of the stream: a receiver that lost it paints on without. Everything here is a
value; `BridgeSynthesizer` holds the newest one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.types import Picture, Plane

Flow = NDArray[np.float32]
"""[H/2,W/2,2], (x, y): where each sample at half size was in the picture before, as an offset in such samples."""

_MIN_SIDE = 16
"""The flow estimator takes no smaller pictures."""


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """The picture painted last.

    shown : as painted
    small : luma of its base picture at half size, uint8 [H/2,W/2]: what motion and change are seen in
    noise : [1,6,H/2,W/2], what it was painted from, None below bridge1
    """

    shown: Picture
    small: Plane
    noise: Tensor | None = None


def half_size(base: Picture) -> Plane:
    """Luma at half size, uint8 [H/2,W/2]."""
    size = base.width // 2, base.height // 2
    return np.asarray(cv2.resize(base.y, size, interpolation=cv2.INTER_AREA), np.uint8)


def change_since(memory: Memory, small: Plane) -> float:
    """Mean absolute difference of the base pictures at half size, sample steps."""
    return float(np.mean(cv2.absdiff(memory.small, small)))


def motion_since(memory: Memory, small: Plane) -> Flow:
    """Dense inverse search (Kroeger et al. 2016) between the base pictures; zero for pictures too small for it."""
    if min(small.shape) < _MIN_SIDE:
        return np.zeros((*small.shape, 2), np.float32)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    search.setFinestScale(1)
    search.setVariationalRefinementIterations(1)
    flow = np.zeros((*small.shape, 2), np.float32)
    return np.asarray(search.calc(small, memory.small, flow), np.float32)


def moved(memory: Memory, flow: Flow) -> Memory:
    """The memory as the flow says it looks now; its small picture stays what it is."""
    where = flow + _places(flow)
    size = memory.shown.width, memory.shown.height
    fine: Flow = np.asarray(cv2.resize(flow, size, interpolation=cv2.INTER_LINEAR), np.float32) * np.float32(
        2
    )
    luma = _fetched(memory.shown.y, fine + _places(fine), cv2.INTER_CUBIC)
    u, v = (_fetched(plane, where, cv2.INTER_LINEAR) for plane in (memory.shown.u, memory.shown.v))
    noise = None if memory.noise is None else _moved_noise(memory.noise, where)
    return replace(memory, shown=Picture(luma, u, v), noise=noise)


def _places(flow: Flow) -> Flow:
    """Every sample's own place, (x, y)."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.stack([x, y], -1)


def _fetched(plane: Plane, where: Flow, method: int) -> Plane:
    return np.asarray(cv2.remap(plane, where, None, method, borderMode=cv2.BORDER_REPLICATE), np.uint8)  # type: ignore[call-overload]


def _moved_noise(noise: Tensor, where: Flow) -> Tensor:
    """Nearest samples, since averages of noise would be weaker than noise; what comes into view repeats the edge."""
    height, width = where.shape[:2]
    x, y = (np.clip(np.rint(where[..., k]), 0, side - 1) for k, side in ((0, width), (1, height)))
    index = torch.from_numpy((y * width + x).astype(np.int64).ravel()).to(noise.device)
    flat = noise.permute(0, 2, 3, 1).reshape(height * width, -1)
    return flat[index].reshape(1, height, width, -1).permute(0, 3, 1, 2)

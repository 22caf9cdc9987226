"""Detail that the network painted, carried over to later pictures: the level between the base picture and one step.

    shown = base + weight * (painted - base under it)        weight = 1 - change of the base / `TOLERANCE`, 0..1

A thirtieth of the time of a network call. It keeps nine tenths of what that gains where little moves, and nothing where
much does: there the base picture remains. Nothing chains: the detail is always that of the last picture that was painted.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.state import Composition
from common.types import Picture, Plane

TOLERANCE = 8.0
"""Change of the base picture, in sample steps, at which nothing is carried over."""
NEIGHBOURHOOD = 5
"""Samples at half size over which that change is averaged, so that noise does not decide."""

Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Detail:
    """A painted picture and what it was painted on.

    base : its base picture; small : luma of that at half size, uint8 [H/2,W/2]
    painted : as painted; uncertainty : uint8 [H/8,W/8], as for `Painted`
    """

    base: Picture
    small: Plane
    painted: Picture
    uncertainty: NDArray[np.uint8]

    def change(self, small: Plane) -> float | None:
        """Mean absolute change of the base picture since, sample steps, from its luma at half size; None for a picture of
        another size."""
        if small.shape != self.small.shape:
            return None
        return float(np.mean(cv2.absdiff(small, self.small)))


def carried(detail: Detail, composition: Composition) -> Picture:
    """The base picture with what still fits of the detail; of the same size."""
    base = composition.base
    weights = _weights(detail, composition)
    height, width = base.y.shape
    fine = np.asarray(cv2.resize(weights, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    planes = [
        _moved_towards(plane, under, painted, weight)
        for plane, under, painted, weight in zip(
            base.planes, detail.base.planes, detail.painted.planes, (fine, weights, weights), strict=True
        )
    ]
    return Picture(*planes)


def _weights(detail: Detail, composition: Composition) -> Weights:
    """[H/2,W/2] 0..1; 0 where a residual was received, which is right as it is."""
    height, width = detail.small.shape
    change = cv2.absdiff(composition.base.y, detail.base.y)
    halved = cv2.resize(change, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    weights = np.clip(1 - cv2.blur(halved, (NEIGHBOURHOOD, NEIGHBOURHOOD)) / TOLERANCE, 0.0, 1.0)
    if composition.residual_mask.any():
        mask = cv2.resize(composition.residual_mask, (width, height), interpolation=cv2.INTER_NEAREST)
        weights = np.where(mask > 0, np.float32(0), weights)
    return np.asarray(weights, np.float32)


def _moved_towards(base: Plane, under: Plane, painted: Plane, weight: Weights) -> Plane:
    detail = painted.astype(np.float32) - under
    return np.asarray(np.clip(np.rint(base + weight * detail), 0, 255), np.uint8)

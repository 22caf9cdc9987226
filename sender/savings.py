"""What an anchor would save: squared error of the base picture by block, and what that is in decibels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from common.fusion import blend, reliability
from common.motion import BLOCK, Field, warp
from common.state import Composition, SceneState, sharpen
from common.types import Picture
from common.units import Region

Floats = NDArray[np.float64]

MEMORY = 0.3  # weight of a new measurement of a gain


@dataclass(frozen=True, slots=True, eq=False)
class Saving:
    """What an anchor would save of the squared error of the luma.

    by_block : sum over each block [H/16, W/16], float64; negative where it would do harm
    error : of the present base picture, over all samples
    """

    by_block: Floats
    error: float

    def mixed(self, now: Saving) -> Saving:
        """The running mean with a new measurement."""
        return Saving(
            (1 - MEMORY) * self.by_block + MEMORY * now.by_block,
            (1 - MEMORY) * self.error + MEMORY * now.error,
        )

    def gain_db(self, region: Region | None = None) -> float:
        """Of the base picture, with the whole anchor or only this part of it."""
        blocks = self.by_block if region is None else self.by_block[_blocks(region)]
        return gain_of(float(blocks.sum()), self.error, self.by_block.size)


def _blocks(region: Region) -> tuple[slice, slice]:
    top, left = region.y // BLOCK, region.x // BLOCK
    return slice(top, top + region.height // BLOCK), slice(left, left + region.width // BLOCK)


@overload
def gain_of(saved: float, error: float, blocks: int) -> float: ...
@overload
def gain_of(saved: Floats, error: float, blocks: int) -> Floats: ...
def gain_of(saved: float | Floats, error: float, blocks: int) -> float | Floats:
    """dB by which a picture of so many blocks gets better when `saved` of its squared error goes."""
    floor = 0.01 * BLOCK * BLOCK * blocks  # an error of a tenth of a step is as good as none
    gain = 10 * np.log10((error + floor) / (np.maximum(error - saved, 0.0) + floor))
    return np.asarray(gain, np.float64) if isinstance(saved, np.ndarray) else float(gain)


def _errors(source: Picture, picture: Picture) -> Floats:
    """Squared error of the luma, sum over each block."""
    square = (source.y.astype(np.float64) - picture.y) ** 2
    rows, cols = source.height // BLOCK, source.width // BLOCK
    return np.asarray(square.reshape(rows, BLOCK, cols, BLOCK).sum(axis=(1, 3)))


def saving_of(
    anchor: Picture, field: Field, source: Picture, state: SceneState, scene: Composition
) -> Saving:
    """What `anchor`, moved by `field`, would save now. scene : composed of `state`, with the anchor in use if any"""
    assert state.guide is not None
    warped = warp(anchor, field)
    weights = reliability(warped.y, state.guide.y, scene.guide.y, state.scale)
    base = blend(warped, sharpen(scene.guide, state), weights)
    now = _errors(source, scene.base)
    return Saving(now - _errors(source, base), float(now.sum()))


def gain_db(source: Picture, base: Picture, guide: Picture) -> float:
    """How much closer to the source the base picture is than the guide."""
    guide_error = _errors(source, guide)
    saved = float((guide_error - _errors(source, base)).sum())
    return gain_of(saved, float(guide_error.sum()), guide_error.size)

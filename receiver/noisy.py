"""The base picture where the guide came as symbols, with noise of known variance. Not part of any closed loop.

    guide + noise --upsample--> g ------\\
                                         each weighted by how precise it is --> base, and its expected error
    anchor --warp--> w --low-pass vs g--/

Where guide and anchor disagree by no more than the noise explains, that says nothing against the anchor. Without noise
the weights are those of `common.fusion`.
"""

from __future__ import annotations

from concurrent.futures import Executor

import cv2
import numpy as np
from numpy.typing import NDArray

from common import motion
from common.errors import StateMismatchError
from common.fusion import CELL, blend, cell_features, upsample, weights_of
from common.state import Composition, SceneState
from common.types import Picture

Reals = NDArray[np.float32]

_FINENESS = 16
"""Of the features of `common.fusion`: sixteenths of a step."""
_ABSOLUTE = float(np.sqrt(2 / np.pi))
"""Mean absolute value of a Gaussian of unit deviation."""


def compose_noisy(state: SceneState, variance: Reals, aside: Executor | None = None) -> Composition:
    """Paint the base picture of `state`.

    variance : expected squared error of the guide's luma, [h, w] at the guide's size
    aside : where the anchor can be warped while the guide is enlarged
    """
    if state.guide is None:
        raise StateMismatchError("no group has been received yet")
    anchor = state.anchor
    warping = aside.submit(motion.warp, anchor.picture, state.field) if aside and anchor else None
    guide, noise = upsample(state.guide, state.scale), in_cells(variance, CELL // state.scale)
    blank, mask = np.zeros(noise.shape, np.uint8), np.zeros(state.labels.shape, np.uint8)
    if anchor is None:
        return Composition(guide, None, guide, blank, mask, state.labels_now(), np.sqrt(noise))
    warped = warping.result() if warping else motion.warp(anchor.picture, state.field)
    weights, error = precision(warped, state.guide, guide, state.scale, noise)
    base = blend(warped, guide, np.rint(64 * weights).astype(np.int16))
    trust = np.rint(255 * weights).astype(np.uint8)
    return Composition(base, warped, guide, trust, mask, state.labels_now(), np.sqrt(error))


def precision(
    warped: Picture, guide: Picture, guide_up: Picture, scale: int, noise: Reals
) -> tuple[Reals, Reals]:
    """(weight of the warped anchor 0..1, expected squared error of the mixture), [H/8, W/8] each.

    noise : expected squared error of the guide in each cell

    With the noise taken out of what they differ by, the weight w of `common.fusion` says how the rest D of the squared
    difference divides between anchor, (1 - w) D, and guide, w D. The guide has the noise besides.
    """
    features = cell_features(warped.y, guide.y, guide_up.y, scale)
    around = _around(noise)
    agreed, other = (without_noise((feature / _FINENESS).astype(np.float32), around) for feature in features)
    clean = weights_of(*(np.rint(feature * _FINENESS).astype(np.int32) for feature in (agreed, other)))
    share = (clean / 64).astype(np.float32)
    rest = np.square(other / np.float32(_ABSOLUTE))
    of_anchor, of_guide = (1 - share) * rest, share * rest + noise
    weights = np.divide(of_guide, of_anchor + of_guide, out=share.copy(), where=noise > 0)
    return weights, np.square(weights) * of_anchor + np.square(1 - weights) * of_guide


def without_noise(difference: Reals, noise: Reals) -> Reals:
    """Mean absolute difference had there been no noise, [H/8, W/8]: variances of independent things add up.

    difference : as it is; averaged over 3x3 cells, for the noise of a single one is too uneven
    """
    smooth = _around(difference)
    quiet = np.square(smooth) - np.float32(_ABSOLUTE**2) * noise
    shrunk: Reals = np.sqrt(np.maximum(quiet, 0)) / np.maximum(smooth, 1e-6)
    return difference * np.minimum(shrunk, 1)


def _around(cells: Reals) -> Reals:
    """Means over 3x3 cells."""
    return cv2.blur(cells, (3, 3), borderType=cv2.BORDER_REPLICATE).astype(np.float32)


def in_cells(samples: NDArray[np.floating], size: int) -> Reals:
    """Means over size x size samples."""
    height, width = samples.shape
    cells: Reals = (
        samples.reshape(height // size, size, width // size, size).mean(axis=(1, 3)).astype(np.float32)
    )
    return cells

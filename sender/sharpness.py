"""How strongly the receiver is to sharpen the guide, found out on the picture itself.

    source, enlarged guide, detail --squared error--> strength --structure at 1/2 and 1/4 size--> no stronger than that

Squared error alone would have it sharpen edges that the guide shows in the wrong place, or that the source shows blurred.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from common.fusion import upsample_plane
from common.motion import Int16
from common.quality import MS_SSIM_WEIGHTS
from common.sharpen import AT_ONE, MAX_STRENGTH, best_strength, edge_detail
from common.state import SceneState
from common.types import Picture, Plane
from common.units import FrameUnit

Gains = NDArray[np.float64]
"""[4], of the strengths 0..3 over none."""
Reals = NDArray[np.float32]

_KEEP = 0.8
"""The strength in use stays until the best one is farther away: a change costs two bytes."""
UNLIKE = 6.0
"""Change from one picture to the next, sample steps, from which on what suits a base picture need not suit it too."""
_WINDOW = 6
"""Side in samples, about, of the windows within which structure is compared; no multiple of the guide's grid."""
_STABLE = np.float32((0.03 * 255) ** 2)
"""SSIM's second constant."""


def graded(draft: FrameUnit, source: Picture, followed: SceneState) -> FrameUnit:
    """The draft with the sharpness that suits this picture and those after it, told when it changes or the quality is
    told."""
    if followed.scale == 1 or followed.guide is None:
        return draft
    wide, detail = _enlarged(followed)
    best, used = best_strength(source.y, wide, detail), followed.sharpness
    wanted = used if abs(best - used) < _KEEP and not draft.key else round(best)
    return _told(draft, followed, harmless(wanted, best, source.y, wide, detail))


def spared(draft: FrameUnit, source: Picture, followed: SceneState) -> FrameUnit:
    """The draft of a picture that is unlike those around it, with less sharpness where that in use would do it harm."""
    if followed.scale == 1 or followed.guide is None or not followed.sharpness:
        return draft
    wide, detail = _enlarged(followed)
    best = best_strength(source.y, wide, detail)
    return _told(draft, followed, harmless(followed.sharpness, best, source.y, wide, detail))


def _enlarged(followed: SceneState) -> tuple[Plane, Int16]:
    assert followed.guide is not None
    wide = upsample_plane(followed.guide.y, followed.scale)
    return wide, edge_detail(followed.guide.y, wide, followed.scale, followed.quality)


def _told(draft: FrameUnit, followed: SceneState, sharpness: int) -> FrameUnit:
    if draft.quality is None and sharpness == followed.sharpness:
        return draft
    return replace(draft, quality=followed.quality, sharpness=sharpness)


def harmless(strength: int, best: float, source: Plane, guide_up: Plane, detail: Int16) -> int:
    """This strength, or the next weaker one that neither adds to the squared error nor takes from the structure.

    best : the strength of the least squared error
    """
    strength = min(strength, int(2 * best))  # the error is a parabola of it: there it is what it is without
    if strength == 0:
        return 0
    gains = structure_gains(source, guide_up, detail)
    return int(np.flatnonzero(gains[: strength + 1] >= 0)[-1])


def structure_gains(source: Plane, guide_up: Plane, detail: Int16) -> Gains:
    """What each strength adds to the logarithm of MS-SSIM, as far as its second and third scale tell: there what
    sharpening changes shows. 0.8 ms at 512x512"""
    planes: list[Plane | Int16 | Reals] = [source, guide_up, detail]
    gains = np.zeros(MAX_STRENGTH + 1)
    for weight in MS_SSIM_WEIGHTS[1:3]:
        halved = [_halved(plane) for plane in planes]
        gains += weight * np.log(np.maximum(_similarities(*halved), 1e-6))
        planes = [*halved]
    return gains - gains[0]


def _halved(plane: Plane | Int16 | Reals) -> Reals:
    height, width = plane.shape
    return np.asarray(cv2.resize(plane, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.float32)


def _similarities(source: Reals, guide_up: Reals, detail: Reals) -> Gains:
    """Mean contrast and structure term of SSIM at each strength; second moments over a window tell it for all of them."""
    planes = source, guide_up, detail * np.float32(AT_ONE)
    means = [_mean(plane) for plane in planes]

    def covariance(one: int, other: int) -> Reals:
        return _mean(planes[one] * planes[other]) - means[one] * means[other]

    common, common_by = 2 * covariance(0, 1) + _STABLE, 2 * covariance(0, 2)
    all_of, all_by, all_by_square = (
        covariance(0, 0) + covariance(1, 1) + _STABLE, 2 * covariance(1, 2), covariance(2, 2)
    )  # fmt: skip
    found = [
        np.mean((common + k * common_by) / (all_of + k * (all_by + k * all_by_square)))
        for k in np.arange(MAX_STRENGTH + 1, dtype=np.float32)
    ]
    return np.asarray(found, np.float64)


def _mean(plane: Reals) -> Reals:
    """Over each window."""
    height, width = (max(1, side // _WINDOW) for side in plane.shape)
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA), np.float32)

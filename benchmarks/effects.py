"""What may happen within a scene, and looks like a new one: a flash, a whip pan, a zoom (benchmarks/scenes.py).

Beyond the edge of a clip's picture a camera that moves sees it mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from common.types import Picture, Plane
from sender.clip import Affine, ease, warp_picture

_WHITE = 235
_SHUTTER = 0.5
"""Part of the time between pictures during which the film is exposed."""


@dataclass(frozen=True, slots=True)
class Flash:
    """Light for a few pictures, from one side. at : first of them; power : 0..1 of each; x, y : where from, 0..1"""

    at: int
    power: tuple[float, ...]
    x: float
    y: float

    kind: Literal["flash"] = "flash"

    @property
    def length(self) -> int:
        return len(self.power)

    def apply(self, picture: Picture, index: int) -> Picture:
        """Its picture number `index` of the take, lit."""
        since = index - self.at
        if not 0 <= since < self.length:
            return picture
        height, width = picture.y.shape
        x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
        light = self.power[since] * np.exp(-0.5 * ((x - self.x) ** 2 + (y - self.y) ** 2))
        luma = picture.y + light * np.maximum(0.0, _WHITE - picture.y.astype(np.float64))
        pale = 1 - 0.8 * light[::2, ::2]
        u, v = (np.rint(128 + (plane - 128.0) * pale).astype(np.uint8) for plane in (picture.u, picture.v))
        return Picture(np.rint(luma).astype(np.uint8), u, v)


@dataclass(frozen=True, slots=True)
class Whip:
    """The camera swings by (x, y) picture widths and stays there. at, length : when, in pictures of the take"""

    at: int
    length: int
    x: float
    y: float

    kind: Literal["whip"] = "whip"

    def _way(self, index: float) -> float:
        return ease((index - self.at) / self.length)

    def apply(self, picture: Picture, index: int) -> Picture:
        """Its picture number `index` of the take, seen from there, blurred by the movement."""
        way = self._way(index)
        if way == 0:
            return picture
        dx, dy = self.x * picture.width * way, self.y * picture.width * way
        blurred = _SHUTTER * (self._way(index + 0.5) - self._way(index - 0.5)) * picture.width
        moved = warp_picture(
            picture, np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]]), picture.width, picture.height
        )
        return _smeared(moved, abs(self.x) * blurred, abs(self.y) * blurred)


@dataclass(frozen=True, slots=True)
class Zoom:
    """The lens goes from magnification `start` to `end` in `length` pictures from `at` on."""

    at: int
    length: int
    start: float
    end: float

    kind: Literal["zoom"] = "zoom"

    def apply(self, picture: Picture, index: int) -> Picture:
        """Its picture number `index` of the take, magnified."""
        zoom = self.start * (self.end / self.start) ** ease((index - self.at) / self.length)
        return picture if zoom == 1 else warp_picture(picture, _magnified(picture, zoom), *_size(picture))


Effect = Flash | Whip | Zoom


def _size(picture: Picture) -> tuple[int, int]:
    return picture.width, picture.height


def _magnified(picture: Picture, zoom: float) -> Affine:
    middle = np.array([(picture.width - 1) / 2, (picture.height - 1) / 2])
    return np.hstack([np.eye(2) / zoom, (middle - middle / zoom)[:, None]])


def _smeared(picture: Picture, wide: float, high: float) -> Picture:
    """Motion blur of so many luma samples along both axes."""

    def box(plane: Plane, k: int) -> Plane:
        size = max(1, round(wide / k)), max(1, round(high / k))
        return plane if size == (1, 1) else np.asarray(cv2.blur(plane, size), np.uint8)

    return Picture(box(picture.y, 1), box(picture.u, 2), box(picture.v, 2))

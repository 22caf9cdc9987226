"""The built-in clip: eight seconds of moving pictures that need no file and no network.

    0.0 s  a portrait that speaks and blinks, slow zoom, a patterned ball passes in front      (astronaut)
    3.2 s  -- hard cut --
           a workshop: slow pan, whip pan of 200 pixels in a quarter second, slow pan back     (motorcycle)
    5.6 s  -- hard cut --
           a turning close-up of a cup, the ball passes again, faster                          (coffee)

The photographs lie inside the scikit-image wheel (NASA, public domain; Middlebury stereo 2014; CC0), so the
frames have real texture, real edges and real noise; the camera above them moves with sub-pixel accuracy.
After eight seconds the script starts again. One frame is a pure function of (seed, slot).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from common.colour import resize, rgb_to_picture
from common.errors import SourceError
from common.types import Colour, Frame, Picture, Plane

SIDE = 512
"""Width and height of the clip."""
FRAME_RATE = Fraction(25)
COLOUR = Colour("bt601")
"""What an unmarked video of this size means as well."""
LENGTH_SLOTS = 200

Affine = NDArray[np.float64]
"""[2, 3], destination pixel -> source pixel, pixel centres at whole numbers."""


@dataclass(frozen=True)
class _Camera:
    """Where the camera looks: photograph point in the middle of the frame, magnification, roll."""

    x: float
    y: float
    zoom: float
    roll_deg: float = 0.0
    blur_px: float = 0.0

    def affine(self) -> Affine:
        cos, sin = (math.cos(math.radians(self.roll_deg)), math.sin(math.radians(self.roll_deg)))
        turn = np.array([[cos, -sin], [sin, cos]]) / self.zoom
        middle = (SIDE - 1) / 2.0
        return np.hstack([turn, np.array([[self.x], [self.y]]) - turn @ np.array([[middle], [middle]])])


@dataclass(frozen=True)
class _Scene:
    """One shot: a photograph, the camera's path over it, and optionally the ball's path over the frame."""

    start: int
    photograph: Picture
    camera: Callable[[int], _Camera]
    ball: Callable[[int], tuple[float, float, float]] | None = None
    speaks: bool = False


def _photograph(name: str, scale: float) -> Picture:
    """One photograph out of the scikit-image wheel, scaled once so that the camera never minifies it."""
    import cv2

    path = resources.files("skimage") / "data" / name
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise SourceError(
            f"the built-in clip needs {name} of scikit-image; reinstall scikit-image or name a file"
        )
    even = bgr[: bgr.shape[0] // 2 * 2, : bgr.shape[1] // 2 * 2, ::-1]
    picture = rgb_to_picture(np.ascontiguousarray(even), COLOUR)
    return resize(picture, round(picture.width * scale / 2) * 2, round(picture.height * scale / 2) * 2)


def _warp(plane: Plane, affine: Affine, width: int, height: int, outside_is_zero: bool = False) -> Plane:
    import cv2

    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    border = cv2.BORDER_CONSTANT if outside_is_zero else cv2.BORDER_REFLECT_101
    out = cv2.warpAffine(plane, affine, (width, height), flags=flags, borderMode=border)
    return out.astype(np.uint8, copy=False)


def _halved(affine: Affine) -> Affine:
    """The same motion on chroma planes, whose sample i sits at luma position 2 i + 1/2."""
    offset = affine[:, :2] @ np.full((2, 1), 0.5) + affine[:, 2:] - 0.5
    return np.hstack([affine[:, :2], offset / 2.0])


def warp_picture(picture: Picture, affine: Affine, width: int, height: int) -> Picture:
    """Sub-pixel bicubic warp of all three planes to `width` x `height`."""
    half = _halved(affine)
    u, v = (_warp(plane, half, width // 2, height // 2) for plane in (picture.u, picture.v))
    return Picture(_warp(picture.y, affine, width, height), u, v)


def _blur(picture: Picture, length_px: float) -> Picture:
    """Horizontal motion blur of an open shutter: a box of `length_px` luma pixels."""
    import cv2

    def box(plane: Plane, length: float) -> Plane:
        size = max(1, round(length))
        return cv2.blur(plane, (size, 1), borderType=cv2.BORDER_REFLECT_101).astype(np.uint8, copy=False)

    if length_px < 2.0:
        return picture
    return Picture(box(picture.y, length_px), box(picture.u, length_px / 2), box(picture.v, length_px / 2))


def _blend(under: Plane, over: Plane, alpha: Plane) -> Plane:
    """`over` where alpha is 255, `under` where it is 0."""
    weight = alpha.astype(np.int16)
    return (under + ((over.astype(np.int16) - under) * weight.astype(np.int32) + 127) // 255).astype(np.uint8)


class _Ball:
    """The object in front: a shaded, patterned ball, drawn once and then turned and moved."""

    RADIUS = 58
    BOX = 2 * (RADIUS + 6)

    def __init__(self, rng: np.random.Generator) -> None:
        side = self.BOX
        # Three samples per pixel and axis, averaged: the pattern and the rim have no jagged edges.
        across = ((np.arange(3 * side) + 0.5) / 3.0 - side / 2.0) / self.RADIUS
        x, y = np.meshgrid(across, across)
        radius = np.hypot(x, y)
        wedge = np.floor((np.arctan2(y, x) / math.tau + 1.5 * radius) * 6.0).astype(int) % 3
        paint = np.array([[206, 52, 40], [238, 226, 196], [34, 84, 150]], np.float64)[wedge]
        paint *= np.sqrt(np.clip(1.0 - 0.8 * radius**2, 0.05, 1.0))[..., None]
        pixels = paint.reshape(side, 3, side, 3, 3).mean((1, 3)) + rng.normal(0.0, 8.0, (side, side, 1))
        self._paint = rgb_to_picture(np.clip(pixels, 0, 255).astype(np.uint8), COLOUR)
        inside = (radius < 1.0).reshape(side, 3, side, 3).mean((1, 3))
        self._alpha: Plane = np.round(255.0 * inside).astype(np.uint8)

    def draw(self, picture: Picture, x: float, y: float, turn_deg: float) -> Picture:
        """Copy of `picture` with the ball's middle at luma position (x, y), clipped at the borders."""
        side = self.BOX
        left, top = (2 * math.floor((centre - side / 2.0) / 2.0) for centre in (x, y))
        cos, sin = (math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg)))
        turn = np.array([[cos, sin], [-sin, cos]])
        middle = np.full((2, 1), (side - 1) / 2.0)
        affine = np.hstack([turn, middle - turn @ np.array([[x - left], [y - top]])])
        paint = warp_picture(self._paint, affine, side, side)
        alpha = _warp(self._alpha, affine, side, side, outside_is_zero=True)
        planes = [
            self._place(plane, over, alpha[::step, ::step], left // step, top // step)
            for plane, over, step in zip(picture.planes, paint.planes, (1, 2, 2), strict=True)
        ]
        return Picture(planes[0], planes[1], planes[2])

    @staticmethod
    def _place(under: Plane, over: Plane, alpha: Plane, left: int, top: int) -> Plane:
        height, width = under.shape
        x0, x1 = max(left, 0), min(left + over.shape[1], width)
        y0, y1 = max(top, 0), min(top + over.shape[0], height)
        if x0 >= x1 or y0 >= y1:
            return under
        inside = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        out = under.copy()
        out[y0:y1, x0:x1] = _blend(out[y0:y1, x0:x1], over[inside], alpha[inside])
        return out


@dataclass(frozen=True)
class _Feature:
    """A part of the face that opens and closes: photograph position and spread in luma pixels."""

    x: float
    y: float
    spread_x: float
    spread_y: float


_MOUTH = _Feature(224.0, 149.0, 20.0, 13.0)
_EYES = (_Feature(203.0, 101.0, 9.0, 7.0), _Feature(246.5, 103.5, 9.0, 7.0))


def _open_feature(picture: Picture, feature: _Feature, opening_px: float) -> Picture:
    """Copy of `picture` with the feature's upper and lower half pushed apart (together if negative)."""
    planes = [
        _stretch(plane, feature, opening_px, 1.0 / step)
        for plane, step in zip(picture.planes, (1, 2, 2), strict=True)
    ]
    return Picture(planes[0], planes[1], planes[2])


def _stretch(plane: Plane, feature: _Feature, opening_px: float, scale: float) -> Plane:
    import cv2

    reach = (round(3 * feature.spread_x * scale), round(3 * feature.spread_y * scale))
    left, top = round(feature.x * scale) - reach[0], round(feature.y * scale) - reach[1]
    x, y = np.meshgrid(np.arange(2 * reach[0]), np.arange(2 * reach[1]))
    dx, dy = (x + left) / scale - feature.x, (y + top) / scale - feature.y
    window = np.exp(-0.5 * ((dx / feature.spread_x) ** 2 + (dy / feature.spread_y) ** 2))
    source_y = y - scale * opening_px * np.tanh(2.0 * dy / feature.spread_y) * window
    out = plane.copy()
    patch = out[top : top + 2 * reach[1], left : left + 2 * reach[0]]
    maps = (x.astype(np.float32), source_y.astype(np.float32))
    patch[:] = cv2.remap(patch.copy(), *maps, interpolation=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return out


def ease(progress: float) -> float:
    """0..1 -> 0..1 with no jump in speed (smoothstep), clamped outside."""
    clamped = min(max(progress, 0.0), 1.0)
    return clamped * clamped * (3.0 - 2.0 * clamped)


class BuiltinClip:
    """The clip as a frame source of 512x512 at 25 frames per second; frames are made when asked for.

    seconds : how much of it; the script repeats after eight seconds
    seed : changes speech, blinks, camera shake and the ball's texture; the cuts stay where they are

    Raises SourceError when scikit-image's photographs are not installed.
    """

    width = SIDE
    height = SIDE
    frame_rate = FRAME_RATE
    time_base = 1 / FRAME_RATE
    colour = COLOUR
    name = "built-in clip"

    def __init__(self, seconds: float = 8.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.frame_count = max(1, round(seconds * FRAME_RATE))
        self._phases = rng.uniform(0.0, math.tau, 6)
        self._ball = _Ball(rng)
        self._scenes = (
            _Scene(0, _photograph("astronaut.png", 1.0), self._portrait, self._ball_slow, speaks=True),
            _Scene(80, _photograph("motorcycle_left.png", 1.12), self._workshop),
            _Scene(140, _photograph("coffee.png", 1.6), self._close_up, self._ball_fast),
        )

    @property
    def cut_slots(self) -> tuple[int, ...]:
        """Slots that show the first picture of a new scene."""
        starts = {scene.start for scene in self._scenes}
        return tuple(slot for slot in range(1, self.frame_count) if slot % LENGTH_SLOTS in starts)

    def picture(self, slot: int) -> Picture:
        """The picture of one slot, whatever was asked before."""
        slot %= LENGTH_SLOTS
        scene = next(scene for scene in reversed(self._scenes) if scene.start <= slot)
        age = slot - scene.start
        camera = scene.camera(age)
        photograph = self._speaking(scene.photograph, slot) if scene.speaks else scene.photograph
        picture = _blur(warp_picture(photograph, camera.affine(), SIDE, SIDE), camera.blur_px * camera.zoom)
        return self._ball.draw(picture, *scene.ball(age)) if scene.ball else picture

    def __iter__(self) -> Iterator[Frame]:
        for slot in range(self.frame_count):
            yield Frame(self.picture(slot), slot, self.time_base, slot, COLOUR)

    def close(self) -> None:
        """Nothing to give back."""

    def _shake(self, age: int, phase: int) -> float:
        """A hand's tremor, about one pixel."""
        first, second = self._phases[phase], self._phases[phase + 1]
        return 0.7 * math.sin(0.17 * age + first) + 0.35 * math.sin(0.43 * age + second)

    def _portrait(self, age: int) -> _Camera:
        progress = ease(age / 80)
        x, y = 238.0 + 8.0 * progress + self._shake(age, 0), 214.0 - 30.0 * progress + self._shake(age, 1)
        return _Camera(x, y, 1.24 + 0.2 * progress)

    def _workshop(self, age: int) -> _Camera:
        def x(at: float) -> float:
            whip = 216.0 * ease((at - 26.0) / 6.0)
            return 288.0 + 0.8 * min(at, 26.0) + whip - 0.9 * max(at - 32.0, 0.0)

        speed_px = abs(x(age + 0.5) - x(age - 0.5))
        # Half the frame time is exposure; below a few pixels nobody sees the blur.
        blur_px = 0.5 * speed_px if speed_px > 6.0 else 0.0
        return _Camera(x(age), 278.0 + self._shake(age, 2), 1.04, 0.3 * self._shake(age, 3), blur_px)

    def _close_up(self, age: int) -> _Camera:
        progress = age / 60
        return _Camera(
            470.0 + 40.0 * progress, 318.0 - 8.0 * progress, 1.06 + 0.16 * progress, -5.0 + 9.0 * progress
        )

    def _ball_slow(self, age: int) -> tuple[float, float, float]:
        """x, y in the frame and turn in degrees; enters at 1 s, leaves at 3 s."""
        x = -70.0 + 13.0 * (age - 25)
        return x, 270.0 - 60.0 * abs(math.sin(0.12 * age)), 6.5 * age

    def _ball_fast(self, age: int) -> tuple[float, float, float]:
        x = 590.0 - 22.0 * (age - 18)
        return x, 250.0 + 90.0 * math.sin(0.09 * age), -11.0 * age

    def _speaking(self, photograph: Picture, slot: int) -> Picture:
        syllables = math.sin(0.55 * slot + self._phases[4]) * (
            0.65 + 0.35 * math.sin(0.19 * slot + self._phases[5])
        )
        picture = _open_feature(photograph, _MOUTH, 3.4 * max(syllables, -0.25))
        closed = max(0.0, 1.0 - abs((slot + 7.0 * self._phases[4]) % 55.0 - 27.0) / 3.0)
        for eye in _EYES:
            picture = _open_feature(picture, eye, -6.0 * closed) if closed else picture
        return picture

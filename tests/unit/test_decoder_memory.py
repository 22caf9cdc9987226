"""The decoder's memory: motion between base pictures, and what is moved along with it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from common.types import Picture
from receiver.decoder.bridge import noise_like
from receiver.decoder.memory import Memory, change_since, half_size, motion_since, moved

SIDE = 128


def scene(left: int) -> Picture:
    """A smooth random pattern, `left` pixels further to the left."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (SIDE // 8 + 4, SIDE // 8 + 4)).astype(np.uint8)
    large = cv2.resize(coarse, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)

    def cut(step: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(large[:SIDE:step, left : left + SIDE : step]).astype(np.uint8)

    return Picture(cut(1), cut(2), cut(2))


def remembered(picture: Picture) -> Memory:
    noise = noise_like(torch.zeros(1, 6, SIDE // 2, SIDE // 2), 1, 2)
    return Memory(picture, half_size(picture), noise)


def test_nothing_moves_in_a_still_scene() -> None:
    memory = remembered(scene(0))
    small = half_size(scene(0))
    still = moved(memory, motion_since(memory, small))
    assert change_since(memory, small) == 0.0
    assert np.array_equal(still.shown.y, memory.shown.y)
    assert memory.noise is not None and still.noise is not None and torch.equal(still.noise, memory.noise)


def test_the_picture_before_is_moved_to_where_it_is_now() -> None:
    before, now = scene(0), scene(4)
    memory = remembered(before)
    carried = moved(memory, motion_since(memory, half_size(now))).shown
    inside = np.s_[16:-16, 16:-16]

    def error(picture: Picture) -> float:
        return float(np.abs(picture.y[inside].astype(int) - now.y[inside]).mean())

    assert change_since(memory, half_size(now)) > 1.0
    assert error(carried) < 0.2 * error(before)


def test_moved_noise_is_still_noise() -> None:
    memory = remembered(scene(0))
    noise = moved(memory, motion_since(memory, half_size(scene(4)))).noise
    assert noise is not None and memory.noise is not None
    assert abs(float(noise.std()) - 1) < 0.05
    inside = np.s_[..., 8:-8, 8:-8]
    assert torch.equal(noise[inside], memory.noise.roll(-2, 3)[inside])


def test_a_picture_too_small_for_the_search_stands_still() -> None:
    tiny = Picture(*(np.zeros((16 // k, 16 // k), np.uint8) for k in (1, 2, 2)))
    memory = Memory(tiny, half_size(tiny))
    assert not motion_since(memory, half_size(tiny)).any()

"""The cut detector: finds hard cuts, ignores motion, flashes of noise and slow change."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from common.colour import resize
from common.types import Picture, Plane
from sender.clip import BuiltinClip
from sender.cuts import CutState, detect_cut


def found(pictures: Iterable[Picture]) -> list[int]:
    state, cuts = CutState(), []
    for slot, picture in enumerate(pictures):
        cut, state = detect_cut(state, picture)
        if cut:
            cuts.append(slot)
    return cuts


def flat(level: int) -> Picture:
    return Picture(*(np.full(size, level, np.uint8) for size in ((64, 64), (32, 32), (32, 32))))


def textured(seed: int, gain: float = 1.0, shift: int = 0) -> Picture:
    """Coarse random texture, moved by whole samples."""
    generator = np.random.default_rng(seed)
    planes = []
    for side in (128, 64, 64):
        coarse = (
            generator.integers(0, 256, (16, 16), dtype=np.uint8).repeat(side // 16, 0).repeat(side // 16, 1)
        )
        planes.append(np.roll(np.clip(coarse * gain, 0, 255).astype(np.uint8), shift, 1))
    return Picture(*planes)


def test_the_cuts_of_the_built_in_clip_are_found_and_nothing_before_or_after() -> None:
    """During the whip pan (slots 106 to 112) everything in view is exchanged: there a key picture is no harm."""
    clip = BuiltinClip()
    start = 60
    slots = [start + at for at in found(resize(clip.picture(slot), 128, 128) for slot in range(start, 200))]
    assert [slot for slot in slots if not 106 <= slot <= 112] == list(clip.cut_slots)
    assert len(slots) <= 3


def test_the_first_picture_is_no_cut() -> None:
    assert found([textured(1)]) == []


def test_a_cut_between_still_scenes_is_found_at_once() -> None:
    assert found([textured(1)] * 5 + [textured(2)] * 5 + [textured(1)] * 3) == [5, 10]


@pytest.mark.parametrize("noise", [1, 4])
def test_noise_is_no_cut(noise: int) -> None:
    generator = np.random.default_rng(3)
    still = textured(1)

    def noisy(plane: Plane) -> Plane:
        wide = plane + generator.integers(-noise, noise + 1, plane.shape)
        return np.clip(wide, 0, 255).astype(np.uint8)

    pictures = [Picture(*map(noisy, still.planes)) for _ in range(20)]
    assert found(pictures) == []


def test_a_fade_and_a_pan_are_no_cuts() -> None:
    assert found(textured(1, gain=1 - 0.04 * k) for k in range(20)) == []
    assert found(textured(1, shift=2 * k) for k in range(20)) == []


def test_a_change_of_light_without_a_change_of_structure_is_no_cut() -> None:
    dim = [textured(1, gain=0.6)] * 6
    assert found(dim + [textured(1, gain=1.0)] * 6) == []


def test_flat_pictures_are_survived() -> None:
    assert found([flat(0), flat(0), flat(128), flat(255)]) in ([], [2], [3], [2, 3])

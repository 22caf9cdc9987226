"""Whether two pictures show one scene: what movement, light and noise leave alike, and a new scene does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.colour import resize
from common.likeness import (
    BLANK_IN_THE_DARK,
    CHANGE,
    DETAIL,
    LAYOUT,
    PALETTE,
    TRACE,
    Look,
    belongs,
    change_between,
    likeness,
    look_of,
    same_scene,
    unrest,
)
from common.types import Picture
from sender.clip import BuiltinClip

SIDE = 128


@pytest.fixture(scope="module")
def scenes() -> tuple[Picture, Picture]:
    """One picture each of two scenes."""
    clip = BuiltinClip()
    first, second = (resize(clip.picture(slot), SIDE, SIDE) for slot in (20, 180))
    return first, second


def random_picture(seed: int, side: int = 64) -> Picture:
    rng = np.random.default_rng(seed)
    coarse = (rng.integers(0, 256, (8, 8), dtype=np.uint8) for _ in range(3))
    planes = (
        plane.repeat(side // 8 // k, 0).repeat(side // 8 // k, 1)
        for plane, k in zip(coarse, (1, 2, 2), strict=True)
    )
    return Picture(*planes)


def lit(picture: Picture, gain: float) -> Picture:
    luma = np.clip(np.rint(picture.y * gain), 0, 255).astype(np.uint8)
    return Picture(luma, picture.u, picture.v)


def panned(picture: Picture, samples: int) -> Picture:
    """What is beyond the edge comes into view once more."""
    return Picture(
        *(np.roll(plane, samples // k, 1) for plane, k in zip(picture.planes, (1, 2, 2), strict=True))
    )


def barred(picture: Picture, rows: int) -> Picture:
    planes = [plane.copy() for plane in picture.planes]
    for plane, k, black in zip(planes, (1, 2, 2), (16, 128, 128), strict=True):
        plane[: rows // k] = plane[-(rows // k) :] = black
    return Picture(*planes)


def test_a_new_scene_keeps_nothing(scenes: tuple[Picture, Picture]) -> None:
    first, second = map(look_of, scenes)
    alike = likeness(first, second)
    assert alike.change > CHANGE and alike.layout < LAYOUT
    assert alike.detail < DETAIL and alike.palette > PALETTE
    assert not same_scene(first, second)


def test_light_keeps_layout_and_detail(scenes: tuple[Picture, Picture]) -> None:
    first, dim = look_of(scenes[0]), look_of(lit(scenes[0], 0.5))
    assert likeness(first, dim).change > CHANGE
    assert likeness(first, dim).layout > 0.95 and likeness(first, dim).detail > 0.9
    assert same_scene(first, dim)


def test_movement_takes_the_detail_along(scenes: tuple[Picture, Picture]) -> None:
    first, moved = look_of(scenes[0]), look_of(panned(scenes[0], 36))
    assert likeness(first, moved).detail > 0.8 and likeness(first, moved).palette < 0.01
    assert same_scene(first, moved)


def test_black_bars_are_no_part_of_the_scene(scenes: tuple[Picture, Picture]) -> None:
    """Two films of the same shape have them in common, and nothing else."""
    first, second = (look_of(barred(scene, 24)) for scene in scenes)
    assert first.inside == second.inside != (0, 32, 0, 32)
    assert not same_scene(first, second)


def test_nothing_to_see_is_said() -> None:
    flat = Picture(*(np.full(side, 128, np.uint8) for side in ((64, 64), (32, 32), (32, 32))))
    assert look_of(flat).blank
    dark = lit(random_picture(1), 0.08)
    assert look_of(dark).contrast < BLANK_IN_THE_DARK and look_of(dark).blank
    assert not look_of(random_picture(1)).blank


@settings(max_examples=30)
@given(st.integers(1, 50), st.integers(51, 99))
def test_likeness_is_symmetric_and_within_its_limits(one: int, other: int) -> None:
    a, b = look_of(random_picture(one)), look_of(random_picture(other))
    assert likeness(a, b) == pytest.approx(likeness(b, a), abs=1e-4)
    alike = likeness(a, b)
    assert 0 <= alike.change <= 255 and 0 <= alike.palette <= 2
    assert -1.001 <= alike.layout <= 1.001 and -1.001 <= alike.detail <= 1.001
    assert same_scene(a, b) == same_scene(b, a)


@given(st.integers(1, 99))
def test_a_picture_is_like_itself_and_its_copies_of_other_sizes(seed: int) -> None:
    small, large = look_of(random_picture(seed, 64)), look_of(random_picture(seed, 256))
    assert same_scene(small, small) and same_scene(small, large)
    assert likeness(small, large).change == 0


def test_a_look_is_small(scenes: tuple[Picture, Picture]) -> None:
    look = look_of(scenes[0])
    assert isinstance(look, Look) and look.planes.nbytes + look.coarse.nbytes < 7_000


# --- what changed just before -------------------------------------------------------------------------------------


def overlaid(seed: int, share: float) -> Look:
    """A picture of which so much is another for each seed, and the rest the same."""
    planes = (
        np.rint((1 - share) * a + share * b.astype(np.float64)).astype(np.uint8)
        for a, b in zip(random_picture(1).planes, random_picture(seed).planes, strict=True)
    )
    return look_of(Picture(*planes))


def test_where_as_much_changes_anyway_a_change_is_no_news() -> None:
    """Each picture leaves some detail of those before, less than a scene in which little moves would."""
    restless = [overlaid(seed, 0.7) for seed in range(2, 9)]
    now = restless[-1]
    assert TRACE < max(likeness(before, now).detail for before in restless[:-1]) < DETAIL
    assert belongs(restless[:-1], now)
    assert not belongs([restless[0]] * 6, now)


def test_a_film_that_shows_pictures_twice_moves_all_the_same() -> None:
    """Every other change is none: the one before says little of whether things move."""
    steps = [look_of(panned(random_picture(1), 16 * (k // 2))) for k in range(8)]
    assert change_between(steps[5], steps[6]) > CHANGE and change_between(steps[4], steps[5]) == 0
    assert belongs(steps[:6], steps[6])


def test_unrest_is_the_greatest_change_before_over_the_one_now() -> None:
    looks = [overlaid(seed, share) for seed, share in ((1, 0.0), (2, 0.2), (2, 0.6), (2, 0.8))]
    *recent, now = looks
    assert unrest(recent[:1], now) is None
    assert unrest(recent, now) == pytest.approx(2.0, rel=0.05)
    assert unrest(recent[::-1], recent[0]) == math.inf

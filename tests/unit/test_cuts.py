"""The sender's cut detector: finds new scenes at once, and neither movement, light nor noise is one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.effects import Flash, Whip
from benchmarks.scenes import BLACK, Join, Reel, Shot, Take
from common.colour import resize
from common.types import Picture, Plane
from sender.clip import BuiltinClip
from sender.cuts import LEAST_GAP, CutState, detect_cut

LONGEST_FLASH = 4


def found(pictures: Iterable[Picture]) -> list[int]:
    state, cuts = CutState(), []
    for slot, picture in enumerate(pictures):
        cut, state = detect_cut(state, picture)
        if cut:
            cuts.append(slot)
    return cuts


def last_state(pictures: Iterable[Picture]) -> CutState:
    state = CutState()
    for picture in pictures:
        _, state = detect_cut(state, picture)
    return state


def flat(level: int) -> Picture:
    return Picture(*(np.full(size, level, np.uint8) for size in ((64, 64), (32, 32), (32, 32))))


@cache
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


def film(scenes: Sequence[tuple[int, int]]) -> list[Picture]:
    """(scene, pictures) in order; a scene looks the same each time, and moves."""
    return [textured(scene, shift=age) for scene, length in scenes for age in range(length)]


def flipped(picture: Picture) -> Picture:
    return Picture(*(np.ascontiguousarray(plane[:, ::-1]) for plane in picture.planes))


def panned(picture: Picture, samples: int) -> Picture:
    """What goes out of it comes in on the other side."""
    return Picture(
        *(np.roll(plane, samples // k, 1) for plane, k in zip(picture.planes, (1, 2, 2), strict=True))
    )


def lit(picture: Picture, share: float) -> Picture:
    """On its way from black."""
    planes = (
        np.rint(black + share * (plane - np.float64(black))).astype(np.uint8)
        for plane, black in zip(picture.planes, (BLACK, 128, 128), strict=True)
    )
    return Picture(*planes)


films = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=5).map(film)


# --- cuts ---------------------------------------------------------------------------------------------------------


def test_the_cuts_of_the_built_in_clip_are_found_and_nothing_else() -> None:
    """It also has a whip pan (slots 106 to 112), a zoom and speech."""
    clip = BuiltinClip()
    pictures = (resize(clip.picture(slot), 128, 128) for slot in range(60, 160))
    assert tuple(60 + at for at in found(pictures)) == clip.cut_slots


def test_the_first_picture_is_no_cut() -> None:
    assert found([textured(1)]) == []


def test_a_cut_between_still_scenes_is_found_at_once() -> None:
    assert found([textured(1)] * 5 + [textured(2)] * 7 + [textured(1)] * 3) == [5, 12]


def test_scenes_of_one_palette_are_told_apart_where_nothing_moved() -> None:
    """As in a film without colours."""
    other = Picture(*(np.ascontiguousarray(plane.T) for plane in textured(1).planes))
    assert found([textured(1)] * 5 + [other] * 7) == [5]


def test_a_scene_that_follows_too_soon_is_announced_once_there_has_been_time() -> None:
    assert found([textured(1)] * 5 + [textured(2)] * 2 + [textured(3)] * 9) == [5, 5 + LEAST_GAP]


def test_the_scene_behind_a_cross_fade_is_found_when_it_is_there() -> None:
    old, new = BuiltinClip().picture(30), BuiltinClip().picture(180)
    takes = tuple(Take(Shot("", (picture,)), 0, 40) for picture in (old, new))
    reel = Reel("fade", takes, (Join("cross-fade", 16),))
    (event,) = reel.events
    (at,) = found(resize(picture, 128, 128) for picture in reel)
    assert event.seen <= at <= event.last + LEAST_GAP


@pytest.mark.parametrize("dark", [1, 8, 30])
def test_a_scene_that_comes_out_of_the_dark_is_another_one(dark: int) -> None:
    assert len(found([textured(1)] * 9 + [flat(BLACK)] * dark + [textured(2)] * 9)) == 1
    assert found([textured(1)] * 9 + [flat(BLACK)] * dark + [textured(1)] * 9) == []


def test_a_scene_that_moves_as_it_comes_out_of_the_dark_is_one() -> None:
    """Light that changes leaves less of the detail, and nothing of the palette, of what moves besides."""
    still = resize(BuiltinClip().picture(180), 128, 128)
    rising = [lit(panned(still, 9 * k), k / 9) for k in range(1, 10)]
    assert len(found([textured(1)] * 9 + [flat(BLACK)] * 9 + rising + rising[-1:] * 9)) == 1


# --- what is no cut -----------------------------------------------------------------------------------------------


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
    assert found([flat(0), flat(0), flat(128), flat(255)]) == []


def test_a_whip_pan_is_no_cut() -> None:
    still = resize(BuiltinClip().picture(20), 128, 128)
    whip = Whip(10, 8, 0.9, 0.05)
    assert found(whip.apply(still, index) for index in range(30)) == []


@settings(max_examples=25)
@given(
    length=st.integers(1, LONGEST_FLASH),
    power=st.floats(0.2, 1.0),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    scene=st.integers(1, 9),
)
def test_a_flash_is_no_cut(length: int, power: float, place: tuple[float, float], scene: int) -> None:
    flash = Flash(8, (power,) * length, *place)
    assert found(flash.apply(textured(scene), index) for index in range(20)) == []


@given(st.integers(1, LONGEST_FLASH))
def test_white_pictures_are_no_cut(length: int) -> None:
    assert found([textured(1)] * 8 + [flat(235)] * length + [textured(1)] * 8) == []


# --- what always holds --------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(films)
def test_cuts_keep_their_distance_and_the_memory_stays_small(pictures: list[Picture]) -> None:
    cuts = found(pictures)
    assert all(later - earlier >= LEAST_GAP for earlier, later in pairwise(cuts))
    state = last_state(pictures)
    looks = [*state.recent, state.hidden, state.fade.origin if state.fade else None]
    assert sum(look.planes.nbytes + look.coarse.nbytes for look in looks if look is not None) < 70_000


@settings(max_examples=25)
@given(st.lists(st.integers(LEAST_GAP, 12), min_size=1, max_size=5))
def test_every_scene_of_some_length_is_found(lengths: list[int]) -> None:
    """Scenes in turn, still ones, each unlike the one before."""
    pictures = [textured(1 + scene % 3) for scene, length in enumerate(lengths) for _ in range(length)]
    assert found(pictures) == [int(slot) for slot in np.cumsum(lengths)[:-1]]


@settings(max_examples=25)
@given(films)
def test_a_mirror_shows_the_same_cuts(pictures: list[Picture]) -> None:
    assert found(map(flipped, pictures)) == found(pictures)


@settings(max_examples=25)
@given(films)
def test_the_size_does_not_matter(pictures: list[Picture]) -> None:
    doubled = (
        Picture(*(plane.repeat(2, 0).repeat(2, 1) for plane in picture.planes)) for picture in pictures
    )
    assert found(doubled) == found(pictures)


@settings(max_examples=25)
@given(films)
def test_pictures_that_come_again_begin_nothing(pictures: list[Picture]) -> None:
    """The last picture once more, for as long as one likes: at most what was owed is announced."""
    before = found(pictures)
    assert len(found([*pictures, *[pictures[-1]] * 30])) <= len(before) + 1


# --- no anchors of what is over at once ---------------------------------------------------------------------------


def test_a_flash_and_a_whip_pan_pass() -> None:
    still = resize(BuiltinClip().picture(20), 128, 128)
    for effect in (Flash(8, (0.9, 0.6), 0.4, 0.3), Whip(8, 6, 0.9, 0.0)):
        pictures = [effect.apply(still, index) for index in range(30)]
        assert not last_state(pictures[:8]).passing
        assert last_state(pictures[:10]).passing
        assert not last_state(pictures).passing


def test_the_newest_change_is_known() -> None:
    assert math.isinf(last_state([textured(1)]).change)
    assert last_state([textured(1)] * 3).change == 0
    dimmed = last_state([textured(1), textured(1, gain=0.95)])
    assert 0 < dimmed.change < last_state([textured(1), textured(1, gain=0.9)]).change < math.inf


def test_black_passes_and_a_new_scene_does_not() -> None:
    assert not CutState().passing
    assert last_state([textured(1)] * 6 + [flat(BLACK)] * 3).passing
    assert not last_state([textured(1)] * 6 + [textured(2)]).passing

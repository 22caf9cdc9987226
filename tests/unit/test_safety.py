"""The base picture where the decoder contradicts the guide: only there, between the two, without seams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.types import Picture, Plane
from receiver.safety import BEGINS, COMPLETE, distance, doubt_of, mixed, take_back, weights_of
from receiver.uncertainty import Cells

SIDE = 128
CELLS = (SIDE // 8, SIDE // 8)


def picture(value: int = 120) -> Picture:
    return Picture(*(np.full((SIDE // k, SIDE // k), value, np.uint8) for k in (1, 2, 2)))


def with_patch(value: int, top: int = 48, left: int = 64, side: int = 32) -> Picture:
    whole = picture()
    y = whole.y.copy()
    y[top : top + side, left : left + side] = value
    return Picture(y, whole.u, whole.v)


def doubt(steps: float) -> Cells:
    return np.full(CELLS, steps, np.float32)


def cells(seed: int, most: float) -> Cells:
    return (np.random.default_rng(seed).random(CELLS) * most).astype(np.float32)


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_an_invented_object_is_taken_back(scale: int) -> None:
    found = take_back(with_patch(200), picture(), picture(), doubt(4), scale)
    assert np.abs(found.picture.y.astype(int) - 120).max() < 30
    assert 0 < found.share < 0.3


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_what_is_within_its_own_doubt_stays(scale: int) -> None:
    output = with_patch(123)
    found = take_back(output, picture(), picture(), doubt(4), scale)
    assert found.picture is output and found.share == 0.0


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("at", [(0, 0), (48, 72), (96, 96), (8, 96)])
def test_it_is_the_same_wherever_it_is(at: tuple[int, int], scale: int) -> None:
    """Only the surroundings of what is taken back are looked at again; the rest stays as it was."""
    output = with_patch(200, *at)
    found = take_back(output, picture(), picture(), doubt(4), scale)
    received = distance(output, picture(), scale)
    weights = weights_of(received, received * 0, doubt(4))
    for plane, expected in zip(found.picture.planes, mixed(output, picture(), weights).planes, strict=True):
        assert np.array_equal(plane, expected)


def test_fine_detail_that_the_guide_cannot_carry_stays() -> None:
    output = picture()
    output.y[::2] += 40
    output.y[1::2] -= 40
    found = take_back(output, picture(), picture(), doubt(4), 4)
    assert found.picture is output


def test_a_wrong_colour_is_taken_back_too() -> None:
    output = picture()
    output.u[16:32, 16:32] = 190
    found = take_back(output, picture(), picture(), doubt(4), 2)
    assert np.abs(found.picture.u.astype(int) - 120).max() < 30


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_known_noise_of_the_guide_is_no_contradiction(scale: int) -> None:
    rng = np.random.default_rng(0)
    noisy = Picture(*(_noisy(rng, SIDE // k, scale) for k in (1, 2, 2)))
    assert take_back(picture(), noisy, noisy, doubt(2), scale).share > 0.5
    assert doubt_of(doubt(2), None).tolist() == doubt(2).tolist()
    assert take_back(picture(), noisy, noisy, doubt_of(doubt(2), doubt(16)), scale).share == 0.0


def _noisy(rng: np.random.Generator, side: int, scale: int) -> Plane:
    """120 with noise of 16 steps on the grid of the guide."""
    coarse = 120 + rng.normal(0, 16, (side // scale, side // scale))
    return np.kron(np.clip(np.rint(coarse), 0, 255), np.ones((scale, scale))).astype(np.uint8)


def test_where_the_base_picture_is_no_better_nothing_is_taken_back() -> None:
    """An anchor's mistake is in both."""
    wrong = with_patch(200)
    assert take_back(wrong, wrong, picture(), doubt(4), 4).picture is wrong


@given(st.integers(0, 1000), st.floats(0.5, 30.0))
def test_cells_within_their_doubt_and_apart_from_others_are_not_touched(seed: int, sure: float) -> None:
    before, aim, unsure = cells(seed, 30), cells(seed + 1, 30), cells(seed + 2, sure)
    weights = weights_of(before, aim, unsure)
    assert weights.min() >= 0 and weights.max() <= 1
    core = (before - aim) / (unsure + 1) > BEGINS
    near = np.zeros((CELLS[0] + 4, CELLS[1] + 4), bool)
    for down in range(5):
        for right in range(5):
            near[down : down + CELLS[0], right : right + CELLS[1]] |= core
    assert np.all(weights[~near[2:-2, 2:-2]] == 0)
    assert np.all(weights[before < aim] == 0)


@given(st.integers(0, 1000), st.floats(0.0, 10.0))
def test_more_doubt_never_takes_back_more(seed: int, more: float) -> None:
    before, aim, unsure = cells(seed, 30), cells(seed + 1, 30), cells(seed + 2, 10)
    assert np.all(
        weights_of(before, aim, unsure + np.float32(more)) <= weights_of(before, aim, unsure) + 1e-6
    )


@given(st.integers(0, 1000), st.floats(0.2, 10.0), st.sampled_from([1, 2, 4, 8]))
def test_the_picture_is_between_both_and_no_further_from_the_guide(
    seed: int, sure: float, scale: int
) -> None:
    rng = np.random.default_rng(seed)
    output, base, guide = (
        Picture(*(_smooth(rng, SIDE // k) for k in (1, 2, 2))) for _ in range(3)
    )  # fmt: skip
    found = take_back(output, base, guide, doubt(sure), scale)
    for plane, one, other in zip(found.picture.planes, output.planes, base.planes, strict=True):
        assert np.all(plane >= np.minimum(one, other)) and np.all(plane <= np.maximum(one, other))
    assert distance(found.picture, guide, scale).mean() <= distance(output, guide, scale).mean() + 1e-6


def _smooth(rng: np.random.Generator, side: int) -> Plane:
    coarse = rng.integers(60, 200, (side // 16, side // 16))
    return np.kron(coarse, np.ones((16, 16))).astype(np.uint8)


def test_complete_contradiction_leaves_the_base_picture() -> None:
    weights = weights_of(doubt(50), doubt(0), doubt(50 / COMPLETE - 1))
    assert np.all(weights == 1)
    assert np.array_equal(mixed(picture(200), picture(100), weights).y, picture(100).y)


def test_nothing_shows_a_seam() -> None:
    """Across the border of what is taken back no two neighbours differ by more than a slope over a cell allows."""
    output, base = picture(160), picture(100)
    weights = np.zeros(CELLS, np.float32)
    weights[4:8, 4:8] = 1
    found = mixed(output, base, weights)
    steps = (
        np.abs(np.diff(found.y.astype(int), axis=0)).max(),
        np.abs(np.diff(found.y.astype(int), axis=1)).max(),
    )
    assert max(steps) <= 60 / 8 + 1

"""How well maps tell the errors that were made, added up over pictures."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.honesty import EVERY, Tally, cell_error
from common.quality import ause, ause_of_constant
from common.types import Picture
from receiver.uncertainty import Map

CHROMA = np.full((8, 16), 128, np.uint8)


def picture(off: tuple[int, ...] = ()) -> Picture:
    """2 x 4 cells, of which the first ones are so many steps off."""
    y = np.full((16, 32), 100, np.uint8)
    for cell, steps in enumerate(off):
        y[:8, 8 * cell : 8 * cell + 8] += np.uint8(steps)
    return Picture(y, CHROMA, CHROMA)


def stated(steps: float) -> Map:
    return np.full((2, 4), round(4 * steps), np.uint8)


def test_errors_are_those_of_whole_cells() -> None:
    found = cell_error(picture(), picture((10, 3)))
    assert found.tolist() == [[10, 3, 0, 0], [0, 0, 0, 0]]
    narrow = Picture(picture().y[:14, :30], CHROMA[:7, :15], CHROMA[:7, :15])
    assert cell_error(narrow, picture((10,))).tolist() == [[10, 0, 0]]


def test_coverage_is_the_part_within_the_interval() -> None:
    low, high = Tally(), Tally()
    low.add(
        "base", picture(), picture((10,)), stated(5), 0.0
    )  # one of eight cells is off by more than 1.645 * 5
    high.add("base", picture(), picture((10,)), stated(10), 0.0)
    assert low.uncertainty().coverage90 == pytest.approx(7 / 8)
    assert high.uncertainty().coverage90 == 1.0


def test_levels_are_told_apart_and_added_up() -> None:
    tally = Tally()
    for number in range(2 * EVERY):
        level = "base" if number < EVERY else "hold"
        tally.add(level, picture(), picture((10,)), stated(5 if level == "base" else 20), 0.0)
    found = tally.uncertainty()
    assert {level: one.coverage90 for level, one in found.levels.items()} == {"base": 7 / 8, "hold": 1.0}
    assert found.coverage90 == pytest.approx(15 / 16)
    assert found.steps == pytest.approx(12.5) and found.mean == pytest.approx(12.5 * 4 / 255)


def test_a_map_that_knows_has_no_sparsification_error() -> None:
    tally, knowing = Tally(), stated(1)
    knowing[0, 0] = 40
    tally.add("base", picture(), picture((10,)), knowing, 0.0)
    found = tally.uncertainty()
    assert found.ause == pytest.approx(0.0, abs=1e-6) and found.ause_constant is not None
    assert found.ause_constant > 0.3


def test_a_constant_map_has_the_error_of_any_order() -> None:
    rng = np.random.default_rng(0)
    error = rng.gamma(1.0, 5.0, 20_000)
    anyhow = np.mean([ause(error, rng.random(error.shape)) for _ in range(4)])
    assert ause_of_constant(error) == pytest.approx(anyhow, rel=0.02)
    assert ause_of_constant(np.zeros(9)) == 0.0


def test_pictures_without_a_map_are_left_out_and_what_was_taken_back_is_counted() -> None:
    tally = Tally()
    assert tally.uncertainty().coverage90 is None and tally.safety().pictures == 0
    tally.add("hold", picture(), picture(), None, 0.0)
    tally.add("bridge1", picture(), picture(), stated(1), 0.5)
    assert tally.uncertainty().levels.keys() == {"bridge1"}
    found = tally.safety()
    assert (found.pictures, found.mean, found.most) == (1, 0.25, 0.5)

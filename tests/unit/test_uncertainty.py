"""Calibrations and what is made of them: monotone, within range, and more doubt the longer nothing comes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import WeightsError
from common.state import Composition
from common.types import Picture
from receiver.decoder.conditions import FrameFacts
from receiver.gauge import Gauge
from receiver.painter import BasePainter
from receiver.uncertainty import (
    ASSET,
    BYTES_PER_STEP,
    LEAST_STEPS,
    UNITS,
    Calibration,
    Calibrations,
    Cells,
    as_map,
    as_text,
    in_steps,
    of_base,
    of_carried,
    of_guide,
    of_held,
    of_network,
    parsed,
    score,
    strength,
)

SIDE, CELLS = 64, (8, 8)
FACTS = FrameFacts(slot=5, guide_scale=4, guide_q=200, anchor_age_s=2.0, shows=5, due=5)
STEPS = st.floats(0.0, 300.0, width=32)


def scene(seed: int = 1, anchor: bool = True, received: bool = False) -> Composition:
    rng = np.random.default_rng(seed)
    base, warped, guide = (
        Picture(*(rng.integers(60, 200, (SIDE // k, SIDE // k)).astype(np.uint8) for k in (1, 2, 2)))
        for _ in range(3)
    )
    trust = np.full(CELLS, 180, np.uint8)
    cells = np.full((SIDE // 16, SIDE // 16), int(received), np.uint8)
    return Composition(base, warped if anchor else None, guide, trust, cells, cells * 0)


def flat(value: float) -> Cells:
    return np.full(CELLS, value, np.float32)


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    names = draw(st.lists(st.sampled_from(sorted(UNITS)), min_size=1, max_size=5, unique=True))
    weights = {name: draw(st.floats(0.0, 3.0)) for name in names}
    scores = sorted(draw(st.lists(st.floats(-5.0, 20.0), min_size=1, max_size=8, unique=True)))
    steps = sorted(draw(st.lists(st.floats(LEAST_STEPS, 80.0), min_size=len(scores), max_size=len(scores))))
    return Calibration(weights, tuple(scores), tuple(steps))


# --- calibration --------------------------------------------------------------------------------------------------


@given(calibrations(), st.data())
def test_more_of_any_evidence_never_means_less_doubt(calibration: Calibration, data: st.DataObject) -> None:
    evidence = {name: np.float32(data.draw(STEPS)) for name in calibration.weights}
    name = data.draw(st.sampled_from(sorted(evidence)))
    more = {**evidence, name: evidence[name] + np.float32(data.draw(STEPS))}
    assert calibration.expected(more) >= calibration.expected(evidence)


@given(calibrations(), st.data())
def test_the_error_expected_is_within_the_table(calibration: Calibration, data: st.DataObject) -> None:
    found = calibration.expected({name: np.float32(data.draw(STEPS)) for name in calibration.weights})
    assert calibration.steps[0] * 0.999 <= found <= calibration.steps[-1] * 1.001


@given(st.lists(st.floats(0.0, 1000.0, width=32), min_size=1, max_size=20))
def test_a_map_is_within_range_and_keeps_the_order(values: list[float]) -> None:
    steps = np.sort(np.array([values], np.float32))
    found = as_map(steps)
    assert found.dtype == np.uint8 and found.min() >= 1
    assert np.all(np.diff(found.astype(int)) >= 0)
    inside = (steps >= LEAST_STEPS) & (steps <= 255 / BYTES_PER_STEP)
    assert np.all(np.abs(in_steps(found) - steps)[inside] <= 0.5 / BYTES_PER_STEP + 1e-6)


@pytest.mark.parametrize(
    ("weights", "scores", "steps"),
    [
        ({"texture": -0.1}, (0.0, 1.0), (1.0, 2.0)),
        ({"texture": 1.0}, (0.0, 1.0), (2.0, 1.0)),
        ({"texture": 1.0}, (1.0, 1.0), (1.0, 2.0)),
        ({"texture": 1.0}, (0.0,), (1.0, 2.0)),
        ({"texture": 1.0}, (), ()),
        ({"gossip": 1.0}, (0.0,), (1.0,)),
        ({"texture": float("nan")}, (0.0,), (1.0,)),
        ({"texture": 1.0}, (0.0,), (LEAST_STEPS / 2,)),
    ],
)
def test_what_is_not_monotone_is_no_calibration(
    weights: dict[str, float], scores: tuple[float, ...], steps: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="never falls"):
        Calibration(weights, scores, steps)


@given(calibrations(), calibrations())
def test_calibrations_survive_as_text(one: Calibration, other: Calibration) -> None:
    both = Calibrations({"base": one, "network": other})
    assert parsed(as_text(both), "here") == both


@pytest.mark.parametrize(
    "text", ["", "[]", '{"base": {}}', '{"base": {"weights": {}, "scores": [1], "steps": [0]}}']
)
def test_a_damaged_calibration_is_one_clear_line(text: str) -> None:
    with pytest.raises(WeightsError, match="tiny is damaged: run `semcast train calibrate`"):
        parsed(text, "tiny")


def test_what_every_receiver_needs_is_shipped() -> None:
    assert {"base", "guide", "held"} <= Calibrations.shipped().of.keys(), ASSET


def test_a_network_without_calibration_is_taken_at_its_word() -> None:
    nobody = Calibrations({})
    head = np.array([[0.0, 3.0]], np.float32)
    assert nobody.expected("network", {"head": head}).tolist() == [[LEAST_STEPS, 3.0]]
    assert nobody.expected("carried", {"painted": head}).tolist() == [[LEAST_STEPS, 3.0]]


def test_the_second_of_two_comes_first() -> None:
    low, high = (Calibration({"texture": 0.0}, (0.0,), (value,)) for value in (1.0, 2.0))
    joined = Calibrations({"base": low, "guide": low}).joined(Calibrations({"base": high}))
    assert (joined.of["base"], joined.of["guide"]) == (high, low)


# --- evidence -----------------------------------------------------------------------------------------------------


def test_all_evidence_is_known_and_none_is_negative() -> None:
    for composition in (scene(), scene(anchor=False)):
        base = of_base(composition, FACTS)
        every = (
            base, of_guide(composition, FACTS), of_network(base, flat(1), flat(0.1), flat(2)),
            of_carried(base, flat(1), flat(2)), of_held(flat(2), 3, flat(1)),
        )  # fmt: skip
        for evidence in every:
            for name, value in evidence.items():
                assert np.min(strength(name, value)) >= 0
    assert of_base(composition, FACTS)["no anchor"] == 1.0


def test_received_residual_is_no_evidence() -> None:
    assert np.all(np.asarray(of_base(scene(received=True), FACTS)["no residual"]) == 0)
    assert np.all(np.asarray(of_base(scene(), FACTS)["no residual"]) == 1)


def test_an_anchor_that_contradicts_the_guide_is_evidence() -> None:
    agreeing = scene()
    agreeing = replace(agreeing, warped=agreeing.guide)
    before, after = (of_base(one, FACTS)["contradiction"] for one in (agreeing, scene()))
    assert np.all(np.asarray(before) == 0) and np.mean(after) > 0


# --- in use -------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 90), min_size=2, max_size=6))
def test_the_longer_nothing_comes_the_more_doubt(waits: list[int]) -> None:
    gauge = Gauge()
    gauge.plain("base", scene(1), replace(FACTS, shows=4, due=4))
    gauge.plain("base", scene(2), FACTS)
    maps = [gauge.held_at(FACTS.shows + wait) for wait in sorted(waits)]
    for sooner, later in pairwise(maps):
        assert sooner is not None and later is not None and np.all(sooner <= later)


@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from(["base", "guide"]))
def test_the_later_a_picture_is_shown_the_more_doubt(few: int, more: int, level: str) -> None:
    found = [
        Gauge().plain(level, scene(), replace(FACTS, due=FACTS.shows + late))[1] for late in (few, few + more)
    ]
    assert np.all(found[0] <= found[1])


@given(st.floats(0, 40), st.floats(0, 40))
def test_more_noise_of_the_link_never_means_less_doubt(noise: float, more: float) -> None:
    maps = [
        Gauge().plain("base", replace(scene(), noise=flat(deviation)), FACTS)[1]
        for deviation in (noise, noise + more)
    ]
    assert np.all(maps[0] <= maps[1])
    assert np.all(maps[1] >= min(255, round((noise + more) * BYTES_PER_STEP)))


def test_a_picture_comes_and_the_doubt_is_gone() -> None:
    painter = BasePainter()
    before = painter.render(scene(1), replace(FACTS, shows=4, due=4), "base", lambda: False).uncertainty
    during = painter.held_map(40)
    after = painter.render(scene(1), replace(FACTS, shows=41, due=41), "base", lambda: False).uncertainty
    found = [score(one) for one in (before, during, after)]
    assert found[0] is not None and found[1] is not None and found[2] is not None
    assert found[1] > found[0] and found[2] < found[1]


def test_nothing_is_said_before_the_first_picture_and_after_a_reset() -> None:
    painter = BasePainter()
    assert painter.held_map(3) is None and score(None) is None
    painter.render(scene(), FACTS, "guide", lambda: False)
    assert painter.held_map(6) is not None
    painter.reset()
    assert painter.held_map(6) is None


def test_every_level_says_how_wrong_it_may_be() -> None:
    painter = BasePainter()
    for level in painter.levels:
        found = painter.render(scene(), FACTS, level, lambda: False).uncertainty
        assert found is not None and found.shape == CELLS and found.dtype == np.uint8

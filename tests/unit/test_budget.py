"""Which level a receiver paints at: what levels are worth, what fits, giving up on the way; and the playout clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import VirtualClock
from common.config import ReceiverSettings
from common.deadline import HOLD_S, CostModel
from common.state import Composition
from common.types import Picture
from common.units import StreamConfig
from common.wire import pack_config
from receiver.budget import GAINS, STEPS, LevelPlanner, Pace, Stopper, Way, best_of, ways_of, worth_at
from receiver.decoder.conditions import FrameFacts
from receiver.decoder.synth import LEVELS, Painted
from receiver.jitter import Playout
from receiver.pipeline import ReceiverSession, prime
from tests.small_stream import STREAM, open_session, record

SIZE = (128, 128)
COSTS_MS = {
    "hold": 0.2,
    "guide": 1.0,
    "base": 2.0,
    "carry": 3.0,
    "bridge1": 28.0,
    "bridge2": 56.0,
    "bridge4": 112.0,
}

scales = st.sampled_from(sorted(GAINS))
changes = st.none() | st.floats(0, 255)
least_gains = st.floats(0, 10)


# --- what levels are worth ----------------------------------------------------------------------------------------


@given(scales, changes, least_gains)
def test_every_level_is_worth_something_and_the_base_picture_is_the_least_of_pictures(
    scale: int, change: float | None, least_gain: float
) -> None:
    worth = worth_at(LEVELS, scale, change, least_gain)
    assert tuple(worth) == LEVELS
    assert worth["hold"] < worth["guide"] < worth["base"] == 0.0
    assert best_of(worth) in ("base", "carry", "bridge1")


@given(scales, st.floats(0, 255), st.floats(0, 255), least_gains)
def test_the_more_has_changed_the_sooner_a_step_is_spent(
    scale: int, change: float, more: float, least_gain: float
) -> None:
    order = {"carry": 0, "base": 0, "bridge1": 1}
    before, after = (best_of(worth_at(LEVELS, scale, value, least_gain)) for value in (change, change + more))
    assert order[after] >= order[before]


@given(st.floats(0, 255), least_gains, st.floats(0, 10))
def test_a_higher_price_never_means_more_steps(change: float, least_gain: float, more: float) -> None:
    for scale in GAINS:
        cheap, dear = (
            best_of(worth_at(LEVELS, scale, change, price)) for price in (least_gain, least_gain + more)
        )
        assert STEPS.get(dear, 0) <= STEPS.get(cheap, 0)


def test_with_no_price_every_picture_is_painted_and_without_detail_none_is_carried() -> None:
    assert best_of(worth_at(LEVELS, 2, 0.5, 0.0)) == "bridge1"
    assert best_of(worth_at(LEVELS, 2, None, 100.0)) == "base"
    hopeful = worth_at(LEVELS, 2, None, 0.5)
    assert hopeful["carry"] > hopeful["base"], "a step that does not fit may begin"
    assert best_of(worth_at(LEVELS, 2, 0.5, 100.0)) == "carry"


def test_levels_of_the_network_come_with_every_number_of_threads() -> None:
    ways = ways_of(LEVELS, (2, 1))
    assert ways[:4] == tuple(Way(level, 1) for level in LEVELS[:4])
    assert ways[4:6] == (Way("bridge1", 1), Way("bridge1", 2))
    assert LevelPlanner(ways).way("bridge4") == Way("bridge4", 2)


# --- a session on a machine whose speed is told -------------------------------------------------------------------


class Speed:
    """A painter that takes `COSTS_MS` times `slower` on a virtual clock; the network in six parts, which may be given up.

    On two threads a step is twice as fast, and ten times slower while `contended`.
    """

    levels, threads = LEVELS, (1, 2)

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.slower, self.contended, self.count = clock, 1.0, False, 1
        self.held: Picture | None = None
        self.known_change: float | None = 50.0
        self.parts_done = self.spread = 0

    def use_threads(self, count: int) -> None:
        self.count = count

    def change(self, composition: Composition) -> float | None:
        return self.known_change

    def reset(self, seed: int | None = None) -> None:
        self.held = None

    def render(
        self, composition: Composition, facts: FrameFacts, level: str, should_stop: Callable[[], bool]
    ) -> Painted:
        cost_s = COSTS_MS[level] * 1e-3 * self.slower
        if level in STEPS:
            cost_s *= 1.0 if self.count == 1 else 5.0 if self.contended else 0.5
            for _ in range(6):
                if should_stop():
                    return Painted(composition.base, None, 0, carried=True)
                self.pass_time(cost_s / 6)
            return Painted(composition.base, np.zeros((16, 16), np.uint8), STEPS[level])
        self.pass_time(cost_s)
        return Painted(composition.base, None, 0, carried=level == "carry")

    def go_on(self, composition: Composition, facts: FrameFacts, should_stop: Callable[[], bool]) -> None:
        """With a step on one thread."""
        while not should_stop():
            self.pass_time(COSTS_MS["bridge1"] * 1e-3 * self.slower / 6)
            self.parts_done = (self.parts_done + 1) % 6
            self.spread += self.parts_done == 0

    def pass_time(self, seconds: float) -> None:
        self.clock.advance_to(self.clock.now_s() + seconds)


class Stage:
    """A session that paints the same scene again and again, every 40 ms."""

    def __init__(self, **settings: object) -> None:
        self.clock = VirtualClock()
        self.painter = Speed(self.clock)
        chosen = ReceiverSettings.model_validate({"least_gain": 0.5, **settings})
        self.session = ReceiverSession(chosen, self.painter, self.clock)
        first = record(range(1), open_session())
        for unit in first.units:
            self.session.receive(unit.data, 0.0)

    def show(self, frames: int) -> list[tuple[str, bool]]:
        """Level of each picture and whether it was late."""
        seen = []
        for _ in range(frames):
            self.session.shown_slot = -1
            began_s = self.clock.now_s()
            shown = self.session.paint(0)
            seen.append((shown.level, shown.late))
            self.clock.advance_to(max(self.clock.now_s(), began_s + 0.04))
        return seen


def test_on_a_free_machine_every_new_scene_is_painted_on_all_threads() -> None:
    stage = Stage()
    assert stage.show(20) == [("bridge1", False)] * 20
    assert stage.painter.count == 2


def test_settled_pictures_carry_their_detail_over() -> None:
    stage = Stage()
    stage.painter.known_change = 0.2
    assert {level for level, _ in stage.show(10)} == {"carry"}


def test_when_another_process_takes_a_core_one_thread_paints_and_hardly_any_picture_is_late() -> None:
    stage = Stage()
    stage.show(20)
    stage.painter.contended = True
    seen = stage.show(400)
    assert sum(late for _, late in seen) <= 2
    assert sum(level == "bridge1" for level, _ in seen) > 300
    assert stage.painter.count == 1


def test_a_step_that_cannot_be_ready_is_given_up_in_time_and_tried_ever_more_rarely() -> None:
    stage = Stage()
    stage.show(20)
    stage.painter.slower = 4.0
    seen = stage.show(1000)
    assert sum(late for _, late in seen) <= 3
    assert {level for level, _ in seen[10:]} == {"carry"}
    stage.painter.slower = 1.0
    assert stage.show(600)[-1] == ("bridge1", False), "it recovers"


def test_a_step_that_does_not_fit_into_one_picture_is_spread_over_several_and_makes_none_late() -> None:
    stage = Stage()
    stage.show(20)
    stage.painter.slower = 2.0
    stage.painter.contended = True
    seen = stage.show(500)
    assert sum(late for _, late in seen) <= 4, (
        "tries on two threads, of which each part takes longer than there is"
    )
    assert stage.painter.spread > 100, "a step in three or four pictures"


def test_a_pause_of_the_whole_machine_costs_few_pictures_their_detail() -> None:
    stage = Stage()
    stage.painter.known_change = 0.2
    for _ in range(6):
        assert {level for level, _ in stage.show(30)[-15:]} == {"carry"}
        stage.painter.slower = 30.0
        assert stage.show(1)[0][1]
        stage.painter.slower = 1.0


def test_settled_pictures_spread_nothing() -> None:
    stage = Stage()
    stage.painter.known_change = 0.2
    stage.show(20)
    assert stage.painter.spread == stage.painter.parts_done == 0


def test_a_part_that_takes_longer_than_all_the_time_there_is_is_tried_ever_more_rarely() -> None:
    stage = Stage()
    stage.show(20)
    stage.painter.slower = 12.0
    seen = stage.show(1000)
    assert sum(late for _, late in seen) <= 6
    assert {level for level, _ in seen[-100:]} == {"carry"}


def test_fixed_steps_are_taken_whatever_they_take() -> None:
    stage = Stage(steps=4)
    stage.painter.slower = 3.0
    assert stage.show(5) == [("bridge4", True)] * 5


def test_without_a_deadline_nothing_is_late_and_nothing_is_given_up() -> None:
    stage = Stage(budget_ms=None)
    stage.painter.slower = 30.0
    assert stage.show(5) == [("bridge1", False)] * 5


def test_costs_are_of_one_size() -> None:
    stage = Stage()
    before = stage.session.costs
    other = StreamConfig(9, 64, 64, STREAM.frame_rate, STREAM.time_base)
    stage.session.receive(pack_config(other, 0).data, 1.0)
    stage.session.receive(b"anything", 1.0)
    assert stage.session.costs is not before and stage.session.costs.known
    assert stage.session.planner.costs is stage.session.costs


def test_priming_knows_every_way_and_forgets_the_pictures_that_it_took() -> None:
    clock = VirtualClock()
    painter, costs = Speed(clock), CostModel[Way]()
    prime(costs, painter, clock, SIZE)
    found = costs.costs_s()
    assert set(found) == set(ways_of(LEVELS, (1, 2)))
    assert found[Way("bridge1", 1)] == pytest.approx(0.028)
    assert found[Way("bridge4", 2)] == pytest.approx(4 * 0.014)
    assert painter.held is None


def test_it_stops_when_the_rest_does_not_fit_any_more() -> None:
    clock = VirtualClock()
    stopper = Stopper(clock, 0.042, rest_s=0.01)
    assert not stopper()
    clock.advance_to(0.03)
    assert not stopper() and not stopper.stopped
    clock.advance_to(0.033)
    assert stopper() and stopper.stopped
    assert not Stopper(clock, None, rest_s=1.0)()


def test_a_step_that_is_slow_from_its_beginning_is_given_up_before_its_time_is_over() -> None:
    clock, pace = VirtualClock(), Pace((0.0, 0.005, 0.01), 0.015)
    stopper = Stopper(clock, 0.042, 0.005, pace, 0.0)
    assert not stopper()
    clock.advance_to(0.02)
    assert stopper(), "four times as slow: it would take 52 ms"
    assert pace.rest_s(1, 0.006) < 0.012, "a pause is not yet slowness"
    assert Pace().rest_s(0, 1.0) == pace.rest_s(3, 1.0) == 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 1), st.floats(0, 1), st.integers(0, 9))
def test_the_longer_it_has_taken_the_longer_it_will_take(
    parts_s: list[float], elapsed_s: float, more_s: float, question: int
) -> None:
    asked_s = tuple(float(at) for at in np.cumsum(parts_s))
    pace = Pace(asked_s, asked_s[-1] + 0.01)
    assert 0 <= pace.rest_s(question, elapsed_s) <= pace.rest_s(question, elapsed_s + more_s)


def test_a_planner_falls_from_what_was_given_up_for_a_while() -> None:
    planner = LevelPlanner(ways_of(LEVELS, (1,)))
    for way in planner.ways:
        planner.costs.observe(way, COSTS_MS[way.level] * 1e-3)
    worth: Mapping[str, float] = worth_at(LEVELS, 4, 50.0, 0.5)
    way = planner.choose(0.0, 0.042, worth)
    assert way.level == "bridge1"
    stopper = Stopper(VirtualClock(), 0.042, asked_s=[0.0, 0.03], stopped=True)
    planner.painted(way, stopper, 0.0, 0.03, late=False)
    assert planner.choose(0.1, 0.142, worth).level == "carry"
    assert planner.choose(0.1 + HOLD_S, 0.142 + HOLD_S, worth).level == "bridge1"


# --- playout -------------------------------------------------------------------------------------

arrivals = st.lists(st.tuples(st.integers(0, 400), st.floats(0, 2)), min_size=1, max_size=40)


@given(st.floats(0, 1), arrivals, st.integers(0, 400), st.integers(0, 400))
def test_later_frames_are_shown_later(
    delay_s: float, seen: list[tuple[int, float]], first: int, second: int
) -> None:
    playout = Playout(delay_s)
    for slot, travel_s in seen:
        playout = playout.arrived(slot / 25, slot / 25 + travel_s)
    low, high = sorted((first, second))
    assert playout.due_s(low / 25) <= playout.due_s(high / 25)


@given(st.floats(0, 1), arrivals)
def test_an_arrival_never_moves_the_clock_back_and_the_fastest_has_the_whole_delay(
    delay_s: float, seen: list[tuple[int, float]]
) -> None:
    playout = Playout(delay_s)
    for slot, travel_s in seen:
        before = playout.due_s(1.0)
        playout = playout.arrived(slot / 25, slot / 25 + travel_s)
        assert playout.due_s(1.0) <= before
    fastest_s = min(travel_s for _, travel_s in seen)
    assert abs(playout.due_s(1.0) - (1.0 + fastest_s + delay_s)) < 1e-9


def test_nothing_is_due_before_anything_arrived() -> None:
    assert Playout(0.1).due_s(0.0) == float("inf")


def test_clocks_that_drift_apart_are_followed() -> None:
    """A receiver whose clock is fast by 100 ppm would else show every picture as late after a quarter of an hour."""
    playout = Playout(0.1, forgetting=1e-3)
    for second in range(0, 3600, 2):
        playout = playout.arrived(float(second), second * 1.0001)
    assert playout.due_s(3600.0) == pytest.approx(3600 * 1.0001 + 0.1, abs=0.005)
    steady = Playout(0.1).arrived(0.0, 5.0).arrived(10.0, 15.5)
    assert steady.due_s(20.0) == pytest.approx(25.1)

"""The anchor policy: what pays, what is begun, what is given up; and what is known of the link."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import AnchorSettings
from common.motion import zero_field
from common.state import SceneState, compose
from common.types import Feedback, Picture
from common.units import MIN_CODED_SIDE, Region
from sender.anchors import (
    AnchorOrder,
    AnchorState,
    Offer,
    OnItsWay,
    Outlook,
    choose,
    cropped,
    decide,
    is_due,
    still_pays,
    worth,
)
from sender.link import LinkState
from sender.regions import best_region
from sender.savings import Saving, saving_of
from tests.small_stream import SIDE, frame, open_session

SETTINGS = AnchorSettings()
PARTS = AnchorSettings(partial=True)
GOOD = LinkState.steady(24_000)
CALM = Outlook(link=GOOD, scene_s=60.0)
GREAT = Offer(gain_db=6.0, size_bytes=3000)

gains = st.floats(-3, 20)
sizes = st.floats(0, 50_000)
rates = st.floats(1_000, 1e6)
spans = st.floats(0, 100)
links = st.builds(
    LinkState, rate_bps=rates, usual_bps=rates, loss_ratio=st.floats(0, 1), queue_s=st.floats(0, 3)
)
outlooks = st.builds(
    Outlook, link=links, scene_s=spans, left_s=spans | st.just(math.inf), proven_s=spans | st.just(math.inf),
    overdrawn=st.booleans(), resting=st.booleans(), asked=st.booleans(),
)  # fmt: skip
offers = st.lists(st.builds(Offer, gain_db=gains, size_bytes=sizes, share=st.floats(0, 1)), max_size=4)
more = st.floats(0, 30)


# --- what an anchor is worth ---------------------------------------------------------------------


@given(outlooks, gains, sizes, more, st.sampled_from(["gain", "rate", "life", "time left", "proof", "size"]))
def test_worth_never_falls_with_what_is_good(
    outlook: Outlook, gain: float, size: float, extra: float, what: str
) -> None:
    before = worth(gain, size, outlook, SETTINGS)
    link = outlook.link
    better = {
        "gain": (gain + extra, size, outlook),
        "rate": (gain, size, replace(outlook, link=replace(link, rate_bps=link.rate_bps * (1 + extra)))),
        "life": (gain, size, replace(outlook, scene_s=outlook.scene_s + extra)),
        "time left": (gain, size, replace(outlook, left_s=outlook.left_s + extra)),
        "proof": (gain, size, replace(outlook, proven_s=outlook.proven_s + extra)),
        "size": (gain, size / (1 + extra), outlook),
    }
    after = worth(*better[what], SETTINGS)
    assert after >= before - 1e-9 * abs(before)


@given(outlooks, gains, sizes, st.floats(0, 1), more)
def test_worth_never_rises_with_loss_or_queue(
    outlook: Outlook, gain: float, size: float, lossier: float, longer: float
) -> None:
    link = outlook.link
    bad = replace(
        link, loss_ratio=link.loss_ratio + (1 - link.loss_ratio) * lossier, queue_s=link.queue_s + longer
    )
    before = worth(gain, size, outlook, SETTINGS)
    after = worth(gain, size, replace(outlook, link=bad), SETTINGS)
    assert after <= before or after == pytest.approx(before)


@given(outlooks, st.lists(st.tuples(gains, sizes), min_size=1, max_size=5))
def test_many_are_weighed_as_one_by_one(outlook: Outlook, pairs: list[tuple[float, float]]) -> None:
    gain, size = (np.array(column) for column in zip(*pairs, strict=True))
    assert list(worth(gain, size, outlook, SETTINGS)) == [worth(g, s, outlook, SETTINGS) for g, s in pairs]


def test_what_cannot_be_there_in_time_is_worth_nothing() -> None:
    assert worth(6.0, 3000, replace(CALM, left_s=2.0), SETTINGS) == -math.inf
    assert worth(0.0, 0, CALM, SETTINGS) == -math.inf
    assert worth(6.0, 3000, CALM, AnchorSettings(max_share=0.0)) == -math.inf
    assert worth(6.0, 3000, replace(CALM, link=replace(GOOD, loss_ratio=1.0)), SETTINGS) == -math.inf


# --- the choice ----------------------------------------------------------------------------------


@given(offers, outlooks)
def test_only_what_pays_is_chosen(candidates: list[Offer], outlook: Outlook) -> None:
    chosen = choose(candidates, outlook, SETTINGS)
    if outlook.overdrawn or outlook.resting or outlook.link.strained:
        assert chosen is None
    values = [worth(o.gain_db, o.size_bytes, outlook, SETTINGS) for o in candidates]
    if chosen is not None:
        assert worth(chosen.gain_db, chosen.size_bytes, outlook, SETTINGS) == max(values) > 0


@given(outlooks, gains, sizes, more)
def test_a_better_link_or_gain_never_stops_a_launch(
    outlook: Outlook, gain: float, size: float, extra: float
) -> None:
    if choose([Offer(gain, size)], outlook, SETTINGS) is None:
        return
    assert choose([Offer(gain + extra, size)], outlook, SETTINGS) is not None
    faster = replace(outlook.link, rate_bps=outlook.link.rate_bps * (1 + extra))
    assert choose([Offer(gain, size)], replace(outlook, link=faster), SETTINGS) is not None
    assert (
        choose([Offer(gain, size)], replace(outlook, scene_s=outlook.scene_s + extra), SETTINGS) is not None
    )


def test_a_rate_that_has_just_fallen_is_waited_out() -> None:
    fallen = GOOD.after(0.0, 12_000)
    assert fallen.strained
    assert choose([GREAT], replace(CALM, link=fallen), SETTINGS) is None
    for _ in range(100):
        fallen = fallen.after(0.04, 12_000)
    assert not fallen.strained and fallen.usual_bps < 15_000
    assert choose([GREAT], replace(CALM, link=fallen), SETTINGS) is GREAT
    assert not GOOD.after(0.0, 48_000).strained


def test_one_on_its_way_is_given_up_when_the_rate_falls_or_the_scene_changes() -> None:
    sent = replace(GREAT, gain_db=0.9, size_bytes=2500)
    assert still_pays(sent, CALM, SETTINGS)
    assert not still_pays(sent, replace(CALM, link=GOOD.after(0.0, 6_000)), SETTINGS)
    assert not still_pays(replace(sent, gain_db=0.1), CALM, SETTINGS)
    assert not still_pays(sent, replace(CALM, left_s=3.0), SETTINGS)
    assert still_pays(replace(sent, size_bytes=100), replace(CALM, link=GOOD.after(0.0, 6_000)), SETTINGS)


def test_when_the_anchor_in_use_is_due() -> None:
    fresh = AnchorState(current_db=1.0, best_db=1.2)
    assert not is_due(fresh, 3.0, CALM, SETTINGS)
    assert is_due(fresh, 10.0, CALM, SETTINGS)
    assert is_due(fresh, 3.0, replace(CALM, asked=True), SETTINGS)
    assert is_due(replace(fresh, current_db=0.5), 3.0, CALM, SETTINGS)
    assert is_due(replace(fresh, unreliable=0.7), 3.0, CALM, SETTINGS)
    assert is_due(fresh, 3.0, CALM, PARTS)


# --- what is known of the link -------------------------------------------------------------------


def test_reports_tell_of_loss_and_queue() -> None:
    link = GOOD
    for slot in range(10, 60):
        link = link.reported(Feedback(0, last_slot=slot - 5, loss_ratio=0.1), slot, 25.0)
    assert link.loss_ratio == pytest.approx(0.1, abs=0.01)
    assert link.goodput_bps == pytest.approx(0.9 * 24_000, rel=0.02)
    assert link.queue_s == 0 and not link.strained
    for slot in range(60, 70):
        link = link.reported(Feedback(0, last_slot=slot - 20), slot, 25.0)
    assert link.queue_s == pytest.approx(0.44, abs=0.05)
    assert link.strained


@given(st.lists(st.tuples(st.integers(-1, 50), st.floats(0, 1), st.integers(0, 100)), max_size=30))
def test_any_reports_leave_a_sound_link(reports: list[tuple[int, float, int]]) -> None:
    link = GOOD
    for last_slot, loss_ratio, slot in reports:
        link = link.reported(Feedback(0, last_slot=last_slot, loss_ratio=loss_ratio), slot, 25.0)
        assert 0 <= link.loss_ratio <= 1 and link.queue_s >= 0 and link.goodput_bps >= 0


# --- regions -------------------------------------------------------------------------------------


@given(st.integers(4, 40), st.integers(4, 40), st.integers(0, 2**32 - 1))
def test_the_region_is_one_that_can_be_sent(rows: int, cols: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    saved = generator.normal(0, 1, (rows, cols))
    share = np.full((rows, cols), 1 / (rows * cols))
    found = best_region(saved, share, lambda gain, cost: gain - cost)
    if found is None:
        return
    region, part = found
    assert min(region.width, region.height) >= MIN_CODED_SIDE
    assert region.within(16 * cols, 16 * rows)
    assert part == pytest.approx(region.width * region.height / (256 * rows * cols))


def test_the_region_is_where_something_is_new() -> None:
    saved = np.full((16, 32), -1.0)
    saved[4:12, 20:] = 5.0
    found = best_region(saved, np.full(saved.shape, 1 / saved.size), lambda gain, cost: gain)
    assert found is not None
    assert found[0] == Region(320, 64, 192, 128)
    nothing = best_region(-np.ones((8, 8)), np.full((8, 8), 1 / 64), lambda gain, cost: gain)
    assert nothing is None


def test_a_part_gains_what_its_blocks_save() -> None:
    by_block = np.zeros((8, 8))
    by_block[:4, 4:] = 1000.0
    saving = Saving(by_block, error=64_000.0)
    assert saving.gain_db(Region(64, 0, 64, 64)) == saving.gain_db() > 0
    assert saving.gain_db(Region(0, 0, 64, 64)) == 0
    assert saving.mixed(saving).gain_db() == pytest.approx(saving.gain_db())


# --- decisions on pictures -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def still() -> tuple[Picture, SceneState]:
    """A picture and the state of its guide, some frames into a stream."""
    session = open_session(20_000, *())
    for slot in range(20, 29):
        step = session.step(frame(slot))
    session.close()
    return frame(28).picture, step.state


def ask(
    still: tuple[Picture, SceneState], anchors: AnchorState, outlook: Outlook, flight: OnItsWay | None = None
) -> tuple[AnchorOrder, AnchorState]:
    source, state = still
    return decide(anchors, flight, source, state, outlook, Fraction(25), SETTINGS, lambda: (source, 500))


def test_a_trial_comes_before_a_launch(still: tuple[Picture, SceneState]) -> None:
    source, state = still
    order, anchors = ask(still, AnchorState(), CALM)
    assert order == AnchorOrder() and anchors.trial is not None
    old = replace(anchors.trial, slot=state.slot - 500)  # as if it had held for 20 s
    order, after = ask(still, AnchorState(old), CALM)
    assert order.launch and order.offer is not None and order.offer.gain_db > 1
    assert after.trial is None
    saving = saving_of(source, zero_field(SIDE, SIDE), source, state, compose(state))
    assert order.offer.gain_db == pytest.approx(saving.gain_db(), rel=0.2)


@pytest.mark.parametrize("how", ["overdrawn", "resting", "strained", "short"])
def test_nothing_is_launched_at_a_bad_time(still: tuple[Picture, SceneState], how: str) -> None:
    _, anchors = ask(still, AnchorState(), CALM)
    assert anchors.trial is not None
    old = AnchorState(replace(anchors.trial, slot=still[1].slot - 500))
    bad = {
        "overdrawn": replace(CALM, overdrawn=True),
        "resting": replace(CALM, resting=True),
        "strained": replace(CALM, link=GOOD.after(0, 9_000)),
        "short": replace(CALM, scene_s=0.0),
    }
    assert not ask(still, old, bad[how])[0].launch


def test_nothing_is_launched_while_one_is_on_its_way(still: tuple[Picture, SceneState]) -> None:
    source, state = still
    _, anchors = ask(still, AnchorState(), CALM)
    assert anchors.trial is not None
    old = AnchorState(replace(anchors.trial, slot=state.slot - 500))
    track = anchors.trial.track
    waiting = source, replace(state, pending=(0, track))
    order, after = ask(waiting, old, CALM, OnItsWay(GREAT, source, silent_s=0.0))
    assert order.gain_db is not None and not order.launch and not order.give_up
    assert after.trial is None
    assert ask(waiting, old, CALM, OnItsWay(None, source, 0.0))[0] == AnchorOrder()
    assert ask(waiting, old, CALM, OnItsWay(GREAT, source, silent_s=9.0))[0].give_up
    useless = OnItsWay(replace(GREAT, gain_db=0.1), Picture(*(255 - p for p in source.planes)), 0.0)
    assert ask(waiting, old, CALM, useless)[0].give_up


def test_where_anchors_cannot_help_they_end(still: tuple[Picture, SceneState]) -> None:
    source, state = still
    full = source, replace(state, scale=1)
    assert ask(full, AnchorState(), CALM)[0] == AnchorOrder()
    assert ask(full, AnchorState(), CALM, OnItsWay(GREAT, source, 0.0))[0].give_up


def test_a_region_of_a_picture() -> None:
    picture = frame(20).picture
    part = cropped(picture, Region(32, 48, 80, 64))
    assert np.array_equal(part.y, picture.y[48:112, 32:112])
    assert np.array_equal(part.v, picture.v[24:56, 16:56])

"""Rate control as a pure function: legal, bounded, monotone, and on target against a model of an encoder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sender.coded import MAX_QP
from sender.rate import (
    FLOOR_BYTES,
    OFFSET,
    ROLES,
    RateState,
    RateTarget,
    Role,
    expected_bytes,
    group_bytes,
    is_still,
    measured_complexity,
    plan,
    plan_key,
    referred,
    rescaled,
    settled,
    spent,
    told_quality,
    wants_scale,
)

complexities = st.tuples(*[st.floats(5, 24)] * 4)
states = st.builds(
    RateState,
    quantiser=st.floats(1, MAX_QP), complexity=complexities, debt_bytes=st.floats(-50_000, 50_000),
    loan_bytes=st.floats(0, 20_000), payment_bytes=st.floats(0, 500), reserve=st.floats(0, 0.9),
    overhead_bytes=st.floats(0, 200), reference_q=st.floats(0, MAX_QP), strained_s=st.floats(-3, 3),
)  # fmt: skip
targets = st.builds(RateTarget, st.floats(2_000, 5e6), st.sampled_from([5.0, 12.5, 25.0, 30.0, 60.0]))
inter_roles = st.sampled_from([Role.BASE, Role.MIDDLE, Role.DISPOSABLE])
events = st.tuples(
    st.sampled_from(list(Role)), st.integers(1, 63), st.integers(0, 60_000), st.integers(0, 9_000)
)


@given(states, inter_roles, targets)
def test_a_plan_is_legal(state: RateState, role: Role, target: RateTarget) -> None:
    chosen, after = plan(state, role, target)
    assert 1 <= chosen.quantiser <= MAX_QP
    assert isinstance(chosen.quantiser, int)
    assert 1 <= after.quantiser <= MAX_QP
    assert -10 - 1e-9 <= after.quantiser - state.quantiser <= 8 + 1e-9
    assert chosen.send or role is Role.DISPOSABLE  # what others build on is never left out


@given(states, targets, st.floats(0.05, 4))
def test_a_key_plan_is_legal_and_affordable(state: RateState, target: RateTarget, limit_s: float) -> None:
    quantiser = plan_key(state, target, limit_s)
    assert 1 <= quantiser <= MAX_QP
    if quantiser < MAX_QP:
        at_most = expected_bytes(state.complexity[Role.KEY], quantiser + 0.5)
        assert at_most <= limit_s * target.rate_bps / 8 * 1.01


@given(states, targets, st.floats(1, 10))
def test_more_rate_never_means_a_coarser_quantiser(
    state: RateState, target: RateTarget, factor: float
) -> None:
    more = RateTarget(target.rate_bps * factor, target.frame_rate)
    assume(not is_still(state, target) and not is_still(state, more))  # a still scene saves up for jumps
    assert settled(state, more).quantiser <= settled(state, target).quantiser
    assert plan_key(state, more, 1.0) <= plan_key(state, target, 1.0)
    for role in (Role.BASE, Role.MIDDLE, Role.DISPOSABLE):
        assert plan(state, role, more)[0].quantiser <= plan(state, role, target)[0].quantiser


@given(states, targets, st.floats(0, 50_000))
def test_more_debt_never_means_a_finer_quantiser(state: RateState, target: RateTarget, debt: float) -> None:
    deeper = replace(state, debt_bytes=state.debt_bytes + debt)
    assert settled(deeper, target).quantiser >= settled(state, target).quantiser


@given(states, targets)
def test_the_settled_quantiser_meets_the_budget_if_any_does(state: RateState, target: RateTarget) -> None:
    fresh = replace(state, debt_bytes=0.0, loan_bytes=0.0, reserve=0.0)
    quantiser = settled(fresh, target).quantiser
    budget = 4 * (target.picture_bytes - state.overhead_bytes)
    assert quantiser == MAX_QP or group_bytes(fresh, quantiser) <= budget


@given(states, targets, st.lists(events, max_size=40))
def test_debt_and_loans_are_bounded_whatever_happens(
    state: RateState, target: RateTarget, happened: list[tuple[Role, int, int, int]]
) -> None:
    second = target.rate_bps / 8
    for role, quantiser, guide_bytes, side_bytes in happened:
        state = spent(state, role, quantiser, guide_bytes, side_bytes, 0.0, target)
        assert -1.5 * second <= state.debt_bytes <= 2.0 * second
        assert 1 <= state.quantiser <= MAX_QP
        assert state.loan_bytes >= 0 and state.payment_bytes >= 0
        assert all(np.isfinite(state.complexity))
        chosen, state = plan(state, ROLES[0], target)
        assert chosen.send and 1 <= chosen.quantiser <= MAX_QP


@given(st.floats(5, 24), st.floats(1, MAX_QP))
def test_the_model_and_its_inverse(complexity: float, quantiser: float) -> None:
    size = expected_bytes(complexity, quantiser)
    if size >= FLOOR_BYTES + 8:
        assert measured_complexity(round(size), quantiser) == pytest.approx(complexity, abs=0.1)
    assert expected_bytes(complexity, quantiser + 1) < size


@given(states, st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]))
def test_a_change_of_scale_keeps_the_state_legal(state: RateState, before: int, after: int) -> None:
    changed = rescaled(state, before, after)
    assert 1 <= changed.quantiser <= 60
    assert changed.strained_s == 0
    if after < before:
        assert all(c > was for c, was in zip(changed.complexity, state.complexity, strict=True))


def test_the_scale_follows_only_a_lasting_strain() -> None:
    scales = (1, 2, 4)
    rich, poor = RateTarget(1e6, 25.0), RateTarget(6_000, 25.0)
    assert wants_scale(RateState(strained_s=0.5), 2, scales, rich) == 2
    assert wants_scale(RateState(strained_s=-1.0), 2, scales, rich) == 2
    assert wants_scale(RateState(strained_s=2.0), 2, scales, rich) == 4
    assert wants_scale(RateState(strained_s=-2.5), 2, scales, rich) == 1
    assert wants_scale(RateState(strained_s=2.0), 4, scales, rich) == 4
    assert wants_scale(RateState(strained_s=-2.5), 1, scales, rich) == 1
    busy = RateState(complexity=(19.0, 17.0, 16.0, 15.0), strained_s=2.0)
    assert wants_scale(busy, 1, scales, rich) == 2  # at once as far as needed
    assert wants_scale(busy, 1, scales, poor) == scales[-1]


def simulated(target: RateTarget, truth: tuple[float, ...], seconds: float, seed: int) -> list[int]:
    """Bytes of every picture of an encoder that obeys the model, with noise of a quarter."""
    noise = np.random.default_rng(seed)
    state, sizes = RateState(complexity=(truth[0], *RateState().complexity[1:])), []
    for picture in range(round(seconds * target.frame_rate)):
        role = Role.KEY if picture == 0 else ROLES[(picture - 1) % 4]
        if role is Role.KEY:
            quantiser, send = plan_key(state, target, 3.0), True
        else:
            chosen, state = plan(state, role, target)
            quantiser, send = chosen.quantiser, chosen.send
        size = round(expected_bytes(truth[role], quantiser) * min(1.6, max(0.5, noise.normal(1, 0.25))))
        sizes.append(size + 8 if send else 0)
        state = spent(state, role, quantiser, size if send else 0, 8 if send else 0, 0.0, target)
    return sizes


@pytest.mark.parametrize("rate_bps", [16_000, 24_000, 100_000, 1_000_000])
@pytest.mark.parametrize("offset", [-1.5, 0.0, 1.5])
def test_the_rate_is_held_against_a_model_encoder(rate_bps: int, offset: float) -> None:
    target = RateTarget(rate_bps, 25.0)
    truth = tuple(c + offset for c in (18.0, 15.5, 14.0, 13.0))
    sizes = np.array(simulated(target, truth, 12.0, seed=1))
    coarsest = sum(expected_bytes(truth[r], min(MAX_QP, MAX_QP + OFFSET[r])) + 8 for r in ROLES) / 4
    after_start = sizes[100:]
    assert after_start.mean() <= max(1.08 * target.picture_bytes, coarsest)
    assert after_start.mean() >= min(0.8 * target.picture_bytes, coarsest) or rate_bps == 1_000_000
    windows = np.convolve(after_start, np.ones(100), "valid")  # four seconds
    assert windows.max() <= 100 * max(1.2 * target.picture_bytes, coarsest * 1.1)


def test_a_hopeless_rate_leaves_out_disposable_pictures_only() -> None:
    sizes = simulated(RateTarget(6_000, 25.0), (18.0, 17.0, 17.0, 17.0), 10.0, seed=2)
    roles = [Role.KEY] + [ROLES[k % 4] for k in range(len(sizes) - 1)]
    left_out = {role for role, size in zip(roles, sizes, strict=True) if not size}
    assert left_out == {Role.DISPOSABLE}


def test_a_still_scene_is_told_as_good_as_its_key_picture() -> None:
    assert told_quality(RateState(quantiser=63.0, reference_q=44.0)) == 53
    assert told_quality(RateState(quantiser=50.0, reference_q=60.0)) == 50
    assert told_quality(RateState(quantiser=50.0)) == 50


@given(states, targets, st.sampled_from(list(Role)), st.integers(1, MAX_QP), st.integers(1, 9_000))
def test_a_picture_is_told_as_what_it_leaves(
    state: RateState, target: RateTarget, role: Role, quantiser: int, size_bytes: int
) -> None:
    """With it, and not only with the picture after it; of a key picture whatever was before."""
    told = told_quality(referred(state, role, quantiser, size_bytes))
    assert told == told_quality(spent(state, role, quantiser, size_bytes, 9, 0.0, target))
    if role is Role.KEY:
        assert min(quantiser + 3, MAX_QP) <= told <= min(quantiser + 9, MAX_QP)
    if role not in {Role.KEY, Role.BASE}:
        assert told == told_quality(state)

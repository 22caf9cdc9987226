"""Rate control: which quantiser, key frame and scale the next picture gets, so that the link's rate is held.

The controller keeps one number, the debt: bytes sent above (or below) the target so far. Each group of four pictures
(the encoder's prediction structure) gets its share of the target, less a part of the debt, and the quantiser that a
small model of the content expects to spend it. Pure: `plan` and `spent` take a frozen state and return the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

from sender.coded import MAX_QP


class Role(IntEnum):
    """Place of a picture in the prediction structure."""

    KEY = 0
    BASE = 1
    MIDDLE = 2
    DISPOSABLE = 3


# Quantiser of each role against the middle one. Measured on the corpus at equal rate: cascading gains 0.1-0.4 dB over
# one quantiser for all; a good key picture gains up to 0.7 dB on still scenes.
OFFSET = {Role.KEY: -19, Role.BASE: -9, Role.MIDDLE: 0, Role.DISPOSABLE: 4}
ROLES = (Role.BASE, Role.DISPOSABLE, Role.MIDDLE, Role.DISPOSABLE)  # by GuideEncoder.position
_HALVING = 8.5  # quantiser steps that halve the bytes (above the floor)
FLOOR_BYTES = 4  # an AV1 picture that changes nothing, without what its header repeats
_DEBT_TIME_S = 1.5  # what differs from the plan is put right over this time
_STARVED_S = 0.8  # debt beyond which disposable pictures are left out
_MAX_FINER, _MAX_COARSER = (
    3.0,
    8.0,
)  # quantiser steps per group: a black picture says nothing about the next one
_JUMP, _MAX_JUMP = 6.0, 10.0  # least and largest refinement of a still scene
WINDOW_S = 4.0  # the rate is held over any such window; a key picture is a loan that is paid back within one
COARSER_Q, FINER_Q = 61.0, 40.0  # middle quantiser beyond which another guide scale is better
_COARSER_AFTER_S, _FINER_AFTER_S = 1.2, 2.0  # a starved guide cannot wait; a finer one costs a key picture
_IN_NEED_S, _COARSER_IN_NEED_S = 0.8, 0.4  # debt beyond which a starved guide waits only so long


@dataclass(frozen=True, slots=True)
class Pace:
    """What differs by who waits at the other end, unless the settings say otherwise.

    start_key_s, cut_key_s : seconds of the rate that the first key picture may take, and later ones: on a link the
        picture after a cut must arrive within 300 ms
    config_interval_s : how often the stream configuration is repeated
    """

    start_key_s: float
    cut_key_s: float
    config_interval_s: float


LINK, FILE = Pace(1.0, 0.2, 1.5), Pace(3.5, 1.5, 10.0)
"""Nobody waits for a file, and nobody joins it late; its configuration is repeated only in case the first is damaged."""


@dataclass(frozen=True, slots=True)
class RateState:
    """All the controller remembers.

    quantiser : middle quantiser, 1..63, fractional
    complexity : per role, log2 of the bytes above the floor that quantiser 0 would cost
    debt_bytes : sent minus planned
    loan_bytes, payment_bytes : what is left to pay back of the last key picture, and per picture
    reserve : share of the rate kept for an anchor on its way
    overhead_bytes : own headers, labels and motion per picture, running mean
    reference_q : quantiser of the last base or key picture, 0 before the first
    strained_s : how long the quantiser has been beyond the range of this scale (positive: too coarse)
    """

    quantiser: float = 50.0
    complexity: tuple[float, float, float, float] = (19.0, 15.0, 14.0, 13.0)
    debt_bytes: float = 0.0
    loan_bytes: float = 0.0
    payment_bytes: float = 0.0
    reserve: float = 0.0
    overhead_bytes: float = 8.0
    reference_q: float = 0.0
    strained_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RateTarget:
    """The rate to hold.

    rate_bps : bits per second of everything handed to the link; frame_rate : pictures per second
    """

    rate_bps: float
    frame_rate: float

    @property
    def picture_bytes(self) -> float:
        return self.rate_bps / 8 / self.frame_rate


@dataclass(frozen=True, slots=True)
class PicturePlan:
    """What to do with the next guide picture.

    send : False to leave the picture out if it is disposable
    """

    quantiser: int
    send: bool


def expected_bytes(complexity: float, quantiser: float) -> float:
    """Bytes of a picture whose cost at quantiser 0 is 2**complexity above the floor."""
    return FLOOR_BYTES + 2.0 ** (complexity - quantiser / _HALVING)


def measured_complexity(size_bytes: int, quantiser: float) -> float:
    """Inverse of `expected_bytes`."""
    return math.log2(max(2.0, size_bytes - FLOOR_BYTES)) + quantiser / _HALVING


def refinement_bytes(key_complexity: float, reference_q: float, quantiser: float) -> float:
    """What it costs to bring a still scene from `reference_q` to a finer `quantiser`: nearly a new key picture.

    The inter model cannot know it: while nothing moves and nothing is refined, pictures cost only the floor.
    """
    if quantiser >= reference_q:
        return 0.0
    return 2.0 ** (key_complexity - quantiser / _HALVING) - 2.0 ** (key_complexity - reference_q / _HALVING)


def _clip(quantiser: float) -> float:
    return min(float(MAX_QP), max(1.0, quantiser))


def group_bytes(state: RateState, quantiser: float) -> float:
    """Expected bytes of a group of four pictures at a middle quantiser."""
    total = sum(expected_bytes(state.complexity[role], _clip(quantiser + OFFSET[role])) for role in ROLES)
    base = _clip(quantiser + OFFSET[Role.BASE])
    return total + refinement_bytes(state.complexity[Role.KEY], state.reference_q, base)


def told_quality(state: RateState) -> int:
    """The quantiser to tell the receiver: the middle one, or the finer one that a still scene keeps from its key."""
    kept = state.reference_q - OFFSET[Role.BASE] if state.reference_q > 0 else state.quantiser
    return round(_clip(min(state.quantiser, kept)))


def referred(state: RateState, role: Role, quantiser: int, guide_bytes: int) -> RateState:
    """The state with the quantisers as a picture leaves them: that of what later ones refer to, and the middle one."""
    if role is Role.KEY:
        middle = _clip(max(state.quantiser, quantiser - OFFSET[Role.BASE] - 6))
        return replace(state, reference_q=float(quantiser), quantiser=middle)
    if role is not Role.BASE:
        return state
    before, renewed = state.reference_q, 1.0
    if quantiser > before:  # what was not coded anew keeps its quality
        renewed = min(1.0, guide_bytes / 2.0 ** (state.complexity[Role.KEY] - quantiser / _HALVING))
    return replace(state, reference_q=before + renewed * (quantiser - before))


def _solve(cost: Callable[[float], float], budget_bytes: float) -> float:
    """The finest quantiser in 1..63 whose falling `cost` is within the budget (bisection)."""
    low, high = 1.0, float(MAX_QP)
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) > budget_bytes else (low, middle)
    return high


def plan(state: RateState, role: Role, target: RateTarget) -> tuple[PicturePlan, RateState]:
    """Choose the quantiser of the next inter picture."""
    if role is Role.BASE:
        state = _replan_group(state, target)
    wanted = state.quantiser + OFFSET[role]
    if role is not Role.BASE:  # a still scene would be refined by a picture that soon is forgotten
        wanted = max(wanted, state.reference_q + 2)
    starved = state.quantiser >= MAX_QP - 0.5 and state.debt_bytes > _STARVED_S * target.rate_bps / 8
    send = not (role is Role.DISPOSABLE and starved)
    return PicturePlan(int(min(MAX_QP, max(1, round(wanted)))), send), state


def _replan_group(state: RateState, target: RateTarget) -> RateState:
    """The middle quantiser for the coming group of four pictures, not too far from the last one's."""
    goal = settled(state, target).quantiser
    finest = state.quantiser - (_MAX_JUMP if is_still(state, target) else _MAX_FINER)
    return replace(state, quantiser=min(state.quantiser + _MAX_COARSER, max(finest, goal)))


def _share_bytes(state: RateState, target: RateTarget) -> float:
    """What a picture's guide may cost while nothing is to be paid back."""
    return target.picture_bytes * (1 - state.reserve) - state.overhead_bytes


def is_still(state: RateState, target: RateTarget) -> bool:
    """Whether holding the present quality costs little: then spare bits go into refining the picture."""
    if state.reference_q <= 0:
        return False
    holding = group_bytes(state, _clip(state.reference_q - OFFSET[Role.BASE]))
    return holding < 0.6 * 4 * _share_bytes(state, target)


def settled(state: RateState, target: RateTarget) -> RateState:
    """The state with the middle quantiser that is expected to meet the target.

    A still scene is refined in jumps: the encoder drops corrections much smaller than its quantiser, so spare bits
    are saved up until they pay for a jump.
    """
    share = _share_bytes(state, target)
    repay = state.debt_bytes / (_DEBT_TIME_S * target.frame_rate) + min(state.payment_bytes, state.loan_bytes)
    wanted = _solve(lambda quantiser: group_bytes(state, quantiser), 4 * max(0.2 * share, share - repay))
    holding = state.reference_q - OFFSET[Role.BASE]
    if is_still(state, target) and wanted < holding:
        saved = max(0.0, -state.debt_bytes)
        rich = _solve(lambda quantiser: group_bytes(state, quantiser), max(0.0, 4 * (share - repay)) + saved)
        wanted = rich if rich <= holding - _JUMP else holding
    return replace(state, quantiser=_clip(wanted))


def plan_key(state: RateState, target: RateTarget, limit_s: float) -> int:
    """Quantiser of a key picture: two thirds of the way from the one that the pictures of the next four seconds can
    match in quality to the one that it would have by its role. What they cannot quite match they still live on
    (measured on the development clips: up to 0.4 dB better than matching, up to 0.3 dB better than going by the role).

    limit_s : seconds of the rate that the key picture may take at most
    """
    pictures = WINDOW_S * target.frame_rate
    fresh = replace(state, reference_q=0.0)

    def window_bytes(quantiser: float) -> float:
        inter = group_bytes(fresh, _clip(quantiser - OFFSET[Role.KEY])) / 4 + state.overhead_bytes
        return expected_bytes(state.complexity[Role.KEY], quantiser) + pictures * inter

    matching = _solve(window_bytes, pictures * target.picture_bytes)
    affordable = _solve(
        lambda q: expected_bytes(state.complexity[Role.KEY], q), limit_s * target.rate_bps / 8
    )
    wanted = max(affordable, state.quantiser + OFFSET[Role.KEY])
    return round(_clip(max(wanted, (2 * wanted + matching) / 3)))


def spent(
    state: RateState,
    role: Role,
    quantiser: int,
    guide_bytes: int,
    side_bytes: int,
    anchor_bytes: float,
    target: RateTarget,
    slots: int = 1,
) -> RateState:
    """Account for one picture.

    guide_bytes : coded guide, 0 when it was left out; side_bytes : headers, motion, labels, residual sent with it
    anchor_bytes : what of an anchor leaves the sender in this time; slots : frame periods since the picture before
    """  # fmt: skip
    complexity, after = list(state.complexity), state
    if guide_bytes:
        known = (
            refinement_bytes(complexity[Role.KEY], state.reference_q, quantiser) if role is Role.BASE else 0.0
        )
        seen = measured_complexity(max(guide_bytes // 3, guide_bytes - int(known)), quantiser)
        complexity[role] += _trust(role, seen - complexity[role]) * (seen - complexity[role])
        after = referred(state, role, quantiser, guide_bytes)
    second = target.rate_bps / 8
    loan, payment = max(0.0, state.loan_bytes - state.payment_bytes), state.payment_bytes
    planned = slots * target.picture_bytes - min(state.payment_bytes, state.loan_bytes)
    if role is Role.KEY:
        lent = max(0.0, guide_bytes - target.picture_bytes)
        loan, planned = loan + lent, planned + lent
        payment = loan / (WINDOW_S * target.frame_rate)
    debt = state.debt_bytes + guide_bytes + side_bytes + anchor_bytes - planned
    period_s = slots / target.frame_rate
    strained = _strained(state, target, period_s)
    return replace(
        after, complexity=(complexity[0], complexity[1], complexity[2], complexity[3]),
        debt_bytes=max(-1.5 * second, min(debt, 2.0 * second)),  # older credit and debt are forgotten
        overhead_bytes=state.overhead_bytes + 0.05 * (side_bytes - state.overhead_bytes),
        loan_bytes=loan, payment_bytes=payment, strained_s=strained,
    )  # fmt: skip


def _trust(role: Role, change: float) -> float:
    """How far a measurement is believed: a rise at once, a fall only when it lasts."""
    if role is Role.KEY:
        return 1.0
    return 0.6 if change > 0 else 0.25


def _strained(state: RateState, target: RateTarget, period_s: float) -> float:
    """Running time for which this scale has been too fine (positive) or too coarse (negative) for the rate."""
    if not _feasible(state, target):
        return max(0.0, state.strained_s) + period_s
    if state.quantiser < FINER_Q:
        return min(0.0, state.strained_s) - period_s
    return 0.0


def _feasible(state: RateState, target: RateTarget) -> bool:
    """Whether the rate can feed this scale at the coarsest quantiser worth having."""
    share = target.picture_bytes - state.overhead_bytes
    return group_bytes(replace(state, reference_q=0.0), COARSER_Q) <= 4 * share


def wants_scale(state: RateState, scale: int, scales: tuple[int, ...], target: RateTarget) -> int:
    """The guide scale to use at the next key frame: coarser when starved, finer when bits are left over.

    A starved guide goes at once to the scale that the rate can feed: every step on the way would cost a key picture.
    """
    at = scales.index(scale)
    in_need = state.debt_bytes > _IN_NEED_S * target.rate_bps / 8
    patience_s = _COARSER_IN_NEED_S if in_need else _COARSER_AFTER_S
    if state.strained_s > patience_s and at + 1 < len(scales):
        coarser = scales[at + 1 :]
        return next((s for s in coarser if _feasible(rescaled(state, scale, s), target)), coarser[-1])
    if state.strained_s < -_FINER_AFTER_S and at > 0:
        return scales[at - 1]
    return scale


def rescaled(state: RateState, before: int, after: int) -> RateState:
    """The controller after a change of guide scale: twice the side costs about 2.2 times the bytes."""
    steps = math.log2(before / after)
    key, base, middle, disposable = (c + 1.15 * steps for c in state.complexity)
    quantiser = min(60.0, max(1.0, state.quantiser + 9.0 * steps))
    return replace(state, complexity=(key, base, middle, disposable), quantiser=quantiser, strained_s=0.0)

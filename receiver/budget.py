"""Which level of the ladder to paint a frame at: what each is worth there, and which fits before the deadline.

    scale of the guide, change since the last painted picture -> worth_of -> gains, deadline -> Governor -> Way
    Way, time --every part of a network call--> Stopper -> go on, or give up and carry detail over

A network call is spent where it helps: where the guide is coarse, and where the detail that it painted before no longer
fits; elsewhere that detail is carried over, for a thirtieth of the time. A call that helps but does not fit into the time
of one picture is spread over several, each of which has the detail of the last call that was finished. The table is
measured (`python -m benchmarks.worth`), on clips that the decoder was not trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from common.clock import Clock
from common.deadline import CostModel, Governor

STEPS: Mapping[str, int] = {"bridge1": 1, "bridge2": 2, "bridge4": 4}
"""Levels that call the network, and how often."""

GAINS: Mapping[int, float] = {1: 0.55, 2: 1.3, 4: 4.5, 8: 4.5}
"""What a step gains over the base picture, in VMAF points, by guide scale; measured at 24 and 60 kbit/s, and taken to be
the same at 8 as at 4, of which there was none (on one development clip it is 3.8). Two and four steps gain no more with
the shipped weights: 5 % more VMAF, less PSNR and less steadiness (tiny.md)."""

FORGETTING = 3.0
"""Carried detail is worth exp(-change / this) of what it was, change in mean sample steps of the base picture."""

_BEGUN, _NOTHING, _GUIDE, _HOLD = 0.01, -1.0, -1e3, -1e6
"""Worth of carrying over what is not there, where a step would be worth its time, and begins, and where not; and of what
is only there for when nothing else fits."""

SPARE = 0.75
"""Part of the time between two pictures that may be spent on a step which does not fit into that of one; the rest of the
budget is for parts of it that take longer than usual."""


class Way(NamedTuple):
    """How to paint: a level, and on how many processor threads. More threads are faster on a machine that is free, and
    far slower on one that is not, as each waits for the others."""

    level: str
    threads: int


CARRY = Way("carry", 1)
_SPREAD_GAINS = {False: 0.0, True: 1.0}
_GRAIN, _EPSILON_S = 0.15, 1e-9
"""Share of the whole time that a pause may take before it counts as being slow."""


def ways_of(levels: Iterable[str], threads: Iterable[int]) -> tuple[Way, ...]:
    """Every level, cheapest first, with each number of threads that makes a difference, the least first."""
    counts = sorted(threads)
    return tuple(
        Way(level, count) for level in levels for count in (counts if level in STEPS else counts[:1])
    )


def worth_of(level: str, scale: int, change: float | None, least_gain: float) -> float:
    """What a level is worth on a frame, in VMAF points over the base picture.

    scale : of the guide; change : of the base picture since the picture whose detail could be carried over, sample steps,
        None where there is none
    least_gain : what a network call has to gain
    """
    gain = GAINS[scale]
    if level in STEPS:
        return gain - least_gain * STEPS[level]
    nothing = _BEGUN if gain > least_gain else _NOTHING
    carried = nothing if change is None else gain * math.exp(-change / FORGETTING)
    return {"hold": _HOLD, "guide": _GUIDE, "base": 0.0, "carry": carried}[level]


def worth_at(levels: Sequence[str], scale: int, change: float | None, least_gain: float) -> dict[str, float]:
    """`worth_of` each of `levels`."""
    return {level: worth_of(level, scale, change, least_gain) for level in levels}


def best_of(worth: Mapping[str, float]) -> str:
    """The level to paint at when there is time for any; of equal ones the first, which is the cheaper."""
    return max(worth, key=lambda level: worth[level])


@dataclass(frozen=True, slots=True)
class Pace:
    """How a way to paint went when it was not given up.

    asked_s : from the beginning to each question of `Stopper`; whole_s : to the end
    """

    asked_s: tuple[float, ...] = ()
    whole_s: float = 0.0

    def scaled(self, factor: float) -> Pace:
        """As long as that."""
        return Pace(tuple(factor * at_s for at_s in self.asked_s), factor * self.whole_s)

    def rest_s(self, question: int, elapsed_s: float, fallback_s: float = 0.0) -> float:
        """How long it will take from a question on, when it is as slow as it was up to there; and not less than the part
        up to the next question and what is done when it is given up then. question : from 0"""
        if question >= len(self.asked_s):
            return 0.0
        usual_s, grain_s = self.asked_s[question], _GRAIN * self.whole_s
        slower = max(1.0, (elapsed_s + grain_s) / max(usual_s + grain_s, _EPSILON_S))
        next_s = (*self.asked_s, self.whole_s)[question + 1]
        return max((self.whole_s - usual_s) * slower, (next_s - usual_s) * slower + fallback_s)


@dataclass(slots=True)
class Stopper:
    """Asked by the decoder between its parts: gives up when what comes after a question does not fit any more.

    deadline_s : None never stops, -inf at once
    rest_s : p95 of the time from a question to the end
    pace : what the time that it has taken so far is compared with, from `began_s` on
    fallback_s : p95 of what is done after giving up
    asked_s : when it was asked; stopped : whether it has ever said so
    """

    clock: Clock
    deadline_s: float | None
    rest_s: float = 0.0
    pace: Pace = Pace()
    began_s: float = 0.0
    fallback_s: float = 0.0
    asked_s: list[float] = field(default_factory=list)
    stopped: bool = False

    @property
    def asking_s(self) -> float:
        """From the first question to the last."""
        return self.asked_s[-1] - self.asked_s[0] if self.asked_s else 0.0

    @property
    def parts_s(self) -> list[float]:
        """Between questions."""
        return [after - before for before, after in pairwise(self.asked_s)]

    def __call__(self) -> bool:
        now_s = self.clock.now_s()
        paced_s = self.pace.rest_s(len(self.asked_s), now_s - self.began_s, self.fallback_s)
        rest_s = max(self.rest_s, paced_s)
        self.asked_s.append(now_s)
        late = self.deadline_s is not None and now_s + rest_s > self.deadline_s
        self.stopped = self.stopped or late
        return late


@dataclass(slots=True)
class LevelPlanner:
    """Deadline control of one receiver: chooses a way for every frame, and learns what ways cost.

    ways : all there are, cheapest first
    rests : the time of each from the last question of `Stopper` to the end; paces : how each went when it went well
    spread : whether to go on with a step while detail is carried over; its costs are of one part of that step
    """

    ways: tuple[Way, ...]
    costs: CostModel[Way] = field(default_factory=CostModel)
    rests: CostModel[Way] = field(default_factory=CostModel)
    paces: dict[Way, Pace] = field(default_factory=dict)
    spread: Governor[bool] = field(default_factory=lambda: Governor((False, True)))
    governor: Governor[Way] = field(init=False)

    def __post_init__(self) -> None:
        self.governor = Governor(self.ways, self.costs)

    def choose(self, now_s: float, deadline_s: float | None, worth: Mapping[str, float]) -> Way:
        """The way to take for a frame. worth : of each level that may be taken (`worth_of`), cheapest first"""
        if deadline_s is None:
            return self.way(best_of(worth))
        gains = {way: worth[way.level] for way in self.ways if way.level in worth}
        return self.governor.choose(now_s, deadline_s, gains)

    def way(self, level: str) -> Way:
        """To paint at this level when nothing is known of time: on as many threads as there are."""
        return max(way for way in self.ways if way.level == level)

    def stopper(self, clock: Clock, way: Way, now_s: float, deadline_s: float | None) -> Stopper:
        """For painting in this way from now on."""
        rest_s, fallback_s = self.rests.costs_s().get(way, 0.0), self.costs.costs_s().get(CARRY, 0.0)
        return Stopper(clock, deadline_s, rest_s, self._pace(way), now_s, fallback_s)

    def _pace(self, way: Way) -> Pace:
        """As it went on other numbers of threads, where this one was never seen to its end."""
        costs_s, alike = (
            self.costs.costs_s(),
            [way, *(other for other in self.paces if other.level == way.level)],
        )
        for known in alike:
            if known in self.paces and way in costs_s:
                pace = self.paces[known]
                return pace if known == way else pace.scaled(costs_s[way] / pace.whole_s)
        return Pace()

    def sparing(self, clock: Clock, now_s: float, deadline_s: float, interval_s: float) -> Stopper:
        """For going on with a step while detail is carried over: in the time that this leaves until the deadline, and
        until the next picture has to be begun. interval_s : between pictures"""
        rest_s = self.rests.costs_s().get(CARRY, self.costs.costs_s().get(CARRY, 0.0))
        until_s, costs = min(deadline_s, now_s + SPARE * interval_s), self.spread.costs
        if costs.known and not self.spread.choose(now_s, until_s - rest_s, _SPREAD_GAINS):
            self.spread.took(False, 0.0, now_s, late=False)
            return at_once(clock)
        return Stopper(clock, until_s, rest_s + costs.costs_s().get(True, 0.0))

    def painted(self, way: Way, stopper: Stopper, began_s: float, now_s: float, late: bool) -> None:
        """What became of it."""
        given_up = stopper.stopped and way.level in STEPS
        if stopper.asked_s and not given_up:
            self.rests.observe(way, now_s - stopper.asked_s[-1])
        if way != CARRY:
            self._keep_pace(way, stopper, now_s, given_up or late)
            self.governor.took(way, now_s - began_s, now_s, late, given_up, blamed=way.level in STEPS)
            return
        parts_s = stopper.parts_s
        for number, part_s in enumerate(parts_s, 1):
            self.spread.took(True, part_s, now_s, late and number == len(parts_s))
        self.governor.took(way, now_s - began_s - stopper.asking_s, now_s, late and not parts_s, blamed=False)

    def _keep_pace(self, way: Way, stopper: Stopper, now_s: float, failed: bool) -> None:
        """The fastest that was seen: what is slower than that is told by the cost."""
        whole_s = now_s - stopper.began_s
        if stopper.asked_s and not failed and not 0 < self.paces.get(way, Pace()).whole_s <= whole_s:
            asked_s = tuple(at_s - stopper.began_s for at_s in stopper.asked_s)
            self.paces[way] = Pace(asked_s, whole_s)


def at_once(clock: Clock) -> Stopper:
    """What stops at once."""
    return Stopper(clock, -math.inf)

"""Deadline control: which of several ways to do something fits into the time left. Policy for both ends.

    CostModel   what each option took on this machine lately, p95
    plan        pure: of the options that fit, the one that gains most
    Ceiling     after one that did not fit: nothing above it for a while; a value with a pure transition

    costs, gains, ceiling -> Governor.choose -> the option to take -> its time -> Governor.took -> costs, ceiling

Options come cheapest first; the first is what is done when nothing fits. What holds whatever the costs do
(tests/unit/test_deadline.py):

- A later deadline never gains less.
- After a late option the next one stands below it, and fits if any does and all became slower alike.
- The ceiling rises at most once in `HOLD_S`. When the first try above it fails, the next one waits four times as long,
  up to `LONGEST_HOLD_S`: trying what is too dear costs one option in that time. It does not rise for what gains nothing.
- Once there is time again, what fits best is taken within `LONGEST_HOLD_S` and the time in which its cost fades.
- Memory is bounded.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

HOLD_S = 0.5
"""How long nothing is tried above an option after one that did not fit: no oscillation is faster than this."""
LONGEST_HOLD_S = 16.0
"""The most that this grows to while every try fails: one picture in 400 at 25 a second."""

_LONGER = 4
_NONE = 1 << 30
_WINDOW = 48
_P95 = 0.95
_NEARLY, _GRAIN_S = 1.5, 0.001  # times the least, or so much more: what takes next to nothing varies by more
_FADE = 0.98  # per option taken that was another one: after one slow picture a level is tried again within a second


def plan(now_s: float, deadline_s: float | None, costs_s: Mapping[K, float], gains: Mapping[K, float]) -> K:
    """The option that is expected to gain most of those expected to be ready in time; of equal ones the cheaper.

    gains : what each option is worth, cheapest option first; the first one always fits
    costs_s : p95 of what each takes; one without a cost has never been tried and is not chosen
    deadline_s : None leaves out nothing that has a cost
    """
    first, *others = gains
    fitting = [
        option
        for option in others
        if option in costs_s and (deadline_s is None or now_s + costs_s[option] <= deadline_s)
    ]
    return max([first, *fitting], key=lambda option: (gains[option], -costs_s.get(option, 0.0)))


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Nothing above place `place` of the options until `until_s`.

    hold_s : how long the last fall after a failed try was to last
    failed : place of what was tried then; what gains as much and stands below it is preferred from then on
    """

    place: int = 0
    until_s: float = -math.inf
    hold_s: float = HOLD_S
    failed: int = _NONE

    def permits(self, options: Sequence[K], now_s: float) -> Sequence[K]:
        """Those of the options, cheapest first, that may be taken now; never none."""
        return options if now_s >= self.until_s else options[: self.place + 1]

    def lowered(self, place: int, now_s: float, tried: bool) -> Ceiling:
        """The ceiling after an option above `place` did not fit.

        tried : it was found out by taking it, and not told by its cost
        """
        failed = place + 1 if tried else self.failed
        if now_s < self.until_s:
            return Ceiling(min(place, self.place), max(self.until_s, now_s + HOLD_S), self.hold_s, failed)
        if not tried:
            return Ceiling(place, now_s + HOLD_S, self.hold_s, failed)
        failed_soon = now_s - self.until_s < _LONGER * self.hold_s
        hold_s = min(LONGEST_HOLD_S, _LONGER * self.hold_s) if failed_soon else HOLD_S
        return Ceiling(place, now_s + hold_s, hold_s, failed)


class CostModel(Generic[K]):
    """p95 of what each option took on this machine lately, in seconds. For one device and one size of picture.

    An option that was found too dear is not measured any more, so its cost fades until it is tried again, since load goes
    away; but never below the least that it took. After a late one all are expected to be slower than at their best by as
    much as that was, or any since, until one is nearly at its best.
    """

    def __init__(self) -> None:
        self._seen: dict[K, _Seen] = {}
        self._count = 0
        self._slowed = 1.0

    @property
    def known(self) -> bool:
        """Whether anything has been measured yet."""
        return bool(self._seen)

    def observe(self, option: K, cost_s: float, late: bool = False) -> None:
        """Note what taking `option` took. late : it missed its deadline"""
        self._count += 1
        seen = self._seen.setdefault(option, _Seen(self._count, cost_s))
        seen.add(cost_s, self._count)
        slowed = cost_s / seen.least_s if seen.least_s > 0 else 1.0
        self._slowed = slowed if late else min(self._slowed, slowed)
        if self._slowed < _NEARLY or (not late and cost_s - seen.least_s < _GRAIN_S):
            self._slowed = 1.0

    def costs_s(self) -> dict[K, float]:
        """p95 by option."""
        return {
            option: max(seen.p95_s(self._count), self._slowed * seen.least_s)
            for option, seen in self._seen.items()
        }


@dataclass(slots=True)
class _Seen:
    """What one option took lately.

    last : the number of the last time; least_s : ever
    """

    last: int
    least_s: float
    costs_s: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))

    def add(self, cost_s: float, number: int) -> None:
        """One more. What has faded by now stays so: else one good try after a hard time would be forgotten at once."""
        faded = _FADE ** max(0, number - self.last - 1)
        self.least_s = min(cost_s, self.least_s)
        if faded < 1.0:
            kept = [max(self.least_s, faded * old_s) for old_s in self.costs_s]
            self.costs_s.clear()
            self.costs_s.extend(kept)
        self.costs_s.append(cost_s)
        self.last = number

    def p95_s(self, number: int) -> float:
        """By now; the least value that 95 % do not exceed. By a sort: numpy takes ten times as long on so few."""
        of = sorted(self.costs_s)[math.ceil(_P95 * len(self.costs_s)) - 1]
        return max(self.least_s, of * _FADE ** (number - self.last))


@dataclass(slots=True)
class Governor(Generic[K]):
    """Chooses among `options`, cheapest first, and learns from what became of it."""

    options: tuple[K, ...]
    costs: CostModel[K] = field(default_factory=CostModel)
    ceiling: Ceiling = field(default_factory=Ceiling)

    def choose(self, now_s: float, deadline_s: float | None, gains: Mapping[K, float]) -> K:
        """The option to take now. gains : of some or all of the options, in their order; the first one always fits
        deadline_s : None takes the best, whatever was late before"""
        known = self.costs.costs_s()
        if deadline_s is None:
            return plan(now_s, None, known, gains)
        offered = self._among(gains, self.ceiling.permits(self.options, now_s))
        below = self._among(gains, self.options[: self.ceiling.failed])
        chosen, safe = (plan(now_s, deadline_s, known, some) for some in (offered, below))
        if gains[safe] >= gains[chosen]:  # nothing to be won by what has failed
            chosen = safe if safe in offered else chosen
        if gains[chosen] < gains[plan(now_s, None, known, offered)]:
            self.ceiling = self.ceiling.lowered(self.options.index(chosen), now_s, tried=False)
        return chosen

    @staticmethod
    def _among(gains: Mapping[K, float], options: Sequence[K]) -> dict[K, float]:
        """Those of the gains that are of one of `options`; never none."""
        some = {option: gain for option, gain in gains.items() if option in options}
        return some or dict([next(iter(gains.items()))])

    def took(
        self, option: K, cost_s: float, now_s: float, late: bool, given_up: bool = False, blamed: bool = True
    ) -> None:
        """What became of it.

        late : it was ready after its deadline; given_up : it was left for a cheaper one on the way, so as not to be late
        blamed : not what is so cheap that something else was the cause, and that its cost alone tells when it is too dear
        """
        if given_up:  # it would have taken longer
            cost_s = max(cost_s, self.costs.costs_s().get(option, 0.0))
        self.costs.observe(option, cost_s, late)
        if (late and blamed) or given_up:
            self.ceiling = self.ceiling.lowered(max(0, self.options.index(option) - 1), now_s, tried=True)

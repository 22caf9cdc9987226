"""What a live sender leaves out when a frame comes late: before each optional stage, whether it still fits.

    frame due --interval--> deadline;  p95 of the stage and of what comes after it -> Governor -> run it, or leave it out

For live sending alone: what is sent then depends on how fast the machine is. Files and simulated links have no budget, so
that the same input gives the same bytes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from common.deadline import CostModel, Governor

Stage = Literal["sharpness", "motion", "labels", "anchor", "residual", "anchor policy"]
"""Those that a frame can do without, as the sender's timer names them: a later frame makes up for each."""

STARVED_S = 4.0
"""A stage that was left out for so long is run once, whatever becomes of that frame: none starves."""

_GAINS = {False: 0.0, True: 1.0}


@dataclass(slots=True)
class _Turn:
    """One stage: whether it is run is a ladder of two. since_s : since when it has been left out, None if it was not"""

    governor: Governor[bool] = field(default_factory=lambda: Governor((False, True)))
    since_s: float | None = None


@dataclass(slots=True)
class SenderBudget:
    """Of one sender.

    interval_s : between frames, which is what one may take
    behind_s : how long the next frame has been waiting; for whoever paces frames to set before each
    left_out : how often each stage was
    """

    interval_s: float
    behind_s: float = 0.0
    left_out: Counter[str] = field(default_factory=Counter)
    _deadline_s: float = 0.0
    _last_s: float | None = None
    _turns: dict[Stage, _Turn] = field(default_factory=dict)
    _rest: CostModel[None] = field(default_factory=CostModel)

    def begin(self, now_s: float) -> None:
        """Work on a frame begins."""
        self._deadline_s = now_s - self.behind_s + self.interval_s
        self.behind_s, self._last_s = 0.0, None

    def affords(self, stage: Stage, now_s: float) -> bool:
        """Whether to run `stage` now; who does says `took` afterwards."""
        turn = self._turns.setdefault(stage, _Turn())
        never_run = not turn.governor.costs.known
        starved = turn.since_s is not None and now_s - turn.since_s >= STARVED_S
        if never_run or starved or turn.governor.choose(now_s, self._due_s(), _GAINS):
            turn.since_s = None
            return True
        turn.since_s = now_s if turn.since_s is None else turn.since_s
        turn.governor.took(False, 0.0, now_s, late=False)
        self.left_out[stage] += 1
        return False

    def took(self, stage: Stage, cost_s: float, now_s: float) -> None:
        """A stage is over."""
        turn = self._turns.setdefault(stage, _Turn())
        turn.governor.took(True, cost_s, now_s, late=now_s > self._due_s())
        self._last_s = now_s

    def end(self, now_s: float) -> None:
        """The frame is ready to be sent."""
        if self._last_s is not None:
            self._rest.observe(None, now_s - self._last_s)

    def _due_s(self) -> float:
        """When the optional stages have to be over: what always comes after them takes time too."""
        return self._deadline_s - self._rest.costs_s().get(None, 0.0)

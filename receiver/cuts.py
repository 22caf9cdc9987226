"""Where new scenes begin, told from the guide alone: the sender's announcement may be lost, or it may have missed one.

    guide -> Look -> black?                                                       -> none
                     like one of the last pictures, or as much changes anyway?    -> the same scene
                     light came or went?                                          -> waits, as long as a flash lasts
                     else                                                         -> a new one

What makes two pictures one scene stands in `common.likeness`. Nothing else testifies: of all that was received with a new
scene and with other pictures (24 kbit/s, joined development clips) the label map was another one at 8 % and at 4 %, the
decoder less sure than before at 18 % and at 7 % (38 % where it paints), while pictures that are unlike the last ones are
of new scenes nearly always. 0.2 ms a picture, 1 ms at a cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from common.likeness import (
    DARK,
    DETAIL,
    EARLIER,
    RESTLESS,
    TRACE,
    Look,
    belongs,
    detail_between,
    look_of,
    unrest,
)
from common.semantics import LabelMap
from common.state import SceneState

LONGEST_FLASH = 4
"""Pictures that light may take to come and go, and a coarse guide to show the scene again after it."""

_AGAINST = 0.01
"""Of the change of a picture, what may get darker where light comes, or brighter where it goes: noise."""
_UNSTEADY = 0.5
"""Of the change to the present picture, the changes just before from which on little of the detail need be left, and
from `RESTLESS` on nothing: a coarse guide shows movement in jumps."""
_KEPT = max(EARLIER) + 1


@dataclass(frozen=True, slots=True, eq=False)
class SceneWatch:
    """What is remembered, 40 kB.

    recent : the last pictures of this scene that show something, newest last
    waited : pictures since then that may be of a flash
    dark : it was dark since
    """

    recent: tuple[Look, ...] = ()
    waited: int = 0
    dark: bool = False


def watched(watch: SceneWatch, now: Look) -> tuple[bool, SceneWatch]:
    """Whether another scene is there than before, and what to remember. The first picture begins none."""
    if now.blank:  # shows no scene
        return False, replace(watch, dark=watch.dark or now.light < DARK)
    if not watch.recent or _belongs(watch, now):
        return False, SceneWatch((*watch.recent, now)[-_KEPT:])
    flash = not watch.dark and (watch.waited > 0 or _is_lit(watch.recent[-1], now))
    if flash and watch.waited < LONGEST_FLASH:
        return False, replace(watch, waited=watch.waited + 1)
    return True, SceneWatch((now,))


def _belongs(watch: SceneWatch, now: Look) -> bool:
    recent = watch.recent
    if watch.dark:  # of what comes out of the dark, light and palette say nothing
        return any(detail_between(recent[-k], now) >= DETAIL for k in EARLIER if k <= len(recent))
    before = unrest(recent, now)
    if before is None:  # nobody knows how much changes anyway
        return belongs(recent, now, TRACE)
    return before >= RESTLESS or belongs(recent, now, TRACE if before >= _UNSTEADY else DETAIL)


def _is_lit(before: Look, now: Look) -> bool:
    """Whether light alone can have made one picture of the other, as in flashes and fades: paler, and nowhere darker, or
    nowhere brighter."""
    change = now.coarse[0] - before.coarse[0]
    brighter, darker = float(change.clip(min=0).sum()), float(-change.clip(max=0).sum())
    return now.contrast < before.contrast and min(brighter, darker) <= _AGAINST * (brighter + darker)


# --- what is left of the scene before -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Stale:
    """What must not be shown again.

    slot : frame with which the new scene was there; anchors of earlier ones are stale
    labels : the map as it was sent before, None where there was another since
    """

    slot: int
    labels: LabelMap | None


def stale_after(before: SceneState | None, state: SceneState) -> Stale:
    """What a new scene makes stale. before : the state shown last; state : of the first picture of the new scene"""
    kept = before is not None and before.labels is state.labels
    return Stale(state.slot, state.labels if kept else None)


def without_stale(state: SceneState, stale: Stale | None) -> SceneState:
    """The state as the new scene is to be painted from. Where an anchor is withdrawn no residual fits it, for residuals
    correct the picture that has it."""
    if stale is None:
        return state
    if stale.labels is not None and state.labels is stale.labels:
        state = replace(state, labels=np.zeros_like(state.labels))
    if state.anchor is not None and state.anchor.slot < stale.slot:
        state = replace(state, anchor=None, track=None, digest=~state.digest & 0xFFFFFFFF)
    return state


# --- of a session -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class SceneKeeper:
    """Owns what a receiver knows of the scene that it shows.

    shown : the state of the picture shown last; blind : no scene is ever new, to measure what seeing them is worth
    """

    watch: SceneWatch = field(default_factory=SceneWatch)
    stale: Stale | None = None
    shown: SceneState | None = None
    blind: bool = False

    def begins(self, state: SceneState) -> bool:
        """Whether with the next picture to show, as received, another scene is there; call it once for each."""
        if state.guide is None or self.blind:
            return False
        new, self.watch = watched(self.watch, look_of(state.guide))
        if new:
            self.stale = stale_after(self.shown, state)
        self.shown = state
        return new

    def fresh(self, state: SceneState) -> SceneState:
        """The state without what is known to be of another scene."""
        return without_stale(state, self.stale)

    def forget(self) -> None:
        """Another stream begins."""
        self.watch, self.stale, self.shown = SceneWatch(), None, None

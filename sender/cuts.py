"""Where new scenes begin, frame by frame and without look-ahead.

    picture -> Look -> blank?      black or white shows no scene: what comes after it is compared with what was before
                    -> cut?        unlike each of the last pictures: a flash is over in a few of them
                    -> cross-fade? changes in a straight line until it is there, and is another scene then

What makes two pictures one scene stands in `common.likeness`. Cross-fades are found by twin comparison (Zhang et al.
1993, "Automatic partitioning of full-motion video"), with the middle of three pictures telling a mixture from movement.
0.2 ms a picture at 512x512, 1 ms at a cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2

from common.likeness import DETAIL, TRACE, Look, belongs, change_between, detail_between, look_of, same_scene
from common.types import Picture

LEAST_GAP = 6
"""Pictures between two cuts, at least: a key picture takes the rate of as many."""

_SPAN = 4
"""Pictures between the three that a cross-fade is seen in."""
_KEPT = 2 * _SPAN + 1
_DRIFT = 10.0
"""Change of the luma over both spans, sample steps, from which on it can be a cross-fade."""
_STRAIGHT, _BENT = 0.30, 0.40
"""How far the middle picture may be from the mean of the others, over that change, for a cross-fade to begin and to go
on: half of those within cross-fades have less than the first, of zooms and of scenes in which much moves 1 %."""
_SLOWED = 0.5
"""Over the fastest change, the change at which a cross-fade is over."""
_SLOWING = 0.85
"""Over the fastest change, the change with which what bends may be a cross-fade that is over: things that move bend as
they get faster."""
_RISES = 1.02
"""Contrast over that of the picture before, from which on a fade from black goes on."""
_FLASH = 12.0
"""Change of the mean luma within a few pictures, sample steps, that makes a flash."""
_WHIP = 12.0
"""Change from one picture to the next, sample steps, that makes a whip pan."""
_SHORTEST, _LONGEST = 4, 60
"""Pictures that a cross-fade may take after it has been noticed, some six after its first."""


@dataclass(frozen=True, slots=True, eq=False)
class _Fade:
    """A cross-fade that is going on. origin : what was seen before; fastest : change over a span so far"""

    origin: Look
    age: int
    fastest: float


@dataclass(frozen=True, slots=True, eq=False)
class CutState:
    """What the detector remembers, at most 60 kB.

    recent : the last pictures of this scene, newest last
    hidden : what was seen before it became blank, None while there is something to see
    rising : it is getting brighter since
    fade : a cross-fade that is going on
    since : pictures since the last cut, counted up to `LEAST_GAP`
    owed : a scene has begun too soon after the last
    """

    recent: tuple[Look, ...] = ()
    hidden: Look | None = None
    rising: bool = False
    fade: _Fade | None = None
    since: int = LEAST_GAP
    owed: bool = False

    @property
    def change(self) -> float:
        """From the picture before to the newest, sample steps; infinite where nothing is known of the one before."""
        return change_between(*self.recent[-2:]) if len(self.recent) > 1 else math.inf

    @property
    def passing(self) -> bool:
        """Whether the newest picture is of a flash, a fade from black, or a whip pan: nothing to make an anchor of."""
        dark = self.hidden is not None or self.rising
        if dark or len(self.recent) < 2:
            return dark
        *before, now = self.recent[-_SPAN - 1 :]
        lit = any(abs(now.light - look.light) >= _FLASH for look in before)
        return lit or self.change >= _WHIP


def detect_cut(state: CutState, picture: Picture) -> tuple[bool, CutState]:
    """Whether with `picture` a new scene is there, and the next state. The first picture begins none."""
    look = look_of(picture)
    if look.blank:
        before = state.recent[-1] if state.recent else look
        return _judged(state, False, recent=(look,), hidden=state.hidden or before)
    if state.hidden is not None:
        new = (
            detail_between(state.hidden, look) < DETAIL
        )  # of what comes out of the dark the palette says nothing
        return _judged(state, new, recent=(look,), rising=True)
    if state.recent and not belongs(state.recent, look, TRACE if state.rising else DETAIL):
        return _judged(state, True, recent=(look,))
    if state.rising and look.contrast > _RISES * state.recent[-1].contrast:
        return _judged(state, False, recent=(look,), rising=True)
    recent = (*state.recent, look)[-_KEPT:]
    fade, over = _followed(state.fade, recent)
    new = over is not None and not same_scene(over, look, TRACE)
    return _judged(state, new, recent=(look,) if new else recent, fade=fade)


def _judged(
    state: CutState,
    new: bool,
    recent: tuple[Look, ...],
    hidden: Look | None = None,
    rising: bool = False,
    fade: _Fade | None = None,
) -> tuple[bool, CutState]:
    """new : a scene begins with the newest of `recent`; it is announced once enough time has passed since the last."""
    since, owed = min(state.since + 1, LEAST_GAP), state.owed or new
    cut = owed and since >= LEAST_GAP
    return cut, CutState(recent, hidden, rising, fade, 0 if cut else since, owed and not cut)


def _followed(fade: _Fade | None, recent: tuple[Look, ...]) -> tuple[_Fade | None, Look | None]:
    """The cross-fade after one picture more, and where one is over what was seen before it."""
    if len(recent) < _KEPT:
        return None, None
    first, middle, last = (look.coarse[0] for look in recent[::_SPAN])
    drift = float(cv2.absdiff(first, last).mean())
    bend = float(cv2.absdiff(middle, (first + last) / 2).mean()) / (drift + 0.5)
    if fade is None:
        begins = drift > _DRIFT and bend < _STRAIGHT
        return (_Fade(recent[0], 0, 0.0) if begins else None), None
    speed = float(cv2.absdiff(middle, last).mean())
    fade = replace(fade, age=fade.age + 1, fastest=max(fade.fastest, speed))
    slow = speed < _SLOWED * fade.fastest
    if bend > _BENT or slow or fade.age > _LONGEST:
        whole = fade.age >= _SHORTEST and speed < _SLOWING * fade.fastest
        return None, (fade.origin if whole else None)
    return fade, None

"""Where new scenes begin, told from what arrived alone: the sender's announcement may be lost, or it may have missed one.

    scene received -> Evidence -> like one of the last pictures? -------------------------------> the same scene
                                  unlike all of them ------------------------------------------> a new one
                                  rather unlike: a witness agrees -> a new one; else in doubt, for a few pictures

Witnesses: the warped anchor no longer fits the guide, the label map is another one, much had to be corrected, the
decoder became unsure. Pictures are the guide's, so the likeness of two of them is that of blurred ones: of lit and of
moving pictures less is left than the sender sees. 0.2 ms a picture, 1 ms at a cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from common.likeness import EARLIER, Look, belongs, look_of
from common.semantics import LabelMap
from common.state import Composition, SceneState
from common.types import Picture

CLEARLY = 0.31
"""Correlation of the detail below which no witness is asked: of cuts at 24 kbit/s 0.1 to 0.27 is left, of flashes and
whip pans 0.32 and more."""
LONGEST_DOUBT = 3
"""Pictures after which what is unlike those before, and has no witness, is taken for the same scene."""

LONGEST_FLASH = 4
"""Pictures that may be dazzling: a coarse guide leaves nothing of the scene in them."""

_DAZZLING, _PALE = 40.0, 1 / 3
"""By how many luma steps a dazzling picture is brighter than the one before, and what is left of the contrast."""
_KEPT = max(EARLIER) + LONGEST_DOUBT
_LEAST_TRUSTED = 0.1
"""Part of the picture that an anchor must have been trusted in, for it to say anything."""
_LEAST_LABELLED = 0.02
"""Part of the picture that must be labelled, before or now."""
_RELABELLED = 0.6
"""Of that, the part with another label that makes another map."""
_MUCH_CORRECTED, _MORE_CORRECTED = 0.1, 3.0
"""Part of the picture that a residual corrects, at least, and over the mean before."""
_MORE_UNSURE = 1.3
"""Uncertainty over the mean before."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What one picture, as received, says about its scene.

    look : of the guide
    trusted : part of the picture where the warped anchor fits the guide, 0..1; None without anchor
    labels : uint8 [H/16, W/16], as they are now
    corrected : part of the picture that a residual corrects, 0..1
    unsure : mean uncertainty of the picture painted last, None where that is not known
    """

    look: Look
    trusted: float | None
    labels: LabelMap
    corrected: float
    unsure: float | None


@dataclass(frozen=True, slots=True, eq=False)
class SceneWatch:
    """What is remembered, at most 8 pictures' evidence.

    recent : of the last pictures of this scene that show something, newest last
    doubted : how many of them, the newest, may be of another scene
    dazzled : pictures since the last of them
    """

    recent: tuple[Evidence, ...] = ()
    doubted: int = 0
    dazzled: int = 0


def evidence_of(guide: Picture, scene: Composition, uncertainty: NDArray[np.uint8] | None) -> Evidence:
    """What a received scene says. guide : at its own size; uncertainty : of the picture painted last"""
    trusted = None if scene.warped is None else float(np.mean(scene.reliability > 127))
    unsure = None if uncertainty is None else float(uncertainty.mean())
    return Evidence(look_of(guide), trusted, scene.labels, float(scene.residual_mask.mean()), unsure)


def watched(watch: SceneWatch, now: Evidence) -> tuple[bool, SceneWatch]:
    """Whether another scene is there than before, and what to remember. The first picture begins none."""
    if now.look.blank:  # shows no scene
        return False, watch
    known = watch.recent[: len(watch.recent) - watch.doubted]
    if known and watch.dazzled < LONGEST_FLASH and _dazzles(known[-1].look, now.look):
        return False, replace(watch, dazzled=watch.dazzled + 1)
    looks = [one.look for one in known]
    if not looks or belongs(looks, now.look):
        return False, SceneWatch(_remembered(watch, now))
    if not belongs(looks, now.look, CLEARLY) or _has_witness(known, now):
        return True, SceneWatch((now,))
    doubted = watch.doubted + 1
    return False, SceneWatch(_remembered(watch, now), doubted if doubted <= LONGEST_DOUBT else 0)


def _remembered(watch: SceneWatch, now: Evidence) -> tuple[Evidence, ...]:
    return (*watch.recent, now)[-_KEPT:]


def _dazzles(before: Look, now: Look) -> bool:
    return now.light > before.light + _DAZZLING and now.contrast < _PALE * before.contrast


# --- witnesses ----------------------------------------------------------------------------------------------------


def _has_witness(known: tuple[Evidence, ...], now: Evidence) -> bool:
    return (
        _anchor_fails(known, now)
        or _relabelled(known[-1].labels, now.labels)
        or _much_corrected(known, now)
        or _unsure(known, now)
    )


def _anchor_fails(known: tuple[Evidence, ...], now: Evidence) -> bool:
    before = [one.trusted for one in known if one.trusted is not None]
    if not before or now.trusted is None:
        return False
    usual = float(np.mean(before))
    return usual >= _LEAST_TRUSTED and now.trusted < usual / 2


def _relabelled(before: LabelMap, now: LabelMap) -> bool:
    if before.shape != now.shape or before is now:
        return False
    labelled = (before > 0) | (now > 0)
    if labelled.mean() < _LEAST_LABELLED:
        return False
    return float((before != now)[labelled].mean()) >= _RELABELLED


def _much_corrected(known: tuple[Evidence, ...], now: Evidence) -> bool:
    usual = float(np.mean([one.corrected for one in known]))
    return now.corrected >= max(_MUCH_CORRECTED, _MORE_CORRECTED * usual)


def _unsure(known: tuple[Evidence, ...], now: Evidence) -> bool:
    before = [one.unsure for one in known if one.unsure is not None]
    if not before or now.unsure is None:
        return False
    return now.unsure >= _MORE_UNSURE * float(np.mean(before))


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

    shown : the state of the picture shown last; uncertainty : the map painted last
    """

    watch: SceneWatch = field(default_factory=SceneWatch)
    stale: Stale | None = None
    shown: SceneState | None = None
    uncertainty: NDArray[np.uint8] | None = None

    def fresh(self, state: SceneState) -> SceneState:
        """The state without what is known to be of another scene."""
        return without_stale(state, self.stale)

    def begins(self, state: SceneState, scene: Composition) -> bool:
        """Whether with the next picture to show another scene is there; call it once for each.

        state, scene : as received, and composed from what is fresh of that
        """
        if state.guide is None:
            return False
        new, self.watch = watched(self.watch, evidence_of(state.guide, scene, self.uncertainty))
        if new:
            self.stale, self.uncertainty = stale_after(self.shown, state), None
        self.shown = state
        return new

    def painted(self, uncertainty: NDArray[np.uint8] | None) -> None:
        """Note how sure the decoder was of the picture."""
        self.uncertainty = uncertainty

    def forget(self) -> None:
        """Another stream begins."""
        self.watch, self.stale, self.shown, self.uncertainty = SceneWatch(), None, None, None

"""Anchor policy: try before you buy.

An anchor costs seconds of a slow link, so the sender finds out first whether it will be worth it: it keeps one of its
past pictures, coded as an anchor would be, follows the motion to the present exactly as a receiver would, and measures
what the base picture gains. Only a scene in which yesterday's detail still fits today is worth an anchor; under fast
ego-motion the trial shows no gain and every bit stays with the guide.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from common.config import AnchorSettings
from common.fusion import blend, downsample_plane, reliability, upsample
from common.motion import refine, warp, zero_field
from common.state import SceneState, Track, compose
from common.types import Picture
from common.wire import AnchorUnit
from sender.coded import Speed, preset_for
from sender.rate import measured_complexity
from sender.svtav1 import SvtAv1Encoder

_TRIAL_S = 0.6  # how long a trial must hold before it counts
_RESTART_S = 1.6  # when a losing trial is tried again
SIZE_S = 2.0  # seconds of the full rate that one anchor may take
_FINEST, _COARSEST = 24, 58  # quantiser range of anchors


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A coded picture that is tracked as if it were the anchor; gain_db of base over guide so far."""

    slot: int
    picture: Picture
    track: Track
    gain_db: float = 0.0


def luma_mse(a: Picture, b: Picture) -> float:
    difference = a.y.astype(np.int16) - b.y
    return float(np.mean(difference.astype(np.float32) ** 2))


def gain_db(source: Picture, base: Picture, guide: Picture) -> float:
    """How much closer to the source the base picture is than the guide."""
    return 10 * math.log10((luma_mse(source, guide) + 0.01) / (luma_mse(source, base) + 0.01))


def start_trial(picture: Picture, state: SceneState) -> Trial:
    """Begin to track `picture`, a coded anchor of the frame that `state` is at."""
    reference = downsample_plane(picture.y, state.scale)
    return Trial(state.slot, picture, Track(reference, zero_field(picture.height, picture.width)))


def follow_trial(trial: Trial, source: Picture, state: SceneState) -> Trial:
    """Track to the current guide and measure the gain now."""
    assert state.guide is not None
    field = refine(trial.track.reference, state.guide.y, trial.track.field, state.scale, state.slot)
    warped, guide = warp(trial.picture, field), upsample(state.guide, state.scale)
    base = blend(warped, guide, reliability(warped.y, state.guide.y, guide.y, state.scale))
    return Trial(trial.slot, trial.picture, Track(trial.track.reference, field), gain_db(source, base, guide))


@dataclass(frozen=True, slots=True, eq=False)
class AnchorState:
    """trial : the running trial; current_gain_db : measured gain of the anchor in use"""

    trial: Trial | None = None
    current_gain_db: float = 0.0


@dataclass(frozen=True, slots=True)
class AnchorOrder:
    """launch : take this very frame as a new anchor; drop : stop using the present one"""

    launch: bool = False
    drop: bool = False


def break_even_db(settings: AnchorSettings, life_s: float) -> float:
    """Least gain that pays an anchor back within its life; infinite where it would have none.

    While it is on its way the guide lives on the rest of the rate; quality falls 5.7 dB per tenfold rate (measured on
    the SVT-AV1 ladder of the development clips).
    """
    if life_s <= 0:
        return math.inf
    loss_db = 5.7 * math.log10(1 / max(0.05, 1 - settings.max_share))
    return max(settings.min_gain_db, loss_db * SIZE_S / settings.max_share / min(settings.max_age_s, life_s))


def decide(
    anchors: AnchorState,
    source: Picture,
    state: SceneState,
    busy: bool,
    frame_rate: Fraction,
    settings: AnchorSettings,
    life_s: float,
    coded: Callable[[], Picture],
) -> tuple[AnchorOrder, AnchorState]:
    """What to do about anchors, given the frame that `state` is at; called once per group of pictures.

    busy : an anchor is on its way already, or the rate is overdrawn
    life_s : how long an anchor launched now is expected to serve
    coded : gives `source` as a receiver of an anchor would see it
    """  # fmt: skip
    if not settings.enabled or state.scale == 1 or state.guide is None:
        return AnchorOrder(drop=state.anchor is not None), AnchorState()
    current = anchors.current_gain_db
    if state.anchor is not None:
        scene = compose(state)
        current = 0.7 * current + 0.3 * gain_db(source, scene.base, scene.guide)
        if current < -0.05:
            return AnchorOrder(drop=True), AnchorState(anchors.trial, 0.0)
        if state.slot - state.anchor.slot < settings.max_age_s * frame_rate:
            return AnchorOrder(), AnchorState(None, current)
    if busy:
        return AnchorOrder(), AnchorState(None, current)
    if anchors.trial is None:
        return AnchorOrder(), AnchorState(start_trial(coded(), state), current)
    trial = follow_trial(anchors.trial, source, state)
    age_s = float((state.slot - trial.slot) / frame_rate)
    if age_s >= _TRIAL_S and trial.gain_db >= break_even_db(settings, life_s) + max(0.0, current):
        return AnchorOrder(launch=True), AnchorState(None, current)
    if age_s >= _RESTART_S:
        trial = start_trial(coded(), state)
    return AnchorOrder(), AnchorState(trial, current)


def encode_anchor(
    picture: Picture, slot: int, anchor_id: int, budget_bytes: float, frame_rate: Fraction, speed: Speed
) -> AnchorUnit:
    """An AV1 still of about `budget_bytes`: one trial, one correction."""
    preset = preset_for(speed, picture.width, picture.height)
    encoder = SvtAv1Encoder(picture.width, picture.height, frame_rate, preset)
    try:
        quantiser = 44
        coded = encoder.encode(picture, quantiser, key=True)
        complexity = measured_complexity(len(coded.data), quantiser)
        wanted = round(8.5 * (complexity - math.log2(max(64.0, budget_bytes))))
        wanted = min(_COARSEST, max(_FINEST, wanted))
        if abs(wanted - quantiser) > 1:
            quantiser = wanted
            coded = encoder.encode(picture, quantiser, key=True)
    finally:
        encoder.close()
    return AnchorUnit(slot, anchor_id, quantiser, coded.data)

"""Anchor policy: try before you buy, and buy only what pays on this link.

An anchor costs seconds of a slow link, so the sender finds out first whether it will be worth it: it keeps one of its
past pictures, coded as an anchor would be, follows the motion to the present exactly as a receiver would, and measures
block by block what the base picture would gain. Only a scene in which yesterday's detail still fits today is worth an
anchor; under fast ego-motion the trial shows no gain and every bit stays with the guide.

    trial -> saved error by block -> offers: the whole picture, or a rectangle of it  -\\
    link, age of the scene, time left ------------------------------------------------ worth -> the best one, or none
    anchor on its way -> what it would gain now, what of it is left to send ----------/          or given up

What an offer is worth is the gain over its life, less what the guide lacks while the anchor is on its way, in dB x s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import overload

import numpy as np

from common.config import AnchorSettings
from common.fusion import downsample_plane
from common.motion import BLOCK, refine, zero_field
from common.state import Composition, SceneState, Track, compose, sharpen
from common.types import Picture
from common.units import AnchorUnit, Region
from sender.coded import Speed, preset_for
from sender.link import LinkState
from sender.rate import measured_complexity
from sender.regions import best_region
from sender.savings import MEMORY, Floats, Saving, gain_db, gain_of, saving_of
from sender.svtav1 import SvtAv1Encoder

_TRIAL_S = 0.6  # how long a trial must hold before it counts
_RESTART_S = 1.6  # when a losing trial is tried again
SIZE_S = 2.0  # seconds of the full rate that one whole anchor may take
_FINEST, _COARSEST = 24, 58  # quantiser range of anchors
_DB_PER_DECADE = 5.7  # quality by rate, on the SVT-AV1 ladder of the development clips
_FADED = 0.5  # part of its best gain below which an anchor is due for replacement before its time
_UNTRUSTED, _MUCH = 64, 0.5
"""Reliability below which the anchor hardly counts, and the share of such cells that is much."""
_HARMS_DB = -0.05  # gain below which an anchor is dropped
_HEADS_BYTES = 80  # of an anchor, its still and its pieces, however small it is
_LEAST_DB = 0.05  # a gain smaller than that is not measured well enough to pay for
REST_S = 3.0  # for so long nothing is launched after an anchor was of no use
_OVERDUE_S = 3.0  # after so long without a word the receiver will not get the anchor any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What bears on anchors besides pictures.

    scene_s : how long the scene has lasted, which is how long it can be expected to go on
    left_s : seconds to the end of the stream, infinite if unknown
    proven_s : for how long a trial has held what an anchor promises
    overdrawn : the guide cannot do with less at present
    resting : an anchor has just been given up or dropped: the scene is not what it was taken for
    asked : a receiver has found its anchor of little use for a while
    """

    link: LinkState
    scene_s: float
    left_s: float = math.inf
    proven_s: float = math.inf
    overdrawn: bool = False
    resting: bool = False
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """An anchor that could be sent.

    gain_db : of the base picture; size_bytes : about, or left to send; share : of the bytes of a whole anchor
    region : None for the whole picture
    """

    gain_db: float
    size_bytes: float
    share: float = 1.0
    region: Region | None = None


@overload
def worth(gain_db: float, size_bytes: float, outlook: Outlook, settings: AnchorSettings) -> float: ...
@overload
def worth(gain_db: Floats, size_bytes: Floats, outlook: Outlook, settings: AnchorSettings) -> Floats: ...
def worth(
    gain_db: float | Floats, size_bytes: float | Floats, outlook: Outlook, settings: AnchorSettings
) -> float | Floats:
    """What an anchor brings, in dB x s, more the better; minus infinity where it would never be of use.

    Never falls with gain, rate, age of the scene, trial or time left; never rises with size, loss or queue. What a trial
    gains at some age is what the anchor will gain in the middle of its life: it lives to twice that age.
    """
    speed = settings.max_share * outlook.link.goodput_bps / 8
    if speed <= 0:
        return gain_db * 0.0 - math.inf
    transit_s = size_bytes / speed
    until_s = min(outlook.left_s, 2 * outlook.proven_s) - outlook.link.queue_s
    life_s = np.minimum(min(settings.max_age_s, outlook.scene_s), until_s - transit_s)
    lost_db = _DB_PER_DECADE * math.log10(1 / max(0.05, 1 - settings.max_share))
    value = np.maximum(gain_db, 0) * np.maximum(life_s, 0) - lost_db * transit_s
    found = np.where((life_s > 0) & (np.asarray(gain_db) > 0), value, -math.inf)
    return found if isinstance(gain_db, np.ndarray) else float(found)


def choose(offers: Sequence[Offer], outlook: Outlook, settings: AnchorSettings) -> Offer | None:
    """The offer that is worth most, None where none pays, or the link or the guide cannot bear one now."""
    if outlook.overdrawn or outlook.resting or outlook.link.strained:
        return None
    worths = [(worth(offer.gain_db, offer.size_bytes, outlook, settings), offer) for offer in offers]
    value, best = max(worths, key=lambda pair: pair[0], default=(-math.inf, None))
    return best if value > 0 else None


def still_pays(offer: Offer, outlook: Outlook, settings: AnchorSettings) -> bool:
    """Whether what is left of an anchor on its way is worth sending; what has been sent of it is paid for."""
    enough = offer.gain_db >= _least_db(offer.share, settings) / 2
    return enough and worth(offer.gain_db, offer.size_bytes, outlook, settings) > 0


# --- trials  -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A coded picture that is tracked as if it were the anchor.

    size_bytes : of the whole; saving : running mean of what it saves, None before the first measurement
    """

    slot: int
    picture: Picture
    track: Track
    size_bytes: int
    saving: Saving | None = None


def start_trial(picture: Picture, size_bytes: int, state: SceneState) -> Trial:
    """Begin to track `picture`, a coded anchor of the frame that `state` is at."""
    reference = downsample_plane(picture.y, state.scale)
    return Trial(state.slot, picture, Track(reference, zero_field(picture.height, picture.width)), size_bytes)


def follow_trial(trial: Trial, state: SceneState) -> Trial:
    """Track to the current guide."""
    assert state.guide is not None
    field = refine(trial.track.reference, state.guide.y, trial.track.field, state.scale, state.slot)
    return replace(trial, track=Track(trial.track.reference, field))


def measured(trial: Trial, source: Picture, state: SceneState, scene: Composition) -> Trial:
    """The trial with what it saves now taken into the mean."""
    now = saving_of(trial.picture, trial.track.field, source, state, scene)
    return replace(trial, saving=now if trial.saving is None else trial.saving.mixed(now))


def offers_of(trial: Trial, outlook: Outlook, settings: AnchorSettings) -> list[Offer]:
    """The whole picture, and the rectangle of it that is worth most; none where neither would gain enough, however
    long it lived."""
    saving = trial.saving
    if saving is None:
        return []
    offers = [Offer(saving.gain_db(), trial.size_bytes)]
    if settings.partial:
        detail = _detail(trial.picture)

        def worth_of(saved: Floats, share: Floats) -> Floats:
            gain = gain_of(saved, saving.error, detail.size)
            pays = worth(gain, share * trial.size_bytes + _HEADS_BYTES, outlook, settings)
            return np.where(gain >= _least_db(share, settings), pays, -math.inf)

        found = best_region(saving.by_block, detail / detail.sum(), worth_of)
        if found is not None:
            region, share = found
            size_bytes = share * trial.size_bytes + _HEADS_BYTES
            offers.append(Offer(saving.gain_db(region), size_bytes, share, region))
    return [offer for offer in offers if offer.gain_db >= _least_db(offer.share, settings)]


@overload
def _least_db(share: float, settings: AnchorSettings) -> float: ...
@overload
def _least_db(share: Floats, settings: AnchorSettings) -> Floats: ...
def _least_db(share: float | Floats, settings: AnchorSettings) -> float | Floats:
    """The gain asked for: of a part of a whole anchor as much less as it is smaller."""
    least = np.maximum(min(_LEAST_DB, settings.min_gain_db), settings.min_gain_db * share)
    return least if isinstance(share, np.ndarray) else float(least)


def _detail(coded: Picture) -> Floats:
    """How the bytes of a coded picture divide between its blocks, about: by the detail that survived coding."""
    luma = coded.y.astype(np.int16)
    steps = np.zeros(luma.shape, np.int64)
    steps[:, 1:] += np.abs(np.diff(luma, axis=1))
    steps[1:] += np.abs(np.diff(luma, axis=0))
    rows, cols = coded.height // BLOCK, coded.width // BLOCK
    sums = steps.reshape(rows, BLOCK, cols, BLOCK).sum(axis=(1, 3))
    return np.asarray(sums + BLOCK * BLOCK / 8, np.float64)  # a flat block is not for nothing either


# --- the decision --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class AnchorState:
    """What the policy remembers.

    trial : the running one
    current_db, best_db : gain of the anchor in use, now and at its best
    unreliable : share of the picture in which it hardly counts
    """

    trial: Trial | None = None
    current_db: float = 0.0
    best_db: float = 0.0
    unreliable: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class OnItsWay:
    """An anchor that the receiver does not hold yet.

    offer : with what is left of it to send, None where it is to be sent whatever it is worth
    silent_s : since all of it was sent
    """

    offer: Offer | None
    picture: Picture
    silent_s: float


@dataclass(frozen=True, slots=True)
class AnchorOrder:
    """launch : take this very frame as a new anchor; drop : stop using the present one
    give_up : stop sending the one on its way
    offer : what to launch, None for a whole anchor of the usual size
    gain_db : what the one on its way would gain now
    """

    launch: bool = False
    drop: bool = False
    give_up: bool = False
    offer: Offer | None = None
    gain_db: float | None = None


def is_due(anchors: AnchorState, age_s: float, outlook: Outlook, settings: AnchorSettings) -> bool:
    """Whether the anchor in use should be replaced if another one pays: it is old, has faded, hardly counts in much of
    the picture, or a receiver says so. Where parts can be sent, any part may be."""
    faded = anchors.current_db < _FADED * anchors.best_db
    uncertain = anchors.unreliable > _MUCH
    return settings.partial or outlook.asked or faded or uncertain or age_s >= settings.max_age_s


def decide(
    anchors: AnchorState,
    on_its_way: OnItsWay | None,
    source: Picture,
    state: SceneState,
    outlook: Outlook,
    frame_rate: Fraction,
    settings: AnchorSettings,
    coded: Callable[[], tuple[Picture, int]],
) -> tuple[AnchorOrder, AnchorState]:
    """What to do about anchors, given the frame that `state` is at; called once per group of pictures.

    coded : gives `source` as a receiver of a whole anchor would see it, and its bytes
    """  # fmt: skip
    if not settings.enabled or state.scale == 1 or state.guide is None:
        return AnchorOrder(drop=state.anchor is not None, give_up=on_its_way is not None), AnchorState()
    if state.anchor is None and on_its_way is None and outlook.overdrawn:
        return AnchorOrder(), AnchorState()
    scene = compose(state)
    if state.anchor is not None:
        anchors = _watched(anchors, source, state, scene)
        if anchors.current_db < _HARMS_DB:
            return AnchorOrder(drop=True), AnchorState(anchors.trial)
    if on_its_way is not None:
        return _awaited(on_its_way, source, state, scene, outlook, settings), replace(anchors, trial=None)
    age_s = float((state.slot - state.anchor.slot) / frame_rate) if state.anchor is not None else math.inf
    if outlook.overdrawn or not is_due(anchors, age_s, outlook, settings):
        return AnchorOrder(), replace(anchors, trial=None)
    return _tried(anchors, source, state, scene, outlook, frame_rate, settings, coded)


def _watched(anchors: AnchorState, source: Picture, state: SceneState, scene: Composition) -> AnchorState:
    """Follow what the anchor in use is worth."""
    now = gain_db(source, scene.base, sharpen(scene.guide, state))
    current = (1 - MEMORY) * anchors.current_db + MEMORY * now
    unreliable = float(np.mean(scene.reliability < _UNTRUSTED))
    return AnchorState(
        anchors.trial, current, max(current, anchors.best_db),
        (1 - MEMORY) * anchors.unreliable + MEMORY * unreliable,
    )  # fmt: skip


def _awaited(
    on_its_way: OnItsWay,
    source: Picture,
    state: SceneState,
    scene: Composition,
    outlook: Outlook,
    settings: AnchorSettings,
) -> AnchorOrder:
    """Whether to go on sending it."""
    offer = on_its_way.offer
    if on_its_way.silent_s > _OVERDUE_S + outlook.link.queue_s or state.pending is None:
        return AnchorOrder(give_up=True)
    if offer is None:
        return AnchorOrder()
    saving = saving_of(on_its_way.picture, state.pending[1].field, source, state, scene)
    now_db = (1 - MEMORY) * offer.gain_db + MEMORY * saving.gain_db()
    pays = still_pays(replace(offer, gain_db=now_db), outlook, settings)
    return AnchorOrder(give_up=not pays, gain_db=now_db)


def _tried(
    anchors: AnchorState,
    source: Picture,
    state: SceneState,
    scene: Composition,
    outlook: Outlook,
    frame_rate: Fraction,
    settings: AnchorSettings,
    coded: Callable[[], tuple[Picture, int]],
) -> tuple[AnchorOrder, AnchorState]:
    """Go on with the trial, and launch what pays."""
    if anchors.trial is None:
        return AnchorOrder(), replace(anchors, trial=start_trial(*coded(), state))
    trial = follow_trial(anchors.trial, state)
    age_s = float((state.slot - trial.slot) / frame_rate)
    if age_s < _TRIAL_S:
        return AnchorOrder(), replace(anchors, trial=trial)
    trial, proven = measured(trial, source, state, scene), replace(outlook, proven_s=age_s)
    chosen = choose(offers_of(trial, proven, settings), proven, settings)
    if chosen is not None:
        return AnchorOrder(launch=True, offer=chosen), replace(anchors, trial=None)
    hopeless = choose(offers_of(trial, outlook, settings), outlook, settings) is None
    if age_s >= (_RESTART_S if hopeless else settings.max_age_s):
        trial = start_trial(*coded(), state)
    return AnchorOrder(), replace(anchors, trial=trial)


# --- coding --------------------------------------------------------------------------------------------------------


def cropped(picture: Picture, region: Region) -> Picture:
    """The region of a picture."""
    planes = [
        plane[region.y // k : (region.y + region.height) // k, region.x // k : (region.x + region.width) // k]
        for plane, k in zip(picture.planes, (1, 2, 2), strict=True)
    ]
    return Picture(*planes)


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

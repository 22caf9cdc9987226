"""New scenes as a receiver sees them: without the sender's word, and nothing of the old one is used any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.clock import VirtualClock
from common.config import ReceiverSettings
from common.likeness import look_of
from common.state import Composition
from common.types import Picture, UnitKind
from common.wire import is_key
from receiver.cuts import (
    LONGEST_DOUBT,
    LONGEST_FLASH,
    Evidence,
    SceneWatch,
    Stale,
    evidence_of,
    stale_after,
    watched,
    without_stale,
)
from receiver.painter import BasePainter
from receiver.pipeline import ReceiverSession, Shown
from sender.cuts import CutState
from tests.small_stream import Recording, open_session, record

CUT = 80
FPS = 25.0
BLANK = np.zeros((8, 8), np.uint8)


@cache
def textured(seed: int) -> Picture:
    rng = np.random.default_rng(seed)
    coarse = (
        rng.integers(16, 236, (16, 16), dtype=np.uint8).repeat(128 // 16 // k, 0).repeat(128 // 16 // k, 1)
        for k in (1, 2, 2)
    )
    return Picture(*coarse)


@cache
def between(share: float) -> Picture:
    """Something of scene 1 with that much of scene 2."""
    planes = (
        np.rint((1 - share) * a + share * b.astype(np.float64)).astype(np.uint8)
        for a, b in zip(textured(1).planes, textured(2).planes, strict=True)
    )
    return Picture(*planes)


def flat(level: int) -> Picture:
    return Picture(*(np.full((128 // k, 128 // k), level, np.uint8) for k in (1, 2, 2)))


def evidence(picture: Picture, **parts: object) -> Evidence:
    plain = Evidence(look_of(picture), trusted=None, labels=BLANK, corrected=0.0, unsure=None)
    return replace(plain, **parts)  # type: ignore[arg-type]


def found(every: Iterable[Evidence]) -> list[int]:
    watch, slots = SceneWatch(), []
    for slot, one in enumerate(every):
        new, watch = watched(watch, one)
        assert len(watch.recent) <= 8 and watch.doubted <= LONGEST_DOUBT and watch.dazzled <= LONGEST_FLASH
        slots += [slot] * new
    return slots


def of(*scenes: tuple[Picture, int]) -> list[Evidence]:
    return [evidence(picture) for picture, length in scenes for _ in range(length)]


# --- from the pictures --------------------------------------------------------------------------------------------


def test_another_scene_is_seen_at_its_first_picture() -> None:
    assert found(of((textured(1), 6), (textured(2), 6), (textured(1), 6))) == [6, 12]


def test_black_shows_no_scene_and_what_follows_is_compared_with_what_was_before() -> None:
    assert found(of((textured(1), 6), (flat(16), 9), (textured(1), 6))) == []
    assert found(of((textured(1), 6), (flat(16), 9), (textured(2), 6))) == [15]


@settings(max_examples=25)
@given(st.integers(1, LONGEST_FLASH), st.integers(175, 235), st.floats(0.0, 0.15))
def test_a_dazzling_flash_is_no_scene(length: int, level: int, left: float) -> None:
    """Nothing but a little noise is left of the picture."""
    rng = np.random.default_rng(length)
    luma = np.clip(level + 100 * left * rng.normal(0, 1, (128, 128)), 0, 255).astype(np.uint8)
    white = replace(flat(128), y=luma)
    assert found(of((between(0.0), 6), (white, length), (between(0.0), 6))) == []


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=6))
def test_every_change_of_still_scenes_is_found_once(scenes: list[tuple[int, int]]) -> None:
    shown = of(*((textured(seed), length) for seed, length in scenes))
    seeds = [seed for seed, length in scenes for _ in range(length)]
    assert found(shown) == [k for k, (a, b) in enumerate(pairwise(seeds), 1) if a != b]


# --- witnesses ----------------------------------------------------------------------------------------------------

PERHAPS = 0.65
"""So much of the new scene leaves doubt."""


def test_in_doubt_nothing_happens_without_a_witness() -> None:
    shown = of((textured(1), 6), (between(PERHAPS), 12))
    watch = SceneWatch()
    for one in shown[:7]:
        _, watch = watched(watch, one)
    assert watch.doubted == 1
    assert found(shown) == []


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"trusted": 0.6}, {"trusted": 0.1}),
        ({"labels": BLANK + np.uint8(15)}, {"labels": BLANK + np.uint8(3)}),
        ({"corrected": 0.05}, {"corrected": 0.4}),
        ({"unsure": 20.0}, {"unsure": 32.0}),
    ],
)
def test_in_doubt_one_witness_is_enough(before: dict[str, object], now: dict[str, object]) -> None:
    old = [evidence(textured(1), **before)] * 6
    assert found([*old, *[evidence(between(PERHAPS), **now)] * 3]) == [6]
    assert found([*old, *[evidence(between(PERHAPS), **before)] * 3]) == []
    assert found([*old, *[evidence(textured(1), **now)] * 3]) == []  # a witness alone is not


def test_the_decoder_may_say_so_a_picture_later() -> None:
    """How sure it was of a picture is known once that has been painted."""
    old, new = evidence(textured(1), unsure=20.0), evidence(between(PERHAPS), unsure=20.0)
    assert found([*[old] * 6, new, replace(new, unsure=40.0)]) == [7]


# --- what is stale ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unannounced() -> Recording:
    """Slots 56 to 89 with an anchor of slot 64; the sender does not notice the cut at 80."""
    session = open_session()
    session.cuts = CutState(since=-1000)
    recording = record(range(56, 90), session, launch_at=(64,))
    assert not any("cut" in step.events for step in recording.steps)
    return recording


def test_only_what_was_before_the_scene_is_stale(unannounced: Recording) -> None:
    state = next(s.state for f, s in zip(unannounced.frames, unannounced.steps, strict=True) if f.slot == 76)
    assert state.anchor is not None and state.labels.any()
    assert without_stale(state, None) is state
    assert without_stale(state, Stale(state.anchor.slot, None)) is state
    cleared = without_stale(state, Stale(state.slot, state.labels))
    assert cleared.anchor is None and cleared.track is None and not cleared.labels.any()
    assert cleared.digest != state.digest  # so that no residual fits it
    assert stale_after(state, state).labels is state.labels
    assert stale_after(None, state).labels is None


# --- a session ----------------------------------------------------------------------------------------------------


class Forgetful(BasePainter):
    """Counts how often it was told to forget."""

    def __init__(self) -> None:
        super().__init__()
        self.forgotten = 0

    def reset(self, seed: int | None = None) -> None:
        self.forgotten += 1
        super().reset(seed)


def shown_of(recording: Recording, lost: Callable[[int], bool]) -> tuple[list[Shown], Forgetful]:
    """What a receiver shows that loses the key frames of some slots."""
    painter = Forgetful()
    session = ReceiverSession(ReceiverSettings(steps=0, budget_ms=None), painter, VirtualClock())
    painter_resets, shown = 0, []
    for frame, step in zip(recording.frames, recording.steps, strict=True):
        for unit in step.units:
            if not (unit.kind is UnitKind.FRAME and is_key(unit.data) and lost(frame.slot)):
                session.receive(unit.data, frame.slot / FPS)
        painter_resets = painter_resets or painter.forgotten  # learning what painting costs ends in one
        shown.append(session.paint(frame.slot))
    painter.forgotten -= painter_resets
    return shown, painter


def begun(shown: Sequence[Shown]) -> list[int]:
    return [one.frame.slot for one in shown if one.new_scene]


def test_a_receiver_that_lost_the_announcement_sees_the_new_scene_when_it_comes() -> None:
    """The key frame of the cut is lost; the one asked for because of that comes at 104."""
    recording = record(range(74, 108), open_session(), refresh_at=(104,))
    assert any("cut" in step.events for step in recording.steps)
    shown, painter = shown_of(recording, lambda slot: slot == CUT)
    assert all(one.concealed for one in shown if CUT <= one.frame.slot < 104)
    assert begun(shown) == [104] and painter.forgotten == 1


def test_a_refresh_within_a_scene_begins_none() -> None:
    shown, painter = shown_of(record(range(44, 62), open_session(), refresh_at=(58,)), lambda _: False)
    assert begun(shown) == [] and painter.forgotten == 0


def test_an_anchor_of_the_scene_before_is_not_used_though_the_sender_still_does(
    unannounced: Recording,
) -> None:
    shown, painter = shown_of(unannounced, lambda _: False)
    assert begun(shown) == [CUT] and painter.forgotten == 1
    states = {f.slot: s.state for f, s in zip(unannounced.frames, unannounced.steps, strict=True)}
    by_slot = {one.frame.slot: one.scene for one in shown}
    before, after = by_slot[CUT - 1], by_slot[CUT]
    assert states[CUT].anchor is not None
    assert before is not None and before.warped is not None
    assert after is not None and after.warped is None and not after.reliability.any()


def test_evidence_is_what_the_composition_says(unannounced: Recording) -> None:
    shown, _ = shown_of(unannounced, lambda _: False)
    scene = next(one.scene for one in shown if one.frame.slot == CUT - 1)
    assert isinstance(scene, Composition)
    said = evidence_of(scene.guide, scene, np.full((16, 16), 12, np.uint8))
    assert said.trusted == pytest.approx(np.mean(scene.reliability > 127)) and said.unsure == 12
    assert said.labels is scene.labels and said.corrected == scene.residual_mask.mean()
    bare = evidence_of(scene.guide, replace(scene, warped=None), None)
    assert bare.trusted is None and bare.unsure is None

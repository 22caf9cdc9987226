"""New scenes as a receiver sees them: without the sender's word, and nothing of the old one is used any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.clock import VirtualClock
from common.config import ReceiverSettings
from common.likeness import DETAIL, TRACE, Look, detail_between, look_of
from common.types import Picture, UnitKind
from common.wire import is_key
from receiver.cuts import LONGEST_FLASH, SceneWatch, Stale, stale_after, watched, without_stale
from receiver.painter import BasePainter
from receiver.pipeline import ReceiverSession, Shown
from sender.cuts import CutState
from tests.small_stream import Recording, open_session, record

CUT = 80
FPS = 25.0


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


DIM = replace(textured(1), y=np.minimum(textured(1).y, 215))


def found(looks: Sequence[Look]) -> list[int]:
    watch, slots = SceneWatch(), []
    for slot, look in enumerate(looks):
        new, watch = watched(watch, look)
        assert len(watch.recent) <= 8 and watch.waited <= LONGEST_FLASH
        slots += [slot] * new
    return slots


def of(*scenes: tuple[Picture, int]) -> list[Look]:
    return [look_of(picture) for picture, length in scenes for _ in range(length)]


# --- from the pictures --------------------------------------------------------------------------------------------


def test_another_scene_is_seen_at_its_first_picture() -> None:
    assert found(of((textured(1), 6), (textured(2), 6), (textured(1), 6))) == [6, 12]


def test_black_shows_no_scene_and_what_follows_is_compared_with_what_was_before() -> None:
    assert found(of((textured(1), 6), (flat(16), 9), (textured(1), 6))) == []
    assert found(of((textured(1), 6), (flat(16), 9), (textured(2), 6))) == [15]


@settings(max_examples=25)
@given(st.integers(1, LONGEST_FLASH), st.integers(0, 19), st.floats(0.0, 0.1))
def test_a_dazzling_flash_is_no_scene(length: int, below_white: int, left: float) -> None:
    """Nothing but a little noise is left of the picture."""
    rng = np.random.default_rng(length)
    noise = 100 * left * rng.uniform(0, 1, (128, 128))
    white = replace(flat(128), y=np.rint(235 - below_white + noise).astype(np.uint8))
    assert found(of((DIM, 6), (white, length), (DIM, 6))) == []


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=6))
def test_every_change_of_still_scenes_is_found_once(scenes: list[tuple[int, int]]) -> None:
    shown = of(*((textured(seed), length) for seed, length in scenes))
    seeds = [seed for seed, length in scenes for _ in range(length)]
    assert found(shown) == [k for k, (a, b) in enumerate(pairwise(seeds), 1) if a != b]


def lit(share: float) -> Picture:
    """Scene 1 with that much light on it, or where it is negative with that much less."""
    luma, goal = textured(1).y.astype(np.float64), 235 if share > 0 else 16
    return replace(textured(1), y=np.rint(luma + abs(share) * (goal - luma)).astype(np.uint8))


@settings(max_examples=25)
@given(st.lists(st.floats(0.3, 1.0), min_size=1, max_size=LONGEST_FLASH), st.sampled_from([1, -1]))
def test_light_that_comes_or_goes_and_leaves_something_begins_no_scene(power: list[float], way: int) -> None:
    light = [(lit(way * share), 1) for share in power]
    assert found(of((textured(1), 6), *light, (textured(1), 6))) == []


def test_a_scene_that_light_alone_could_have_made_is_seen_once_a_flash_would_be_over() -> None:
    pale = replace(textured(2), y=235 - textured(2).y // 12)
    assert found(of((DIM, 6), (pale, 12))) == [6 + LONGEST_FLASH]


def test_where_little_of_the_scene_is_known_little_of_it_need_be_left() -> None:
    """A picture that is unlike six of a scene may belong to a scene of which there has been one."""
    less = between(0.65)
    assert TRACE <= detail_between(look_of(textured(1)), look_of(less)) < DETAIL
    assert found(of((textured(1), 6), (less, 3))) == [6]
    assert found(of((textured(1), 1), (less, 3))) == []


def test_as_much_change_as_just_before_is_no_news() -> None:
    steps = (0.3, 0.6, 0.9)
    assert found(of((between(0.0), 6), (between(0.9), 3))) == [6]
    assert found(of((between(0.0), 6), *((between(share), 1) for share in steps), (between(0.9), 3))) == []


def dimmed(picture: Picture, light: float) -> Picture:
    """light : 0..1, what is left of it"""
    luma = np.rint(16 + light * (picture.y.astype(np.float64) - 16)).astype(np.uint8)
    grey = (
        np.rint(128 + light * (c.astype(np.float64) - 128)).astype(np.uint8) for c in (picture.u, picture.v)
    )
    return Picture(luma, *grey)


def test_what_comes_out_of_the_dark_is_known_by_its_detail_alone() -> None:
    """Dark pictures are much alike."""
    down, up = (0.8, 0.6, 0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
    out = [(dimmed(textured(1), light), 1) for light in down]
    for seed, new in ((2, [14]), (1, [])):
        back = [(dimmed(textured(seed), light), 1) for light in up]
        assert found(of((textured(1), 6), *out, (flat(16), 2), *back, (textured(seed), 3))) == new


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

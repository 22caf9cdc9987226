"""The receiver's side of the closed loop: whatever the channel does, a state held is the sender's state."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.state import base_of, compose, initial_state, picture_digest
from common.types import UnitKind
from common.units import FrameUnit
from common.wire import is_key, pack_config, pack_frame, pack_residual, parse_unit
from receiver.chain import SceneDecoder, kept_states
from tests.chains import assert_never_wrong, held, push_all
from tests.small_stream import STREAM, Recording, open_session, record

FIRST, LAST, REFRESH = 20, 99, 60


@pytest.fixture(scope="module")
def story() -> Recording:
    """Slots 20 to 99 with an anchor, labels, motion, a refresh at 60 and a scene cut at 80."""
    return record(range(FIRST, LAST + 1), open_session(), refresh_at=(REFRESH,), launch_at=(28,))


@pytest.fixture(scope="module")
def rich_story() -> Recording:
    """Enough rate for residuals."""
    return record(range(10, 70), open_session(3_000_000, STREAM, "guide.scale=1"))


# --- a perfect and an imperfect channel ---------------------------------------------------------------------------


def test_everything_arrives(story: Recording) -> None:
    decoder = push_all(story.units)
    assert held(decoder, story) == set(range(FIRST, LAST + 1))
    assert_never_wrong(decoder, story)
    assert decoder.counts["frame"] == 80
    assert set(decoder.counts) <= {"frame", "anchor"}
    assert decoder.mismatches == []
    assert decoder.newest_slot == LAST
    for frame, step in zip(story.frames[::9], story.steps[::9], strict=True):
        scene = decoder.scene_at(frame.slot)
        assert scene is not None
        assert picture_digest(compose(scene).base) == picture_digest(compose(step.state).base)


def test_disposable_frames_may_all_be_lost(story: Recording) -> None:
    decoder = push_all([unit for unit in story.units if not unit.disposable])
    assert_never_wrong(decoder, story)
    kept = {u.slot for u in story.units if u.kind is UnitKind.FRAME and not u.disposable}
    assert held(decoder, story) == kept
    assert decoder.stalled_for_s(99.0) == 0


def test_a_lost_base_frame_holds_everything_until_the_key_frame(story: Recording) -> None:
    base = [u for u in story.units if u.kind is UnitKind.FRAME and not u.disposable and not u.key]
    lost = next(u for u in base if u.slot >= 30)
    decoder = SceneDecoder()
    for unit in story.units:
        if unit is lost:
            continue
        decoder.push(unit.data, unit.slot / 25)
        if unit.slot == REFRESH - 1:
            stalled_s = decoder.stalled_for_s(unit.slot / 25)
            assert 0.8 < stalled_s < (REFRESH - lost.slot) / 25
    assert_never_wrong(decoder, story)
    assert held(decoder, story) == {*range(FIRST, lost.slot), *range(REFRESH, LAST + 1)}
    assert decoder.stalled_for_s(10.0) == 0
    assert len(decoder.mismatches) == 1


def test_a_late_frame_is_waited_for(story: Recording) -> None:
    units = [u for u in story.units if u.slot < REFRESH]
    late = next(u for u in units if u.slot == 32 and u.kind is UnitKind.FRAME)
    at = units.index(late)
    decoder = push_all([*units[:at], *units[at + 1 : at + 8], late, *units[at + 8 :]])
    assert held(decoder, story) >= set(range(FIRST, REFRESH)) - {33, 35}
    assert decoder.stalled_for_s(99.0) == 0


def test_a_late_joiner_starts_at_the_next_key_frame(story: Recording) -> None:
    decoder = push_all([u for u in story.units if u.slot >= 45])
    assert decoder.counts["before configuration"] > 0
    assert_never_wrong(decoder, story)
    assert held(decoder, story) >= set(range(80, LAST + 1))


def test_a_state_waits_for_its_anchor(story: Recording) -> None:
    (anchor, *_) = [u for u in story.units if u.kind is UnitKind.ANCHOR]
    decoder = push_all([u for u in story.units if u is not anchor and u.slot < 50])
    activating = next(s.state.slot for s in story.steps if s.state.anchor is not None)
    assert max(held(decoder, story)) == activating - 1
    assert decoder.anchor_ids == ()
    decoder.push(anchor.data, 2.0)
    assert decoder.anchor_ids == (0,)
    assert max(held(decoder, story)) >= 48
    assert_never_wrong(decoder, story)


@settings(max_examples=25)
@given(st.randoms(use_true_random=False), st.floats(0, 0.4), st.integers(0, 12), st.floats(0, 0.2))
def test_no_channel_makes_a_wrong_state(
    story: Recording, dice: random.Random, loss: float, jitter: int, damage: float
) -> None:
    """Loss, reordering, repetition and damage; then a clean key frame puts all right."""
    sent = [u for u in story.units if u.slot < 80]
    order = sorted(range(len(sent)), key=lambda k: k + dice.uniform(0, jitter))
    decoder = SceneDecoder()
    for k in order:
        if dice.random() < loss and sent[k].kind is not UnitKind.CONFIG:
            continue
        data = bytearray(sent[k].data)
        if dice.random() < damage and sent[k].kind is not UnitKind.CONFIG:
            data[dice.randrange(len(data))] ^= dice.randrange(1, 256)
        for _ in range(1 + (dice.random() < 0.1)):
            decoder.push(bytes(data), sent[k].slot / 25)
    assert_never_wrong(decoder, story)
    push_all([u for u in story.units if u.slot >= 80], decoder)
    assert_never_wrong(decoder, story)
    assert held(decoder, story) >= set(range(80, LAST + 1))


# --- hostile bytes ------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=60), max_size=20))
def test_any_bytes_are_counted_and_dropped(story: Recording, noise: list[bytes]) -> None:
    decoder = push_all(story.units[:12])
    before = decoder.state
    for data in noise:
        decoder.push(data, 1.0)
    assert decoder.state is before
    assert_never_wrong(decoder, story)


@settings(max_examples=40)
@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(min_size=1, max_size=60), st.booleans())
def test_nonsense_behind_a_good_check_does_not_raise(
    story: Recording, motion: bytes, labels: bytes, guide: bytes, key: bool
) -> None:
    """A sender gone mad: the state may be lost, the next key frame brings it back."""
    decoder = push_all([u for u in story.units if u.slot < 40])
    assert decoder.state is not None
    slot = decoder.state.slot + 1
    base = base_of(decoder.state, key)
    mad = FrameUnit(slot, key=key, scale=2 if key else 0, motion=motion, labels=labels, guide=guide)
    decoder.push(pack_frame(mad, base.digest).data, slot / 25)
    push_all([u for u in story.units if u.slot >= REFRESH], decoder)
    assert held(decoder, story) >= set(range(REFRESH, LAST + 1))


def test_one_damaged_frame_number_derails_nothing(story: Recording) -> None:
    """The low byte of the slot is used before it can be checked: it must not move the receiver's own count."""
    decoder = SceneDecoder()
    for unit in story.units:
        decoder.push(unit.data, unit.slot / 25)
        if unit.kind is UnitKind.FRAME and unit.slot == 30:
            forged = bytearray(unit.data)
            for ahead in (120, 240):
                forged[1] = (unit.slot + ahead) % 256
                decoder.push(bytes(forged), unit.slot / 25)
    assert held(decoder, story) == set(range(FIRST, LAST + 1))
    assert decoder.newest_slot == LAST


def test_a_frame_that_never_fits_is_no_lasting_stall(story: Recording) -> None:
    """While frames keep being applied there is nothing to refresh, whatever junk is waiting."""
    decoder = SceneDecoder()
    for unit in story.units:
        decoder.push(unit.data, unit.slot / 25)
        if unit.kind is UnitKind.FRAME and unit.slot == 30:
            forged = bytearray(unit.data)
            forged[1] = (unit.slot + 100) % 256
            decoder.push(bytes(forged), unit.slot / 25)
        assert decoder.stalled_for_s(unit.slot / 25) < 0.2


def test_the_store_of_waiting_frames_is_bounded(story: Recording) -> None:
    decoder = push_all([u for u in story.units if u.slot < 22])
    template = next(u for u in story.units if u.slot == 40 and u.kind is UnitKind.FRAME)
    for slot in range(22, 400):
        forged = bytearray(template.data)
        forged[1] = slot % 256
        decoder.push(bytes(forged), slot / 25)
    assert decoder.counts["store full"] > 200


# --- streams, time and residuals ----------------------------------------------------------------------------------


def test_a_new_configuration_is_a_new_stream(story: Recording) -> None:
    decoder = push_all([u for u in story.units if u.slot < 40])
    other = replace(STREAM, session=8)
    decoder.push(pack_config(other, 0).data, 2.0)
    assert decoder.config == other
    assert decoder.state is None
    assert decoder.scene_at(30) is None
    push_all(story.units, decoder)
    assert_never_wrong(decoder, story)
    assert decoder.counts["new stream"] == 2


@pytest.mark.parametrize("first", [0, 200, 1000, 70_000])
def test_slots_count_on_after_a_long_silence(story: Recording, first: int) -> None:
    """Frame numbers are sent modulo 256: an outage of 20 s is told from one of 10 s by the clock."""
    key = next(u for u in story.units if u.kind is UnitKind.FRAME and u.key)
    decoder = SceneDecoder()
    decoder.push(pack_config(STREAM, first).data, 5.0)
    unit = parse_unit(key.data, FIRST, initial_state(STREAM).digest)
    assert isinstance(unit, FrameUnit)
    for slot in (first, first + 500, first + 1100):
        moved = pack_frame(replace(unit, slot=slot), initial_state(STREAM).digest)
        decoder.push(moved.data, 5.0 + (slot - first) / 25)
        assert decoder.newest_slot == slot
        assert decoder.scene_at(slot) is not None


def test_the_newest_state_before_a_slot(story: Recording) -> None:
    decoder = push_all([u for u in story.units if not u.disposable])
    assert decoder.latest_before(FIRST - 1) is None
    for slot in range(FIRST, LAST + 1):
        scene = decoder.latest_before(slot)
        assert scene is not None
        assert scene.slot == max(s for s in held(decoder, story) if s <= slot)


def test_what_was_shown_is_let_go(story: Recording) -> None:
    decoder = push_all(story.units)
    held_before, shown = held(decoder, story), LAST - 3
    decoder.shown(shown)
    assert held(decoder, story) == {slot for slot in held_before if slot >= shown}
    assert decoder.latest_before(shown - 1) is None


def test_residuals_find_their_frame_and_no_other(rich_story: Recording) -> None:
    residuals = [u for u in rich_story.units if u.kind is UnitKind.RESIDUAL]
    decoder = push_all(rich_story.units)
    assert len(residuals) > 5
    for frame, step in zip(rich_story.frames, rich_story.steps, strict=True):
        scene = decoder.scene_at(frame.slot)
        assert scene is not None
        residual = decoder.residual_of(scene)
        assert (residual is not None) == any(u.slot == frame.slot for u in residuals)
        if residual is not None:
            base, plain = (compose(step.state, r).base.y.astype(float) for r in (residual, None))
            source = frame.picture.y
            assert np.mean((base - source) ** 2) < np.mean((plain - source) ** 2)


def test_a_residual_of_another_state_is_not_used(rich_story: Recording) -> None:
    decoder = push_all([u for u in rich_story.units if u.kind is not UnitKind.RESIDUAL])
    residual = next(u for u in rich_story.units if u.kind is UnitKind.RESIDUAL)
    scene = decoder.scene_at(residual.slot)
    assert scene is not None
    body = parse_unit(residual.data, residual.slot, scene.digest)
    decoder.push(pack_residual(body, scene.digest ^ 1).data, residual.slot / 25)  # type: ignore[arg-type]
    assert decoder.residual_of(scene) is None
    damaged = pack_residual(replace(body, data=b"\xff\xff"), scene.digest)  # type: ignore[type-var, arg-type]
    decoder.push(damaged.data, residual.slot / 25)
    assert decoder.residual_of(scene) is None
    assert decoder.counts["damaged"] == 1


def test_only_the_story_has_keys_where_expected(story: Recording) -> None:
    assert [u.slot for u in story.units if u.kind is UnitKind.FRAME and is_key(u.data)] == [
        FIRST,
        REFRESH,
        80,
    ]


def test_large_pictures_are_kept_for_display_in_small_numbers() -> None:
    """A hundred bytes of AV1 can be a picture of 25 MB."""
    assert kept_states(replace(STREAM, width=512, height=512), 1) == 96
    huge = replace(STREAM, width=4096, height=4096)
    assert kept_states(huge, 1) * 4096 * 4096 * 3 // 2 < 300_000_000
    assert kept_states(huge, 8) == 96

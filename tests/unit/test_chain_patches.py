"""Partial anchors in the closed loop: the same at both ends, or not held at all."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.state import compose
from common.types import EncodedUnit, Picture, UnitKind
from common.units import AnchorUnit, Region
from common.wire import pack_anchor, parse_unit
from receiver.chain import SceneDecoder
from tests.chains import assert_never_wrong, held, push_all
from tests.small_stream import Recording, open_session, record

FIRST = 20
PATCHES = {24: Region(48, 16, 64, 80), 36: Region(0, 64, 80, 64)}


@pytest.fixture(scope="module")
def patches() -> Recording:
    """Slots 20 to 63 with two partial anchors, the second one on top of the first."""
    return record(range(FIRST, 64), open_session(), launch_at=PATCHES)


def patch_of(story: Recording, slot: int) -> EncodedUnit:
    return next(u for u in story.units if u.kind is UnitKind.ANCHOR and u.slot == slot)


def reworked(unit: EncodedUnit, **fields: object) -> bytes:
    """A partial anchor with other fields and a check that passes."""
    parsed = parse_unit(unit.data, 0, 0)
    assert isinstance(parsed, AnchorUnit)
    return pack_anchor(replace(parsed, **fields)).data  # type: ignore[arg-type]


def test_partial_anchors_are_the_same_at_both_ends(patches: Recording) -> None:
    decoder = push_all(patches.units)
    assert decoder.counts["partial anchor"] == len(PATCHES)
    assert_never_wrong(decoder, patches)
    assert held(decoder, patches) == set(range(FIRST, 64))
    used = set()
    for step in patches.steps:
        scene = decoder.scene_at(step.state.slot)
        assert scene is not None
        if scene.anchor is not None and step.state.anchor is not None:
            assert scene.anchor.digest == step.state.anchor.digest
            used.add(scene.anchor.slot)
    assert used == set(PATCHES)
    assert not set(decoder.counts) - {"frame", "anchor", "partial anchor"}


def test_a_partial_anchor_is_the_base_picture_but_for_its_region(patches: Recording) -> None:
    marked = next(step.state for step in patches.steps if step.state.slot == 36)
    anchor = next(s.state.anchor for s in patches.steps if s.state.anchor and s.state.anchor.slot == 36)
    base, region = compose(marked).base, PATCHES[36]
    same = anchor.picture.y == base.y
    inside = np.zeros_like(same)
    inside[region.y : region.y + region.height, region.x : region.x + region.width] = True
    assert same[~inside].all()
    assert same[inside].mean() < 0.5
    source = next(frame.picture.y for frame in patches.frames if frame.slot == 36).astype(int)
    errors = [np.abs(source - plane)[inside].mean() for plane in (anchor.picture.y, base.y)]
    assert errors[0] < errors[1]


def test_a_partial_anchor_may_come_before_its_frame(patches: Recording) -> None:
    anchor = patch_of(patches, 24)
    decoder = push_all([u for u in patches.units if u.slot < 24])
    decoder.push(anchor.data, 1.0)
    assert decoder.anchor_ids == ()
    push_all([u for u in patches.units if u.slot >= 24 and u is not anchor], decoder)
    assert decoder.counts["partial anchor"] == 2
    assert held(decoder, patches) == set(range(FIRST, 64))
    assert_never_wrong(decoder, patches)


def test_without_its_frame_a_partial_anchor_is_not_held(patches: Recording) -> None:
    lost = next(u for u in patches.units if u.slot == 24 and u.kind is UnitKind.FRAME)
    decoder = push_all([u for u in patches.units if u is not lost])
    assert decoder.anchor_ids == ()
    decoder.push(lost.data, 64 / 25)
    assert len(decoder.anchor_ids) == 2 and held(decoder, patches) >= {24, 44, 60}
    assert_never_wrong(decoder, patches)


def test_a_patch_for_another_state_or_place_is_refused(patches: Recording) -> None:
    anchor, marked = patch_of(patches, 24), next(s.state for s in patches.steps if s.state.slot == 24)
    before = [u for u in patches.units if u.slot <= 24 and u.kind is not UnitKind.ANCHOR]
    for fields in (
        {"base_digest": marked.digest ^ 1},
        {"region": Region(80, 16, 64, 80)},  # 16 samples too far to the right
        {"region": Region(2048, 0, 2048, 4096)},
        {"region": Region(48, 16, 80, 80)},  # the still has another size
        {"data": b"no picture"},
    ):
        decoder = push_all(before)
        decoder.push(reworked(anchor, **fields), 1.0)
        assert decoder.anchor_ids == () and decoder.counts["damaged"] == 1, fields
        decoder.push(anchor.data, 1.0)
        assert decoder.anchor_ids == (0,)
        early = push_all([u for u in before if u.slot < 24])
        early.push(reworked(anchor, **fields), 1.0)
        push_all([u for u in before if u.slot == 24], early)
        assert early.anchor_ids == () and early.counts["damaged"] == 1
        assert early.state is not None and early.state.slot == 24


def test_patches_that_wait_are_bounded(patches: Recording) -> None:
    decoder = push_all([u for u in patches.units if u.slot < 24])
    for slot in range(1000, 1200):
        decoder.push(reworked(patch_of(patches, 24), slot=slot, data=bytes(10_000)), 1.0)
    stores = decoder._patches, decoder._marked  # nothing else shows what is held
    assert all(len(store) <= 2 for store in stores)
    push_all([u for u in patches.units if u.slot >= 24], decoder)
    assert_never_wrong(decoder, patches)
    assert held(decoder, patches) >= set(range(FIRST, 64))


@settings(max_examples=15)
@given(st.randoms(use_true_random=False), st.floats(0, 0.3), st.integers(0, 12), st.floats(0, 0.2))
def test_no_channel_makes_a_wrong_anchor(
    patches: Recording, dice: random.Random, loss: float, jitter: int, damage: float
) -> None:
    """Whatever is lost, late or damaged: an anchor that is held is the sender's, to the bit."""
    digests = {s.state.anchor.anchor_id: s.state.anchor.digest for s in patches.steps if s.state.anchor}
    order = sorted(range(len(patches.units)), key=lambda k: k + dice.uniform(0, jitter))
    decoder = SceneDecoder()
    for unit in (patches.units[k] for k in order):
        data = bytearray(unit.data)
        if unit.kind is not UnitKind.CONFIG:
            if dice.random() < loss:
                continue
            if dice.random() < damage:
                data[dice.randrange(len(data))] ^= dice.randrange(1, 256)
        decoder.push(bytes(data), unit.slot / 25)
    assert_never_wrong(decoder, patches)
    assert all(decoder._anchors[k].digest == digests[k] for k in decoder.anchor_ids)


def test_an_anchor_of_little_use_is_wished_away(patches: Recording) -> None:
    """Once the pictures composed have hardly relied on it for a while, the report says so."""
    decoder = push_all(patches.units)
    assert decoder.state is not None and not decoder.anchor_wanted
    state = decoder.state
    assert state.anchor is not None and state.guide is not None
    elsewhere = replace(state, guide=Picture(*(255 - plane for plane in state.guide.planes)), slot=20)
    decoder.compose(elsewhere)
    assert decoder.anchor_wanted
    decoder.compose(replace(elsewhere, anchor=None))
    assert not decoder.anchor_wanted

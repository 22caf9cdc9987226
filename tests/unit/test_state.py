"""The closed loop without any codec: the same orders give the same state, anything else gives another digest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.entropy import RangeWriter
from common.errors import BitstreamError, StateMismatchError
from common.motion import encode_update
from common.residual import decode_residual, encode_residual
from common.semantics import encode_labels
from common.state import (
    Anchor,
    SceneState,
    advance,
    base_of,
    compose,
    describe,
    follow,
    initial_state,
    picture_digest,
)
from common.types import LABEL_CLASSES, Picture
from common.units import FrameUnit, StreamConfig

CONFIG = StreamConfig(7, 128, 128, Fraction(25), Fraction(1, 25))
ROWS = COLS = 8


def picture(seed: int, side: int) -> Picture:
    """Smooth enough for motion to be found, different for every seed."""
    generator = np.random.default_rng(seed)

    def plane(size: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
        coarse = generator.integers(0, 256, (size // 8, size // 8), dtype=np.uint8)
        return np.ascontiguousarray(coarse.repeat(8, 0).repeat(8, 1))

    return Picture(plane(side), plane(side // 2), plane(side // 2))


ANCHORS = {k: Anchor.of(k, k, 30, picture(100 + k, 128)) for k in range(3)}


def apply(state: SceneState, unit: FrameUnit) -> SceneState:
    """What both ends do with a frame; the guide bytes are a picture's seed."""
    base = base_of(state, unit.key)
    scale = unit.scale if unit.key else base.scale
    followed = follow(base, unit, lambda data: picture(data[0], 128 // scale))
    return advance(followed, describe(unit, followed, ANCHORS))


def key(slot: int = 0, scale: int = 2, guide: int = 1, **fields: object) -> FrameUnit:
    unit = FrameUnit(slot, key=True, scale=scale, guide=bytes([guide]), quality=30)
    return replace(unit, **fields)  # type: ignore[arg-type]


def motion_payload(state: SceneState, seed: int) -> bytes:
    generator = np.random.default_rng(seed)
    update = generator.integers(-9, 10, (ROWS, COLS, 2)).astype(np.int16)
    writer = RangeWriter()
    encode_update(writer, update, generator.random((ROWS, COLS)) < 0.3, state.motion_tables)
    return writer.finish()


def label_payload(state: SceneState, seed: int) -> bytes:
    labels = np.random.default_rng(seed).integers(0, LABEL_CLASSES, (ROWS, COLS), dtype=np.uint8)
    return encode_labels(labels, state.labels_now(), state.label_tables)[0]


@st.composite
def stories(draw: st.DrawFn) -> list[FrameUnit]:
    """A key frame and a few frames with any legal orders."""
    units = [key(draw(st.integers(0, 9)), draw(st.sampled_from([1, 2])), draw(st.integers(0, 255)))]
    octet = st.none() | st.integers(0, 2)
    for _ in range(draw(st.integers(0, 6))):
        guide = draw(st.none() | st.binary(min_size=1, max_size=1))
        units.append(
            FrameUnit(
                units[-1].slot + draw(st.integers(1, 3)), disposable=draw(st.booleans()), guide=guide,
                mark=draw(octet), activate=draw(octet), drop_anchor=draw(st.booleans()),
                quality=draw(st.none() | st.integers(1, 63)), labels=draw(st.none() | st.binary(max_size=30)),
            )
        )  # fmt: skip
    return units


def run(units: list[FrameUnit], skip_disposable: bool) -> list[int]:
    """Digests after every frame that others build on; motion is added wherever there is an anchor."""
    state, digests = initial_state(CONFIG), []
    for plain in units:
        motion = motion_payload(state, plain.slot) if state.anchor is not None else None
        unit = replace(plain, motion=motion)
        if unit.disposable and skip_disposable:
            continue
        try:
            after = apply(state, unit)
        except BitstreamError:  # labels drawn at random
            after = apply(state, replace(unit, labels=None))
        if not unit.disposable:
            state = after
            digests.append(state.digest)
    return digests


@settings(max_examples=25)
@given(stories())
def test_dropped_disposable_frames_change_nothing(units: list[FrameUnit]) -> None:
    assert run(units, skip_disposable=False) == run(units, skip_disposable=True)


def test_every_part_of_the_state_is_in_the_digest() -> None:
    start = apply(apply(initial_state(CONFIG), key(mark=1)), FrameUnit(1, activate=1, guide=b"\2"))
    variants = {
        "nothing new": FrameUnit(2),
        "slot": FrameUnit(3),
        "guide": FrameUnit(2, guide=b"\3"),
        "quality": FrameUnit(2, quality=31),
        "anchor dropped": FrameUnit(2, drop_anchor=True),
        "other anchor": FrameUnit(2, activate=2),
        "mark": FrameUnit(2, mark=0),
        "other mark": FrameUnit(2, mark=2),
        "motion": FrameUnit(2, motion=motion_payload(start, 1)),
        "labels": FrameUnit(2, labels=label_payload(start, 1)),
    }
    digests = {name: apply(start, unit).digest for name, unit in variants.items()}
    assert len(set(digests.values())) == len(variants), digests
    assert start.digest not in digests.values()


def test_the_history_is_in_the_digest() -> None:
    """Two ways to the same guide and slot: what was known before differs, so must the digest."""
    first = apply(apply(initial_state(CONFIG), key(guide=1)), FrameUnit(2, guide=b"\5"))
    second = apply(apply(initial_state(CONFIG), key(guide=2)), FrameUnit(2, guide=b"\5"))
    assert first.digest != second.digest


def test_a_key_frame_forgets_everything() -> None:
    long_way = initial_state(CONFIG)
    for unit in (key(mark=1), FrameUnit(1, activate=1, guide=b"\2"), FrameUnit(2, guide=b"\3")):
        long_way = apply(long_way, unit)
    again = apply(long_way, key(5, guide=9))
    assert again.digest == apply(initial_state(CONFIG), key(5, guide=9)).digest
    assert again.anchor is again.track is again.pending is None


def test_only_the_frame_that_ends_sharpening_is_spared() -> None:
    state, seen = initial_state(CONFIG), []
    told = [
        key(sharpness=2),
        FrameUnit(1),
        FrameUnit(2, quality=30),
        FrameUnit(3),
        FrameUnit(4, quality=30, sharpness=1),
    ]
    for unit in (*told, FrameUnit(5, quality=30), key(6)):
        state = apply(state, unit)
        seen.append(state.spared)
    assert seen == [False, False, True, False, False, True, False]


def test_other_streams_start_from_other_digests() -> None:
    digests = {
        initial_state(config).digest
        for config in (
            CONFIG,
            replace(CONFIG, session=8),
            replace(CONFIG, width=144),
            replace(CONFIG, seed=1),
        )
    }
    assert len(digests) == 4


def test_a_frame_without_its_base_is_refused() -> None:
    with pytest.raises(StateMismatchError, match="does not have"):
        apply(initial_state(CONFIG), FrameUnit(1, guide=b"\1"))
    with pytest.raises(StateMismatchError, match="anchor 9, which has not arrived"):
        apply(apply(initial_state(CONFIG), key()), FrameUnit(1, activate=9))
    with pytest.raises(BitstreamError, match="does not exist"):
        apply(apply(initial_state(CONFIG), key()), FrameUnit(1, motion=b"\1"))
    with pytest.raises(StateMismatchError, match="no key frame"):
        compose(initial_state(CONFIG))


def test_labels_arrive_and_are_carried() -> None:
    state = apply(initial_state(CONFIG), key())
    assert not state.labels_now().any()
    unit = FrameUnit(1, labels=label_payload(state, 4))
    labelled = apply(state, unit)
    wanted = np.random.default_rng(4).integers(0, LABEL_CLASSES, (ROWS, COLS), dtype=np.uint8)
    assert np.array_equal(labelled.labels_now(), wanted)
    assert np.array_equal(apply(labelled, FrameUnit(2, activate=1)).labels_now(), wanted)


def test_an_anchor_takes_over_the_motion_since_its_mark() -> None:
    state = apply(initial_state(CONFIG), key(mark=1))
    assert state.pending is not None and state.pending[0] == 1
    for slot in (1, 2, 3):
        state = apply(state, FrameUnit(slot, guide=bytes([slot + 1])))
    assert state.pending is not None
    followed = state.pending[1].field
    assert followed.any()
    state = apply(state, FrameUnit(4, activate=1))
    assert state.pending is None
    assert state.anchor is ANCHORS[1]
    assert np.array_equal(state.field, followed)
    dropped = apply(state, FrameUnit(5, drop_anchor=True))
    assert dropped.anchor is None and not dropped.field.any()


# --- the base picture ----------------------------------------------------------------------------


def test_without_anchor_the_base_is_the_guide() -> None:
    scene = compose(apply(initial_state(CONFIG), key()))
    assert scene.warped is None
    assert picture_digest(scene.base) == picture_digest(scene.guide)
    assert scene.base.y.shape == (128, 128)
    assert not scene.reliability.any()


def test_with_an_anchor_the_base_is_a_mixture() -> None:
    state = apply(apply(initial_state(CONFIG), key(mark=1)), FrameUnit(1, activate=1))
    scene = compose(state)
    assert scene.warped is not None
    assert scene.reliability.shape == (16, 16)
    with ThreadPoolExecutor(1) as aside:  # where the anchor is warped makes no difference
        assert picture_digest(scene.base) == picture_digest(compose(state, None, aside).base)
    assert len({picture_digest(p) for p in (scene.base, scene.guide, scene.warped)}) >= 2


def test_a_residual_brings_the_base_to_the_source() -> None:
    state, source = apply(initial_state(CONFIG), key()), picture(77, 128)
    plain = compose(state)
    wanted = tuple(s.astype(np.int16) - b for s, b in zip(source.planes, plain.base.planes, strict=True))
    mask = np.zeros((ROWS, COLS), bool)
    mask[:4] = True
    scene = compose(state, decode_residual(encode_residual(wanted, mask, 4), 128, 128))
    assert np.array_equal(scene.residual_mask, mask)
    assert np.abs(scene.base.y[:64].astype(int) - source.y[:64]).max() <= 6
    assert np.array_equal(scene.base.y[64:], plain.base.y[64:])

"""Bytes of the units: round trips, the check that binds a unit to its state, and hostile bytes."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from common.errors import BitstreamError
from common.types import Colour, UnitKind
from common.units import (
    MAX_SIDE,
    MIN_CODED_SIDE,
    REGION_STEP,
    AnchorUnit,
    ConfigUnit,
    FrameUnit,
    Region,
    ResidualUnit,
    StreamConfig,
)
from common.wire import (
    DISPOSABLE_HEADER_BYTES,
    HEADER_BYTES,
    MAX_UNIT_BYTES,
    Cursor,
    builds_on,
    check_of,
    is_disposable,
    is_key,
    kind_of,
    pack_anchor,
    pack_config,
    pack_frame,
    pack_residual,
    parse_unit,
    slot_near,
    varint,
)

slots = st.integers(0, 2**32 - 1)
digests = st.integers(0, 2**32 - 1)
payloads = st.none() | st.binary(max_size=300)
octets = st.none() | st.integers(0, 255)
parts = st.integers(1, 2**31 - 1)
configs = st.builds(
    StreamConfig,
    session=st.integers(0, 2**16 - 1),
    width=st.integers(16, MAX_SIDE),
    height=st.integers(16, MAX_SIDE),
    frame_rate=st.builds(Fraction, parts, parts).filter(lambda rate: rate <= 1000),
    time_base=st.builds(Fraction, parts, parts),
    colour=st.builds(Colour, st.sampled_from(["bt709", "bt601"]), st.booleans()),
    seed=st.integers(0, 2**32 - 1),
    guide_codec=st.sampled_from(["av1", "vp9", "h264"]),
)
inter_frames = st.builds(
    FrameUnit,
    slot=slots, disposable=st.booleans(), pts=st.none() | st.integers(0, 2**40 - 1), mark=octets, activate=octets,
    drop_anchor=st.booleans(), quality=st.none() | st.integers(0, 63), sharpness=st.integers(0, 3),
    motion=payloads, labels=payloads, guide=st.none() | st.binary(min_size=1, max_size=300),
).map(lambda frame: replace(frame, sharpness=0) if frame.quality is None else frame)  # fmt: skip
key_frames = st.builds(
    lambda frame, scale, guide: replace(frame, key=True, scale=scale, guide=guide),
    inter_frames,
    st.sampled_from([1, 2, 4, 8]),
    st.binary(min_size=1, max_size=300),
)
frames = inter_frames | key_frames
whole_anchors = st.builds(
    AnchorUnit, slots, st.integers(0, 255), st.integers(0, 63), st.binary(min_size=1, max_size=300)
)


@st.composite
def regions(draw: st.DrawFn) -> Region:
    """Any rectangle that the stream can carry."""
    (x, width), (y, height) = (draw(st.tuples(st.integers(0, 252), st.integers(4, 256))) for _ in range(2))
    width, height = min(width, 256 - x), min(height, 256 - y)
    return Region(16 * x, 16 * y, 16 * width, 16 * height)


partial_anchors = st.builds(
    lambda anchor, region, digest: replace(anchor, region=region, base_digest=digest),
    whole_anchors,
    regions(),
    digests,
)
anchors = whole_anchors | partial_anchors
residuals = st.builds(ResidualUnit, slots, st.binary(max_size=300))


def sealed(kind: UnitKind, flags: int, slot: int, body: bytes, base_digest: int) -> bytes:
    """Any body with a check that passes: what a hostile sender could send."""
    head = bytes([kind << 6 | flags, slot & 0xFF])
    return head + check_of(head, body, slot, base_digest).to_bytes(4, "big") + body


# --- round trips ---------------------------------------------------------------------------------


@given(frames, digests)
def test_frames_come_back(frame: FrameUnit, base_digest: int) -> None:
    unit = pack_frame(frame, base_digest)
    assert parse_unit(unit.data, frame.slot, base_digest) == frame
    assert kind_of(unit.data) is unit.kind is UnitKind.FRAME
    assert is_key(unit.data) == unit.key == unit.protect == frame.key
    assert is_disposable(unit.data) == unit.disposable == frame.disposable
    assert sum(size for _, size in unit.layer_bytes) == len(unit.data)


@given(anchors)
def test_anchors_come_back(anchor: AnchorUnit) -> None:
    unit = pack_anchor(anchor)
    assert parse_unit(unit.data, 0, 0) == anchor
    assert sum(size for _, size in unit.layer_bytes) == len(unit.data)


@given(partial_anchors, st.integers(0, 3), st.integers(0, 255))
def test_a_region_is_in_bounds_or_refused(anchor: AnchorUnit, place: int, value: int) -> None:
    body = bytearray(pack_anchor(anchor).data[HEADER_BYTES:])
    body[6 + place] = value
    damaged = sealed(UnitKind.ANCHOR, 1, anchor.slot, bytes(body), 0)
    x, y, wide, tall = body[6:10]
    if min(wide, tall) < 3 or x + wide > 255 or y + tall > 255:
        with pytest.raises(BitstreamError, match="region"):
            parse_unit(damaged, 0, 0)
        return
    unit = parse_unit(damaged, 0, 0)
    assert isinstance(unit, AnchorUnit) and unit.region is not None
    assert min(unit.region.width, unit.region.height) >= MIN_CODED_SIDE
    assert unit.region.within(MAX_SIDE, MAX_SIDE)


@given(partial_anchors)
def test_a_partial_anchor_cut_short_is_refused(anchor: AnchorUnit) -> None:
    body = pack_anchor(anchor).data[HEADER_BYTES:]
    for length in range(15):
        with pytest.raises(BitstreamError):
            parse_unit(sealed(UnitKind.ANCHOR, 1, anchor.slot, body[:length], 0), 0, 0)


def test_unknown_kinds_of_anchor_are_refused() -> None:
    body = pack_anchor(AnchorUnit(5, 1, 30, b"still")).data[HEADER_BYTES:]
    with pytest.raises(BitstreamError, match="anchor header"):
        parse_unit(sealed(UnitKind.ANCHOR, 2, 5, body, 0), 0, 0)


def test_regions_lie_on_the_grid_of_blocks() -> None:
    assert MIN_CODED_SIDE % REGION_STEP == 0
    assert not Region(64, 0, 64, 64).within(112, 64)


@given(residuals, digests)
def test_residuals_come_back(residual: ResidualUnit, digest: int) -> None:
    unit = pack_residual(residual, digest)
    assert parse_unit(unit.data, residual.slot, digest) == residual
    assert sum(size for _, size in unit.layer_bytes) == len(unit.data)


@given(configs, slots)
def test_configurations_come_back(config: StreamConfig, slot: int) -> None:
    unit = pack_config(config, slot)
    assert parse_unit(unit.data, 0, 0) == ConfigUnit(config, slot)
    assert len(unit.data) <= 48
    assert sum(size for _, size in unit.layer_bytes) == len(unit.data)


def test_a_plain_frame_costs_six_bytes_of_header() -> None:
    assert len(pack_frame(FrameUnit(7, guide=b"guide"), 1).data) == HEADER_BYTES + 5 == 11


def test_a_disposable_frame_costs_four_and_is_still_bound_to_its_state() -> None:
    unit = pack_frame(FrameUnit(7, disposable=True, guide=b"guide"), 1)
    assert len(unit.data) == DISPOSABLE_HEADER_BYTES + 5 == 9
    assert builds_on(unit.data, 7, 1) and not builds_on(unit.data, 7, 2) and not builds_on(unit.data, 8, 1)


# --- the check -----------------------------------------------------------------------------------


@given(frames, digests, st.data())
def test_every_flipped_byte_is_noticed(frame: FrameUnit, base_digest: int, data: st.DataObject) -> None:
    good = pack_frame(frame, base_digest).data
    assert builds_on(good, frame.slot, base_digest)
    flip = data.draw(st.integers(1, 255))
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= flip
        assert not builds_on(bytes(bad), frame.slot, base_digest)


@given(frames, digests, digests, slots)
def test_another_state_or_slot_is_noticed(frame: FrameUnit, right: int, other: int, slot: int) -> None:
    data = pack_frame(frame, right).data
    assert builds_on(data, frame.slot, other) == (other == right)
    assert builds_on(data, slot, right) == (slot == frame.slot)
    for wrong in (frame.slot + 256, frame.slot - 256):
        assert not 0 <= wrong < 2**32 or not builds_on(data, wrong, right)


@given(frames, digests, st.integers(1, 300))
def test_a_cut_unit_is_noticed(frame: FrameUnit, base_digest: int, lost: int) -> None:
    data = pack_frame(frame, base_digest).data[:-lost]
    with pytest.raises(BitstreamError):
        parse_unit(data, frame.slot, base_digest)


@given(residuals, digests, digests)
def test_a_residual_fits_only_its_state(residual: ResidualUnit, right: int, wrong: int) -> None:
    assume(right != wrong)
    with pytest.raises(BitstreamError, match="check of a RESIDUAL"):
        parse_unit(pack_residual(residual, right).data, residual.slot, wrong)


# --- hostile bytes -------------------------------------------------------------------------------


@given(st.binary(max_size=200), slots, digests)
def test_any_bytes_parse_or_are_refused(data: bytes, slot: int, base_digest: int) -> None:
    with pytest.raises(BitstreamError):  # 1 in 2**32 would pass
        parse_unit(data, slot, base_digest)


@given(st.sampled_from(list(UnitKind)), st.integers(0, 63), slots, st.binary(max_size=80), digests)
def test_any_body_behind_a_good_check_parses_or_is_refused(
    kind: UnitKind, flags: int, slot: int, body: bytes, base_digest: int
) -> None:
    data = sealed(kind, flags, slot, body, base_digest)
    try:
        unit = parse_unit(data, slot, base_digest)
    except BitstreamError:
        return
    if isinstance(unit, FrameUnit):
        assert unit.scale in ((1, 2, 4, 8) if unit.key else (0,))
        assert unit.quality is None or unit.quality <= 63
        assert unit.guide or not unit.key
        assert len(unit.motion or b"") + len(unit.labels or b"") + len(unit.guide or b"") <= len(body)


@pytest.mark.parametrize(
    ("flags", "body", "message"),
    [
        (32, b"\x04guide", "guide scale"),
        (2, b"\x20", "extension"),
        (2, b"\x01\x00\x00", "cut short"),
        (8, b"\x05abc", "cut short"),
        (8, b"\xff\xff\xff\xff\x0f", "above the limit"),
        (8, b"\xff" * 9, "longer than five"),
        (1, b"", "guide"),
        (0, b"guide", "guide"),
        (32, b"\x01", "guide"),
    ],
)
def test_fields_out_of_range_are_refused(flags: int, body: bytes, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        parse_unit(sealed(UnitKind.FRAME, flags, 5, body, 9), 5, 9)


@given(configs, slots, st.data())
def test_damaged_configurations_with_a_good_check_stay_in_bounds(
    config: StreamConfig, slot: int, data: st.DataObject
) -> None:
    body = bytearray(pack_config(config, slot).data[HEADER_BYTES:])
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    stored_slot = int.from_bytes(body[4:8], "big")
    try:
        unit = parse_unit(sealed(UnitKind.CONFIG, 0, stored_slot, bytes(body), 0), 0, 0)
    except BitstreamError:
        return
    assert isinstance(unit, ConfigUnit)
    assert 16 <= unit.config.width <= MAX_SIDE
    assert 16 <= unit.config.height <= MAX_SIDE
    assert 0 < unit.config.frame_rate <= 1000


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1, MAX_UNIT_BYTES + 1])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(BitstreamError, match="cannot be"):
        kind_of(bytes(size))


def test_another_release_says_so() -> None:
    config = StreamConfig(1, 64, 64, Fraction(25), Fraction(1, 25))
    body = bytearray(pack_config(config, 0).data[HEADER_BYTES:])
    body[2] += 1
    with pytest.raises(BitstreamError, match="version 5, this program reads version 4"):
        parse_unit(sealed(UnitKind.CONFIG, 0, 0, bytes(body), 0), 0, 0)
    body[2] -= 1
    body[14] ^= 1
    with pytest.raises(BitstreamError, match="constant tables"):
        parse_unit(sealed(UnitKind.CONFIG, 0, 0, bytes(body), 0), 0, 0)
    body[14] ^= 1
    body[3] |= 3 << 2
    with pytest.raises(BitstreamError, match="guide codec 3"):
        parse_unit(sealed(UnitKind.CONFIG, 0, 0, bytes(body), 0), 0, 0)


# --- small parts ---------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(-127, 127))
def test_slots_unwrap_within_127(slot: int, ahead: int) -> None:
    expected = slot + ahead
    assume(expected >= 0)
    data = pack_frame(FrameUnit(slot, guide=b"x"), 0).data
    assert slot_near(data, expected) == slot


@given(st.integers(0, 255))
def test_the_first_slot_is_taken_as_it_is(low: int) -> None:
    data = pack_frame(FrameUnit(low, guide=b"x"), 0).data
    assert slot_near(data, -1) == low


@given(st.integers(0, 2**28))
def test_varints_come_back(value: int) -> None:
    cursor = Cursor(varint(value))
    assert cursor.varint(2**28) == value
    assert cursor.done


@given(st.integers(1, 2**28), st.binary(max_size=12))
def test_a_varint_above_its_limit_is_refused(value: int, data: bytes) -> None:
    with pytest.raises(BitstreamError, match="above the limit"):
        Cursor(varint(value)).varint(value - 1)
    with contextlib.suppress(BitstreamError):
        assert Cursor(data).varint(1000) <= 1000


@given(st.integers(16, MAX_SIDE), st.integers(16, MAX_SIDE))
def test_coded_sizes_and_scales_suit_the_codec(width: int, height: int) -> None:
    config = StreamConfig(0, width, height, Fraction(25), Fraction(1, 25))
    for shown, coded in ((width, config.coded_width), (height, config.coded_height)):
        assert shown <= coded < max(shown + 16, 65)
        assert coded % 16 == 0
        assert all(coded // scale >= 64 and coded % (2 * scale) == 0 for scale in config.scales)
    assert config.scales[0] == 1


@given(configs, st.integers(0, 10**6))
def test_time_stamps_rise_with_the_slot(config: StreamConfig, slot: int) -> None:
    exact = slot / config.frame_rate / config.time_base
    assert abs(config.pts_of(slot) - exact) <= Fraction(1, 2)

"""The analog link end to end on small pictures, and its bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sionna.phy", reason="needs the extra `radio`: pip install 'semcast[radio]'")

from benchmarks.files import describe_file
from common.container import RecordJoiner, SgvWriter, piece_record, unit_record
from common.errors import BitstreamError, SourceError
from common.quality import psnr_yuv
from common.units import GroupUnit
from common.wire import is_group, pack_config, pack_group, parse_unit
from receiver.analog import AnalogDecoder
from sender.analog import scale_for
from tests.analog_ends import FIRST_CUT, SMALL, USES_PER_BYTE, ends, frames, held
from tests.small_stream import STREAM

# --- sender and receiver ------------------------------------------------------------------------------------------


def test_every_frame_arrives_in_groups_of_eight() -> None:
    link = ends()
    groups = link.send(frames(range(20)))
    assert [(group.slot, group.frames) for group in groups] == [(0, 8), (8, 8), (16, 4)]
    assert held(link.decoder) == list(range(20))
    assert link.decoder.newest_slot == 19
    assert dict(link.decoder.counts) == {"group": 3}


def test_a_cut_ends_a_group_and_forgets_what_was_before() -> None:
    link = ends()
    source = frames(range(FIRST_CUT - 3, FIRST_CUT + 5))
    cuts = [link.sender.step(shot)[1] for shot in source]
    assert cuts == [False] * 3 + [True] + [False] * 4
    link = ends()
    groups = link.send(source)
    assert [(group.slot, group.frames) for group in groups] == [(0, 3), (3, 5)]
    parsed = [parse_unit(group.units[-1].data, group.slot, 0) for group in groups]
    assert [unit.scene for unit in parsed if isinstance(unit, GroupUnit)] == [True, True]
    second = ends().send(frames(range(12)))[1]
    unit = parse_unit(second.units[-1].data, second.slot, 0)
    assert isinstance(unit, GroupUnit) and not unit.scene


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
@pytest.mark.parametrize("uses_per_s", [4000, 20_000, 100_000])
def test_uses_are_never_exceeded(uses_per_s: float, share: float) -> None:
    link = ends(10.0, uses_per_s, share, "anchor.enabled=true")
    for group in link.send(frames([*range(20), *range(FIRST_CUT, FIRST_CUT + 3)])):
        digital = sum(USES_PER_BYTE * len(record) for record in group.records)
        offered = uses_per_s * group.frames / 25
        assert digital + (0 if group.symbols is None else group.symbols.size) <= offered + 1
        if group.piece:
            assert digital <= share * offered + 1


def test_frames_too_few_for_their_own_metadata_are_left_out_and_the_next_ones_begin_the_scene() -> None:
    link, source = ends(10.0, 1500), frames(range(9))
    assert link.sender.step(source[0])[0] is None
    first = link.sender.flush()
    assert first is not None and first.events == ("skipped",) and not first.records
    (second,) = link.send(source[1:])
    unit = parse_unit(second.units[-1].data, 1, 0)
    assert isinstance(unit, GroupUnit) and unit.scene
    assert held(link.decoder) == list(range(1, 9))


def test_a_lost_group_is_missing_and_nothing_after_it() -> None:
    link = ends()
    link.send(frames(range(24)), lost=[1])
    assert held(link.decoder) == [*range(8), *range(16, 24)]


def test_quality_rises_with_the_snr() -> None:
    source = frames(range(8))
    found = []
    for snr_db in (-3, 1, 5, 9, 13, 17):
        link = ends(snr_db)
        link.send(source)
        states = [link.decoder.scene_at(slot) for slot in range(8)]
        found.append(
            np.mean([psnr_yuv(shot.picture, state.guide) for shot, state in zip(source, states, strict=True)
                     if state is not None and state.guide is not None])
        )  # fmt: skip
    steps = np.diff(found)
    assert (steps > 0.5).all()
    assert (steps < 4.5).all()  # a step of 4 dB: no cliff


def test_the_expected_error_is_the_real_one() -> None:
    link = ends(6.0, 40_000)
    source = frames(range(8))
    link.send(source)
    errors, told = [], []
    for shot in source:
        state = link.decoder.scene_at(shot.slot)
        assert state is not None
        scene = link.decoder.compose(state)
        assert scene.noise is not None and scene.noise.shape == (8, 8)
        errors.append((shot.picture.y.astype(float) - scene.base.y) ** 2)
        told.append(scene.noise**2)
    assert np.mean(told) == pytest.approx(np.mean(errors), rel=0.3)


def test_time_stamps_that_are_not_regular_cross() -> None:
    source = [replace(shot, pts=shot.pts * 3 + shot.slot % 2) for shot in frames(range(10))]
    link = ends()
    link.send(source)
    states = [link.decoder.scene_at(shot.slot) for shot in source]
    assert [state.pts for state in states if state] == [shot.pts for shot in source]


def test_an_anchor_trickles_in_and_is_followed() -> None:
    link = ends(-2.0, 100_000, 0.5, "anchor.enabled=true")
    source = frames(range(40))
    groups = link.send(source)
    assert "anchor" in groups[0].events
    assert sum(bool(group.piece) for group in groups) >= 1
    assert link.decoder.counts["anchor"] >= 1
    assert link.decoder.anchor_ids == (0,)
    state = link.decoder.scene_at(39)
    assert state is not None and state.anchor is not None and state.anchor.slot == 7
    scene = link.decoder.compose(state)
    assert scene.warped is not None
    gained = psnr_yuv(source[39].picture, scene.base) - psnr_yuv(source[39].picture, scene.guide)
    assert gained > 0.8


def test_an_anchor_that_lost_a_piece_is_dropped() -> None:
    link = ends(5.0, 16_000, 0.4, "anchor.enabled=true")
    groups = link.send(frames(range(64)), lost=[2])
    assert sum(bool(group.piece) for group in groups[1:]) > 2
    assert link.decoder.counts["anchor"] == 0
    assert link.decoder.counts["damaged"] == 1


def test_damaged_units_are_counted_and_never_raise() -> None:
    link = ends()
    group = link.send(frames(range(8)))[0]
    assert group.symbols is not None
    data = bytearray(group.units[-1].data)
    for position in range(len(data)):
        broken = bytes([*data[:position], data[position] ^ 0x10, *data[position + 1 :]])
        decoder = AnalogDecoder()
        decoder.push(pack_config(SMALL, 0).data, 0.0)
        decoder.hear(group.symbols, np.full(group.symbols.size, 0.1))
        decoder.push(broken, 0.0)
        assert held(decoder) == []
    decoder.hear(group.symbols[:-1], np.full(group.symbols.size - 1, 0.1))  # some symbols are missing
    decoder.push(bytes(data), 0.0)
    assert decoder.counts["damaged"] >= 1 and held(decoder) == []


def test_a_receiver_without_configuration_waits_for_one() -> None:
    link = ends()
    groups = link.send(frames(range(8)))
    decoder = AnalogDecoder()
    decoder.push(groups[0].units[-1].data, 0.0)
    assert decoder.counts["before configuration"] == 1 and decoder.state is None


def test_the_guide_is_as_fine_as_the_uses_can_fill() -> None:
    stream = replace(STREAM, width=512, height=512)
    scales = [scale_for(stream, uses) for uses in (3000, 12_000, 48_000, 96_000, 400_000)]
    assert scales == sorted(scales, reverse=True)
    assert scales[0] == 8 and scales[2] == 2 and scales[-1] == 1
    assert (
        scale_for(replace(STREAM, width=1920, height=1080), 1e7) > 1
    )  # eight whole ones are too many samples


# --- bytes --------------------------------------------------------------------------------------------------------


@given(
    st.integers(0, 2**31), st.booleans(), st.sampled_from([1, 2, 4, 8]),
    st.lists(st.integers(0, 2**40 - 1), max_size=8), st.binary(max_size=200),
)  # fmt: skip
def test_group_units_come_back(slot: int, scene: bool, scale: int, pts: list[int], metadata: bytes) -> None:
    group = GroupUnit(slot, scene, scale, tuple(pts), metadata)
    packed = pack_group(group)
    assert is_group(packed.data)
    assert parse_unit(packed.data, slot, 0) == group
    assert sum(size for _, size in packed.layer_bytes) == len(packed.data)
    with pytest.raises(BitstreamError, match="check"):
        parse_unit(packed.data, slot + 1, 0)


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5), st.integers(0, 50))
def test_records_are_joined_whatever_follows_them(pieces: list[bytes], zeros: int) -> None:
    joiner = RecordJoiner()
    assert joiner.push(unit_record(pieces[0]) + bytes(zeros)) == pieces[0]
    joined = [joiner.push(piece_record(piece, last=False) + bytes(zeros)) for piece in pieces]
    assert joined == [None] * len(pieces)
    assert joiner.push(piece_record(b"end", last=True)) == b"".join(pieces) + b"end"
    joiner.push(piece_record(b"lost", last=False))
    assert joiner.push(None) is None
    assert joiner.push(piece_record(b"rest", last=True)) == b"rest"


def test_a_file_of_an_analog_link_is_refused_clearly(tmp_path: Path) -> None:
    groups = ends().send(frames(range(8)))
    path = tmp_path / "link.sgv"
    with SgvWriter(path) as writer:
        writer.write(groups[0].units)
    with pytest.raises(SourceError, match="symbols, which no file holds"):
        describe_file(path, json_only=True)

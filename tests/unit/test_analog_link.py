"""The analog link end to end on small pictures, and what its parts promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sionna.phy", reason="needs the extra `radio`: pip install 'semcast[radio]'")

from benchmarks.analog_link import AnalogRun, run_analog, softcast_alone
from benchmarks.files import describe_file
from channel.analog import awgn
from channel.analog_link import PACKET_USES, AnalogChannel, block_lengths
from channel.analog_spec import AnalogSpec
from channel.radio.mcs import MCS_TABLE, block_bytes, longest_block_uses
from channel.simulated import make_link
from channel.spec import check_channel
from common.config import Config, load_config
from common.container import RecordJoiner, SgvWriter, piece_record, unit_record
from common.errors import BitstreamError, ConfigError, SourceError
from common.fusion import downsample, reliability, upsample
from common.quality import psnr_yuv
from common.types import Frame, Picture
from common.units import GroupUnit
from common.wire import is_group, pack_config, pack_group, parse_unit
from receiver.analog import AnalogDecoder
from receiver.decoder import bridge
from receiver.decoder.conditions import DEAF
from receiver.noisy import in_cells, precision
from receiver.painter import BasePainter
from receiver.pipeline import ReceiverSession, _facts
from sender.analog import AirBudget, AnalogSender, Transmission, scale_for
from tests.small_stream import STREAM, frame
from tests.unit.test_decoder_model import FACTS, composition, model, never, same, synthesizer

SIDE = 64
SMALL = replace(STREAM, width=SIDE, height=SIDE)
USES_PER_BYTE = 4
FIRST_CUT = 80


def frames(slots: Sequence[int], side: int = SIDE) -> list[Frame]:
    """Of the built-in clip, numbered from 0."""
    shots = [frame(slot, side) for slot in slots]
    return [Frame(shot.picture, n, shot.time_base, n, shot.colour) for n, shot in enumerate(shots)]


def config(*overrides: str) -> Config:
    return load_config(
        None, ["receiver.steps=0", "receiver.budget_ms=none", "anchor.enabled=false", *overrides]
    )


@dataclass
class Ends:
    """Sender and decoder with nothing but noise between: records arrive, or a test says otherwise."""

    sender: AnalogSender
    decoder: AnalogDecoder
    joiner: RecordJoiner
    snr_db: float

    def send(self, source: Sequence[Frame], lost: Sequence[int] = ()) -> list[Transmission]:
        """All groups; `lost` tells the ones whose records are."""
        sent = [self.sender.step(shot)[0] for shot in source] + [self.sender.flush()]
        groups = [transmission for transmission in sent if transmission is not None]
        for number, group in enumerate(groups):
            if group.symbols is None:
                continue
            heard = awgn(group.symbols, self.snr_db, np.random.default_rng(number))
            self.decoder.hear(heard.symbols, heard.noise)
            for record in group.records:
                unit = self.joiner.push(None if number in lost else record)
                if unit is not None:
                    self.decoder.push(unit, group.slot / 25)
        return groups


def ends(snr_db: float = 10.0, uses_per_s: float = 20_000, share: float = 0.3, *overrides: str) -> Ends:
    budget = AirBudget(uses_per_s, share, lambda size: USES_PER_BYTE * size)
    stream = SMALL
    return Ends(AnalogSender(stream, config(*overrides), budget), AnalogDecoder(), RecordJoiner(), snr_db)


def held(decoder: AnalogDecoder) -> list[int]:
    return [slot for slot in range(200) if decoder.scene_at(slot) is not None]


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


# --- channel noise is diffusion noise -----------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.floats(0, 1), st.floats(0, 0.3))
def test_the_bridge_starts_at_the_noise_that_is_there(trust: float, known: float) -> None:
    u, noise = torch.full((1, 6, 2, 2), trust), torch.full((1, 6, 2, 2), known)
    raised = bridge.noisy_enough(u, noise)
    assert (raised >= u).all() and (raised <= 1).all()
    sigma = bridge.sigma(1.0, raised)
    assert (sigma >= torch.clamp(noise, max=bridge.K_MAX) - 1e-6).all()
    added = sigma * bridge.topped_up(torch.ones_like(u), raised, noise)
    together = torch.sqrt(added**2 + torch.minimum(noise, sigma) ** 2)
    assert torch.allclose(together, sigma, atol=1e-4)


def test_no_noise_changes_nothing() -> None:
    quiet = composition()
    silent = replace(quiet, noise=np.zeros((6, 8), np.float32))
    painted = [synthesizer(model(3)).render(scene, FACTS, "bridge2", never) for scene in (quiet, silent)]
    assert same(painted[0].picture, painted[1].picture)
    assert np.array_equal(painted[0].uncertainty, painted[1].uncertainty)  # type: ignore[arg-type]
    loud = replace(quiet, noise=np.full((6, 8), 20, np.float32))
    assert not same(painted[0].picture, synthesizer(model(3)).render(loud, FACTS, "bridge2", never).picture)


def test_uncertainty_is_never_less_than_the_noise() -> None:
    noise = np.zeros((6, 8), np.float32)
    noise[0, :3] = 10.0, 20.0, 100.0
    quiet, loud = (
        synthesizer(model(3)).render(scene, FACTS, "base", never).uncertainty
        for scene in (composition(), replace(composition(), noise=noise))
    )
    assert quiet is not None and loud is not None
    assert loud[0, :3].tolist() == [
        max(stated, least) for stated, least in zip(quiet[0, :3], (40, 80, 255), strict=True)
    ]
    assert np.array_equal(loud[1:], quiet[1:])


def test_the_network_is_told_how_noisy_it_is() -> None:
    link = ends(3.0)
    link.send(frames(range(8)))
    state = link.decoder.scene_at(7)
    assert state is not None
    scene = link.decoder.compose(state)
    assert scene.noise is not None
    rms = float(np.sqrt(np.mean(scene.noise**2)))
    assert _facts(state, scene, state.slot).freshness == pytest.approx(1 - rms / DEAF)
    assert _facts(state, replace(scene, noise=None), state.slot).freshness == 1


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_disagreement_that_noise_explains_does_not_tell_against_the_anchor(scale: int) -> None:
    truth = frame(10, 128).picture
    clean = downsample(truth, scale)
    rng = np.random.default_rng(3)

    def weights(deviation: float, told: float) -> np.ndarray:
        noisy = np.clip(np.rint(clean.y + deviation * rng.standard_normal(clean.y.shape)), 0, 255)
        guide = Picture(noisy.astype(np.uint8), clean.u, clean.v)
        noise = np.full((16, 16), told**2, np.float32)
        return precision(truth, guide, upsample(guide, scale), scale, noise)[0]

    up = upsample(clean, scale)
    digital = reliability(truth.y, clean.y, up.y, scale) / 64
    assert np.allclose(weights(0, 0), digital)
    assert weights(16, 16).mean() > 0.85
    assert weights(16, 16).mean() > weights(16, 0).mean() + 0.1


def test_a_wrong_anchor_is_found_out_in_spite_of_the_noise() -> None:
    truth, wrong = frame(10, 128).picture, frame(FIRST_CUT + 10, 128).picture
    rng = np.random.default_rng(3)
    noisy = np.clip(np.rint(truth.y + 8 * rng.standard_normal(truth.y.shape)), 0, 255).astype(np.uint8)
    guide = Picture(noisy, truth.u, truth.v)
    weights, error = precision(wrong, guide, guide, 1, np.full((16, 16), 64, np.float32))
    assert weights.mean() < 0.25
    assert np.median(error) <= 64


def test_cells_are_means() -> None:
    assert np.array_equal(in_cells(np.arange(16.0).reshape(4, 4), 2), [[2.5, 4.5], [10.5, 12.5]])


# --- over the air -------------------------------------------------------------------------------------------------

AIR = AnalogSpec(snr_db=12, uses_per_s=20_000, mcs="qpsk-1/2")


@cache
def run(spec: AnalogSpec, count: int = 16, seed: int = 0) -> AnalogRun:
    return run_analog(config(f"stream.seed={seed}"), spec, SMALL, frames(range(count)))


def test_the_whole_link_shows_every_frame_and_counts_its_uses() -> None:
    found = run(AIR)
    assert [shown.frame.slot for shown in found.shown] == list(range(16))
    assert not any(shown.concealed for shown in found.shown)
    assert found.freezes.count == 0
    assert 0 < found.uses_digital < found.uses_analog
    assert found.uses_digital + found.uses_analog <= 20_000 * 16 / 25
    assert found.result.channel["cbr"] == pytest.approx(
        (found.uses_digital + found.uses_analog) / (3 * 16 * SIDE**2)
    )
    assert found.result.sent_bytes > sum(sum(layers.values()) for layers in found.result.layer_bytes)
    assert len(found.result.latency_s) == 16 and min(found.result.latency_s) >= 16 / 25


def test_the_same_seed_gives_the_same_pictures_and_another_one_others() -> None:
    first, again = run(AIR), run_analog(config(), AIR, SMALL, frames(range(16)))
    other = run(AIR, seed=1)
    assert all(same(a.frame.picture, b.frame.picture) for a, b in zip(first.shown, again.shown, strict=True))
    assert not same(first.shown[0].frame.picture, other.shown[0].frame.picture)


def test_where_no_record_comes_through_nothing_is_shown() -> None:
    found = run(AIR.model_copy(update={"snr_db": -15.0}))
    assert found.shown == ()
    assert found.result.channel["lost_groups"] == found.result.channel["groups"]


def test_records_come_through_fading_and_lost_packets_are_marked() -> None:
    spec = AIR.model_copy(update={"fading": "rayleigh", "coherence_ms": 5.0, "loss": 0.3})
    channel = AnalogChannel(spec, 1)
    symbols = np.full(8 * PACKET_USES, (1 + 1j) / np.sqrt(2), np.complex64)
    arrived = channel.transmit([b"first" * 9, b"second" * 30], symbols)
    assert [record and record.rstrip(b"\0") for record in arrived.records] == [b"first" * 9, b"second" * 30]
    packets = np.isinf(arrived.analog.noise).reshape(8, -1)
    assert (packets.all(axis=1) == packets.any(axis=1)).all() and 0 < packets.all(axis=1).sum() < 8
    assert np.unique(arrived.analog.noise[np.isfinite(arrived.analog.noise)]).size > 1
    assert channel.stats.uses_digital == channel.uses_of(45) + channel.uses_of(180)
    assert channel.stats.uses_analog == symbols.size


@given(st.sampled_from(MCS_TABLE), st.integers(1, 5000))
def test_blocks_hold_their_record(mcs, size: int) -> None:  # type: ignore[no-untyped-def]
    lengths = block_lengths(mcs, size)
    assert sum(block_bytes(mcs, uses) for uses in lengths) >= size
    assert max(lengths) <= longest_block_uses(mcs)
    assert sum(lengths) <= block_lengths(mcs, size + 64)[0] * len(block_lengths(mcs, size + 64)) + 1


def test_plain_softcast_uses_as_much_and_freezes_without_metadata() -> None:
    pictures = [shot.picture for shot in frames(range(12))]
    found = softcast_alone(pictures, SMALL.frame_rate, AIR, 0)
    assert len(found.pictures) == 12 and all(found.fresh)
    assert 0 < found.uses <= 20_000 * 12 / 25
    assert np.mean([psnr_yuv(a, b) for a, b in zip(pictures, found.pictures, strict=True)]) > 25
    lost = softcast_alone(pictures, SMALL.frame_rate, AIR.model_copy(update={"snr_db": -15.0}), 0)
    assert not any(lost.fresh) and all(same(lost.pictures[0], other) for other in lost.pictures)


def test_a_link_of_datagrams_refuses_an_analog_channel() -> None:
    check_channel("analog:snr_db=3")
    with pytest.raises(ConfigError, match="semcast demo"):
        make_link(AIR, 0)


def test_a_receiver_shows_a_lost_group_as_the_picture_before_it() -> None:
    link = ends()
    session = ReceiverSession(config().receiver, BasePainter(), link.sender.clock, link.decoder)
    link.send(frames(range(24)), lost=[1])
    shown = [session.paint(slot) for slot in range(24)]
    assert [picture.concealed for picture in shown] == [False] * 8 + [True] * 8 + [False] * 8

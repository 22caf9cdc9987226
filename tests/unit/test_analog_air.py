"""Analog pictures over the air, as a demo sends them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sionna.phy", reason="needs the extra `radio`: pip install 'semcast[radio]'")

from benchmarks.analog_link import AnalogRun, run_analog, softcast_alone
from channel.analog_link import PACKET_USES, AnalogChannel, block_lengths
from channel.analog_spec import AnalogSpec
from channel.radio.mcs import MCS_TABLE, block_bytes, longest_block_uses
from channel.simulated import make_link
from channel.spec import check_channel
from common.errors import ConfigError
from common.quality import psnr_yuv
from receiver.painter import BasePainter
from receiver.pipeline import ReceiverSession
from tests.analog_ends import SIDE, SMALL, config, ends, frames
from tests.unit.test_decoder_model import same

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

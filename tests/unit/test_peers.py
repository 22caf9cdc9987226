"""The peer codecs on a small clip, and the arithmetic that compares with them."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import peers
from benchmarks.envelope import (
    bd_rate,
    best_of_ladder,
    bits_at_quality,
    curve_through,
    envelope_points,
    family_at,
    measure_at,
    quality_at_rate,
    rate_at_quality,
    rate_gap,
)
from benchmarks.peers import RdPoint
from benchmarks.rd_quality import Judge, Metrics, Quality
from common.errors import CodecError
from common.types import Picture

RATE = Fraction(30000, 1001)


@pytest.fixture(scope="module")
def clip() -> list[Picture]:
    """Six pictures, 128x96, of a texture that pans."""
    coarse = np.random.default_rng(0).integers(30, 220, (32, 40), dtype=np.uint8)
    wide = np.asarray(cv2.resize(coarse, (160, 128), interpolation=cv2.INTER_CUBIC), np.uint8)
    half = np.asarray(cv2.resize(wide, (80, 64), interpolation=cv2.INTER_AREA), np.uint8)
    return [
        Picture(wide[:96, 4 * i : 4 * i + 128], half[:48, 2 * i : 2 * i + 64], half[8:56, 2 * i : 2 * i + 64])
        for i in range(6)
    ]


@pytest.fixture(scope="module")
def judge(clip: list[Picture]) -> Judge:
    return Judge(clip, RATE, Metrics(vmaf=False))


@pytest.mark.parametrize("codec", peers.PEERS, ids=lambda codec: codec.name)
def test_every_peer_trades_rate_for_quality(codec: peers.PeerCodec, judge: Judge) -> None:
    worst, best = (peers.run_point(codec, judge, 1, crf) for crf in (codec.ladder[0], codec.ladder[-1]))
    assert worst.total_bytes < best.total_bytes
    assert worst.quality.psnr_yuv < best.quality.psnr_yuv and worst.quality.ms_ssim < best.quality.ms_ssim
    assert worst.quality.feature_distance is not None and best.quality.feature_distance is not None
    assert worst.quality.feature_distance > best.quality.feature_distance
    assert best.quality.psnr_yuv > 34.0
    assert worst.kbps == pytest.approx(worst.total_bytes * 8 / (6 / (30000 / 1001)) / 1000)


@pytest.mark.parametrize("codec", peers.PEERS, ids=lambda codec: codec.name)
def test_peers_hold_no_picture_back_and_send_one_key(codec: peers.PeerCodec, clip: list[Picture]) -> None:
    packets = peers.encode(codec, clip, RATE, codec.ladder[2])
    assert len(packets) == len(clip)
    assert len(packets[0]) > 2 * max(map(len, packets[1:]))


def test_smaller_scales_are_cheaper_and_too_small_ones_left_out(judge: Judge) -> None:
    points = peers.run_ladder(peers.X264, judge, ladder=(37,))
    assert [point.scale for point in points] == [1, 2, 4]
    assert points[0].total_bytes > points[1].total_bytes > points[2].total_bytes
    assert points[0].quality.psnr_yuv > points[1].quality.psnr_yuv > points[2].quality.psnr_yuv
    assert [p.scale for p in peers.run_ladder(peers.SVT_AV1, judge, ladder=(55,))] == [1]


def test_a_sweep_resumes_from_its_cache(
    clip: list[Picture], judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = peers.run_ladder(peers.X264, judge, (1, 2), (40,), tmp_path)
    stored = sorted(tmp_path.iterdir())

    def refuse(*_: object) -> RdPoint:
        raise AssertionError("encoded again")

    monkeypatch.setattr(peers, "run_point", refuse)
    assert peers.run_ladder(peers.X264, judge, (1, 2), (40,), tmp_path) == first
    for other in (Judge(clip[1:], RATE, judge.metrics), Judge(clip, RATE, Metrics(vmaf=True))):
        with pytest.raises(AssertionError, match="encoded again"):  # another clip or metric is another entry
            peers.run_ladder(peers.X264, other, (1,), (40,), tmp_path)
    for path in stored:
        path.write_text("{")  # a half file
    with pytest.raises(AssertionError, match="encoded again"):
        peers.run_ladder(peers.X264, judge, (1,), (40,), tmp_path)


def test_a_missing_codec_is_one_clear_line(clip: list[Picture]) -> None:
    absent = dataclasses.replace(peers.X264, name="vvc", encoder="libnone")
    with pytest.raises(CodecError, match=r"vvc cannot encode .* see `semcast doctor`"):
        peers.encode(absent, clip, RATE, 30)


def test_without_sei_drops_only_type_six() -> None:
    packet = b"\0\0\0\1\x67sps" + b"\0\0\1\x06settings" + b"\0\0\1\x65slice"
    assert peers.without_sei(packet) == b"\0\0\1\x67sps\0\0\1\x65slice"


# --- comparing


def point(scale: int, kbps: float, psnr: float, **more: float) -> RdPoint:
    return RdPoint("svt-av1", scale, 40, round(kbps * 125), kbps, Quality(psnr, 0.9, **more))


LADDER = [
    *(point(1, kbps, psnr) for kbps, psnr in ((50, 30), (100, 34), (200, 38), (400, 42))),
    *(point(2, kbps, psnr) for kbps, psnr in ((10, 25), (25, 28), (60, 31.5), (150, 32))),
]


def test_the_envelope_takes_the_better_curve_at_each_rate() -> None:
    envelope = best_of_ladder(LADDER, "psnr_yuv")
    assert envelope_points(envelope) == [(10, 25), (25, 28), (60, 31.5), (100, 34), (200, 38), (400, 42)]
    assert quality_at_rate(envelope, 9.9) is None
    assert quality_at_rate(envelope, 1e6) == 42
    assert rate_at_quality(envelope, 24.9) is None and rate_at_quality(envelope, 42.1) is None
    assert rate_at_quality(envelope, 38) == pytest.approx(200)
    assert bits_at_quality(envelope, 38, duration_s=2.0) == pytest.approx(400_000)


def test_rate_gap_is_percent_of_bits_at_equal_quality() -> None:
    envelope = best_of_ladder(LADDER, "psnr_yuv")
    assert rate_gap(103.0, 34.0, envelope) == pytest.approx(3.0)
    assert rate_gap(90.0, 34.0, envelope) == pytest.approx(-10.0)
    assert rate_gap(90.0, 50.0, envelope) is None


def test_points_without_the_metric_are_left_out() -> None:
    with pytest.raises(ValueError, match="vmaf"):
        best_of_ladder(LADDER, "vmaf")
    assert best_of_ladder([*LADDER, point(1, 9, 9, vmaf=50.0)], "vmaf").curves[0].kbps == (9,)


def test_bd_rate_of_a_system_that_needs_a_tenth_more() -> None:
    envelope = best_of_ladder(LADDER[:4], "psnr_yuv")
    delta = bd_rate([(1.1 * p.kbps, p.quality.psnr_yuv) for p in LADDER[:4]], envelope)
    assert delta.percent == pytest.approx(10.0)
    assert delta.overlap == 1.0


def test_distances_are_compared_negated() -> None:
    ladder = [
        point(1, kbps, 30, feature_distance=d) for kbps, d in ((50, 0.3), (100, 0.2), (200, 0.1), (400, 0.05))
    ]
    envelope = best_of_ladder(ladder, "feature_distance")
    assert quality_at_rate(envelope, 400) == -0.05 and rate_at_quality(envelope, -0.2) == pytest.approx(100)
    ours = [(0.9 * p.kbps, -(p.quality.feature_distance or 0)) for p in ladder]
    assert bd_rate(ours, envelope).percent == pytest.approx(-10.0)


def test_the_overlap_of_a_band_is_with_what_the_ladder_has_in_it() -> None:
    envelope = best_of_ladder(LADDER[:4], "psnr_yuv")
    ours = [(1.1 * kbps, quality) for kbps, quality in ((50, 30), (70, 32), (85, 33), (100, 34))]
    whole, band = bd_rate(ours, envelope), bd_rate(ours, envelope, (10, 100))
    assert whole.percent == band.percent
    assert whole.overlap == pytest.approx(1 / 3) and band.overlap == pytest.approx(1.0)
    better = bd_rate([(kbps, quality + 6) for kbps, quality in ours], envelope, (10, 100))
    assert better.overlap == 0.0 and better.percent is not None and better.percent < -40
    assert bd_rate(ours, envelope, (1, 10)).overlap == 0.0


def test_other_measures_are_those_of_the_codec_that_is_best_there() -> None:
    ladder = [
        *(point(1, kbps, psnr, warping_error=w) for kbps, psnr, w in ((50, 30, 1.0), (100, 34, 1.4))),
        *(point(2, kbps, psnr, warping_error=0.5) for kbps, psnr in ((10, 25), (50, 32))),
    ]
    assert measure_at(ladder, 40, "warping_error") == 0.5
    assert measure_at(ladder, 100, "warping_error") == 1.4
    assert measure_at(ladder, 5, "warping_error") is None and family_at(ladder, 5) == []
    assert measure_at(LADDER, 100, "warping_error") is None


def test_bd_rate_says_why_it_is_absent() -> None:
    envelope = best_of_ladder(LADDER[:4], "psnr_yuv")
    assert bd_rate([(10, 30), (20, 31)], envelope).reason == "fewer than 4 points with rising quality"
    apart = bd_rate([(10, 50), (20, 51), (30, 52), (40, 53)], envelope)
    assert (apart.percent, apart.overlap, apart.reason) == (None, 0.0, "the quality ranges do not overlap")


pairs = st.lists(st.tuples(st.floats(1.0, 1e4), st.floats(10.0, 60.0)), min_size=1, max_size=12)


@given(pairs)
def test_curves_rise_strictly(points: list[tuple[float, float]]) -> None:
    curve = curve_through("x", points)
    assert all(a < b for a, b in zip(curve.kbps, curve.kbps[1:], strict=False))
    assert all(a < b for a, b in zip(curve.quality, curve.quality[1:], strict=False))
    assert max(quality for _, quality in points) == curve.quality[-1]

"""Figures of the rate-distortion bench, from made-up ladders."""

from __future__ import annotations

import dataclasses
import math

import pytest

from benchmarks.peers import RdPoint
from benchmarks.rd import nearest_rung
from benchmarks.rd_clip import ClipFacts
from benchmarks.rd_figures import compare, mean_systems, summarise
from benchmarks.rd_model import ClipReport, ClipRuns
from benchmarks.rd_plan import Level
from benchmarks.rd_quality import Quality
from benchmarks.rd_requirements import requirements
from benchmarks.rd_runs import OurPoint
from benchmarks.rd_tables import bd_table, rate_table
from benchmarks.tables import Requirement

FACTS = ClipFacts(frames=100, fps=25.0, width=512, height=512, duration_s=4.0, samples="x")


def rung(codec: str, kbps: float, psnr: float, crf: int = 40, scale: int = 1) -> RdPoint:
    return RdPoint(codec, scale, crf, round(kbps * 500), kbps, qualities(psnr))


def qualities(psnr: float) -> Quality:
    """One quality that everything follows from; the warping error is that of a codec."""
    return Quality(psnr, psnr / 50, feature_distance=1 / psnr, warping_error=1.0)


LADDER = tuple(rung("svt-av1", kbps, psnr, crf) for kbps, psnr, crf in
               ((20, 28, 60), (50, 30, 50), (100, 34, 40), (200, 38, 30), (400, 42, 20)))  # fmt: skip


def point(kbps: float, psnr: float, target_kbps: float | None = None, level: Level = "base") -> OurPoint:
    return OurPoint(
        target_kbps=kbps if target_kbps is None else target_kbps, total_bytes=round(kbps * 500), kbps=kbps,
        levels={level: qualities(psnr)},
    )  # fmt: skip


MEASURED = ("psnr_yuv", "ms_ssim", "feature_distance")


def compared(*ours: OurPoint, ladder: tuple[RdPoint, ...] = LADDER) -> ClipReport:
    return compare(ClipRuns("made-up", FACTS, ours, ladder, {}))


def required(*ours: OurPoint) -> dict[str, Requirement]:
    clips = [compared(*ours)]
    return {item.name: item for item in requirements(clips, summarise(clips))}


def test_a_tenth_more_bits_everywhere_is_ten_percent_by_every_measure() -> None:
    ours = [point(1.1 * p.kbps, p.quality.psnr_yuv, p.kbps) for p in LADDER]
    report = compared(*ours, ladder=(*LADDER, rung("vp9", 30, 20)))
    for row in report.rates:
        assert row.ratio == pytest.approx(1.1)
        for gaps in row.levels[0].gaps.values():
            assert gaps == dict.fromkeys(MEASURED, pytest.approx(10.0))
    assert {(d.against, d.metric) for d in report.bd_rates} == {
        (against, metric) for against in ("svt-av1", "best") for metric in MEASURED
    }
    assert all(delta.percent == pytest.approx(10.0) for delta in report.bd_rates)
    assert all(mean.mean_percent == pytest.approx(10.0) for mean in summarise([report]))


def test_the_best_peer_is_taken_at_each_rate() -> None:
    ladder = (*LADDER, rung("vp9", 90, 34.0), rung("vp9", 250, 38.0))
    gaps = compared(point(90, 34.0), point(200, 38.0), ladder=ladder).rates[0].levels[0].gaps
    assert gaps["svt-av1"]["psnr_yuv"] == pytest.approx(-10.0)
    assert gaps["best"]["psnr_yuv"] == pytest.approx(0.0)


def test_below_the_worst_of_the_ladder_is_at_least_as_far_behind_as_that() -> None:
    row = compared(point(30, 20.0), point(10, 20.0)).rates
    assert row[0].levels[0].gaps["svt-av1"]["psnr_yuv"] == pytest.approx(50.0)
    assert row[1].levels[0].gaps["svt-av1"]["psnr_yuv"] is None  # there the ladder does not exist
    assert row[0].in_ladder == ["svt-av1"] and row[1].in_ladder == []


def test_requirements_take_the_worst_where_they_apply() -> None:
    found = required(point(24, 28.5), point(104, 34.0, 100), point(205, 38.0, 200))
    rate = found["rate away from its target, %"]
    assert (rate.measured, rate.met, rate.where) == (pytest.approx(4.0), True, "made-up 100k")
    high = found["base behind svt-av1 from 100 kbit/s at equal PSNR, % of bits"]
    assert (high.measured, high.met, high.where) == (pytest.approx(4.0), False, "made-up 100k")
    assert found["base behind svt-av1 at 24 kbit/s at equal PSNR, % of bits"].met
    assert found["least rise of PSNR of the base picture with rate"].measured == pytest.approx(4.0)


def test_quality_that_falls_with_rate_is_a_miss() -> None:
    found = required(point(100, 34.0), point(200, 33.9), point(201, 33.0))  # the last spent hardly more
    rise = found["least rise of PSNR of the base picture with rate"]
    assert (rise.measured, rise.met) == (pytest.approx(-0.1), False)
    assert found["base behind svt-av1 at 24 kbit/s at equal PSNR, % of bits"].measured is None


def test_a_rate_that_the_content_forbids_is_excused() -> None:
    low, fine, short, over = (
        point(16, 27, 8), point(300, 43, 1000), point(50, 30, 100), point(150, 30, 100),
    )  # fmt: skip
    excuses = [row.excuse for row in compared(low, fine, short, over).rates]
    assert excuses == ["below the lowest rate of any peer", "better than the best of any peer", None, None]


def test_the_nearest_rung_is_of_the_best_curve_at_that_rate() -> None:
    half = (rung("svt-av1", 25, 31.0, 50, 2), rung("svt-av1", 60, 31.5, 40, 2))
    assert nearest_rung([*LADDER, *half], 41.0) == ("svt-av1", 2, 44)
    assert nearest_rung([*LADDER, *half], 200.0) == ("svt-av1", 1, 30)
    assert nearest_rung(LADDER, 5.0) == ("svt-av1", 1, 60)


def test_a_metric_that_was_not_measured_is_absent_everywhere() -> None:
    report = compared(point(100, 34.0))
    assert all("vmaf" not in system.results for system in report.systems)
    assert "vmaf" not in report.rates[0].levels[0].gaps["svt-av1"]
    head, (row, *_) = rate_table(report).head, rate_table(report).rows
    assert row[head.index("VMAF")] == "-" and "LPIPS" not in head and "DISTS" not in head


LOW_LADDER = tuple(rung("svt-av1", kbps, psnr) for kbps, psnr in
                   ((8, 24), (16, 27), (32, 30), (64, 33), (128, 36)))  # fmt: skip


def outputs(share: float, *kbps: float) -> list[OurPoint]:
    """The output reaches the ladder's quality at this share of its bits."""
    return [point(share * k, 24 + 3 * math.log2(k / 8), k, "output") for k in kbps]


def test_low_rates_have_a_bd_rate_of_their_own() -> None:
    ours = outputs(0.9, 8, 16, 32, 64, 100)
    ours[-1] = point(100, 30.0, 100, "output")  # poor, but not at a low rate
    report = compared(*ours, ladder=LOW_LADDER)
    low = [delta for delta in report.bd_rates if delta.band == "low"]
    assert [delta.percent for delta in low] == [pytest.approx(-10.0, abs=0.2)] * 3
    assert all(delta.overlap > 0.9 for delta in low)
    assert {delta.band for delta in compared(*ours[1:], ladder=LOW_LADDER).bd_rates} == {
        "all"
    }  # three are too few
    assert {row[2] for row in bd_table(report).rows} == {"all", "8-64 kbit/s"}


def test_requirements_of_the_output() -> None:
    clips = [compared(*outputs(share, 8, 16, 32, 64), ladder=LOW_LADDER) for share in (0.8, 1.0)]
    found = {item.name: item for item in requirements(clips, summarise(clips))}
    bits = found["BD-rate of the output by MS-SSIM, 8-64 kbit/s, against svt-av1, %"]
    assert bits.met and bits.measured == pytest.approx(-10.0, abs=0.2) and bits.where == "mean of 2 of 2"
    unmeasured = found["BD-rate of the output by VMAF, 8-64 kbit/s, against svt-av1, %"]
    assert (unmeasured.measured, unmeasured.met) == (None, None)
    assert not any("output" in name for name in required(point(100, 34.0)))


def test_the_output_is_to_be_as_steady_as_the_codec() -> None:
    name = "warping error of the output above the best peer's at the same rate, %"
    steady = point(100, 34.0, level="output")
    shaky = dataclasses.replace(steady.levels["output"], warping_error=1.2)
    worse = point(200, 38.0, level="output").model_copy(update={"levels": {"output": shaky}})
    assert required(steady)[name].met
    found = required(steady, worse)[name]
    assert (found.measured, found.met, found.where) == (pytest.approx(20.0), False, "made-up 200k")


def test_systems_are_listed_as_compressai_does() -> None:
    ours, peer = compared(point(100, 34.0), point(200, 38.0)).systems
    assert (ours.name, peer.name) == ("semcast base", "svt-av1 1/1")
    assert ours.results["bpp"] == pytest.approx([1e5 / 25 / 512**2, 2e5 / 25 / 512**2])
    assert ours.results["psnr-yuv"] == [34.0, 38.0] and peer.results["crf"] == [60, 50, 40, 30, 20]


def test_the_mean_over_clips_is_by_point() -> None:
    clips = [compared(point(kbps, psnr, 100)) for kbps, psnr in ((100, 34.0), (110, 36.0))]
    ours, peer = mean_systems(clips)
    assert ours.results["kbps"] == [105.0] and ours.results["psnr-yuv"] == [35.0]
    assert peer.results == clips[0].systems[1].results
    assert ours.description.endswith("mean of 2 clips")

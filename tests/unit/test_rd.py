"""The rate-distortion bench: plans, runs that go on where they stopped, and figures from made-up ladders."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks import kept
from benchmarks.files import encode_file
from benchmarks.peers import X264, RdPoint
from benchmarks.plans import Clip, find_clips
from benchmarks.rd import gather, nearest_rung, our_configs, run_rd, used_networks
from benchmarks.rd_clip import ClipFacts, Material
from benchmarks.rd_figures import compare, mean_systems, summarise
from benchmarks.rd_model import ClipReport, ClipRuns, RdReport
from benchmarks.rd_page import render_rd
from benchmarks.rd_plan import BUILTIN, QUICK, Level, RdPlan, load_plan
from benchmarks.rd_quality import Judge, Metrics, Quality
from benchmarks.rd_report import csv_text
from benchmarks.rd_requirements import requirements
from benchmarks.rd_runs import OurPoint, OurRun, PeerRun, PictureRun, Run, stored
from benchmarks.rd_sr import SuperResolution, alone
from benchmarks.rd_tables import bd_table, rate_table
from benchmarks.sweep import run_all
from benchmarks.tables import Requirement
from cli import app
from common.config import load_config
from common.container import read_sgv
from common.errors import ConfigError, SemcastError, SinkError, SourceError, UsageError, WeightsError
from common.types import Picture
from common.weights import save_weights
from common.wire import is_note
from receiver.decoder.conditions import FrameFacts, observe
from receiver.decoder.model import FAMILY, TinyBridge
from tests.unit.test_quality import alexnet_file

SETTINGS = ["stream.size=64x64", "stream.bitrate_bps=40k", "semantics.enabled=false"]
SHORT_S = 0.4
TWO_QUALITIES = dataclasses.replace(X264, ladder=(40, 30))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of eight pictures, 64x64: a texture that pans."""
    folder = tmp_path_factory.mktemp("clips") / "pan"
    folder.mkdir()
    coarse = np.random.default_rng(0).integers(30, 220, (24, 32, 3), dtype=np.uint8)
    wide = cv2.resize(coarse, (96, 72), interpolation=cv2.INTER_CUBIC)
    for index in range(8):
        cv2.imwrite(str(folder / f"{index:02}.png"), wide[4:68, 2 * index : 2 * index + 64])
    return folder


def material(clip: Path, *overrides: str) -> Material:
    config = load_config(None, [*SETTINGS, *overrides])
    return Material(Clip(name="pan", path=str(clip)), config, None)


# --- the plan


def plan_file(folder: Path, text: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(text)
    return path


def test_a_plan_file_is_read_and_the_command_line_wins(tmp_path: Path) -> None:
    path = plan_file(tmp_path, 'rates = ["24k", 100000]\npeers = ["vp9", "x264"]\nset = ["guide.scale=2"]\n')
    plan = load_plan(path, ["a.mp4"], 2.0)
    assert plan.rates == (24_000, 100_000) and plan.clips == ("a.mp4",) and plan.seconds == 2.0
    assert [codec.name for codec in plan.codecs] == ["vp9", "x264"]
    configs = our_configs(plan, None, ["anchor.enabled=false"])
    assert [config.stream.bitrate_bps for config in configs] == [24_000, 100_000]
    assert configs[0].guide.scale == 2 and not configs[0].anchor.enabled


def test_without_a_plan_the_builtin_clip_is_short_and_named_clips_get_every_rate() -> None:
    assert load_plan(None) == BUILTIN and find_clips(BUILTIN.clips, Path()) == [
        Clip(name="builtin", path=None)
    ]
    assert load_plan(None, ["a.mp4"]).rates == RdPlan().rates


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('rate = ["24k"]', "unknown key 'rate': did you mean rates?"),
        ('peers = ["x266"]', "peers: input should be 'svt-av1'"),
        ('rates = ["24k", "8k"]', "rates must rise"),
        ('pictures = ["25k"]', "pictures must be among rates"),
        ('levels = ["base", "base"]', "levels names something twice"),
        ('levels = ["base", "sr"]', "the level sr needs sr_weights"),
        ('sr_weights = "sr.safetensors"', "sr_weights is for the level sr"),
        ("seconds = 0", "seconds: input should be greater than 0"),
        ('rates = ["24q"]', "bit rate '24q' is not understood"),
        ("rates = [", "is not valid TOML"),
    ],
)
def test_a_wrong_plan_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_plan(plan_file(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_files_of_a_plan_are_found_beside_it_and_the_option_adds_the_level(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").touch()
    path = plan_file(tmp_path, 'levels = ["sr"]\nsr_weights = "net.safetensors"\nlpips = "net.safetensors"')
    plan = load_plan(path)
    assert plan.sr_weights == str(tmp_path / "net.safetensors") == plan.metrics.lpips
    assert load_plan(None, sr_weights="x.safetensors").levels == ("guide", "base", "sr")


def test_the_quick_plan_has_enough_rates_for_every_bd_rate() -> None:
    plan = load_plan(None, ["a.mp4"], 2.0, quick=True)
    assert plan.model_copy(update={"clips": (), "seconds": None}) == QUICK
    assert sum(rate <= 64_000 for rate in plan.rates) >= 4 and plan.vmaf and "output" in plan.levels
    with pytest.raises(UsageError, match="--quick is a plan of its own"):
        load_plan(Path("plan.toml"), quick=True)


def test_pictures_are_shown_at_the_usual_rates_or_the_middle_one() -> None:
    assert RdPlan().shown_bps == (24_000, 100_000)
    assert RdPlan(rates=(8_000, 16_000, 32_000)).shown_bps == (16_000,)
    assert RdPlan(pictures=(8_000,)).shown_bps == (8_000,)


def test_clips_are_found_beside_the_plan_and_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("a/x.mp4", "b/x.mp4", "b/y.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_clips(["*/x.mp4", "b/*.mp4"], tmp_path)
    assert [clip.name for clip in found] == ["x", "x-2", "y"]
    with pytest.raises(UsageError, match=r"no clip is called 'c/\*.mp4'"):
        find_clips(["c/*.mp4"], tmp_path)


# --- the runs


NO_VMAF = Metrics(vmaf=False)


def our_run(clip: Path, levels: tuple[Level, ...] = ("guide", "base"), *overrides: str) -> OurRun:
    return OurRun(material(clip, *overrides), levels, NO_VMAF, True)


def test_our_bytes_are_those_of_encode(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = our_run(clip)
    result = run.run(tmp_path)
    encode_file(str(clip), tmp_path / "same.sgv", run.material.config)
    assert result.ours is not None
    kept = tmp_path / "streams" / "pan.semcast-40k.sgv"
    *stream, note = read_sgv(tmp_path / "same.sgv")
    assert list(read_sgv(kept)) == stream and is_note(note)
    assert result.ours.total_bytes == kept.stat().st_size
    assert result.ours.kbps == pytest.approx(json.loads(capsys.readouterr().out)["kbps"], abs=1e-3)


def test_the_output_without_steps_is_the_base_picture(clip: Path, tmp_path: Path) -> None:
    found = our_run(clip, ("guide", "base", "output"), "receiver.steps=0").run(tmp_path)
    assert found.ours is not None
    assert found.ours.levels["output"] == found.ours.levels["base"]
    assert [kept.name for kept in found.pictures] == ["source", "guide", "base", "output"]
    assert all((tmp_path / kept.file).exists() for kept in found.pictures)


def test_peers_are_given_the_same_pictures(clip: Path, tmp_path: Path) -> None:
    ours = our_run(clip).run(tmp_path)
    peer = PeerRun(material(clip), TWO_QUALITIES, 2, NO_VMAF).run(tmp_path)
    picture = PictureRun(material(clip), TWO_QUALITIES, 2, 30, 3).run(tmp_path)
    assert ours.clip == peer.clip == picture.clip
    assert [point.crf for point in peer.ladder] == [40, 30]
    assert picture.pictures[0].kbps == pytest.approx(peer.ladder[1].kbps)
    assert (picture.pictures[0].name, picture.pictures[0].slot) == ("x264 1/2", 3)


def test_what_is_done_is_not_done_again(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Run] = [our_run(clip), PeerRun(material(clip), TWO_QUALITIES, 1, NO_VMAF)]
    first = run_all(runs, tmp_path, 1, "test", stored)
    done: list[str] = []
    real = kept.carry_out
    monkeypatch.setattr(
        "benchmarks.sweep.carry_out", lambda run, out: (done.append(run.name), real(run, out))[1]
    )
    assert run_all(runs, tmp_path, 1, "test", stored) == first and not done
    next((tmp_path / "runs").glob("*x264*")).write_text("{")  # a half file of a killed run
    assert run_all(runs, tmp_path, 1, "test", stored) == first and done == ["pan.x264-1"]
    next((tmp_path / "pictures").glob("*base*")).unlink()
    assert run_all(runs, tmp_path, 1, "test", stored) == first and done[1:] == ["pan.semcast-40k"]


def test_another_setting_is_another_run(clip: Path, tmp_path: Path) -> None:
    run = our_run(clip)
    run_all([run], tmp_path, 1, "test", stored)
    assert stored(run, tmp_path) is not None
    assert stored(our_run(clip, ("base",)), tmp_path) is None
    assert stored(dataclasses.replace(run, metrics=Metrics()), tmp_path) is None
    assert stored(our_run(clip, ("guide", "base"), "guide.scale=2"), tmp_path) is None


def test_a_clip_that_changed_meanwhile_is_noticed(clip: Path, tmp_path: Path) -> None:
    run = our_run(clip)
    peer = PeerRun(material(clip), TWO_QUALITIES, 1, NO_VMAF)
    results = dict(run_all([run, peer], tmp_path, 1, "test", stored))
    other = results[peer].clip.model_copy(update={"samples": "other"})
    results[peer] = results[peer].model_copy(update={"clip": other})
    with pytest.raises(SourceError, match="pan gave other pictures"):
        gather([run, peer], {}, results)


def test_a_run_that_fails_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"no picture")
    with pytest.raises(SemcastError, match=r"pan\.x264-1: "):
        run_all([PeerRun(material(broken), TWO_QUALITIES, 1, NO_VMAF)], tmp_path, 1, "test", stored)


def test_what_cannot_be_written_is_said(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="--out"):
        run_all([our_run(clip)], tmp_path / "file", 1, "test", stored)


# --- the super-resolution peer


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bridge decoder with random weights, so that what it paints is not what it was given."""
    torch.manual_seed(0)
    model = TinyBridge(widths=(8, 8, 16), middle_blocks=1)
    torch.nn.init.normal_(model.head.weight, std=0.05)
    path = tmp_path_factory.mktemp("weights") / "sr.safetensors"
    save_weights(path, model.state_dict(), model.settings, FAMILY)
    return path


def test_super_resolution_is_shown_the_guide_its_scale_and_its_quantiser_alone() -> None:
    rng = np.random.default_rng(0)
    guide = Picture(*(rng.integers(0, 256, (64 // k, 96 // k), dtype=np.uint8) for k in (1, 2, 2)))
    seen = observe(alone(guide), FrameFacts(7, 4, 200), None)
    for part in (seen.base, seen.warped, seen.previous):
        assert torch.equal(part, seen.guide)
    assert not any(part.any() for part in (seen.trust, seen.received, seen.labels))
    assert seen.scalars.tolist() == [pytest.approx([2 / 3, 200 / 255, 0, 1, 0, 0])]


def test_super_resolution_remembers_nothing(network: Path) -> None:
    rng = np.random.default_rng(1)
    first, second = (
        Picture(*(rng.integers(0, 256, (32 // k, 32 // k), dtype=np.uint8) for k in (1, 2, 2))) for _ in range(2)
    )  # fmt: skip
    peer, facts = SuperResolution(str(network), "cpu"), FrameFacts(3, 2, 200)
    painted = peer.paint(first, facts)
    peer.paint(second, facts)
    again = peer.paint(first, facts)
    assert all(np.array_equal(a, b) for a, b in zip(painted.planes, again.planes, strict=True))
    assert not np.array_equal(painted.y, first.y)


def test_the_level_sr_is_measured_and_shown(clip: Path, network: Path, tmp_path: Path) -> None:
    run = dataclasses.replace(our_run(clip, ("guide", "base", "sr")), sr_weights=str(network))
    (found,) = run_all([run], tmp_path, 1, "test", stored).values()
    assert found.ours is not None
    assert found.ours.levels["sr"].psnr_yuv < found.ours.levels["guide"].psnr_yuv  # the weights are random
    assert [kept.name for kept in found.pictures] == ["source", "guide", "base", "sr"]
    assert stored(run, tmp_path) == found
    save_weights(network, TinyBridge(widths=(8, 8, 16)).state_dict(), {"widths": (8, 8, 16)}, FAMILY)
    assert stored(run, tmp_path) is None  # another network is another run


def test_the_networks_behind_the_levels_are_described(network: Path) -> None:
    plan = RdPlan(levels=("sr", "output"), sr_weights=str(network))
    found = used_networks(plan, load_config(None, []))
    assert found["sr"]["widths"] == [8, 8, 16] and set(found) == {"sr", "output"}
    assert set(used_networks(plan, load_config(None, ["receiver.steps=0"]))) == {"sr"}
    with pytest.raises(WeightsError, match=r"none\.safetensors is missing"):
        used_networks(plan.model_copy(update={"sr_weights": "none.safetensors"}), load_config(None, []))


# --- the measures


def shifting(frames: int) -> list[Picture]:
    """A texture that moves by two pixels a frame, with some noise."""
    rng = np.random.default_rng(2)
    coarse = rng.integers(30, 220, (32, 64), dtype=np.uint8)
    wide = cv2.resize(coarse, (256, 64), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    chroma = np.full((32, 64), 128, np.uint8)
    views = (wide[:, 2 * i : 2 * i + 128] + rng.integers(-3, 4, (64, 128)) for i in range(frames))
    return [Picture(np.clip(view, 0, 255).astype(np.uint8), chroma, chroma) for view in views]


def test_all_measures_of_a_series() -> None:
    source = shifting(4)
    judge = Judge(source, Fraction(25), NO_VMAF)
    same = judge.quality(source)
    assert same == Quality(99.0, pytest.approx(1.0), None, 0.0, None, None, pytest.approx(1.0))  # type: ignore[arg-type]
    rng = np.random.default_rng(3)
    noisy = [dataclasses.replace(p, y=p.y ^ rng.integers(0, 32, p.y.shape, dtype=np.uint8)) for p in source]
    found = judge.quality(noisy)
    assert found.feature_distance is not None and found.feature_distance > 0
    assert found.goodness("feature_distance") == -found.feature_distance
    assert found.warping_error is not None and found.warping_error > 1.5
    assert found.goodness("vmaf") is None and found.goodness("psnr_yuv") == found.psnr_yuv


def test_lpips_is_measured_with_a_backbone_file(tmp_path: Path) -> None:
    file, source = alexnet_file(tmp_path), shifting(2)
    metrics = Metrics(vmaf=False, lpips=str(file))
    found = Judge(source, Fraction(25), metrics).quality(source[::-1])
    assert found.lpips is not None and found.lpips > 0 and found.dists is None
    before = metrics.stamp()
    file.write_bytes(b"another")
    assert metrics.stamp() != before


def test_a_backbone_file_that_is_not_there_is_said_not_replaced() -> None:
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        Judge(shifting(2), Fraction(25), Metrics(vmaf=False, lpips="none.safetensors"))


# --- the figures


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


# --- the command


@pytest.fixture(scope="module")
def finished(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RdReport]:
    """A whole run with one peer."""
    out = tmp_path_factory.mktemp("rd")
    text = 'size = "64x64"\nrates = ["20k", "40k"]\npeers = ["x264"]\nvmaf = false\nset = ["semantics.enabled=false"]'
    return out, run_rd(load_plan(plan_file(out, text), [str(clip)]), Path(), out, 1, None, [])


def test_the_command_leaves_documents_that_agree(finished: tuple[Path, RdReport]) -> None:
    out, report = finished
    assert RdReport.model_validate_json((out / "rd.json").read_text()) == report
    assert json.loads((out / "rd.json").read_text())["schema"] == "semcast.rd/2"
    rows = list(csv.DictReader((out / "rd.csv").read_text().splitlines()))
    assert (out / "rd.csv").read_text() == csv_text(report)
    assert [row["target-kbps"] for row in rows if row["system"] == "semcast base"] == ["20", "40"]
    assert sum(row["system"].startswith("x264 1/") for row in rows) == 27
    assert {mean.against for mean in report.summary} == {"best"}


def test_every_system_has_a_file_of_its_own(finished: tuple[Path, RdReport]) -> None:
    out, report = finished
    names = {path.name for path in (out / "results").iterdir()}
    assert names == {f"{n}.json" for n in ("semcast-guide", "semcast-base", "x264-1", "x264-2", "x264-4")}
    found = json.loads((out / "results" / "x264-2.json").read_text())
    assert list(found) == ["name", "description", "results"] and found["name"] == "x264 1/2"
    assert {"bpp", "psnr-yuv", "ms-ssim", "feature-distance"} < set(found["results"])
    assert {len(values) for values in found["results"].values()} == {9}
    assert report.systems[0].results["kbps"] == report.clips[0].systems[0].results["kbps"]


def test_several_clips_have_a_mean_of_their_own(finished: tuple[Path, RdReport]) -> None:
    out, report = finished
    assert "Mean of 2 clips" not in (out / "rd.html").read_text()
    twice = report.model_copy(update={"clips": report.clips * 2})
    assert "Mean of 2 clips" in render_rd(twice, out)


def test_the_page_shows_curves_and_pictures_at_equal_rate(finished: tuple[Path, RdReport]) -> None:
    out, report = finished
    text = (out / "rd.html").read_text()
    (shot,) = report.clips[0].shots
    assert [kept.name for kept in shot.pictures][::2] == ["source", "guide"] and len(shot.pictures) == 4
    assert len({kept.slot for kept in shot.pictures}) == 1
    assert text.count("data:image/jpeg") == 4 and "<svg" in text and "x264" in text
    assert all(
        label in text for label in ("PSNR, dB", "MS-SSIM", "feature distance", "warping error (source: 1)")
    )
    assert "<script" not in text


def test_the_last_line_is_the_document(
    finished: tuple[Path, RdReport], clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = finished
    again = run_rd(load_plan(out / "plan.toml", [str(clip)]), Path(), out, 1, None, [])
    assert RdReport.model_validate_json(capsys.readouterr().out.splitlines()[-1]) == again == report


def test_wrong_usage_is_a_line_and_code_2(tmp_path: Path) -> None:
    wrong = plan_file(tmp_path, "vmaff = true")
    result = CliRunner().invoke(app, ["bench", "rd", "--plan", str(wrong), "--out", str(tmp_path)])
    assert result.exit_code == 2 and "did you mean vmaf?" in result.stderr.replace("\n", " ")
    result = CliRunner().invoke(app, ["bench", "rd", "--quick", "--plan", str(wrong)])
    assert result.exit_code == 2 and "--quick is a plan of its own" in result.stderr.replace("\n", " ")
    result = CliRunner().invoke(app, ["bench", "rd", str(tmp_path / "none.mp4"), "--out", str(tmp_path)])
    assert result.exit_code == 2 and "no clip is called" in result.stderr

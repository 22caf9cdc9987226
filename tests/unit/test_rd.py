"""The rate-distortion bench: plans, runs that go on where they stopped, and figures from made-up ladders."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import rd_runs
from benchmarks.files import encode_file
from benchmarks.peers import X264, RdPoint
from benchmarks.pool import as_done
from benchmarks.rd import gather, nearest_rung, our_configs, run_all, run_rd
from benchmarks.rd_plan import BUILTIN, Clip, RdPlan, find_clips, load_plan
from benchmarks.rd_report import (
    ClipReport,
    ClipRuns,
    RdReport,
    compare,
    csv_text,
    rate_table,
    requirements,
    summarise,
)
from benchmarks.rd_runs import (
    ClipFacts,
    Level,
    Material,
    OurPoint,
    OurRun,
    PeerRun,
    PictureRun,
    Quality,
    Run,
    stored,
)
from benchmarks.tables import Requirement
from cli import app
from common.config import load_config
from common.errors import ConfigError, SemcastError, SinkError, SourceError, UsageError

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
        ("seconds = 0", "seconds: input should be greater than 0"),
        ('rates = ["24q"]', "bit rate '24q' is not understood"),
        ("rates = [", "is not valid TOML"),
    ],
)
def test_a_wrong_plan_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_plan(plan_file(tmp_path, text))
    assert "\n" not in str(caught.value)


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


def our_run(clip: Path, levels: tuple[Level, ...] = ("guide", "base"), *overrides: str) -> OurRun:
    return OurRun(material(clip, *overrides), levels, False, True)


def test_our_bytes_are_those_of_encode(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = our_run(clip)
    result = run.run(tmp_path)
    encode_file(str(clip), tmp_path / "same.sgv", run.material.config)
    assert result.ours is not None
    data = (tmp_path / "same.sgv").read_bytes()
    assert (tmp_path / "streams" / "pan.semcast-40k.sgv").read_bytes() == data
    assert result.ours.total_bytes == len(data)
    assert result.ours.kbps == pytest.approx(json.loads(capsys.readouterr().out)["kbps"], abs=1e-3)


def test_the_output_without_steps_is_the_base_picture(clip: Path, tmp_path: Path) -> None:
    found = our_run(clip, ("guide", "base", "output"), "receiver.steps=0").run(tmp_path)
    assert found.ours is not None
    assert found.ours.levels["output"] == found.ours.levels["base"]
    assert [kept.name for kept in found.pictures] == ["source", "guide", "base", "output"]
    assert all((tmp_path / kept.file).exists() for kept in found.pictures)


def test_peers_are_given_the_same_pictures(clip: Path, tmp_path: Path) -> None:
    ours = our_run(clip).run(tmp_path)
    peer = PeerRun(material(clip), TWO_QUALITIES, 2, False).run(tmp_path)
    picture = PictureRun(material(clip), TWO_QUALITIES, 2, 30, 3).run(tmp_path)
    assert ours.clip == peer.clip == picture.clip
    assert [point.crf for point in peer.ladder] == [40, 30]
    assert picture.pictures[0].kbps == pytest.approx(peer.ladder[1].kbps)
    assert (picture.pictures[0].name, picture.pictures[0].slot) == ("x264 1/2", 3)


def test_what_is_done_is_not_done_again(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Run] = [our_run(clip), PeerRun(material(clip), TWO_QUALITIES, 1, False)]
    first = run_all(runs, tmp_path, 1, "test")
    done: list[str] = []
    real = rd_runs.carry_out
    monkeypatch.setattr(
        "benchmarks.rd.carry_out", lambda run, out: (done.append(run.name), real(run, out))[1]
    )
    assert run_all(runs, tmp_path, 1, "test") == first and not done
    next((tmp_path / "runs").glob("*x264*")).write_text("{")  # a half file of a killed run
    assert run_all(runs, tmp_path, 1, "test") == first and done == ["pan.x264-1"]
    next((tmp_path / "pictures").glob("*base*")).unlink()
    assert run_all(runs, tmp_path, 1, "test") == first and done[1:] == ["pan.semcast-40k"]


def test_another_setting_is_another_run(clip: Path, tmp_path: Path) -> None:
    run = our_run(clip)
    run_all([run], tmp_path, 1, "test")
    assert stored(run, tmp_path) is not None
    assert stored(our_run(clip, ("base",)), tmp_path) is None
    assert stored(our_run(clip, ("guide", "base"), "guide.scale=2"), tmp_path) is None


def test_processes_find_the_same_as_one() -> None:
    found = {task: result() for task, result in as_done(math.factorial, [3, 4, 5], 2)}
    assert found == {task: result() for task, result in as_done(math.factorial, [3, 4, 5], 1)}
    assert found == {3: 6, 4: 24, 5: 120}


def test_a_process_that_ends_is_not_waited_for() -> None:
    with pytest.raises(BrokenProcessPool):
        [result() for _, result in as_done(os._exit, [3, 3], 2)]


def test_a_clip_that_changed_meanwhile_is_noticed(clip: Path, tmp_path: Path) -> None:
    run = our_run(clip)
    peer = PeerRun(material(clip), TWO_QUALITIES, 1, False)
    results = dict(run_all([run, peer], tmp_path, 1, "test"))
    other = results[peer].clip.model_copy(update={"samples": "other"})
    results[peer] = results[peer].model_copy(update={"clip": other})
    with pytest.raises(SourceError, match="pan gave other pictures"):
        gather([run, peer], {}, results)


def test_a_run_that_fails_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"no picture")
    with pytest.raises(SemcastError, match=r"pan\.x264-1: "):
        run_all([PeerRun(material(broken), TWO_QUALITIES, 1, False)], tmp_path, 1, "test")


def test_what_cannot_be_written_is_said(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="--out"):
        run_all([our_run(clip)], tmp_path / "file", 1, "test")


# --- the figures


FACTS = ClipFacts(frames=100, fps=25.0, width=512, height=512, duration_s=4.0, samples="x")


def rung(codec: str, kbps: float, psnr: float, crf: int = 40, scale: int = 1) -> RdPoint:
    return RdPoint(codec, scale, crf, round(kbps * 500), kbps, psnr, psnr / 50, None)


LADDER = tuple(rung("svt-av1", kbps, psnr, crf) for kbps, psnr, crf in
               ((20, 28, 60), (50, 30, 50), (100, 34, 40), (200, 38, 30), (400, 42, 20)))  # fmt: skip


def point(kbps: float, psnr: float, target_kbps: float | None = None) -> OurPoint:
    quality = Quality(psnr_yuv=psnr, ms_ssim=psnr / 50)
    return OurPoint(
        target_kbps=kbps if target_kbps is None else target_kbps, total_bytes=round(kbps * 500), kbps=kbps,
        levels={"base": quality},
    )  # fmt: skip


def compared(*ours: OurPoint, ladder: tuple[RdPoint, ...] = LADDER) -> ClipReport:
    return compare(ClipRuns("made-up", FACTS, ours, ladder, {}))


def required(*ours: OurPoint) -> dict[str, Requirement]:
    return {item.name: item for item in requirements([compared(*ours)])}


def test_a_tenth_more_bits_everywhere_is_ten_percent_by_every_measure() -> None:
    ours = [point(1.1 * p.kbps, p.psnr_yuv, p.kbps) for p in LADDER]
    report = compared(*ours, ladder=(*LADDER, rung("vp9", 30, 20)))
    for row in report.rates:
        assert row.ratio == pytest.approx(1.1)
        for gaps in row.levels[0].gaps.values():
            assert gaps == {"psnr_yuv": pytest.approx(10.0), "ms_ssim": pytest.approx(10.0)}
    assert {(d.against, d.metric) for d in report.bd_rates} == {
        (against, metric) for against in ("svt-av1", "best") for metric in ("psnr_yuv", "ms_ssim")
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
    assert rate_table(report).rows[0][6] == "-"


def test_systems_are_listed_as_compressai_does() -> None:
    ours, peer = compared(point(100, 34.0), point(200, 38.0)).systems
    assert (ours.name, peer.name) == ("semcast base", "svt-av1 1/1")
    assert ours.results["bpp"] == pytest.approx([1e5 / 25 / 512**2, 2e5 / 25 / 512**2])
    assert ours.results["psnr"] == [34.0, 38.0] and peer.results["crf"] == [60, 50, 40, 30, 20]


# --- the command


@pytest.fixture(scope="module")
def finished(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RdReport]:
    """A whole run with one peer."""
    out = tmp_path_factory.mktemp("rd")
    text = 'size = "64x64"\nrates = ["20k", "40k"]\npeers = ["x264"]\nvmaf = false\nset = ["semantics.enabled=false"]'
    return out, run_rd(plan_file(out, text), [str(clip)], out, 1, None, None, [])


def test_the_command_leaves_documents_that_agree(finished: tuple[Path, RdReport]) -> None:
    out, report = finished
    assert RdReport.model_validate_json((out / "rd.json").read_text()) == report
    assert json.loads((out / "rd.json").read_text())["schema"] == "semcast.rd/1"
    rows = list(csv.DictReader((out / "rd.csv").read_text().splitlines()))
    assert (out / "rd.csv").read_text() == csv_text(report)
    assert [row["target-kbps"] for row in rows if row["system"] == "semcast base"] == ["20", "40"]
    assert sum(row["system"].startswith("x264 1/") for row in rows) == 27
    assert {mean.against for mean in report.summary} == {"best"}


def test_the_page_shows_curves_and_pictures_at_equal_rate(finished: tuple[Path, RdReport]) -> None:
    out, report = finished
    text = (out / "rd.html").read_text()
    (shot,) = report.clips[0].shots
    assert [kept.name for kept in shot.pictures][::2] == ["source", "guide"] and len(shot.pictures) == 4
    assert len({kept.slot for kept in shot.pictures}) == 1
    assert text.count("data:image/jpeg") == 4 and "<svg" in text and "x264" in text
    assert "<script" not in text


def test_the_last_line_is_the_document(
    finished: tuple[Path, RdReport], clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = finished
    again = run_rd(out / "plan.toml", [str(clip)], out, 1, None, None, [])
    assert RdReport.model_validate_json(capsys.readouterr().out.splitlines()[-1]) == again == report


def test_wrong_usage_is_a_line_and_code_2(tmp_path: Path) -> None:
    wrong = plan_file(tmp_path, "vmaff = true")
    result = CliRunner().invoke(app, ["bench", "rd", "--plan", str(wrong), "--out", str(tmp_path)])
    assert result.exit_code == 2 and "did you mean vmaf?" in result.stderr.replace("\n", " ")
    result = CliRunner().invoke(app, ["bench", "rd", str(tmp_path / "none.mp4"), "--out", str(tmp_path)])
    assert result.exit_code == 2 and "no clip is called" in result.stderr

"""The rate-distortion bench: runs that go on where they stopped, the super-resolution peer, and the command."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks import kept
from benchmarks.files import encode_file
from benchmarks.peers import X264
from benchmarks.plans import Clip, find_clips
from benchmarks.rd import gather, run_rd, used_networks
from benchmarks.rd_clip import Material
from benchmarks.rd_model import RdReport
from benchmarks.rd_page import render_rd
from benchmarks.rd_plan import Level, RdPlan, load_plan
from benchmarks.rd_quality import Metrics
from benchmarks.rd_report import csv_text
from benchmarks.rd_runs import OurRun, PeerRun, PictureRun, Run, stored
from benchmarks.rd_sr import SuperResolution, alone
from benchmarks.sweep import run_all
from cli import app
from common.config import load_config
from common.container import read_sgv
from common.errors import SemcastError, SinkError, SourceError, WeightsError
from common.types import Picture
from common.weights import save_weights
from common.wire import is_note
from receiver.decoder.conditions import FrameFacts, observe
from receiver.decoder.model import FAMILY, TinyBridge
from tests.unit.test_rd_plan import plan_file

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


# --- the runs -----------------------------------------------------------------------------------------------------

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
    with pytest.raises(SinkError, match="is a file, not a folder"):
        run_all([our_run(clip)], tmp_path / "file", 1, "test", stored)


# --- the super-resolution peer ------------------------------------------------------------------------------------


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


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RdReport]:
    """A whole run with one peer."""
    out = tmp_path_factory.mktemp("rd")
    text = 'size = "64x64"\nrates = ["20k", "40k"]\npeers = ["x264"]\nvmaf = false\nset = ["semantics.enabled=false"]'
    return out, run_rd(
        load_plan(plan_file(out, text), [str(clip)]), find_clips([str(clip)]), out, 1, None, []
    )


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
    again = run_rd(load_plan(out / "plan.toml", [str(clip)]), find_clips([str(clip)]), out, 1, None, [])
    assert RdReport.model_validate_json(capsys.readouterr().out.splitlines()[-1]) == again == report


def test_wrong_usage_is_a_line_and_code_2(tmp_path: Path) -> None:
    wrong = plan_file(tmp_path, "vmaff = true")
    result = CliRunner().invoke(app, ["bench", "rd", "--plan", str(wrong), "--out", str(tmp_path)])
    assert result.exit_code == 2 and "did you mean vmaf?" in result.stderr.replace("\n", " ")
    result = CliRunner().invoke(app, ["bench", "rd", "--quick", "--plan", str(wrong)])
    assert result.exit_code == 2 and "--quick is a plan of its own" in result.stderr.replace("\n", " ")
    result = CliRunner().invoke(app, ["bench", "rd", str(tmp_path / "none.mp4"), "--out", str(tmp_path)])
    assert result.exit_code == 2 and "no clip is called" in result.stderr

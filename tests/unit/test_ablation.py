"""The ablation bench: rows that share bytes are painted from the same ones, and figures are what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli
from benchmarks import ablation, sweep
from benchmarks.ablation import clip_runs, gather, run_ablation
from benchmarks.ablation_report import AblationReport, ClipAblation, means, render_ablation, requirements
from benchmarks.ablation_rows import FOUR_FROM_NOISE, FOUR_STEPS, REFERENCE, REUSE, ROWS, Row, config_of
from benchmarks.ablation_runs import (
    BASE,
    GUIDE,
    Contender,
    Painted,
    RunResult,
    calls_of_a_step,
    scenes_of,
)
from benchmarks.files import encode_file
from benchmarks.plans import Clip, find_clips
from benchmarks.rd_clip import ClipFacts
from benchmarks.rd_quality import Metrics, Quality
from common.config import load_config
from common.container import read_sgv
from common.errors import ConfigError, SourceError
from common.wire import is_note

SECONDS = 0.24
SETTINGS = ["stream.size=64x64", "stream.bitrate_bps=40k", "semantics.enabled=false", "decoder.sparing=false"]
GUIDED = Row("temporal guidance", ("decoder.temporal_guidance=1.5",))
NO_RESIDUAL = Row("no residual", ("residual.enabled=false",))
SOME = (REFERENCE, FOUR_STEPS, FOUR_FROM_NOISE, REUSE, GUIDED, NO_RESIDUAL)
FACTS = ClipFacts(frames=6, fps=25.0, width=64, height=64, duration_s=0.24, samples="x")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[AblationReport, Path]:
    out = tmp_path_factory.mktemp("out")
    return run_ablation(find_clips([]), out, None, SETTINGS, SECONDS, jobs=1, rows=SOME), out


# --- rows


def test_every_row_is_a_valid_setting_and_changes_something() -> None:
    reference = config_of(REFERENCE, None, [])
    configs = [config_of(row, None, []) for row in ROWS]
    assert configs[0] == reference and reference.receiver.steps == 1
    assert all(config != reference for config in configs[1:])
    assert len({row.name for row in ROWS}) == len(ROWS) == len({repr(config) for config in configs})


def test_the_row_wins_over_the_user_and_the_user_over_the_defaults() -> None:
    settings = ["decoder.labels=predicted", "receiver.threads=2"]
    assert config_of(FOUR_STEPS, None, settings).receiver.steps == 4
    assert config_of(REFERENCE, None, settings).receiver.threads == 2
    assert config_of(Row("x", ("decoder.labels=none",)), None, settings).decoder.labels == "none"
    with pytest.raises(ConfigError, match="unknown setting decoder"):
        config_of(Row("x", ("decoder.nonsense=1",)), None, [])


def test_rows_of_the_decoder_share_one_stream() -> None:
    contenders = [Contender(row, config_of(row, None, SETTINGS)) for row in ROWS]
    runs = clip_runs(Clip(name="builtin", path=None), contenders, None, Metrics(vmaf=False))
    assert [run.contenders[0].row.sent_with for run in runs] == [
        (), ("semantics.enabled=false",), ("residual.enabled=false",), ("residual.by_labels=false",),
        ("anchor.enabled=false",), ("anchor.content=true",), ("anchor.partial=true",), ("anchor.by_link=false",),
        ("motion.corrections=false",),
    ]  # fmt: skip
    assert len(runs[0].contenders) == len(ROWS) - 8 and runs[0].with_levels and not runs[1].with_levels
    assert len({run.key() for run in runs}) == len(runs)


# --- runs


def test_all_rows_are_there_beside_base_and_guide(report: tuple[AblationReport, Path]) -> None:
    (found,) = report[0].clips
    assert [row.name for row in found.rows] == [*(row.name for row in SOME), BASE, GUIDE]
    reused = found.rows[3].calls
    assert [row.calls for row in found.rows] == [1, 4, 4, reused, pytest.approx(11 / 6), 1, None, None]
    assert reused is not None and 1 <= reused < 4
    assert all((row.p50_ms or 0) > 0 and row.time_ratio is not None for row in found.rows[:-2])
    assert all(0 <= (row.coverage90 or 0) <= 1 and row.quality.psnr_yuv > 20 for row in found.rows)
    assert found.rows[2].quality != found.rows[1].quality  # where the bridge begins is seen


def test_the_bytes_are_those_of_encode(
    report: tuple[AblationReport, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encode_file(None, tmp_path / "clip.sgv", load_config(None, SETTINGS), SECONDS)  # type: ignore[arg-type]
    streams = [list(read_sgv(path)) for path in (report[1] / "streams").glob("*.sgv")]
    *stream, note = read_sgv(tmp_path / "clip.sgv")
    assert stream in streams and len(streams) == 2 and is_note(note)
    kbps = json.loads(capsys.readouterr().out)["kbps"]
    assert report[0].clips[0].rows[0].kbps == pytest.approx(kbps, abs=1e-3)


def test_every_slot_has_its_scene(tmp_path: Path) -> None:
    encode_file(None, tmp_path / "clip.sgv", load_config(None, SETTINGS), SECONDS)  # type: ignore[arg-type]
    scenes = scenes_of(tmp_path / "clip.sgv", 6)
    assert [scene.facts.slot for scene in scenes if scene is not None] == list(range(6))


def test_a_document_and_a_page_are_left_and_what_is_done_is_not_done_again(
    report: tuple[AblationReport, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, out = report
    assert AblationReport.model_validate_json((out / "ablation.json").read_text()) == found
    assert "no residual" in (out / "ablation.html").read_text()
    monkeypatch.setattr(sweep, "carry_out", lambda run, out: pytest.fail(f"{run.name} was done again"))
    assert run_ablation(find_clips([]), out, None, SETTINGS, SECONDS, jobs=1, rows=SOME) == found
    assert AblationReport.model_validate_json(capsys.readouterr().out.splitlines()[-1]) == found


def test_the_command_hands_over_what_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(ablation, "run_ablation", lambda *args: calls.append(args))
    clip = tmp_path / "a.mp4"
    clip.touch()
    args = [
        str(clip),
        "--bitrate",
        "48k",
        "--jobs",
        "2",
        "--vmaf",
        "--seconds",
        "3",
        "--set",
        "guide.scale=2",
    ]
    assert CliRunner().invoke(cli.app, ["bench", "ablation", *args]).exit_code == 0
    overrides = ["guide.scale=2", "stream.bitrate_bps=48k", "stream.size=512x512"]
    assert calls == [(find_clips([str(clip)]), Path("out/ablation"), None, overrides, 3.0, 2, True)]


def test_no_clip_is_said_before_any_work(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["bench", "ablation", str(tmp_path / "none.mp4")])
    assert result.exit_code == 2 and "no clip is called" in result.output


def test_a_clip_that_changed_meanwhile_is_noticed() -> None:
    other = FACTS.model_copy(update={"samples": "other"})
    results = [RunResult(clip=facts, rows=()) for facts in (FACTS, other)]
    with pytest.raises(SourceError, match="pan gave other pictures"):
        gather(Clip(name="pan", path=None), results, SOME)


# --- figures


def painted(
    name: str,
    psnr: float,
    features: float,
    calls: float,
) -> Painted:
    return Painted(
        name=name, kbps=24.0, stream="a", quality=Quality(psnr, 0.9, feature_distance=features),
        coverage90=0.9, ause=0.1, ause_constant=0.5, taken_back=0.01, calls=calls, p50_ms=20.0, time_ratio=1.0,
    )  # fmt: skip


def made_up(four: tuple[float, float], reuse: float) -> list[ClipAblation]:
    rows = (
        painted("reference", 30.0, 0.20, 1),
        painted(FOUR_STEPS.name, *four, 4),
        painted(FOUR_FROM_NOISE.name, 29.0, 0.10, 4),
        painted(REUSE.name, 30.0, reuse, 1),
        painted(NO_RESIDUAL.name, 30.0, 0.20, 1).model_copy(update={"set": NO_RESIDUAL.set}),
    )
    return [ClipAblation(name=name, clip=FACTS, rows=rows) for name in ("a", "b")]


def test_requirements_met_and_missed() -> None:
    met = requirements(made_up((29.8, 0.19), 0.102))
    assert [item.met for item in met] == [True] * 4
    assert [item.measured for item in met] == [pytest.approx(x) for x in (-5.0, 0.2, 2.0, 0.25)]
    missed = requirements(made_up((29.4, 0.21), 0.104))
    assert [item.met for item in missed] == [False, False, False, True]


def test_means_are_differences_from_the_reference() -> None:
    clips = made_up((29.8, 0.19), 0.102)
    found = {row.name: row for row in means(clips)}
    four, without = found[FOUR_STEPS.name], found[NO_RESIDUAL.name]
    assert four.change["psnr_yuv"] == pytest.approx(-0.2) and four.feature_percent == pytest.approx(-5)
    assert "vmaf" not in four.change and four.same_bytes == 0
    assert without.same_bytes == 2  # the sender had no residual to leave out, so the row says nothing


def test_the_page_shows_every_row_of_every_clip() -> None:
    clips = made_up((29.8, 0.19), 0.102)
    rows = means(clips)
    document = AblationReport(
        config={}, versions={}, requirements=requirements(clips), means=rows, clips=clips
    )
    text = render_ablation(document)
    assert text.count("<td>4 steps from noise</td>") == 3 and "mean over 2 clips" in text
    assert "29.80 (-0.20)" in text and "24.00, same bytes" in text


def test_calls_are_counted_with_guidance() -> None:
    guided = load_config(None, ["decoder.temporal_guidance=1.5"])
    assert (calls_of_a_step(guided, True), calls_of_a_step(guided, False)) == (2, 1)
    assert calls_of_a_step(load_config(None, []), True) == 1

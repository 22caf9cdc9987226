"""Recovery: cuts and losses are judged as the definitions say, and the command leaves a document that reads back."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks.link import Clip
from benchmarks.plans import find_clips
from benchmarks.recovery import (
    Condition,
    Seen,
    Watched,
    conditions,
    judge_cuts,
    judge_losses,
    run_recovery,
    scenes,
)
from benchmarks.recovery_report import LossRow, RecoveryReport, requirements
from channel.spec import parse_channel
from common.config import load_config
from common.errors import SourceError
from common.types import Frame, Picture

CONFIG = load_config(
    None,
    ["stream.size=64x64", "semantics.enabled=false", "stream.bitrate_bps=32k", "receiver.steps=0"],
)
RATE = Fraction(10)
DELAY_S = 0.2


def picture(seed: int, noise: float = 0.0) -> Picture:
    """A scene of large squares, the same for a seed, and noise of that standard deviation on top."""
    coarse = np.random.default_rng(seed).integers(40, 216, (8, 8)).astype(np.float64)
    luma = np.kron(coarse, np.ones((8, 8)))
    luma += np.random.default_rng(99).normal(0, 1, luma.shape) * noise
    grey = np.full((32, 32), 128, np.uint8)
    return Picture(np.clip(luma, 0, 255).astype(np.uint8), grey, grey)


def frame(slot: int, seed: int) -> Frame:
    return Frame(picture(seed), slot, 1 / RATE, slot)


def seen(source: Frame, shown: Picture, fresh: bool = True) -> Seen:
    return Seen(source, shown, source.time_s + DELAY_S, fresh)


CLIP = Clip([*(frame(slot, 1) for slot in range(5)), *(frame(slot, 2) for slot in range(5, 25))])


def test_a_cut_is_over_when_the_new_scene_is_recognisable_and_then_sharp() -> None:
    shown = [picture(1)] * 7 + [picture(2, 14)] * 3 + [picture(2, 4)] * 15  # held, blurred, sharp
    watched = Watched([seen(source, what) for source, what in zip(CLIP.frames, shown, strict=True)])
    (row,) = judge_cuts("clip", 24e3, "delay", CLIP, watched)
    assert (row.cut_s, row.recognisable_s) == (0.5, pytest.approx(0.2 + DELAY_S))
    assert row.full_detail_s == pytest.approx(0.5 + DELAY_S)


def test_scenes_begin_at_cuts() -> None:
    assert scenes(CLIP) == [(5, 25)]
    assert scenes(Clip(CLIP.frames[5:])) == []


def test_a_scene_that_never_showed_is_no_success() -> None:
    watched = Watched([seen(source, picture(1), fresh=False) for source in CLIP.frames])
    (row,) = judge_cuts("clip", 24e3, "delay", CLIP, watched)
    assert row.recognisable_s is None
    (cut, *_) = requirements([row], [], [])
    assert cut.met is False and cut.measured == row.scene_s


def test_freezes_mismatches_and_the_way_back() -> None:
    shown = [seen(source, source.picture, not 10 <= source.slot < 16) for source in CLIP.frames]
    condition = Condition("outage", "packet:outage=1.1+0.5", losses=True)
    row = judge_losses("clip", 24e3, condition, 3, Watched(shown, [(1.0, 1.1), (1.2, 1.6)], sent_bytes=5000))
    assert row.longest_freeze_s == pytest.approx(0.7) and row.freezes == 1
    assert row.mismatch_s == pytest.approx(0.4)
    assert row.back_s == pytest.approx(0.2)
    assert row.kbps == pytest.approx(16.0)


def test_a_picture_that_stays_until_the_end_has_frozen() -> None:
    shown = [seen(source, source.picture, source.slot < 15) for source in CLIP.frames]
    row = judge_losses("clip", 24e3, Condition("loss", "packet:loss=0.05", losses=True), 0, Watched(shown))
    assert row.longest_freeze_s == pytest.approx(1.0) and row.freezes == 1


def loss(condition: str, freeze_s: float, rate_kbps: float = 24.0) -> LossRow:
    return LossRow(
        clip="a",
        rate_kbps=rate_kbps,
        condition=condition,
        seed=0,
        keys=1,
        anchors=0,
        anchor_share=0.0,
        kbps=24,
        longest_freeze_s=freeze_s,
        freezes=1,
        mismatch_s=0.1,
        back_s=None,
    )


def test_a_freeze_during_an_outage_is_not_held_against_the_link() -> None:
    _, mismatch, freeze = requirements([], [loss("outage", 1.0), loss("loss", 0.2)], ["outage"])
    assert (freeze.measured, freeze.met, freeze.where) == (0.2, True, "a, loss, seed 0")
    assert mismatch.met is True
    assert requirements([], [], [])[0].met is None


def test_each_rate_is_judged_by_itself() -> None:
    found = requirements([], [loss("loss", 0.2, 12.0), loss("loss", 0.5, 48.0)], [])
    freezes = {item.name.partition(":")[0]: item.met for item in found if "freeze" in item.name}
    assert freezes == {"12 kbit/s": True, "48 kbit/s": False}


def test_every_condition_is_a_channel() -> None:
    every = conditions(24_000)
    assert all(parse_channel(condition.spec) for condition in every)
    assert [condition.outage_ends_s for condition in every][-2:] == [(2.5,), (4.0,)]


def test_the_command_measures_the_built_in_clip_and_its_document_reads_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run_recovery(
        find_clips([]), tmp_path, CONFIG, seconds=3.8, seeds=1, rates_bps=(24e3, 32e3), jobs=1
    )
    last = capsys.readouterr().out.splitlines()[-1]
    written = RecoveryReport.model_validate_json((tmp_path / "recovery.json").read_text())
    assert RecoveryReport.model_validate_json(last) == written == report
    assert [row.rate_kbps for row in report.cuts] == [24, 24, 32, 32]
    assert [(row.condition, row.cut_s) for row in report.cuts[2:]] == [("delay", 3.2), ("narrow", 3.2)]
    assert [row.condition for row in report.losses[3:]] == ["burst loss", "random loss", "outage 0.5 s"]
    assert all(row.keys >= 2 for row in report.losses), "the first picture, and the cut"
    assert all(row.kbps > 5 and row.longest_freeze_s < 1.5 for row in report.losses)
    assert report.losses[-1].back_s is not None and report.losses[-1].back_s < 1.0
    page = (tmp_path / "recovery.html").read_text()
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert {"Longest freeze", "By rate", "Scene cuts"} <= set(titles) and len(set(titles)) == len(titles)
    assert "<svg" in page and page.count("<table") == page.count('<div class="scroll"><table')


def test_clips_that_cannot_be_measured_are_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="longer clip"):
        run_recovery(find_clips([]), tmp_path, CONFIG, seconds=0.04)

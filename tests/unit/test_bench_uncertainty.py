"""`bench uncertainty`: what is measured, what is required, and a document that reads back."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.plans import find_clips
from benchmarks.report import Safety, Uncertainty
from benchmarks.uncertainty import CONDITIONS, OUTAGE, OUTAGE_S, outage_of, run_uncertainty
from benchmarks.uncertainty_report import (
    Moment,
    Outage,
    Run,
    UncertaintyReport,
    render_uncertainty,
    requirements,
)
from channel.spec import parse_channel
from common.config import load_config
from common.errors import SourceError

CONFIG = load_config(
    None,
    ["stream.size=64x64", "semantics.enabled=false", "stream.bitrate_bps=32k", "receiver.steps=0"],
)


def moments(during: float, after: float) -> list[Moment]:
    """Ten a second for five seconds, 2 sample steps expected but for the outage and later than a second after it."""
    start_s, end_s = OUTAGE_S
    return [
        Moment(
            at_s=slot / 10, level="base", made=1.0,
            expected=during if start_s <= slot / 10 < end_s else after if slot / 10 >= end_s + 1 else 2.0,
        )
        for slot in range(50)
    ]  # fmt: skip


def run(coverage90: float, ause: float) -> Run:
    doubt = Uncertainty(mean=0.1, steps=6.0, coverage90=coverage90, ause=ause, ause_constant=0.5)
    return Run(
        clip=None, condition="no loss", pictures=10, levels={"base": 10}, made=4.0, uncertainty=doubt, safety=Safety()
    )  # fmt: skip


def test_every_condition_is_a_channel() -> None:
    assert all(parse_channel(condition.spec) for condition in CONDITIONS)
    assert len({condition.name for condition in CONDITIONS}) == len(CONDITIONS)


def test_an_outage_is_compared_with_the_same_frames_without() -> None:
    found = outage_of("clip", moments(6.0, 2.2), moments(2.0, 2.0))
    assert found.rise == pytest.approx(3.0) and found.back == pytest.approx(1.1)


def test_requirements_are_of_all_clips_and_of_the_worst_outage() -> None:
    good, bad = (
        Outage(clip=name, rise=r, back=b, seen=[], without=[]) for name, r, b in (("a", 2, 1), ("b", 0.9, 2))
    )
    met = {item.name: item.met for item in requirements([run(0.9, 0.2)], [good])}
    assert len(met) == 5 and all(met.values())
    missed = requirements([run(0.95, 0.3)], [good, bad])
    assert [item.met for item in missed] == [True, False, False, False, False]
    assert [item.where for item in missed[-2:]] == ["b", "b"]
    assert [item.met for item in requirements([], [])] == [None, None]


def test_the_command_measures_the_built_in_clip_and_its_document_reads_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run_uncertainty(find_clips([]), tmp_path, CONFIG, seconds=0.8)
    told = capsys.readouterr()
    last = told.out.splitlines()[-1]
    written = UncertaintyReport.model_validate_json((tmp_path / "uncertainty.json").read_text())
    assert UncertaintyReport.model_validate_json(last) == written == report
    assert [one.condition for one in report.together] == [c.name for c in CONDITIONS if c != OUTAGE]
    for one in report.together:
        assert one.pictures == 20 and one.uncertainty.coverage90 is not None and one.made > 0
        assert one.uncertainty.steps is not None and one.uncertainty.steps > 0
    assert not report.outages and "no outage is measured" in told.err, "the clip is over before one would be"
    assert "All clips" in (tmp_path / "uncertainty.html").read_text()


def test_the_page_draws_every_outage(tmp_path: Path) -> None:
    outage = outage_of("clip & clip", moments(6.0, 2.2), moments(2.0, 2.0))
    report = UncertaintyReport(
        config={}, versions={}, conditions={"no loss": "clean"}, outage_s=OUTAGE_S,
        requirements=requirements([], [outage]), together=[run(0.9, 0.1)], runs=[run(0.9, 0.1)], outages=[outage],
    )  # fmt: skip
    page = render_uncertainty(report)
    assert "clip &amp; clip" in page and "<svg" in page and "3.00" in page


def test_clips_that_cannot_be_measured_are_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="longer clip"):
        run_uncertainty(find_clips([]), tmp_path, CONFIG, seconds=0.04)

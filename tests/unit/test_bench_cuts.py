"""`semcast bench cuts`: events are matched as the definitions say, and the command leaves a document that reads back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.cuts import (
    AT_SENDER,
    clips_in,
    found_by_sender,
    gain_points,
    ghost_rows,
    run_cuts,
    taken_apart,
)
from benchmarks.cuts_judge import Tally, judge
from benchmarks.cuts_report import BLIND, RECEIVERS, CutsReport, DetectorRow, GhostRow, Watching, requirements
from benchmarks.kept import carry_out
from benchmarks.plans import Clip
from benchmarks.scenes import Event, Reel, Shot, Take, draw_reels
from common.config import load_config
from common.errors import SourceError, UsageError
from tests.small_stream import frame

CONFIG = load_config(
    None, ["stream.size=64x64", "semantics.enabled=false", "stream.bitrate_bps=32k", "receiver.steps=0"]
)


def event(kind: str, first: int, last: int | None = None) -> Event:
    return Event(kind, first, last or first, first)  # type: ignore[arg-type]


def watching(gains: dict[int, list[tuple[int, float]]]) -> Watching:
    return Watching(announced=[], found=[], shown=[], gains=gains)


# --- judging ------------------------------------------------------------------------------------------------------


def test_what_was_found_is_matched_to_what_happened() -> None:
    events = [event("cut", 10), event("flash", 30, 31), event("fade", 50, 70), event("cut", 90)]
    verdict = judge(events, [12, 33, 60, 75, 200], slack=6)
    assert dict(verdict.events) == {events[0]: 12, events[1]: 33, events[2]: 60, events[3]: None}
    assert verdict.false == (75, 200)


def test_a_new_scene_takes_what_a_flash_before_it_might() -> None:
    flash, cut = event("flash", 8), event("cut", 10)
    assert dict(judge([flash, cut], [10], slack=6).events) == {flash: None, cut: 10}


def test_a_receiver_that_shows_nothing_has_time_until_it_does() -> None:
    cut = event("cut", 10)
    shown = [*range(10), *range(40, 50)]
    assert judge([cut], [41], slack=6).events[0][1] is None
    assert judge([cut], [41], slack=6, shown=shown).events[0][1] == 41
    fade = event("fade", 5, 20)  # of which only the end of the old scene was shown
    assert judge([fade], [41], slack=6, shown=shown).events[0][1] == 41
    assert judge([fade], [47], slack=6, shown=shown).events[0][1] is None


def test_precision_counts_flashes_and_recall_the_hard_cuts() -> None:
    tally = Tally()
    tally.add(judge([event("cut", 10), event("cut", 40), event("flash", 60)], [10, 60, 90], slack=6))
    tally.add(judge([event("cut", 10), event("fade", 50, 60)], [10, 55], slack=6))
    row = tally.row("sender")
    assert row.share("cut") == pytest.approx(2 / 3) and row.share("whip") is None
    assert row.precision == pytest.approx(2 / 4)
    assert DetectorRow(detector="sender", there={}, taken={}, false=0).precision is None


def test_one_picture_worse_than_the_guide_is_a_ghost() -> None:
    reel = Reel("reel", (Take(Shot("a", (frame(0).picture,)), 0, 24),), ())
    seen = watching({24: [(0, 0.02), (1, -0.01), (2, 0.04)]})
    (row,) = ghost_rows("lost", reel, seen)
    assert (row.pictures, row.worse, row.worst, row.cut_s) == (3, 1, -0.01, 1.0)
    assert row.mean == pytest.approx(0.05 / 3)
    found = {item.name.partition(":")[0]: item for item in requirements([], [row])}
    assert found["lost"].met is False and found["lost"].where == "reel at 1.00 s"
    assert found["announced"].met is None
    better = GhostRow.model_validate({**row.model_dump(), "worst": 0.0})
    assert all(item.met is not False for item in requirements([], [better]))


def test_gains_are_gathered_by_the_time_since_the_cut() -> None:
    watchings = [watching({at: [(0, gain), (1, 0.0)]}) for at, gain in ((9, 0.2), (30, -0.1))]
    first, second = gain_points("announced", watchings)
    assert (first.after_s, first.least, first.mean, first.most) == (0.0, -0.1, pytest.approx(0.05), 0.2)
    assert second.after_s == pytest.approx(1 / 24)


# --- detectors on joined clips ------------------------------------------------------------------------------------


def test_the_sender_sees_the_cuts_of_joined_clips_and_little_else() -> None:
    """The built-in clip, 5 reels; more of them, and other clips, are what the command is for."""
    clip = Clip(name="builtin", path=None)
    row, shots = taken_apart(clip, CONFIG, None)
    assert (row.new_scenes, row.found, row.false) == (2, 2, [])
    tally = Tally()
    for reel in draw_reels(shots, 3, 4, 6, (20, 40)):
        tally.add(judge(reel.events, found_by_sender(reel), AT_SENDER))
    sender = tally.row("sender")
    assert sum(sender.there.values()) > 25
    assert sender.share("cut") == 1.0
    assert sender.precision is not None and sender.precision >= 0.98
    assert not sender.taken.get("flash") and not sender.taken.get("whip")


@pytest.mark.parametrize(("name", "cuts"), [("d12_concat_cuts", 3), ("d09_sintel_cuts", 5)])
def test_the_new_scenes_of_the_development_clips_are_found(
    name: str, cuts: int, dev_clip: Callable[[str], Path]
) -> None:
    row, _ = taken_apart(Clip(name=name, path=str(dev_clip(name))), CONFIG, None)
    assert (row.known, row.new_scenes, row.found, row.false) == (True, cuts, cuts, [])


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_measures_the_built_in_clip_and_its_document_reads_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.cuts.TAKES", 3)
    report = run_cuts(None, tmp_path, CONFIG, reels=1)
    last = capsys.readouterr().out.splitlines()[-1]
    written = CutsReport.model_validate_json((tmp_path / "cuts.json").read_text())
    assert CutsReport.model_validate_json(last) == written == report
    assert [row.detector for row in report.detectors] == ["sender", "announced", "lost", "unannounced"]
    page = (tmp_path / "cuts.html").read_text()
    assert "After a cut" in page and "<svg" in page
    # Started again it does nothing that it has done, but for what is missing.
    kept = sorted((tmp_path / "runs").iterdir())
    assert [path.name.split(".")[:2] for path in kept] == [["reel00", name] for name in sorted(RECEIVERS)]
    kept[0].unlink()
    done = list[str]()
    carry = carry_out
    monkeypatch.setattr(
        "benchmarks.cuts.carry_out", lambda run, out: (done.append(run.name), carry(run, out))[1]
    )
    assert run_cuts(None, tmp_path, CONFIG, reels=1) == report
    assert done == ["reel00.announced"]
    # One that sees no cuts is measured besides where that is asked for, and not judged.
    besides = run_cuts(None, tmp_path, CONFIG, reels=1, blind=True)
    assert done[1:] == ["reel00.blind"] and besides.requirements == report.requirements
    assert {row.receiver for row in besides.ghosts} == {*RECEIVERS, BLIND}
    assert [row.detector for row in besides.detectors] == [row.detector for row in report.detectors]


def test_a_clip_that_nobody_knows_is_taken_apart_where_the_detector_sees_a_scene(
    dev_clip: Callable[[str], Path],
) -> None:
    row, shots = taken_apart(Clip(name="another name", path=str(dev_clip("d12_concat_cuts"))), CONFIG, 4.0)
    assert not row.known and row.new_scenes == row.found == len(shots) - 1


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no clip is in"):
        clips_in(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        clips_in(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="one size"):
        run_cuts(None, tmp_path, load_config(None, []))
    with pytest.raises(SourceError, match="cannot be joined"):
        run_cuts(None, tmp_path, CONFIG, seconds=2.0)


def test_clips_of_a_folder_come_by_name(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.MKV", "notes.txt"):
        (tmp_path / name).touch()
    assert [clip.name for clip in clips_in(tmp_path)] == ["a", "b"]

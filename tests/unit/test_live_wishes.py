"""What viewers of a live receiver change, and what they record; a full disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.live import receiving, streams
from common.config import load_config
from common.container import read_sgv
from common.errors import ConfigError, UsageError
from common.types import UnitKind
from common.wire import kind_of
from receiver.decoder.synth import LEVELS
from receiver.painter import BasePainter
from tests.live_stage import Stage, record_story
from tests.small_stream import Recording


@pytest.fixture(scope="module")
def story() -> Recording:
    return record_story()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


# --- what viewers ask for -----------------------------------------------------------------------------------------


def test_controls_are_as_configured(tmp_path: Path) -> None:
    def values(*settings: str) -> dict[str, Any]:
        controls = Stage(tmp_path, load_config(None, list(settings))).receiver.controls()
        return {control.name: (control.value, control.choices) for control in controls}

    found = values("channel.spec=packet:loss=0.1,delay_ms=20", "stream.bitrate_bps=32k", "receiver.steps=2")
    assert found == {
        "bitrate_bps": (32_000, ()), "budget_ms": (42.0, ()), "steps": ("2", ("auto", "0", "1", "2", "4")),
        "loss": (0.1, ()), "delay_ms": (20.0, ()), "rate_kbps": (4e3, ()),
    }  # fmt: skip
    assert values("receiver.steps=0")["steps"] == ("0", ("0",)), (
        "without decoder there is nothing else to choose"
    )
    with pytest.raises(ConfigError, match="packet channel"):
        values("channel.spec=analog:snr_db=7")


class Ladder(BasePainter):
    """All levels, and the same picture at each."""

    levels = LEVELS


def test_changes_reach_the_stream_and_the_next_one(
    story: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "open_painter", lambda config, seed, size: Ladder())
    stage = Stage(tmp_path, load_config(None, ["receiver.budget_ms=none"]))
    stage.asked(lambda: stage.receiver.change("budget_ms", 20.0))
    stage.send(story)
    stage.run(0.5)
    assert stage.receiver.stream is not None and stage.receiver.stream.session.settings.budget_ms == 20.0
    assert stage.page.stats[-1].budget_ms == 20.0
    for value, number in (("4", 4), ("auto", "auto"), ("0", 0)):
        stage.asked(lambda value=value: stage.receiver.change("steps", value))
        assert stage.receiver.stream.session.settings.steps == stage.receiver.settings.steps == number
    stage.asked(lambda: stage.receiver.change("budget_ms", 60))
    assert stage.receiver.stream.session.settings.budget_ms == 60
    stage.run(0.2)
    assert stage.receiver.config.receiver.budget_ms is None, "the configuration is as it was"


def test_the_link_can_be_made_worse(stage: Stage, story: Recording) -> None:
    stage.send(story)
    stage.run(0.4)
    before = len(stage.slots())
    stage.asked(lambda: stage.receiver.change("loss", 1.0))
    stage.run(0.6)
    assert stage.receiver.impaired.spec.loss == 1.0 and len(stage.slots()) <= before + 5
    assert stage.page.pictures[-1].concealed


def test_the_sender_can_be_asked_for_another_rate(stage: Stage) -> None:
    stage.asked(lambda: stage.receiver.change("bitrate_bps", 20_000.0))
    assert stage.link.said == [{"bitrate_bps": 20_000.0}]
    stage.link.controllable = False  # as with UDP
    with pytest.raises(UsageError, match="cannot be asked"):
        stage.asked(lambda: stage.receiver.change("bitrate_bps", 20_000.0))
    stage.receiver.link = None
    stage.receiver.idle = stage.link  # type: ignore[assignment]
    with pytest.raises(UsageError, match="cannot be asked"):
        stage.asked(lambda: stage.receiver.change("bitrate_bps", 20_000.0))


def test_too_many_wishes_are_refused(stage: Stage) -> None:
    while stage.receiver.orders.put(lambda: None):
        pass
    with pytest.raises(UsageError, match="too much at once"):
        stage.receiver.change("loss", 0.1)
    stage.receiver.turn()
    stage.asked(lambda: stage.receiver.change("loss", 0.1))
    assert stage.receiver.impaired.spec.loss == 0.1


def test_what_took_too_long_is_not_done_later(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "ORDER_S", 0.0)
    with pytest.raises(UsageError, match="busy"):
        stage.receiver.change("loss", 0.1)
    stage.receiver.turn()
    assert stage.receiver.impaired.spec.loss == 0.0


# --- recordings ---------------------------------------------------------------------------------------------------


def test_a_recording_begins_with_the_key_picture_that_it_asks_for(
    stage: Stage, story: Recording, tmp_path: Path
) -> None:
    for wish, message in (
        (stage.receiver.start_recording, "nothing is coming yet"),
        (stage.receiver.stop_recording, "nothing is being recorded"),
    ):
        with pytest.raises(UsageError, match=message):
            stage.asked(wish)
    stage.send(story)
    stage.run(0.9)
    files = stage.asked(stage.receiver.start_recording)
    assert files == ("recording-00007-1.sgv", "recording-00007-1.mp4")
    stage.run(0.1)
    assert sum(report.refresh for report in stage.reports()) == 1
    stage.run(1.2)
    assert stage.asked(stage.receiver.stop_recording) == files
    units = list(read_sgv(tmp_path / files[0]))
    frames = [unit for unit in units if kind_of(unit) is UnitKind.FRAME]
    sent = [u.data for f, s in zip(story.frames, story.steps, strict=True) if f.slot >= 125 for u in s.units]
    assert frames == [data for data in sent if kind_of(data) is UnitKind.FRAME]
    assert (tmp_path / files[1]).stat().st_size > 0
    with pytest.raises(UsageError, match="nothing is being recorded"):
        stage.asked(stage.receiver.stop_recording)
    assert stage.asked(stage.receiver.start_recording)[0] == "recording-00007-2.sgv"
    stage.receiver.close_stream()
    assert len(stage.warned) == 1 and "nothing was recorded" in stage.warned[0]


def test_the_end_of_the_stream_completes_a_recording(stage: Stage, story: Recording, tmp_path: Path) -> None:
    stage.send(story)
    stage.run(0.5)
    files = stage.asked(stage.receiver.start_recording)
    stage.run(1.5)
    stage.receiver.close_stream()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files) and stage.warned == []
    assert stage.page.recordings_over == 1, "the page must not say that it is still recording"


def test_a_full_disk_ends_the_recording_and_nothing_else(
    stage: Stage, story: Recording, tmp_path: Path
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    stage.send(story)
    stage.run(0.5)
    files = stage.asked(stage.receiver.start_recording)
    (tmp_path / f"{files[0]}.partial").symlink_to("/dev/full")
    stage.run(1.0)
    assert stage.receiver.stream is not None and stage.receiver.stream.recorder is None
    before = len(stage.slots())
    stage.run(0.4)
    assert len(stage.slots()) > before
    assert len(stage.warned) == 1 and "No space left" in stage.warned[0] and "\n" not in stage.warned[0]
    assert not (tmp_path / files[0]).exists() and stage.page.recordings_over == 1


def test_a_folder_that_cannot_be_written_is_said_to_who_asked(story: Recording, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stage = Stage(tmp_path / "file" / "folder")
    stage.send(story)
    stage.run(0.5)
    with pytest.raises(OSError, match="cannot be made"):
        stage.asked(stage.receiver.start_recording)
    before = len(stage.slots())
    stage.run(0.5)
    assert len(stage.slots()) > before and stage.warned == []

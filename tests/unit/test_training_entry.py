"""`train decoder` tells examples from clips, shares out the time and refuses what makes no sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import ConfigError, SourceError, UsageError
from training import entry
from training.damage import GUIDE_ONLY
from training.sizes import is_of_size


class Calls:
    """Stands in for packing and training, and remembers what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.packed: list[tuple[Path, Path, float]] = []
        self.trained: list[tuple[Path, Path, float, dict[str, Any]]] = []
        monkeypatch.setattr(entry, "_pack", self._pack)
        monkeypatch.setattr(entry, "train_decoder", self._train)
        monkeypatch.setattr(entry, "shipped_judge", lambda: None)

    def _pack(self, clips: Path, out: Path, minutes: float, seed: int) -> None:
        self.packed.append((clips, out, minutes))
        out.mkdir(parents=True)
        (out / "shard-00000.npy").touch()

    def _train(self, data: Path, out: Path, minutes: float, **options: Any) -> Path:
        self.trained.append((data, out, minutes, options))
        return out / "tiny.safetensors"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").touch()
    return folder


def test_examples_are_trained_on_as_they_are(
    tmp_path: Path, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shard-00000.npy").touch()
    entry.decoder_from(tmp_path, tmp_path / "out", 3.0, True, "cpu", 2, 7)
    data, out, minutes, options = calls.trained[0]
    assert (data, out, minutes) == (tmp_path, tmp_path / "out", 3.0)
    assert options["resume"] and options["device"] == "cpu" and options["seed"] == 7
    assert options["settings"].threads == 2
    assert not calls.packed
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["weights"].endswith("tiny.safetensors")


@pytest.mark.parametrize(("minutes", "packing"), [(5.0, 1.0), (50.0, 10.0), (600.0, 10.0)])
def test_videos_are_packed_first_within_the_time(
    tmp_path: Path, videos: Path, calls: Calls, minutes: float, packing: float
) -> None:
    entry.decoder_from(videos, tmp_path / "out", minutes, False, "auto", 1, 0)
    assert calls.packed == [(videos, tmp_path / "out" / "examples", packing)]
    assert calls.trained[0][0] == tmp_path / "out" / "examples"
    assert calls.trained[0][2] == minutes - packing


def test_resuming_packs_once_and_trains_for_the_same_share(
    tmp_path: Path, videos: Path, calls: Calls
) -> None:
    entry.decoder_from(videos, tmp_path / "out", 10.0, False, "auto", 1, 0)
    entry.decoder_from(videos, tmp_path / "out", 10.0, True, "auto", 1, 0)
    assert len(calls.packed) == 1
    assert [minutes for _, _, minutes, _ in calls.trained] == [8.0, 8.0]


def test_a_fresh_start_does_not_mix_with_old_examples(tmp_path: Path, videos: Path, calls: Calls) -> None:
    entry.decoder_from(videos, tmp_path / "out", 10.0, False, "auto", 1, 0)
    with pytest.raises(UsageError, match="--resume"):
        entry.decoder_from(videos, tmp_path / "out", 10.0, False, "auto", 1, 0)


def test_what_makes_no_sense_is_refused_before_any_work(tmp_path: Path, videos: Path, calls: Calls) -> None:
    with pytest.raises(ConfigError, match="gpu"):
        entry.decoder_from(videos, tmp_path / "out", 10.0, False, "gpu", 1, 0)
    with pytest.raises(UsageError, match="minutes"):
        entry.decoder_from(videos, tmp_path / "out", 0.0, False, "cpu", 1, 0)
    with pytest.raises(SourceError, match="no video files"):
        entry.decoder_from(tmp_path, tmp_path / "out", 10.0, False, "cpu", 1, 0)
    assert not calls.packed and not calls.trained


def test_model_teacher_and_second_stage_are_passed_on(
    tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shard-00000.npy").touch()
    monkeypatch.setattr(entry, "load_backbone", lambda path: f"backbone of {path.name}")
    entry.decoder_from(
        tmp_path, tmp_path / "out", 3.0, False, "cpu", 1, 0,
        model="base", teacher=Path("net.tflite"), adversarial_share=0.3, batch=32, crop=256,
    )  # fmt: skip
    *_, options = calls.trained[0]
    assert options["name"] == "base" and is_of_size(options["model"], "base")
    assert options["teacher"] == "backbone of net.tflite"
    settings = options["settings"]
    assert (settings.adversarial_share, settings.batch, settings.crop) == (0.3, 32, 256)


def test_the_peer_sees_nothing_but_the_guide(tmp_path: Path, calls: Calls) -> None:
    (tmp_path / "shard-00000.npy").touch()
    entry.decoder_from(tmp_path, tmp_path / "out", 3.0, False, "cpu", 1, 0, guide_only=True)
    settings = calls.trained[0][-1]["settings"]
    assert settings.damage == GUIDE_ONLY and settings.own_previous == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "huge"}, "tiny, base"),
        ({"adversarial_share": 1.5}, "0 to 1"),
        ({"crop": 100}, "multiple of 16"),
        ({"batch": -1}, "at least 1"),
        ({"model": "base", "start": "tiny"}, "--start or --model"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, calls: Calls, options: dict[str, Any], said: str
) -> None:
    (tmp_path / "shard-00000.npy").touch()
    with pytest.raises(UsageError, match=said):
        entry.decoder_from(tmp_path, tmp_path / "out", 3.0, False, "cpu", 1, 0, **options)
    assert not calls.trained


def test_several_processes_need_packed_examples(
    tmp_path: Path, videos: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="train pack"):
        entry.decoder_from(videos, tmp_path / "out", 10.0, False, "cpu", 1, 0)
    assert not calls.packed


def test_without_a_shipped_label_network_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entry, "shipped", dict)
    assert entry.shipped_judge() is None
    assert "without the feature loss" in capsys.readouterr().err

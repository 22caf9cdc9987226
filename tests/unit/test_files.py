"""Places for results are looked at before any work, and nothing takes the place of what it is made from."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.files import decode_file, encode_file
from cli import app
from common import files
from common.config import load_config
from common.errors import SinkError, UsageError
from common.files import made_folder, refuse_overwriting


def test_a_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    assert made_folder(tmp_path / "a" / "b").is_dir()
    assert made_folder(tmp_path / "a" / "b").is_dir()


def test_what_cannot_take_results_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="file: is a file, not a folder; choose another folder"):
        made_folder(tmp_path / "file")
    with pytest.raises(SinkError, match=r"cannot be made .*; choose another folder"):
        made_folder(tmp_path / "file" / "below")
    monkeypatch.setattr(files.os, "access", lambda *_: False)
    with pytest.raises(SinkError, match="nothing can be written there"):
        made_folder(tmp_path / "sealed")


def test_a_result_may_not_replace_its_source(tmp_path: Path) -> None:
    clip, link = tmp_path / "clip.mp4", tmp_path / "link.mp4"
    clip.write_bytes(b"precious")
    link.symlink_to(clip)
    refuse_overwriting(clip, tmp_path / "other.mp4")
    for run in (
        lambda: encode_file(str(clip), link, load_config(None, [])),
        lambda: decode_file(clip, clip, load_config(None, [])),
    ):
        with pytest.raises(UsageError, match="is what is read: name another file"):
            run()
    assert clip.read_bytes() == b"precious"


def test_lossless_video_is_not_called_mp4(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"written as Matroska: name it talk\.mkv"):
        decode_file(tmp_path / "talk.sgv", tmp_path / "talk.mp4", load_config(None, []))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command",
    [
        ["gate"], ["gate", "--mutations"], ["bench", "uncertainty"], ["bench", "recovery"], ["bench", "latency"],
        ["bench", "rd"], ["bench", "snr"], ["bench", "ablation"], ["bench", "cuts"],
    ],
)  # fmt: skip
def test_nothing_is_measured_for_a_place_that_takes_no_results(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "file")])
    assert result.exit_code == 1 and "choose another folder" in result.stderr

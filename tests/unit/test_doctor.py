"""The doctor tries things, gets to its end whatever is broken, and fails only for what one cannot do without."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import doctor
from benchmarks.doctor import EXTRAS, Check, Diagnosis, UnfitError, every_check, examine, find
from common.errors import WeightsError

ROOT = Path(__file__).resolve().parents[2]


def fails(error: Exception) -> Callable[[], str]:
    def attempt() -> str:
        raise error

    return attempt


def test_what_can_be_done_without_does_not_fail(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [
        Check("codec", lambda: "41 bytes", essential=True),
        Check("camera", fails(UnfitError("none: plug one in"))),
    ]
    diagnosis = examine(checks)
    out = capsys.readouterr().out
    assert diagnosis.ok and Diagnosis.model_validate_json(out.splitlines()[-1]) == diagnosis
    assert [finding.status for finding in diagnosis.findings] == ["ok", "missing"]
    assert "plug one in" in out.splitlines()[-1]


def test_what_is_essential_fails_after_everything_was_tried(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [Check("codec", fails(OSError("gone")), essential=True), Check("last", lambda: "still tried")]
    with pytest.raises(UnfitError, match="codec") as raised:
        examine(checks)
    assert raised.value.exit_code == 1
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not document["ok"] and document["findings"][0]["detail"] == "OSError: gone"
    assert document["findings"][1]["status"] == "ok"


ESSENTIAL = ["SVT-AV1 encoder", "AV1 decoder (libdav1d)", "FFV1 recordings", "H.264 recordings (libx264)"]
OPTIONAL = ["VP9 guide (libvpx)", "H.264 guide (libx264)"]


@pytest.mark.parametrize("name", [*ESSENTIAL, *OPTIONAL])
def test_the_codecs_of_this_environment_work(name: str) -> None:
    (check,) = (check for check in every_check() if check.name == name)
    finding = find(check)
    assert check.essential == (name in ESSENTIAL) and finding.status == "ok", finding.detail


def test_an_encoder_that_makes_another_picture_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    other = doctor.gradient()
    other.y[:] = 255 - other.y
    coded = doctor.coded_picture()
    monkeypatch.setattr(doctor, "coded_picture", lambda codec: coded)
    monkeypatch.setattr(doctor, "gradient", lambda: other)
    assert find(Check("decoder", lambda: doctor.guide_codec("av1"), essential=True)).status == "failed"


def test_missing_weights_of_a_default_decoder_are_essential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "load_weights", fails_with_name)
    findings = [find(check) for check in doctor.weights_checks()]
    assert {"weights labels", "weights tiny"} <= {finding.name for finding in findings}
    assert all(finding.status == "failed" and "retrain" in finding.detail for finding in findings)


def fails_with_name(name: str) -> str:
    raise WeightsError(f"no {name}: retrain it")


def test_processor_names_what_matters(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name : x\nflags : fpu avx2 avx512f amx_bf16\nbugs :\n")
    assert "avx2, avx512f, amx_bf16" in doctor.processor(cpuinfo) and "fewer" not in doctor.processor(cpuinfo)
    cpuinfo.write_text("flags : fpu avx2\n")
    assert "no bfloat16 units" in doctor.processor(cpuinfo)
    assert "unknown" in doctor.processor(tmp_path / "absent")


def test_cameras_are_listed_as_sources(tmp_path: Path) -> None:
    assert find(Check("cameras", lambda: doctor.cameras(tmp_path))).status == "missing"
    (tmp_path / "video2").touch()
    assert doctor.cameras(tmp_path) == "camera:2"


def test_an_extra_that_is_not_there_says_how_to_install_it() -> None:
    assert doctor.installed("dev", ("pytest",)).startswith("pytest ")
    with pytest.raises(UnfitError, match=re.escape("'.[live]'")):
        doctor.installed("live", ("pytest", "no-such-distribution"))


def test_extras_are_those_of_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        extra: tuple(re.split(r"[<>=~! ]", text)[0] for text in texts) for extra, texts in declared.items()
    }
    assert {extra: packages for extra, packages in named.items() if extra != "dev"} == EXTRAS

"""What docs/security.md promises and no other test holds: weights, programs, sizes, the audit, the document."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import yaml

from common.codecs import TEMPORAL_DELIMITER, GuideDecoder, strip_delimiter
from common.errors import BitstreamError
from tests.trees import parsed

ROOT = Path(__file__).parents[2]
ROOMS = ("common", "sender", "channel", "receiver", "training", "benchmarks")
DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
WORKFLOW = ROOT / ".github" / "workflows" / "audit.yml"
RUNS_CODE = {".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".bin"}
"""Endings of files that can hold pickles."""


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path in [ROOT / "cli.py", *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]:
        for node in ast.walk(parsed(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


# --- code and weights (eval, pickle, torch.load: tests/test_architecture.py) --------------------------------------


def test_no_program_is_started_through_a_shell() -> None:
    for place, call in calls():
        name = ast.unparse(call.func)
        assert name not in ("os.system", "os.popen", "subprocess.getoutput"), place
        assert not any(k.arg == "shell" and ast.unparse(k.value) != "False" for k in call.keywords), place


def test_nothing_is_saved_as_a_pickle_or_read_as_any_yaml() -> None:
    for place, call in calls():
        assert ast.unparse(call.func) not in ("torch.save", "yaml.load", "yaml.unsafe_load"), place


def test_what_is_shipped_holds_no_pickle() -> None:
    shipped = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file()]
    assert not [path for path in shipped if path.suffix in RUNS_CODE]
    assert [path for path in shipped if path.suffix == ".safetensors"]


# --- sizes --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large_av1() -> bytes:
    """One grey picture of 1024x1024 in some dozen bytes."""
    context = av.CodecContext.create("libsvtav1", "w")
    context.width = context.height = 1024
    context.pix_fmt, context.time_base = "yuv420p", Fraction(1, 25)
    context.options = {"preset": "12", "svtav1-params": "lp=1"}
    frame = av.VideoFrame.from_ndarray(np.full((1536, 1024), 128, np.uint8), format="yuv420p")
    frame.pts = 0
    (packet,) = [*context.encode(frame), *context.encode(None)]
    return strip_delimiter(bytes(packet))


HIDING_PLACES = {
    "nowhere": b"",
    "behind padding": bytes([15 << 3 | 2, 3, 1, 2, 0x80]),
    "behind metadata": bytes([5 << 3 | 2, 2, 4, 0x80]),
    "behind another delimiter": TEMPORAL_DELIMITER,
}


@pytest.mark.parametrize("before", HIDING_PLACES.values(), ids=HIDING_PLACES.keys())
def test_a_large_picture_is_refused_wherever_its_size_hides(large_av1: bytes, before: bytes) -> None:
    assert len(large_av1) < 500
    with pytest.raises(BitstreamError, match=r"announces 1024x1024|cannot be decoded"):
        GuideDecoder("av1", 64, 64).decode(before + large_av1)


# --- the audit ----------------------------------------------------------------------------------------------------


def test_the_audit_runs_every_week_and_may_only_read() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    triggers = workflow[True]  # YAML takes `on` for a truth
    assert triggers["schedule"] and "pull_request" in triggers
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert job["timeout-minutes"] <= 15
    assert any(step.get("run") == "make audit" for step in job["steps"])
    for step in job["steps"]:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step.get("uses", "a/b@" + "0" * 40))


def test_the_audit_says_so_where_there_is_no_network(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "audit", "ADVISORIES=http://127.0.0.1:9/", f"AUDIT={tmp_path / 'audit'}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "not audited: no answer from http://127.0.0.1:9/" in done.stderr
    assert not (tmp_path / "audit").exists()


# --- the document -------------------------------------------------------------------------------------------------


def test_the_document_names_what_there_is() -> None:
    for name in re.findall(r"`((?:\w[\w-]*/)+[\w.-]+)`", DOCUMENT):
        assert (ROOT / name).exists(), name
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", DOCUMENT):
        assert (ROOT / "docs" / link).exists(), link

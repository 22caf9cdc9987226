"""Sender and receiver as two processes that share nothing but a UDP port: only bytes cross."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from common.state import picture_digest
from sender.sources import open_source

ROOT = Path(__file__).resolve().parents[2]
FRAMES, RATE = 50, Fraction(25)
GIVE_UP_S = 240


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m` with these arguments from the repository's root; never outlives the test."""
    command = [sys.executable, "-m", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def port_of(receiver: subprocess.Popen[str]) -> int:
    assert receiver.stderr is not None
    line = receiver.stderr.readline()
    found = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
    assert found, line + receiver.stderr.read()
    return int(found[1])


def result(finished: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON on the last line that a process prints."""
    out, err = finished.communicate(timeout=GIVE_UP_S)
    assert finished.returncode == 0, err
    document: dict[str, Any] = json.loads(out.splitlines()[-1])
    return document


@pytest.mark.slow
def test_every_frame_arrives_with_its_time_and_both_ends_hold_the_same_base_pictures(tmp_path: Path) -> None:
    recording = tmp_path / "received.mkv"
    # Nothing is decided by this machine's speed: frames wait two minutes for stragglers, so none is concealed.
    listen = ("receiver", "--listen", "127.0.0.1:0", "--out", str(recording), "--steps", "0", "--digests")
    patience = ("--seconds", "200", "--idle-s", "4", "--set", "receiver.playout_delay_ms=120000")
    with process(*listen, *patience) as receiver:
        to = f"udp://127.0.0.1:{port_of(receiver)}"
        what = ("--to", to, "--fast", "--seconds", "2", "--size", "128x128", "--bitrate", "96k", "--digests")
        # The label network is not what is tested here; without residual the base picture is what is recorded.
        without = ("--set", "semantics.enabled=false", "--set", "residual.enabled=false")
        with process("sender", *what, *without) as sender:
            sent = result(sender)
        received = result(receiver)

    assert sent["frames"] == FRAMES and sent["skipped"] == 0
    assert received["frames"] == FRAMES and received["concealed"] == 0
    assert received["levels"] == {"base": FRAMES}
    assert received["digest_mismatches"] == received["damaged_units"] == sent["refresh_requests"] == 0
    assert received["bytes"] == sent["bytes"] > 0
    assert sent["digests"] == received["digests"]
    assert [int(slot) for slot in sent["digests"]] == list(range(FRAMES))

    with open_source(str(recording)) as source:
        frames = list(source)
    assert [frame.pts * frame.time_base for frame in frames] == [slot / RATE for slot in range(FRAMES)]
    recorded = [f"{picture_digest(frame.picture):08x}" for frame in frames]
    assert recorded == list(sent["digests"].values())

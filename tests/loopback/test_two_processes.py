"""Sender and receiver as two processes that share nothing but a UDP port: only bytes cross."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks.two_ends import last_json, listening_at, python_process
from common.state import picture_digest
from sender.sources import open_source

FRAMES, RATE = 50, Fraction(25)
GIVE_UP_S = 240


@pytest.mark.slow
def test_every_frame_arrives_with_its_time_and_both_ends_hold_the_same_base_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    recording = tmp_path / "received.mkv"
    # Nothing is decided by this machine's speed: frames wait two minutes for stragglers, so none is concealed.
    listen = ("receiver", "--listen", "127.0.0.1:0", "--out", str(recording), "--steps", "0", "--digests")
    patience = ("--seconds", "200", "--idle-s", "4", "--set", "receiver.playout_delay_ms=120000")
    with python_process([*listen, *patience]) as receiver:
        to = f"udp://{listening_at(receiver)}"
        what = ("--to", to, "--fast", "--seconds", "2", "--size", "128x128", "--bitrate", "96k", "--digests")
        # The label network is not what is tested here; without residual the base picture is what is recorded.
        without = ("--set", "semantics.enabled=false", "--set", "residual.enabled=false")
        with python_process(["sender", *what, *without]) as sender:
            sent = last_json(sender, GIVE_UP_S)
        received = last_json(receiver, GIVE_UP_S)

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

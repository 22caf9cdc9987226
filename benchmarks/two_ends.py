"""Sender and receiver as two processes over loopback UDP, at the source's own pace: do both keep up on this machine?

python -m receiver <- udp://127.0.0.1 <- python -m sender
        |-> JSON: pictures a second, levels, deadlines missed, peak memory <-|
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from benchmarks.report import Model
from common.config import Config
from common.errors import ChannelError

ROOT = Path(__file__).resolve().parents[1]
IDLE_S = 2.0
PATIENCE_S = 60.0
"""Beyond the length of the clip: starting, loading and writing on a busy machine."""

NotNegative = Annotated[float, Field(ge=0.0)]


class TwoEnds(Model):
    """One run in real time.

    realtime_factor : pictures a second of the slower end over the source's
    shown_frames : until the stream ended; painted_frames : those that the network painted; late_frames : those that
        took longer than the budget; concealed_frames : nothing new was there to show
    peak_memory_mib : of each process, everything included
    """

    frames: int
    source_fps: NotNegative
    sender_fps: NotNegative
    receiver_fps: NotNegative
    realtime_factor: NotNegative
    shown_frames: int
    painted_frames: int
    concealed_frames: int
    late_frames: int
    sender_peak_memory_mib: NotNegative
    receiver_peak_memory_mib: NotNegative


def measure_ends(source_name: str | None, config: Config, seconds: float, source_fps: float) -> TwoEnds:
    """Send `seconds` of a source from one process to another. ChannelError when either fails."""
    wait_s = seconds + PATIENCE_S
    with tempfile.TemporaryDirectory(prefix="semcast-ends-") as folder:
        out = str(Path(folder) / "received.mkv")
        listen = ["receiver", "--listen", "127.0.0.1:0", "--out", out, "--idle-s", f"{IDLE_S}"]
        with python_process([*listen, *_settings(config)]) as receiver:
            send = [
                "sender",
                *([] if source_name is None else [source_name]),
                "--to",
                f"udp://{listening_at(receiver)}",
            ]
            with python_process([*send, "--seconds", f"{seconds}", *_settings(config)]) as sender:
                sent = last_json(sender, wait_s)
            received = last_json(receiver, wait_s)
    levels, shown = received["levels"], received["paced_frames"]
    return TwoEnds(
        frames=sent["frames"], source_fps=source_fps, sender_fps=sent["fps"], receiver_fps=received["fps"],
        realtime_factor=min(sent["fps"], received["fps"]) / source_fps, shown_frames=shown,
        painted_frames=sum(count for level, count in levels.items() if level.startswith("bridge")),
        concealed_frames=max(0, shown - (received["frames"] - received["concealed"])), late_frames=received["late"],
        sender_peak_memory_mib=sent["peak_memory_mib"], receiver_peak_memory_mib=received["peak_memory_mib"],
    )  # fmt: skip


def _settings(config: Config) -> list[str]:
    """All that differs from the defaults, as options."""
    defaults, options = Config().as_dict(), []
    for section, values in config.as_dict().items():
        for key, value in values.items():
            if value != defaults[section][key]:
                options += ["--set", f"{section}.{key}={'none' if value is None else value}"]
    return options


@contextmanager
def python_process(arguments: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """`python -m` with these arguments; ended with the block, whatever happens."""
    command = [sys.executable, "-m", *arguments]
    environment = {**os.environ, "NO_COLOR": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def listening_at(receiver: subprocess.Popen[str]) -> str:
    """Where the receiver says it listens."""
    assert receiver.stderr is not None
    line = receiver.stderr.readline()
    found = re.search(r"listening on (\S+:\d+)", line)
    if not found:
        raise ChannelError(f"the receiver did not start: {(line + receiver.stderr.read()).strip()}")
    return found[1]


def last_json(process: subprocess.Popen[str], wait_s: float) -> dict[str, Any]:
    """The JSON on the last line that a process prints."""
    try:
        out, err = process.communicate(timeout=wait_s)
    except subprocess.TimeoutExpired as error:
        raise ChannelError(
            f"an end did not finish within {wait_s:.0f} s: is this machine overloaded?"
        ) from error
    if process.returncode != 0:
        raise ChannelError(f"an end failed: {err.strip()}")
    document: dict[str, Any] = json.loads(out.splitlines()[-1])
    return document

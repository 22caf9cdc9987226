"""Help, and what is wrong in what a command was given, come before the libraries that take seconds to load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "diffusers", "cv2", "av", "scipy", "matplotlib")

MISTAKES = {
    "nonsense": (2, "No such command"),
    "demo --bitrate nonsense": (2, "is not understood"),
    "demo --channel packet:los=0.1": (2, "did you mean `loss`"),
    "demo none.mp4": (1, "none.mp4: cannot be opened"),
    "encode none.mp4 out.sgv": (1, "none.mp4: cannot be opened"),
    "encode none.mp4 out.sgv --size 3": (2, "is not understood"),
    "decode none.sgv out.mkv": (1, "cannot read none.sgv"),
    "decode none.sgv out.mkv --steps 3": (2, "receiver.steps"),
    "info none.sgv": (1, "cannot read none.sgv"),
    "send --to nonsense": (2, "is no room"),
    "send --to udp://192.0.2.1:5004 --bitrate 0": (2, "the least is 1k"),
    "send none.mp4 --to udp://192.0.2.1:5004": (1, "none.mp4: cannot be opened"),
    "receive --listen nonsense": (2, "write HOST:PORT"),
    "receive --channel nonsense": (2, "unknown channel kind"),
    "receive --output nonsense": (2, "is not understood"),
    "bench latency --sizes nonsense": (2, "is not understood"),
    "bench latency --input none.mp4": (1, "none.mp4: cannot be opened"),
    "bench rd --set guide.presett=8": (2, "did you mean guide.preset"),
    "bench snr --set guide.presett=8": (2, "did you mean guide.preset"),
    "bench recovery none.mp4": (2, "no clip is called"),
    "bench uncertainty --size 3": (2, "is not understood"),
    "bench ablation none.mp4": (2, "no clip is called"),
    "bench faults --only nonsense": (2, "there is no fault"),
    "bench cuts --size 3": (2, "is not understood"),
    "gate --only nonsense": (2, "is not one of"),
}
"""By arguments: exit code, and part of what is said."""

PROGRAM = """
import json, sys
from typer.testing import CliRunner
from cli import app

lines, heavy = json.loads(sys.argv[1])
for line in lines:
    result = CliRunner().invoke(app, line.split())
    said = " ".join(result.output.split())
    print(json.dumps([result.exit_code, said, [name for name in heavy if name in sys.modules]]))
"""


def told(lines: list[str], folder: Path) -> list[tuple[int, str, list[str]]]:
    """For each of these command lines, in one process: exit code, what was said, what was loaded by then."""
    command = [sys.executable, "-c", PROGRAM, json.dumps([lines, HEAVY])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_help(tmp_path: Path) -> None:
    lines = [
        "--help",
        "demo --help",
        "send --help",
        "bench --help",
        "bench rd --help",
        "train decoder --help",
    ]
    for line, (code, said, loaded) in zip(lines, told(lines, tmp_path), strict=True):
        assert (code, loaded) == (0, []), line
        assert "Usage:" in said and ("Example: semcast" in said or "Try: semcast" in said), line


def test_mistakes(tmp_path: Path) -> None:
    for line, (code, said, loaded) in zip(MISTAKES, told(list(MISTAKES), tmp_path), strict=True):
        assert loaded == [], f"{loaded} loaded before what is wrong with `semcast {line}` is said"
        assert code == MISTAKES[line][0] and MISTAKES[line][1] in said, (line, said)

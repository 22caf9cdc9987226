"""Many receivers of one sender for a long time: does the picture stay in time, does memory stay bounded?

host a: semcast send ~ relay ~ host b: semcast signal, semcast receive --steps 0, as many as asked for
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import Progress

from benchmarks.live.relay import Host
from benchmarks.live.trials import Program, hosts_or_none, start
from common.errors import ChannelError

LINK = "packet:delay_ms=25,loss=0.01"
SIGNAL_PORT = 8765
SAMPLE_S = 10.0
WARM_UP_S = 60.0
_MARGIN_S = 60.0


def run_soak(clip: str | None, out: Path, receivers: int, seconds: float, size: str, bitrate: str) -> None:
    """Print the figures as a line of JSON, and keep them in `out`. Raises ChannelError where an end fails."""
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        hosts = stack.enter_context(hosts_or_none(LINK))

        def run(host: Host, command: Sequence[str]) -> Program:
            """Started, and ended with everything else whatever happens."""
            program = start(hosts, host, command)
            stack.callback(program.end)
            return program

        here = hosts.address["b"] if hosts else "127.0.0.1"
        where = f"{here}:{SIGNAL_PORT}"
        signalling = run("b", ["signal", "--open", "--listen", where, "--max-members", str(receivers + 1)])
        signalling.wait_for("out", lambda line: line.startswith("{"))
        room = f"ws://{where}/soak"
        ends = [run("b", _receive(here, room, number)) for number in range(receivers)]
        for end in ends:
            end.wait_for("out", lambda line: line.startswith("{"))
        command = ["send", *([clip] if clip else []), "--to", f"{room}?id=sender", "--loop", "--size", size]
        sender = run("a", [*command, "--bitrate", bitrate, "--seconds", str(seconds)])
        sender.wait_for("err", lambda line: line.endswith(": connected"))
        memory = _watch([sender, *ends], seconds)
        sent = sender.document(_MARGIN_S)
        received = [end.document(_MARGIN_S) for end in ends]
    figures = _figures(sent, received, memory)
    result = out / "soak.json"
    result.write_text(json.dumps({"figures": figures, "sent": sent, "received": received}, indent=1) + "\n")
    print(json.dumps({"result": str(result), **figures}))


def _receive(here: str, room: str, number: int) -> list[str]:
    command = ["receive", "--listen", f"{here}:0", "--from", f"{room}?id=receiver{number}", "--steps", "0"]
    return [*command, "--threads", "1", "--idle-s", "10"]


def _watch(programs: Sequence[Program], seconds: float) -> list[list[float]]:
    """Resident memory of each program, MiB, every `SAMPLE_S`; the sender's first."""
    processes = [psutil.Process(program.pid) for program in programs]
    memory: list[list[float]] = [[] for _ in processes]
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("soak", total=seconds)
        for _ in range(int(seconds / SAMPLE_S) - 1):
            threading.Event().wait(SAMPLE_S)
            bar.advance(task, SAMPLE_S)
            for process, samples in zip(processes, memory, strict=True):
                try:
                    samples.append(process.memory_info().rss / (1 << 20))
                except psutil.Error:
                    raise ChannelError("a live end has stopped in the middle") from None
    return memory


def _figures(
    sent: dict[str, Any], received: Sequence[dict[str, Any]], memory: Sequence[Sequence[float]]
) -> dict[str, Any]:
    """What it comes to: of several receivers the worst figure; growth of memory since the end of the warm-up."""
    streams = [document["streams"][-1] for document in received if document["streams"]]
    if len(streams) < len(received):
        raise ChannelError(f"only {len(streams)} of {len(received)} receivers got anything")
    warm = int(WARM_UP_S / SAMPLE_S)
    grown = [samples[-1] - samples[min(warm, len(samples) - 1)] for samples in memory]
    drifts = [abs(stream["drift_ms"]) for stream in streams if stream["drift_ms"] is not None]
    return {
        "receivers": len(streams), "pictures": [stream["pictures"] for stream in streams],
        "streams_each": [len(document["streams"]) for document in received],
        "watched_s": min(stream["watched_s"] for stream in streams), "fps": min(stream["fps"] for stream in streams),
        "freeze_ratio": max(stream["freeze_ratio"] for stream in streams),
        "longest_freeze_s": max(stream["longest_freeze_s"] for stream in streams),
        "p95_ms": max(stream["glass_to_glass_ms"]["p95"] for stream in streams),
        "drift_ms": max(drifts, default=None), "keys": sent["stream"]["keys"], "frames": sent["stream"]["frames"],
        "growth_mib": {"sender": round(grown[0], 1), "receivers": round(max(grown[1:]), 1)},
        "memory_mib": {"sender": round(memory[0][-1]), "receivers": round(max(m[-1] for m in memory[1:]))},
    }  # fmt: skip

"""Counts what the headers of guide pictures say, for the probabilities of common/av1_headers.py.

    python -m training.headers CLIPS_FOLDER [CLIPS]

Clips go through the real sender at rates from 8 to 400 kbit/s. Writes common/assets/av1_headers.json: for each kind of
symbol, and each context that it stands in, how often each symbol came. A change there is a change of the bitstream.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from common.av1_headers import Symbols, expand, write_header
from common.config import Config
from common.errors import SemcastError
from common.tables import HEADER_TABLES
from common.types import Frame, UnitKind
from common.units import FrameUnit, StreamConfig
from common.wire import parse_unit
from sender.labels import BlankAnalyzer
from sender.pipeline import SenderSession
from sender.rate import FILE, RateTarget
from training.clips import ClipFrames, list_clips, read_clip

SIZES = ((512, 512), (256, 256), (640, 368))
RATES_BPS = (8_000, 16_000, 24_000, 48_000, 100_000, 400_000)
FRAMES, PROBE_FRAMES = 150, 13

Counts = dict[str, NDArray[np.int64]]
"""Kind of symbol -> [context, symbol]."""


class Counting:
    """Counts symbols (a `common.av1_headers.Symbols`)."""

    def __init__(self) -> None:
        self.counts: Counts = {
            name: np.zeros((len(tables), len(tables[0].frequencies)), np.int64)
            for name, tables in HEADER_TABLES.items()
        }

    def symbol(self, table: str, row: int, wanted: int) -> int:
        self.counts[table][row, wanted] += 1
        return wanted

    def raw(self, bits: int, wanted: int) -> int:
        return wanted


def clip_counts(clip: ClipFrames, size: tuple[int, int], rate_bps: float, counting: Symbols) -> None:
    """Send a clip, and hand every header of its inter pictures to `counting`."""
    stream = StreamConfig(0, *size, clip.frame_rate, 1 / clip.frame_rate, clip.colour)
    target = RateTarget(rate_bps, float(clip.frame_rate))
    session = SenderSession(stream, Config(), BlankAnalyzer(), target, FILE, len(clip.pictures))
    frames = [
        Frame(picture, slot, stream.time_base, slot, clip.colour)
        for slot, picture in enumerate(clip.pictures)
    ]
    session.probe(frames[:PROBE_FRAMES])
    try:
        for frame in frames:
            before = session.state
            for unit in session.step(frame).units:
                if unit.kind is UnitKind.FRAME and not unit.key and before.headers is not None:
                    parsed = parse_unit(unit.data, frame.slot, before.digest)
                    assert isinstance(parsed, FrameUnit) and parsed.guide is not None
                    coded, _ = expand(parsed.guide, before.headers, frame.slot)
                    write_header(coded, before.headers, frame.slot, counting)
    finally:
        session.close()


def count(paths: Sequence[Path], seed: int = 1) -> Counts:
    """Counts over these clips; unreadable ones are left out."""
    rng, counting = np.random.default_rng(seed), Counting()
    for path in track(list(paths), "headers"):
        size = SIZES[int(rng.integers(len(SIZES)))]
        for rate_bps in rng.choice(RATES_BPS, 2, replace=False):
            try:
                clip = read_clip(path, size, FRAMES, int(rng.integers(0, 40)))
            except SemcastError:
                continue
            if clip.pictures:
                clip_counts(clip, size, float(rate_bps), counting)
    return counting.counts


def as_text(counts: Counts) -> str:
    """JSON, one context a line."""
    kinds = (
        f' "{name}": [\n' + ",\n".join(f"  {json.dumps(row.tolist())}" for row in rows) + "\n ]"
        for name, rows in counts.items()
    )
    return "{\n" + ",\n".join(kinds) + "\n}\n"


if __name__ == "__main__":
    every = list_clips(Path(sys.argv[1]))
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 48
    chosen = np.random.default_rng(3).permutation(len(every))[:number]
    target_file = Path(__file__).parent.parent / "common/assets/av1_headers.json"
    target_file.write_text(as_text(count([every[i] for i in chosen])), encoding="utf-8")
    print(target_file)

"""Quality inside boxes of a clip, such as mouth and eyes, at equal rate.

    python -m benchmarks.regions CLIP eyes=120,185,290,60 mouth=190,262,150,72 [--rates 16k,24k,40k] [--seconds 6]

A sharp face whose lips do not move is a failure that means over whole pictures hide. Each box (x, y, width, height in
pixels of a 512x512 picture) is compared with SVT-AV1's ladder: luma PSNR of the mean squared error inside it over all
frames, and the percentage of bits that we need more for the same. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.envelope import Envelope, curve_through, quality_at_rate, rate_gap
from benchmarks.peers import SVT_AV1, round_trip
from benchmarks.plans import Clip
from benchmarks.rd_clip import Loaded, Material
from benchmarks.rd_quality import Metrics
from benchmarks.rd_runs import OurRun
from benchmarks.tables import Cells, rich_table
from common.config import load_config
from common.errors import SemcastError, UsageError
from common.types import Picture

SCALES = (1, 2, 4)
LEVELS = ("base", "output")

Box = tuple[int, int, int, int]


def parse_box(text: str) -> tuple[str, Box]:
    """`name=x,y,width,height`; UsageError otherwise."""
    name, _, numbers = text.partition("=")
    try:
        x, y, width, height = (int(number) for number in numbers.split(","))
    except ValueError:
        raise UsageError(f"`{text}` is not a box: give name=x,y,width,height in pixels") from None
    if not name or min(x, y) < 0 or min(width, height) < 1:
        raise UsageError(f"`{text}` is not a box: give it a name, and sides of at least one pixel")
    return name, (x, y, width, height)


def box_psnr(pictures: Sequence[Picture], source: Sequence[Picture], box: Box) -> float:
    """PSNR of the luma in a box over a clip, dB; UsageError for a box outside the pictures."""
    x, y, width, height = box
    rows, columns = source[0].y.shape
    if x + width > columns or y + height > rows:
        raise UsageError(
            f"the box {x},{y},{width},{height} leaves pictures of {columns}x{rows}: make it smaller"
        )
    inside = np.s_[y : y + height, x : x + width]
    squared = [
        np.mean(np.square(ours.y[inside].astype(np.float32) - true.y[inside]))
        for ours, true in zip(pictures, source, strict=True)
    ]
    return float(10 * np.log10(255.0**2 / max(float(np.mean(squared)), 1e-4)))


def ladder(clip: Loaded, boxes: Mapping[str, Box]) -> dict[str, Envelope]:
    """SVT-AV1 at all sizes and qualities, for each box."""
    source, found = clip.pictures, {}
    for scale in track(SCALES, "ladder", console=Console(stderr=True)):
        for crf in SVT_AV1.ladder:
            found[scale, crf] = round_trip(SVT_AV1, source, clip.frame_rate, scale, crf)
    envelopes = {}
    for name, box in boxes.items():
        pairs = {
            scale: [
                (clip.kbps(found[scale, crf][1]), box_psnr(found[scale, crf][0], source, box))
                for crf in SVT_AV1.ladder
            ]
            for scale in SCALES
        }
        curves = tuple(curve_through(f"svt-av1 1/{scale}", points) for scale, points in pairs.items())
        envelopes[name] = Envelope("psnr_yuv", curves)
    return envelopes


def compare(
    path: Path, boxes: Mapping[str, Box], rates: Sequence[str], seconds: float
) -> list[dict[str, object]]:
    """One row for each rate, box and level."""
    rows: list[dict[str, object]] = []
    envelopes: dict[str, Envelope] = {}
    with TemporaryDirectory() as folder:
        for rate in rates:
            config = load_config(None, ["stream.size=512x512", f"stream.bitrate_bps={rate}"])
            material = Material(Clip(name=path.stem, path=str(path)), config, seconds)
            clip, series, size = OurRun(material, LEVELS, Metrics(vmaf=False), False).pictures(Path(folder))
            envelopes = envelopes or ladder(clip, boxes)
            kbps = clip.kbps(size)
            for name, box in boxes.items():
                best = quality_at_rate(envelopes[name], kbps)
                for level in LEVELS:
                    psnr = box_psnr(series[level], clip.pictures, box)
                    rows.append(
                        {
                            "kbps": round(kbps, 2), "box": name, "level": level, "psnr_db": round(psnr, 3),
                            "ladder_db": best and round(best, 3),
                            "bits_percent": _percent(rate_gap(kbps, psnr, envelopes[name])),
                        }
                    )  # fmt: skip
    return rows


def _percent(gap: float | None) -> float | None:
    return None if gap is None else round(gap, 1)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regions", description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("boxes", nargs="+", metavar="NAME=X,Y,W,H")
    parser.add_argument("--rates", default="16k,24k,40k")
    parser.add_argument("--seconds", type=float, default=6.0)
    given = parser.parse_args(arguments)
    try:
        boxes = dict(parse_box(text) for text in given.boxes)
        rows = compare(given.clip, boxes, given.rates.split(","), given.seconds)
    except SemcastError as error:
        Console(stderr=True).print(str(error))
        sys.exit(error.exit_code)
    cells = tuple(tuple("-" if value is None else str(value) for value in row.values()) for row in rows)
    Console().print(rich_table(Cells("Luma PSNR in boxes", tuple(rows[0]), cells)))
    print(json.dumps({"clip": given.clip.name, "rows": rows}))


if __name__ == "__main__":
    main(sys.argv[1:])

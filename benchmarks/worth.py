"""What a network call is worth, and what spending calls where they help saves: `python -m benchmarks.worth CLIP...`.

    clip --sender, at each rate--> scenes -> painted by every policy of spending -> quality, calls a picture
                                         -> detail carried over from 1, 2 and 4 pictures before -> share that it keeps

The first table is what `receiver/budget.py` is set by: what a step gains over the base picture, by guide scale, and what
is left of it when it is carried over, by how much the base picture has changed. The second one says what the policy
reaches, beside calls spent evenly. Set the constants by clips that the decoder was not trained on, and judge by others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.ablation_runs import Seen, scenes_of
from benchmarks.files import encoded, open_input, open_sender
from benchmarks.plans import Clip
from benchmarks.rd_clip import Loaded, Material
from benchmarks.rd_quality import Judge, Metrics, Quality
from benchmarks.tables import Cells, rich_table
from common.colour import crop
from common.config import Config, load_config
from common.container import SgvWriter
from common.errors import SemcastError
from common.types import Picture
from receiver.budget import best_of, worth_at
from receiver.decoder.carry import Detail, carried
from receiver.decoder.memory import half_size
from receiver.painter import Painter, open_painter
from sender.rate import FILE

BACK = (1, 2, 4)
"""From how many pictures before detail is carried over, for the table."""
BASE, EVERY = "base picture", "every picture"

Choice = Callable[[Painter, Seen, int], str]
"""The level for a scene, given the number of the picture."""


def policies(least_gains: Sequence[float]) -> dict[str, Choice]:
    """Ways to spend network calls, by name."""
    even: dict[str, Choice] = {
        BASE: lambda painter, seen, number: "base",
        EVERY: lambda painter, seen, number: "bridge1",
        "2 of 3, base between": lambda painter, seen, number: "base" if number % 3 == 2 else "bridge1",
        "2 of 3, carried between": lambda painter, seen, number: "carry" if number % 3 == 2 else "bridge1",
        "1 of 2, carried between": lambda painter, seen, number: "carry" if number % 2 else "bridge1",
    }
    return even | {f"where it gains {least:g}": partial(_where_it_helps, least) for least in least_gains}


def _where_it_helps(least_gain: float, painter: Painter, seen: Seen, number: int) -> str:
    change = painter.change(seen.composition)
    return best_of(worth_at(painter.levels, seen.facts.guide_scale, change, least_gain))


@dataclass(frozen=True, slots=True)
class Kept:
    """Detail carried over from `back` pictures before. change : mean; share : of the gain in VMAF that is left"""

    back: int
    change: float
    share: float


@dataclass(frozen=True, slots=True)
class Spent:
    """A policy on a clip. calls : of the network, a picture"""

    policy: str
    calls: float
    quality: Quality


@dataclass(frozen=True, slots=True)
class ClipWorth:
    """One clip at one rate. scale : of the guide, the commonest"""

    clip: str
    kbps: float
    scale: int
    kept: tuple[Kept, ...] = field(default=())
    spent: tuple[Spent, ...] = field(default=())

    def gain(self) -> float:
        """Of a step, in VMAF points; 0 where there is no VMAF."""
        by_name = {one.policy: one.quality.vmaf or 0.0 for one in self.spent}
        return by_name[EVERY] - by_name[BASE]


def measure(path: Path, config: Config, seconds: float, least_gains: Sequence[float]) -> ClipWorth:
    """Send one clip and paint it in every way."""
    material = Material(Clip(name=path.stem, path=str(path)), config, seconds)
    with TemporaryDirectory() as folder:
        sgv = Path(folder) / "clip.sgv"
        loaded = _sent(material, sgv)
        scenes = scenes_of(sgv, len(loaded.frames))
        kbps = loaded.kbps(sgv.stat().st_size)
    judge, painter = loaded.judge(Metrics()), _open(config, scenes)
    spent = tuple(
        _spent(name, choose, painter, scenes, judge) for name, choose in policies(least_gains).items()
    )
    scales = [seen.facts.guide_scale for seen in scenes if seen is not None]
    result = ClipWorth(path.stem, kbps, max(set(scales), key=scales.count), spent=spent)
    base = next(one.quality.vmaf for one in spent if one.policy == BASE)
    if base is None or result.gain() <= 0:
        return result
    kept = tuple(_kept(back, painter, scenes, judge, base, result.gain()) for back in BACK)
    return ClipWorth(result.clip, kbps, result.scale, kept, spent)


def _sent(material: Material, path: Path) -> Loaded:
    with (
        open_input(material.clip.path, material.config, material.seconds) as source,
        SgvWriter(path) as writer,
    ):
        sender = open_sender(source, material.config, FILE)
        try:
            frames = [frame for frame, _ in encoded(source, sender, writer)]
        finally:
            sender.close()
        return Loaded(frames, source.frame_rate)


def _open(config: Config, scenes: Sequence[Seen | None]) -> Painter:
    first = scenes[0]
    assert first is not None
    return open_painter(config, config.stream.seed, first.composition.base.y.shape)


def _spent(name: str, choose: Choice, painter: Painter, scenes: Sequence[Seen | None], judge: Judge) -> Spent:
    painter.reset()
    pictures: list[Picture] = []
    calls = 0
    for number, (seen, source) in enumerate(zip(scenes, judge.source, strict=True)):
        if seen is None:
            pictures.append(pictures[-1])
            continue
        found = painter.render(*seen, choose(painter, seen, number), lambda: False)
        calls += found.steps_done
        pictures.append(crop(found.picture, source.width, source.height))
    return Spent(name, calls / len(scenes), judge.quality(pictures))


def _kept(
    back: int, painter: Painter, scenes: Sequence[Seen | None], judge: Judge, base: float, gain: float
) -> Kept:
    """Every picture with the detail of the one `back` before it, which was painted."""
    painter.reset()
    pictures: list[Picture] = []
    changes: list[float] = []
    details: list[Detail] = []
    for seen, source in zip(scenes, judge.source, strict=True):
        if seen is None:
            pictures.append(pictures[-1])
            continue
        found, under = painter.render(*seen, "bridge1", lambda: False), seen.composition.base
        picture, small = found.picture, half_size(under)
        if len(details) == back:
            picture = carried(details[0], seen.composition)
            changes.append(details[0].change(small) or 0.0)
        if found.steps_done and found.uncertainty is not None:
            details = [*details, Detail(under, small, found.picture, found.uncertainty)][-back:]
        pictures.append(crop(picture, source.width, source.height))
    vmaf = judge.quality(pictures).vmaf or base
    return Kept(back, float(np.mean(changes)) if changes else 0.0, (vmaf - base) / gain)


# --- tables -------------------------------------------------------------------------------------------------------


def calibration_table(clips: Sequence[ClipWorth]) -> Cells:
    """What `receiver.budget.GAINS` and `FORGETTING` are set by."""
    head = (
        "clip",
        "kbit/s",
        "guide scale",
        "a step gains, VMAF",
        *(f"change, kept from {n} before" for n in BACK),
    )
    rows = tuple(
        (
            one.clip, f"{one.kbps:.1f}", str(one.scale), f"{one.gain():.2f}",
            *(f"{kept.change:.2f}, {100 * kept.share:.0f} %" for kept in one.kept), *[""] * (len(BACK) - len(one.kept)),
        )
        for one in sorted(clips, key=lambda one: (one.scale, one.clip))
    )  # fmt: skip
    return Cells("What a network call is worth", head, rows)


def policy_table(clips: Sequence[ClipWorth]) -> Cells:
    """Means over the clips of each policy, and of what it gains over the base picture."""
    head = ("policy", "calls a picture", "PSNR, dB", "MS-SSIM", "VMAF", "feature distance", "warping error")
    rows = []
    for place, first in enumerate(clips[0].spent):
        same = [one.spent[place] for one in clips]
        figures = (
            _mean([one.quality.psnr_yuv for one in same], 3), _mean([one.quality.ms_ssim for one in same], 5),
            _mean([one.quality.vmaf for one in same], 2), _mean([one.quality.feature_distance for one in same], 5),
            _mean([one.quality.warping_error for one in same], 3),
        )  # fmt: skip
        rows.append((first.policy, _mean([one.calls for one in same], 2), *figures))
    return Cells(f"Calls spent, mean of {len(clips)} clip(s)", head, tuple(rows))


def _mean(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.{digits}f}" if known else "-"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worth", description=__doc__)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--rates", default="24k")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--least-gains", default="0.25,0.5,1")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="SECTION.KEY=VALUE")
    given = parser.parse_args(arguments)
    least_gains = [float(text) for text in given.least_gains.split(",")]
    console, found = Console(stderr=True), []
    try:
        for rate in given.rates.split(","):
            usual = ["stream.size=512x512", "receiver.threads=1", f"stream.bitrate_bps={rate}"]
            config = load_config(None, [*usual, *given.settings])
            for path in track(given.clips, rate, console=console):
                found.append(measure(path, config, given.seconds, least_gains))
    except SemcastError as error:
        console.print(str(error))
        sys.exit(error.exit_code)
    out = Console(width=None if sys.stdout.isatty() else 150)
    out.print(rich_table(calibration_table(found)))
    out.print(rich_table(policy_table(found)))
    print(json.dumps({"clips": [asdict(one) for one in found]}))


if __name__ == "__main__":
    main(sys.argv[1:])

"""What `semcast bench rd` measures of a series of pictures, ours or a peer's, against one clip.

    psnr_yuv, ms_ssim, vmaf    on every picture
    feature_distance           in the features of the shipped label network, on pictures spread over the clip
    lpips, dists               likewise, where the user has given a backbone file; otherwise there is no such figure
    warping_error              over the source's own, on pairs spread over the clip

The first six are qualities: at equal ones rates are compared (benchmarks/envelope.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from benchmarks.temporal import Steadiness, spread
from common import quality
from common.labelnet import LabelNet, feature_distance, load_labelnet
from common.perceptual import load_dists, load_lpips
from common.types import Colour, Picture
from common.weights import shipped

MetricName = Literal["psnr_yuv", "ms_ssim", "vmaf", "feature_distance", "lpips", "dists"]
MeasureName = MetricName | Literal["warping_error"]

METRICS: tuple[MetricName, ...] = get_args(MetricName)
MEASURES: tuple[MeasureName, ...] = (*METRICS, "warping_error")
OPTIONAL: tuple[MeasureName, ...] = ("lpips", "dists")
"""Those that nobody misses where they were not asked for."""
DISTANCES: frozenset[MeasureName] = frozenset({"feature_distance", "lpips", "dists"})
"""Metrics of which less is better."""

LABELS: Mapping[MeasureName, str] = {
    "psnr_yuv": "PSNR", "ms_ssim": "MS-SSIM", "vmaf": "VMAF", "feature_distance": "feature distance",
    "lpips": "LPIPS", "dists": "DISTS", "warping_error": "warping error",
}  # fmt: skip

VERSION = 1
"""Raised when the meaning of a figure changes: stored ones are not taken for new ones then."""


@dataclass(frozen=True, slots=True)
class Quality:
    """One series of pictures.

    psnr_yuv : mean over pictures, dB, (6 Y + U + V) / 8
    ms_ssim : mean over pictures, luma, 0..1
    vmaf : mean over pictures, 0..100; None where it was not asked for or is not available
    feature_distance, lpips, dists : means over some pictures, 0 for equal ones; None where there is no backbone file
    warping_error : over the source's own; None where that is zero
    """

    psnr_yuv: float
    ms_ssim: float
    vmaf: float | None = None
    feature_distance: float | None = None
    lpips: float | None = None
    dists: float | None = None
    warping_error: float | None = None

    def goodness(self, metric: MetricName) -> float | None:
        """The metric, negated where less is better."""
        value: float | None = getattr(self, metric)
        return -value if value is not None and metric in DISTANCES else value


@dataclass(frozen=True, slots=True)
class Metrics:
    """What is measured besides what always is. lpips, dists : backbone files (common/perceptual.py), None without"""

    vmaf: bool = True
    lpips: str | None = None
    dists: str | None = None

    def stamp(self) -> list[object]:
        """What figures depend on besides the pictures."""
        files = [name and (name, *_version_of(Path(name))) for name in (self.lpips, self.dists)]
        return [VERSION, self.vmaf, shipped()["labels"].sha256, *files]


class Judge:
    """Measures any number of series against one clip; what is found on the clip alone is found once."""

    def __init__(
        self,
        source: Sequence[Picture],
        frame_rate: Fraction,
        metrics: Metrics = Metrics(),
        colour: Colour = Colour(),
    ) -> None:
        """source : at least one picture, all of one size. WeightsError for a backbone file that does not fit."""
        torch.set_num_threads(1)  # there is a process for each core, and sums must not depend on how many
        self.source, self.frame_rate, self.metrics = source, frame_rate, metrics
        self._lpips = load_lpips(Path(metrics.lpips), colour) if metrics.lpips else None
        self._dists = load_dists(Path(metrics.dists), colour) if metrics.dists else None

    def quality(self, pictures: Sequence[Picture]) -> Quality:
        """pictures : as many as the source has, of its size; ValueError otherwise."""
        pairs = list(zip(self.source, pictures, strict=True))
        some = [pairs[index] for index in spread(len(pairs))]
        return Quality(
            psnr_yuv=_mean(quality.psnr_yuv, pairs),
            ms_ssim=_mean(quality.ms_ssim, pairs),
            vmaf=quality.vmaf(self.source, pictures, self.frame_rate).value if self.metrics.vmaf else None,
            feature_distance=_mean(lambda a, b: feature_distance(a, b, _label_net()), some),
            lpips=_mean(self._lpips.distance, some) if self._lpips else None,
            dists=_mean(self._dists.distance, some) if self._dists else None,
            warping_error=self._steadiness.warping_error_ratio(pictures).value,
        )

    @cached_property
    def _steadiness(self) -> Steadiness:
        return Steadiness(self.source)


def _mean(measure: Callable[[Picture, Picture], float], pairs: Sequence[tuple[Picture, Picture]]) -> float:
    return float(np.mean([measure(a, b) for a, b in pairs]))


@cache
def _label_net() -> LabelNet:
    return load_labelnet()


def _version_of(path: Path) -> tuple[int, int]:
    """What tells a file from another version of it without reading it; (0, 0) for none, which fails when it is read."""
    if not path.is_file():
        return 0, 0
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns

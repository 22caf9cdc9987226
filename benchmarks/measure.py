"""All quality figures of one series of pictures against the source, per picture and in the mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import PictureQuality
from common import quality
from common.quality import Metric
from common.types import Picture

if TYPE_CHECKING:
    from common.perceptual import PerceptualNet


@dataclass(frozen=True, slots=True)
class Instruments:
    """What the optional metrics need; None leaves a metric out, with the reason in the report.

    label : picture -> label map, for the agreement of meaning
    feature_distance : two pictures -> distance in the label network's feature space
    lpips, dists : networks from `common.perceptual`
    with_vmaf : run libvmaf
    stride : the optional metrics look at every `stride`-th picture, since they take longest
    """

    label: Callable[[Picture], NDArray[np.uint8]] | None = None
    feature_distance: Callable[[Picture, Picture], float] | None = None
    lpips: PerceptualNet | None = None
    dists: PerceptualNet | None = None
    with_vmaf: bool = True
    stride: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """psnr_yuv [N] dB and ms_ssim [N] per picture, and the means of everything."""

    psnr_yuv: NDArray[np.float64]
    ms_ssim: NDArray[np.float64]
    means: PictureQuality


def measure(
    reference: Sequence[Picture], pictures: Sequence[Picture], frame_rate: Fraction, with_: Instruments
) -> Measured:
    """Compare two series of equally many pictures of one size; raises ValueError for anything else."""
    if len(reference) != len(pictures) or not reference:
        raise ValueError(f"need equally many pictures, got {len(reference)} and {len(pictures)}")
    pairs = list(zip(reference, pictures, strict=True))
    psnr_yuv = np.array([quality.psnr_yuv(a, b) for a, b in pairs])
    ms_ssim = np.array([quality.ms_ssim(a, b) for a, b in pairs])
    metrics = {
        "psnr_yuv": Metric(float(psnr_yuv.mean())),
        "ms_ssim": Metric(float(ms_ssim.mean())),
        "warping_error_ratio": quality.warping_error_ratio(reference, pictures),
        "flicker": quality.flicker(reference, pictures),
        **_optional(pairs[:: with_.stride], with_),
    }
    if with_.with_vmaf:
        metrics["vmaf"] = quality.vmaf(reference, pictures, frame_rate)
    return Measured(psnr_yuv, ms_ssim, PictureQuality.of(metrics))


def same_pictures(a: Sequence[Picture], b: Sequence[Picture]) -> bool:
    """Whether two equally long series agree in every sample."""
    return all(
        np.array_equal(p, q)
        for x, y in zip(a, b, strict=True)
        for p, q in zip(x.planes, y.planes, strict=True)
    )


def _optional(pairs: Sequence[tuple[Picture, Picture]], with_: Instruments) -> dict[str, Metric]:
    metrics = {
        "lpips": _mean([quality.lpips(a, b, with_.lpips) for a, b in pairs]),
        "dists": _mean([quality.dists(a, b, with_.dists) for a, b in pairs]),
    }
    if with_.feature_distance is not None:
        distances = [with_.feature_distance(a, b) for a, b in pairs]
        metrics["feature_distance"] = Metric(float(np.mean(distances)))
    if with_.label is not None:
        maps = [(with_.label(a), with_.label(b)) for a, b in pairs]
        stacked = (np.stack(series) for series in zip(*maps, strict=True))
        metrics["label_miou"] = Metric(quality.label_miou(*stacked))
    return metrics


def _mean(metrics: Sequence[Metric]) -> Metric:
    """Mean of the values, or the first reason why there is none."""
    values = [metric.value for metric in metrics if metric.value is not None]
    if len(values) < len(metrics):
        return next(metric for metric in metrics if metric.value is None)
    return Metric(float(np.mean(values)))

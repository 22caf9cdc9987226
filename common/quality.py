"""How good a picture is: fidelity, perception, semantics, time and honesty about uncertainty.

    fidelity     psnr_yuv  ms_ssim
    perception   vmaf  lpips  dists                 (each may be absent: `Metric` says why)
    semantics    label_miou
    time         warping_error_ratio  flicker
    uncertainty  coverage  ause

A metric that cannot be computed is never replaced by another one: it is `Metric(None, reason)`.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common.types import LABEL_CLASSES, Picture, Plane

if TYPE_CHECKING:
    from common.perceptual import PerceptualNet

Floats = NDArray[np.floating[Any]]

PSNR_CAP_DB = 99.0
"""What identical planes score, so that means stay finite."""

MS_SSIM_MIN_SIDE = 161
"""Smallest side on which five scales of an 11-tap window fit: (11 - 1) * 2**4 + 1."""

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, finest first (the paper's table 1)."""

DIS_MIN_SIDE = 64
"""OpenCV's DIS flow reads outside low and wide pictures (18x300 crashes); from here on it does not."""

VMAF_TIMEOUT_S = 1800.0
"""An ffmpeg that hangs must not hang the benchmark."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that may be absent.

    value : the figure, or None
    reason : why it is absent, None where it is present
    """

    value: float | None
    reason: str | None = None


def psnr_plane(a: Plane, b: Plane) -> float:
    """PSNR of two uint8 planes of one shape in dB, at most `PSNR_CAP_DB`."""
    _require_same_shape(a, b)
    difference = a.astype(np.int32) - b
    squared = float(np.mean(difference * difference, dtype=np.float64))
    if squared == 0.0:
        return PSNR_CAP_DB
    return min(PSNR_CAP_DB, 10.0 * float(np.log10(255.0 * 255.0 / squared)))


def psnr_yuv(a: Picture, b: Picture) -> float:
    """PSNR over all three planes weighted 6:1:1, in dB: (6 Y + U + V) / 8, the usual JVET weighting."""
    y, u, v = (psnr_plane(p, q) for p, q in zip(a.planes, b.planes, strict=True))
    return (6.0 * y + u + v) / 8.0


def ms_ssim(a: Picture, b: Picture) -> float:
    """Multi-scale structural similarity of the luma planes, 0..1 (Wang, Simoncelli, Bovik 2003).

    Equals the pytorch-msssim package (a test holds this to 1e-4) at a fraction of its time on a CPU. Sides
    under `MS_SSIM_MIN_SIDE` are extended by mirroring, which keeps all five scales and the local statistics
    of the picture; such figures compare with one another, not with those of larger pictures.
    """
    _require_same_shape(a.y, b.y)
    x, y = _ssim_input(a.y), _ssim_input(b.y)
    score = 1.0
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        luminance, contrast_structure = _ssim_terms(x, y)
        last = scale == len(MS_SSIM_WEIGHTS) - 1
        term = (luminance * contrast_structure if last else contrast_structure).mean(dtype=np.float64)
        score *= max(0.0, float(term)) ** weight
        x, y = _halve(x), _halve(y)
    return score


def vmaf(reference: Sequence[Picture], pictures: Sequence[Picture], frame_rate: Fraction) -> Metric:
    """Mean VMAF (0..100, model v0.6.1) by the libvmaf of imageio-ffmpeg's program.

    reference, pictures : equally many pictures of one size
    frame_rate : pictures per second
    Absent when the program is missing or refuses the pictures (libvmaf needs at least 16x16 or so).
    """
    if len(reference) != len(pictures) or not reference:
        raise ValueError(f"VMAF needs equally many pictures, got {len(reference)} and {len(pictures)}")
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        program = get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        return Metric(None, f"no ffmpeg with libvmaf: {error}; install imageio-ffmpeg")
    with tempfile.TemporaryDirectory(prefix="semcast-vmaf-") as name:
        folder = Path(name)
        _write_raw(folder / "reference.yuv", reference)
        _write_raw(folder / "distorted.yuv", pictures)
        return _run_vmaf(program, folder, reference[0], frame_rate)


def lpips(a: Picture, b: Picture, net: PerceptualNet | None) -> Metric:
    """LPIPS distance, 0 is identical (Zhang et al. 2018). `net` comes from `common.perceptual.load_lpips`."""
    return _perceptual("LPIPS", a, b, net)


def dists(a: Picture, b: Picture, net: PerceptualNet | None) -> Metric:
    """DISTS distance, 0 is identical (Ding et al. 2020). `net` comes from `common.perceptual.load_dists`."""
    return _perceptual("DISTS", a, b, net)


def label_miou(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean intersection over union of two label maps of one shape, over the classes either contains; 0..1.

    a, b : any shape, so a whole clip may be stacked; values 0..20
    """
    _require_same_shape(a, b)
    if a.size == 0:
        raise ValueError("label maps are empty")
    pairs = a.astype(np.int64).ravel() * LABEL_CLASSES + b.ravel()
    confusion = np.bincount(pairs, minlength=LABEL_CLASSES**2).reshape(LABEL_CLASSES, LABEL_CLASSES)
    intersection = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - intersection
    present = union > 0
    return float(np.mean(intersection[present] / union[present]))


def warping_error_ratio(source: Sequence[Picture], output: Sequence[Picture]) -> Metric:
    """Temporal instability of the output relative to the source's own; 1 is as steady as the source.

    The warping error (Lai et al. 2018) is the mean |current - warp(previous)| of luma where the flow can be
    trusted; the flow is DIS on the source, for both. Absent for fewer than two pictures and for a source
    that flow explains entirely, a still one above all (look at `flicker` there).
    """
    errors = np.array([_warping_errors(*pair) for pair in _consecutive(source, output)])
    if errors.size == 0:
        return Metric(None, "warping error needs at least two pictures")
    of_source, of_output = errors.mean(axis=0)
    if of_source < 1e-3:
        return Metric(None, "the source's own warping error is zero (nothing but exact shifts)")
    return Metric(float(of_output / of_source))


def flicker(source: Sequence[Picture], output: Sequence[Picture]) -> Metric:
    """Mean change of the luma error from one picture to the next, in 8-bit steps; 0 is none."""
    changes = [
        float(np.abs((_signed(now_out) - _signed(now)) - (_signed(was_out) - _signed(was))).mean())
        for was, now, was_out, now_out in _consecutive(source, output)
    ]
    return Metric(float(np.mean(changes))) if changes else Metric(None, "flicker needs at least two pictures")


def coverage(error: Floats, sigma: Floats, level: float = 0.9) -> float:
    """Fraction of samples whose error lies within the Gaussian interval that sigma promises for `level`.

    error, sigma : one shape; sigma >= 0 in the unit of the error
    level : probability in (0, 1); a calibrated map gives a coverage of exactly `level`
    """
    _require_same_shape(error, sigma)
    half_width = NormalDist().inv_cdf(0.5 + level / 2.0)
    return float(np.mean(np.abs(error) <= half_width * sigma))


def ause(error: Floats, uncertainty: Floats, steps: int = 50) -> float:
    """Area under the sparsification error curve (Ilg et al. 2018); 0 ranks the errors perfectly.

    The most uncertain samples are removed step by step; the mean error of the rest, divided by the mean of
    all, is compared with an oracle that removes the largest errors. Near 0.5 it is chance.
    """
    _require_same_shape(error, uncertainty)
    magnitude = np.abs(error).astype(np.float64).ravel()
    total = float(magnitude.mean())
    if total == 0.0:
        return 0.0
    by_uncertainty = magnitude[np.argsort(uncertainty.ravel(), kind="stable")]
    gap = _kept_means(by_uncertainty, steps) - _kept_means(np.sort(magnitude), steps)
    return float(gap.mean() / total)


def ause_of_constant(error: Floats, steps: int = 50) -> float:
    """What `ause` comes to for a map that is the same everywhere, so that samples are removed in any order."""
    magnitude = np.sort(np.abs(error).astype(np.float64).ravel())
    total = float(magnitude.mean())
    return 0.0 if total == 0.0 else float(1.0 - _kept_means(magnitude, steps).mean() / total)


def _require_same_shape(a: NDArray[Any], b: NDArray[Any]) -> None:
    if a.shape != b.shape:
        raise ValueError(f"cannot compare shapes {a.shape} and {b.shape}")


def _ssim_input(plane: Plane) -> Floats:
    """[H, W] float32 in 0..255, mirrored up to `MS_SSIM_MIN_SIDE`."""
    missing = [max(0, MS_SSIM_MIN_SIDE - side) for side in plane.shape]
    return np.pad(plane, [(m // 2, m - m // 2) for m in missing], mode="symmetric").astype(np.float32)


def _ssim_terms(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Luminance and contrast-structure maps of SSIM, where the whole 11-tap Gaussian window fits."""
    c1, c2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    covariance = _window_mean(x * y) - mean_x * mean_y
    variances = _window_mean(x * x + y * y) - mean_x * mean_x - mean_y * mean_y
    luminance = (2.0 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance, (2.0 * covariance + c2) / (variances + c2)


def _window_mean(image: Floats) -> Floats:
    """Mean under a Gaussian of sigma 1.5 and 11 taps, [H - 10, W - 10]."""
    import cv2

    return np.asarray(cv2.GaussianBlur(image, (11, 11), 1.5), np.float32)[5:-5, 5:-5]


def _halve(image: Floats) -> Floats:
    """Mean of 2x2 blocks; an odd side gets a zero row or column in front, as pytorch-msssim has it."""
    even = np.pad(image, [(side % 2, 0) for side in image.shape])
    rows = even[0::2] + even[1::2]
    return (rows[:, 0::2] + rows[:, 1::2]) * np.float32(0.25)


def _write_raw(path: Path, pictures: Sequence[Picture]) -> None:
    with path.open("wb") as file:
        for picture in pictures:
            for plane in picture.planes:
                file.write(np.ascontiguousarray(plane).data)


def _run_vmaf(program: str, folder: Path, first: Picture, frame_rate: Fraction) -> Metric:
    """Run in `folder`, so that no path has to survive the filter's quoting."""
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", f"{first.width}x{first.height}"]
    raw += ["-framerate", str(frame_rate), "-i"]
    command = [program, "-hide_banner", "-loglevel", "error", *raw, "distorted.yuv", *raw, "reference.yuv"]
    command += ["-lavfi", "[0:v][1:v]libvmaf=log_fmt=json:log_path=vmaf.json:n_threads=1", "-f", "null", "-"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=VMAF_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Metric(None, f"libvmaf did not run: {error}")
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        return Metric(None, f"libvmaf failed: {lines[-1]}")
    pooled = json.loads((folder / "vmaf.json").read_text())["pooled_metrics"]["vmaf"]
    return Metric(float(pooled["mean"]))


def _perceptual(name: str, a: Picture, b: Picture, net: PerceptualNet | None) -> Metric:
    if net is None:
        return Metric(None, f"{name} needs a local backbone file, none was given")
    return Metric(net.distance(a, b))


def _consecutive(
    source: Sequence[Picture], output: Sequence[Picture]
) -> Iterator[tuple[Plane, Plane, Plane, Plane]]:
    """Luma planes: source before, source now, output before, output now."""
    if len(source) != len(output):
        raise ValueError(f"needs equally many pictures, got {len(source)} and {len(output)}")
    for i in range(1, len(source)):
        yield source[i - 1].y, source[i].y, output[i - 1].y, output[i].y


def _signed(plane: Plane) -> NDArray[np.int16]:
    return plane.astype(np.int16)


def _warping_errors(was: Plane, now: Plane, was_out: Plane, now_out: Plane) -> tuple[float, float]:
    """Warping error of (source, output) in 8-bit steps over the pixels that the source's flow explains."""
    flow, trusted = trusted_flow(was, now)
    if not trusted.any():
        return 0.0, 0.0

    def error(before: Plane, after: Plane) -> float:
        return float(np.abs(_signed(after) - _signed(warp_back(before, flow)))[trusted].mean())

    return error(was, now), error(was_out, now_out)


def trusted_flow(was: Plane, now: Plane) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Flow now -> was [H, W, 2] in pixels, and where the way there and back agrees within a pixel."""
    import cv2

    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    height, width = was.shape
    was, now = (np.pad(p, [(0, max(0, DIS_MIN_SIDE - side)) for side in p.shape], "edge") for p in (was, now))
    back, forth = np.zeros((2, *was.shape, 2), np.float32)  # the estimator writes into them
    estimator.calc(now, was, back)
    estimator.calc(was, now, forth)
    round_trip = back + warp_back(forth, back)
    trusted = np.hypot(round_trip[..., 0], round_trip[..., 1]) < 1.0
    return back[:height, :width], trusted[:height, :width]


def warp_back(image: NDArray[Any], flow: NDArray[np.float32]) -> NDArray[Any]:
    """`image` sampled where `flow` points, bilinear, edges repeated."""
    import cv2

    rows, columns = np.indices(flow.shape[:2], dtype=np.float32)
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _kept_means(ascending: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Mean of the first part of `ascending`, for `steps` parts shrinking from all to the first 1 / steps."""
    sums = np.cumsum(ascending)
    kept = np.ceil(ascending.size * np.arange(steps, 0, -1) / steps).astype(np.int64)
    return np.asarray(sums[kept - 1] / kept, np.float64)

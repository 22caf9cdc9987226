"""Every metric against a value known from elsewhere or by construction."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim as reference_ms_ssim
from safetensors.torch import save_file

from common import perceptual, quality
from common.errors import WeightsError
from common.types import Colour, Picture


def textured(height: int, width: int, seed: int = 0) -> Picture:
    """Smooth random texture, so that blur, shift and noise all mean something."""
    rng = np.random.default_rng(seed)

    def plane(h: int, w: int) -> NDArray[np.uint8]:
        coarse = rng.integers(20, 235, (h // 4 + 2, w // 4 + 2), dtype=np.uint8)
        return np.asarray(cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC), np.uint8)

    return Picture(plane(height, width), plane(height // 2, width // 2), plane(height // 2, width // 2))


def noisy(picture: Picture, deviation: float, seed: int = 1) -> Picture:
    rng = np.random.default_rng(seed)
    planes = (
        np.clip(p + rng.normal(0.0, deviation, p.shape), 0, 255).astype(np.uint8) for p in picture.planes
    )
    return Picture(*planes)


def flat(value: int, height: int = 32, width: int = 48, chroma: int = 128) -> Picture:
    half = np.full((height // 2, width // 2), chroma, np.uint8)
    return Picture(np.full((height, width), value, np.uint8), half, half)


# --- fidelity


def test_psnr_yuv_weights_luma_six_times() -> None:
    luma_off = quality.psnr_yuv(flat(100), flat(110))
    chroma_off = quality.psnr_yuv(flat(100), flat(100, chroma=138))
    ten_steps_db = 20.0 * math.log10(255.0 / 10.0)
    assert luma_off == pytest.approx((6 * ten_steps_db + 2 * 99.0) / 8)
    assert chroma_off == pytest.approx((6 * 99.0 + 2 * ten_steps_db) / 8)


def test_psnr_of_identical_pictures_is_capped() -> None:
    assert quality.psnr_yuv(flat(7), flat(7)) == quality.PSNR_CAP_DB


def test_psnr_does_not_wrap_around() -> None:
    assert quality.psnr_plane(flat(0).y, flat(255).y) == 0.0


def test_metrics_refuse_other_shapes() -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        quality.psnr_yuv(flat(1), flat(1, height=34))
    with pytest.raises(ValueError, match="cannot compare"):
        quality.ms_ssim(flat(1), flat(1, height=34))


@pytest.mark.parametrize("side", [(256, 256), (202, 334), (176, 170)])
def test_ms_ssim_equals_pytorch_msssim(side: tuple[int, int]) -> None:
    a = textured(*side)
    b = noisy(a, 20.0)
    x, y = (torch.from_numpy(p.y.astype(np.float32))[None, None] for p in (a, b))
    assert quality.ms_ssim(a, b) == pytest.approx(float(reference_ms_ssim(x, y, data_range=255)), abs=1e-4)


@pytest.mark.parametrize("side", [(2, 2), (16, 40), (90, 160)])
def test_ms_ssim_of_small_pictures(side: tuple[int, int]) -> None:
    a = textured(*side)
    assert quality.ms_ssim(a, a) == pytest.approx(1.0)
    little, much = (quality.ms_ssim(a, noisy(a, deviation)) for deviation in (3.0, 60.0))
    assert 0.0 <= much < little < 1.0


# --- perception


def test_vmaf_ranks_noise_and_rates_the_same_picture_high() -> None:
    clip = [textured(96, 128, seed) for seed in range(3)]
    same = quality.vmaf(clip, clip, Fraction(30))
    worse = quality.vmaf(clip, [noisy(p, 25.0) for p in clip], Fraction(30))
    assert same.value is not None and worse.value is not None
    assert worse.value < 90.0 < same.value


def test_vmaf_says_why_it_is_absent() -> None:
    tiny = [flat(9, 2, 2)]
    metric = quality.vmaf(tiny, tiny, Fraction(30))
    assert metric.value is None and metric.reason is not None and "libvmaf" in metric.reason


def test_perceptual_metrics_without_weights_give_the_reason() -> None:
    for metric in (quality.lpips(flat(1), flat(2), None), quality.dists(flat(1), flat(2), None)):
        assert metric.value is None and metric.reason is not None and "backbone" in metric.reason


def random_weights(stages: tuple[tuple[perceptual._Conv, ...], ...]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in perceptual._backbone_shapes(stages).items():
        fan_in = math.prod(shape[1:])
        weights[name] = torch.randn(shape, generator=generator) * math.sqrt(2.0 / fan_in) * (len(shape) > 1)
    return weights


def alexnet_file(folder: Path) -> Path:
    weights = random_weights(perceptual._ALEXNET)
    for stage, channels in enumerate((64, 192, 384, 256, 256)):
        weights[f"lin{stage}.model.1.weight"] = torch.rand(1, channels, 1, 1) / channels
    save_file(weights, folder / "lpips.safetensors")
    return folder / "lpips.safetensors"


def test_lpips_with_local_weights(tmp_path: Path) -> None:
    net = perceptual.load_lpips(alexnet_file(tmp_path), Colour())
    a = textured(64, 96)
    assert quality.lpips(a, a, net).value == pytest.approx(0.0, abs=1e-6)
    little, much = (quality.lpips(a, noisy(a, deviation), net).value for deviation in (4.0, 40.0))
    assert little is not None and much is not None and 0.0 < little < much


def test_dists_with_local_weights(tmp_path: Path) -> None:
    weights = random_weights(perceptual._VGG16)
    weights |= {name: torch.rand(1, 1475, 1, 1) for name in ("alpha", "beta")}
    save_file(weights, tmp_path / "dists.safetensors")
    net = perceptual.load_dists(tmp_path / "dists.safetensors", Colour())
    a = textured(64, 64)
    assert quality.dists(a, a, net).value == pytest.approx(0.0, abs=1e-4)
    little, much = (quality.dists(a, noisy(a, deviation), net).value for deviation in (4.0, 40.0))
    assert little is not None and much is not None and 0.0 < little < much < 1.0


def test_perceptual_weights_that_are_missing_damaged_or_of_another_network(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read"):
        perceptual.load_lpips(tmp_path / "none.safetensors", Colour())
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(WeightsError, match="cannot read"):
        perceptual.load_lpips(tmp_path / "text.safetensors", Colour())
    with pytest.raises(WeightsError, match=r"features\.0\.weight should have shape"):
        perceptual.load_dists(alexnet_file(tmp_path), Colour())


# --- semantics


def test_label_miou_averages_over_classes_present() -> None:
    a = np.array([[0, 0, 15, 15]], np.uint8)
    b = np.array([[0, 15, 15, 15]], np.uint8)
    assert quality.label_miou(a, a) == 1.0
    assert quality.label_miou(a, b) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert quality.label_miou(a, np.full_like(a, 7)) == 0.0


# --- time


def panning(frames: int) -> list[Picture]:
    """A camera that pans 4 pixels a frame, with a little sensor noise."""
    wide = textured(64, 160)
    views = (Picture(wide.y[:, 4 * i : 4 * i + 96], wide.u[:, :48], wide.v[:, :48]) for i in range(frames))
    return [noisy(view, 1.0, seed) for seed, view in enumerate(views)]


def test_the_source_is_exactly_as_steady_as_itself() -> None:
    clip = panning(4)
    assert quality.warping_error_ratio(clip, clip).value == pytest.approx(1.0)
    assert quality.flicker(clip, clip).value == 0.0


def test_independent_noise_is_unsteady_but_a_fixed_offset_is_not() -> None:
    clip = panning(4)
    shimmering = [noisy(p, 12.0, 100 + seed) for seed, p in enumerate(clip)]
    offset = [Picture(np.minimum(p.y, 245) + np.uint8(10), p.u, p.v) for p in clip]
    ratio, steady = (quality.warping_error_ratio(clip, o).value for o in (shimmering, offset))
    assert ratio is not None and steady is not None
    assert ratio > 1.5 > steady
    unsteady, still = (quality.flicker(clip, o).value for o in (shimmering, offset))
    assert unsteady is not None and still is not None
    assert unsteady > 5.0 > still


@pytest.mark.parametrize("side", [(2, 2), (18, 300), (300, 18)])
def test_warping_error_of_low_and_wide_pictures(side: tuple[int, int]) -> None:
    clip = [noisy(textured(*side), 4.0, seed) for seed in range(2)]
    assert quality.warping_error_ratio(clip, clip).value == pytest.approx(1.0)


def test_temporal_metrics_say_why_they_are_absent() -> None:
    assert quality.warping_error_ratio([flat(1)], [flat(1)]).reason is not None
    assert quality.flicker([flat(1)], [flat(1)]).reason is not None
    still = quality.warping_error_ratio([flat(1)] * 3, [flat(1), flat(9), flat(1)])
    assert still.value is None and still.reason is not None and "zero" in still.reason
    with pytest.raises(ValueError, match="equally many"):
        quality.flicker([flat(1)] * 2, [flat(1)] * 3)


# --- uncertainty


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_a_calibrated_sigma_covers_what_it_promises(level: float) -> None:
    rng = np.random.default_rng(0)
    sigma = rng.uniform(0.5, 5.0, 200_000)
    error = rng.normal(0.0, sigma)
    assert quality.coverage(error, sigma, level) == pytest.approx(level, abs=0.005)
    assert quality.coverage(error, sigma / 3.0, level) < level - 0.1


def test_ause_is_zero_for_the_right_order_and_large_for_the_wrong_one() -> None:
    rng = np.random.default_rng(0)
    error = rng.exponential(1.0, 20_000)
    right, chance, wrong = (
        quality.ause(error, ranking) for ranking in (error**2, rng.uniform(size=error.size), -error)
    )
    assert right == pytest.approx(0.0, abs=1e-9)
    assert 0.3 < chance < 0.7 < wrong
    assert quality.ause(np.zeros(10), np.ones(10)) == 0.0


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_ause_is_never_negative(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert quality.ause(rng.normal(size=size), rng.uniform(size=size)) >= -1e-9

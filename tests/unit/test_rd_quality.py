"""What the rate-distortion bench measures of a series of pictures."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.rd_quality import Judge, Metrics, Quality
from common.errors import WeightsError
from common.types import Picture
from tests.unit.test_quality import alexnet_file


def shifting(frames: int) -> list[Picture]:
    """A texture that moves by two pixels a frame, with some noise."""
    rng = np.random.default_rng(2)
    coarse = rng.integers(30, 220, (32, 64), dtype=np.uint8)
    wide = cv2.resize(coarse, (256, 64), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    chroma = np.full((32, 64), 128, np.uint8)
    views = (wide[:, 2 * i : 2 * i + 128] + rng.integers(-3, 4, (64, 128)) for i in range(frames))
    return [Picture(np.clip(view, 0, 255).astype(np.uint8), chroma, chroma) for view in views]


def test_all_measures_of_a_series() -> None:
    source = shifting(4)
    judge = Judge(source, Fraction(25), Metrics(vmaf=False))
    same = judge.quality(source)
    assert same == Quality(99.0, pytest.approx(1.0), None, 0.0, None, None, pytest.approx(1.0))  # type: ignore[arg-type]
    rng = np.random.default_rng(3)
    noisy = [dataclasses.replace(p, y=p.y ^ rng.integers(0, 32, p.y.shape, dtype=np.uint8)) for p in source]
    found = judge.quality(noisy)
    assert found.feature_distance is not None and found.feature_distance > 0
    assert found.goodness("feature_distance") == -found.feature_distance
    assert found.warping_error is not None and found.warping_error > 1.5
    assert found.goodness("vmaf") is None and found.goodness("psnr_yuv") == found.psnr_yuv


def test_lpips_is_measured_with_a_backbone_file(tmp_path: Path) -> None:
    file, source = alexnet_file(tmp_path), shifting(2)
    metrics = Metrics(vmaf=False, lpips=str(file))
    found = Judge(source, Fraction(25), metrics).quality(source[::-1])
    assert found.lpips is not None and found.lpips > 0 and found.dists is None
    before = metrics.stamp()
    file.write_bytes(b"another")
    assert metrics.stamp() != before


def test_a_backbone_file_that_is_not_there_is_said_not_replaced() -> None:
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        Judge(shifting(2), Fraction(25), Metrics(vmaf=False, lpips="none.safetensors"))

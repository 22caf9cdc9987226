"""The warping error against one clip."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.temporal import Steadiness, spread
from common.quality import warping_error_ratio
from common.types import Picture

CHROMA = np.full((32, 48), 128, np.uint8)


def panning(frames: int, noise: int, seed: int = 0) -> list[Picture]:
    """A texture that moves by four pixels a frame; noise : largest, in 8-bit steps."""
    coarse = np.random.default_rng(0).integers(30, 220, (16, 40), dtype=np.uint8)
    wide = cv2.resize(coarse, (160, 64), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    rng = np.random.default_rng(seed)
    return [
        Picture(np.clip(wide[:, 4 * i : 4 * i + 96] + rng.integers(-noise, noise + 1, (64, 96)), 0, 255)
                .astype(np.uint8), CHROMA, CHROMA)
        for i in range(frames)
    ]  # fmt: skip


def test_it_is_the_figure_that_every_pair_gives() -> None:
    source, shimmering = panning(5, 2), panning(5, 20, 1)
    judge = Steadiness(source)
    assert judge.warping_error_ratio(source).value == pytest.approx(1.0)
    ratio = judge.warping_error_ratio(shimmering).value
    assert ratio == pytest.approx(warping_error_ratio(source, shimmering).value)
    assert ratio is not None and ratio > 2


def test_a_steady_blur_is_steadier_than_the_source() -> None:
    source = panning(5, 8)
    blurred = [Picture(cv2.GaussianBlur(p.y, (0, 0), 3.0), p.u, p.v) for p in source]
    ratio = Steadiness(source).warping_error_ratio(blurred).value
    assert ratio is not None and ratio < 0.8


def test_only_so_many_pairs_are_looked_at() -> None:
    source = panning(9, 3)
    shaken = [Picture(255 - p.y, p.u, p.v) if i == 4 else p for i, p in enumerate(source)]
    looked_at = [spread(8, most) for most in (2, 8, 99)]
    assert looked_at == [[0, 7], list(range(8)), list(range(8))]
    few, all_of_them = (Steadiness(source, most).warping_error_ratio(shaken).value for most in (2, 8))
    assert few == pytest.approx(1.0) and all_of_them is not None and all_of_them > 1.5


def test_it_says_why_it_is_absent() -> None:
    (alone,), still = panning(1, 0), panning(1, 0) * 3
    assert "two pictures" in (Steadiness([alone]).warping_error_ratio([alone]).reason or "")
    assert "zero" in (Steadiness(still).warping_error_ratio(panning(3, 5)).reason or "")
    with pytest.raises(ValueError, match="needs 3 pictures, got 2"):
        Steadiness(still).warping_error_ratio(still[:2])

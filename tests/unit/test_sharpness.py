"""How strongly to sharpen: never so that squared error or structure suffer, and told only where that pays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.fusion import downsample_plane, upsample_plane
from common.motion import Int16
from common.quality import ms_ssim
from common.sharpen import MAX_STRENGTH, best_strength, edge_detail, sharpened
from common.state import SceneState, initial_state
from common.types import Picture, Plane
from common.units import FrameUnit
from sender.sharpness import graded, harmless, spared, structure_gains
from tests.small_stream import STREAM

SIDE, SCALE, QUALITY = 192, 2, 50
FLAT = np.full((SIDE // 2, SIDE // 2), 128, np.uint8)
FRAME = FrameUnit(7, guide=b"guide")
STRENGTHS = range(MAX_STRENGTH + 1)


def drawing(seed: int) -> Plane:
    """Discs and bars with hard edges."""
    rng, luma = np.random.default_rng(seed), np.full((SIDE, SIDE), 90, np.uint8)
    for _ in range(12):
        x, y, width, grey = (int(v) for v in rng.integers((0, 0, 8, 30), (SIDE, SIDE, 40, 220)))
        cv2.circle(luma, (x, y), width, grey, -1)
        cv2.line(luma, (x, y), (y, x), 250 - grey, 3)
    return luma


def guide_of(luma: Plane) -> Plane:
    return downsample_plane(luma, SCALE)


def enlarged(guide: Plane) -> tuple[Plane, Int16]:
    """The guide and its detail at full size."""
    wide = upsample_plane(guide, SCALE)
    return wide, edge_detail(guide, wide, SCALE, QUALITY)


def with_strength(guide: Plane, strength: int) -> Picture:
    """What the guide is, sharpened so."""
    return picture(sharpened(*enlarged(guide), strength))


def picture(luma: Plane) -> Picture:
    return Picture(luma, FLAT, FLAT)


def blurred(luma: Plane) -> Plane:
    return np.asarray(cv2.GaussianBlur(luma, (0, 0), 3), np.uint8)


def followed(guide: Plane, sharpness: int) -> SceneState:
    """A state with this guide, sharpened so up to now."""
    planes = Picture(guide, FLAT[::2, ::2], FLAT[::2, ::2])
    return replace(initial_state(STREAM), scale=SCALE, quality=QUALITY, sharpness=sharpness, guide=planes)


@pytest.mark.parametrize("seed", range(4))
def test_structure_is_told_nearly_as_ms_ssim_tells_it(seed: int) -> None:
    """Of a guide in which the thin lines are lost."""
    luma = drawing(seed)
    wide, detail = enlarged(guide_of(np.asarray(cv2.medianBlur(luma, 5), np.uint8)))
    told = structure_gains(luma, wide, detail)
    measured = np.log([ms_ssim(picture(luma), picture(sharpened(wide, detail, k))) for k in STRENGTHS])
    assert told[0] == 0
    assert told == pytest.approx(measured - measured[0], abs=1.5e-3)


@given(st.integers(0, 500), st.integers(0, MAX_STRENGTH))
@settings(max_examples=25)
def test_what_the_source_is_like_does_no_harm(seed: int, strength: int) -> None:
    wide, detail = enlarged(guide_of(drawing(seed)))
    luma = sharpened(wide, detail, strength)
    assert round(best_strength(luma, wide, detail)) == strength
    assert harmless(strength, float(strength), luma, wide, detail) == strength


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, MAX_STRENGTH))
@settings(max_examples=25)
def test_neither_error_nor_structure_is_worse_than_without(one: int, other: int, strength: int) -> None:
    luma = blurred(drawing(one))
    wide, detail = enlarged(guide_of(drawing(other)))
    chosen = harmless(strength, best_strength(luma, wide, detail), luma, wide, detail)
    errors = [np.square(sharpened(wide, detail, k).astype(float) - luma).sum() for k in STRENGTHS]
    assert chosen <= strength
    assert errors[chosen] <= errors[0] * 1.001  # but for rounding
    assert structure_gains(luma, wide, detail)[chosen] >= 0


@pytest.mark.parametrize("fit", [graded, spared])
def test_harm_is_ended_at_once(fit: Callable[[FrameUnit, Picture, SceneState], FrameUnit]) -> None:
    """As where a pan begins: the picture is blurred, and the guide is not yet."""
    source, guide = picture(blurred(drawing(1))), guide_of(drawing(1))
    ended = fit(FRAME, source, followed(guide, 3))
    assert (ended.quality, ended.sharpness) == (QUALITY, 0)


def test_what_suits_is_told_when_it_changes() -> None:
    guide = guide_of(drawing(2))
    source = with_strength(guide, 3)
    told = graded(FRAME, source, followed(guide, 1))
    assert (told.quality, told.sharpness) == (QUALITY, 3)
    assert graded(FRAME, source, followed(guide, 3)) is FRAME


@pytest.mark.parametrize("used", [0, 1])
def test_a_picture_unlike_those_around_it_is_only_spared(used: int) -> None:
    guide = guide_of(drawing(2))
    assert spared(FRAME, with_strength(guide, 3), followed(guide, used)) is FRAME


def test_with_the_quality_the_sharpness_is_told_as_well() -> None:
    guide, draft = guide_of(drawing(2)), replace(FRAME, quality=QUALITY)
    assert graded(draft, with_strength(guide, 2), followed(guide, 2)).sharpness == 2


@pytest.mark.parametrize("fit", [graded, spared])
def test_a_guide_at_full_size_is_left_alone(
    fit: Callable[[FrameUnit, Picture, SceneState], FrameUnit],
) -> None:
    guide = guide_of(drawing(1))
    state = replace(followed(guide, 2), scale=1)
    assert fit(FRAME, with_strength(guide, 3), state) is FRAME

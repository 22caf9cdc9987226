"""Where a network call cannot help the base picture is shown, and no call is made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import DecoderSettings
from common.state import Composition
from common.types import Picture
from receiver.decoder.conditions import FrameFacts
from receiver.decoder.helping import BLANK, contrast, is_blank, is_fine, quantiser_step
from receiver.decoder.model import TinyBridge
from receiver.decoder.synth import BridgeSynthesizer

SIDE = 64
COARSE, FINELY = 255, 40


def scene(amplitude: float, seed: int = 0) -> Composition:
    """Waves of a contrast of about 0.7 of the amplitude."""
    rows, cols = np.indices((SIDE, SIDE)) / 8 + seed
    luma = np.rint(120 + amplitude * np.sin(rows + np.cos(cols))).astype(np.uint8)
    chroma = np.full((SIDE // 2, SIDE // 2), 128, np.uint8)
    picture = Picture(luma, chroma, chroma)
    cells = [np.zeros((SIDE // k, SIDE // k), np.uint8) for k in (8, 16, 16)]
    return Composition(picture, None, picture, cells[0], cells[1], cells[2])


@given(seed=st.integers(0, 99))
def test_what_shows_next_to_nothing_is_blank(seed: int) -> None:
    assert is_blank(scene(BLANK, seed)) and not is_blank(scene(2 * BLANK, seed))


@given(seed=st.integers(0, 99), scale=st.sampled_from([2, 4, 8]), index=st.integers(0, 255))
def test_what_a_smaller_guide_leaves_out_can_always_be_painted(seed: int, scale: int, index: int) -> None:
    assert not is_fine(scene(60, seed), FrameFacts(guide_scale=scale, guide_q=index))


@given(seed=st.integers(0, 99), index=st.integers(0, 255), more=st.integers(0, 255))
def test_the_coarser_a_full_size_guide_the_sooner_it_is_repaired(seed: int, index: int, more: int) -> None:
    coarser = min(255, index + more)
    fine = [is_fine(scene(60, seed), FrameFacts(guide_scale=1, guide_q=q)) for q in (index, coarser)]
    assert fine[0] >= fine[1]


def test_a_full_size_guide_needs_no_repair_where_it_was_coded_finely() -> None:
    assert not is_fine(scene(60), FrameFacts(guide_scale=1, guide_q=COARSE))
    assert is_fine(scene(60), FrameFacts(guide_scale=1, guide_q=FINELY))


def test_what_an_analog_link_adds_no_quantiser_tells() -> None:
    noisy = replace(scene(60), noise=np.full((SIDE // 8, SIDE // 8), 4.0, np.float32))
    assert not is_fine(noisy, FrameFacts(guide_scale=1, guide_q=FINELY))


@given(index=st.integers(0, 254))
def test_quantiser_steps_rise(index: int) -> None:
    assert 0.5 <= quantiser_step(index) < quantiser_step(index + 1) <= 229


def test_contrast_is_the_standard_deviation() -> None:
    luma = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
    assert contrast(luma) == pytest.approx(luma.std())


@pytest.mark.parametrize("level", ["carry", "bridge1", "bridge4"])
def test_the_painter_shows_the_base_picture_there_and_says_so(level: str) -> None:
    painter, calls = BridgeSynthesizer(TinyBridge(), device="cpu"), 0

    def counted() -> bool:
        nonlocal calls
        calls += 1
        return False

    for composition, index in ((scene(60), FINELY), (scene(BLANK), COARSE)):
        painted = painter.render(composition, FrameFacts(guide_scale=1, guide_q=index), level, counted)
        assert painted.picture is composition.base
        assert (painted.steps_done, painted.carried, calls) == (0, False, 0)


@pytest.mark.parametrize("sparing", [True, False])
def test_where_the_sender_ends_sharpening_nothing_is_painted(sparing: bool) -> None:
    painter = BridgeSynthesizer(TinyBridge(), device="cpu", settings=DecoderSettings(sparing=sparing))
    facts = FrameFacts(guide_scale=2, guide_q=COARSE, spared=True)
    assert painter.render(scene(60), facts, "bridge1", lambda: False).steps_done == (0 if sparing else 1)


@pytest.mark.parametrize(("index", "sparing"), [(COARSE, True), (FINELY, False)])
def test_elsewhere_it_paints_and_everywhere_when_told_to(index: int, sparing: bool) -> None:
    painter = BridgeSynthesizer(TinyBridge(), device="cpu", settings=DecoderSettings(sparing=sparing))
    facts = FrameFacts(guide_scale=1, guide_q=index)
    assert painter.render(scene(60), facts, "bridge1", lambda: False).steps_done == 1

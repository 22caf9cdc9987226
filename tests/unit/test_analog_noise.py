"""Known channel noise is where the diffusion starts, what anchors are weighed by, and what a picture is unsure of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sionna.phy", reason="needs the extra `radio`: pip install 'semcast[radio]'")

from common.fusion import downsample, reliability, upsample
from common.types import Picture
from receiver.decoder import bridge
from receiver.decoder.conditions import DEAF
from receiver.noisy import in_cells, precision
from receiver.pipeline import _facts
from tests.analog_ends import FIRST_CUT, ends, frames
from tests.small_stream import frame
from tests.unit.test_decoder_model import FACTS, composition, model, never, same, synthesizer


@settings(max_examples=30)
@given(st.floats(0, 1), st.floats(0, 0.3))
def test_the_bridge_starts_at_the_noise_that_is_there(trust: float, known: float) -> None:
    u, noise = torch.full((1, 6, 2, 2), trust), torch.full((1, 6, 2, 2), known)
    raised = bridge.noisy_enough(u, noise)
    assert (raised >= u).all() and (raised <= 1).all()
    sigma = bridge.sigma(1.0, raised)
    assert (sigma >= torch.clamp(noise, max=bridge.K_MAX) - 1e-6).all()
    added = sigma * bridge.topped_up(torch.ones_like(u), raised, noise)
    together = torch.sqrt(added**2 + torch.minimum(noise, sigma) ** 2)
    assert torch.allclose(together, sigma, atol=1e-4)


def test_no_noise_changes_nothing() -> None:
    quiet = composition()
    silent = replace(quiet, noise=np.zeros((6, 8), np.float32))
    painted = [synthesizer(model(3)).render(scene, FACTS, "bridge2", never) for scene in (quiet, silent)]
    assert same(painted[0].picture, painted[1].picture)
    assert np.array_equal(painted[0].uncertainty, painted[1].uncertainty)  # type: ignore[arg-type]
    loud = replace(quiet, noise=np.full((6, 8), 20, np.float32))
    assert not same(painted[0].picture, synthesizer(model(3)).render(loud, FACTS, "bridge2", never).picture)


def test_uncertainty_is_never_less_than_the_noise() -> None:
    noise = np.zeros((6, 8), np.float32)
    noise[0, :3] = 10.0, 20.0, 100.0
    quiet, loud = (
        synthesizer(model(3)).render(scene, FACTS, "base", never).uncertainty
        for scene in (composition(), replace(composition(), noise=noise))
    )
    assert quiet is not None and loud is not None
    assert loud[0, :3].tolist() == [
        max(stated, least) for stated, least in zip(quiet[0, :3], (40, 80, 255), strict=True)
    ]
    assert np.array_equal(loud[1:], quiet[1:])


def test_the_network_is_told_how_noisy_it_is() -> None:
    link = ends(3.0)
    link.send(frames(range(8)))
    state = link.decoder.scene_at(7)
    assert state is not None
    scene = link.decoder.compose(state)
    assert scene.noise is not None
    rms = float(np.sqrt(np.mean(scene.noise**2)))
    assert _facts(state, scene, state.slot).freshness == pytest.approx(1 - rms / DEAF)
    assert _facts(state, replace(scene, noise=None), state.slot).freshness == 1


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_disagreement_that_noise_explains_does_not_tell_against_the_anchor(scale: int) -> None:
    truth = frame(10, 128).picture
    clean = downsample(truth, scale)
    rng = np.random.default_rng(3)

    def weights(deviation: float, told: float) -> np.ndarray:
        noisy = np.clip(np.rint(clean.y + deviation * rng.standard_normal(clean.y.shape)), 0, 255)
        guide = Picture(noisy.astype(np.uint8), clean.u, clean.v)
        noise = np.full((16, 16), told**2, np.float32)
        return precision(truth, guide, upsample(guide, scale), scale, noise)[0]

    up = upsample(clean, scale)
    digital = reliability(truth.y, clean.y, up.y, scale) / 64
    assert np.allclose(weights(0, 0), digital)
    assert weights(16, 16).mean() > 0.85
    assert weights(16, 16).mean() > weights(16, 0).mean() + 0.1


def test_a_wrong_anchor_is_found_out_in_spite_of_the_noise() -> None:
    truth, wrong = frame(10, 128).picture, frame(FIRST_CUT + 10, 128).picture
    rng = np.random.default_rng(3)
    noisy = np.clip(np.rint(truth.y + 8 * rng.standard_normal(truth.y.shape)), 0, 255).astype(np.uint8)
    guide = Picture(noisy, truth.u, truth.v)
    weights, error = precision(wrong, guide, guide, 1, np.full((16, 16), 64, np.float32))
    assert weights.mean() < 0.25
    assert np.median(error) <= 64


def test_cells_are_means() -> None:
    assert np.array_equal(in_cells(np.arange(16.0).reshape(4, 4), 2), [[2.5, 4.5], [10.5, 12.5]])

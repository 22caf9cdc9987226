"""The network, the way into it and the ladder, on a small random model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config import DecoderSettings
from common.errors import ConfigError, WeightsError
from common.labelnet import LabelNet
from common.state import Composition
from common.types import Picture
from receiver.decoder.conditions import (
    CONDITION_CHANNELS,
    FrameFacts,
    assemble,
    observe,
    pack,
    to_samples,
    to_units,
    unpack,
)
from receiver.decoder.loading import pick_device
from receiver.decoder.model import TinyBridge
from receiver.decoder.running import Correction
from receiver.decoder.synth import BridgeSynthesizer

WIDTHS = (8, 12, 16)
FACTS = FrameFacts(slot=3, guide_scale=4, guide_q=100, anchor_age_s=1.0)


def never() -> bool:
    return False


def picture(seed: int, height: int = 48, width: int = 64) -> Picture:
    rng = np.random.default_rng(seed)
    return Picture(
        *(rng.integers(0, 256, (height // k, width // k), np.uint8) for k in (1, 2, 2)),
    )


def composition(anchor: bool = True, received: bool = False) -> Composition:
    rng = np.random.default_rng(9)
    reliability = rng.integers(0, 256, (6, 8), np.uint8) if anchor else np.zeros((6, 8), np.uint8)
    mask = np.ones((3, 4), np.uint8) if received else np.zeros((3, 4), np.uint8)
    labels = rng.integers(0, 21, (3, 4), np.uint8)
    return Composition(picture(1), picture(2) if anchor else None, picture(3), reliability, mask, labels)


def model(seed: int | None = None) -> TinyBridge:
    """Untrained, or with random instead of zero output layers where a seed is given."""
    torch.manual_seed(seed or 0)
    net = TinyBridge(widths=WIDTHS, middle_blocks=1)
    if seed is not None:
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return net


def synthesizer(net: TinyBridge) -> BridgeSynthesizer:
    return BridgeSynthesizer(net, device="cpu", dtype=torch.float32, correction=Correction(residual=1.0))


def same(a: Picture, b: Picture) -> bool:
    return all(np.array_equal(p, q) for p, q in zip(a.planes, b.planes, strict=True))


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 9))
def test_packing_is_reversible(rows: int, columns: int, seed: int) -> None:
    original = picture(seed, 2 * rows, 2 * columns)
    packed = pack(original)
    assert same(unpack(packed), original)
    units = to_units(torch.from_numpy(packed)[None], torch.float32)
    assert np.array_equal(to_samples(units)[0].numpy(), packed)
    assert float(units.min()) >= -1 and float(units.max()) < 1


def test_luma_phases_are_where_pixel_shuffle_expects_them() -> None:
    original = picture(4)
    units = to_units(torch.from_numpy(pack(original))[None], torch.float32)
    luma = torch.nn.functional.pixel_shuffle(units[:, :4], 2)[0, 0]
    assert np.array_equal((luma * 128 + 128).numpy().astype(np.uint8), original.y)


def test_conditions_hold_what_was_observed() -> None:
    scene = composition()
    conditions = assemble(observe(scene, FACTS, picture(5)), torch.float32)
    assert conditions.stem.shape == (1, CONDITION_CHANNELS, 24, 32)
    stem = conditions.stem / 128
    assert torch.equal(stem[:, 0:6], conditions.base)
    torch.testing.assert_close(stem[:, 6:12] - stem[:, 12:18], conditions.contrast)
    assert torch.equal(stem[:, 18:24], to_units(torch.from_numpy(pack(picture(5)))[None], torch.float32))
    expected = np.repeat(np.repeat(scene.reliability, 4, 0), 4, 1) / 255
    np.testing.assert_allclose(conditions.trust[0, 2].numpy(), expected, atol=1e-6)
    assert conditions.labels.tolist() == [scene.labels.tolist()]


def test_unreliability_follows_trust_residual_and_freshness() -> None:
    fresh = assemble(observe(composition(), FACTS, None), torch.float32).unreliability
    stale_facts = FrameFacts(guide_scale=4, guide_q=100, freshness=0.0)
    stale = assemble(observe(composition(), stale_facts, None), torch.float32).unreliability
    received = assemble(observe(composition(received=True), FACTS, None), torch.float32).unreliability
    assert bool((stale >= fresh).all()) and float(stale.mean()) > float(fresh.mean())
    assert float(received.abs().max()) == 0.0
    assert float(fresh.min()) >= 0 and float(stale.max()) <= 1


@pytest.mark.parametrize("anchor", [True, False])
def test_an_untrained_network_paints_the_base_picture(anchor: bool) -> None:
    scene = composition(anchor)
    painted = synthesizer(model()).render(scene, FACTS, "bridge1", never)
    assert same(painted.picture, scene.base)
    assert painted.steps_done == 1
    assert painted.uncertainty is not None and painted.uncertainty.shape == (6, 8)


def test_the_gate_is_a_share() -> None:
    conditions = assemble(observe(composition(), FACTS, None), torch.float32)
    with torch.inference_mode():
        prediction = model(1)(conditions.base, torch.ones(1), conditions)
    assert float(prediction.gate.min()) >= 0 and float(prediction.gate.max()) <= 1
    assert prediction.log_variance.shape == (1, 1, 6, 8)


def test_every_part_of_the_network_can_learn() -> None:
    net = model(2)
    conditions = assemble(observe(composition(), FACTS, picture(5)), torch.float32)
    prediction = net(conditions.base, torch.full((1,), 0.5), conditions)
    (prediction.x.square().mean() + prediction.log_variance.mean()).backward()
    still = [name for name, parameter in net.named_parameters() if not bool(parameter.grad.abs().sum() > 0)]
    assert still == []


def test_cached_and_fresh_embeddings_agree() -> None:
    net = model(3)
    conditions = assemble(observe(composition(), FACTS, None), torch.float32)
    t = torch.ones(1)
    cached = net(conditions.base, t, conditions, net.embed(conditions))
    assert torch.equal(cached.x, net(conditions.base, t, conditions).x)


@pytest.mark.parametrize(("level", "steps"), [("bridge1", 1), ("bridge2", 2), ("bridge4", 4)])
def test_levels_run_their_steps_and_repeat_themselves(level: str, steps: int) -> None:
    first, second = (synthesizer(model(4)).render(composition(), FACTS, level, never) for _ in range(2))
    assert first.steps_done == steps
    assert same(first.picture, second.picture)
    assert not same(first.picture, composition().base)


def test_the_lower_levels_show_what_they_are_named_after() -> None:
    painter, scene = synthesizer(model(4)), composition()
    assert same(painter.render(scene, FACTS, "hold", never).picture, scene.base)
    assert same(painter.render(scene, FACTS, "guide", never).picture, scene.guide)
    assert same(painter.render(scene, FACTS, "hold", never).picture, scene.guide)
    assert same(painter.render(scene, FACTS, "base", never).picture, scene.base)
    with pytest.raises(ConfigError, match="bridge4"):
        painter.render(scene, FACTS, "bridge3", never)


def test_stopping_before_the_first_step_shows_the_base_picture() -> None:
    painted = synthesizer(model(4)).render(composition(), FACTS, "bridge4", lambda: True)
    assert same(painted.picture, composition().base) and painted.steps_done == 0


def test_received_residual_is_left_alone() -> None:
    scene = composition(received=True)
    assert same(synthesizer(model(4)).render(scene, FACTS, "bridge2", never).picture, scene.base)


def test_memory_is_used_and_can_be_reset() -> None:
    painter, scene = synthesizer(model(4)), composition()
    painter.warm_up(48, 64)
    first = painter.render(scene, FACTS, "bridge1", never)
    remembered = painter.render(scene, FACTS, "bridge1", never)
    painter.reset()
    again = painter.render(scene, FACTS, "bridge1", never)
    assert same(first.picture, again.picture)
    assert not same(first.picture, remembered.picture)


def test_saved_in_the_diffusers_format_and_read_back(tmp_path: Path) -> None:
    net = model(5)
    net.save_pretrained(tmp_path)
    loaded = TinyBridge.from_pretrained(tmp_path)
    assert tuple(loaded.config["widths"]) == WIDTHS
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), loaded.parameters(), strict=True))


def test_missing_weights_fail_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        BridgeSynthesizer.load(str(tmp_path / "none.safetensors"))


def test_cuda_must_be_there_when_asked_for() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ConfigError, match="no CUDA device"):
        pick_device("cuda")


# --- the ideas as switches


def painted(times: int = 2, **changes: object) -> Picture:
    """The last of some pictures of one scene under changed settings."""
    chosen = DecoderSettings.model_validate({"base_pull": 0.0, "detail_pull": 0.0, **changes})
    painter = BridgeSynthesizer(model(4), device="cpu", dtype=torch.float32, settings=chosen)
    for slot in range(times):
        picture = painter.render(composition(), replace(FACTS, slot=slot), "bridge1", never).picture
    return picture


@pytest.mark.parametrize(
    "change",
    [
        {"start": "noise"},
        {"shared_noise": 0.0},
        {"shared_noise": 0.5},
        {"previous": False},
        {"temporal_guidance": 2.0},
        {"guide_pull": 0.5},
        {"base_pull": 0.5},
        {"detail_pull": 0.5},
        {"structure_level": 1},
        {"labels": "none"},
    ],
    ids=str,
)
def test_each_switch_changes_the_picture(change: dict[str, object]) -> None:
    assert not same(painted(), painted(**change))


def test_shared_noise_paints_a_still_scene_alike_and_fresh_noise_does_not() -> None:
    assert same(painted(1, previous=False), painted(3, previous=False))
    assert not same(
        painted(1, previous=False, shared_noise=0.0), painted(3, previous=False, shared_noise=0.0)
    )


def test_guidance_of_one_is_no_guidance_and_of_zero_no_memory() -> None:
    assert same(painted(temporal_guidance=1.0), painted())
    assert same(painted(temporal_guidance=0.0), painted(previous=False))


def test_labels_are_predicted_only_where_none_were_sent() -> None:
    asked = []

    class Recorder(LabelNet):
        def logits(self, picture: Picture) -> torch.Tensor:
            asked.append(picture)
            return torch.nn.functional.one_hot(torch.full((3, 4), 7), 21).permute(2, 0, 1).float()

    painter = synthesizer(model(4))
    painter._labels = Recorder()
    scene = composition()
    assert np.array_equal(painter._label_map(scene), scene.labels) and not asked
    assert (painter._label_map(replace(scene, labels=np.zeros_like(scene.labels))) == 7).all() and asked


def test_a_cut_is_forgotten_without_being_told() -> None:
    painter, scene = synthesizer(model(4)), composition()
    first = painter.render(scene, FACTS, "bridge1", never).picture
    dark = Picture(scene.base.y // 8, scene.base.u, scene.base.v)
    painter.render(replace(scene, base=dark), FACTS, "bridge1", never)
    assert same(painter.render(scene, FACTS, "bridge1", never).picture, first)

"""The ladder that the receiver climbs: from holding a picture to four steps of the bridge.

hold     the picture shown last (the base picture where there is none)
guide    the guide, upsampled
base     the deterministic base picture
bridgeK  K network calls on top of it, K in 1, 2, 4
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.config import DecoderSettings
from common.errors import ConfigError, WeightsError
from common.labelnet import LabelNet, load_labelnet
from common.state import Composition
from common.types import Picture
from common.weights import load_weights
from receiver.decoder import bridge
from receiver.decoder.backends import BackendName, Network, open_network
from receiver.decoder.conditions import (
    GUIDE,
    UNITS,
    Conditions,
    FrameFacts,
    Observation,
    assemble,
    coarser,
    forgetful,
    known_noise,
    observe,
    pack,
    to_samples,
    to_units,
    unpack,
)
from receiver.decoder.memory import Memory, change_since, half_size, motion_since, moved
from receiver.decoder.model import FAMILY, TinyBridge

LEVELS = ("hold", "guide", "base", "bridge1", "bridge2", "bridge4")
UNCERTAINTY_PER_LEVEL = 4.0
"""Uncertainty bytes per sample step of expected error."""

DeviceName = Literal["auto", "cpu", "cuda"]

DEFAULTS = DecoderSettings()

CUT_CHANGE = 28.0
"""Mean change of the base picture, sample steps, from which on the picture before says nothing about this one. The cuts
of the development clips change the source by 44 to 95, all other pictures but six, in whip pans, by less than 28."""

FLAT = 2
"""Range of the luma, in sample steps, of a picture that shows nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """What a level produced.

    picture : at the coded size
    uncertainty : [H/8,W/8] uint8, expected root-mean-square error in quarter sample steps, clipped at 255;
        None from the levels below bridge1, which do not know theirs
    steps_done : network calls behind the picture; fewer than asked when stopped, 0 = base picture or below
    """

    picture: Picture
    uncertainty: NDArray[np.uint8] | None
    steps_done: int


@dataclass(frozen=True, slots=True)
class Correction:
    """How far the network may leave what was received, each 0 (free) to 1 (exactly as received).

    guide : pull of the coded guide on the low-passed output (reconstruction guidance)
    base : the same pull by the base picture, which is right where the guide is blind
    detail : pull of the base picture on everything
    residual : pull of the base picture where residual was received
    """

    guide: float = 0.0
    base: float = 0.0
    detail: float = 0.0
    residual: float = 1.0


def correction_of(settings: DecoderSettings) -> Correction:
    """The pulls of the settings."""
    return Correction(settings.guide_pull, settings.base_pull, settings.detail_pull)


def pick_device(name: DeviceName) -> torch.device:
    """`auto` is a CUDA device where there is one; raises ConfigError for `cuda` without one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is visible to torch: use --device cpu or auto")
    use_cuda = name != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_cuda else "cpu")


class BridgeSynthesizer:
    """Paints compositions. The only thing it remembers is the picture it painted last (`reset` forgets it).

    That memory is a hint to the network, private to this receiver: the stream does not depend on it.
    """

    levels = LEVELS

    def __init__(
        self,
        model: TinyBridge,
        *,
        device: DeviceName = "auto",
        dtype: torch.dtype = torch.bfloat16,
        seed: int = 0,
        settings: DecoderSettings = DEFAULTS,
        correction: Correction | None = None,
        backend: BackendName = "torch",
    ) -> None:
        """model : its weights are moved to `device` and `dtype`; seed : of the noise
        correction : by default as in `settings`
        """
        self._device = pick_device(device)
        self._dtype = dtype
        self._model = open_network(_prepared(model, self._device, dtype), backend, self._device)
        self._seed = seed
        self._settings = settings
        self._correction = correction or correction_of(settings)
        self._labels: LabelNet | None = load_labelnet() if settings.labels == "predicted" else None
        self._memory: Memory | None = None

    @classmethod
    def load(
        cls,
        name_or_path: str = "tiny",
        *,
        device: DeviceName = "auto",
        seed: int = 0,
        settings: DecoderSettings = DEFAULTS,
        backend: BackendName = "torch",
    ) -> Self:
        """With the weights shipped under this name, or in this safetensors file; else WeightsError."""
        return cls(load_model(name_or_path), device=device, seed=seed, settings=settings, backend=backend)

    @property
    def held(self) -> Picture | None:
        """The picture painted last."""
        return None if self._memory is None else self._memory.shown

    def reset(self, seed: int | None = None) -> None:
        """Forget the last picture: after a seek or a loss of state. seed : of the noise from now on"""
        self._memory = None
        self._seed = self._seed if seed is None else seed

    def warm_up(self, height: int, width: int) -> None:
        """One throw-away step at this size (multiples of 16): the first is the slowest. Nothing of it is remembered."""
        planes = [np.full((height // k, width // k), 128, np.uint8) for k in (1, 2, 2, 8, 16, 16)]
        grey = Picture(*planes[:3])
        blank = Composition(grey, None, grey, planes[3], planes[4] * 0, planes[5] * 0)
        self._bridge(blank, FrameFacts(), 1, lambda: False)
        self.reset()

    def render(
        self, composition: Composition, facts: FrameFacts, level: str, should_stop: Callable[[], bool]
    ) -> Painted:
        """Paint one frame.

        level : one of `levels`; ConfigError otherwise
        should_stop : asked before every network call; the newest picture is returned once it says True
        """
        if level not in LEVELS:
            raise ConfigError(f"unknown decoder level {level!r}: use one of {', '.join(LEVELS)}")
        flat = np.ptp(composition.base.y) <= FLAT  # a fade to black: there is nothing to paint
        if level.startswith("bridge") and not flat:
            return self._bridge(composition, facts, int(level[-1]), should_stop)
        chosen = {"hold": self.held or composition.base, "guide": composition.guide}
        picture = chosen.get(level, composition.base)
        self._memory = Memory(picture, half_size(composition.base))
        return Painted(picture, None, 0)

    @torch.inference_mode()
    def _bridge(
        self, composition: Composition, facts: FrameFacts, steps: int, should_stop: Callable[[], bool]
    ) -> Painted:
        small, settings = half_size(composition.base), self._settings
        memory = self._memory
        change = 0.0 if memory is None else change_since(memory, small)
        if memory is not None and change > CUT_CHANGE:
            memory = None
        if memory is not None and settings.moving:
            memory = moved(memory, motion_since(memory, small))
        conditions = self._conditions(composition, facts, memory)
        noise = eps = self._noise(conditions, facts, memory)
        sent_noise = known_noise(composition, conditions.base)
        if sent_noise is not None:
            u = bridge.noisy_enough(conditions.unreliability, sent_noise)
            conditions, eps = conditions._replace(unreliability=u), bridge.topped_up(noise, u, sent_noise)
        known, start = None, 1.0
        if memory is not None and settings.reuse:
            start = bridge.switch_time(change, float(conditions.unreliability.mean()))
            known = self._units(memory.shown) if start < 1 else None
        sampled = run_bridge(
            self._model, conditions, steps, facts, should_stop, self._correction, noise=eps, known=known,
            start=start, temporal_guidance=settings.temporal_guidance if memory is not None else 1.0,
        )  # fmt: skip
        if sampled is None:
            self._memory = Memory(composition.base, small, noise)
            return Painted(composition.base, None, 0)
        picture = unpack(to_samples(sampled.prediction.x)[0].cpu().numpy())
        self._memory = Memory(picture, small, noise)
        uncertainty = uncertainty_of(sampled.prediction.log_variance)
        if composition.noise is not None:
            uncertainty = with_noise(uncertainty, composition.noise)
        return Painted(picture, uncertainty, sampled.steps_done)

    def _conditions(self, composition: Composition, facts: FrameFacts, memory: Memory | None) -> Conditions:
        """What the network is shown, as far as the settings let it."""
        settings = self._settings
        composition = replace(composition, labels=self._label_map(composition))
        observation = observe(composition, facts, memory.shown if memory and settings.previous else None)
        moved_over = Observation(*(part.to(self._device) for part in observation))
        conditions = assemble(coarser(moved_over, settings.structure_level), self._dtype)
        if settings.start == "noise":
            full = torch.ones_like(conditions.unreliability)
            conditions = conditions._replace(unreliability=full)
        return conditions

    def _label_map(self, composition: Composition) -> NDArray[np.uint8]:
        """As sent, or nothing, or what the base picture shows: the small semantic layer is found before the picture is
        painted from it (SemanticGen)."""
        if self._settings.labels == "none":
            return np.zeros_like(composition.labels)
        if self._labels is None or composition.labels.any():
            return composition.labels
        return self._labels.logits(composition.base).argmax(0).numpy().astype(np.uint8)

    def _noise(self, conditions: Conditions, facts: FrameFacts, memory: Memory | None) -> Tensor:
        """The noise of this picture: in part the last one's, so that what it becomes stays where it is."""
        share, kept = self._settings.shared_noise, None if memory is None else memory.noise
        if kept is None or kept.shape != conditions.base.shape:
            return bridge.noise_like(conditions.base, self._seed, facts.slot if share < 1 else 0)
        if share >= 1:
            return kept
        return bridge.blended_noise(kept, bridge.noise_like(conditions.base, self._seed, facts.slot), share)

    def _units(self, picture: Picture) -> Tensor:
        """A picture as the network's samples, [1,6,H/2,W/2]."""
        return to_units(torch.from_numpy(pack(picture))[None].to(self._device), self._dtype)


def run_bridge(
    model: Network,
    conditions: Conditions,
    steps: int,
    facts: FrameFacts,
    should_stop: Callable[[], bool] = lambda: False,
    correction: Correction = Correction(),
    *,
    noise: Tensor | None = None,
    known: Tensor | None = None,
    start: float = 1.0,
    temporal_guidance: float = 1.0,
) -> bridge.Sampled | None:
    """The bridge over one assembled frame (or a batch that shares `facts`).

    noise : [N,6,H/2,W/2], by default that of seed 0 and the frame's slot
    known, start : picture to begin from, and the time that it is taken to stand for
    temporal_guidance : how far to go from the prediction without to the one with the previous output
    """
    predict = _predictor(model, conditions)
    if temporal_guidance != 1.0:
        predict = _guided(predict, _predictor(model, forgetful(conditions)), temporal_guidance)

    def refine(x: Tensor) -> Tensor:
        scale, fresh = facts.guide_scale, facts.freshness
        if correction.guide:
            x = bridge.agree_with(x, conditions.stem[:, GUIDE] / UNITS, scale, correction.guide * fresh)
        x = bridge.agree_with(x, conditions.base, scale, correction.base * fresh)
        if correction.detail:
            x = torch.lerp(x, conditions.base, correction.detail)
        if correction.residual:
            x = bridge.keep_received(x, conditions.base, conditions.received * correction.residual)
        return x

    noise = bridge.noise_like(conditions.base, 0, facts.slot) if noise is None else noise
    base, u, times = conditions.base, conditions.unreliability, bridge.schedule(steps, start)
    return bridge.sample(predict, base, u, noise, times, should_stop, refine, known)


Predict = Callable[[Tensor, float], bridge.Prediction]


def _predictor(model: Network, conditions: Conditions) -> Predict:
    embedded = model.embed(conditions)
    return lambda z, t: model(z, z.new_full((len(z),), t), conditions, embedded)


def _guided(led: Predict, unled: Predict, weight: float) -> Predict:
    """x = x_unled + weight (x_led - x_unled), as guidance over time in Gen-1 (Esser et al. 2023)."""

    def predict(z: Tensor, t: float) -> bridge.Prediction:
        with_memory = led(z, t)
        return with_memory._replace(x=torch.lerp(unled(z, t).x, with_memory.x, weight))

    return predict


def uncertainty_of(log_variance: Tensor) -> NDArray[np.uint8]:
    """[1,1,H/8,W/8] log variance -> [H/8,W/8] uint8 in quarter sample steps."""
    steps = torch.exp(0.5 * log_variance[0, 0].float()) * (UNITS * UNCERTAINTY_PER_LEVEL)
    return cast(NDArray[np.uint8], steps.round_().clamp_(0, 255).to(torch.uint8).cpu().numpy())


def with_noise(uncertainty: NDArray[np.uint8], noise: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The map where an analog link left noise of known size, [H/8,W/8] in sample steps: never less than that, for the
    network is told its mean over the picture alone."""
    return np.maximum(uncertainty, np.clip(np.rint(noise * UNCERTAINTY_PER_LEVEL), 0, 255)).astype(np.uint8)


def load_model(name_or_path: str) -> TinyBridge:
    """The network in a safetensors file, float32; WeightsError if it is missing or of another family."""
    weights = load_weights(name_or_path, FAMILY)
    try:
        model: TinyBridge = TinyBridge(**weights.config)
        model.load_state_dict({name: tensor.float() for name, tensor in weights.tensors.items()})
    except (TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{name_or_path} does not hold a bridge decoder of this version: retrain it or name another file"
        ) from error
    return model


def _prepared(model: TinyBridge, device: torch.device, dtype: torch.dtype) -> TinyBridge:
    model = model.eval().requires_grad_(False)
    # Not model.to(...): diffusers warns of any change of dtype there.
    moved = nn.Module.to(model, device=device, dtype=dtype)
    return cast(TinyBridge, moved.to(memory_format=torch.channels_last))

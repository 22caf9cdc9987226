"""The ladder that the receiver climbs: from holding a picture to four steps of the bridge.

hold     the picture shown last (the base picture where there is none)
guide    the guide, upsampled
base     the deterministic base picture
bridgeK  K network calls on top of it, K in 1, 2, 4
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.errors import ConfigError, WeightsError
from common.state import Composition
from common.types import Picture
from common.weights import load_weights
from receiver.decoder import bridge
from receiver.decoder.conditions import (
    UNITS,
    Conditions,
    FrameFacts,
    Observation,
    assemble,
    observe,
    to_samples,
    unpack,
)
from receiver.decoder.model import FAMILY, TinyBridge

LEVELS = ("hold", "guide", "base", "bridge1", "bridge2", "bridge4")
UNCERTAINTY_PER_LEVEL = 4.0
"""Uncertainty bytes per sample step of expected error."""

DeviceName = Literal["auto", "cpu", "cuda"]

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
    detail : pull of the base picture on everything. Measured on development clips, base 0.5 and detail 0.3 make the
        output better than the base picture in PSNR, MS-SSIM and feature distance alike
    residual : pull of the base picture where residual was received
    """

    guide: float = 0.0
    base: float = 0.5
    detail: float = 0.3
    residual: float = 1.0


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
        correction: Correction = Correction(),
    ) -> None:
        """model : its weights are moved to `device` and `dtype`; seed : of the noise."""
        self._device = pick_device(device)
        self._dtype = dtype
        self._model = _prepared(model, self._device, dtype)
        self._seed = seed
        self._correction = correction
        self._shown: Picture | None = None

    @classmethod
    def load(cls, name_or_path: str = "tiny", *, device: DeviceName = "auto", seed: int = 0) -> Self:
        """With the weights shipped under this name, or in this safetensors file; else WeightsError."""
        return cls(load_model(name_or_path), device=device, seed=seed)

    @property
    def held(self) -> Picture | None:
        """The picture painted last."""
        return self._shown

    def reset(self) -> None:
        """Forget the last picture: after a seek or a loss of state."""
        self._shown = None

    def warm_up(self, height: int, width: int) -> None:
        """One throw-away step at this size (multiples of 16): the first is the slowest."""
        planes = [np.full((height // k, width // k), 128, np.uint8) for k in (1, 2, 2, 8, 16, 16)]
        grey = Picture(*planes[:3])
        blank = Composition(grey, None, grey, planes[3], planes[4] * 0, planes[5] * 0)
        self._bridge(blank, FrameFacts(), 1, lambda: False)

    def render(
        self, composition: Composition, facts: FrameFacts, level: str, should_stop: Callable[[], bool]
    ) -> Painted:
        """Paint one frame.

        level : one of `levels`; ConfigError otherwise
        should_stop : asked before every network call; the newest picture is returned once it says True
        """
        painted = self._paint(composition, facts, level, should_stop)
        self._shown = painted.picture
        return painted

    def _paint(
        self, composition: Composition, facts: FrameFacts, level: str, should_stop: Callable[[], bool]
    ) -> Painted:
        match level:
            case "hold":
                return Painted(self._shown or composition.base, None, 0)
            case "guide":
                return Painted(composition.guide, None, 0)
            case "base":
                return Painted(composition.base, None, 0)
            case "bridge1" | "bridge2" | "bridge4":
                if np.ptp(composition.base.y) <= FLAT:  # a fade to black: there is nothing to paint
                    return Painted(composition.base, None, 0)
                return self._bridge(composition, facts, int(level[-1]), should_stop)
        raise ConfigError(f"unknown decoder level {level!r}: use one of {', '.join(LEVELS)}")

    @torch.inference_mode()
    def _bridge(
        self, composition: Composition, facts: FrameFacts, steps: int, should_stop: Callable[[], bool]
    ) -> Painted:
        observation = observe(composition, facts, self._shown)
        moved = Observation(*(part.to(self._device) for part in observation))
        conditions = assemble(moved, self._dtype)
        sampled = run_bridge(self._model, conditions, steps, facts, self._seed, should_stop, self._correction)
        if sampled is None:
            return Painted(composition.base, None, 0)
        picture = unpack(to_samples(sampled.prediction.x)[0].cpu().numpy())
        return Painted(picture, uncertainty_of(sampled.prediction.log_variance), sampled.steps_done)


def run_bridge(
    model: TinyBridge,
    conditions: Conditions,
    steps: int,
    facts: FrameFacts,
    seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    correction: Correction = Correction(),
) -> bridge.Sampled | None:
    """The bridge over one assembled frame (or a batch that shares `facts`)."""
    embedded = model.embed(conditions)

    def predict(z: Tensor, t: float) -> bridge.Prediction:
        return cast(bridge.Prediction, model(z, z.new_full((len(z),), t), conditions, embedded))

    def refine(x: Tensor) -> Tensor:
        scale, fresh = facts.guide_scale, facts.freshness
        if correction.guide:
            guide = conditions.stem[:, 12:18] / UNITS
            x = bridge.agree_with(x, guide, scale, correction.guide * fresh)
        x = bridge.agree_with(x, conditions.base, scale, correction.base * fresh)
        if correction.detail:
            x = torch.lerp(x, conditions.base, correction.detail)
        if correction.residual:
            x = bridge.keep_received(x, conditions.base, conditions.received * correction.residual)
        return x

    noise = bridge.noise_like(conditions.base, seed, facts.slot)
    base, u, times = conditions.base, conditions.unreliability, bridge.schedule(steps)
    return bridge.sample(predict, base, u, noise, times, should_stop, refine)


def uncertainty_of(log_variance: Tensor) -> NDArray[np.uint8]:
    """[1,1,H/8,W/8] log variance -> [H/8,W/8] uint8 in quarter sample steps."""
    steps = torch.exp(0.5 * log_variance[0, 0].float()) * (UNITS * UNCERTAINTY_PER_LEVEL)
    return cast(NDArray[np.uint8], steps.round_().clamp_(0, 255).to(torch.uint8).cpu().numpy())


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

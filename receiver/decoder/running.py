"""The bridge over one assembled frame: the network's predictions, and what is done to each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from common.config import DecoderSettings
from receiver.decoder import bridge
from receiver.decoder.backends import Network
from receiver.decoder.conditions import GUIDE, UNITS, Conditions, FrameFacts, forgetful
from receiver.decoder.model import TinyBridge
from receiver.decoder.parts import Parts, Telling, finished


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


def run_bridge(
    model: Network,
    conditions: Conditions,
    steps: int,
    facts: FrameFacts,
    correction: Correction = Correction(),
    *,
    known: Tensor | None = None,
    start: float = 1.0,
) -> bridge.Sampled:
    """The bridge over one assembled frame (or a batch that shares `facts`), in noise of seed 0 and the frame's slot.

    known, start : picture taken to have been predicted before, and the switch step
    """
    noise, times = bridge.noise_like(conditions.base, 0, facts.slot), bridge.schedule(steps, start)
    return finished(bridge_parts(model, conditions, times, facts, correction, noise=noise, known=known))


def bridge_parts(
    model: Network,
    conditions: Conditions,
    times: tuple[float, ...],
    facts: FrameFacts,
    correction: Correction,
    *,
    noise: Tensor,
    known: Tensor | None = None,
    temporal_guidance: float = 1.0,
) -> Telling[bridge.Sampled]:
    """`bridge.sampling` over one assembled frame (or a batch that shares `facts`).

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

    return bridge.sampling(predict, conditions.base, conditions.unreliability, noise, times, refine, known)


Predict = Callable[[Tensor, float], Parts[bridge.Prediction]]


def _predictor(model: Network, conditions: Conditions) -> Predict:
    embedded = model.embed(conditions)

    def predict(z: Tensor, t: float) -> Parts[bridge.Prediction]:
        times = z.new_full((len(z),), t)
        if isinstance(model, TinyBridge):
            return (yield from model.call(z, times, conditions, embedded))
        return model(z, times, conditions, embedded)

    return predict


def _guided(led: Predict, unled: Predict, weight: float) -> Predict:
    """x = x_unled + weight (x_led - x_unled), as guidance over time in Gen-1 (Esser et al. 2023)."""

    def predict(z: Tensor, t: float) -> Parts[bridge.Prediction]:
        with_memory = yield from led(z, t)
        without = yield from unled(z, t)
        return with_memory._replace(x=torch.lerp(without.x, with_memory.x, weight))

    return predict

"""One step of training the bridge decoder: what is damaged, what is asked of the network, what it costs.

examples --damage--> earlier frame        later frame
                          |                    |
                one step, no gradient    bridge point z_t
                          |                    |
                          +---- previous ----> network --losses--> AdamW, moving average
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.labelnet import LabelNet
from receiver.decoder import bridge
from receiver.decoder.conditions import Conditions, Observation, assemble, to_samples, to_units
from receiver.decoder.model import TinyBridge
from training.checkpoints import Progress, load_checkpoint, save_checkpoint
from training.dataset import Batch, ExampleSet, with_previous, without_anchor
from training.losses import Features, LossWeights, charbonnier, temporal, total
from training.validation import Scores, validate


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How to train; the defaults suit one CPU core.

    batch, crop : examples per step, and their side in pixels (a multiple of 16, at most that of the examples)
    learning_rate : at its highest; rises over `warm_up_steps`, then falls with the cosine of the time spent
    average_decay : of the moving average of the weights, which is what is kept
    threads : of torch, and of the loader on a GPU
    first_step, own_step : share of batches at t=1, and of those that continue the network's own first step;
        the rest start from the truth at a random t
    drop_anchor, drop_labels, stale : share of examples damaged in that way
    own_previous : share of batches whose previous picture is the network's own output
    checkpoint_s, report_steps : how often progress is saved, and logged
    """

    batch: int = 8
    crop: int = 192
    learning_rate: float = 8e-4
    warm_up_steps: int = 100
    average_decay: float = 0.999
    clip_norm: float = 1.0
    weight_decay: float = 0.05
    threads: int = 1
    first_step: float = 0.55
    own_step: float = 0.3
    drop_anchor: float = 0.12
    drop_labels: float = 0.25
    stale: float = 0.06
    own_previous: float = 0.6
    checkpoint_s: float = 120.0
    report_steps: int = 50
    validation_batches: int = 16
    weights: LossWeights = field(default_factory=LossWeights)


class Trainer:
    """The network, its moving average and the optimiser, and one `step` of training."""

    def __init__(
        self,
        model: TinyBridge,
        device: torch.device,
        settings: TrainSettings,
        judge: LabelNet | None,
        seed: int,
    ) -> None:
        self.device, self.settings = device, settings
        self._features: Features | None = judge.to(device).features if judge else None
        self.model: TinyBridge = model.to(device=device, memory_format=torch.channels_last).train()
        self.average: TinyBridge = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), settings.learning_rate, (0.9, 0.98), weight_decay=settings.weight_decay
        )
        self.progress = Progress(seed=seed)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, with its seed."""
        self.progress = load_checkpoint(path, self.model, self.average, self.optimiser)

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        save_checkpoint(path, self.model, self.average, self.optimiser, self.progress)

    def scores(self, held_out: ExampleSet) -> Scores:
        """How the average does on examples that it never saw."""
        batches = self.settings.validation_batches
        with self._autocast():
            crop = self.settings.crop
            return validate(self.average, held_out, self.device, crop, batches, self._features)

    def step(self, batch: Batch, rng: np.random.Generator, spent: float) -> dict[str, float]:
        """One update. spent : share of the training time used, 0..1. Returns the terms of the loss."""
        s = self.settings
        rate = s.learning_rate * min(1.0, (self.progress.step + 1) / s.warm_up_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, spent))))
        with self._autocast():
            loss, terms = self._loss(damaged(batch.to(self.device), s, rng), rng)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), s.clip_norm)
        if math.isfinite(float(norm)):
            self.optimiser.step()
            self._follow()
        return terms | {"loss": float(loss.detach()), "norm": float(norm)}

    def _loss(self, batch: Batch, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        s = self.settings
        truth = to_units(batch.truth_later, torch.float32)
        own = rng.random() < s.own_previous
        before = self._first(assemble(batch.earlier, torch.float32), rng).x if own else None
        shown = batch.earlier.base if before is None else to_samples(before)
        conditions = assemble(remembered(batch.later, shown, rng), torch.float32)
        z, t = self._bridge_point(conditions, truth, rng)
        prediction = self.model(z, _times(z, t), conditions)
        x = prediction.x.float()
        loss, terms = total(x, truth, prediction.log_variance, t, s.weights, self._features)
        if before is not None:
            flicker = temporal(x, before.float(), truth, to_units(batch.truth_earlier, torch.float32))
            loss, terms["temporal"] = loss + s.weights.temporal * flicker, float(flicker.detach())
        terms["base"] = float(charbonnier(conditions.base, truth))
        return loss, terms

    @torch.no_grad()
    def _first(self, conditions: Conditions, rng: np.random.Generator) -> bridge.Prediction:
        base = conditions.base
        z = bridge.diffuse(base, base, 1.0, conditions.unreliability, _noise(base, rng))
        prediction: bridge.Prediction = self.model(z, _times(z, 1.0), conditions)
        return prediction

    def _bridge_point(
        self, conditions: Conditions, truth: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, float]:
        """z_t and t: the start, a point reached by the network itself, or one between truth and base."""
        base, u, draw = conditions.base, conditions.unreliability, rng.random()
        noise = _noise(base, rng)
        if draw < self.settings.first_step:
            return bridge.diffuse(base, base, 1.0, u, noise), 1.0
        if draw < self.settings.first_step + self.settings.own_step:
            t = float(rng.choice([0.75, 0.5, 0.25]))
            start = bridge.diffuse(base, base, 1.0, u, noise)
            with torch.no_grad():
                x = self.model(start, _times(start, 1.0), conditions).x.float()
            return bridge.step(start, x, base, 1.0, t, u), t
        t = float(rng.uniform(0.1, 1.0))
        return bridge.diffuse(truth, base, t, u, noise), t

    @torch.no_grad()
    def _follow(self) -> None:
        step = self.progress.step
        decay = min(self.settings.average_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)

    def _autocast(self) -> torch.autocast:
        # On a CPU without matrix units, backward in bfloat16 is several times slower than float32.
        wanted = self.device.type == "cuda" or torch.cpu._is_amx_tile_supported()
        return torch.autocast(self.device.type, torch.bfloat16, enabled=wanted)


def damaged(batch: Batch, settings: TrainSettings, rng: np.random.Generator) -> Batch:
    """What a bad channel does: no anchor, no label map, or the earlier frame's state instead of this one."""
    count, device = len(batch.truth_later), batch.truth_later.device

    def chosen(share: float) -> Tensor:
        return torch.from_numpy(rng.random(count) < share).to(device)

    stale, no_anchor, no_labels = (
        chosen(share) for share in (settings.stale, settings.drop_anchor, settings.drop_labels)
    )
    old = batch.earlier.scalars.clone()
    old[:, 3] = 0.0
    frozen = batch.earlier._replace(scalars=old, trust=batch.earlier.trust // 2)
    later = without_anchor(_choose(stale, frozen, batch.later), no_anchor)
    earlier = without_anchor(batch.earlier, no_anchor)
    labels = later.labels * ~no_labels[:, None, None]
    return Batch(earlier, later._replace(labels=labels), batch.truth_earlier, batch.truth_later)


def remembered(view: Observation, shown: Tensor, rng: np.random.Generator) -> Observation:
    """The view with what was shown before: mostly right, at times nothing or another scene."""
    count = len(shown)
    wrong = torch.from_numpy(rng.random(count) < 0.08).to(shown.device)
    present = torch.from_numpy(rng.random(count) < 0.85).to(shown.device)
    mixed = torch.where(wrong[:, None, None, None], shown.roll(1, 0), shown)
    return with_previous(view, mixed, present)


def _choose(which: Tensor, a: Observation, b: Observation) -> Observation:
    parts = [torch.where(which.view(-1, *[1] * (x.ndim - 1)), x, y) for x, y in zip(a, b, strict=True)]
    return Observation(*parts)


def _noise(like: Tensor, rng: np.random.Generator) -> Tensor:
    return bridge.noise_like(like, int(rng.integers(2**31)), 0)


def _times(z: Tensor, t: float) -> Tensor:
    return z.new_full((len(z),), t)

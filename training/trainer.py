"""One step of training the bridge decoder: what is damaged, what is asked of the network, what it costs.

examples --damage--> earlier frame        later frame
                          |                    |
                one step, no gradient    bridge point z_t
                          |                    |
                          +---- previous ----> network --losses--> AdamW, moving average
                                                   |
                                               opponent, towards the end of the time if asked for
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from receiver.decoder import bridge
from receiver.decoder.conditions import Conditions, assemble, to_samples, to_units
from receiver.decoder.model import TinyBridge
from training.adversary import PatchJudge, opponent_loss, painter_loss, stage_weight
from training.checkpoints import Opponent, Progress, load_checkpoint, save_checkpoint
from training.damage import Damage, damaged, remembered
from training.dataset import Batch, ExampleSet
from training.losses import Features, LossWeights, fidelity, temporal, total
from training.processes import Group
from training.validation import Scores, validate


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How to train; the defaults suit one CPU core.

    batch, crop : examples per step (of each process), and their side in pixels (a multiple of 16, at most that of
        the examples)
    learning_rate : at its highest; rises over `warm_up_steps`, then falls with the cosine of the time spent
    perceptual_steps : over which the terms that judge looks come in: a network that starts as the base picture finds
        invented detail before it finds true detail, and pays for it in fidelity
    average_decay : of the moving average of the weights, which is what is kept
    threads : of torch, and of the loader on a GPU
    first_step, own_step : share of batches at t=1, and of those that continue the network's own first step;
        the rest start from the truth at a random t
    own_previous : share of batches whose previous picture is the network's own output
    adversarial_share : of the training time, its end, with an opponent; 0 trains without
    opponent_rate : learning rate of the opponent
    checkpoint_s, report_steps, check_s : how often progress is saved, logged, and measured on held-out examples
    validation_batches, check_batches : held-out batches at the end, and while training
    """

    batch: int = 8
    crop: int = 192
    learning_rate: float = 8e-4
    warm_up_steps: int = 50
    perceptual_steps: int = 2000
    average_decay: float = 0.999
    clip_norm: float = 1.0
    weight_decay: float = 0.05
    threads: int = 1
    first_step: float = 0.55
    own_step: float = 0.3
    own_previous: float = 0.6
    adversarial_share: float = 0.0
    opponent_rate: float = 2e-4
    checkpoint_s: float = 120.0
    report_steps: int = 50
    check_s: float = 600.0
    validation_batches: int = 16
    check_batches: int = 2
    damage: Damage = field(default_factory=Damage)
    weights: LossWeights = field(default_factory=LossWeights)


@dataclass(frozen=True, slots=True, eq=False)
class _Painted:
    """What one pass made: the picture and what it stands beside, all [N,6,H/2,W/2], and the loss with its terms."""

    x: Tensor
    truth: Tensor
    base: Tensor
    loss: Tensor
    terms: dict[str, Tensor]


class Trainer:
    """The network, its moving average and the optimiser, and one `step` of training."""

    def __init__(
        self,
        model: TinyBridge,
        device: torch.device,
        settings: TrainSettings,
        judges: Mapping[str, Features],
        seed: int,
        group: Group | None = None,
    ) -> None:
        """judges : see `losses.total`, on `device`; group : the processes that train together, by default this one."""
        self.device, self.settings, self.group = device, settings, group or Group(device)
        self.judges = dict(judges)
        self.model: TinyBridge = model.to(device=device, memory_format=torch.channels_last).train()
        self.average: TinyBridge = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), settings.learning_rate, (0.9, 0.98), weight_decay=settings.weight_decay
        )
        self.opponent = _opponent(device, settings.opponent_rate) if settings.adversarial_share > 0 else None
        self.progress = Progress(seed=seed)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, with its seed."""
        self.progress = load_checkpoint(path, self.model, self.average, self.optimiser, self.opponent)

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        save_checkpoint(path, self.model, self.average, self.optimiser, self.progress, self.opponent)

    def scores(self, held_out: ExampleSet, batches: int) -> Scores:
        """How the average does on examples that it never saw."""
        with self._autocast():
            features = self.judges.get("features")
            return validate(self.average, held_out, self.device, self.settings.crop, batches, features)

    def step(self, batch: Batch, rng: np.random.Generator, spent: float) -> dict[str, float]:
        """One update. spent : share of the training time used, 0..1. Returns the terms of the loss."""
        s = self.settings
        rate = s.learning_rate * min(1.0, (self.progress.step + 1) / s.warm_up_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, spent))))
        opposed = stage_weight(spent, s.adversarial_share)
        with self._autocast():
            painted = self._paint(damaged(batch.to(self.device), s.damage, rng), rng)
            loss, terms = painted.loss, painted.terms
            if opposed > 0:
                terms["adversarial"] = self._opposed(painted)
                loss = loss + s.weights.adversarial * opposed * terms["adversarial"]
        norm = self._update(self.model, self.optimiser, loss)
        if math.isfinite(norm):
            self._follow()
        if opposed > 0:
            terms["opponent"] = self._train_opponent(painted)
        names, values = list(terms), torch.stack([*terms.values(), loss]).tolist()
        return dict(zip([*names, "loss"], values, strict=True)) | {"norm": norm}

    def _update(self, model: nn.Module, optimiser: torch.optim.Optimizer, loss: Tensor) -> float:
        """One step down the mean gradient of all processes; returns its norm, and does nothing where it is infinite."""
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.group.average_gradients(model.parameters())
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), self.settings.clip_norm))
        if math.isfinite(norm):
            optimiser.step()
        return norm

    def _paint(self, batch: Batch, rng: np.random.Generator) -> _Painted:
        s = self.settings
        truth = to_units(batch.truth_later, torch.float32)
        own = rng.random() < s.own_previous
        before = self._first(assemble(batch.earlier, torch.float32), rng).x if own else None
        shown = batch.earlier.base if before is None else to_samples(before)
        conditions = assemble(remembered(batch.later, shown, s.damage, rng), torch.float32)
        z, t = self._bridge_point(conditions, truth, rng)
        prediction = self.model(z, _times(z, t), conditions)
        x = prediction.x.float()
        perceptual = min(1.0, self.progress.step / s.perceptual_steps)
        loss, terms = total(x, truth, prediction.log_variance, t, s.weights, self.judges, perceptual)
        if before is not None:
            flicker = temporal(x, before.float(), truth, to_units(batch.truth_earlier, torch.float32))
            loss, terms["temporal"] = loss + s.weights.temporal * flicker, flicker.detach()
        terms["base"] = fidelity(conditions.base, truth, t)
        return _Painted(x, truth, conditions.base, loss, terms)

    def _opposed(self, painted: _Painted) -> Tensor:
        assert self.opponent is not None
        judge, _ = self.opponent
        judge.requires_grad_(False)
        return painter_loss(judge(painted.x, painted.base).float())

    def _train_opponent(self, painted: _Painted) -> Tensor:
        assert self.opponent is not None
        judge, optimiser = self.opponent
        judge.requires_grad_(True)
        with self._autocast():
            scores = (judge(picture, painted.base).float() for picture in (painted.truth, painted.x.detach()))
            loss = opponent_loss(*scores)
        self._update(judge, optimiser, loss)
        return loss.detach()

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


def _opponent(device: torch.device, rate: float) -> Opponent:
    judge = PatchJudge().to(device)
    return judge, torch.optim.Adam(judge.parameters(), rate, (0.0, 0.9))


def _noise(like: Tensor, rng: np.random.Generator) -> Tensor:
    """Standard normal, made where it is needed."""
    generator = torch.Generator(like.device).manual_seed(int(rng.integers(2**31)))
    return torch.empty_like(like).normal_(generator=generator)


def _times(z: Tensor, t: float) -> Tensor:
    return z.new_full((len(z),), t)

"""How good a decoder is on examples that it never saw, beside the base picture that it starts from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from receiver.decoder.conditions import LUMA_PHASES, FrameFacts, assemble, to_samples, to_units
from receiver.decoder.model import TinyBridge
from receiver.decoder.running import Correction, run_bridge
from training.dataset import Batch, ExampleSet, with_previous
from training.losses import Features, bands, feature_distance, luma, structure, texture

BATCH = 8


@dataclass(frozen=True, slots=True)
class Score:
    """Means over the held-out examples.

    psnr_db : PSNR of the mean squared error, luma weighted 6 to 1 and 1 (over all examples, not per example)
    ms_ssim_loss, texture : terms of training.losses; lower is better
    features : feature distance, NaN without features
    """

    psnr_db: float
    ms_ssim_loss: float
    texture: float
    features: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The base picture and the output of one and two steps; and whether the uncertainty is right.

    coverage90 : share of 8x8 cells whose luma error is within 1.645 times what was predicted; ideally 0.90
    examples : how many were measured
    """

    base: Score
    one_step: Score
    two_steps: Score
    coverage90: float
    examples: int


@torch.no_grad()
def validate(
    model: TinyBridge,
    held_out: ExampleSet,
    device: torch.device,
    crop: int,
    batches: int,
    features: Features | None,
) -> Scores:
    """Measure on at most `batches` batches; the earlier frame is painted first and remembered."""
    sums = {name: torch.zeros(4, dtype=torch.float64) for name in ("base", "1", "2")}
    covered, count = 0.0, 0
    for batch in held_out.in_order(BATCH, crop, BATCH * batches):
        pictures, coverage = _paint(model, batch.to(device))
        truth = to_units(batch.truth_later.to(device), torch.float32)
        size = len(truth)
        for name, x in pictures.items():
            sums[name] += size * _errors(x, truth, features)
        covered, count = covered + size * coverage, count + size
    base, one, two = (_score(total / count) for total in sums.values())
    return Scores(base, one, two, covered / count, count)


def _paint(model: TinyBridge, batch: Batch) -> tuple[dict[str, Tensor], float]:
    facts = FrameFacts()
    present = torch.ones(len(batch.truth_later), dtype=torch.bool, device=batch.truth_later.device)
    alone = Correction()  # the network by itself; a batch mixes guide scales
    before = run_bridge(model, assemble(batch.earlier, torch.float32), 1, facts, correction=alone)
    later = with_previous(batch.later, to_samples(before.prediction.x), present)
    conditions = assemble(later, torch.float32)
    one, two = (run_bridge(model, conditions, steps, facts, correction=alone) for steps in (1, 2))
    truth = to_units(batch.truth_later, torch.float32)
    error = torch.nn.functional.avg_pool2d(
        (one.prediction.x - truth)[:, :LUMA_PHASES].square().mean(1, keepdim=True), 4
    )
    within = error.sqrt() <= 1.645 * torch.exp(0.5 * one.prediction.log_variance)
    pictures = {"base": conditions.base, "1": one.prediction.x.float(), "2": two.prediction.x.float()}
    return pictures, float(within.float().mean())


def _errors(x: Tensor, truth: Tensor, features: Features | None) -> Tensor:
    squared = (x.clamp(-1, 1) - truth).square().mean((0, 2, 3))
    weighted = (6 * squared[:LUMA_PHASES].mean() + squared[LUMA_PHASES:].sum()) / 8
    grey, true_grey = luma(x), luma(truth)
    distance = math.nan
    if features is not None:
        distance = float(feature_distance(features(x), features(truth)))
    terms = weighted, structure(grey, true_grey), texture(bands(grey), bands(true_grey)), distance
    return torch.tensor([float(term) for term in terms], dtype=torch.float64)


def _score(means: Tensor) -> Score:
    squared, *rest = means.tolist()
    # A unit is 128 sample steps, PSNR counts to 255.
    psnr_db = 10 * math.log10((255 / 128) ** 2 / max(squared, 1e-10))
    return Score(psnr_db, *rest)

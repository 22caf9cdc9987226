"""Calibrates the switch step of denoising reuse: `python -m training.reuse EXAMPLES [WEIGHTS]`.

    held-out pairs -> earlier output -> later picture begun from it at several times -> best time by change and doubt

Prints the constants of `receiver.decoder.bridge`: class limits are quantiles of the examples, times are those with the
least mean loss (structure plus feature distance) in each class.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from common.labelnet import LabelNet
from receiver.decoder.conditions import LUMA_PHASES, UNITS, FrameFacts, assemble, to_samples, to_units
from receiver.decoder.model import TinyBridge
from receiver.decoder.synth import DEFAULTS, Correction, correction_of, load_model, run_bridge
from training.dataset import Batch, ExampleSet, with_previous
from training.entry import shipped_judge
from training.losses import feature_distance, luma, structure

TIMES = (0.25, 0.5, 0.75, 1.0)
CHANGE_QUANTILES, UNRELIABILITY_QUANTILES = (0.25, 0.5, 0.75), (1 / 3, 2 / 3)
EXAMPLES, CROP = 96, 192

Floats = NDArray[np.float64]


def measure(
    model: TinyBridge, batch: Batch, judge: LabelNet | None, correction: Correction
) -> tuple[float, float, list[float]]:
    """Change, unreliability and the loss from each of `TIMES` of one pair."""
    facts = FrameFacts()
    before = run_bridge(model, assemble(batch.earlier, torch.float32), 1, facts, correction=correction)
    assert before is not None
    present = torch.ones(1, dtype=torch.bool)
    conditions = assemble(with_previous(batch.later, to_samples(before.prediction.x), present), torch.float32)
    truth = to_units(batch.truth_later, torch.float32)
    losses = []
    for t in TIMES:
        known = before.prediction.x if t < 1 else None
        found = run_bridge(model, conditions, 1, facts, correction=correction, known=known, start=t)
        assert found is not None
        losses.append(_loss(found.prediction.x, truth, judge))
    change = _half(batch.later.base) - _half(batch.earlier.base)
    return float(change.abs().mean()) * UNITS, float(conditions.unreliability.mean()), losses


def _half(packed: Tensor) -> Tensor:
    """Luma at half size, in units."""
    return F.avg_pool2d(luma(to_units(packed, torch.float32)[:, :LUMA_PHASES]), 2)


def _loss(x: Tensor, truth: Tensor, judge: LabelNet | None) -> float:
    distance = 0.0 if judge is None else float(feature_distance(judge.features(x), judge.features(truth)))
    return float(structure(luma(x), luma(truth))) + distance


def best_times(
    changes: Floats, doubts: Floats, losses: Floats, limits: tuple[Floats, Floats]
) -> list[list[float]]:
    """Time with the least mean loss per class; losses [n, times]. A class without examples starts afresh."""
    rows, columns = (
        np.searchsorted(of, values, side="right")
        for of, values in zip(limits, (changes, doubts), strict=True)
    )
    table = []
    for row in range(len(limits[0]) + 1):
        chosen = [losses[(rows == row) & (columns == column)] for column in range(len(limits[1]) + 1)]
        table.append([TIMES[int(of.mean(axis=0).argmin())] if len(of) else 1.0 for of in chosen])
    return table


@torch.inference_mode()
def main(examples: Path, weights: str = "tiny") -> None:
    """Print limits and table."""
    model, judge = load_model(weights).eval(), shipped_judge()
    held_out, rng = ExampleSet(examples, held_out=True), np.random.default_rng(0)
    draws = (held_out.batch(1, CROP, rng) for _ in range(EXAMPLES))
    rows = [
        measure(model, batch, judge, correction_of(DEFAULTS))
        for batch in track(draws, "pairs", total=EXAMPLES, console=Console(stderr=True))
    ]
    changes, doubts = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    losses = np.array([row[2] for row in rows])
    limits = np.quantile(changes, CHANGE_QUANTILES), np.quantile(doubts, UNRELIABILITY_QUANTILES)
    print("REUSE_CHANGES =", tuple(round(float(x), 2) for x in limits[0]))
    print("REUSE_UNRELIABILITIES =", tuple(round(float(x), 2) for x in limits[1]))
    print("REUSE_TIMES =", tuple(map(tuple, best_times(changes, doubts, losses, limits))))
    print("mean loss at", dict(zip(TIMES, losses.mean(axis=0).round(5).tolist(), strict=True)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])

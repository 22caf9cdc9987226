"""Calibrates the switch step of denoising reuse: `python -m training.reuse EXAMPLES [WEIGHTS]`.

    held-out pairs -> run of the earlier picture -> the later one begun from it at several times -> best time

Prints the constants of `receiver.decoder.bridge`: class limits are quantiles of the examples, times the earliest whose
mean loss (structure plus feature distance) in a class is as good as that of all four steps.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from common.labelnet import LabelNet
from receiver.decoder import bridge
from receiver.decoder.conditions import FrameFacts, assemble, to_samples, to_units
from receiver.decoder.loading import load_model
from receiver.decoder.model import TinyBridge
from receiver.decoder.reuse import Path as Run
from receiver.decoder.running import Correction, correction_of, run_bridge
from receiver.decoder.synth import DEFAULTS
from training.dataset import Batch, ExampleSet, with_previous
from training.entry import shipped_judge
from training.losses import feature_distance, luma, structure

TIMES = (0.25, 0.5, 0.75, 1.0)
CHANGE_QUANTILES, UNRELIABILITY_QUANTILES = (0.25, 0.5, 0.75), (1 / 3, 2 / 3)
STEPS = 4
AS_GOOD = 0.0005
"""Share of the loss by which a shorter run may be worse."""
EXAMPLES, CROP = 96, 192

Floats = NDArray[np.float64]


def measure(
    model: TinyBridge, batch: Batch, judge: LabelNet | None, correction: Correction
) -> tuple[float, float, list[float]]:
    """Change, unreliability and the loss from each of `TIMES` of one pair."""
    facts, earlier = FrameFacts(), assemble(batch.earlier, torch.float32)
    before = run_bridge(model, earlier, STEPS, facts, correction)
    path = Run.of(earlier.base, bridge.schedule(STEPS), before.path)
    present = torch.ones(1, dtype=torch.bool)
    conditions = assemble(with_previous(batch.later, to_samples(before.prediction.x), present), torch.float32)
    truth = to_units(batch.truth_later, torch.float32)
    losses = []
    for t in TIMES:
        known = path.before(t, conditions.base) if t < 1 else None
        found = run_bridge(model, conditions, STEPS, facts, correction, known=known, start=t)
        losses.append(_loss(found.prediction.x, truth, judge))
    change = path.change(conditions.base)
    assert change is not None, "both are crops of the same size"
    return change, float(conditions.unreliability.mean()), losses


def _loss(x: Tensor, truth: Tensor, judge: LabelNet | None) -> float:
    distance = 0.0 if judge is None else float(feature_distance(judge.features(x), judge.features(truth)))
    return float(structure(luma(x), luma(truth))) + distance


def best_times(
    changes: Floats, doubts: Floats, losses: Floats, limits: tuple[Floats, Floats]
) -> list[list[float]]:
    """Per class the earliest time whose mean loss is as good as that of a whole run; losses [n, times].

    The more has changed and the less can be trusted, the later the switch, whatever few examples say; beyond the last
    limit of change every picture starts afresh.
    """
    rows, columns = (
        np.searchsorted(of, values, side="right")
        for of, values in zip(limits, (changes, doubts), strict=True)
    )
    table = np.full((len(limits[0]) + 1, len(limits[1]) + 1), TIMES[0])
    for row, column in np.ndindex(table.shape):
        chosen = losses[(rows == row) & (columns == column)]
        if len(chosen):
            mean = chosen.mean(axis=0)
            table[row, column] = TIMES[int(np.argmax(mean <= mean[-1] * (1 + AS_GOOD)))]
    table = np.maximum.accumulate(np.maximum.accumulate(table, axis=0), axis=1)
    table[-1] = 1.0
    return [[float(t) for t in row] for row in table]


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

"""Calibrates the uncertainty: fits what the receiver expects of its errors to what they are (`semcast train calibrate`).

    held-back clips -> training/sightings.py --evidence, errors--> Sightings
    Sightings -> weights (least squares of log errors, none negative) -> score -> 90 % quantile by score, made monotone

No weights were trained on the held-back clips. What the levels without a network show depends on no weights, so any clip
may speak for those: all of the folder do, which show more of the world than the few that are held back. How hard these
few are beside all is known from their base pictures, and allowed for.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from common.errors import SinkError, SourceError
from common.ports import Analyzer
from common.quality import ause, ause_of_constant, coverage
from common.weights import ASSETS, CARD_SUFFIX, SUFFIX, load_weights, save_weights, shipped
from receiver.decoder.model import FAMILY
from receiver.uncertainty import (
    ASSET,
    CALIBRATION,
    LEAST_STEPS,
    Calibration,
    Calibrations,
    Cells,
    Kind,
    as_text,
    of_held,
    strength,
)
from training.sightings import CalibrationSettings, Seen, Sighting, Strengths, measure

Reals = NDArray[np.float64]

NINE_OF_TEN, INTERVAL = 0.9, 1.6448536269514722
"""The interval that is calibrated, and its half width in deviations of a Gaussian."""
MOST_COVERED = 0.98
"""The table of a network stays below this, however much easier the held-back clips are than all."""

KNOTS = (*np.linspace(0, 0.975, 40), 0.9875, 0.995, 1.0)
"""Quantiles of the score between which one value of the table is found each."""

OF_A_NETWORK: tuple[Kind, ...] = ("network", "carried")
"""Kinds whose calibration is stored with the weights."""

# --- what is made of it -------------------------------------------------------------------------------------------


def calibrated(own: Sequence[Sighting], others: Sequence[Sighting]) -> Calibrations:
    """own : of held-back clips, painted by the network; others : of other clips, without"""
    of: dict[Kind, Calibration] = {
        kind: _fitted([sighting.kinds[kind] for sighting in (*own, *others)]) for kind in ("base", "guide")
    }
    share = min(max(NINE_OF_TEN, covered(of["base"], [one.kinds["base"] for one in own])), MOST_COVERED)
    of["network"] = _fitted([one.kinds["network"] for one in own if "network" in one.kinds], share)
    of["carried"] = _fitted([_carried(one, of["network"]) for one in own if one.painted], share)
    of["held"] = _fitted([seen for one in own for seen in held_of(one, of)], share)
    return Calibrations(of)


def covered(calibration: Calibration, seen: Sequence[Seen]) -> float:
    """Share of the errors inside the interval that should hold nine of ten."""
    expected = [calibration.at(score_of(calibration, one.evidence)) for one in seen]
    return coverage(np.concatenate([one.errors for one in seen]), np.concatenate(expected))


def _carried(sighting: Sighting, network: Calibration) -> Seen:
    seen = sighting.kinds["carried"]
    painted = network.at(score_of(network, sighting.painted))
    return Seen({**seen.evidence, "painted": strength("painted", painted)}, seen.errors)


def held_of(sighting: Sighting, of: dict[Kind, Calibration]) -> list[Seen]:
    """What became of the network's picture while it was held."""
    seen = sighting.kinds.get("network")
    if seen is None:
        return []
    expected = of["network"].at(score_of(of["network"], seen.evidence))
    return [
        Seen(
            {
                name: np.broadcast_to(strength(name, value), errors.shape).astype(np.float32)
                for name, value in of_held(expected, wait, sighting.change).items()
            },
            errors,
        )
        for wait, errors in sighting.later.items()
    ]


def score_of(calibration: Calibration, strengths: Strengths) -> Cells:
    """As `Calibration.expected` has it, from strengths."""
    total = np.zeros(len(next(iter(strengths.values()))), np.float32)
    for name, weight in calibration.weights.items():
        total += np.float32(weight) * strengths[name]
    return total


def _fitted(seen: Sequence[Seen], share: float = NINE_OF_TEN) -> Calibration:
    names = tuple(seen[0].evidence)
    strengths = np.concatenate([np.stack([one.evidence[name] for name in names], 1) for one in seen])
    return fit(names, strengths.astype(np.float64), np.concatenate([one.errors for one in seen]), share)


def fit(names: Sequence[str], strengths: Reals, errors: Cells, share: float = NINE_OF_TEN) -> Calibration:
    """The calibration of one kind of picture.

    strengths : [n, names]; errors : [n], sample steps; share : of the errors inside the interval
    """
    from scipy.optimize import nnls

    logs = np.log(np.maximum(errors, LEAST_STEPS)).astype(np.float64)
    one = np.ones((len(logs), 1))
    q, r = np.linalg.qr(np.concatenate([strengths, one, -one], 1))  # a small problem with the same answer
    found, _ = nnls(r, q.T @ logs)
    weights = found[:-2]
    scores, steps = table(strengths @ weights, logs, share)
    kept = {
        name: round(float(weight), 5) for name, weight in zip(names, weights, strict=True) if weight > 1e-4
    }
    return Calibration(kept, scores, steps)


def table(
    scores: Reals, logs: Reals, share: float = NINE_OF_TEN
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean score and deviation (sample steps) by quantiles of the score; the latter never falls (isotonic regression)."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(scores, kind="stable")
    edges = np.unique(np.rint(np.array(KNOTS) * len(order)).astype(np.int64))
    parts = [order[a:b] for a, b in pairwise(edges)]
    middles = np.array([scores[part].mean() for part in parts])
    quantiles = np.array([np.quantile(logs[part], share) for part in parts])
    rising = isotonic_regression(quantiles, weights=[len(part) for part in parts]).x
    steps = np.maximum(np.exp(rising) / INTERVAL, LEAST_STEPS)
    places, first = np.unique(np.round(middles, 5), return_index=True)
    return tuple(places.tolist()), tuple(float(value) for value in np.round(steps[first], 4))


# --- all of it ----------------------------------------------------------------------------------------------------


class Fit(NamedTuple):
    """How well a calibration tells the errors that it was fitted to. ause, ause_constant : see common/quality.py"""

    coverage90: float
    ause: float
    ause_constant: float
    cells: int


def fits(calibrations: Calibrations, own: Sequence[Sighting]) -> dict[Kind, Fit]:
    """On the held-back clips."""
    of = dict(calibrations.of)
    seen: dict[Kind, list[Seen]] = {
        kind: [one.kinds[kind] for one in own if kind in one.kinds] for kind in ("base", "guide", "network")
    }
    seen["carried"] = [_carried(one, of["network"]) for one in own if one.painted]
    seen["held"] = [found for one in own for found in held_of(one, of)]
    return {kind: _fit_of(of[kind], found) for kind, found in seen.items() if found}


def _fit_of(calibration: Calibration, seen: Sequence[Seen]) -> Fit:
    errors = np.concatenate([one.errors for one in seen])
    expected = np.concatenate([calibration.at(score_of(calibration, one.evidence)) for one in seen])
    return Fit(coverage(errors, expected), ause(errors, expected), ause_of_constant(errors), errors.size)


class Files(NamedTuple):
    """What a calibration leaves: the weights with theirs, their card, and that of the levels without a network."""

    weights: Path
    card: Path
    levels: Path


def calibrate(
    clips: Path,
    out: Path,
    name_or_path: str,
    analyzer: Analyzer,
    settings: CalibrationSettings,
    seed: int = 0,
) -> tuple[Files, dict[Kind, Fit]]:
    """Calibrate weights on the clips of a folder, and write them to `out` as they are, with their calibration.

    SourceError without held-back clips, WeightsError for weights that are none, SinkError where `out` cannot be written.
    """
    own, others = measure(clips, name_or_path, analyzer, settings, seed)
    if not any(one.painted for one in own):
        raise SourceError(f"the held-back clips of {clips} are too short to calibrate with: add longer ones")
    calibrations = calibrated(own, others)
    found = fits(calibrations, own)
    return write(out, name_or_path, calibrations, found), found


def write(out: Path, name_or_path: str, calibrations: Calibrations, found: dict[Kind, Fit]) -> Files:
    """The weights with what is theirs, and apart from them what every receiver needs."""
    loaded = load_weights(name_or_path, FAMILY)
    files = Files(
        *(out / name for name in (_stem(name_or_path) + SUFFIX, _stem(name_or_path) + CARD_SUFFIX, ASSET))
    )
    theirs = Calibrations({kind: calibrations.of[kind] for kind in OF_A_NETWORK})
    rest = Calibrations({kind: calibrations.of[kind] for kind in get_args(Kind) if kind not in OF_A_NETWORK})
    try:
        out.mkdir(parents=True, exist_ok=True)
        files.levels.write_text(as_text(rest) + "\n", "utf-8")
        files.card.write_text(_card(name_or_path, found), "utf-8")
    except OSError as problem:
        remedy = "free some space or choose another folder"
        raise SinkError(f"cannot write to {out}: {problem.strerror}; {remedy}") from problem
    metadata = {**loaded.metadata, CALIBRATION: as_text(theirs)}
    save_weights(files.weights, loaded.tensors, loaded.config, FAMILY, metadata)
    return files


def _stem(name_or_path: str) -> str:
    return name_or_path if name_or_path in shipped() else Path(name_or_path).stem


_CARD_HEAD = "## Uncertainty"


def _card(name_or_path: str, found: dict[Kind, Fit]) -> str:
    """The card of the weights, with a section on their calibration in place of the one before."""
    rows = "\n".join(
        f"| {kind} | {100 * fit.coverage90:.1f} % | {fit.ause:.3f} | {fit.ause_constant:.3f} |"
        for kind, fit in found.items()
    )
    path = ASSETS / (name_or_path + CARD_SUFFIX) if name_or_path in shipped() else Path(name_or_path)
    before = path.with_suffix(CARD_SUFFIX)
    text = before.read_text("utf-8") if before.is_file() else f"# {_stem(name_or_path)}"
    return (
        f"{text.split(_CARD_HEAD)[0].rstrip()}\n\n{_CARD_HEAD}\n\n"
        "Calibrated by `semcast train calibrate` on the held-back clips, which the network has not seen. On these"
        " themselves:\n\n"
        "| picture | inside the 90 % interval | AUSE | of a constant |\n|---|---|---|---|\n"
        f"{rows}\n"
    )

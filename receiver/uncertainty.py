"""How wrong a picture may be: one map for every level of the ladder, from all that the receiver knows.

    evidence, each 8x8 cell --logarithm, weighed, summed--> score --table--> expected error --held so long--> map

Weights are never negative and tables never fall: more of any evidence never means less doubt. Both are fitted on clips
that no weights were trained on (`semcast train calibrate`). What depends on a network is stored with its weights, the
rest, which every receiver needs, in common/assets/uncertainty.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from common.errors import WeightsError
from common.fusion import CELL
from common.types import Plane

if TYPE_CHECKING:
    from common.state import Composition
    from receiver.decoder.conditions import FrameFacts

Cells = NDArray[np.float32]
"""[H/8, W/8]."""
Map = NDArray[np.uint8]
"""[H/8, W/8]: deviation in quarter sample steps, clipped at 255. Nine of ten errors (root mean square of the luma over
the cell) are within 1.645 times it."""

ASSET, CALIBRATION = "uncertainty.json", "calibration"
"""Where the two parts are: a file of common/assets, and an entry in the header of a weights file."""

BYTES_PER_STEP = 4.0
"""Of a map, for every sample step of deviation."""
LEAST_STEPS = 1 / BYTES_PER_STEP
"""An error below is rounding."""

Kind = Literal["network", "carried", "base", "guide", "held"]
"""What made a picture; `held` is what becomes of the doubt while nothing new comes."""

Evidence = Mapping[str, Cells | float]
"""What speaks for an error, by name, never negative: of each cell, or one number for the whole picture."""

UNITS: Mapping[str, float] = {
    "texture": 2.0,
    "surroundings": 2.0,
    "motion": 2.0,
    "scale": 1.0,
    "quantiser": 64.0,
    "no anchor": 1.0,
    "mistrust": 0.5,
    "contradiction": 2.0,
    "anchor age": 2.0,
    "no residual": 1.0,
    "head": 1.0,
    "override": 0.1,
    "departure": 2.0,
    "painted": 1.0,
    "moved on": 2.0,
    "shown": 1.0,
    "frames": 1.0,
    "drift": 4.0,
}
"""All evidence, and how much of each is a little: it is weighed as log(1 + evidence / unit).

texture : range of the luma over 3x3 samples, mean over the cell; surroundings : over the whole picture, for where much is
    drawn much is lost; motion : change of the luma from the picture painted before, sample steps a frame
scale, quantiser : of the guide, in doublings and in AV1's steps
no anchor : 0 or 1; mistrust : 1 - reliability of the warped anchor; contradiction : sample steps between the low-passed
    warped anchor and the guide (the motion check); anchor age : seconds
no residual : 0 or 1
head : sample steps that the network's own variance says; override : change of the anchor's share by its gate;
    departure : of its picture from the base picture, sample steps
painted : sample steps of the picture that detail was carried over from; moved on : change of the base picture since then
shown : sample steps, when the picture was painted; frames : since then; drift : sample steps it would have changed
    since, had it gone on as it did last
"""


class Estimator(Protocol):
    """From evidence to the error to expect."""

    def expected(self, kind: Kind, evidence: Evidence) -> Cells:
        """Sample steps, [H/8,W/8]."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of one kind of picture; ValueError for one that would not be monotone.

    weights : by name of evidence, not negative
    scores, steps : the table: scores rise, expected errors in sample steps do not fall
    """

    weights: Mapping[str, float]
    scores: tuple[float, ...]
    steps: tuple[float, ...]

    def __post_init__(self) -> None:
        sound = (
            all(map(math.isfinite, (*self.weights.values(), *self.scores, *self.steps)))
            and all(weight >= 0 for weight in self.weights.values())
            and self.weights.keys() <= UNITS.keys()
            and 0 < len(self.scores) == len(self.steps)
            and all(a < b for a, b in pairwise(self.scores))
            and all(a <= b for a, b in pairwise((LEAST_STEPS, *self.steps)))
        )
        if not sound:
            raise ValueError(
                "a calibration has known evidence, weights from 0 up and a table that never falls"
            )

    def expected(self, evidence: Evidence) -> Cells:
        """Sample steps, between the ends of the table."""
        score = np.zeros(shape_of(evidence), np.float32)
        for name, weight in self.weights.items():
            score += np.float32(weight) * strength(name, evidence[name])
        return self.at(score)

    def at(self, score: Cells) -> Cells:
        """Sample steps at these scores."""
        return np.exp(np.interp(score, self.scores, np.log(self.steps))).astype(np.float32)


def strength(name: str, value: Cells | float) -> Cells:
    """Evidence on the scale on which it is weighed."""
    return np.log1p(np.asarray(value, np.float32) / np.float32(UNITS[name]))


def shape_of(evidence: Evidence) -> tuple[int, ...]:
    """Of the map that is made of it."""
    return np.broadcast_shapes(*(np.shape(value) for value in evidence.values()))


@dataclass(frozen=True, slots=True)
class Calibrations:
    """A calibration for each kind of picture (an `Estimator`). A network without one is taken at its word."""

    of: Mapping[Kind, Calibration]

    @classmethod
    def shipped(cls) -> Calibrations:
        """Those of the levels without a network; WeightsError where the file is damaged."""
        return parsed(files("common").joinpath("assets", ASSET).read_text("utf-8"), ASSET)

    def expected(self, kind: Kind, evidence: Evidence) -> Cells:
        known = self.of.get(kind)
        if known is None:
            own_word = evidence["head" if kind == "network" else "painted"]
            return np.maximum(np.asarray(own_word, np.float32), np.float32(LEAST_STEPS))
        return known.expected(evidence)

    def joined(self, other: Calibrations) -> Calibrations:
        """Both; what `other` has comes first."""
        return Calibrations({**self.of, **other.of})


def as_text(calibrations: Calibrations) -> str:
    """JSON."""
    return json.dumps({kind: asdict(one) for kind, one in calibrations.of.items()}, indent=1)


def parsed(text: str, where: str) -> Calibrations:
    """The reverse of `as_text`; `where` names it in the WeightsError for text that is none."""
    try:
        found = {
            kind: Calibration(one["weights"], tuple(one["scores"]), tuple(one["steps"]))
            for kind, one in json.loads(text).items()
            if kind in get_args(Kind)
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"the calibration in {where} is damaged: run `semcast train calibrate`") from error
    return Calibrations(found)


# --- evidence -----------------------------------------------------------------------------------------------------


def cell_means(samples: NDArray[np.generic]) -> Cells:
    """[H,W] -> [H/8,W/8], sides multiples of 8."""
    height, width = samples.shape
    plain = np.ascontiguousarray(samples, np.float32)
    means = cv2.resize(plain, (width // CELL, height // CELL), interpolation=cv2.INTER_AREA)
    return np.asarray(means, np.float32)


def texture(luma: Plane) -> Cells:
    """Mean range over 3x3 samples."""
    return cell_means(cv2.morphologyEx(luma, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)))


def low_passed(luma: Plane, scale: int) -> Plane:
    """What a guide of this scale could carry of it, [H/scale,W/scale]."""
    if scale == 1:
        return luma
    size = luma.shape[1] // scale, luma.shape[0] // scale
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), np.uint8)


def in_cells(low: NDArray[np.generic], scale: int) -> Cells:
    """Means over cells of [H/scale,W/scale]."""
    width, height = low.shape[1] * scale // CELL, low.shape[0] * scale // CELL
    plain = np.ascontiguousarray(low, np.float32)
    return np.asarray(cv2.resize(plain, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def of_guide(composition: Composition, facts: FrameFacts) -> Evidence:
    """What speaks against the guide itself, but for its motion."""
    return _of_picture(composition.guide.y, facts)


def of_base(composition: Composition, facts: FrameFacts) -> Evidence:
    """What speaks against the base picture, but for its motion."""
    rows, cols = composition.residual_mask.shape
    received = cv2.resize(composition.residual_mask, (2 * cols, 2 * rows), interpolation=cv2.INTER_NEAREST)
    return {
        **_of_picture(composition.base.y, facts), **_of_anchor(composition, facts),
        "no residual": 1 - received.astype(np.float32),
    }  # fmt: skip


def of_network(base: Evidence, head: Cells, override: Cells, departure: Cells) -> Evidence:
    """What speaks against the network's picture, with what does against the base picture that it began from."""
    return {**base, "head": head, "override": override, "departure": departure}


def of_carried(base: Evidence, painted: Cells, change: Cells) -> Evidence:
    """What speaks against a picture with detail that was carried over, with what does against its base picture.

    painted : sample steps that the picture which the detail is of was wrong by; change : of the base picture since then
    """
    return {**base, "painted": painted, "moved on": change}


def of_held(shown: Cells, frames: int, change: Cells) -> Evidence:
    """What speaks against a picture that is still shown so many frames later. change : the last that it made, steps"""
    return {"shown": shown, "frames": float(frames), "drift": change * np.float32(frames)}


def _of_picture(luma: Plane, facts: FrameFacts) -> dict[str, Cells | float]:
    drawn = texture(luma)
    return {
        "texture": drawn, "surroundings": float(drawn.mean()), "scale": math.log2(facts.guide_scale),
        "quantiser": float(facts.guide_q),
    }  # fmt: skip


def _of_anchor(composition: Composition, facts: FrameFacts) -> dict[str, Cells | float]:
    warped = composition.warped
    if warped is None:
        return {"no anchor": 1.0, "mistrust": 0.0, "contradiction": 0.0, "anchor age": 0.0}
    scale = facts.guide_scale
    apart = cv2.absdiff(low_passed(warped.y, scale), low_passed(composition.guide.y, scale))
    return {
        "no anchor": 0.0, "mistrust": (1 - composition.reliability / np.float32(255)).astype(np.float32),
        "contradiction": in_cells(apart, scale), "anchor age": max(0.0, facts.anchor_age_s),
    }  # fmt: skip


# --- maps ---------------------------------------------------------------------------------------------------------


def as_map(steps: Cells) -> Map:
    """Expected errors as bytes."""
    return np.clip(np.rint(steps * BYTES_PER_STEP), 1, 255).astype(np.uint8)


def in_steps(uncertainty: Map) -> Cells:
    """The reverse, sample steps."""
    return uncertainty.astype(np.float32) / np.float32(BYTES_PER_STEP)


def score(uncertainty: Map | None) -> float | None:
    """How wrong a whole picture may be: the mean of its map in sample steps; None without one."""
    return None if uncertainty is None else float(np.mean(uncertainty)) / BYTES_PER_STEP

"""Says of every picture that a painter makes how wrong it may be, and goes on saying it while that picture is held.

composition, facts, what the network said --evidence--> expected error --frames since then--> map
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from common.types import Picture
from receiver.uncertainty import (
    Calibrations,
    Cells,
    Estimator,
    Evidence,
    Kind,
    Map,
    as_map,
    cell_means,
    in_steps,
    of_base,
    of_carried,
    of_guide,
    of_held,
    of_network,
)

if TYPE_CHECKING:
    from common.state import Composition
    from receiver.decoder.conditions import FrameFacts


@dataclass(frozen=True, slots=True, eq=False)
class _Gauged:
    """The picture painted last.

    shows : its frame; expected : its error then, sample steps; change : of its luma from the one before, for each frame
    """

    picture: Picture
    shows: int
    expected: Cells
    change: Cells


class Gauge:
    """Remembers the picture painted last, and nothing else; `reset` forgets it."""

    def __init__(self, estimator: Estimator | None = None) -> None:
        """estimator : by default the calibrations that every receiver has"""
        self._estimator = estimator or Calibrations.shipped()
        self._last: _Gauged | None = None

    @property
    def picture(self) -> Picture | None:
        """The picture painted last."""
        return None if self._last is None else self._last.picture

    def reset(self) -> None:
        """Forget it."""
        self._last = None

    def plain(self, level: str, composition: Composition, facts: FrameFacts) -> tuple[Picture, Map]:
        """The picture of a level without a network, and its map; where nothing can be held it is the base picture."""
        if level == "hold" and self._last is not None:
            return self._last.picture, self._held(facts.due)
        if level == "guide":
            return self._painted("guide", composition.guide, of_guide(composition, facts), composition, facts)
        return self._painted("base", composition.base, of_base(composition, facts), composition, facts)

    def network(
        self, picture: Picture, composition: Composition, facts: FrameFacts, head: Cells, override: Cells
    ) -> Map:
        """Map of the network's picture.

        head : sample steps that it expects to be wrong by; override : how far it moved the anchor's share
        """
        apart = cv2.absdiff(picture.y, composition.base.y).astype(np.float32)
        evidence = of_network(of_base(composition, facts), head, override, np.sqrt(cell_means(apart * apart)))
        return self._painted("network", picture, evidence, composition, facts)[1]

    def carried(
        self, picture: Picture, composition: Composition, facts: FrameFacts, painted: Map, under: Picture
    ) -> Map:
        """Map of a picture with detail that was carried over.

        painted : map of the picture that the detail is of; under : its base picture
        """
        change = cell_means(cv2.absdiff(composition.base.y, under.y))
        evidence = of_carried(of_base(composition, facts), in_steps(painted), change)
        return self._painted("carried", picture, evidence, composition, facts)[1]

    def held_at(self, slot: int) -> Map | None:
        """Map of the picture painted last at the time of frame `slot`, None before any."""
        return None if self._last is None else self._held(slot)

    def _painted(
        self, kind: Kind, picture: Picture, evidence: Evidence, composition: Composition, facts: FrameFacts
    ) -> tuple[Picture, Map]:
        change = self._change(picture, facts.shows)
        expected = self._estimator.expected(kind, {**evidence, "motion": change})
        if composition.noise is not None:  # known where, while the network is told its mean alone
            expected = np.maximum(expected, composition.noise)
        self._last = _Gauged(picture, facts.shows, expected, change)
        return picture, self._held(facts.due)

    def _held(self, slot: int) -> Map:
        assert self._last is not None
        expected, frames = self._last.expected, slot - self._last.shows
        if frames > 0:
            aged = self._estimator.expected("held", of_held(expected, frames, self._last.change))
            expected = np.maximum(expected, aged)
        return as_map(expected)

    def _change(self, picture: Picture, shows: int) -> Cells:
        last = self._last
        if last is None or last.picture.y.shape != picture.y.shape:
            return np.zeros((picture.height // 8, picture.width // 8), np.float32)
        if shows <= last.shows:  # painted again
            return last.change
        change: NDArray[np.float32] = cell_means(cv2.absdiff(picture.y, last.picture.y))
        return change / np.float32(shows - last.shows)

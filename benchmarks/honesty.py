"""How well the uncertainty maps of a series of pictures tell the errors that were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import CellDoubt, Safety, Uncertainty
from common.fusion import CELL
from common.quality import ause, ause_of_constant, coverage
from common.types import Picture
from receiver.uncertainty import Map, in_steps, score

EVERY = 4
"""Pictures between two whose cells are looked at: neighbours hardly differ."""

Floats = NDArray[np.float32]


def cell_error(source: Picture, picture: Picture) -> Floats:
    """Root mean square of the luma's error over the whole 8x8 cells of the source, [h,w] in sample steps."""
    rows, cols = source.height // CELL, source.width // CELL
    cut = (plane[: rows * CELL, : cols * CELL].astype(np.float32) for plane in (source.y, picture.y))
    difference = np.subtract(*cut)
    cells: Floats = np.square(difference).reshape(rows, CELL, cols, CELL).mean(axis=(1, 3))
    return np.sqrt(cells)


@dataclass(slots=True)
class Tally:
    """Adds up what pictures said of themselves, by level."""

    _errors: dict[str, list[Floats]] = field(default_factory=dict)
    _stated: dict[str, list[Floats]] = field(default_factory=dict)
    _scores: list[float] = field(default_factory=list)
    _taken: list[float] = field(default_factory=list)
    _count: int = 0

    def add(
        self, level: str, source: Picture, picture: Picture, uncertainty: Map | None, taken_back: float
    ) -> None:
        """One picture beside its source; those without a map are left out."""
        self._taken.append(taken_back)
        mean = score(uncertainty)
        if uncertainty is None or mean is None:
            return
        self._scores.append(mean)
        if self._count % EVERY == 0:
            error = cell_error(source, picture)
            rows, cols = error.shape
            self._errors.setdefault(level, []).append(error.ravel())
            self._stated.setdefault(level, []).append(in_steps(uncertainty)[:rows, :cols].ravel())
        self._count += 1

    def uncertainty(self) -> Uncertainty:
        """Over all pictures, and by level."""
        if not self._scores:
            return Uncertainty()
        every = _doubt(*(np.concatenate([x for of in parts.values() for x in of]) for parts in self._parts()))
        levels = {
            level: _doubt(*(np.concatenate(parts[level]) for parts in self._parts()))
            for level in self._errors
        }
        steps = float(np.mean(self._scores))
        return Uncertainty(
            mean=min(1.0, steps * 4 / 255), steps=steps, levels=levels, **every.model_dump(exclude={"cells"})
        )

    def safety(self) -> Safety:
        """What was taken back."""
        taken = np.array(self._taken)
        return Safety(
            pictures=int(np.count_nonzero(taken)), mean=float(taken.mean()) if taken.size else 0.0,
            most=float(taken.max(initial=0.0)),
        )  # fmt: skip

    def _parts(self) -> tuple[Mapping[str, list[Floats]], Mapping[str, list[Floats]]]:
        return self._errors, self._stated


def _doubt(error: Floats, stated: Floats) -> CellDoubt:
    return CellDoubt(
        coverage90=coverage(error, stated), ause=ause(error, stated), ause_constant=ause_of_constant(error),
        cells=error.size,
    )  # fmt: skip

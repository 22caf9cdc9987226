"""What was painted, counted for the statement that a recording carries (common/provenance.py)."""

from __future__ import annotations

import numpy as np

from common.config import ReceiverSettings
from common.provenance import ENHANCED, PARTLY_GENERATED, STATEMENT, Provenance, UncertaintySummary, WeightsId
from common.weights import weights_id
from receiver.pipeline import Shown
from receiver.uncertainty import BYTES_PER_STEP


def model_of(settings: ReceiverSettings) -> WeightsId | None:
    """The weights that a receiver with these settings loads. Raises WeightsError where they are missing."""
    return None if settings.steps == 0 else weights_id(settings.decoder)


class PaintedTally:
    """Pictures of one recording.

    model : the weights that may paint, None where none is loaded
    """

    def __init__(self, model: WeightsId | None) -> None:
        self._model = model
        self._pictures = self._generated = 0
        self._last_generated = False
        self._cells = np.zeros(256, np.int64)
        """Cells by their uncertainty, which is a byte."""

    @classmethod
    def of(cls, settings: ReceiverSettings) -> PaintedTally:
        """For what these settings load. Raises WeightsError where that is missing."""
        return cls(model_of(settings))

    def add(self, shown: Shown) -> None:
        """One picture more. One that is held shows what was painted before: it counts as that."""
        if shown.level != "hold":
            self._last_generated = shown.level not in ("guide", "base")
        self._pictures += 1
        self._generated += self._last_generated
        if shown.uncertainty is not None and self._last_generated:
            self._cells += np.bincount(shown.uncertainty.ravel(), minlength=256)

    def marking(self) -> Provenance:
        """The statement as of now: without counts before the first picture."""
        known = self._pictures > 0
        return Provenance(
            digital_source_type=PARTLY_GENERATED if self._model else ENHANCED, model=self._model,
            statement=STATEMENT if self._model else None, pictures=self._pictures if known else None,
            generated_pictures=self._generated if known else None, uncertainty=self._summary(),
        )  # fmt: skip

    def _summary(self) -> UncertaintySummary | None:
        total = int(self._cells.sum())
        if not total:
            return None
        mean = float(self._cells @ np.arange(256)) / total / BYTES_PER_STEP
        p95 = float(np.searchsorted(np.cumsum(self._cells), 0.95 * total)) / BYTES_PER_STEP
        return UncertaintySummary(mean=round(mean, 3), p95=p95)

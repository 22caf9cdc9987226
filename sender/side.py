"""What a FRAME carries beside the guide: motion corrections and label maps, each only when worth its bits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from common.ports import Analyzer
from common.semantics import encode_labels
from common.state import SceneState
from common.types import Picture
from sender.rate import RateTarget
from sender.updates import FlowEstimator, choose_update


@dataclass(slots=True)
class SideInfo:
    """rate_hz : label maps per second, 0 sends none"""

    analyzer: Analyzer
    target: RateTarget
    rate_hz: float
    flow: FlowEstimator = field(default_factory=FlowEstimator)
    labelled_slot: int = -1 << 20

    def motion(self, source: Picture, anchor_source: Picture, followed: SceneState) -> bytes | None:
        """Corrections of the derived motion of the anchor in use."""
        candidate = self.flow.field(source.y, anchor_source.y, followed.field)
        return choose_update(source, followed, candidate, self._error_per_bit(source, followed))

    def _error_per_bit(self, source: Picture, followed: SceneState) -> float:
        """What a bit buys elsewhere: at these rates squared error falls as rate**-0.57 (measured on the ladder)."""
        assert followed.guide is not None
        small = source.y[:: followed.scale, :: followed.scale].astype(np.float32)
        error = float(np.mean((small - followed.guide.y) ** 2)) * source.y.size
        return 0.57 * error / (8 * self.target.picture_bytes)

    def labels(self, source: Picture, followed: SceneState) -> bytes | None:
        """The label map, when one is due and differs from what both ends expect."""
        if followed.slot - self.labelled_slot < self.target.frame_rate / max(self.rate_hz, 1e-6):
            return None
        self.labelled_slot = followed.slot
        labels, carried = self.analyzer.label(source), followed.labels_now()
        if np.array_equal(labels, carried):
            return None
        return encode_labels(labels, carried, followed.label_tables)[0]

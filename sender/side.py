"""What a FRAME carries beside the guide: motion corrections and label maps, each only when worth its bits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from common.config import SemanticsSettings
from common.ports import Analyzer
from common.semantics import encode_labels
from common.state import SceneState
from common.types import Picture
from sender.rate import RateTarget
from sender.updates import FlowEstimator, choose_update


@dataclass(slots=True)
class SideInfo:
    """next_labels : the slot from which on a label map may be sent again"""

    analyzer: Analyzer
    target: RateTarget
    semantics: SemanticsSettings
    flow: FlowEstimator = field(default_factory=FlowEstimator)
    next_labels: float = 0.0

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

    def labels_due(self, slot: int) -> bool:
        """Whether a label map may be sent with the frame at `slot`."""
        return self.semantics.enabled and slot >= self.next_labels

    def labels(self, source: Picture, followed: SceneState) -> bytes | None:
        """The label map, when one is due and differs from what both ends expect."""
        if not self.labels_due(followed.slot):
            return None
        self.next_labels = followed.slot + self.target.frame_rate / self.semantics.rate_hz
        labels, carried = self.analyzer.label(source), followed.labels_now()
        if np.array_equal(labels, carried):
            return None
        data = encode_labels(labels, carried, followed.label_tables)[0]
        paid_slots = len(data) / (self.semantics.max_share * self.target.picture_bytes)
        self.next_labels = max(self.next_labels, followed.slot + paid_slots)
        return data

"""Denoising reuse: the later steps of a picture, from where an earlier picture's run of the bridge had been.

    earlier run: z_1 -> x_1 -> x_.75 -> x_.5 -> x_.25      kept: what each prediction added to the base picture
    later one:           z_t* -> ... -> x_.25              z_t* = (1-t*) (b + fit (x-b)_before) + t* b + sigma(t*,u) eps

The switch step t* falls with how little the base picture has changed and how far it can be trusted (`bridge.switch_time`,
calibrated by `python -m training.reuse`). Only runs from t = 1 are kept, so nothing chains. After Denoising Reuse
(Ding et al. 2024, "Dr. Mo"), with the change of the base picture in the place of motion: what moves begins afresh.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from receiver.decoder.carry import NEIGHBOURHOOD, TOLERANCE
from receiver.decoder.conditions import LUMA_PHASES, UNITS


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """Where a run of the bridge has been. At most four pictures, as the network sees them.

    base : [N,6,H/2,W/2] its base picture
    times : of its network calls, falling from 1
    details : what each predicted, minus the base picture
    """

    base: Tensor
    times: tuple[float, ...]
    details: tuple[Tensor, ...]

    @classmethod
    def of(cls, base: Tensor, times: tuple[float, ...], predicted: tuple[Tensor, ...]) -> Path:
        """predicted : at each of `times`, or at the first of them where the run was stopped"""
        return cls(base, times[: len(predicted)], tuple(x - base for x in predicted))

    def change(self, base: Tensor) -> float | None:
        """Mean absolute change of the base picture's luma at half size since, sample steps; None for another size."""
        return None if base.shape != self.base.shape else float(self._changes(base).mean())

    def before(self, t: float, base: Tensor) -> Tensor:
        """The picture that the run is taken to have predicted before time t < 1, as far as it still fits on `base`."""
        detail = [detail for time, detail in zip(self.times, self.details, strict=True) if time > t][-1]
        changes = F.avg_pool2d(
            self._changes(base), NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2, count_include_pad=False
        )
        return base + (1 - changes / TOLERANCE).clamp(0.0, 1.0).to(base) * detail

    def _changes(self, base: Tensor) -> Tensor:
        """[N,1,H/2,W/2], sample steps."""
        change = (base[:, :LUMA_PHASES].float() - self.base[:, :LUMA_PHASES].float()).mean(1, keepdim=True)
        return torch.abs(change) * UNITS

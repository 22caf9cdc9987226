"""What `report.html` is drawn from: one run of the link, picture by picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Event
from common.stats import Freeze
from common.types import Colour, Picture

Series = NDArray[np.float64]

PICTURES = ("guide", "base", "output")
"""Names of the series in `Timeline.psnr_yuv` and `Timeline.ms_ssim`, from the poorest to what was shown."""

AFTER_CUT_S = (0.0, 0.1, 0.3, 1.0)
"""When to look at a new scene: at once, and as it sharpens."""


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Pictures at one instant, all of the output's size.

    pts_s : the instant on the source's time line
    title : why it was chosen, such as "cut + 0.1 s"
    level : level of the ladder that painted the output
    source, output : always there
    guide, base : None where the receiver had none
    uncertainty : [h, w] float32 0..1 at any resolution, None where there is no map
    """

    pts_s: float
    title: str
    level: str
    source: Picture
    output: Picture
    guide: Picture | None = None
    base: Picture | None = None
    uncertainty: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """One value per source frame slot; N slots, N >= 1.

    pts_s : [N] seconds, ascending, from 0
    bytes_by_layer : layer name -> [N] bytes handed to the transport while that slot was current
    psnr_yuv : picture name (`PICTURES`) -> [N] dB; NaN where the picture did not exist
    ms_ssim : likewise, 0..1
    latency_ms : [N] capture to display; NaN where nothing new was shown for the slot
    level : N names of levels of the ladder
    uncertainty : [N] expected error of the picture, sample steps, NaN without a map; or None where there is none at all
    events : instants, ascending; those of kind "freeze" are drawn from `freezes` instead
    freezes : intervals on the time line of `pts_s`
    target_kbps : drawn as a line; None where there was no target
    late : N times whether the receiver worked longer than its budget on the picture; None where there was no deadline
    snapshots : pictures to show, in time order
    colour : how samples map to light
    """

    pts_s: Series
    bytes_by_layer: Mapping[str, NDArray[np.int64]]
    psnr_yuv: Mapping[str, Series]
    ms_ssim: Mapping[str, Series]
    latency_ms: Series
    level: Sequence[str]
    uncertainty: Series | None = None
    events: Sequence[Event] = ()
    freezes: Sequence[Freeze] = ()
    target_kbps: float | None = None
    late: Sequence[bool] | None = None
    snapshots: Sequence[Snapshot] = ()
    colour: Colour = Colour()

    def __post_init__(self) -> None:
        """Raises ValueError when a series has another length than `pts_s`."""
        series: dict[str, Sequence[object] | NDArray[np.generic]] = {
            **{f"bytes_by_layer[{name}]": values for name, values in self.bytes_by_layer.items()},
            **{f"psnr_yuv[{name}]": values for name, values in self.psnr_yuv.items()},
            **{f"ms_ssim[{name}]": values for name, values in self.ms_ssim.items()},
            "latency_ms": self.latency_ms,
            "level": self.level,
        }
        if self.uncertainty is not None:
            series["uncertainty"] = self.uncertainty
        if self.late is not None:
            series["late"] = self.late
        for name, values in series.items():
            if len(values) != len(self.pts_s) or len(values) == 0:
                raise ValueError(f"{name} has {len(values)} values for {len(self.pts_s)} slots")

    @property
    def frame_s(self) -> float:
        """Mean duration of a slot, seconds; 1/30 for a single picture."""
        if len(self.pts_s) < 2:
            return 1.0 / 30.0
        return float(self.pts_s[-1] - self.pts_s[0]) / (len(self.pts_s) - 1)

    def times_s(self, kind: str) -> list[float]:
        """Instants of all events of one kind."""
        return [event.pts_s for event in self.events if event.kind == kind]


def choose_snapshots(pts_s: Series, cuts_s: Sequence[float], evenly: int = 5) -> list[tuple[int, str]]:
    """Slots worth showing, with titles: `evenly` spread over the clip, and several after each cut.

    A slot that several reasons ask for comes once, titled by the cut.
    """
    last = len(pts_s) - 1
    titles = {round(last * (i + 1) / (evenly + 1)): "" for i in range(evenly)}
    for cut_s in cuts_s:
        for after_s in AFTER_CUT_S:
            slot = int(np.searchsorted(pts_s, cut_s + after_s - 1e-6))
            later_cut = any(cut_s < other_s <= cut_s + after_s for other_s in cuts_s)
            if slot <= last and not later_cut:
                titles[slot] = f"cut + {after_s:g} s" if after_s else "cut"
    return sorted(titles.items())

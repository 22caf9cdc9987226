"""What `semcast bench rd` finds, as documents: `rd.json` is `RdReport`.

A gap is the percentage of bits that we need more than a reference for equal quality (benchmarks/envelope.py): than
SVT-AV1 alone, which our guide is made with, and than the best of all peers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict, Field, JsonValue

from benchmarks.peers import RdPoint
from benchmarks.rd_clip import ClipFacts
from benchmarks.rd_plan import Level
from benchmarks.rd_quality import MeasureName, MetricName, Quality
from benchmarks.rd_runs import KeptPicture, OurPoint
from benchmarks.report import Model, Safety, Uncertainty
from benchmarks.tables import Requirement

SCHEMA_NAME: Literal["semcast.rd/2"] = "semcast.rd/2"

RESULT_KEYS: Mapping[MeasureName, str] = {
    "psnr_yuv": "psnr-yuv", "ms_ssim": "ms-ssim", "vmaf": "vmaf", "feature_distance": "feature-distance",
    "lpips": "lpips", "dists": "dists", "warping_error": "warping-error",
}  # fmt: skip
"""Names of the measures in a system's results."""

BEST = "best"
"""What the best of all peers is called where figures name their reference."""

OURS = "semcast "
"""What the names of our systems begin with."""

Band = Literal["all", "low"]
"""The rates that a BD-rate is over: all of ours, or those within `LOW_BAND_KBPS`."""
LOW_BAND_KBPS = (8.0, 64.0)

RATE_TOLERANCE_PERCENT = 10.0
"""How far our rate may be from its target."""


@dataclass(frozen=True, slots=True)
class ClipRuns:
    """All that was measured on one clip. ours : by rising target; pictures : by target in kbit/s"""

    name: str
    clip: ClipFacts
    ours: tuple[OurPoint, ...]
    ladder: tuple[RdPoint, ...]
    pictures: Mapping[float, tuple[KeptPicture, ...]]


class System(Model):
    """One curve, as the results of CompressAI are written; all lists are equally long, one value for each point."""

    name: str
    description: str
    results: dict[str, list[float]]


class LevelRow(Model):
    """Our pictures of one level at one rate.

    gaps : reference -> metric -> percent more bits than the reference at equal quality; None outside its range
    unsteadiness_percent : warping error above that of the best peer at this rate; None where either is unknown
    """

    level: Level
    quality: Quality
    gaps: dict[str, dict[MetricName, float | None]]
    unsteadiness_percent: float | None


class RateRow(Model):
    """One rate of our system.

    ratio : rate over target
    excuse : why another rate than the target is the content's doing, None where it is not or need not be
    in_ladder : references that exist at this rate
    uncertainty, safety : what the output says of itself; None without an output
    """

    target_kbps: float
    kbps: float
    ratio: float
    excuse: str | None
    in_ladder: list[str]
    levels: list[LevelRow]
    uncertainty: Uncertainty | None = None
    safety: Safety | None = None


class Delta(Model):
    """Bjontegaard delta rate of one level against one reference, percent, with the overlap of the qualities 0..1."""

    level: Level
    against: str
    metric: MetricName
    band: Band
    percent: float | None
    overlap: float
    reason: str | None


class Shot(Model):
    """Pictures of one instant at one rate, the source first."""

    target_kbps: float
    pictures: list[KeptPicture]


class ClipReport(Model):
    """One clip."""

    name: str
    clip: ClipFacts
    systems: list[System]
    rates: list[RateRow]
    bd_rates: list[Delta]
    shots: list[Shot]


class Mean(Model):
    """One figure over the clips for which it exists.

    target_kbps : of a gap at one rate; None for a BD-rate
    band : rates that a BD-rate is over; "all" for a gap
    worst_clip : where the figure is largest
    """

    level: Level
    against: str
    metric: MetricName
    target_kbps: float | None
    band: Band
    clips: int
    mean_percent: float
    median_percent: float
    worst_percent: float
    worst_clip: str


class RdReport(Model):
    """`rd.json`, and the last line of the output.

    networks : facts of the networks behind the levels `sr` and `output`, which are to be of equal compute
    systems : every system, its points in the mean over the clips
    """

    model_config = ConfigDict(
        title="Semcast rate and distortion", serialize_by_alias=True, validate_by_name=True
    )

    schema_name: Literal["semcast.rd/2"] = Field(default=SCHEMA_NAME, alias="schema")
    plan: dict[str, JsonValue]
    config: dict[str, JsonValue]
    versions: dict[str, str]
    networks: dict[Level, dict[str, JsonValue]]
    requirements: list[Requirement]
    summary: list[Mean]
    systems: list[System]
    clips: list[ClipReport]

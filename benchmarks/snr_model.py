"""What `semcast bench snr` finds, as documents: `snr.json` is `SnrReport`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, JsonValue

from benchmarks.rd_quality import MeasureName
from benchmarks.rd_runs import KeptPicture
from benchmarks.report import Model
from benchmarks.snr_plan import Axis, SystemName
from benchmarks.snr_runs import LinkPoint
from benchmarks.tables import Requirement

SCHEMA_NAME: Literal["semcast.snr/1"] = "semcast.snr/1"

ENVELOPE = "peers, envelope"
"""The best that any peer does with any scheme, for each clip, value and measure."""
ADAPTIVE = "adaptive"

FREEZE: Literal["freeze_ratio"] = "freeze_ratio"
Figure = MeasureName | Literal["freeze_ratio"]
"""What is drawn against the channel."""


class Mean(Model):
    """One figure at one value of the channel. mean : over clips and seeds; low, high : 95 % confidence over the seeds of
    the mean over clips (Student's t), None with one seed"""

    mean: float
    low: float | None = None
    high: float | None = None


class SeriesPoint(Model):
    """One system at one value. kbps, cbr : means; figures : what was measured by all clips and seeds"""

    value: float
    runs: int
    kbps: float | None
    cbr: float | None
    figures: dict[Figure, Mean]


class Series(Model):
    """One line of the figures.

    system : such as "semcast", "svt-av1 16qam-1/2", "svt-av1 envelope" (the best of its schemes), "peers, envelope"
    """

    system: str
    points: list[SeriesPoint]


class Row(Model):
    """One run, for the CSV and for whoever wants to look closer."""

    channel: str
    value: float
    clip: str
    seed: int
    system: SystemName
    variant: str
    point: LinkPoint


class Shot(Model):
    """Pictures of one clip at one value, the source first."""

    clip: str
    value: float
    pictures: list[KeptPicture]


class ChannelReport(Model):
    """One kind of channel."""

    name: str
    spec: str
    axis: Axis
    series: list[Series]
    shots: list[Shot]

    def named(self, system: str) -> Series | None:
        """The line of a system."""
        return next((series for series in self.series if series.system == system), None)


class SnrReport(Model):
    """Everything."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True, validate_by_name=True)

    schema_name: Literal["semcast.snr/1"] = Field(default=SCHEMA_NAME, alias="schema")
    plan: dict[str, JsonValue]
    config: dict[str, dict[str, JsonValue]]
    versions: dict[str, str]
    requirements: list[Requirement]
    channels: list[ChannelReport]
    rows: list[Row] = Field(default_factory=list)

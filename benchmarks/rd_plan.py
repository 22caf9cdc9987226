"""What `semcast bench rd` compares: a short TOML file, checked.

clips = ["clips/*.mp4"]            # paths or patterns, from this file's folder or the current one; none: built-in clip
size = "512x512"
seconds = 5.0                      # of each clip; all of it by default
rates = ["24k", "100k"]            # of our system
levels = ["guide", "base"]         # and "output", the decoder's pictures, and "sr", which take long
sr_weights = "sr.safetensors"      # network of the level "sr": a bridge decoder trained on the guide alone
peers = ["svt-av1", "x265"]
vmaf = true
lpips = "lpips-alex.safetensors"   # backbone files (common/perceptual.py); without them there are no such figures
dists = "dists.safetensors"
pictures = ["24k"]                 # rates at which pictures are shown side by side
set = ["anchor.max_share=0.2"]     # settings of our system, as for --set
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmarks.peers import PEERS, PeerCodec
from benchmarks.plans import checked, with_files
from benchmarks.rd_quality import Metrics
from common.config import Bitrate, PictureSize, Size, read_toml
from common.errors import UsageError

Level = Literal["guide", "base", "sr", "output"]
"""Our pictures: the guide enlarged, the base picture, what the decoder paints from it; and as a peer of the same
compute what a plain super-resolution network makes of the guide alone (benchmarks/rd_sr.py)."""
PeerName = Literal["svt-av1", "x265", "vp9", "x264"]

SHOWN_BPS = (24_000, 100_000)
"""Rates at which pictures are shown where the plan names none."""


class RdPlan(BaseModel):
    """What to compare; the top of this file shows it as TOML.

    clips : paths or patterns; none is the built-in clip
    seconds : of each clip, None for all of it
    rates : targets of our system, bit/s, ascending
    pictures : those of `rates` at which pictures are kept and shown
    sr_weights : file (or shipped name) of the network of the level "sr"
    lpips, dists : backbone files of the user's, None leaves these metrics out
    set : settings of our system, `section.key=value`; rates and size of the plan win
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    clips: tuple[str, ...] = ()
    size: PictureSize = Size(512, 512)
    seconds: Annotated[float, Field(gt=0.0)] | None = None
    rates: Annotated[tuple[Bitrate, ...], Field(min_length=1)] = (
        8_000, 16_000, 24_000, 48_000, 100_000, 400_000, 1_000_000,
    )  # fmt: skip
    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = ("guide", "base")
    sr_weights: Annotated[str, Field(min_length=1)] | None = None
    peers: Annotated[tuple[PeerName, ...], Field(min_length=1)] = ("svt-av1", "x265", "vp9", "x264")
    vmaf: bool = True
    lpips: Annotated[str, Field(min_length=1)] | None = None
    dists: Annotated[str, Field(min_length=1)] | None = None
    pictures: tuple[Bitrate, ...] | None = None
    set: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sorted(set(self.rates)) != list(self.rates):
            raise ValueError("rates must rise")
        for name, values in (("levels", self.levels), ("peers", self.peers)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names something twice")
        if not set(self.pictures or ()) <= set(self.rates):
            raise ValueError("pictures must be among rates")
        if "sr" in self.levels and self.sr_weights is None:
            raise ValueError(
                'the level sr needs sr_weights = "FILE.safetensors" (or --sr-weights FILE): a bridge decoder that was'
                " trained on the guide alone"
            )
        if self.sr_weights is not None and "sr" not in self.levels:
            raise ValueError("sr_weights is for the level sr, which levels does not name")
        return self

    @property
    def codecs(self) -> tuple[PeerCodec, ...]:
        """The peers in the order of the plan."""
        known = {codec.name: codec for codec in PEERS}
        return tuple(known[name] for name in self.peers)

    @property
    def metrics(self) -> Metrics:
        """What is measured besides what always is."""
        return Metrics(self.vmaf, self.lpips, self.dists)

    @property
    def shown_bps(self) -> tuple[int, ...]:
        """Rates at which pictures are kept: those asked for, else the usual ones, else the middle one."""
        if self.pictures is not None:
            return self.pictures
        usual = tuple(rate for rate in SHOWN_BPS if rate in self.rates)
        return usual or (self.rates[len(self.rates) // 2],)


BUILTIN = RdPlan(rates=(24_000, 48_000, 100_000, 400_000), peers=("svt-av1", "x265"))
"""What is compared when nobody says what: the whole built-in clip, since in a shorter one its cuts are not paid back;
about two minutes on two free cores."""

QUICK = RdPlan(
    rates=(16_000, 24_000, 40_000, 64_000, 100_000), levels=("guide", "base", "output"), peers=("svt-av1",)
)
"""A first look in minutes: the output too, low rates, one peer."""


def load_plan(
    path: Path | None,
    clips: Sequence[str] = (),
    seconds: float | None = None,
    quick: bool = False,
    sr_weights: str | None = None,
) -> RdPlan:
    """The plan of a file, or a default one; what the command line names wins. Files are found beside the plan.

    quick : the small plan; sr_weights : adds the level `sr`
    Raises ConfigError for a file that cannot be read or does not hold a plan, UsageError for two plans.
    """
    if quick and path is not None:
        raise UsageError(
            "--quick is a plan of its own: leave out --plan, or copy what you want into the file"
        )
    default = QUICK if quick else RdPlan() if clips else BUILTIN
    plan = default if path is None else _from_file(path)
    changes = {"clips": tuple(clips) or None, "seconds": seconds, "sr_weights": sr_weights}
    if sr_weights is not None:
        changes["levels"] = tuple(dict.fromkeys((*plan.levels, "sr")))
    changed = {key: value for key, value in changes.items() if value is not None}
    return checked(RdPlan, {**plan.model_dump(), **changed}, "the command line")


def _from_file(path: Path) -> RdPlan:
    settings = with_files(read_toml(path, "plan"), path.parent, ("sr_weights", "lpips", "dists"))
    return checked(RdPlan, settings, str(path))

"""What `semcast bench snr` sweeps: a short TOML file, checked.

clips = ["clips/*.mp4"]            # paths or patterns, from this file's folder or the current one; none: built-in clip
size = "512x512"
seconds = 5.0                      # of each clip; all of it by default
delay_s = 3.0                      # from capture to display, for everyone
systems = ["semcast", "semcast-analog", "softcast", "svt-av1", "x265", "x264"]
vmaf = false
lpips = "lpips-alex.safetensors"   # backbone files (common/perceptual.py); without them there are no such figures
set = ["receiver.steps=1"]         # settings of our system, as for --set

[[channels]]
name = "AWGN"
spec = "awgn:snr_db={x},tti_ms=20"             # {x} takes each of the values
values = [-3, 0, 3, 6, 9]
other_values = [-3, 3, 9]          # where everyone but "semcast" is run; everywhere by default
axis = "snr_db"                    # or "loss", "burst", "rate_kbps", "delay_ms"
mcs = ["qpsk-1/2", "16qam-1/2"]    # fixed schemes of the peers, who have "adaptive" besides
seeds = 1
gops_s = [0]                       # seconds between the peers' key pictures, 0 for one at the start; the best counts
pictures = [3]                     # values at which pictures are shown side by side

[[channels]]
name = "random loss"
spec = "packet:loss={x},delay_ms=40"
axis = "loss"
values = [0, 0.1, 0.3, 0.5]
kbps = 48                          # what everyone sends; radio channels and rate limits tell it themselves
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmarks.peers import PEERS, PeerCodec
from benchmarks.plans import checked, with_files
from benchmarks.rd_quality import Metrics
from channel.radio.mcs import McsName
from channel.radio.spec import AwgnSpec, RadioSettings, RayleighSpec
from channel.spec import ChannelSpec, PacketSpec, check_channel, parse_channel
from common.config import PictureSize, Size, read_toml
from common.errors import ConfigError, UsageError

SystemName = Literal["semcast", "semcast-analog", "softcast", "svt-av1", "x265", "x264", "vp9"]
Axis = Literal["snr_db", "loss", "burst", "rate_kbps", "delay_ms"]
OURS: tuple[SystemName, ...] = ("semcast", "semcast-analog")
ANALOG: tuple[SystemName, ...] = ("semcast-analog", "softcast")
PLACE = "{x}"

DEFAULT_SYSTEMS: tuple[SystemName, ...] = ("semcast", "semcast-analog", "softcast", "svt-av1", "x265", "x264")
PEER_MCS: tuple[McsName, ...] = ("qpsk-1/2", "16qam-1/2", "64qam-2/3")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class ChannelPlan(_Part):
    """One kind of channel, and one of its settings swept; the top of this file shows it as TOML.

    values : rising
    other_values : those of `values` at which everyone but `semcast` is run, None for all
    share : part of the rate that a channel sustains which everyone's video takes
    systems : that run here, None for all of the plan
    """

    name: Annotated[str, Field(min_length=1)]
    spec: str
    axis: Axis
    values: Annotated[tuple[float, ...], Field(min_length=1)]
    other_values: tuple[float, ...] | None = None
    seeds: int = Field(1, ge=1, le=100)
    kbps: Annotated[float, Field(gt=0)] | None = None
    share: float = Field(0.85, gt=0, le=1)
    mcs: tuple[McsName, ...] = PEER_MCS
    gops_s: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (0.0,)
    systems: tuple[SystemName, ...] | None = None
    pictures: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if PLACE not in self.spec:
            raise ValueError(f"{self.name}: the spec has no {PLACE}, so that nothing would be swept")
        if sorted(set(self.values)) != list(self.values):
            raise ValueError(f"{self.name}: values must rise")
        if not {*self.pictures, *(self.other_values or ())} <= set(self.values):
            raise ValueError(f"{self.name}: pictures and other_values must be among values")
        for value in self.values:
            try:
                spec = parse_channel(self.spec_at(value))
            except ConfigError as error:
                raise ValueError(f"{self.name}: {error}") from error
            if self.kbps is None and not isinstance(spec, RadioSettings) and _limit_kbps(spec) is None:
                raise ValueError(f"{self.name}: this channel does not say what it carries: add kbps = 48")
        return self

    def spec_at(self, value: float) -> str:
        """The channel SPEC at one of the values."""
        return self.spec.replace(PLACE, f"{value:g}")

    def channel_at(self, value: float) -> ChannelSpec:
        """The same, parsed."""
        return parse_channel(self.spec_at(value))

    def others_at(self, value: float) -> bool:
        """Whether others than `semcast` are run at this value."""
        return self.other_values is None or value in self.other_values

    @property
    def is_radio(self) -> bool:
        """Whether it has symbols, and so schemes to choose from and room for analog systems."""
        return isinstance(self.channel_at(self.values[0]), RadioSettings)

    @property
    def has_analog(self) -> bool:
        """Whether analog symbols can be sent through it here."""
        return isinstance(self.channel_at(self.values[0]), AwgnSpec | RayleighSpec)


def _limit_kbps(spec: ChannelSpec) -> float | None:
    return spec.rate_kbps if isinstance(spec, PacketSpec) else None


class SnrPlan(_Part):
    """What to sweep; the top of this file shows it as TOML.

    clips : paths or patterns; none is the built-in clip
    seconds : of each clip, None for all of it
    warm_up_s : at the start of each clip, not measured: real links take so long to begin
    delay_s : from capture to display, for everyone; what comes later is not shown
    lpips, dists : backbone files of the user's, None leaves these metrics out
    set : settings of our system, `section.key=value`
    """

    clips: tuple[str, ...] = ()
    size: PictureSize = Size(512, 512)
    seconds: Annotated[float, Field(gt=0.0)] | None = None
    warm_up_s: float = Field(1.0, ge=0)
    delay_s: float = Field(3.0, ge=0.1, le=30)
    systems: Annotated[tuple[SystemName, ...], Field(min_length=1)] = DEFAULT_SYSTEMS
    vmaf: bool = False
    lpips: Annotated[str, Field(min_length=1)] | None = None
    dists: Annotated[str, Field(min_length=1)] | None = None
    set: tuple[str, ...] = ()
    channels: Annotated[tuple[ChannelPlan, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [channel.name for channel in self.channels]
        if len(set(names)) < len(names):
            raise ValueError("two channels have the same name")
        if len(set(self.systems)) < len(self.systems):
            raise ValueError("systems names something twice")
        return self

    @property
    def metrics(self) -> Metrics:
        """What is measured besides what always is."""
        return Metrics(self.vmaf, self.lpips, self.dists)

    def systems_on(self, channel: ChannelPlan) -> tuple[SystemName, ...]:
        """Those that run on a channel, in the order of the plan."""
        wanted = self.systems if channel.systems is None else channel.systems
        return tuple(
            name for name in self.systems if name in wanted and (name not in ANALOG or channel.has_analog)
        )


def codec_named(name: SystemName) -> PeerCodec | None:
    """The codec of a peer, None for systems that are none."""
    return {codec.name: codec for codec in PEERS}.get(name)


_AWGN = "awgn:snr_db={x},tti_ms=20,queue_ms=3000,protect_db=1"
_RAYLEIGH = "rayleigh:snr_db={x},tti_ms=20,queue_ms=3000,protect_db=1"
_LOSS = "packet:loss={x},delay_ms=40,jitter_ms=10"

QUICK = SnrPlan(
    seconds=3.0,
    systems=("semcast", "semcast-analog", "softcast", "svt-av1"),
    channels=(
        ChannelPlan(
            name="AWGN", spec=_AWGN, axis="snr_db", values=(-4, -2, 0, 2, 4, 6, 8, 10, 14, 18),
            other_values=(-2, 2, 6, 10, 14), pictures=(2, 10),
        ),
        ChannelPlan(
            name="Rayleigh", spec=_RAYLEIGH, axis="snr_db", values=(0, 5, 10, 15, 20), mcs=("qpsk-1/2",),
            pictures=(10,),
        ),
        ChannelPlan(
            name="random loss", spec=_LOSS, axis="loss", values=(0, 0.05, 0.2, 0.5), kbps=48,
            pictures=(0.2,),
        ),
    ),
)  # fmt: skip
"""A first look in minutes: the built-in clip."""


def load_plan(
    path: Path | None, clips: Sequence[str] = (), seconds: float | None = None, quick: bool = False
) -> SnrPlan:
    """The plan of a file, or the small one; what the command line names wins. Files are found beside the plan.

    Raises ConfigError for a file that cannot be read or does not hold a plan, or a channel that needs what is not
    installed, UsageError for two plans.
    """
    if quick and path is not None:
        raise UsageError(
            "--quick is a plan of its own: leave out --plan, or copy what you want into the file"
        )
    plan = QUICK
    if path is not None:
        settings = with_files(read_toml(path, "plan"), path.parent, ("lpips", "dists"))
        plan = checked(SnrPlan, settings, str(path))
    changes: dict[str, object] = {"clips": tuple(clips) or None, "seconds": seconds}
    changed = {key: value for key, value in changes.items() if value is not None}
    plan = checked(SnrPlan, {**plan.model_dump(), **changed}, "the command line")
    for channel in plan.channels:
        check_channel(channel.spec_at(channel.values[0]))
    return plan

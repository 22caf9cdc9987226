"""The runs that `semcast bench snr` consists of: one system, one clip, one channel at one value, one seed.

A run is one value that can go to another process or machine, and leaves one file. Nothing but the run decides its
figures: they are the same anywhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.files import open_input
from benchmarks.kept import code_hash
from benchmarks.rd_clip import ClipFacts, Loaded, Material, hash_of
from benchmarks.rd_quality import Judge, Metrics, Quality
from benchmarks.rd_runs import KeptPicture, keep_picture
from benchmarks.report import Model
from benchmarks.snr_link import Received, through_analog, through_codec, through_semcast, through_softcast
from benchmarks.snr_plan import SystemName, codec_named
from benchmarks.snr_streams import StreamSpec
from channel.radio.spec import RadioSettings
from channel.spec import parse_channel
from common.config import Config
from common.stats import FreezeSummary, find_freezes

if TYPE_CHECKING:
    from pathlib import Path

RUN_VERSION = 1
"""Raised when the meaning of a stored run changes without a change of the code that it names."""

CODE = ("channel", "common", "receiver", "sender")
"""Folders that decide what comes out of a link."""

_WEIGHTS = {"semcast": 10, "semcast-analog": 8, "softcast": 6}


class LinkPoint(Model):
    """What one system made of one clip at one value of a channel.

    kbps : all bytes handed to the link; None where symbols carry the picture
    cbr : complex channel uses over 3 x samples of luma, None on packet channels
    freeze_ratio : share of the measured time in which the picture stood still too long (W3C's definition of a freeze)
    longest_freeze_s : the longest of these
    made : how a peer's stream was coded
    """

    clip: ClipFacts
    quality: Quality
    kbps: float | None
    cbr: float | None
    freeze_ratio: float
    longest_freeze_s: float
    made: str | None = None
    pictures: tuple[KeptPicture, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkRun:
    """One system over one channel.

    material : its configuration holds channel, bit rate and seed
    channel, value : of the plan
    variant : the scheme and key distance of a peer, "" for others
    warm_up_s : at the start, not measured
    shown : keep a picture
    stream : of a peer
    """

    material: Material
    channel: str
    value: float
    system: SystemName
    variant: str
    metrics: Metrics
    warm_up_s: float
    shown: bool = False
    stream: StreamSpec | None = None

    @property
    def seed(self) -> int:
        return self.material.config.stream.seed

    @property
    def name(self) -> str:
        what = f"{self.system}-{self.variant}" if self.variant else self.system
        where = re.sub(r"\W+", "-", self.channel)
        return f"{self.material.clip.name}.{where}-{self.value:g}.{what}.{self.seed}".replace("/", "-")

    @property
    def weight(self) -> int:
        return _WEIGHTS.get(self.system, 5)

    def key(self) -> str:
        settings = [
            self.material.config.as_dict(),
            self.system,
            self.metrics.stamp(),
            self.warm_up_s,
            self.shown,
        ]
        stream = self.stream and self.stream.key()
        return hash_of([RUN_VERSION, *self.material.stamp(), *settings, stream, code_hash(*CODE)])

    def run(self, out: Path) -> LinkPoint:
        """Send, receive, and measure."""
        clip = self.material.load()
        made, received = self._through(clip, out)
        return _measured(self, clip, received, made, out)

    def _through(self, clip: Loaded, out: Path) -> tuple[str | None, Received]:
        config = limited(self.material.config, clip.duration_s)
        codec = codec_named(self.system)
        if codec is not None:
            assert self.stream is not None
            stream = self.stream.open(clip, out)
            size = "" if stream.scale == 1 else f" 1/{stream.scale}"
            return f"crf {stream.crf}{size}", through_codec(codec, stream, clip, config)
        if self.system == "softcast":
            return None, through_softcast(clip, config)
        with open_input(self.material.clip.path, config, self.material.seconds) as source:
            through = through_semcast if self.system == "semcast" else through_analog
            return None, through(clip, source, config)


def _measured(run: LinkRun, clip: Loaded, received: Received, made: str | None, out: Path) -> LinkPoint:
    first = min(round(run.warm_up_s * float(clip.frame_rate)), len(clip.frames) // 2)
    frames, pictures, fresh = clip.frames[first:], received.pictures[first:], received.fresh[first:]
    judge = Judge([frame.picture for frame in frames], clip.frame_rate, run.metrics, frames[0].colour)
    frame_s = float(1 / clip.frame_rate)
    begin_s, end_s = frames[0].time_s - frame_s, frames[-1].time_s + frame_s
    shown_s = [frame.time_s for frame, new in zip(frames, fresh, strict=True) if new]
    frozen = FreezeSummary.of(find_freezes([begin_s, *shown_s], frame_s, end_s))
    samples = sum(frame.picture.width * frame.picture.height for frame in clip.frames)
    return LinkPoint(
        clip=clip.facts(), quality=judge.quality(pictures), made=made,
        kbps=None if received.sent_bytes is None else clip.kbps(received.sent_bytes),
        cbr=None if received.uses is None else received.uses / (3 * samples),
        freeze_ratio=min(1.0, frozen.total_s / (end_s - begin_s)), longest_freeze_s=frozen.longest_s,
        pictures=_kept(run, clip, received, out) if run.shown else (),
    )  # fmt: skip


def _kept(run: LinkRun, clip: Loaded, received: Received, out: Path) -> tuple[KeptPicture, ...]:
    """The picture at three quarters of the clip, beside its source."""
    slot = len(clip.frames) * 3 // 4
    stem = f"{run.name}.{run.key()}"
    source = keep_picture(clip.frames[slot], "source", None, None, out=out, stem=stem)
    name = f"{run.system} {run.variant}".strip()
    return source, keep_picture(clip.frames[slot], name, received.pictures[slot], None, out=out, stem=stem)


def limited(config: Config, duration_s: float) -> Config:
    """A radio channel gives no more uses than the clip's time has, however long the queue at its end."""
    spec = parse_channel(config.channel.spec)
    if not isinstance(spec, RadioSettings):
        return config
    text = f"{config.channel.spec},limit_uses={int(spec.uses_per_s * duration_s)}"
    return config.model_copy(update={"channel": config.channel.model_copy(update={"spec": text})})


def with_spec(material: Material, spec: str, bps: int, seed: int) -> Material:
    """The material with a channel, a rate and a seed in its configuration."""
    config = material.config
    stream = config.stream.model_copy(update={"bitrate_bps": bps, "seed": seed})
    channel = config.channel.model_copy(update={"spec": spec})
    return replace(material, config=config.model_copy(update={"stream": stream, "channel": channel}))

"""The runs that `semcast bench rd` consists of. Each is one value that can go to another process, and leaves one file.

    OurRun      (clip, rate)               sender -> .sgv -> guide, base, sr, output   against the clip
    PeerRun     (clip, codec, scale)       every quality of the codec's ladder         against the clip
    PictureRun  (clip, codec, scale, crf)  one picture of a peer, to look at beside ours

A file's name ends in a hash of everything that its figures depend on, so a run is never taken for another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import cv2

from benchmarks import sweep
from benchmarks.files import encoded, open_input, open_received, open_sender, received
from benchmarks.honesty import Tally
from benchmarks.kept import code_hash, kept_result
from benchmarks.measure import same_pictures
from benchmarks.peers import PeerCodec, RdPoint, round_trip, run_ladder
from benchmarks.rd_clip import ClipFacts, Loaded, Material, hash_of
from benchmarks.rd_plan import Level
from benchmarks.rd_quality import Judge, Metrics, Quality
from benchmarks.rd_sr import SuperResolution, weights_hash
from benchmarks.report import Model, Safety, Uncertainty, versions
from common.colour import crop, picture_to_rgb
from common.container import SgvWriter
from common.errors import SinkError
from common.files import made_folder
from common.quality import psnr_yuv
from common.state import compose
from common.types import Frame, Picture
from receiver.decoder.conditions import FrameFacts
from sender.pipeline import Step
from sender.rate import FILE

RUN_VERSION = 3
"""Raised when the meaning of a stored run changes without a change of the code that it names."""

OUR_CODE = ("common", "sender", "receiver")
"""Folders that decide what our system makes of a clip: a change to them makes its stored runs worthless."""


class OurPoint(Model):
    """Our system at one rate. total_bytes : of the `.sgv` file; uncertainty, safety : of the output, None without one"""

    target_kbps: float
    total_bytes: int
    kbps: float
    levels: dict[Level, Quality]
    uncertainty: Uncertainty | None = None
    safety: Safety | None = None


class KeptPicture(Model):
    """One picture to look at. slot : of which frame; file : below the results' folder; psnr_yuv : of this picture, dB"""

    name: str
    slot: int
    file: str
    kbps: float | None
    psnr_yuv: float | None


class Result(Model):
    """What a run found; only what it was about is there."""

    clip: ClipFacts
    ours: OurPoint | None = None
    ladder: tuple[RdPoint, ...] = ()
    pictures: tuple[KeptPicture, ...] = ()


Run = sweep.Run[Result]


# --- our system ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Seen:
    """Our pictures frame by frame; where the sender left a frame out, the last picture stays, as at the receiver.

    peer : the super-resolution to run on each guide, None without
    """

    peer: SuperResolution | None
    frames: list[Frame] = field(default_factory=list)
    series: dict[Level, list[Picture]] = field(default_factory=dict)

    def add(self, frame: Frame, step: Step) -> None:
        self.frames.append(frame)
        if not step.units:
            for pictures in self.series.values():
                pictures.append(pictures[-1])
            return
        scene, size = compose(step.state, step.residual), (frame.picture.width, frame.picture.height)
        found: dict[Level, Picture] = {"guide": scene.guide, "base": scene.base}
        if self.peer is not None:
            facts = FrameFacts(step.state.slot, step.state.scale, 4 * step.state.quality)
            found["sr"] = self.peer.paint(scene.guide, facts)
        for level, picture in found.items():
            self.series.setdefault(level, []).append(crop(picture, *size))


@dataclass(frozen=True, slots=True)
class OurRun:
    """Our system at `material.config`'s rate. shown : keep a picture of each level; sr_weights : of the level `sr`"""

    material: Material
    levels: tuple[Level, ...]
    metrics: Metrics
    shown: bool
    sr_weights: str | None = None

    @property
    def target_kbps(self) -> float:
        return self.material.config.stream.bitrate_bps / 1e3

    @property
    def name(self) -> str:
        return f"{self.material.clip.name}.semcast-{self.target_kbps:g}k"

    @property
    def weight(self) -> int:
        return 8 + 32 * ("output" in self.levels) + 24 * ("sr" in self.levels)

    def key(self) -> str:
        settings = [self.material.config.as_dict(), self.levels, self.metrics.stamp(), self.shown]
        peer = self.sr_weights and weights_hash(self.sr_weights)
        return hash_of([RUN_VERSION, *self.material.stamp(), *settings, peer, code_hash(*OUR_CODE)])

    def run(self, out: Path) -> Result:
        """Send, receive, and measure."""
        tally = Tally()
        loaded, wanted, total_bytes = self.pictures(made_folder(out / "streams"), tally)
        point = OurPoint(
            target_kbps=self.target_kbps, total_bytes=total_bytes, kbps=loaded.kbps(total_bytes),
            levels=_qualities(loaded.judge(self.metrics), wanted),
            uncertainty=tally.uncertainty() if "output" in self.levels else None,
            safety=tally.safety() if "output" in self.levels else None,
        )  # fmt: skip
        pictures = self._keep(loaded, wanted, point.kbps, out) if self.shown else ()
        return Result(clip=loaded.facts(), ours=point, pictures=pictures)

    def pictures(
        self, folder: Path, tally: Tally | None = None
    ) -> tuple[Loaded, dict[Level, list[Picture]], int]:
        """The clip, our pictures of each level, and the bytes of the `.sgv` file, which is left in `folder`.

        tally : takes note of what the output says of itself
        """
        path = folder / f"{self.name}.sgv"
        loaded, series, total_bytes = self._encode(path)
        if "output" in self.levels:
            series["output"] = self._decode(path, loaded, tally or Tally())
        return loaded, {level: series[level] for level in self.levels}, total_bytes

    def _encode(self, path: Path) -> tuple[Loaded, dict[Level, list[Picture]], int]:
        """As `semcast encode` does; bytes of the file with all."""
        material, seen = self.material, _Seen(self._super_resolution())
        with (
            open_input(material.clip.path, material.config, material.seconds) as source,
            SgvWriter(path) as writer,
        ):
            sender = open_sender(source, material.config, FILE)
            for frame, step in encoded(source, sender, writer):
                seen.add(frame, step)
            sender.close()
        return Loaded(seen.frames, source.frame_rate), seen.series, writer.bytes_written

    def _super_resolution(self) -> SuperResolution | None:
        if self.sr_weights is None:
            return None
        config = self.material.config
        return SuperResolution(
            self.sr_weights, config.receiver.device, config.stream.seed, config.receiver.threads
        )

    def _decode(self, path: Path, loaded: Loaded, tally: Tally) -> list[Picture]:
        """The decoder's pictures without a deadline, so that they do not depend on the machine's speed."""
        receiver = self.material.config.receiver.model_copy(update={"budget_ms": None})
        session, _, units = open_received(
            path, self.material.config.model_copy(update={"receiver": receiver})
        )
        pictures = []
        for frame, shown in zip(loaded.frames, received(session, units), strict=False):
            tally.add(shown.level, frame.picture, shown.frame.picture, shown.uncertainty, shown.taken_back)
            pictures.append(shown.frame.picture)
        left = len(loaded.frames) - len(pictures)  # the last frames may have been left out
        return pictures + [pictures[-1]] * left

    def _keep(
        self, loaded: Loaded, series: dict[Level, list[Picture]], kbps: float, out: Path
    ) -> tuple[KeptPicture, ...]:
        slot = typical_slot(loaded.pictures, series[self.levels[-1]])
        keep = partial(keep_picture, loaded.frames[slot], out=out, stem=f"{self.name}.{self.key()}")
        ours = (keep(level, pictures[slot], kbps) for level, pictures in series.items())
        return (keep("source", None, None), *ours)


def _qualities(judge: Judge, series: dict[Level, list[Picture]]) -> dict[Level, Quality]:
    found: dict[Level, Quality] = {}
    for level, pictures in series.items():  # without an anchor guide and base are the same
        same = next((other for other in found if same_pictures(series[other], pictures)), None)
        found[level] = judge.quality(pictures) if same is None else found[same]
    return found


def typical_slot(source: Sequence[Picture], pictures: Sequence[Picture]) -> int:
    """The picture of median PSNR: neither the first after a cut nor the best."""
    psnr = [psnr_yuv(a, b) for a, b in zip(source, pictures, strict=True)]
    return sorted(range(len(psnr)), key=psnr.__getitem__)[len(psnr) // 2]


# --- peers --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PeerRun:
    """One codec at one size, at every quality of its ladder."""

    material: Material
    codec: PeerCodec
    scale: int
    metrics: Metrics

    @property
    def name(self) -> str:
        return f"{self.material.clip.name}.{self.codec.name}-{self.scale}"

    @property
    def weight(self) -> int:
        return len(self.codec.ladder) * (2 if self.scale == 1 else 1)

    def key(self) -> str:
        settings = [asdict(self.codec), self.scale, self.metrics.stamp(), versions()["av"]]
        return hash_of([RUN_VERSION, *self.material.stamp(), *settings])

    def run(self, out: Path) -> Result:
        """The ladder goes on where an interrupted one stopped."""
        loaded = self.material.load()
        points = run_ladder(self.codec, loaded.judge(self.metrics), (self.scale,), cache=out / "cache")
        # Rates by time stamps, as ours: the two differ where the frame rate varies.
        ladder = tuple(replace(point, kbps=loaded.kbps(point.total_bytes)) for point in points)
        return Result(clip=loaded.facts(), ladder=ladder)


@dataclass(frozen=True, slots=True)
class PictureRun:
    """One picture of one codec at one quality; `slot` is the frame."""

    material: Material
    codec: PeerCodec
    scale: int
    crf: int
    slot: int

    weight = 1

    @property
    def name(self) -> str:
        return f"{self.material.clip.name}.{self.codec.name}-{self.scale}-crf{self.crf}-{self.slot}"

    def key(self) -> str:
        settings = [asdict(self.codec), self.scale, self.crf, self.slot, versions()["av"]]
        return hash_of([RUN_VERSION, *self.material.stamp(), *settings])

    def run(self, out: Path) -> Result:
        loaded = self.material.load()
        decoded, total_bytes = round_trip(
            self.codec, loaded.pictures, loaded.frame_rate, self.scale, self.crf
        )
        name = self.codec.name if self.scale == 1 else f"{self.codec.name} 1/{self.scale}"
        kept = keep_picture(
            loaded.frames[self.slot], name, decoded[self.slot], loaded.kbps(total_bytes), out=out,
            stem=f"{self.name}.{self.key()}",
        )  # fmt: skip
        return Result(clip=loaded.facts(), pictures=(kept,))


# --- results on disk ----------------------------------------------------------------------------------------------


def stored(run: Run, out: Path) -> Result | None:
    """What an earlier call left of exactly this run, None where there is nothing complete."""
    result = kept_result(run, out, Result)
    whole = result is not None and all((out / picture.file).exists() for picture in result.pictures)
    return result if whole else None


def keep_picture(
    source: Frame, name: str, picture: Picture | None, kbps: float | None, *, out: Path, stem: str
) -> KeptPicture:
    """Write one picture as PNG, the source itself where it is None."""
    file = f"pictures/{stem}.{name.replace('/', '-').replace(' ', '-')}.png"
    made_folder(out / "pictures")
    rgb = picture_to_rgb(picture or source.picture, source.colour)
    if not cv2.imwrite(str(out / file), rgb[..., ::-1]):
        raise SinkError(f"cannot write {out / file}; choose another --out with room")
    psnr = None if picture is None else psnr_yuv(source.picture, picture)
    return KeptPicture(name=name, slot=source.slot, file=file, kbps=kbps, psnr_yuv=psnr)

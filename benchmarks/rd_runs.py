"""The runs that `semcast bench rd` consists of. Each is one value that can go to another process, and leaves one file.

    OurRun      (clip, rate)               sender -> .sgv -> guide, base, output   against the clip
    PeerRun     (clip, codec, scale)       every quality of the codec's ladder     against the clip
    PictureRun  (clip, codec, scale, crf)  one picture of a peer, to look at beside ours

A file's name ends in a hash of everything that its figures depend on, so a run is never taken for another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import cv2
from pydantic import ValidationError

from benchmarks.files import encoded, open_input, open_received, open_sender, received
from benchmarks.measure import MeanQuality, mean_quality, same_pictures
from benchmarks.peers import PeerCodec, RdPoint, clip_hash, round_trip, run_ladder
from benchmarks.rd_plan import Clip, Level
from benchmarks.report import Model, versions, write_text
from common.colour import crop, picture_to_rgb
from common.config import Config
from common.container import SgvWriter
from common.errors import SinkError, SourceError
from common.quality import psnr_yuv
from common.state import compose
from common.types import Frame, Picture
from sender.pipeline import Step
from sender.rate import FILE

RUN_VERSION = 1
"""Raised when the meaning of a stored run changes without a change of the code that it names."""

ROOT = Path(__file__).resolve().parents[1]
OUR_CODE = ("common", "sender", "receiver")
"""Folders that decide what our system makes of a clip: a change to them makes its stored runs worthless."""


class ClipFacts(Model):
    """A clip as compared. samples : hash of all samples, so that no two systems were given different pictures"""

    frames: int
    fps: float
    width: int
    height: int
    duration_s: float
    samples: str


class Quality(Model):
    """Means over a clip: dB, 0..1, and 0..100 or None where VMAF was not asked for or is not available."""

    psnr_yuv: float
    ms_ssim: float
    vmaf: float | None = None


class OurPoint(Model):
    """Our system at one rate. total_bytes : of the `.sgv` file"""

    target_kbps: float
    total_bytes: int
    kbps: float
    levels: dict[Level, Quality]


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


class Run(Protocol):
    """One piece of work.

    name : for people; weight : time it takes, in encodings of a whole clip
    """

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> int: ...
    def key(self) -> str: ...
    def run(self, out: Path) -> Result: ...


@dataclass(frozen=True, slots=True)
class Material:
    """The pictures that every system is given. seconds : of the clip, None for all of it"""

    clip: Clip
    config: Config
    seconds: float | None

    def stamp(self) -> list[object]:
        """What tells this clip from another version of it, without reading it."""
        path = self.clip.path and Path(self.clip.path)
        if not path:
            return [_code_hash("sender"), str(self.config.stream.size), self.seconds]
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return [str(path.resolve()), stats, str(self.config.stream.size), self.seconds]

    def load(self) -> Loaded:
        """All frames."""
        with open_input(self.clip.path, self.config, self.seconds) as source:
            return Loaded(tuple(source), source.frame_rate)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A clip in memory; SourceError for none."""

    frames: Sequence[Frame]
    frame_rate: Fraction

    def __post_init__(self) -> None:
        if not self.frames:
            raise SourceError("the clip holds no picture")

    @property
    def pictures(self) -> list[Picture]:
        return [frame.picture for frame in self.frames]

    @property
    def duration_s(self) -> float:
        return self.frames[-1].time_s + float(1 / self.frame_rate)

    def facts(self) -> ClipFacts:
        first = self.frames[0].picture
        return ClipFacts(
            frames=len(self.frames), fps=float(self.frame_rate), width=first.width, height=first.height,
            duration_s=self.duration_s,
            samples=clip_hash(self.pictures, self.frame_rate)[:32],
        )  # fmt: skip

    def kbps(self, total_bytes: int) -> float:
        """Bytes as a rate over the clip's duration by its time stamps."""
        return total_bytes * 8e-3 / self.duration_s

    def quality(self, pictures: Sequence[Picture], with_vmaf: bool) -> MeanQuality:
        return mean_quality(self.pictures, pictures, self.frame_rate, with_vmaf)


# --- our system ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Seen:
    """Our pictures frame by frame; where the sender left a frame out, the last picture stays, as at the receiver."""

    frames: list[Frame] = field(default_factory=list)
    guide: list[Picture] = field(default_factory=list)
    base: list[Picture] = field(default_factory=list)

    def add(self, frame: Frame, step: Step) -> None:
        self.frames.append(frame)
        if not step.units:
            self.guide.append(self.guide[-1])
            self.base.append(self.base[-1])
            return
        scene, size = compose(step.state, step.residual), (frame.picture.width, frame.picture.height)
        self.guide.append(crop(scene.guide, *size))
        self.base.append(crop(scene.base, *size))


@dataclass(frozen=True, slots=True)
class OurRun:
    """Our system at `material.config`'s rate. shown : keep a picture of each level"""

    material: Material
    levels: tuple[Level, ...]
    with_vmaf: bool
    shown: bool

    @property
    def target_kbps(self) -> float:
        return self.material.config.stream.bitrate_bps / 1e3

    @property
    def name(self) -> str:
        return f"{self.material.clip.name}.semcast-{self.target_kbps:g}k"

    @property
    def weight(self) -> int:
        return 40 if "output" in self.levels else 8

    def key(self) -> str:
        config = self.material.config.as_dict()
        settings = [config, self.levels, self.with_vmaf, self.shown, _code_hash(*OUR_CODE)]
        return _hash([*self.material.stamp(), *settings])

    def run(self, out: Path) -> Result:
        """Encode, compose, decode if asked for, and measure."""
        path = _folder(out / "streams") / f"{self.name}.sgv"
        loaded, series, total_bytes = self._encode(path)
        if "output" in self.levels:
            series["output"] = self._decode(path, len(loaded.frames))
        wanted = {level: series[level] for level in self.levels}
        point = OurPoint(
            target_kbps=self.target_kbps, total_bytes=total_bytes, kbps=loaded.kbps(total_bytes),
            levels=self._qualities(loaded, wanted),
        )  # fmt: skip
        pictures = self._keep(loaded, wanted, point.kbps, out) if self.shown else ()
        return Result(clip=loaded.facts(), ours=point, pictures=pictures)

    def _encode(self, path: Path) -> tuple[Loaded, dict[Level, list[Picture]], int]:
        """As `semcast encode` does; bytes of the file with all."""
        material, seen = self.material, _Seen()
        with (
            open_input(material.clip.path, material.config, material.seconds) as source,
            SgvWriter(path) as writer,
        ):
            sender = open_sender(source, material.config, FILE)
            for frame, step in encoded(source, sender, writer):
                seen.add(frame, step)
            sender.close()
        loaded = Loaded(seen.frames, source.frame_rate)
        return loaded, {"guide": seen.guide, "base": seen.base}, writer.bytes_written

    def _decode(self, path: Path, frames: int) -> list[Picture]:
        """The decoder's pictures without a deadline, so that they do not depend on the machine's speed."""
        receiver = self.material.config.receiver.model_copy(update={"budget_ms": None})
        session, _, units = open_received(
            path, self.material.config.model_copy(update={"receiver": receiver})
        )
        pictures = [shown.frame.picture for shown in received(session, units)]
        return pictures + [pictures[-1]] * (frames - len(pictures))  # the last frames may have been left out

    def _qualities(self, loaded: Loaded, series: dict[Level, list[Picture]]) -> dict[Level, Quality]:
        found: dict[Level, Quality] = {}
        for level, pictures in series.items():  # without an anchor guide and base are the same
            same = next((other for other in found if same_pictures(series[other], pictures)), None)
            quality = loaded.quality(pictures, self.with_vmaf) if same is None else None
            found[level] = Quality(**quality._asdict()) if quality else found[same or level]
        return found

    def _keep(
        self, loaded: Loaded, series: dict[Level, list[Picture]], kbps: float, out: Path
    ) -> tuple[KeptPicture, ...]:
        slot = typical_slot(loaded.pictures, series[self.levels[-1]])
        keep = partial(_keep_picture, loaded.frames[slot], out=out, stem=f"{self.name}.{self.key()}")
        ours = (keep(level, pictures[slot], kbps) for level, pictures in series.items())
        return (keep("source", None, None), *ours)


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
    with_vmaf: bool

    @property
    def name(self) -> str:
        return f"{self.material.clip.name}.{self.codec.name}-{self.scale}"

    @property
    def weight(self) -> int:
        return len(self.codec.ladder) * (2 if self.scale == 1 else 1)

    def key(self) -> str:
        return _hash(
            [*self.material.stamp(), asdict(self.codec), self.scale, self.with_vmaf, versions()["av"]]
        )

    def run(self, out: Path) -> Result:
        """The ladder goes on where an interrupted one stopped."""
        loaded = self.material.load()
        points = run_ladder(
            self.codec, loaded.pictures, loaded.frame_rate, (self.scale,), with_vmaf=self.with_vmaf, cache=out / "cache"
        )  # fmt: skip
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
        return _hash(
            [*self.material.stamp(), asdict(self.codec), self.scale, self.crf, self.slot, versions()["av"]]
        )

    def run(self, out: Path) -> Result:
        loaded = self.material.load()
        decoded, total_bytes = round_trip(
            self.codec, loaded.pictures, loaded.frame_rate, self.scale, self.crf
        )
        name = self.codec.name if self.scale == 1 else f"{self.codec.name} 1/{self.scale}"
        kept = _keep_picture(
            loaded.frames[self.slot], name, decoded[self.slot], loaded.kbps(total_bytes), out=out,
            stem=f"{self.name}.{self.key()}",
        )  # fmt: skip
        return Result(clip=loaded.facts(), pictures=(kept,))


# --- results on disk ----------------------------------------------------------------------------------------------


def stored(run: Run, out: Path) -> Result | None:
    """What an earlier call left of exactly this run, None where there is nothing complete."""
    path = _result_path(run, out)
    try:
        result = Result.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
    return result if all((out / picture.file).exists() for picture in result.pictures) else None


def carry_out(run: Run, out: Path) -> Result:
    """Do the work and keep the result below `out`."""
    result = run.run(out)
    write_text(result.model_dump_json(indent=2) + "\n", _result_path(run, out))
    return result


def _result_path(run: Run, out: Path) -> Path:
    return out / "runs" / f"{run.name}.{run.key()}.json"


def _keep_picture(
    source: Frame, name: str, picture: Picture | None, kbps: float | None, *, out: Path, stem: str
) -> KeptPicture:
    """Write one picture as PNG, the source itself where it is None."""
    file = f"pictures/{stem}.{name.replace('/', '-').replace(' ', '-')}.png"
    _folder(out / "pictures")
    rgb = picture_to_rgb(picture or source.picture, source.colour)
    if not cv2.imwrite(str(out / file), rgb[..., ::-1]):
        raise SinkError(f"cannot write {out / file}; choose another --out with room")
    psnr = None if picture is None else psnr_yuv(source.picture, picture)
    return KeptPicture(name=name, slot=source.slot, file=file, kbps=kbps, psnr_yuv=psnr)


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"cannot make {path}: {error.strerror}; choose another --out") from error
    return path


def _hash(settings: Iterable[object]) -> str:
    text = json.dumps([RUN_VERSION, *settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _code_hash(*folders: str) -> str:
    """Of every file of our own code and weights in `folders`."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()):
        if "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(ROOT)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()

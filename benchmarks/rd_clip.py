"""A clip as every system is given it, and a hash that tells one set of settings from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from benchmarks.files import open_input
from benchmarks.kept import code_hash
from benchmarks.peers import clip_hash
from benchmarks.plans import Clip
from benchmarks.rd_quality import Judge, Metrics
from benchmarks.report import Model
from common.config import Config
from common.errors import SourceError
from common.types import Frame, Picture


class ClipFacts(Model):
    """A clip as compared. samples : hash of all samples, so that no two systems were given different pictures"""

    frames: int
    fps: float
    width: int
    height: int
    duration_s: float
    samples: str


def agreed(name: str, found: Iterable[ClipFacts]) -> ClipFacts:
    """What all runs say of a clip. SourceError where they were not given the same pictures."""
    facts = set(found)
    if len(facts) > 1:
        raise SourceError(f"{name} gave other pictures the second time: did it change? Start again")
    return facts.pop()


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
            return [code_hash("sender"), str(self.config.stream.size), self.seconds]
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

    def judge(self, metrics: Metrics) -> Judge:
        """What measures pictures against this clip."""
        return Judge(self.pictures, self.frame_rate, metrics, self.frames[0].colour)


def hash_of(settings: Iterable[object]) -> str:
    """Short name of everything in `settings`."""
    text = json.dumps([*settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""The runs that `semcast bench ablation` consists of: one clip, sent once, painted by every row that takes these bytes.

    clip --sender--> .sgv --closed loop, once--> compositions -> each row's painter -> pictures -> figures
                                                              -> all painters in turn, timed

Each run can go to another process and leaves one file, whose name ends in a hash of all that its figures depend on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.ablation_rows import Row
from benchmarks.files import encoded, open_input, open_sender
from benchmarks.honesty import Tally
from benchmarks.kept import code_hash
from benchmarks.latency_levels import WARM_UP_RUNS, Scene, timed
from benchmarks.measure import same_pictures
from benchmarks.rd_clip import ClipFacts, Loaded, Material, hash_of
from benchmarks.rd_quality import Judge, Metrics, Quality
from benchmarks.rd_runs import OUR_CODE
from benchmarks.rd_sr import weights_hash
from benchmarks.report import Model
from common.clock import Clock, SystemClock
from common.colour import crop
from common.config import Config
from common.container import SgvWriter, read_sgv
from common.errors import BitstreamError
from common.files import made_folder
from common.state import Composition, compose
from common.stats import Latency
from common.types import Picture
from receiver.budget import best_of, worth_at
from receiver.chain import SceneDecoder
from receiver.decoder.conditions import FrameFacts
from receiver.painter import BasePainter, Painter, open_painter
from sender.rate import FILE

VERSION = 2
"""Raised when the meaning of a stored figure changes without a change of the code that is hashed."""

TIMED = 12
"""Pictures that every painter is timed on, after the warm-up."""
BASE, GUIDE = "base picture", "guide"
"""Rows without a network, for orientation."""


class Painted(Model):
    """What one row made of the clip.

    set : its settings on top of the reference's
    kbps : of the whole file; stream : hash of its bytes, equal ones say that a setting changed nothing
    quality : of the pictures, at the clip's size
    coverage90 : part of the 8x8 cells whose error is within the 90 % interval that the painter states, ideally 0.9
    ause : area under the sparsification error of its maps, and ause_constant of maps that say nothing
    taken_back : part of the cells where it contradicted the guide, so that the base picture is shown
    calls : of the network, a picture; p50_ms : time of one picture, and over that of the reference's painter on the
        same pictures in turn with it (time_ratio); None without a network
    """

    name: str
    set: tuple[str, ...] = ()
    kbps: float
    stream: str
    quality: Quality
    coverage90: float | None = None
    ause: float | None = None
    ause_constant: float | None = None
    taken_back: float | None = None
    calls: float | None = None
    p50_ms: float | None = None
    time_ratio: float | None = None


class RunResult(Model):
    """What one run found."""

    clip: ClipFacts
    rows: tuple[Painted, ...]


class Seen(NamedTuple):
    """What the receiver knows when it paints one frame."""

    composition: Composition
    facts: FrameFacts


@dataclass(frozen=True, slots=True)
class Contender:
    """A row with its settings."""

    row: Row
    config: Config


@dataclass(frozen=True, slots=True)
class AblationRun:
    """One clip under one set of the sender's settings.

    reference : whose painter all are timed beside; its settings are those that the clip is opened with
    contenders : the rows that take these bytes, the first of which says how they are sent
    with_levels : base picture and guide too
    """

    material: Material
    reference: Contender
    contenders: tuple[Contender, ...]
    metrics: Metrics
    with_levels: bool

    @property
    def name(self) -> str:
        sent = self.contenders[0].row.sent_with
        return ".".join(
            [self.material.clip.name, *(text.partition("=")[0].replace(".", "-") for text in sent)]
        )

    @property
    def weight(self) -> int:
        """Rows."""
        return len(self.contenders)

    def key(self) -> str:
        """Of everything that the figures depend on, but for the speed of the machine."""
        every = [(one.row.name, one.config.as_dict()) for one in (self.reference, *self.contenders)]
        networks = sorted({weights_hash(one.config.receiver.decoder) for one in self.contenders})
        code = code_hash(*OUR_CODE)
        return hash_of(
            [VERSION, *self.material.stamp(), every, networks, self.metrics.stamp(), self.with_levels, code]
        )

    def run(self, out: Path) -> RunResult:
        """Send, decode, paint and measure."""
        path = made_folder(out / "streams") / f"{self.name}.{self.key()}.sgv"
        loaded = self._send(path)
        scenes = scenes_of(path, len(loaded.frames))
        sent = Sent(loaded.kbps(path.stat().st_size), hashlib.sha256(path.read_bytes()).hexdigest()[:16])
        judge = loaded.judge(self.metrics)
        painters = {one: _open(one.config, scenes) for one in (self.reference, *self.contenders)}
        rows = [painted(one, painters[one], scenes, judge, sent) for one in self.contenders]
        p50_ms = times_of(painters, scenes, SystemClock())
        beside_ms = p50_ms[self.reference]
        timed_rows = (
            row.model_copy(update={"p50_ms": p50_ms[one], "time_ratio": p50_ms[one] / beside_ms})
            for one, row in zip(self.contenders, rows, strict=True)
        )
        below = levels(scenes, judge, sent) if self.with_levels else []
        return RunResult(clip=loaded.facts(), rows=(*timed_rows, *below))

    def _send(self, path: Path) -> Loaded:
        """As `semcast encode` does."""
        config = self.contenders[0].config
        with (
            open_input(self.material.clip.path, config, self.material.seconds) as source,
            SgvWriter(path) as writer,
        ):
            sender = open_sender(source, config, FILE)
            frames = [frame for frame, _ in encoded(source, sender, writer)]
            sender.close()
        return Loaded(frames, source.frame_rate)


class Sent(NamedTuple):
    """A file: its rate and its hash."""

    kbps: float
    stream: str


# --- from bytes to pictures ---------------------------------------------------------------------------------------


def scenes_of(path: Path, frames: int) -> list[Seen | None]:
    """What the receiver knows at every frame slot; None where the sender left the frame out."""
    decoder = SceneDecoder()
    scenes: list[Seen | None] = []
    for unit in read_sgv(path):
        decoder.push(unit, 0.0)
        while len(scenes) < decoder.newest_slot:  # a frame's residual comes after the frame
            scenes.append(_seen(decoder, len(scenes)))
    scenes += [_seen(decoder, slot) for slot in range(len(scenes), frames)]
    if decoder.undecodable or decoder.counts["damaged"] or scenes[0] is None:
        raise BitstreamError(f"{path} cannot be decoded as it was written: report this with the clip")
    return scenes


def _seen(decoder: SceneDecoder, slot: int) -> Seen | None:
    state = decoder.scene_at(slot)
    if state is None:
        return None
    residual = decoder.residual_of(state)
    return Seen(compose(state, residual), Scene.of(state, residual).facts)


def painted(
    contender: Contender, painter: Painter, scenes: Sequence[Seen | None], judge: Judge, sent: Sent
) -> Painted:
    """Paint everything and measure; where nothing came the last picture stays."""
    pictures: list[Picture] = []
    tally = Tally()
    calls: list[int] = []
    for scene, source in zip(scenes, judge.source, strict=True):
        if scene is None:
            pictures.append(pictures[-1])
            continue
        remembers = painter.held is not None
        level = level_for(contender.config, painter, scene)
        found = painter.render(*scene, level, lambda: False)
        pictures.append(crop(found.picture, source.width, source.height))
        calls.append(found.steps_done * calls_of_a_step(contender.config, remembers))
        tally.add(level, source, pictures[-1], found.uncertainty, found.taken_back)
    doubt, safety = tally.uncertainty(), tally.safety()
    return Painted(
        name=contender.row.name, set=contender.row.set, kbps=sent.kbps, stream=sent.stream,
        quality=judge.quality(pictures), calls=float(np.mean(calls)),
        coverage90=doubt.coverage90, ause=doubt.ause, ause_constant=doubt.ause_constant, taken_back=safety.mean,
    )  # fmt: skip


def calls_of_a_step(config: Config, remembers: bool) -> int:
    """Temporal guidance looks at every step twice, with and without the previous output."""
    return 2 if remembers and config.decoder.temporal_guidance != 1.0 else 1


def levels(scenes: Sequence[Seen | None], judge: Judge, sent: Sent) -> list[Painted]:
    """The base picture and the guide themselves."""
    painters = {BASE: ("base", BasePainter()), GUIDE: ("guide", BasePainter())}
    series: dict[str, list[Picture]] = {BASE: [], GUIDE: []}
    tallies = {name: Tally() for name in painters}
    for scene, source in zip(scenes, judge.source, strict=True):
        for name, (level, painter) in painters.items():
            if scene is None:
                series[name].append(series[name][-1])
                continue
            found = painter.render(*scene, level, lambda: False)
            series[name].append(crop(found.picture, source.width, source.height))
            tallies[name].add(level, source, series[name][-1], found.uncertainty, 0.0)
    base = judge.quality(series[BASE])
    guide = base if same_pictures(series[BASE], series[GUIDE]) else judge.quality(series[GUIDE])
    return [
        Painted(
            name=name, kbps=sent.kbps, stream=sent.stream, quality=quality,
            **tallies[name].uncertainty().model_dump(include={"coverage90", "ause", "ause_constant"}),
        )
        for name, quality in ((BASE, base), (GUIDE, guide))
    ]  # fmt: skip


# --- time ---------------------------------------------------------------------------------------------------------


def times_of(
    painters: Mapping[Contender, Painter], scenes: Sequence[Seen | None], clock: Clock
) -> dict[Contender, float]:
    """Median milliseconds of a picture. The painters take turns picture by picture, so that whatever else the machine
    does concerns all of them alike."""
    some = [scene for scene in scenes if scene is not None][: TIMED + WARM_UP_RUNS]
    samples: dict[Contender, list[float]] = {one: [] for one in painters}
    for scene in some:
        for one, painter in painters.items():
            samples[one].append(timed(partial(_paint, one.config, painter, scene), clock))
    warm_up = min(WARM_UP_RUNS, len(some) - 1)
    return {one: Latency.of(found[warm_up:]).p50_ms for one, found in samples.items()}


def _open(config: Config, scenes: Sequence[Seen | None]) -> Painter:
    first = scenes[0]
    assert first is not None
    base = first.composition.base
    return open_painter(config, config.stream.seed, (base.height, base.width))


def _paint(config: Config, painter: Painter, scene: Seen) -> None:
    painter.render(*scene, level_for(config, painter, scene), lambda: False)


def level_for(config: Config, painter: Painter, scene: Seen) -> str:
    """At which a receiver with these settings paints this scene when it has time enough."""
    steps = config.receiver.steps
    if steps != "auto":
        return f"bridge{steps}"
    change = painter.change(scene.composition)
    least_gain = 0.0 if config.receiver.budget_ms is None else config.receiver.least_gain
    return best_of(worth_at(painter.levels, scene.facts.guide_scale, change, least_gain))

"""What a receiver knew of its pictures and how wrong they were, for the calibration of its uncertainty.

    clips -> views and rates -> the real sender -> the real painter --evidence, errors--> Sightings

Nothing is fitted here: see calibration.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from common.config import DecoderSettings
from common.errors import SemcastError, SourceError
from common.ports import Analyzer
from common.types import Picture
from receiver.decoder.loading import load_model
from receiver.decoder.synth import BridgeSynthesizer
from receiver.gauge import Gauge
from receiver.uncertainty import Cells, Evidence, Kind, cell_means, shape_of, strength
from training.clips import list_clips
from training.dataset import View, is_held_out
from training.pack import random_stream

Strengths = dict[str, Cells]
"""Evidence by name on the scale on which it is weighed, at some cells, [n] each."""

CARRIED = (0, 0, 1, 2, 4, 8)
"""Pictures between two that the network paints; their detail is carried over."""


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """rounds : streams of every held-back clip; others : of every other clip, for the levels without a network
    as_it_is : share of the streams that show the clip itself, sent as it would be; the rest are as in training
    frames : of a stream, least and most; every : frames between those that are looked at; cells : of each
    waits : frames after which a held picture is looked at again
    """

    rounds: int = 8
    others: int = 1
    as_it_is: float = 0.75
    frames: tuple[int, int] = (32, 80)
    every: int = 5
    cells: int = 384
    waits: tuple[int, ...] = (1, 2, 4, 8, 16, 32)


class Seen(NamedTuple):
    """One kind of picture at some cells of a frame. evidence : [n] each; errors : sample steps, [n]"""

    evidence: Strengths
    errors: Cells


class Sighting(NamedTuple):
    """One frame.

    painted : evidence of the picture whose detail was carried over into this one, empty where none was
    later : what the painter showed, held so many frames; change : how much that had changed, sample steps a frame, [n]
    """

    kinds: dict[Kind, Seen]
    painted: Strengths
    later: dict[int, Cells]
    change: Cells


class Listener:
    """Notes what evidence is weighed (a `receiver.uncertainty.Estimator`)."""

    def __init__(self) -> None:
        self.heard: dict[Kind, Evidence] = {}

    def expected(self, kind: Kind, evidence: Evidence) -> Cells:
        self.heard[kind] = evidence
        return np.zeros(shape_of(evidence), np.float32)


# --- what is seen -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Watch:
    """Watches one stream. painter : one that `listener` listens to, or None for the levels without a network alone"""

    painter: BridgeSynthesizer | None
    listener: Listener
    rng: np.random.Generator
    truths: list[Picture] = field(default_factory=list)
    shown: list[Picture] = field(default_factory=list)
    _plain: dict[str, Gauge] = field(init=False)
    _painted: Evidence | None = None
    _to_carry: int = 0

    def __post_init__(self) -> None:
        self._plain = {level: Gauge(self.listener) for level in ("base", "guide")}
        if self.painter is not None:
            self.painter.reset()

    def see(self, view: View) -> dict[Kind, Picture]:
        """Everything that can be shown of the next frame, by kind; `listener` has the evidence."""
        self.truths.append(view.truth)
        self.listener.heard.clear()
        pictures: dict[Kind, Picture] = {
            "base": self._plain["base"].plain("base", view.composition, view.facts)[0],
            "guide": self._plain["guide"].plain("guide", view.composition, view.facts)[0],
        }
        if self.painter is not None:
            level, at_once = ("carry", True) if self._to_carry else ("bridge1", False)
            found = self.painter.render(view.composition, view.facts, level, lambda: at_once)
            self._to_carry = self._to_carry - 1 if self._to_carry else int(self.rng.choice(CARRIED))
            self.shown.append(found.picture)
            if found.steps_done:
                self._painted, pictures["network"] = self.listener.heard["network"], found.picture
            elif found.carried:
                pictures["carried"] = found.picture
        return pictures

    def look(
        self, pictures: dict[Kind, Picture], cells: NDArray[np.intp]
    ) -> tuple[dict[Kind, Seen], Strengths]:
        """The frame that was seen last at some of its cells, and what its detail was painted by."""
        truth = self.truths[-1]
        kinds = {
            kind: Seen(_at(self.listener.heard[kind], cells), error(picture, truth).ravel()[cells])
            for kind, picture in pictures.items()
        }
        carried = "carried" in pictures and self._painted is not None
        return kinds, _at(self._painted, cells) if carried and self._painted is not None else {}

    def held(
        self, index: int, cells: NDArray[np.intp], waits: Sequence[int]
    ) -> tuple[dict[int, Cells], Cells]:
        """`Sighting.later` and `.change` of a frame, once those after it are known."""
        if not self.shown or index == 0:
            return {}, np.zeros(0, np.float32)
        later = {
            wait: error(self.shown[index], self.truths[index + wait]).ravel()[cells]
            for wait in waits
            if index + wait < len(self.truths)
        }
        before, now = (picture.y.astype(np.float32) for picture in self.shown[index - 1 : index + 1])
        return later, cell_means(np.abs(now - before)).ravel()[cells]


def sightings(views: Iterable[View], watch: Watch, settings: CalibrationSettings) -> list[Sighting]:
    """Of one stream."""
    looked = []
    for index, view in enumerate(views):
        pictures = watch.see(view)
        if index % settings.every == settings.every - 1:
            size = view.composition.reliability.size
            cells = watch.rng.choice(size, min(settings.cells, size), replace=False)
            looked.append((index, cells, watch.look(pictures, cells)))
    return [Sighting(*found, *watch.held(index, cells, settings.waits)) for index, cells, found in looked]


def _at(evidence: Evidence, cells: NDArray[np.intp]) -> Strengths:
    return {
        name: np.broadcast_to(strength(name, value), shape_of(evidence)).ravel()[cells]
        for name, value in evidence.items()
    }


def error(picture: Picture, truth: Picture) -> Cells:
    """Root mean square of the luma's error over 8x8 cells, sample steps."""
    return np.sqrt(cell_means(np.square(picture.y.astype(np.float32) - truth.y)))


# --- all of it ----------------------------------------------------------------------------------------------------


@torch.inference_mode()
def measure(
    clips: Path, name_or_path: str, analyzer: Analyzer, settings: CalibrationSettings, seed: int = 0
) -> tuple[list[Sighting], list[Sighting]]:
    """Streams of the held-back clips, painted by the network, and of the others. SourceError where none is held back."""
    paths = list_clips(clips)
    held_out = [path for path in paths if is_held_out(path.stem.encode())]
    if not held_out:
        raise SourceError(
            f"{clips} holds no clip that training leaves out, as it does one in twelve: add some"
        )
    listener, console = Listener(), Console(stderr=True)
    painter = BridgeSynthesizer(
        load_model(name_or_path), settings=DecoderSettings(safety=False, sparing=False), estimator=listener
    )
    turns = [(path, turn) for path in held_out for turn in range(settings.rounds)]
    turns += [(path, turn) for path in paths if path not in held_out for turn in range(settings.others)]
    found: dict[bool, list[Sighting]] = {True: [], False: []}
    for path, turn in track(turns, "streams", console=console):
        rng = np.random.default_rng((seed, zlib.crc32(path.stem.encode()), turn))
        own = path in held_out
        try:
            as_it_is = bool(rng.random() < settings.as_it_is)
            views = random_stream(path, settings.frames, analyzer, rng, as_it_is)
            found[own] += sightings(views, Watch(painter if own else None, listener, rng), settings)
        except SemcastError as problem:
            console.print(f"left out: {problem}", markup=False)
    return found[True], found[False]

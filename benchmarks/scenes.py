"""Joined clips in which every change of scene is known: what cut detectors are judged on.

    clips, cuts known --shots--> pieces of one scene each
    shots x joins (cut, cross-fade, fade) x effects (flash, whip, zoom), drawn by a seed --> reels: pictures and events

A scene is what the camera sees in one go. A new one begins at a cut, and where a cross-fade or a fade from black has
shown it; black is no scene. After a flash, a whip pan or a zoom it is the same scene.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np

from benchmarks.effects import Effect, Flash, Whip, Zoom
from common.errors import SourceError
from common.types import Frame, Picture

Kind = Literal["cut", "cross-fade", "fade", "flash", "whip", "zoom"]
NEW_SCENE: tuple[Kind, ...] = ("cut", "cross-fade", "fade")
SAME_SCENE: tuple[Kind, ...] = ("flash", "whip", "zoom")

BLACK = 16
"""Luma of black in limited range."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a detector must or must not react to.

    first, last : slots of the first and the last picture that it shows in
    seen : slot from which on the new scene is what one sees: of a cut and a fade its first picture, of a cross-fade the
        one with more of it than of the old one
    """

    kind: Kind
    first: int
    last: int
    seen: int


KNOWN_EVENTS: Mapping[str, tuple[Event, ...]] = {
    "d01_selfie": (),
    "d02_highway_overpass": (),
    "d03_snow_car_fpv": (),
    "d04_bedroom": (),
    "d05_juggle": (),
    "d06_cockatoo": (),
    "d07_flower_timelapse": (),
    "d08_topdown_aerial": (),
    "d09_sintel_cuts": (
        Event("fade", 34, 72, 57),
        Event("cut", 103, 103, 103),
        Event("cut", 153, 153, 153),
        Event("cut", 190, 190, 190),
        Event("fade", 204, 215, 211),  # a cut to black; the clip ends before the new scene is fully there
    ),
    "d10_browser": (),
    "d11_street_parade": (),
    "d12_concat_cuts": (
        Event("cut", 40, 40, 40),
        Event("cut", 76, 76, 76),
        Event("cut", 124, 124, 124),
    ),
}
"""What happens in the development clips, by name, found by looking at their pictures."""


# --- shots --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """Pictures of one scene, in order. name : of the clip that they are from"""

    name: str
    pictures: tuple[Picture, ...]

    def at(self, index: int) -> Picture:
        """Forth and back again without end, so that a shot is as long as one needs."""
        turn = 2 * max(1, len(self.pictures) - 1)
        place = index % turn
        return self.pictures[min(place, turn - place, len(self.pictures) - 1)]

    def stamp(self) -> str:
        """Hash of its first and last picture, and of how many there are."""
        ends = (plane for picture in (self.pictures[0], self.pictures[-1]) for plane in picture.planes)
        digest = hashlib.sha256(b"".join(plane.tobytes() for plane in ends))
        return f"{self.name}.{len(self.pictures)}.{digest.hexdigest()[:16]}"


def shots_of(name: str, pictures: Sequence[Picture], events: Sequence[Event], longest: int) -> list[Shot]:
    """The scenes of a clip between what happens in it, the middle `longest` pictures of each; shorter than a third of
    that they are left out."""
    edges = [0, *(slot for event in events for slot in (event.first, event.last + 1)), len(pictures)]
    shots = []
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        spare = max(0, end - first - longest) // 2
        part = tuple(pictures[first + spare : first + spare + min(longest, end - first)])
        if 3 * len(part) >= longest:
            shots.append(Shot(name, part))
    return shots


def shots_of_frames(
    name: str, frames: Sequence[Frame], cuts: Sequence[int] | None, longest: int
) -> list[Shot]:
    """Shots of a clip by `KNOWN_EVENTS`, else by its `cuts` where its source knows them, else as one scene."""
    events = KNOWN_EVENTS.get(name)
    if events is None:
        events = tuple(Event("cut", slot, slot, slot) for slot in cuts or ())
    shots = shots_of(name, [frame.picture for frame in frames], events, longest)
    if not shots:
        raise SourceError(f"{name} holds no scene of {-(-longest // 3)} pictures: name a longer clip")
    return shots


# --- reels --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Take:
    """`length` pictures of a shot from `start` on, perhaps with an effect."""

    shot: Shot
    start: int
    length: int
    effect: Effect | None = None

    def at(self, index: int) -> Picture:
        picture = self.shot.at(self.start + index)
        return picture if self.effect is None else self.effect.apply(picture, index)


@dataclass(frozen=True, slots=True)
class Join:
    """How one take becomes the next. A cross-fade has pictures of both in `length` slots; a fade takes `length` pictures
    to go out, `hold` are black, and `length` to come in."""

    kind: Literal["cut", "cross-fade", "fade"] = "cut"
    length: int = 0
    hold: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Reel:
    """Takes joined to one clip; `joins` has one entry less than `takes`."""

    name: str
    takes: tuple[Take, ...]
    joins: tuple[Join, ...]

    @property
    def starts(self) -> tuple[int, ...]:
        """Slot of the first picture of every take."""
        starts = [0]
        for take, join in zip(self.takes, self.joins, strict=False):
            overlap = join.length if join.kind == "cross-fade" else -join.hold
            starts.append(starts[-1] + take.length - overlap)
        return tuple(starts)

    def __len__(self) -> int:
        return self.starts[-1] + self.takes[-1].length

    @property
    def events(self) -> tuple[Event, ...]:
        """What happens, in order."""
        found = []
        for take, start in zip(self.takes, self.starts, strict=True):
            if take.effect is not None:
                first = start + take.effect.at
                found.append(Event(take.effect.kind, first, first + take.effect.length - 1, first))
        for join, start in zip(self.joins, self.starts[1:], strict=True):
            found.append(_event_of(join, start))
        return tuple(sorted(found, key=lambda event: event.first))

    def stamp(self) -> list[object]:
        """What its pictures follow from."""
        takes = [(t.shot.stamp(), t.start, t.length, repr(t.effect)) for t in self.takes]
        return [takes, *map(repr, self.joins)]

    def __iter__(self) -> Iterator[Picture]:
        for slot in range(len(self)):
            yield self.at(slot)

    def at(self, slot: int) -> Picture:
        """The picture of one slot, whatever was asked before."""
        starts = self.starts
        number = max(n for n, start in enumerate(starts) if start <= slot or n == 0)
        take, index = self.takes[number], slot - starts[number]
        before = self.joins[number - 1] if number else Join()
        after = self.joins[number] if number < len(self.joins) else Join()
        if before.kind == "cross-fade" and index < before.length:
            old = self.takes[number - 1]
            return _mixed(
                old.at(slot - starts[number - 1]), take.at(index), (index + 1) / (before.length + 1)
            )
        if index >= take.length:
            return _dark(take.at(take.length - 1), 0.0)
        shares = [1.0]
        if before.kind == "fade":
            shares.append((index + 1) / before.length)
        if after.kind == "fade":
            shares.append((take.length - 1 - index) / after.length)
        return _dark(take.at(index), min(shares))


def _event_of(join: Join, start: int) -> Event:
    """start : slot of the first picture of the take after it"""
    if join.kind == "cut":
        return Event("cut", start, start, start)
    last = start + join.length - 1
    if join.kind == "cross-fade":
        return Event("cross-fade", start, last, start + join.length // 2)
    return Event("fade", start - join.hold - join.length, last, start)


def _mixed(old: Picture, new: Picture, share: float) -> Picture:
    """Both pictures on top of one another. share : of the new one, 0..1"""
    planes = (
        np.asarray(cv2.addWeighted(a, 1 - share, b, share, 0.0), np.uint8)
        for a, b in zip(old.planes, new.planes, strict=True)
    )
    return Picture(*planes)


def _dark(picture: Picture, share: float) -> Picture:
    """What is left of a picture on its way to black. share : 1 is all of it"""
    if share >= 1:
        return picture
    planes = (
        np.rint(black + share * (plane.astype(np.float32) - black)).astype(np.uint8)
        for plane, black in zip(picture.planes, (BLACK, 128, 128), strict=True)
    )
    return Picture(*planes)


# --- drawing ------------------------------------------------------------------------------------------------------


def draw_reels(
    shots: Sequence[Shot], seed: int, count: int, takes: int, length: tuple[int, int]
) -> list[Reel]:
    """`count` reels of `takes` takes each, of all kinds of events in turn.

    length : of a take, least and most pictures
    """
    if len({shot.name for shot in shots}) < 2 and len(shots) < 2:
        raise SourceError("one scene cannot be joined to another: name more clips")
    rng = np.random.default_rng(seed)
    return [_drawn(shots, rng, f"reel{number:02d}", takes, length) for number in range(count)]


def _drawn(
    shots: Sequence[Shot], rng: np.random.Generator, name: str, takes: int, length: tuple[int, int]
) -> Reel:
    chosen: list[Take] = []
    joins = [_join(rng) for _ in range(takes - 1)]
    faded = [0, *(join.length for join in joins), 0]
    shot = None
    for before, after in pairwise(faded):
        others = [other for other in shots if other is not shot]
        shot = others[int(rng.integers(len(others)))]
        still = int(rng.integers(length[0], length[1] + 1))
        chosen.append(_take(shot, rng, still, before, after))
    return Reel(name, tuple(chosen), tuple(joins))


def _join(rng: np.random.Generator) -> Join:
    kind = str(rng.choice(["cut", "cut", "cut", "cross-fade", "fade"]))
    if kind == "cross-fade":
        return Join("cross-fade", int(rng.integers(8, 31)))
    if kind == "fade":
        return Join("fade", int(rng.integers(6, 21)), int(rng.integers(1, 9)))
    return Join()


def _take(shot: Shot, rng: np.random.Generator, still: int, before: int, after: int) -> Take:
    """A take with an effect in the middle of its `still` pictures, which come on top of those that are faded."""
    start = int(rng.integers(2 * len(shot.pictures)))
    effect = _effect(rng, before + still // 2)
    length = before + still + after + (0 if effect is None else effect.length)
    return Take(shot, start, length, effect)


def _effect(rng: np.random.Generator, at: int) -> Effect | None:
    kind = str(rng.choice(["none", "flash", "whip", "zoom"]))
    if kind == "flash":
        power = rng.uniform(0.4, 1.0) * np.exp(-np.arange(int(rng.integers(1, 4))) * rng.uniform(0.0, 0.7))
        return Flash(at, tuple(map(float, power)), float(rng.uniform()), float(rng.uniform()))
    if kind == "whip":
        length = int(rng.integers(5, 13))
        far = float(rng.uniform(0.08, 0.2)) * length  # mean speed, widths a picture
        angle = float(rng.choice([0.0, math.pi])) + float(rng.normal(0.0, 0.15))
        return Whip(at, length, min(far, 1.5) * math.cos(angle), min(far, 1.5) * math.sin(angle))
    if kind == "zoom":
        factor = float(rng.uniform(1.3, 3.0))
        start, end = (1.0, factor) if rng.uniform() < 0.5 else (factor, 1.0)
        return Zoom(at, int(rng.integers(6, 31)), start, end)
    return None

"""Makes training examples with the real sender: what a receiver would hold, beside the source picture.

    clip -> random view -> SenderSession at a random rate -> its state after each frame -> compose -> crops of two frames
                                     ^ anchors arrive when the link has had time to carry them

Clips are visited again and again with other views and rates until the time is up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from common.clock import Clock, SystemClock
from common.config import Config
from common.errors import SemcastError, SourceError
from common.ports import Analyzer
from common.state import compose
from common.types import Feedback, Frame, Picture
from common.units import StreamConfig
from receiver.decoder.conditions import FrameFacts
from sender.anchors import AnchorOrder
from sender.pipeline import SenderSession
from sender.rate import FILE, LINK, RateTarget
from training.clips import list_clips, read_clip
from training.dataset import CROP, Example, ExampleWriter, View, crop_view
from training.views import draw_view, seen, whole_view

RATES_BPS = (6_000, 8_000, 12_000, 16_000, 24_000, 32_000, 48_000, 64_000, 96_000)
"""For a picture of 512x512."""


_LONG_MINUTES = 5.0


@dataclass(frozen=True, slots=True)
class PackSettings:
    """frames : taken from a clip at a time, least and most; every : frames between examples"""

    frames: tuple[int, int] = (40, 110)
    every: int = 8

    @classmethod
    def within(cls, minutes: float) -> PackSettings:
        """For so much time: a short one goes into many clips rather than into old anchors and long histories."""
        return cls() if minutes >= _LONG_MINUTES else cls(frames=(16, 40), every=4)


def pack(
    clips: Path,
    out: Path,
    minutes: float,
    analyzer: Analyzer,
    seed: int = 0,
    settings: PackSettings | None = None,
    clock: Clock | None = None,
) -> int:
    """Write examples for `minutes`; returns how many. SourceError when the folder holds no clips.

    settings : by default those that suit the time
    """
    settings = settings or PackSettings.within(minutes)
    clock = clock or SystemClock()
    paths, rng = list_clips(clips), np.random.default_rng(seed)
    end_s, written, turn = clock.now_s() + minutes * 60, 0, 0
    with ExampleWriter(out, CROP) as writer, Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("examples", total=minutes * 60)
        while clock.now_s() < end_s:
            path = paths[int(rng.permutation(len(paths))[0])] if turn >= len(paths) else paths[turn]
            turn += 1
            try:
                for example in _examples(path, analyzer, rng, settings):
                    writer.add(example)
                    written += 1
            except SemcastError as error:
                bar.console.print(f"{path.name}: {error}")
            bar.update(
                task,
                completed=minutes * 60 - max(0.0, end_s - clock.now_s()),
                description=f"{written} examples",
            )
    if not written:
        raise SourceError(f"no clip in {clips} gave an example")
    return written


def _examples(
    path: Path, analyzer: Analyzer, rng: np.random.Generator, settings: PackSettings
) -> Iterator[Example]:
    """Crops of pairs of frames of one clip, sent at a random rate."""
    before: View | None = None
    for index, view in enumerate(random_stream(path, settings.frames, analyzer, rng)):
        side = view.truth.width
        if before is not None and index % settings.every == settings.every - 1:
            for _ in range(1 + (side > CROP)):
                top, left = (16 * int(rng.integers(0, (side - CROP) // 16 + 1)) for _ in range(2))
                yield Example(path.stem, crop_view(before, top, left, CROP), crop_view(view, top, left, CROP))
        before = view


def random_stream(
    path: Path,
    least_most: tuple[int, int],
    analyzer: Analyzer,
    rng: np.random.Generator,
    as_it_is: bool = False,
) -> Iterator[View]:
    """Part of a clip, seen at random and sent at a random rate: what a receiver holds, frame by frame.

    least_most : number of frames; as_it_is : the clip itself, by the sender's own policies
    """
    start, frames = int(rng.integers(0, 60)) if rng.random() < 0.5 else 0, int(rng.integers(*least_most))
    clip = read_clip(path, None, frames, start)
    if len(clip.pictures) < 12:
        clip = read_clip(path, None, frames, 0)
    height, width = clip.pictures[0].y.shape
    plan = whole_view(height, width) if as_it_is else draw_view(height, width, rng)
    pictures = [seen(plan, picture) for picture in clip.pictures]
    rate_bps = float(rng.choice(RATES_BPS)) * float(rng.uniform(0.8, 1.25)) * plan.side / 512
    order = reversed(pictures) if plan.backwards else pictures
    yield from _received(list(order), clip.frame_rate, rate_bps, analyzer, rng, as_it_is)


def _received(
    pictures: Sequence[Picture],
    frame_rate: Fraction,
    rate_bps: float,
    analyzer: Analyzer,
    rng: np.random.Generator,
    by_policy: bool = False,
) -> Iterator[View]:
    """What a receiver without losses holds, frame by frame.

    Many streams get an anchor early, whatever the policy says, so that a few seconds of a clip show anchors of
    all ages; the rest are left to the policy, as all are with `by_policy`.
    """
    anchored = rng.random() < 0.6 and not by_policy
    scale = int(rng.choice([2, 2, 4])) if anchored else "auto"
    side = pictures[0].width
    config = StreamConfig(int(rng.integers(1 << 16)), side, side, frame_rate, 1 / frame_rate)
    settings = Config.model_validate({"guide": {"scale": scale}})
    pace = LINK if rng.random() < 0.5 else FILE
    session = SenderSession(config, settings, analyzer, RateTarget(rate_bps, float(frame_rate)), pace)
    launch_slot, arrival_slot = 4 * int(rng.integers(1, 3)), int(rng.integers(10, 24))
    frames = [Frame(picture, slot, 1 / frame_rate, slot) for slot, picture in enumerate(pictures)]
    session.probe(frames[:13])
    try:
        for frame in frames:
            if anchored and frame.slot == launch_slot:
                session.order = AnchorOrder(launch=True)
            step = session.step(frame)
            if session.anchors.flight is not None and frame.slot >= arrival_slot:
                session.on_feedback(Feedback(0, anchors=(session.anchors.flight.anchor.anchor_id,)))
            yield View(frame.picture, compose(step.state, step.residual), FrameFacts.of(step.state))
    finally:
        session.close()

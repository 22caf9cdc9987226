"""One joined clip over the link, from a sender to one receiver, and what that shows after cuts.

Only bytes cross. Work takes no time; a report takes `REPORT_SLOTS` to come back. Scenes are too short for anchors to pay,
but an old scene lingers where an anchor of it is in use: one is ordered before each cut, and there at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from benchmarks.cuts_report import ReceiverName, Watching
from benchmarks.link import PROBE_FRAMES, launch_anchor
from benchmarks.scenes import Event, Reel
from common.clock import VirtualClock
from common.colour import crop
from common.config import Config, ReceiverSettings
from common.deadline import CostModel
from common.ports import Analyzer
from common.quality import ms_ssim
from common.types import Colour, EncodedUnit, Feedback, Frame, Picture, UnitKind
from common.units import StreamConfig
from common.wire import is_key
from receiver.budget import Way
from receiver.cuts import SceneKeeper
from receiver.painter import Painter, open_painter
from receiver.pipeline import ReceiverSession, Shown
from sender.cuts import CutState
from sender.labels import BlankAnalyzer, LabelAnalyzer
from sender.pipeline import SenderSession, Step
from sender.rate import LINK, RateTarget

RATE = Fraction(24)
"""Pictures per second of a reel; those of its clips are taken one for one."""
REPORT_SLOTS = 3
"""Pictures until a receiver's report has reached the sender."""
WATCHED = round(RATE)
"""Pictures after a cut, a second, that are compared with the guide."""
PAINTED_BEFORE = 8
"""Pictures before a cut from which on the decoder paints: what it remembers must be the old scene's. Elsewhere it is left
out, which saves half of the time."""

ANCHORED_BEFORE = range(8, 20)
"""Pictures before a cut at which an anchor is taken where none is in use."""


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """What every run shares. painter : is reset before each; costs : of the painter, learned once"""

    config: Config
    analyzer: Analyzer
    painter: Painter
    costs: CostModel[Way]


def open_ends(config: Config, size: tuple[int, int]) -> Ends:
    """size : (height, width) of the coded picture"""
    analyzer: Analyzer = (
        LabelAnalyzer(threads=config.sender.threads) if config.semantics.enabled else BlankAnalyzer()
    )
    return Ends(config, analyzer, open_painter(config, config.stream.seed, size), CostModel())


@dataclass(slots=True)
class Crossing:
    """One reel from a sender to one receiver, picture by picture. Iterate once.

    painted : slots of the pictures that the decoder paints, all others are base pictures
    announced : slots at which the sender announced a new scene
    """

    ends: Ends
    reel: Reel
    receiver_name: ReceiverName
    painted: frozenset[int]
    announced: list[int] = field(default_factory=list)
    _refresh_slot: int | None = None

    def __iter__(self) -> Iterator[tuple[Frame, Shown]]:
        frames = [Frame(picture, slot, 1 / RATE, slot) for slot, picture in enumerate(self.reel)]
        sender, receiver = self._sender(frames[0].picture), self._receiver()
        if self.receiver_name in {"unannounced", "blind"}:
            sender.cuts = CutState(since=-len(frames))  # it always has announced one just before
        sender.probe(frames[:PROBE_FRAMES])
        anchored = {cut.first - before for cut in cuts_of(self.reel) for before in ANCHORED_BEFORE}
        try:
            for frame in frames:
                if frame.slot in anchored:
                    launch_anchor(sender)
                step = sender.step(frame)
                if "cut" in step.events:
                    self.announced.append(frame.slot)
                self._carry(frame.slot, step, receiver)
                self._report(frame.slot, sender, receiver)
                receiver.settings = self._settings(frame.slot)
                if receiver.decoder.config is not None:
                    yield frame, receiver.paint(frame.slot)
        finally:
            sender.close()

    def _sender(self, picture: Picture) -> SenderSession:
        config = self.ends.config
        stream = StreamConfig(
            0, picture.width, picture.height, RATE, 1 / RATE, Colour(), config.stream.seed, config.guide.codec
        )
        target = RateTarget(config.stream.bitrate_bps, float(RATE))
        return SenderSession(stream, config, self.ends.analyzer, target, LINK, len(self.reel))

    def _receiver(self) -> ReceiverSession:
        self.ends.painter.reset()
        scenes = SceneKeeper(blind=self.receiver_name == "blind")
        return ReceiverSession(
            self._settings(0), self.ends.painter, VirtualClock(), costs=self.ends.costs, scenes=scenes
        )

    def _settings(self, slot: int) -> ReceiverSettings:
        settings = self.ends.config.receiver
        return settings.model_copy(
            update={"budget_ms": None, "steps": settings.steps if slot in self.painted else 0}
        )

    def _carry(self, slot: int, step: Step, receiver: ReceiverSession) -> None:
        """Deliver what the sender made."""
        for unit in step.units:
            if not self._is_lost(unit, step):
                receiver.receive(unit.data, slot / float(RATE))

    def _is_lost(self, unit: EncodedUnit, step: Step) -> bool:
        announces = unit.kind is UnitKind.FRAME and is_key(unit.data) and "cut" in step.events
        return announces and self.receiver_name == "lost"

    def _report(self, slot: int, sender: SenderSession, receiver: ReceiverSession) -> None:
        """Tell the sender what has arrived, and a little later what is wanted."""
        if receiver.refresh_wanted(slot / float(RATE)):
            self._refresh_slot = slot + REPORT_SLOTS
        refresh = self._refresh_slot is not None and slot >= self._refresh_slot
        sender.on_feedback(Feedback(0, anchors=receiver.decoder.anchor_ids, refresh=refresh))
        self._refresh_slot = None if refresh else self._refresh_slot


# --- what a receiver shows ----------------------------------------------------------------------------------------


def watch(crossing: Crossing) -> Watching:
    """Look at every picture; after cuts compare with the guide."""
    seen, cuts = Watching(announced=[], found=[], shown=[], gains={}), cuts_of(crossing.reel)
    for frame, shown in crossing:
        if shown.concealed or shown.scene is None:  # nothing came, of which the guide would show more
            continue
        seen.shown.append(frame.slot)
        if shown.new_scene:
            seen.found.append(frame.slot)
        cut = next((cut for cut in reversed(cuts) if cut.first <= frame.slot), None)
        if cut is not None and frame.slot < cut.first + WATCHED:
            gain = _gain(frame.picture, shown)
            seen.gains.setdefault(cut.first, []).append((frame.slot - cut.first, gain))
    return seen.model_copy(update={"announced": crossing.announced})


def cuts_of(reel: Reel) -> list[Event]:
    """The hard cuts."""
    return [event for event in reel.events if event.kind == "cut"]


def around(cuts: Sequence[Event]) -> frozenset[int]:
    """Slots of the pictures shortly before and after cuts."""
    return frozenset(slot for cut in cuts for slot in range(cut.first - PAINTED_BEFORE, cut.first + WATCHED))


def _gain(source: Picture, shown: Shown) -> float:
    """MS-SSIM of what is shown, over that of the guide alone."""
    assert shown.scene is not None
    guide = crop(shown.scene.guide, source.width, source.height)
    return ms_ssim(source, shown.frame.picture) - ms_ssim(source, guide)

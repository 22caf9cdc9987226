"""The receiver, from units to pictures. The mirror of sender/pipeline.py.

    units -> wait for what is missing -> parse -> follow, describe, advance -> SceneState        (receiver/chain.py;
             of an analog link: receiver/analog.py)
          -> playout: which frame is due -> another scene? -> compose base -> plan level for the deadline -> paint
             -> picture
          -> report: what is missing, what is held, whether to refresh -> Feedback

Everything that outlives a frame is in `ReceiverSession`. It never waits: `receive`, `due` and `report` take the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from common.clock import Clock
from common.colour import crop
from common.config import ReceiverSettings
from common.deadline import CostModel
from common.state import Composition, SceneState
from common.stats import StageTimer
from common.types import Frame, Picture
from receiver.budget import CARRY, STEPS, LevelPlanner, Stopper, Way, at_once, best_of, ways_of, worth_at
from receiver.chain import SceneDecoder
from receiver.cuts import SceneKeeper
from receiver.decoder.conditions import DEAF, FrameFacts
from receiver.decoder.synth import Painted
from receiver.jitter import Playout
from receiver.painter import Painter
from receiver.scenes import Scenes

_REFRESH_AFTER_S = 0.45  # a stall that retransmission has not mended by then needs a key frame
_REFRESH_EVERY_S = 0.6
_PRIMING_RUNS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One picture as it is shown.

    frame : at the display size; level : what painted it; concealed : nothing new arrived, the picture is the last one
    scene : the base picture's parts, None when concealed
    uncertainty : see receiver/uncertainty.py, None before the first picture
    spent_s : time from the start of work on it; late : that was more than the budget
    new_scene : nothing of the pictures before it is used any more
    taken_back : share of the cells where the decoder contradicted the guide, see receiver/safety.py
    """

    frame: Frame
    level: str
    concealed: bool
    scene: Composition | None
    uncertainty: NDArray[np.uint8] | None
    spent_s: float
    late: bool
    new_scene: bool = False
    taken_back: float = 0.0


@dataclass(slots=True)
class ReceiverSession:
    """One stream. Feed it units; ask it for what is due.

    clock : measures how long work takes; `now_s` arguments are stream-side time and may be virtual
    aside : where the anchor is warped while the guide is enlarged
    shown_slot : the frame that was shown last, -1 before any
    costs : what ways to paint take, on the painter's device and at the stream's size
    costs_for : that size (height, width), None before it is known
    scenes : what is known of the scene that is shown
    refresh_due : somebody wants a self-contained frame though nothing is lost: a recording begins with one
    """

    settings: ReceiverSettings
    painter: Painter
    clock: Clock
    decoder: Scenes = field(default_factory=SceneDecoder)
    costs: CostModel[Way] = field(default_factory=CostModel)
    aside: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, "warp"))
    timer: StageTimer = field(init=False)
    planner: LevelPlanner = field(init=False)
    playout: Playout = field(init=False)
    refresh_asked_s: float = -1e9
    first_arrival_s: float | None = None
    shown_slot: int = -1
    costs_for: tuple[int, int] | None = None
    refresh_due: bool = False
    scenes: SceneKeeper = field(default_factory=SceneKeeper)

    def __post_init__(self) -> None:
        self.timer = StageTimer(self.clock)
        self.planner = self._new_planner()
        self.playout = Playout(self.settings.playout_delay_ms / 1e3)

    def receive(self, unit: bytes, arrival_s: float) -> None:
        """Take one unit; bad bytes are counted, never raised."""
        stream, before = self.decoder.config, self.decoder.newest_slot
        if self.decoder.config is not None:
            self._know_costs(self._coded_size())
        with self.timer.stage("decode and advance"):
            self.decoder.push(unit, arrival_s)
        if self.first_arrival_s is None:
            self.first_arrival_s = arrival_s
        if self.decoder.config is not stream:  # who joins late does not show what was before
            first = max(0, self.decoder.newest_slot + 1)
            self.playout = replace(self.playout, fastest_s=None, next_slot=first)
            self.shown_slot = -1
            self.scenes.forget()
        elif self.decoder.newest_slot > before:
            self.playout = self.playout.arrived(self._capture_s(self.decoder.newest_slot), arrival_s)

    def due(self, now_s: float) -> list[Shown]:
        """Paint every frame whose time has come."""
        shown = []
        while self._is_due(self.playout.next_slot, now_s):
            shown.append(self.paint(self.playout.next_slot))
        return shown

    def newest_due(self, now_s: float) -> Shown | None:
        """Paint the newest frame whose time has come and leave out those before it: who is behind must not stay so."""
        slot = self.playout.next_slot
        if not self._is_due(slot, now_s):
            return None
        while self._is_due(slot + 1, now_s):
            slot += 1
        return self.paint(slot)

    def paint(self, slot: int) -> Shown:
        """Paint the frame at `slot` now, with what has arrived, at the best level that fits the budget."""
        self.playout = replace(self.playout, next_slot=slot + 1)
        began_s = self.clock.now_s()
        deadline_s = None if self.settings.budget_ms is None else began_s + self.settings.budget_ms / 1e3
        state = self._newest_to_show(slot)
        if state is None:
            return self._concealed(slot, began_s)
        self.shown_slot = state.slot
        self.decoder.shown(state.slot)
        with self.timer.stage("base picture"):
            new, state, scene = self._composed(state)
        level, painted = self._painted(scene, _facts(state, scene, slot), deadline_s)
        now_s = self.clock.now_s()
        self.timer.record("receiver total", (now_s - began_s) * 1e3)
        late = deadline_s is not None and now_s > deadline_s
        return Shown(
            self._framed(painted.picture, slot, state),
            level,
            False,
            scene,
            painted.uncertainty,
            now_s - began_s,
            late,
            new,
            painted.taken_back,
        )

    def _composed(self, state: SceneState) -> tuple[bool, SceneState, Composition]:
        """Whether another scene is there, what of the state belongs to it, and the parts of its base picture."""
        new = self.scenes.begins(state)
        if new:
            self.painter.reset()
        fresh = self.scenes.fresh(state)
        return new, fresh, self.decoder.compose(fresh, self.aside)

    def _painted(
        self, scene: Composition, facts: FrameFacts, deadline_s: float | None
    ) -> tuple[str, Painted]:
        """The picture and its level: what was planned, or what was left of it when the time ran out."""
        began_s = self.clock.now_s()
        way, stopper = self._planned(scene, facts, began_s, deadline_s)
        self.painter.use_threads(way.threads)
        with self.timer.stage(way.level):
            own = self.painter.go_on(scene, facts, stopper) if way == CARRY else None
            painted = own or self.painter.render(scene, facts, way.level, stopper)
        now_s = self.clock.now_s()
        level = _reached(way.level, painted)
        if level == way.level or way == CARRY or stopper.stopped:
            # Else there was nothing to paint, which says nothing of its cost.
            late = deadline_s is not None and now_s > deadline_s
            self.planner.painted(way, stopper, began_s, now_s, late)
        return level, painted

    def _planned(
        self, scene: Composition, facts: FrameFacts, now_s: float, deadline_s: float | None
    ) -> tuple[Way, Stopper]:
        """How to paint this frame, and when to give up or to leave the rest of it to the next ones."""
        levels, planner = self._allowed(), self.planner
        if self.settings.steps != "auto":
            way = planner.way(levels[-1])
            return way, planner.stopper(self.clock, way, now_s, None)
        least_gain = 0.0 if deadline_s is None else self.settings.least_gain
        worth = worth_at(levels, facts.guide_scale, self.painter.change(scene), least_gain)
        way = planner.choose(now_s, deadline_s, worth)
        if way != CARRY:
            return way, planner.stopper(self.clock, way, now_s, deadline_s)
        if deadline_s is None or best_of(worth) not in STEPS:  # what was painted before is good enough
            return way, at_once(self.clock)
        return way, planner.sparing(self.clock, now_s, deadline_s, self._capture_s(1))

    def _newest_to_show(self, slot: int) -> SceneState | None:
        """This very frame, or one before it that came too late for its own time: late is better than frozen."""
        state = self.decoder.scene_at(slot) or self.decoder.latest_before(slot)
        return state if state is not None and state.slot > self.shown_slot else None

    def refresh_wanted(self, now_s: float) -> bool:
        """Whether to ask for a key frame: the state is lost, or a stall lasts. Rate-limited."""
        lost = (
            self.decoder.state is None
            and self.first_arrival_s is not None
            and now_s - self.first_arrival_s > 0.25
        )
        wanted = self.refresh_due or lost or self.decoder.stalled_for_s(now_s) > _REFRESH_AFTER_S
        if not wanted or now_s - self.refresh_asked_s < _REFRESH_EVERY_S:
            return False
        self.refresh_asked_s, self.refresh_due = now_s, False
        return True

    # --- parts ----------------------------------------------------------------------------------------------------

    def _is_due(self, slot: int, now_s: float) -> bool:
        return self.decoder.config is not None and self.playout.due_s(self._capture_s(slot)) <= now_s

    def _coded_size(self) -> tuple[int, int]:
        config = self.decoder.config
        assert config is not None
        return config.coded_height, config.coded_width

    def _capture_s(self, slot: int) -> float:
        assert self.decoder.config is not None
        return float(slot / self.decoder.config.frame_rate)

    def _allowed(self) -> Sequence[str]:
        """Levels up to the number of steps asked for."""
        steps, available = self.settings.steps, self.painter.levels
        if steps == "auto":
            return available
        wanted = "base" if steps == 0 else f"bridge{steps}"
        return available[: available.index(wanted) + 1]

    def _know_costs(self, size: tuple[int, int]) -> None:
        """Find out what ways to paint cost at this size, unless that is known already."""
        if self.costs_for not in (None, size):
            self.costs = CostModel()
            self.planner = self._new_planner()
        self.costs_for = size
        if not self.costs.known:
            prime(self.costs, self.painter, self.clock, size)

    def _new_planner(self) -> LevelPlanner:
        return LevelPlanner(ways_of(self.painter.levels, self.painter.threads), self.costs)

    def _concealed(self, slot: int, began_s: float) -> Shown:
        """Hold the last picture: nothing arrived for this frame."""
        picture, config = self.painter.held, self.decoder.config
        assert config is not None
        if picture is None:
            picture = _grey_scene(config.coded_height, config.coded_width).base
        spent_s = self.clock.now_s() - began_s
        doubt = self.painter.held_map(slot)
        return Shown(self._framed(picture, slot, None), "hold", True, None, doubt, spent_s, False)

    def _framed(self, picture: Picture, slot: int, state: SceneState | None) -> Frame:
        config = self.decoder.config
        assert config is not None
        own = state.pts if state is not None and state.slot == slot else None
        pts = config.pts_of(slot) if own is None else own
        even = config.width + config.width % 2, config.height + config.height % 2
        return Frame(crop(picture, *even), pts, config.time_base, slot, config.colour)


def prime(costs: CostModel[Way], painter: Painter, clock: Clock, size: tuple[int, int]) -> None:
    """Learn what each way to paint costs on this machine before the first picture: deadline control starts informed.

    size : (height, width) of the coded picture
    Nothing is kept for the next start of the program: this takes half a second for `tiny`, and costs of another day would
    know nothing of the load of this one.
    """
    scene = _grey_scene(*size, contrast=64)
    # There has to be detail to carry over.
    painter.render(scene, FrameFacts(), painter.levels[-1], lambda: False)
    once: dict[int, float] = {}
    for way in ways_of(painter.levels, painter.threads):
        steps = STEPS.get(way.level, 0)
        if steps > 1:  # scaled from one, which takes long enough
            costs.observe(way, steps * once[way.threads])
            continue
        painter.use_threads(way.threads)
        cost_s = _median_s(painter, clock, scene, way.level)
        costs.observe(way, cost_s)
        once |= {way.threads: cost_s} if steps else {}
    painter.reset()


def _median_s(painter: Painter, clock: Clock, scene: Composition, level: str) -> float:
    """Of some runs; the first ones load and allocate, and one of those would rule a level out for seconds."""
    took_s = []
    for _ in range(_PRIMING_RUNS):
        began_s = clock.now_s()
        painter.render(scene, FrameFacts(), level, lambda: False)
        took_s.append(clock.now_s() - began_s)
    return float(np.median(took_s))


def _reached(level: str, painted: Painted) -> str:
    """The level of what was painted: that asked for, unless time or reason ran out, or there was time for more."""
    if level not in (*STEPS, "carry") or (painted.steps_done and level != "carry"):
        return level
    if painted.steps_done:
        return f"bridge{painted.steps_done}"
    return "carry" if painted.carried else "base"


def _grey_scene(height: int, width: int, contrast: int = 0) -> Composition:
    """A scene without content, for warming up and for showing before anything has come.

    contrast : of its upper to its lower half; a flat picture would cost a decoder nothing
    """
    planes = [np.full((height // k, width // k), 128, np.uint8) for k in (1, 2, 2)]
    planes[0][: height // 2] += np.uint8(contrast)
    grey = Picture(planes[0], planes[1], planes[2])
    cells = [np.zeros((height // k, width // k), np.uint8) for k in (8, 16, 16)]
    return Composition(grey, None, grey, cells[0], cells[1], cells[2])


def _facts(state: SceneState, scene: Composition, slot: int) -> FrameFacts:
    noise = 0.0 if scene.noise is None else float(np.sqrt(np.mean(np.square(scene.noise))))
    return FrameFacts.of(state, max(0.0, 1.0 - noise / DEAF), slot)

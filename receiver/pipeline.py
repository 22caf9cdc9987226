"""The receiver, from units to pictures. The mirror of sender/pipeline.py.

    units -> wait for what is missing -> parse -> follow, describe, advance -> SceneState        (receiver/chain.py;
             of an analog link: receiver/analog.py)
          -> playout: which frame is due -> compose base -> plan level for the deadline -> paint -> picture
          -> report: what is missing, what is held, whether to refresh -> Feedback

Everything that outlives a frame is in `ReceiverSession`. It never waits: `receive`, `due` and `report` take the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from common.clock import Clock
from common.colour import crop
from common.config import ReceiverSettings
from common.state import Composition, SceneState
from common.stats import StageTimer
from common.types import Frame, Picture
from receiver.budget import CostModel, plan
from receiver.chain import SceneDecoder
from receiver.decoder.conditions import DEAF, FrameFacts
from receiver.jitter import Playout
from receiver.painter import Painter
from receiver.scenes import Scenes

_REFRESH_AFTER_S = 0.45  # a stall that retransmission has not mended by then needs a key frame
_REFRESH_EVERY_S = 0.6
_PRIMING_RUNS = 5
_BEST = "bridge1"  # with the shipped weights two and four steps cost more and measured no better (tiny.md)
_COMPOSE_S = 0.005  # composing the base picture comes on top of painting; soon replaced by measurements


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One picture as it is shown.

    frame : at the display size; level : what painted it; concealed : nothing new arrived, the picture is the last one
    scene : the base picture's parts, None when concealed; uncertainty : uint8 [H/8, W/8] or None
    spent_s : time from the start of work on it; late : that was more than the budget
    """

    frame: Frame
    level: str
    concealed: bool
    scene: Composition | None
    uncertainty: NDArray[np.uint8] | None
    spent_s: float
    late: bool


@dataclass(slots=True)
class ReceiverSession:
    """One stream. Feed it units; ask it for what is due.

    clock : measures how long work takes; `now_s` arguments are stream-side time and may be virtual
    aside : where the anchor is warped while the guide is enlarged
    shown_slot : the frame that was shown last, -1 before any
    refresh_due : somebody wants a self-contained frame though nothing is lost: a recording begins with one
    """

    settings: ReceiverSettings
    painter: Painter
    clock: Clock
    decoder: Scenes = field(default_factory=SceneDecoder)
    costs: CostModel = field(default_factory=CostModel)
    aside: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, "warp"))
    timer: StageTimer = field(init=False)
    playout: Playout = field(init=False)
    refresh_asked_s: float = -1e9
    first_arrival_s: float | None = None
    shown_slot: int = -1
    refresh_due: bool = False

    def __post_init__(self) -> None:
        self.timer = StageTimer(self.clock)
        self.playout = Playout(self.settings.playout_delay_ms / 1e3)

    def receive(self, unit: bytes, arrival_s: float) -> None:
        """Take one unit; bad bytes are counted, never raised."""
        stream, before = self.decoder.config, self.decoder.newest_slot
        if self.decoder.config is not None and not self.costs.known:
            prime(self.costs, self.painter, self.clock, self._coded_size())
        with self.timer.stage("decode and advance"):
            self.decoder.push(unit, arrival_s)
        if self.first_arrival_s is None:
            self.first_arrival_s = arrival_s
        if self.decoder.config is not stream:  # who joins late does not show what was before
            first = max(0, self.decoder.newest_slot + 1)
            self.playout = replace(self.playout, fastest_s=None, next_slot=first)
            self.shown_slot = -1
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
        with self.timer.stage("base picture"):
            scene = self.decoder.compose(state, self.aside)
        level = self._level(began_s, deadline_s)
        with self.timer.stage(level):
            painted = self.painter.render(scene, _facts(state, scene), level, self._stopper(deadline_s))
        now_s = self.clock.now_s()
        self.costs.observe(level, now_s - began_s)
        self.timer.record("receiver total", (now_s - began_s) * 1e3)
        late = deadline_s is not None and now_s > deadline_s
        level = level if painted.steps_done or not level.startswith("bridge") else "base"
        return Shown(
            self._framed(painted.picture, slot, state),
            level,
            False,
            scene,
            painted.uncertainty,
            now_s - began_s,
            late,
        )

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

    def _level(self, now_s: float, deadline_s: float | None) -> str:
        levels = self._allowed()
        if self.settings.steps != "auto":
            return levels[-1]
        return plan(now_s, deadline_s, self.costs.costs_s(), levels)

    def _allowed(self) -> Sequence[str]:
        """Levels from the settings: those that gain something, or up to the number of steps asked for."""
        steps = self.settings.steps
        available = self.painter.levels
        if steps == "auto":
            return available[: available.index(_BEST) + 1] if _BEST in available else available
        wanted = "base" if steps == 0 else f"bridge{steps}"
        return available[: available.index(wanted) + 1]

    def _stopper(self, deadline_s: float | None) -> Callable[[], bool]:
        return lambda: deadline_s is not None and self.clock.now_s() > deadline_s

    def _concealed(self, slot: int, began_s: float) -> Shown:
        """Hold the last picture: nothing arrived for this frame."""
        picture, config = self.painter.held, self.decoder.config
        assert config is not None
        if picture is None:
            picture = _grey_scene(config.coded_height, config.coded_width).base
        spent_s = self.clock.now_s() - began_s
        return Shown(self._framed(picture, slot, None), "hold", True, None, None, spent_s, False)

    def _framed(self, picture: Picture, slot: int, state: SceneState | None) -> Frame:
        config = self.decoder.config
        assert config is not None
        own = state.pts if state is not None and state.slot == slot else None
        pts = config.pts_of(slot) if own is None else own
        even = config.width + config.width % 2, config.height + config.height % 2
        return Frame(crop(picture, *even), pts, config.time_base, slot, config.colour)


def prime(costs: CostModel, painter: Painter, clock: Clock, size: tuple[int, int]) -> None:
    """Learn what each level costs on this machine before the first picture: deadline control starts informed.

    size : (height, width) of the coded picture
    """
    scene = _grey_scene(*size, contrast=64)
    for level in painter.levels[:4]:  # more steps than one are scaled from one
        took_s = []
        for _ in range(_PRIMING_RUNS):
            began_s = clock.now_s()
            painter.render(scene, FrameFacts(), level, lambda: False)
            took_s.append(clock.now_s() - began_s)
        # The first runs load and allocate; one of those would rule a level out for seconds.
        costs.observe(level, float(np.median(took_s)) + _COMPOSE_S)
    painter.reset()


def _grey_scene(height: int, width: int, contrast: int = 0) -> Composition:
    """A scene without content, for warming up and for showing before anything has come.

    contrast : of its upper to its lower half; a flat picture would cost a decoder nothing
    """
    planes = [np.full((height // k, width // k), 128, np.uint8) for k in (1, 2, 2)]
    planes[0][: height // 2] += np.uint8(contrast)
    grey = Picture(planes[0], planes[1], planes[2])
    cells = [np.zeros((height // k, width // k), np.uint8) for k in (8, 16, 16)]
    return Composition(grey, None, grey, cells[0], cells[1], cells[2])


def _facts(state: SceneState, scene: Composition) -> FrameFacts:
    age_s = (state.slot - state.anchor.slot) / float(state.config.frame_rate) if state.anchor else 0.0
    noise = 0.0 if scene.noise is None else float(np.sqrt(np.mean(np.square(scene.noise))))
    return FrameFacts(state.slot, state.scale, 4 * state.quality, age_s, max(0.0, 1.0 - noise / DEAF))

"""The receiver's side of the closed loop: units in any order in, scene states in order out.

A FRAME is applied when its check matches the state held here, which proves that nothing before it is missing. Frames
that came too early wait in a bounded store; a key frame starts over. Whatever is damaged or too late is counted and
dropped; a stall that lasts asks for a refresh.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from concurrent.futures import Executor
from typing import TypeVar

import numpy as np

from common.codecs import Av1Decoder, GuideDecoder
from common.errors import BitstreamError, StateMismatchError
from common.residual import Residual, decode_residual
from common.state import (
    Anchor,
    Composition,
    SceneState,
    advance,
    compose,
    describe,
    follow,
    guide_size,
    initial_state,
    patched,
)
from common.types import Layer, Picture, UnitKind
from common.units import AnchorUnit, ConfigUnit, FrameUnit, ResidualUnit, StreamConfig
from common.wire import (
    builds_on,
    is_disposable,
    is_group,
    is_key,
    is_note,
    kind_of,
    layers_of,
    parse_unit,
    slot_near,
)
from receiver.scenes import newest_until

_MAX_WAITING = 96  # frames that wait for a predecessor: three seconds
_MAX_KEPT, _LEAST_KEPT = 96, 8  # states kept for display
_MAX_KEPT_BYTES = 1 << 28
"""Of their guides: a hundred bytes of AV1 can be a picture of 4096x4096 samples."""
_MAX_ANCHORS = 4
_POOR, _MUCH, _POOR_S = (
    64,
    0.6,
    1.5,
)  # reliability that hardly counts, in how much of the picture, for how long
_MAX_PATCHES = 2  # partial anchors that wait for their frame, and marked frames that wait for theirs

_Kept = TypeVar("_Kept", Anchor, AnchorUnit, SceneState)


def kept_states(config: StreamConfig, scale: int) -> int:
    """How many states with a guide at `scale` are kept for display."""
    width, height = guide_size(config, scale)
    return max(_LEAST_KEPT, min(_MAX_KEPT, _MAX_KEPT_BYTES // (width * height * 3 // 2)))


class SceneDecoder:
    """Turns units into `SceneState`s.

    state : after the newest frame that others build on, None before the first key frame
    counts : units applied and dropped, by kind and reason
    layers : bytes of the frames applied, by layer
    mismatches : intervals during which frames arrived that could not be applied
    """

    def __init__(self) -> None:
        self.config: StreamConfig | None = None
        self.state: SceneState | None = None
        self.counts: Counter[str] = Counter()
        self.layers: Counter[Layer] = Counter()
        self.mismatches: list[tuple[float, float]] = []
        self._stalled_s: float | None = None
        self._newest: tuple[int, float] = (-1, 0.0)
        self._poor_slot: int | None = None
        self._guide: tuple[int, GuideDecoder] | None = None
        self._still: Av1Decoder | None = None
        self._anchors: OrderedDict[int, Anchor] = OrderedDict()
        self._marked: OrderedDict[int, SceneState] = OrderedDict()
        self._patches: OrderedDict[int, AnchorUnit] = OrderedDict()
        self._waiting: dict[int, bytes] = {}
        self._residuals: OrderedDict[int, bytes] = OrderedDict()
        self._scenes: OrderedDict[int, SceneState] = OrderedDict()

    # --- in -------------------------------------------------------------------------------------------------------

    def push(self, data: bytes, now_s: float) -> None:
        """Take one unit as it arrived; never raises for bad bytes."""
        try:
            self._sort_in(data, now_s)
        except BitstreamError:
            self.counts["damaged"] += 1
        self._drain(now_s)

    def _sort_in(self, data: bytes, now_s: float) -> None:
        kind = kind_of(data)
        if kind is UnitKind.CONFIG:
            self._configure(parse_unit(data, 0, 0), now_s)
        elif self.config is None:
            self.counts["before configuration"] += 1
        elif kind is UnitKind.ANCHOR:
            self._take_anchor(parse_unit(data, 0, 0))
        elif is_group(data) or is_note(data):
            self.counts["not for this link"] += 1
        else:
            slot = slot_near(data, self._expected_slot(now_s))
            store = self._waiting if kind is UnitKind.FRAME else self._residuals
            if len(store) >= _MAX_WAITING:
                store.pop(min(store))
                self.counts["store full"] += 1
            store[slot] = data

    def _expected_slot(self, now_s: float) -> int:
        """Which frame is due by the clock: tells which of the numbers modulo 256 is meant, also after an outage."""
        slot, at_s = self._newest
        assert self.config is not None
        return slot + 1 + int(max(0.0, now_s - at_s) * self.config.frame_rate)

    def _configure(self, unit: object, now_s: float) -> None:
        assert isinstance(unit, ConfigUnit)
        if unit.config == self.config:
            self._newest = max(self._newest, (unit.slot - 1, now_s))
            return
        if self.config is not None:
            self.counts["new stream"] += 1
        self.config, self.state, self._guide, self._still = unit.config, None, None, None
        self._poor_slot = None
        self._newest = unit.slot - 1, now_s
        stores = self._anchors, self._waiting, self._residuals, self._scenes, self._marked, self._patches
        for store in stores:
            store.clear()

    def _take_anchor(self, unit: object) -> None:
        assert isinstance(unit, AnchorUnit) and self.config is not None
        if unit.region is not None:
            _remember(self._patches, unit.slot, unit, _MAX_PATCHES)
            self._place_patch(unit.slot)
            return
        if self._still is None:
            self._still = Av1Decoder(self.config.coded_width, self.config.coded_height)
        picture = self._still.decode(unit.data)
        self._hold(Anchor.of(unit.anchor_id, unit.slot, unit.quality, picture))

    def _place_patch(self, slot: int) -> None:
        """Complete a partial anchor, once it and the frame that it belongs to are there, in whatever order they came.

        What cannot be decoded, or belongs to another history of that frame, is counted, and not held.
        """
        if slot not in self._marked or slot not in self._patches:
            return
        try:
            self._hold(patched(self._marked[slot], self._patches.pop(slot), _still))
        except (BitstreamError, StateMismatchError):
            self.counts["damaged"] += 1
        else:
            self.counts["partial anchor"] += 1

    def _hold(self, anchor: Anchor) -> None:
        _remember(self._anchors, anchor.anchor_id, anchor, _MAX_ANCHORS)
        self.counts["anchor"] += 1

    # --- the loop -------------------------------------------------------------------------------------------------

    def _drain(self, now_s: float) -> None:
        """Apply every waiting frame whose turn has come, then note whether the rest is stuck."""
        applied_before = self.counts["frame"]
        while (ready := self._next_ready()) is not None:
            slot, base = ready
            try:
                self._apply(self._waiting.pop(slot), slot, base, now_s)
            except BitstreamError:
                self.counts["damaged"] += 1
                self.state = None  # the guide decoder has seen half a frame: only a key frame helps
        if self.state is not None:
            for slot in [s for s in self._waiting if s <= self.state.slot]:
                del self._waiting[slot]
                self.counts["late"] += 1
        self._note_stall(now_s, progress=self.counts["frame"] > applied_before)

    def _next_ready(self) -> tuple[int, SceneState] | None:
        if self.config is None:
            return None
        fresh = initial_state(self.config)
        for slot in sorted(self._waiting):
            data = self._waiting[slot]
            base = fresh if is_key(data) else self.state
            if base is None or (self.state is not None and slot <= self.state.slot):
                continue
            if builds_on(data, slot, base.digest) and self._anchor_is_here(data, slot, base):
                return slot, base
        return None

    def _anchor_is_here(self, data: bytes, slot: int, base: SceneState) -> bool:
        try:
            unit = parse_unit(data, slot, base.digest)
        except BitstreamError:
            return True  # `_apply` will count it
        return not isinstance(unit, FrameUnit) or unit.activate is None or unit.activate in self._anchors

    def _apply(self, data: bytes, slot: int, base: SceneState, now_s: float) -> None:
        unit = parse_unit(data, slot, base.digest)
        assert isinstance(unit, FrameUnit) and self.config is not None
        followed = follow(base, unit, self._guide_decoder(unit).decode)
        state = advance(followed, describe(unit, followed, self._anchors))
        if not is_disposable(data):
            self.state = state
        _remember(self._scenes, slot, state, kept_states(self.config, state.scale))
        self._newest = max(self._newest, (slot, now_s))  # only now is the number proven
        self.counts["frame"] += 1
        self.layers.update(dict(layers_of(unit, len(data))))
        if unit.mark is not None:
            _remember(self._marked, slot, state, _MAX_PATCHES)
            self._place_patch(slot)

    def _guide_decoder(self, unit: FrameUnit) -> GuideDecoder:
        assert self.config is not None
        if unit.key and (self._guide is None or self._guide[0] != unit.scale):
            if unit.scale not in self.config.scales:
                raise BitstreamError(f"guide scale {unit.scale} does not suit this picture size")
            size = guide_size(self.config, unit.scale)
            self._guide = unit.scale, GuideDecoder(self.config.guide_codec, *size)
        if self._guide is None:
            raise BitstreamError("a guide picture came before any key frame")
        return self._guide[1]

    def _note_stall(self, now_s: float, progress: bool) -> None:
        """A frame that waits while others are applied (its number was damaged) is no reason for a refresh."""
        if self._stalled_s is not None and (progress or not self._waiting):
            self.mismatches.append((self._stalled_s, now_s))
            self._stalled_s = None
        if self._waiting and self._stalled_s is None:
            self._stalled_s = now_s

    # --- out ------------------------------------------------------------------------------------------------------

    def stalled_for_s(self, now_s: float) -> float:
        """How long frames have been waiting for one that is missing; 0 when all is well."""
        return 0.0 if self._stalled_s is None else now_s - self._stalled_s

    @property
    def undecodable(self) -> int:
        """Frames that arrived but wait for one that is missing or damaged."""
        return len(self._waiting)

    @property
    def anchor_ids(self) -> tuple[int, ...]:
        """Complete anchors held."""
        return tuple(self._anchors)

    @property
    def newest_slot(self) -> int:
        """Newest frame number that a check has proven, -1 before any."""
        return self._newest[0]

    def scene_at(self, slot: int) -> SceneState | None:
        """The state of this very frame, None when it was lost, left out, or has not come yet."""
        return self._scenes.get(slot)

    def latest_before(self, slot: int) -> SceneState | None:
        """The newest state that is not younger than `slot`."""
        return newest_until(self._scenes, slot)

    def shown(self, slot: int) -> None:
        """Frames before this one will not be asked for any more; at full size one takes half a megabyte."""
        while self._scenes and (oldest := next(iter(self._scenes))) < slot:
            del self._scenes[oldest]

    def compose(self, scene: SceneState, aside: Executor | None = None) -> Composition:
        """The base picture of a scene, with the residual that came for it."""
        composition = compose(scene, self.residual_of(scene), aside)
        poor = composition.warped is not None and np.mean(composition.reliability < _POOR) > _MUCH
        if not poor:
            self._poor_slot = None
        elif self._poor_slot is None:
            self._poor_slot = scene.slot
        return composition

    @property
    def anchor_wanted(self) -> bool:
        """Whether the anchor in use has been of little use for a while, in the pictures composed."""
        if self.state is None or self._poor_slot is None or self.config is None:
            return False
        return self.state.slot - self._poor_slot >= _POOR_S * self.config.frame_rate

    def residual_of(self, scene: SceneState) -> Residual | None:
        """The residual received for a scene, None without one that fits it."""
        data = self._residuals.get(scene.slot)
        if data is None or not builds_on(data, scene.slot, scene.digest):
            return None
        try:
            unit = parse_unit(data, scene.slot, scene.digest)
            assert isinstance(unit, ResidualUnit)
            return decode_residual(unit.data, scene.config.coded_height, scene.config.coded_width)
        except BitstreamError:
            self.counts["damaged"] += 1
            return None


def _still(data: bytes, width: int, height: int) -> Picture:
    return Av1Decoder(width, height).decode(data)


def _remember(store: OrderedDict[int, _Kept], key: int, value: _Kept, most: int) -> None:
    """Put a value last, and let go of the first ones of too many."""
    store[key] = value
    store.move_to_end(key)
    while len(store) > most:
        store.popitem(last=False)

"""The sender, from a frame to units. Read this first; receiver/pipeline.py is its mirror.

    frame -> cut? -> plan (rate) -> guide -> follow -> motion, labels, anchor orders -> FRAME bytes
          -> parse own bytes -> describe -> advance -> residual -> units

The sender consumes its own bytes: its state advances from what it has written and parsed back, never from what it
meant to write. Everything that outlives a frame is in `SenderSession`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from common.av1_headers import shrink
from common.clock import Clock, SystemClock
from common.colour import pad_to
from common.config import Config
from common.ports import Analyzer
from common.residual import Residual, decode_residual
from common.state import Anchor, SceneState, advance, base_of, describe, follow, initial_state
from common.stats import StageTimer
from common.types import EncodedUnit, Feedback, Frame, Layer, Picture, UnitKind
from common.units import FrameUnit, ResidualUnit, StreamConfig
from common.wire import pack_config, pack_frame, pack_residual, parse_unit
from sender.anchoring import AnchorDesk
from sender.anchors import AnchorOrder
from sender.budget import SenderBudget, Stage
from sender.coded import CodedPicture
from sender.control import RateKeeper
from sender.cuts import CutState, detect_cut
from sender.rate import LINK, Pace, PicturePlan, RateTarget, Role, referred, told_quality
from sender.residual import choose_residual
from sender.sharpness import UNLIKE, graded, spared
from sender.side import SideInfo

_PROTECTED = 1.5  # a key frame with its repairs, on a link that may send it more slowly than others
_REPORTED_S = 0.2


@dataclass(frozen=True, slots=True)
class Step:
    """What one frame gave.

    units : to hand to the link, most urgent first
    state : what the receiver will know after them
    events : any of "cut", "key", "anchor", "anchor in use", "anchor dropped", "anchor given up", "skipped"
    residual : the correction of this frame's base picture, as the receiver will decode it
    """

    units: tuple[EncodedUnit, ...]
    state: SceneState
    events: tuple[str, ...] = ()
    residual: Residual | None = None


@dataclass(frozen=True, slots=True)
class Guide:
    """The guide's part of one frame, and the plan that it follows."""

    plan: PicturePlan
    role: Role
    coded: CodedPicture

    @property
    def key(self) -> bool:
        return self.role is Role.KEY

    @property
    def left_out(self) -> bool:
        """Whether the rate has no room for it, and nothing refers to it."""
        return self.coded.disposable and not self.plan.send


@dataclass(slots=True)
class SenderSession:
    """One stream. `step` takes frames in order; `on_feedback` takes the receiver's reports.

    pace : of a link or of a file
    frames : how many will come, None if unknown; near the end nothing is begun that would not pay
    budget : what to leave out when a frame comes late; None leaves nothing out, and the bytes depend on the input alone
    put_off : an anchor that was ordered waits for a frame that has time for it and is worth one
    """

    config: StreamConfig
    settings: Config
    analyzer: Analyzer
    target: RateTarget
    pace: Pace = LINK
    frames: int | None = None
    clock: Clock = field(default_factory=SystemClock)
    budget: SenderBudget | None = None
    timer: StageTimer = field(init=False)
    state: SceneState = field(init=False)
    keeper: RateKeeper = field(init=False)
    anchors: AnchorDesk = field(init=False)
    side: SideInfo = field(init=False)
    cuts: CutState = field(default_factory=CutState)
    order: AnchorOrder = field(default_factory=AnchorOrder)
    refresh_asked: bool = True  # a stream starts with a key frame
    key_due_slot: int = 0  # when the last key frame must have arrived: another would only delay it
    key_slot: int = -1
    config_slot: int = -1 << 20
    put_off: bool = False

    def __post_init__(self) -> None:
        self.timer = StageTimer(self.clock)
        self.state = initial_state(self.config)
        self.keeper = RateKeeper(self.config, self.settings, self.target, pace=self.pace)
        self.anchors = AnchorDesk(self.config, self.settings, self.target, self.frames)
        self.side = SideInfo(self.analyzer, self.target, self.settings.semantics)

    def probe(self, frames: Sequence[Frame]) -> None:
        """Choose scale and quantiser from the first frames, before the stream starts (optional)."""
        self.keeper.probe([self._coded(frame) for frame in frames])

    def step(self, frame: Frame) -> Step:
        """Encode one frame. Raises CodecError when a layer codec fails."""
        with self.timer.stage("sender total"), self._within_budget():
            source = self._coded(frame)
            cut, self.cuts = detect_cut(self.cuts, source)
            guide = self._guide(source, frame.slot, cut)
            if guide.left_out:
                self._account(guide, 0, 0)
                return Step((), self.state, ("skipped",))
            order = self._order_now(guide.role)
            unit, state = self._frame_unit(frame, source, guide, order)
            units = [*self._config_due(frame.slot), unit, *self._anchor(source, state, order)]
            residual = self._residual(source, state)
            units += [] if residual is None else [pack_residual(residual, state.digest)]
            guide_bytes = dict(unit.layer_bytes)[Layer.GUIDE]
            self._account(guide, guide_bytes, _bytes_now(units) - guide_bytes)
            events = _events(cut, guide.key, order, self.state, state)
            self._move_on(guide, guide_bytes, source, state)
            return Step(tuple(units), state, events, _decoded(residual, source))

    def on_feedback(self, report: Feedback) -> None:
        """Take note of what the receiver holds and lacks."""
        on_its_way = self.state.slot < self.key_due_slot and report.last_slot < self.key_slot
        self.refresh_asked = self.refresh_asked or (report.refresh and not on_its_way)
        self.anchors.on_feedback(report)

    def retarget(self, rate_bps: float) -> None:
        """Hold another rate from the next frame on."""
        self.target = replace(self.target, rate_bps=rate_bps)
        self.keeper.target = self.anchors.target = self.side.target = self.target

    def close(self) -> None:
        """End the layer codecs."""
        self.keeper.guide.close()

    # --- parts ----------------------------------------------------------------------------------------------------

    def _guide(self, source: Picture, slot: int, cut: bool) -> Guide:
        """Plan and encode the guide; a key picture makes the anchors of before useless."""
        left_s = self.anchors.left_s(slot)
        key = cut or self.refresh_asked or self.keeper.rescale_due(left_s)
        with self.timer.stage("guide"):
            plan = self.keeper.plan(source, key, left_s)
            role = self.keeper.guide.role
            coded = self.keeper.guide.encode(source, plan.quantiser, key)
        if coded.key:  # asked for, or the first of a new session where the encoder failed
            role = Role.KEY
            self.anchors.forget(slot, new_scene=cut or self.state.guide is None)
            self.order = AnchorOrder()
        return Guide(plan, role, coded)

    def _frame_unit(
        self, frame: Frame, source: Picture, guide: Guide, order: AnchorOrder
    ) -> tuple[EncodedUnit, SceneState]:
        """Write the frame's bytes, then advance from the bytes as the receiver will."""
        base = base_of(self.state, guide.key)
        ready = None if guide.coded.disposable else self.anchors.arrived()
        draft = self._draft(frame, guide, order, base, ready)
        with self.timer.stage("follow"):
            followed = follow(base, draft, self.keeper.guide.decode)
        draft = self._with_side_info(draft, source, followed, guide, order)
        if ready is not None:  # corrections were for the old anchor
            draft = replace(draft, motion=None)
            self.anchors.switched()
        unit = pack_frame(draft, base.digest)
        if order.give_up:
            unit = replace(unit, ends_anchors=True)
        parsed = parse_unit(unit.data, frame.slot, base.digest)
        assert isinstance(parsed, FrameUnit)
        return unit, advance(followed, describe(parsed, followed, {ready.anchor_id: ready} if ready else {}))

    def _draft(
        self, frame: Frame, guide: Guide, order: AnchorOrder, base: SceneState, ready: Anchor | None
    ) -> FrameUnit:
        """The guide and what is said of anchors. base : the state it builds on; ready : the anchor to switch to"""
        key, coded = guide.key, guide.coded
        data = coded.data if key else shrink(coded.data, base.headers, frame.slot)
        return FrameUnit(
            slot=frame.slot, key=key, disposable=coded.disposable, scale=self.keeper.guide.scale if key else 0,
            pts=frame.pts if frame.pts != self.config.pts_of(frame.slot) else None,
            mark=self.anchors.next_id if order.launch else None, activate=ready.anchor_id if ready else None,
            drop_anchor=order.drop and not ready, quality=self._quality(base, guide, len(data)),
            sharpness=base.sharpness, guide=data,
        )  # fmt: skip

    def _with_side_info(
        self, draft: FrameUnit, source: Picture, followed: SceneState, guide: Guide, order: AnchorOrder
    ) -> FrameUnit:
        """Add sharpness, motion corrections and labels where they are due and there is time for them."""
        due = guide.role is not Role.DISPOSABLE or self.cuts.change >= UNLIKE
        if guide.key or (due and self._affords("sharpness")):
            with self._optional("sharpness"):
                fit = graded if guide.role in {Role.KEY, Role.BASE} else spared
                draft = fit(draft, source, followed)
        anchored = self.anchors.source if followed.anchor is not None and not order.drop else None
        corrected = guide.role is Role.BASE and self.settings.motion.corrections
        if corrected and anchored is not None and self._affords("motion"):
            with self._optional("motion"):
                draft = replace(draft, motion=self.side.motion(source, anchored, followed))
        if not draft.disposable and (not self.side.labels_due(followed.slot) or self._affords("labels")):
            with self._optional("labels"):
                draft = replace(draft, labels=self.side.labels(source, followed))
        return draft

    def _anchor(self, source: Picture, state: SceneState, order: AnchorOrder) -> list[EncodedUnit]:
        """The anchor that is ordered, if one is."""
        units = []
        if order.launch:
            with self._optional("anchor"):
                units.append(self.anchors.launch(source, state, order.offer))
        self.anchors.see(source, state.slot)
        return units

    def _account(self, guide: Guide, guide_bytes: int, side_bytes: int) -> None:
        self.keeper.account(guide.role, guide.plan, guide_bytes, side_bytes, *self.anchors.take_payment())

    def _move_on(self, guide: Guide, guide_bytes: int, source: Picture, state: SceneState) -> None:
        """Make ready for the next frame."""
        if (
            guide.role is Role.MIDDLE and not self.put_off
        ):  # base pictures have the motion search to do already
            self.order = self._new_order(source, state)
        if not guide.coded.disposable:
            self.state = state
        if guide.key:
            self.refresh_asked, self.key_slot = False, state.slot
            self.key_due_slot = state.slot + self._slots_of(guide_bytes)

    def _still_good(self, order: AnchorOrder) -> AnchorOrder:
        """The order, unless the anchor that it gives up has arrived since."""
        if not order.give_up:
            return order
        if self.anchors.arrived() is not None:
            return replace(order, give_up=False)
        self.anchors.give_up()
        return order

    def _order_now(self, role: Role) -> AnchorOrder:
        """What to do about anchors in this very frame; a launch that does not fit into its time is put off, and so is one
        of a flash."""
        if role is Role.BASE:
            order = self._still_good(self.order)
            self.put_off = order.launch and (self.cuts.passing or not self._affords("anchor"))
            return AnchorOrder() if self.put_off else order
        self.put_off = self.put_off and role is not Role.KEY
        return AnchorOrder()

    def _new_order(self, source: Picture, state: SceneState) -> AnchorOrder:
        """What to do about anchors from the next base picture on."""
        if self.cuts.passing or not self._affords("anchor policy"):
            return AnchorOrder()
        with self._optional("anchor policy"):
            return self.anchors.order(source, state, self.keeper.overdrawn)

    def _residual(self, source: Picture, state: SceneState) -> ResidualUnit | None:
        if not self._affords("residual"):
            return None
        with self._optional("residual"):
            return choose_residual(source, state, self.keeper.rate, self.target, self.settings.residual)

    def _affords(self, stage: Stage) -> bool:
        return self.budget is None or self.budget.affords(stage, self.clock.now_s())

    @contextmanager
    def _optional(self, stage: Stage) -> Iterator[None]:
        """Time a stage that a late frame does without."""
        began_s = self.clock.now_s()
        with self.timer.stage(stage):
            yield
        if self.budget is not None:
            now_s = self.clock.now_s()
            self.budget.took(stage, now_s - began_s, now_s)

    @contextmanager
    def _within_budget(self) -> Iterator[None]:
        if self.budget is not None:
            self.budget.begin(self.clock.now_s())
        yield
        if self.budget is not None:
            self.budget.end(self.clock.now_s())

    def _slots_of(self, key_bytes: int) -> int:
        """Frames that pass while a key frame crosses the link, with what protects it, and its arrival is reported."""
        crossing_s = _PROTECTED * key_bytes * 8 / self.target.rate_bps + _REPORTED_S
        return round(crossing_s * self.target.frame_rate)

    def _quality(self, base: SceneState, guide: Guide, guide_bytes: int) -> int | None:
        """The guide's quantiser, with this very picture, told when it changed enough to matter to fusion and decoder."""
        now = told_quality(referred(self.keeper.rate, guide.role, guide.plan.quantiser, guide_bytes))
        return now if guide.key or abs(now - base.quality) >= 4 else None

    def _config_due(self, slot: int) -> list[EncodedUnit]:
        """The stream configuration, repeated for late joiners."""
        chosen = self.settings.sender.config_interval_s
        interval_s = self.pace.config_interval_s if chosen == "auto" else chosen
        if slot - self.config_slot < interval_s * self.target.frame_rate:
            return []
        self.config_slot = slot
        return [pack_config(self.config, slot)]

    def _coded(self, frame: Frame) -> Picture:
        return pad_to(frame.picture, self.config.coded_width, self.config.coded_height)


def _bytes_now(units: Sequence[EncodedUnit]) -> int:
    """Of all but anchors, which are paid for while they trickle."""
    return sum(len(unit.data) for unit in units if unit.kind is not UnitKind.ANCHOR)


def _decoded(residual: ResidualUnit | None, source: Picture) -> Residual | None:
    return None if residual is None else decode_residual(residual.data, source.height, source.width)


def _events(
    cut: bool, key: bool, order: AnchorOrder, before: SceneState, after: SceneState
) -> tuple[str, ...]:
    switched = after.anchor is not None and after.anchor is not before.anchor
    named = {
        "cut": cut, "key": key, "anchor": order.launch, "anchor dropped": order.drop, "anchor in use": switched,
        "anchor given up": order.give_up,
    }  # fmt: skip
    return tuple(name for name, happened in named.items() if happened)

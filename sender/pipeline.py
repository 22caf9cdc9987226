"""The sender, from a frame to units. Read this first; receiver/pipeline.py is its mirror.

    frame -> cut? -> plan (rate) -> guide -> follow -> motion, labels, anchor orders -> FRAME bytes
          -> parse own bytes -> describe -> advance -> residual -> units

The sender consumes its own bytes: its state advances from what it has written and parsed back, never from what it
meant to write. Everything that outlives a frame is in `SenderSession`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from common.codecs import Av1Decoder
from common.colour import pad_to
from common.config import Config
from common.ports import Analyzer
from common.residual import Residual, decode_residual
from common.semantics import encode_labels
from common.state import Anchor, SceneState, advance, base_of, describe, follow, initial_state
from common.types import EncodedUnit, Feedback, Frame, Picture
from common.wire import (
    AnchorUnit,
    FrameUnit,
    StreamConfig,
    pack_anchor,
    pack_config,
    pack_frame,
    pack_residual,
    parse_unit,
)
from sender.anchors import AnchorOrder, AnchorSettings, AnchorState, decide, encode_anchor
from sender.cuts import CutState, detect_cut
from sender.guide import GuideCoder, probe, still_size
from sender.rate import (
    CUT_KEY_S,
    RateState,
    RateTarget,
    Role,
    measured_complexity,
    plan,
    plan_key,
    rescaled,
    spent,
    wants_scale,
)
from sender.residual import choose_residual
from sender.svtav1 import CodedPicture
from sender.updates import FlowEstimator, choose_update


@dataclass(frozen=True, slots=True)
class Step:
    """What one frame gave.

    units : to hand to the link, most urgent first
    state : what the receiver will know after them
    residual : the correction of this frame's base picture, as the receiver will decode it
    events : any of "cut", "key", "anchor", "anchor in use", "anchor dropped", "skipped"
    """

    units: tuple[EncodedUnit, ...]
    state: SceneState
    events: tuple[str, ...] = ()
    residual: Residual | None = None


@dataclass(slots=True)
class InFlight:
    """An anchor on its way: bytes that rate control has yet to account for, and whether it has arrived."""

    anchor: Anchor
    source: Picture
    left_bytes: float
    arrived: bool = False


@dataclass(slots=True)
class SenderSession:
    """One stream. `step` takes frames in order; `on_feedback` takes the receiver's reports."""

    config: StreamConfig
    settings: Config
    analyzer: Analyzer
    target: RateTarget
    state: SceneState = field(init=False)
    guide: GuideCoder = field(init=False)
    rate: RateState = field(default_factory=RateState)
    cuts: CutState = field(default_factory=CutState)
    anchors: AnchorState = field(default_factory=AnchorState)
    flow: FlowEstimator = field(default_factory=FlowEstimator)
    flight: InFlight | None = None
    anchor_source: Picture | None = None
    next_anchor: int = 0
    refresh_asked: bool = True  # a stream starts with a key frame
    started: bool = False
    labelled_slot: int = -1 << 20
    config_slot: int = -1 << 20

    def __post_init__(self) -> None:
        self.state = initial_state(self.config)
        self.guide = GuideCoder(self.config, self._first_scale(), self.settings.guide.preset)

    def _first_scale(self) -> int:
        scale = self.settings.guide.scale
        return self.config.scales[-1] if scale == "auto" else min(int(scale), self.config.scales[-1])

    def probe(self, frames: Sequence[Frame]) -> None:
        """Choose scale and quantiser from the first frames, before the stream starts (optional)."""
        if self.settings.guide.scale == "auto" and len(frames) > 1:
            pictures = [self._coded(frame) for frame in frames]
            scale, self.rate = probe(pictures, self.config, self.target, self.settings.guide.preset)
            self._open_guide(scale)

    def step(self, frame: Frame) -> Step:
        """Encode one frame. Raises CodecError when a layer codec fails."""
        source = self._coded(frame)
        cut, self.cuts = detect_cut(self.cuts, source)
        key = cut or self.refresh_asked or self._rescale_due()
        quantiser, send = self._plan_key(source, cut) if key else self._plan(self.guide.role)
        role = Role.KEY if key else self.guide.role
        coded = self.guide.encode(source, quantiser, key)
        if not send:
            self._account(role, quantiser, 0, 0, frame.slot)
            return Step((), self.state, ("skipped",))
        order = self._anchor_order(source, role)
        unit, state = self._frame_unit(frame, source, coded, role, order)
        units = [*self._config_unit(frame.slot), unit, *self._launch(order, source, frame.slot, state)]
        residual = (
            choose_residual(source, state, self.rate, self.target) if self.settings.residual.enabled else None
        )
        if residual is not None:
            units.append(pack_residual(residual, state.digest))
        events = self._events(cut, key, order, state)
        if not coded.disposable:
            self.state = state
        side = sum(len(u.data) for u in units if u.kind.name != "ANCHOR") - len(coded.data)
        self._account(role, quantiser, len(coded.data), side, frame.slot)
        decoded = decode_residual(residual.data, source.height, source.width) if residual is not None else None
        return Step(tuple(units), state, events, decoded)

    def on_feedback(self, report: Feedback) -> None:
        """Take note of what the receiver holds and lacks."""
        self.refresh_asked = self.refresh_asked or (report.refresh and self.started)
        if self.flight is not None and self.flight.anchor.anchor_id in report.anchors:
            self.flight.arrived = True

    def close(self) -> None:
        self.guide.close()

    # --- rate -----------------------------------------------------------------------------------------------------

    def _plan(self, role: Role) -> tuple[int, bool]:
        chosen, self.rate = plan(self.rate, role, self.target)
        return chosen.quantiser, chosen.send

    def _plan_key(self, source: Picture, cut: bool) -> tuple[int, bool]:
        """Quantiser of a key picture, after any change of scale that is due."""
        scale = wants_scale(self.rate, self.guide.scale, self.config.scales)
        if self.settings.guide.scale == "auto" and scale != self.guide.scale:
            self.rate = rescaled(self.rate, self.guide.scale, scale)
            self._open_guide(scale)
        guess = 46
        size = still_size(source, self.guide.scale, guess, self.config.frame_rate, self.settings.guide.preset)
        complexity = (measured_complexity(size, guess), *self.rate.complexity[1:])
        self.rate = replace(self.rate, complexity=complexity)
        limit_s = CUT_KEY_S if self.started else self.settings.sender.start_key_s
        return plan_key(self.rate, self.target, limit_s), True

    def _rescale_due(self) -> bool:
        if self.settings.guide.scale != "auto" or self.rate.debt_bytes > 0.3 * self.target.rate_bps / 8:
            return False
        return wants_scale(self.rate, self.guide.scale, self.config.scales) != self.guide.scale

    def _account(self, role: Role, quantiser: int, guide_bytes: int, side_bytes: int, slot: int) -> None:
        anchor_bytes = 0.0
        if self.flight is not None and self.flight.left_bytes > 0:
            anchor_bytes = min(self.flight.left_bytes, self.rate.reserve * self.target.picture_bytes)
            self.flight.left_bytes -= anchor_bytes
        in_flight = self.flight is not None and self.flight.left_bytes > 0
        reserve = self.settings.anchor.max_share if in_flight else 0.0
        state = spent(self.rate, role, quantiser, guide_bytes, side_bytes, anchor_bytes, self.target)
        self.rate = replace(state, reserve=reserve)

    def _open_guide(self, scale: int) -> None:
        self.guide.close()
        self.guide = GuideCoder(self.config, scale, self.settings.guide.preset)

    # --- the FRAME unit -------------------------------------------------------------------------------------------

    def _frame_unit(
        self, frame: Frame, source: Picture, coded: CodedPicture, role: Role, order: AnchorOrder
    ) -> tuple[EncodedUnit, SceneState]:
        """Write the frame's bytes, then advance from the bytes as the receiver will."""
        key = role is Role.KEY
        base = base_of(self.state, key)
        ready = None if key or coded.disposable else self._arrived()
        draft = FrameUnit(
            slot=frame.slot, key=key, disposable=coded.disposable, scale=self.guide.scale if key else 0,
            pts=frame.pts if frame.pts != self.config.pts_of(frame.slot) else None,
            mark=self.next_anchor if order.launch else None, activate=ready.anchor_id if ready else None,
            drop_anchor=order.drop and not ready, quality=self._quality(base, key), guide=coded.data,
        )  # fmt: skip
        followed = follow(base, draft, self.guide.decode(coded.data))
        draft = replace(draft, motion=self._motion(source, followed, draft, role))
        draft = replace(draft, labels=self._labels(source, followed, frame.slot, coded.disposable))
        unit = pack_frame(draft, base.digest)
        parsed = parse_unit(unit.data, frame.slot, base.digest)
        assert isinstance(parsed, FrameUnit)
        anchors = {ready.anchor_id: ready} if ready else {}
        state = advance(followed, describe(parsed, followed, anchors))
        self._after_frame(key, ready)
        return unit, state

    def _arrived(self) -> Anchor | None:
        """The anchor that the receiver now holds and may switch to."""
        return self.flight.anchor if self.flight is not None and self.flight.arrived else None

    def _quality(self, base: SceneState, key: bool) -> int | None:
        now = round(self.rate.quantiser)
        return now if key or abs(now - base.quality) >= 4 else None

    def _motion(self, source: Picture, followed: SceneState, draft: FrameUnit, role: Role) -> bytes | None:
        if (
            followed.anchor is None
            or self.anchor_source is None
            or role is not Role.BASE
            or draft.activate is not None
        ):
            return None
        if draft.drop_anchor:
            return None
        candidate = self.flow.field(source.y, self.anchor_source.y, followed.field)
        return choose_update(source, followed, candidate, self._error_per_bit(source, followed))

    def _error_per_bit(self, source: Picture, followed: SceneState) -> float:
        """What a bit buys elsewhere: at these rates squared error falls as rate**-0.57 (measured on the ladder)."""
        assert followed.anchor is not None
        moved = followed.guide.y if followed.guide is not None else source.y
        small = source.y[:: followed.scale, :: followed.scale].astype(np.float32)
        error = float(np.mean((small - moved) ** 2)) * source.y.size
        return 0.57 * error / (8 * self.target.picture_bytes)

    def _labels(self, source: Picture, followed: SceneState, slot: int, disposable: bool) -> bytes | None:
        settings = self.settings.semantics
        due = slot - self.labelled_slot >= float(self.config.frame_rate) / settings.rate_hz
        if not settings.enabled or disposable or not due:
            return None
        self.labelled_slot = slot
        labels, carried = self.analyzer.label(source), followed.labels_now()
        if np.array_equal(labels, carried):
            return None
        return encode_labels(labels, carried, followed.label_tables)[0]

    def _after_frame(self, key: bool, ready: Anchor | None) -> None:
        self.started = True
        if key:
            self.refresh_asked, self.anchors, self.flight, self.anchor_source = (
                False,
                AnchorState(),
                None,
                None,
            )
        if ready is not None and self.flight is not None:
            self.anchor_source, self.flight = self.flight.source, None

    # --- anchors and configuration --------------------------------------------------------------------------------

    def _anchor_order(self, source: Picture, role: Role) -> AnchorOrder:
        """Once per group of pictures, judge on the state before this frame."""
        if role is not Role.BASE or self.state.guide is None:
            return AnchorOrder()
        previous = self.state
        order, self.anchors = decide(
            self.anchors,
            source,
            previous,
            self.flight is not None,
            self.config.frame_rate,
            self._anchor_settings(),
        )
        return order

    def _anchor_settings(self) -> AnchorSettings:
        given = self.settings.anchor
        return AnchorSettings(given.enabled, given.max_share, given.max_age_s, given.min_gain_db)

    def _launch(self, order: AnchorOrder, source: Picture, slot: int, state: SceneState) -> list[EncodedUnit]:
        if not order.launch:
            return []
        unit = self._encoded_anchor(source, slot)
        packed = pack_anchor(unit)
        picture = Av1Decoder(self.config.coded_width, self.config.coded_height).decode(unit.data)
        anchor = Anchor.of(unit.anchor_id, slot, unit.quality, picture)
        self.flight = InFlight(anchor, source, float(len(packed.data)))
        self.next_anchor = (self.next_anchor + 1) % 256
        self.rate = replace(self.rate, reserve=self.settings.anchor.max_share)
        return [packed]

    def _encoded_anchor(self, source: Picture, slot: int) -> AnchorUnit:
        budget = self._anchor_settings().size_s * self.target.rate_bps / 8
        return encode_anchor(
            source, slot, self.next_anchor, budget, self.config.frame_rate, self.settings.guide.preset
        )

    def _config_unit(self, slot: int) -> list[EncodedUnit]:
        interval = self.settings.sender.config_interval_s * float(self.config.frame_rate)
        if slot - self.config_slot < interval:
            return []
        self.config_slot = slot
        return [pack_config(self.config, slot)]

    def _events(
        self, cut: bool, key: bool, order: AnchorOrder, state: SceneState
    ) -> tuple[str, ...]:
        switched = state.anchor is not None and state.anchor is not self.state.anchor
        named = {
            "cut": cut,
            "key": key,
            "anchor": order.launch,
            "anchor dropped": order.drop,
            "anchor in use": switched,
        }
        return tuple(name for name, happened in named.items() if happened)

    def _coded(self, frame: Frame) -> Picture:
        return pad_to(frame.picture, self.config.coded_width, self.config.coded_height)

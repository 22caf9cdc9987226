"""Anchors at work: launches one when the policy says so, and switches to it once the receiver has it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from common.codecs import Av1Decoder
from common.config import Config
from common.state import Anchor, SceneState
from common.types import EncodedUnit, Feedback, Picture
from common.wire import AnchorUnit, StreamConfig, pack_anchor
from sender.anchors import SIZE_S, AnchorOrder, AnchorState, decide, encode_anchor
from sender.content import LookBack
from sender.rate import RateTarget


@dataclass(slots=True)
class InFlight:
    """An anchor on its way.

    source : the picture it was made from; left_bytes : not yet accounted for by rate control
    """

    anchor: Anchor
    source: Picture
    left_bytes: float
    arrived: bool = False


@dataclass(slots=True)
class AnchorDesk:
    """Owns the trial, the anchor on its way, and the source picture of the anchor in use.

    frames : of the whole stream, None if unknown
    past : what anchors are made from besides the present picture, None where that is not asked for
    """

    config: StreamConfig
    settings: Config
    target: RateTarget
    frames: int | None = None
    state: AnchorState = field(default_factory=AnchorState)
    flight: InFlight | None = None
    source: Picture | None = None
    next_id: int = 0
    scene_slot: int = 0
    past: LookBack | None = None

    def __post_init__(self) -> None:
        if self.settings.anchor.enabled and self.settings.anchor.content:
            self.past = LookBack.at(self.target.frame_rate)

    def see(self, source: Picture, slot: int) -> None:
        """A picture that a later anchor may look back on; call it after `launch` for the same one."""
        if self.past is not None:
            self.past.see(source, slot)

    def order(self, source: Picture, state: SceneState, overdrawn: bool) -> AnchorOrder:
        """What to do about anchors from the next base picture on; call it once per group, after a frame.

        source : the frame that `state` is at
        """
        busy = self.flight is not None or overdrawn
        order, self.state = decide(
            self.state, source, state, busy, self.config.frame_rate, self.settings.anchor,
            self._life_s(state.slot),
            lambda: self._decoded(self._encoded(source, state.slot)),
        )  # fmt: skip
        return order

    def _life_s(self, slot: int) -> float:
        """How long an anchor launched now can be expected to serve: as long as the scene has lasted, and not beyond the
        end of the stream."""
        scene_s = float((slot - self.scene_slot) / self.config.frame_rate)
        return min(scene_s, self.left_s(slot) - SIZE_S / self.settings.anchor.max_share)

    def left_s(self, slot: int) -> float:
        """Seconds from the frame at `slot` to the end of the stream, as far as is known."""
        return math.inf if self.frames is None else float((self.frames - slot) / self.config.frame_rate)

    def _encoded(self, source: Picture, slot: int) -> AnchorUnit:
        budget = SIZE_S * self.target.rate_bps / 8
        return encode_anchor(
            source, slot, self.next_id, budget, self.config.frame_rate, self.settings.guide.preset
        )

    def _decoded(self, unit: AnchorUnit) -> Picture:
        return Av1Decoder(self.config.coded_width, self.config.coded_height).decode(unit.data)

    def launch(self, source: Picture, slot: int) -> EncodedUnit:
        """Encode this picture as the next anchor and send it on its way."""
        source = source if self.past is None else self.past.content(source)
        unit = self._encoded(source, slot)
        packed = pack_anchor(unit)
        anchor = Anchor.of(unit.anchor_id, slot, unit.quality, self._decoded(unit))
        self.flight = InFlight(anchor, source, float(len(packed.data)))
        self.next_id = (self.next_id + 1) % 256
        return packed

    def on_feedback(self, report: Feedback) -> None:
        """Note whether the anchor on its way has arrived."""
        if self.flight is not None and self.flight.anchor.anchor_id in report.anchors:
            self.flight.arrived = True

    def arrived(self) -> Anchor | None:
        """The anchor that the receiver now holds and may switch to."""
        return self.flight.anchor if self.flight is not None and self.flight.arrived else None

    def switched(self) -> None:
        """The frame just sent made the receiver use the anchor that arrived."""
        if self.flight is not None:
            self.source, self.flight = self.flight.source, None

    def forget(self, slot: int) -> None:
        """A key frame forgets every anchor and starts a scene."""
        self.scene_slot = slot
        self.state, self.flight, self.source = AnchorState(), None, None
        if self.past is not None:
            self.past.forget()

    def take_payment(self) -> tuple[float, float]:
        """Anchor bytes that leave with this picture, and the share of the rate needed from now on."""
        if self.flight is None:
            return 0.0, 0.0
        share = self.settings.anchor.max_share
        paid = min(self.flight.left_bytes, share * self.target.picture_bytes)
        self.flight.left_bytes -= paid
        return paid, share if self.flight.left_bytes > 0 else 0.0

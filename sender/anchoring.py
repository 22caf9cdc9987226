"""Anchors at work: launches one when the policy says so, and switches to it once the receiver has it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from common.codecs import Av1Decoder
from common.config import Config
from common.state import Anchor, SceneState, patched
from common.types import EncodedUnit, Feedback, Picture
from common.units import AnchorUnit, StreamConfig
from common.wire import pack_anchor
from sender.anchors import (
    REST_S,
    SIZE_S,
    AnchorOrder,
    AnchorState,
    Offer,
    OnItsWay,
    Outlook,
    cropped,
    decide,
    encode_anchor,
)
from sender.content import LookBack
from sender.link import LinkState
from sender.rate import RateTarget


@dataclass(slots=True)
class InFlight:
    """An anchor on its way.

    source : the picture it was made from
    offer : why it was launched, with what it would gain now; None if it was ordered from outside
    left_bytes : not yet accounted for by rate control; paid_slot : the frame at which there were none left
    """

    anchor: Anchor
    source: Picture
    offer: Offer | None
    left_bytes: float
    paid_slot: int | None = None
    arrived: bool = False

    def at(self, slot: int, frame_rate: float) -> OnItsWay:
        """As the policy sees it at frame `slot`."""
        offer = None if self.offer is None else replace(self.offer, size_bytes=self.left_bytes)
        silent_s = 0.0 if self.paid_slot is None else (slot - self.paid_slot) / frame_rate
        return OnItsWay(offer, self.anchor.picture, silent_s)


@dataclass(slots=True)
class AnchorDesk:
    """Owns the trial, the anchor on its way, the source picture of the anchor in use, and what is known of the link.

    frames : of the whole stream, None if unknown
    past : what anchors are made from besides the present picture, None where that is not asked for
    scene_slot : where the scene began; slot : the frame sent last, -1 before any
    rest_slot : before this one nothing is launched
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
    slot: int = -1
    rest_slot: int = 0
    asked: bool = False
    past: LookBack | None = None
    link: LinkState = field(init=False)

    def __post_init__(self) -> None:
        self.link = LinkState.steady(self.target.rate_bps)
        if self.settings.anchor.enabled and self.settings.anchor.content:
            self.past = LookBack.at(self.target.frame_rate)

    def see(self, source: Picture, slot: int) -> None:
        """A frame is sent, which a later anchor may look back on; call it after `launch` for the same one."""
        elapsed_s = 0.0 if self.slot < 0 else (slot - self.slot) / self.target.frame_rate
        self.slot, self.link = slot, self.link.after(elapsed_s, self.target.rate_bps)
        if self.past is not None:
            self.past.see(source, slot)

    def order(self, source: Picture, state: SceneState, overdrawn: bool) -> AnchorOrder:
        """What to do about anchors from the next base picture on; call it once per group, after a frame.

        source : the frame that `state` is at
        """
        on_its_way = None if self.flight is None else self.flight.at(state.slot, self.target.frame_rate)
        order, self.state = decide(
            self.state, on_its_way, source, state, self._outlook(state.slot, overdrawn), self.config.frame_rate,
            self.settings.anchor, lambda: self._tried(source, state.slot),
        )  # fmt: skip
        if order.give_up or order.drop:
            self.rest_slot = state.slot + round(REST_S * self.target.frame_rate)
        if self.flight is not None and self.flight.offer is not None and order.gain_db is not None:
            self.flight.offer = replace(self.flight.offer, gain_db=order.gain_db)
        return order

    def _outlook(self, slot: int, overdrawn: bool) -> Outlook:
        link = self.link if self.settings.anchor.by_link else LinkState.steady(self.target.rate_bps)
        scene_s = float((slot - self.scene_slot) / self.config.frame_rate)
        left_s = self.left_s(slot)
        return Outlook(
            link=link,
            scene_s=scene_s,
            left_s=left_s,
            overdrawn=overdrawn,
            resting=slot < self.rest_slot,
            asked=self.asked,
        )

    def left_s(self, slot: int) -> float:
        """Seconds from the frame at `slot` to the end of the stream, as far as is known."""
        return math.inf if self.frames is None else float((self.frames - slot) / self.config.frame_rate)

    def _encoded(self, source: Picture, slot: int, budget_bytes: float) -> AnchorUnit:
        rate, preset = self.config.frame_rate, self.settings.guide.preset
        return encode_anchor(source, slot, self.next_id, budget_bytes, rate, preset)

    @property
    def _budget_bytes(self) -> float:
        """Of a whole anchor."""
        return SIZE_S * self.target.rate_bps / 8

    def _tried(self, source: Picture, slot: int) -> tuple[Picture, int]:
        """A whole anchor as a receiver would see it, and its bytes."""
        unit = self._encoded(source, slot, self._budget_bytes)
        return self._decoded(unit.data, source.width, source.height), len(unit.data)

    @staticmethod
    def _decoded(data: bytes, width: int, height: int) -> Picture:
        return Av1Decoder(width, height).decode(data)

    def launch(self, source: Picture, state: SceneState, offer: Offer | None = None) -> EncodedUnit:
        """Encode this picture, or the region that is offered, as the next anchor and send it on its way.

        state : after the frame, whose order was to mark it
        """
        source = source if self.past is None else self.past.content(source)
        if offer is None or offer.region is None:
            unit = self._encoded(source, state.slot, self._budget_bytes)
            picture = self._decoded(unit.data, source.width, source.height)
            anchor = Anchor.of(unit.anchor_id, state.slot, unit.quality, picture)
        else:
            unit = self._encoded(cropped(source, offer.region), state.slot, offer.size_bytes)
            unit = replace(unit, region=offer.region, base_digest=state.digest)
            anchor = patched(state, unit, self._decoded)
        packed = pack_anchor(unit)
        self.flight = InFlight(anchor, source, offer, float(len(packed.data)))
        self.next_id = (self.next_id + 1) % 256
        return packed

    def give_up(self) -> None:
        """The anchor on its way is of no use any more."""
        self.flight = None

    def on_feedback(self, report: Feedback) -> None:
        """Note whether the anchor on its way has arrived, and how the link is."""
        self.asked = report.anchor_wanted
        self.link = self.link.reported(report, self.slot, self.target.frame_rate)
        if self.flight is not None and self.flight.anchor.anchor_id in report.anchors:
            self.flight.arrived = True

    def arrived(self) -> Anchor | None:
        """The anchor that the receiver now holds and may switch to."""
        return self.flight.anchor if self.flight is not None and self.flight.arrived else None

    def switched(self) -> None:
        """The frame just sent made the receiver use the anchor that arrived."""
        if self.flight is not None:
            self.source, self.flight = self.flight.source, None
            self.state = AnchorState()

    def forget(self, slot: int, new_scene: bool = True) -> None:
        """A key frame forgets every anchor. new_scene : it begins a scene, rather than to repair or rescale one"""
        if new_scene:
            self.scene_slot = slot
        self.state, self.flight, self.source, self.rest_slot = AnchorState(), None, None, slot
        if self.past is not None:
            self.past.forget()

    def take_payment(self) -> tuple[float, float]:
        """Anchor bytes that leave with this picture, and the share of the rate needed from now on."""
        if self.flight is None:
            return 0.0, 0.0
        share = self.settings.anchor.max_share
        paid = min(self.flight.left_bytes, share * self.target.picture_bytes)
        self.flight.left_bytes -= paid
        if self.flight.left_bytes > 0:
            return paid, share
        if self.flight.paid_slot is None:
            self.flight.paid_slot = self.slot
        return paid, 0.0

"""The built-in clip, small, through the real sender: what tests of both ends feed on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

from common.colour import resize
from common.config import load_config
from common.types import EncodedUnit, Feedback, Frame, Picture, UnitKind
from common.units import AnchorUnit, Region, StreamConfig
from common.wire import parse_unit
from sender.anchors import AnchorOrder, Offer
from sender.clip import COLOUR, FRAME_RATE, BuiltinClip
from sender.pipeline import SenderSession, Step
from sender.rate import RateTarget, Role

SIDE = 128
STREAM = StreamConfig(
    session=7, width=SIDE, height=SIDE, frame_rate=FRAME_RATE, time_base=1 / FRAME_RATE, colour=COLOUR
)


class BrightAnalyzer:
    """An analyzer without a network: bright cells are a person. Deterministic, and it moves with the picture."""

    def label(self, picture: Picture) -> NDArray[np.uint8]:
        rows, cols = picture.height // 16, picture.width // 16
        mean = picture.y.reshape(rows, 16, cols, 16).mean(axis=(1, 3))
        return np.where(mean > 140, 15, 0).astype(np.uint8)


@cache
def _clip() -> BuiltinClip:
    return BuiltinClip()


@cache
def frame(slot: int, side: int = SIDE) -> Frame:
    """One frame of the built-in clip, scaled down."""
    return Frame(resize(_clip().picture(slot), side, side), slot, Fraction(1, 25), slot, COLOUR)


def open_session(rate_bps: float = 60_000, stream: StreamConfig = STREAM, *overrides: str) -> SenderSession:
    """A sender at guide scale 2, the only one here that leaves anchors something to add."""
    settings = load_config(None, ["guide.scale=2", *overrides])
    return SenderSession(stream, settings, BrightAnalyzer(), RateTarget(rate_bps, float(stream.frame_rate)))


def anchor_ids(units: Sequence[EncodedUnit]) -> tuple[int, ...]:
    """What a receiver that has all `units` reports about anchors."""
    parsed = [parse_unit(unit.data, 0, 0) for unit in units if unit.kind is UnitKind.ANCHOR]
    return tuple(unit.anchor_id for unit in parsed if isinstance(unit, AnchorUnit))


@dataclass(frozen=True)
class Recording:
    """frames[k] went in, steps[k] came out."""

    frames: tuple[Frame, ...]
    steps: tuple[Step, ...]

    @property
    def units(self) -> list[EncodedUnit]:
        return [unit for step in self.steps for unit in step.units]

    def digest_of(self, slot: int) -> int:
        return next(s.state.digest for f, s in zip(self.frames, self.steps, strict=True) if f.slot == slot)


def order_anchor(session: SenderSession, region: Region | None = None) -> None:
    """Launch an anchor with the coming frame, which must be a base picture, whatever the policy thinks of it."""
    assert session.keeper.guide.role is Role.BASE
    offer = None if region is None else Offer(gain_db=math.inf, size_bytes=1000, share=0.3, region=region)
    session.order = AnchorOrder(launch=True, offer=offer)


def record(
    slots: Sequence[int],
    session: SenderSession,
    refresh_at: Sequence[int] = (),
    launch_at: Sequence[int] | Mapping[int, Region | None] = (),
) -> Recording:
    """Send frames over a perfect link, with refreshes asked and anchors launched at given slots.

    launch_at : with the region of each, if it is a partial one
    Anchors arrive three frames late.
    """
    frames, steps, arrivals = [], [], {}
    for slot in slots:
        if slot in refresh_at:
            session.on_feedback(Feedback(0, refresh=True))
        if slot in launch_at:
            order_anchor(session, launch_at[slot] if isinstance(launch_at, Mapping) else None)
        if slot in arrivals:
            session.on_feedback(Feedback(0, anchors=arrivals[slot]))
        frames.append(frame(slot, session.config.width))
        steps.append(session.step(frames[-1]))
        if ids := anchor_ids(steps[-1].units):
            arrivals[slot + 3] = ids
    session.close()
    return Recording(tuple(frames), tuple(steps))

"""The receiver's side of an analog link: symbols and a few units in, scene states out.

    symbols, noise variances --hear--\\
    GROUP --push-----------------------> guide pictures, variance of every sample -> SceneState by slot
    ANCHOR --push--> followed through the guides since the frame that it shows -> anchor and track in the state

A group stands for itself: one that is lost is missing, and nothing after it. There is nothing to wait or to ask for.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common import motion
from common.codecs import Av1Decoder
from common.errors import BitstreamError
from common.fusion import downsample_plane
from common.softcast import Symbols, decode_group
from common.softcast_metadata import parse_metadata
from common.state import Anchor, Composition, SceneState, Track, guide_size, initial_state
from common.types import Picture, UnitKind
from common.units import AnchorUnit, ConfigUnit, GroupUnit, StreamConfig
from common.wire import is_group, kind_of, parse_unit, slot_near
from receiver.noisy import compose_noisy
from receiver.scenes import newest_until

_MAX_KEPT = 128
"""Frames kept for display, and to follow an anchor through that was seconds on its way."""
_MAX_QUANTISER = 63
_STEPS = 2  # Gauss-Newton steps of the motion search
_QUALITY_PER_STEP = 5
"""Quantiser that the network is told for every sample step of expected error: a guide with little left of it is like one
coded coarsely. At 3 dB up to 0.25 dB and 0.015 of MS-SSIM better than none, at 20 dB alike (two clips)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Heard:
    """Symbols of one transmission and the noise variance of each."""

    symbols: Symbols
    noise: NDArray[np.float64]


class AnalogDecoder:
    """Turns what an analog link delivers into `SceneState`s; a `receiver.scenes.Scenes`.

    state : of the newest frame, None before the first group
    counts : units taken and dropped, by kind and reason
    """

    def __init__(self) -> None:
        self.config: StreamConfig | None = None
        self.state: SceneState | None = None
        self.counts: Counter[str] = Counter()
        self.mismatches: list[tuple[float, float]] = []  # a loop that is not closed cannot come apart
        self._heard: _Heard | None = None
        self._newest: tuple[int, float] = (-1, 0.0)
        self._scene_slot = 0
        self._scenes: OrderedDict[int, SceneState] = OrderedDict()
        self._variances: dict[int, NDArray[np.float32]] = {}

    # --- in -------------------------------------------------------------------------------------------------------

    def hear(self, symbols: Symbols, noise: NDArray[np.float64]) -> None:
        """The analog part of a transmission; the GROUP of the same one comes next."""
        self._heard = _Heard(symbols, noise)

    def push(self, data: bytes, now_s: float) -> None:
        """Take one unit as it arrived; never raises for bad bytes."""
        try:
            self._sort_in(data, now_s)
        except BitstreamError:
            self.counts["damaged"] += 1

    def _sort_in(self, data: bytes, now_s: float) -> None:
        kind = kind_of(data)
        if kind is UnitKind.CONFIG:
            self._configure(parse_unit(data, 0, 0), now_s)
        elif self.config is None:
            self.counts["before configuration"] += 1
        elif kind is UnitKind.ANCHOR:
            self._take_anchor(parse_unit(data, 0, 0))
        elif is_group(data):
            self._take_group(parse_unit(data, slot_near(data, self._expected_slot(now_s)), 0), now_s)
        else:
            self.counts["not for an analog link"] += 1

    def _configure(self, unit: object, now_s: float) -> None:
        assert isinstance(unit, ConfigUnit)
        if unit.config != self.config:
            self.config, self.state = unit.config, None
            self._scenes.clear()
            self._variances.clear()
            self._newest = unit.slot - 1, now_s
        self._newest = max(self._newest, (unit.slot - 1, now_s))

    def _expected_slot(self, now_s: float) -> int:
        """Which frame a group would begin with by the clock: tells which of the numbers modulo 256 is meant."""
        slot, at_s = self._newest
        assert self.config is not None
        return slot + 1 + int(max(0.0, now_s - at_s) * self.config.frame_rate)

    def _take_group(self, unit: object, now_s: float) -> None:
        assert isinstance(unit, GroupUnit) and self.config is not None
        heard, self._heard = self._heard, None
        if heard is None:
            raise BitstreamError(f"the symbols of the group at frame {unit.slot} did not come")
        shape = parse_metadata(unit.metadata).shape  # before anything is as large as it says
        if (shape.width, shape.height) != guide_size(self.config, unit.scale):
            raise BitstreamError(f"the group at frame {unit.slot} has pictures of another size")
        if unit.pts and len(unit.pts) != shape.pictures:
            raise BitstreamError(f"the group at frame {unit.slot} has times for another number of pictures")
        group = decode_group(heard.symbols, heard.noise, unit.metadata)
        if unit.scene:
            self._scene_slot = unit.slot
        for index, picture in enumerate(group.pictures):
            pts = unit.pts[index] if unit.pts else None
            variance = group.variance[0][index].astype(np.float32)
            self._advance(unit, unit.slot + index, pts, picture, variance)
        self._newest = max(self._newest, (unit.slot + len(group.pictures) - 1, now_s))
        self.counts["group"] += 1

    def _advance(
        self, unit: GroupUnit, slot: int, pts: int | None, guide: Picture, variance: NDArray[np.float32]
    ) -> None:
        """The state of one frame more."""
        assert self.config is not None
        known = self.state is not None and self.state.scale == unit.scale and slot > self._scene_slot
        before = self.state if known and self.state is not None else initial_state(self.config)
        quality = min(_MAX_QUANTISER, round(_QUALITY_PER_STEP * float(np.sqrt(variance.mean()))))
        state = replace(
            before, slot=slot, pts=pts, scale=unit.scale, quality=quality, guide=guide, guide_slot=slot
        )
        if state.track is not None:
            state = replace(state, track=_followed(state.track, guide, unit.scale, slot))
        self.state = self._scenes[slot] = state
        self._variances[slot] = variance
        while len(self._scenes) > _MAX_KEPT:
            oldest, _ = self._scenes.popitem(last=False)
            self._variances.pop(oldest, None)

    def _take_anchor(self, unit: object) -> None:
        """Follow an anchor from the frame that it shows up to now; of use from the next group on."""
        assert isinstance(unit, AnchorUnit) and self.config is not None
        start, now = self._scenes.get(unit.slot), self.state
        if (  # a region would need a state of both ends, which an analog link does not have
            start is None or now is None or start.scale != now.scale
            or unit.slot < self._scene_slot or unit.region is not None
        ):  # fmt: skip
            self.counts["anchor of no use"] += 1
            return
        picture = Av1Decoder(self.config.coded_width, self.config.coded_height).decode(unit.data)
        anchor = Anchor.of(unit.anchor_id, unit.slot, unit.quality, picture)
        field = motion.zero_field(self.config.coded_height, self.config.coded_width)
        track = Track(downsample_plane(picture.y, now.scale), field)
        for slot, state in self._scenes.items():
            if slot >= unit.slot and state.guide is not None:
                track = _followed(track, state.guide, state.scale, slot)
        self.state = replace(now, anchor=anchor, track=track)
        self.counts["anchor"] += 1

    # --- out ------------------------------------------------------------------------------------------------------

    def compose(self, scene: SceneState, aside: Executor | None = None) -> Composition:
        """The base picture of a scene, guide and anchor weighted by their precision."""
        return compose_noisy(scene, self._variances[scene.slot], aside)

    def stalled_for_s(self, now_s: float) -> float:
        """Nothing ever waits for what is missing."""
        return 0.0

    @property
    def undecodable(self) -> int:
        """Frames that wait for one that is missing: none ever does."""
        return 0

    @property
    def anchor_wanted(self) -> bool:
        """An analog link has no way back."""
        return False

    @property
    def anchor_ids(self) -> tuple[int, ...]:
        """The anchor in use."""
        anchor = self.state.anchor if self.state is not None else None
        return () if anchor is None else (anchor.anchor_id,)

    @property
    def newest_slot(self) -> int:
        """Newest frame received, -1 before any."""
        return self._newest[0]

    def scene_at(self, slot: int) -> SceneState | None:
        """The state of this very frame, None when its group was lost or has not come yet."""
        return self._scenes.get(slot)

    def latest_before(self, slot: int) -> SceneState | None:
        """The newest state that is not younger than `slot`."""
        return newest_until(self._scenes, slot)

    def shown(self, slot: int) -> None:
        """Nothing goes: an anchor that arrives is followed through all frames since its own."""


def _followed(track: Track, guide: Picture, scale: int, slot: int) -> Track:
    return Track(track.reference, motion.refine(track.reference, guide.y, track.field, scale, slot, _STEPS))

"""Looks at the first pictures of a stream, before it starts, to find the guide scale and quantiser to begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.av1_headers import begin, expand, shrink
from common.fusion import upsample_plane
from common.quality import psnr_plane
from common.types import Picture
from common.units import StreamConfig
from sender.coded import MAX_QP, Speed
from sender.guide import GuideCoder
from sender.rate import (
    OFFSET,
    ROLES,
    RateState,
    RateTarget,
    Role,
    expected_bytes,
    measured_complexity,
    plan_key,
    settled,
)

_PROBE_Q = 58
_OVERHEAD_BYTES = 8  # of a frame
_TRIAL_KEY_S = (
    0.3  # a better key picture would hide for the length of a trial how little the rate can do after it
)
_REACH, _TIMES = 10, 3
"""So many quantiser steps away from where it was measured, what pictures cost is known; and how often to look again."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The first pictures of a stream (at the coded size), and what it is to be."""

    pictures: Sequence[Picture]
    config: StreamConfig
    target: RateTarget
    speed: Speed

    def choose(self) -> tuple[int, RateState]:
        """The guide scale that shows most of the pictures at this rate, and a controller that knows the content.

        That is the finest scale that the rate can feed, or the next coarser: both are tried as the stream would begin.
        """
        tried: list[tuple[float, int, RateState]] = []
        for scale in self.config.scales:
            state = self._measured(scale, _PROBE_Q)
            if self._feeds(state) or scale == self.config.scales[-1]:
                state = self._closer(scale, settled(state, self.target))
                tried.append((self._shown(scale, state), scale, state))
            if len(tried) == 2:
                break
        _, scale, state = max(tried, key=lambda trial: trial[0])
        return scale, state

    def _feeds(self, state: RateState) -> bool:
        """Whether the rate can feed a scale measured at the coarse quantiser of the probe; a key picture is counted as
        if spread over 8 s."""
        sizes = (
            expected_bytes(state.complexity[role], min(MAX_QP, _PROBE_Q + OFFSET[role])) for role in ROLES
        )
        key = expected_bytes(state.complexity[Role.KEY], _PROBE_Q + OFFSET[Role.KEY])
        inter = sum(sizes) / 4 + _OVERHEAD_BYTES
        return inter + key / (8 * self.target.frame_rate) <= self.target.picture_bytes

    def _closer(self, scale: int, state: RateState) -> RateState:
        """Measured again nearer to where the stream will begin: what changes between pictures is lost in the dead zone
        of a coarse quantiser, so that a guess from far away makes the first key picture much too good."""
        measured_at = _PROBE_Q
        for _ in range(_TIMES):
            if abs(state.quantiser - measured_at) <= _REACH:
                break
            measured_at = round((state.quantiser + measured_at) / 2)
            state = settled(self._measured(scale, measured_at), self.target)
        return state

    def _measured(self, scale: int, middle: int) -> RateState:
        """What the pictures cost around the middle quantiser given."""
        coder = GuideCoder(self.config, scale, self.speed)
        seen: dict[Role, list[float]] = {role: [] for role in Role}
        headers = None
        try:
            for index, picture in enumerate(self.pictures):
                role = Role.KEY if index == 0 else coder.role
                quantiser = max(1, min(MAX_QP, middle + OFFSET[role]))
                coded = coder.encode(picture, quantiser, key=index == 0)
                data = coded.data if index == 0 else shrink(coded.data, headers, index)
                if not coded.disposable:
                    headers = begin(data, index) if index == 0 else expand(data, headers, index)[1]
                seen[role].append(measured_complexity(len(data), quantiser))
        finally:
            coder.close()
        default = RateState().complexity
        means = [sum(v) / len(v) if v else default[role] for role, v in seen.items()]
        return RateState(quantiser=float(middle), complexity=(means[0], means[1], means[2], means[3]))

    def _shown(self, scale: int, state: RateState) -> float:
        """PSNR of the luma of the last group of pictures if the stream begins at this scale, dB."""
        coder = GuideCoder(self.config, scale, self.speed)
        key_quantiser = plan_key(state, self.target, _TRIAL_KEY_S)
        last: list[float] = []
        try:
            for index, picture in enumerate(self.pictures):
                quantiser = key_quantiser if index == 0 else round(state.quantiser) + OFFSET[coder.role]
                coded = coder.encode(picture, max(1, min(MAX_QP, quantiser)), key=index == 0)
                shown = coder.decode(coded.data)
                if index >= len(self.pictures) - 4:
                    last.append(psnr_plane(upsample_plane(shown.y, scale), picture.y))
        finally:
            coder.close()
        return sum(last) / len(last)

"""The guide layer: the whole picture, small, every frame; a video codec in low-delay mode at scale 1, 1/2, 1/4 or 1/8.

AV1 unless the settings say VP9 or H.264. The encoders share one interface and one quantiser scale (sender/coded.py),
so that rate control need not know which is at work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from common.av1_headers import begin, expand, shrink
from common.codecs import GuideDecoder
from common.fusion import downsample
from common.state import guide_size
from common.types import GuideCodec, Picture
from common.wire import StreamConfig
from sender.coded import MAX_QP, CodedPicture, GuideEncoder, Speed, preset_for
from sender.libvpx import Vp9Encoder
from sender.rate import (
    OFFSET,
    ROLES,
    RateState,
    RateTarget,
    Role,
    expected_bytes,
    measured_complexity,
    settled,
)
from sender.svtav1 import SvtAv1Encoder
from sender.x264 import X264Encoder

ENCODERS: dict[GuideCodec, Callable[[int, int, Fraction, int], GuideEncoder]] = {
    "av1": SvtAv1Encoder,
    "vp9": Vp9Encoder,
    "h264": X264Encoder,
}
"""Open an encoder for width, height, frame rate and speed preset."""

_PROBE_Q = 58
_OVERHEAD_BYTES = 8  # of a frame
_PROBE_REACH, _PROBE_TIMES = 10, 3
"""So many quantiser steps away from where it was measured, what pictures cost is known; and how often to look again."""


class GuideCoder:
    """Encoder and decoder of the guide at one scale; a new scale is a new session."""

    def __init__(self, config: StreamConfig, scale: int, speed: Speed) -> None:
        width, height = guide_size(config, scale)
        self.scale = scale
        preset = preset_for(speed, width, height)
        self._encoder = ENCODERS[config.guide_codec](width, height, config.frame_rate, preset)
        self._decoder = GuideDecoder(config.guide_codec, width, height)

    @property
    def role(self) -> Role:
        """Role of the next picture, unless it is made a key picture."""
        return ROLES[self._encoder.position]

    def encode(self, picture: Picture, quantiser: int, key: bool) -> CodedPicture:
        """picture : at the coded size"""
        return self._encoder.encode(downsample(picture, self.scale), quantiser, key)

    def decode(self, data: bytes) -> Picture:
        """What the receiver will see of it."""
        return self._decoder.decode(data)

    def close(self) -> None:
        self._encoder.close()


def still_size(picture: Picture, config: StreamConfig, scale: int, quantiser: int, speed: Speed) -> int:
    """Bytes of `picture` as a key picture at `scale`: one trial in a session of its own (2-8 ms at 512x512)."""
    coder = GuideCoder(config, scale, speed)
    try:
        return len(coder.encode(picture, quantiser, key=True).data)
    finally:
        coder.close()


def probe(
    pictures: Sequence[Picture], config: StreamConfig, target: RateTarget, speed: Speed
) -> tuple[int, RateState]:
    """Look at the first pictures of a stream to find the finest guide scale that the rate can feed.

    Each scale is tried, finest first, at a coarse quantiser; a key picture is counted as if spread over 8 s.
    Returns the scale and a rate controller that already knows the content.
    """
    state = RateState()
    for scale in config.scales:
        state = _measure(pictures, config, scale, speed, _PROBE_Q)
        inter = (
            sum(
                expected_bytes(state.complexity[role], min(MAX_QP, _PROBE_Q + OFFSET[role])) + _OVERHEAD_BYTES
                for role in ROLES
            )
            / 4
        )
        key = 2 ** (state.complexity[Role.KEY] - (_PROBE_Q + OFFSET[Role.KEY]) / 8.5)
        if inter + key / (8 * target.frame_rate) <= target.picture_bytes:
            return scale, _closer(settled(state, target), pictures, config, target, scale, speed)
    return config.scales[-1], settled(state, target)


def _closer(
    state: RateState,
    pictures: Sequence[Picture],
    config: StreamConfig,
    target: RateTarget,
    scale: int,
    speed: Speed,
) -> RateState:
    """Measured again nearer to where the stream will begin: what changes between pictures is lost in the dead zone of a
    coarse quantiser, so that a guess from far away makes the first key picture much too good."""
    measured_at = _PROBE_Q
    for _ in range(_PROBE_TIMES):
        if abs(state.quantiser - measured_at) <= _PROBE_REACH:
            break
        measured_at = round((state.quantiser + measured_at) / 2)
        state = settled(_measure(pictures, config, scale, speed, measured_at), target)
    return state


def _measure(
    pictures: Sequence[Picture], config: StreamConfig, scale: int, speed: Speed, middle: int
) -> RateState:
    """What the pictures cost around the middle quantiser given."""
    coder = GuideCoder(config, scale, speed)
    seen: dict[Role, list[float]] = {role: [] for role in Role}
    headers = None
    try:
        for index, picture in enumerate(pictures):
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

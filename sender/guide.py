"""The guide layer: the whole picture, small, every frame; a video codec in low-delay mode at scale 1, 1/2, 1/4 or 1/8.

AV1 unless the settings say VP9 or H.264. The encoders share one interface and one quantiser scale (sender/coded.py),
so that rate control need not know which is at work.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from common.codecs import GuideDecoder
from common.fusion import downsample
from common.state import guide_size
from common.types import GuideCodec, Picture
from common.units import StreamConfig
from sender.coded import CodedPicture, GuideEncoder, Speed, preset_for
from sender.libvpx import Vp9Encoder
from sender.rate import ROLES, Role
from sender.svtav1 import SvtAv1Encoder
from sender.x264 import X264Encoder

ENCODERS: dict[GuideCodec, Callable[[int, int, Fraction, int], GuideEncoder]] = {
    "av1": SvtAv1Encoder,
    "vp9": Vp9Encoder,
    "h264": X264Encoder,
}
"""Open an encoder for width, height, frame rate and speed preset."""


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

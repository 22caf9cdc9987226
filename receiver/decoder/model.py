"""The networks of the bridge: small U-shaped convolutional networks without normalisation.

    1/2   z ---------stem 4x4/2--+
    1/2   b w g h u M -stem 4x4/2-+--> 1/4 --------------------(+)-- block --> head 3x3, sub-pixel --> 1/2
                                       1/8 down, block ----(+)-- block ---> log variance
                                       1/16 down, labels, blocks -- up

The input is planar YCbCr with luma pixel-unshuffled by two, so the first scale is half the picture. Stem and
head overlap their neighbours: a patch stem was seen to gain nothing over bicubic upsampling. There is no
normalisation, so a network trained on crops behaves the same on whole pictures. The head starts at zero:
an untrained network paints exactly the base picture.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from common.types import LABEL_CLASSES
from receiver.decoder.bridge import Prediction
from receiver.decoder.conditions import (
    CONDITION_CHANNELS,
    PICTURE_CHANNELS,
    SCALARS,
    UNITS,
    Conditions,
)
from receiver.decoder.parts import Parts, finished

FAMILY = "bridge"
"""Of weights files that fit here."""

_LEAK = 0.1
_SCALAR_WIDTH = 64
_INITIAL_LOG_VARIANCE = -5.0
"""Variance of an untrained network: an error of about 10 grey levels."""


def _activate(x: Tensor) -> Tensor:
    """In place: on a CPU, half the time of a step goes into passes over memory."""
    return F.leaky_relu(x, _LEAK, inplace=True)


class FilmBlock(nn.Module):
    """Residual block of two 3x3 convolutions, modulated by the scalars (FiLM, Perez et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(_SCALAR_WIDTH, 2 * channels)
        for zero in (self.second, self.film):
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(cast(Tensor, zero.bias))

    def forward(self, x: Tensor, scalars: Tensor) -> Tensor:
        """x : [N,C,h,w]; scalars : [N,64]."""
        scale, shift = self.film(scalars)[:, :, None, None].chunk(2, 1)
        hidden = torch.addcmul(shift, self.first(x), 1 + scale)
        return cast(Tensor, self.second(_activate(hidden)).add_(x))


class BlockRow(nn.Module):
    """Several blocks at one scale."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(FilmBlock(channels) for _ in range(count))

    def forward(self, x: Tensor, scalars: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, scalars)
        return x


class TinyBridge(ModelMixin, ConfigMixin):
    """Predicts the true picture from a point of the bridge and everything the receiver knows.

    widths : channels at 1/4, 1/8 and 1/16 of the picture
    down_blocks : residual blocks on the way down at 1/4 and 1/8
    middle_blocks : residual blocks at 1/16
    up_blocks : residual blocks on the way up at 1/8 and 1/4
    """

    @register_to_config
    def __init__(
        self,
        widths: tuple[int, int, int] = (48, 96, 160),
        down_blocks: tuple[int, int] = (0, 1),
        middle_blocks: int = 2,
        up_blocks: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        quarter, eighth, sixteenth = widths
        self.scalars = nn.Sequential(
            nn.Linear(SCALARS + 1, _SCALAR_WIDTH),
            nn.SiLU(),
            nn.Linear(_SCALAR_WIDTH, _SCALAR_WIDTH),
            nn.SiLU(),
        )
        self.stem_z = nn.Conv2d(PICTURE_CHANNELS, quarter, 4, stride=2, padding=1)
        self.stem_conditions = nn.Conv2d(CONDITION_CHANNELS, quarter, 4, stride=2, padding=1, bias=False)
        self.quarter_in = BlockRow(quarter, down_blocks[0])
        self.down_eighth = nn.Conv2d(quarter, eighth, 3, stride=2, padding=1)
        self.eighth_in = BlockRow(eighth, down_blocks[1])
        self.down_sixteenth = nn.Conv2d(eighth, sixteenth, 3, stride=2, padding=1)
        self.labels = nn.Embedding(LABEL_CLASSES, sixteenth)
        self.middle = BlockRow(sixteenth, middle_blocks)
        self.up_eighth = nn.ConvTranspose2d(sixteenth, eighth, 2, stride=2)
        self.eighth_out = BlockRow(eighth, up_blocks[0])
        self.log_variance = nn.Conv2d(eighth, 1, 1)
        self.up_quarter = nn.ConvTranspose2d(eighth, quarter, 2, stride=2)
        self.quarter_out = BlockRow(quarter, up_blocks[1])
        self.head = nn.Conv2d(quarter, 4 * 2 * PICTURE_CHANNELS, 3, padding=1)
        self._start_as_base_picture()

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments to build this network again, JSON values only."""
        return {key: value for key, value in dict(self.config).items() if not key.startswith("_")}

    def _start_as_base_picture(self) -> None:
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(cast(Tensor, self.head.bias))
        nn.init.zeros_(self.labels.weight)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(cast(Tensor, self.log_variance.bias), _INITIAL_LOG_VARIANCE)

    def embed(self, conditions: Conditions) -> Tensor:
        """The part of the stem that does not change between steps, [N,C,H/4,W/4]; compute it once a frame."""
        # The division by the units comes after the convolution, where there are fewer values.
        return cast(Tensor, self.stem_conditions(conditions.stem)).mul_(1 / UNITS)

    def forward(
        self, z: Tensor, t: Tensor, conditions: Conditions, embedded: Tensor | None = None
    ) -> Prediction:
        """One network call.

        z : [N,6,H/2,W/2] point of the bridge; H and W multiples of 16
        t : [N] time, 0..1
        embedded : `embed(conditions)` where the caller has it already
        """
        if embedded is None:
            embedded = self.embed(conditions)
        return finished(self.call(z, t, conditions, embedded))

    def call(self, z: Tensor, t: Tensor, conditions: Conditions, embedded: Tensor) -> Parts[Prediction]:
        """`forward` in parts."""
        painted, log_variance = yield from self._features(z, t, conditions, embedded)
        return self.paint(painted, log_variance, conditions)

    def features(
        self, z: Tensor, t: Tensor, conditions: Conditions, embedded: Tensor
    ) -> tuple[Tensor, Tensor]:
        """All convolutions of a call: what `paint` takes, [N,48,H/4,W/4] and [N,1,H/8,W/8]."""
        return finished(self._features(z, t, conditions, embedded))

    def _features(
        self, z: Tensor, t: Tensor, conditions: Conditions, embedded: Tensor
    ) -> Parts[tuple[Tensor, Tensor]]:
        film = self.scalars(torch.cat([t[:, None].to(conditions.scalars), conditions.scalars], 1))
        quarter = self.quarter_in(_activate(self.stem_z(z) + embedded), film)
        yield
        eighth = self.eighth_in(_activate(self.down_eighth(quarter)), film)
        yield
        middle = self.down_sixteenth(eighth).add_(self.labels(conditions.labels).permute(0, 3, 1, 2))
        middle = self.middle(_activate(middle), film)
        yield
        eighth = self.eighth_out(_activate(self.up_eighth(middle).add_(eighth)), film)
        yield
        quarter = self.quarter_out(_activate(self.up_quarter(eighth).add_(quarter)), film)
        yield
        return self.head(quarter), self.log_variance(eighth)

    def paint(self, painted: Tensor, log_variance: Tensor, conditions: Conditions) -> Prediction:
        """gate * w + (1-gate) * g + detail, written as the change against the base picture.

        The base is itself a mixture of w and g whose gate is the trust, plus residual. The gate moves from
        there towards 1 or 0 and never leaves the range, so zero output means the base picture.
        """
        detail, wish = (F.pixel_shuffle(half, 2) for half in painted.chunk(2, 1))
        trust, wish = conditions.trust, torch.tanh(wish)
        up = F.relu(wish)
        # up * (1 - trust) where the wish is for more, wish * trust where it is for less.
        change = torch.addcmul(up, trust, torch.sub(wish, up, alpha=2))
        x = torch.addcmul(conditions.base + detail, change, conditions.contrast)
        return Prediction(x, trust + change, log_variance.float().clamp(-12.0, 2.0))

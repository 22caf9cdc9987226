"""The second stage of training: an opponent that tells painted from true luma, patch by patch.

    luma of a picture, luma of its base --> score per patch of 16x16 samples or so: true > 0 > painted

A regression loss leaves what it cannot know as soft as the mean of all it could be. The opponent sees the base picture
too, so that it judges detail that fits there, not pictures in general (Isola et al. 2017). Its layers are spectrally
normalised (Miyato et al. 2018), the loss is the hinge (Lim and Ye 2017).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from receiver.decoder.conditions import LUMA_PHASES

_LEAK = 0.2


class PatchJudge(nn.Module):
    """Scores patches of luma beside the base picture.

    widths : channels at 1/2, 1/4 and 1/8 of the picture
    """

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128)) -> None:
        super().__init__()
        half, quarter, eighth = widths
        self.layers = nn.ModuleList(
            [
                spectral_norm(nn.Conv2d(2 * LUMA_PHASES, half, 3, padding=1)),
                spectral_norm(nn.Conv2d(half, quarter, 4, stride=2, padding=1)),
                spectral_norm(nn.Conv2d(quarter, eighth, 4, stride=2, padding=1)),
                spectral_norm(nn.Conv2d(eighth, 1, 3, padding=1)),
            ]
        )

    def forward(self, picture: Tensor, base: Tensor) -> Tensor:
        """Both [N,6,H/2,W/2] in -1..1 -> [N,1,H/8,W/8]."""
        x = torch.cat([picture[:, :LUMA_PHASES], base[:, :LUMA_PHASES]], 1)
        *hidden, last = self.layers
        for layer in hidden:
            x = F.leaky_relu(layer(x), _LEAK)
        scores: Tensor = last(x)
        return scores


def opponent_loss(true: Tensor, painted: Tensor) -> Tensor:
    """What the opponent minimises: scores above 1 for true pictures and below -1 for painted ones."""
    return F.relu(1 - true).mean() + F.relu(1 + painted).mean()


def painter_loss(painted: Tensor) -> Tensor:
    """What the decoder minimises."""
    return -painted.mean()


def stage_weight(spent: float, share: float) -> float:
    """Weight of the painter's loss, 0..1, when `spent` of the training time (0..1) is used.

    The stage is the last `share` of the time; its first tenth, while the opponent knows little, the weight rises.
    """
    begun = 1 - share
    return 0.0 if share <= 0 or spent < begun else min(1.0, (spent - begun) / (0.1 * share))

"""What the decoder is trained for, in the network's own layout ([N,6,H/2,W/2], YCbCr in -1..1).

Fidelity alone makes moving things as soft as the guide, so terms that compare amounts of detail, not its
exact place, stand beside it: a Laplacian pyramid, the local contrast of each band, and features of the
label network. Every term is a pure function of tensors and returns a scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from receiver.decoder.conditions import LUMA_PHASES

Features = Callable[[Tensor], Sequence[Tensor]]
"""Packed picture [N,6,H/2,W/2] -> feature maps, fine to coarse: `LabelNet.features`, `Backbone.features`."""

_SSIM_WINDOW = 7
_C1, _C2 = 0.01**2 * 4, 0.03**2 * 4
"""Constants of SSIM (Wang et al. 2004) for a range of 2."""
_MS_WEIGHTS = (0.2, 0.4, 0.4)
"""Weight of each scale, fine to coarse: three of the five of MS-SSIM (Wang et al. 2003), which fit a crop."""
_CHARBONNIER_EPS = 1e-3
_NLL_BETA = 0.5


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weight of each term in the sum.

    features, teacher : distance in the features of the label network, and of the teacher
    adversarial : of the second stage, when it has come in
    perceptual_late : how many times more texture and features count at t = 0 than at t = 1. The first call is to be
        faithful, later ones may trade fidelity for looks: K chooses a point on the perception-distortion curve (Blau and
        Michaeli 2018)
    """

    fidelity: float = 1.0
    structure: float = 0.8
    pyramid: float = 0.5
    texture: float = 0.004
    features: float = 0.03
    teacher: float = 0.02
    variance: float = 0.05
    temporal: float = 0.3
    adversarial: float = 0.01
    perceptual_late: float = 6.0

    def at(self, t: float, perceptual: float = 1.0) -> dict[str, float]:
        """Weights of the terms at bridge time t, 0..1; perceptual : factor of the terms that judge looks."""
        late = perceptual * self.perceptual_late ** (1 - t)
        faithful = {name: getattr(self, name) for name in ("fidelity", "structure", "pyramid", "variance")}
        return faithful | {name: late * getattr(self, name) for name in ("texture", "features", "teacher")}


def luma(x: Tensor) -> Tensor:
    """[N,6,H/2,W/2] -> [N,1,H,W]."""
    return F.pixel_shuffle(x[:, :LUMA_PHASES], 2)


def charbonnier(x: Tensor, truth: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Mean of weight * sqrt(d^2 + eps^2), close to the mean absolute error (Charbonnier et al. 1994)."""
    return (weight * torch.sqrt((x - truth).square() + _CHARBONNIER_EPS**2)).mean()


def structure(x: Tensor, truth: Tensor) -> Tensor:
    """1 - MS-SSIM of the luma, with box windows and three scales; x, truth : [N,1,H,W], H and W >= 28."""
    total = x.new_zeros(())
    for weight in _MS_WEIGHTS:
        total = total + weight * (1 - _ssim(x, truth))
        x, truth = F.avg_pool2d(x, 2), F.avg_pool2d(truth, 2)
    return total


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    moments = F.avg_pool2d(torch.cat([x, y, x * x, y * y, x * y], 1), _SSIM_WINDOW, stride=2)
    mean_x, mean_y, xx, yy, xy = moments.chunk(5, 1)
    covariance = xy - mean_x * mean_y
    variances = (xx - mean_x.square()) + (yy - mean_y.square())
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x.square() + mean_y.square() + _C1)
    contrast: Tensor = (2 * covariance + _C2) / (variances.clamp_min(0) + _C2)
    return (luminance * contrast).mean()


def bands(x: Tensor, levels: int = 3) -> list[Tensor]:
    """Laplacian pyramid (Burt and Adelson 1983) without its low-pass rest, fine to coarse; x : [N,1,H,W]."""
    out = []
    for _ in range(levels):
        low = F.avg_pool2d(x, 2)
        out.append(x - F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False))
        x = low
    return out


def pyramid(x_bands: Sequence[Tensor], truth_bands: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of the bands: edges in their place."""
    terms = [(x - y).abs().mean() for x, y in zip(x_bands, truth_bands, strict=True)]
    return torch.stack(terms).mean()


def texture(x_bands: Sequence[Tensor], truth_bands: Sequence[Tensor]) -> Tensor:
    """Difference of the local contrast of the bands: as much detail as in truth, wherever exactly it lies."""
    terms = [(_contrast(x) - _contrast(y)).abs().mean() for x, y in zip(x_bands, truth_bands, strict=True)]
    return torch.stack(terms).mean()


def _contrast(band: Tensor) -> Tensor:
    """Logarithm of the root mean square in windows of 8x8, half overlapping; flat below one sample step."""
    return 0.5 * torch.log(F.avg_pool2d(band.square(), 8, stride=4) + 1 / 128**2)


def feature_distance(x: Sequence[Tensor], truth: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of channel-normalised feature maps (after LPIPS, Zhang et al. 2018)."""
    pairs = zip(x, truth, strict=True)
    terms = [(F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean() for a, b in pairs]
    return torch.stack(terms).mean()


def beta_nll(log_variance: Tensor, x: Tensor, truth: Tensor) -> Tensor:
    """Negative log likelihood of the error per 8x8 cell, weighted by variance^beta (Seitzer et al. 2022).

    The weight keeps large errors from being explained away; the error itself is not trained through this.
    """
    error = F.avg_pool2d((x - truth).detach()[:, :LUMA_PHASES].square().mean(1, keepdim=True), 4)
    v = log_variance.float()
    weight = torch.exp(v.detach() * _NLL_BETA)
    return (weight * 0.5 * (v + error * torch.exp(-v))).mean()


def temporal(x: Tensor, previous: Tensor, truth: Tensor, truth_previous: Tensor) -> Tensor:
    """The output changes over time as the truth does: flicker costs, motion does not."""
    return charbonnier(x - previous, truth - truth_previous)


def fidelity(x: Tensor, truth: Tensor, t: float) -> Tensor:
    """How far from the truth a picture at bridge time t is; late calls (small t) are easy and count less."""
    return charbonnier(x, truth, 0.5 + 0.5 * t)


def total(
    x: Tensor,
    truth: Tensor,
    log_variance: Tensor,
    t: float,
    weights: LossWeights,
    judges: Mapping[str, Features],
    perceptual: float = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of all terms of one picture, and each term by name, without gradient, for the log.

    t : bridge time; perceptual : see `LossWeights.at`
    judges : by name of their term (`features`, `teacher`); the terms of those left out are left out
    """
    x_luma, truth_luma = luma(x), luma(truth)
    x_bands, truth_bands = bands(x_luma), bands(truth_luma)
    terms = {
        "fidelity": fidelity(x, truth, t),
        "structure": structure(x_luma, truth_luma),
        "pyramid": pyramid(x_bands, truth_bands),
        "texture": texture(x_bands, truth_bands),
        "variance": beta_nll(log_variance, x, truth),
    }
    for name, features in judges.items():
        with torch.no_grad():
            wanted = features(truth)
        terms[name] = feature_distance(features(x), wanted)
    chosen = weights.at(t, perceptual)
    loss = torch.stack([chosen[name] * term for name, term in terms.items()]).sum()
    return loss, {name: term.detach() for name, term in terms.items()}

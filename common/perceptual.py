"""LPIPS and DISTS from a weights file that the user has.

Both compare deep features of an ImageNet network whose weights are too large to ship and cannot be fetched
offline, so they are read from one local safetensors file that holds the backbone and the metric's own head:

    LPIPS   `features.N.weight|bias` of torchvision's AlexNet or VGG16    + `lin0..lin4.model.1.weight`
    DISTS   `features.N.weight|bias` of torchvision's VGG16               + `alpha`, `beta`

The head names are those of the published packages. To make such a file, on a machine that has them:

    tensors = {**torchvision.models.alexnet(weights="DEFAULT").state_dict(), **torch.load(head_file)}
    keep = ("features.", "lin", "alpha", "beta")
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith(keep)}
    safetensors.torch.save_file(kept, "lpips-alex.safetensors")
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from common.colour import picture_to_rgb
from common.errors import WeightsError
from common.types import Colour, Picture

Weights = Mapping[str, torch.Tensor]

MIN_SIDE = 32
"""Smaller pictures vanish in the pooling of these networks."""


@dataclass(frozen=True, slots=True)
class _Conv:
    """One convolution of a torchvision `features` stack: its index there, and its geometry."""

    index: int
    out_channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1


_ALEXNET = (
    (_Conv(0, 64, kernel=11, stride=4, padding=2),),
    (_Conv(3, 192, kernel=5, padding=2),),
    (_Conv(6, 384),),
    (_Conv(8, 256),),
    (_Conv(10, 256),),
)
_ALEXNET_POOLS = (False, True, True, False, False)
"""Whether a 3x3 max pool of stride 2 stands before the stage."""

_VGG16 = (
    (_Conv(0, 64), _Conv(2, 64)),
    (_Conv(5, 128), _Conv(7, 128)),
    (_Conv(10, 256), _Conv(12, 256), _Conv(14, 256)),
    (_Conv(17, 512), _Conv(19, 512), _Conv(21, 512)),
    (_Conv(24, 512), _Conv(26, 512), _Conv(28, 512)),
)


class PerceptualNet(ABC):
    """A distance between two pictures in feature space; holds weights only."""

    def __init__(self, weights: Weights, colour: Colour) -> None:
        self._weights = weights
        self._colour = colour

    def distance(self, a: Picture, b: Picture) -> float:
        """0 for identical pictures of one shape, both sides at least `MIN_SIDE`."""
        if a.y.shape != b.y.shape or min(a.y.shape) < MIN_SIDE:
            raise ValueError(f"need one shape of at least {MIN_SIDE} pixels, got {a.y.shape} and {b.y.shape}")
        with torch.inference_mode():
            return self._compare(self._rgb(a), self._rgb(b))

    @abstractmethod
    def _compare(self, a: torch.Tensor, b: torch.Tensor) -> float:
        """a, b : [1, 3, H, W] float32 R'G'B' in 0..1"""

    def _rgb(self, picture: Picture) -> torch.Tensor:
        rgb = picture_to_rgb(picture, self._colour).transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(rgb, np.float32) / np.float32(255.0))[None]

    def _stage(self, x: torch.Tensor, convs: Sequence[_Conv]) -> torch.Tensor:
        for conv in convs:
            weight, bias = (self._weights[f"features.{conv.index}.{part}"] for part in ("weight", "bias"))
            x = F.relu(F.conv2d(x, weight, bias, stride=conv.stride, padding=conv.padding))
        return x


class Lpips(PerceptualNet):
    """Learned perceptual image patch similarity, version 0.1 (Zhang et al. 2018), AlexNet or VGG16."""

    def _compare(self, a: torch.Tensor, b: torch.Tensor) -> float:
        total = 0.0
        pairs = zip(self._features(a), self._features(b), strict=True)
        for stage, (of_a, of_b) in enumerate(pairs):
            squared = (_unit_length(of_a) - _unit_length(of_b)).square()
            total += float(F.conv2d(squared, self._weights[f"lin{stage}.model.1.weight"]).mean())
        return total

    def _features(self, rgb: torch.Tensor) -> list[torch.Tensor]:
        shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
        scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
        x = (2.0 * rgb - 1.0 - shift) / scale
        alexnet = _is_alexnet(self._weights)
        features = []
        for stage, convs in enumerate(_ALEXNET if alexnet else _VGG16):
            if alexnet and _ALEXNET_POOLS[stage]:
                x = F.max_pool2d(x, 3, 2)
            elif not alexnet and stage > 0:
                x = F.max_pool2d(x, 2, 2)
            x = self._stage(x, convs)
            features.append(x)
        return features


class Dists(PerceptualNet):
    """Deep image structure and texture similarity (Ding et al. 2020) at the picture's own size, VGG16."""

    def _compare(self, a: torch.Tensor, b: torch.Tensor) -> float:
        alpha, beta = self._weights["alpha"].flatten(), self._weights["beta"].flatten()
        similarity, start = 0.0, 0
        for of_a, of_b in zip(self._features(a), self._features(b), strict=True):
            texture, structure = _texture_and_structure(of_a, of_b)
            here = slice(start, start + of_a.shape[1])
            similarity += float(alpha[here] @ texture + beta[here] @ structure)
            start = here.stop
        return 1.0 - similarity / float(alpha.sum() + beta.sum())

    def _features(self, rgb: torch.Tensor) -> list[torch.Tensor]:
        """The picture itself and five stages: 1475 channels together."""
        mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        deviation = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        x = (rgb - mean) / deviation
        features = [rgb]
        for stage, convs in enumerate(_VGG16):
            x = self._stage(x if stage == 0 else _l2_pool(x), convs)
            features.append(x)
        return features


def load_lpips(path: Path, colour: Colour) -> Lpips:
    """Read LPIPS weights; raises WeightsError when the file is missing, damaged or of another network."""
    weights = _read(path)
    stages = _ALEXNET if _is_alexnet(weights) else _VGG16
    heads = {f"lin{i}.model.1.weight": (1, convs[-1].out_channels, 1, 1) for i, convs in enumerate(stages)}
    _check_shapes(path, weights, {**_backbone_shapes(stages), **heads})
    return Lpips(weights, colour)


def load_dists(path: Path, colour: Colour) -> Dists:
    """Read DISTS weights; raises WeightsError when the file is missing, damaged or of another network."""
    weights = _read(path)
    channels = 3 + sum(convs[-1].out_channels for convs in _VGG16)
    heads = {name: (1, channels, 1, 1) for name in ("alpha", "beta")}
    _check_shapes(path, weights, {**_backbone_shapes(_VGG16), **heads})
    return Dists(weights, colour)


def _read(path: Path) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read {path}: {error}; give a safetensors file") from error


def _backbone_shapes(stages: Sequence[Sequence[_Conv]]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for conv in (conv for convs in stages for conv in convs):
        shapes[f"features.{conv.index}.weight"] = (conv.out_channels, channels, conv.kernel, conv.kernel)
        shapes[f"features.{conv.index}.bias"] = (conv.out_channels,)
        channels = conv.out_channels
    return shapes


def _check_shapes(path: Path, weights: Weights, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        found = tuple(weights[name].shape) if name in weights else None
        if found != shape:
            raise WeightsError(f"{path}: tensor {name} should have shape {shape}, found {found or 'none'}")


def _is_alexnet(weights: Weights) -> bool:
    first = weights.get("features.0.weight")
    return first is not None and first.shape[-1] == _ALEXNET[0][0].kernel


def _unit_length(x: torch.Tensor) -> torch.Tensor:
    """Each pixel's channel vector scaled to length one."""
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _l2_pool(x: torch.Tensor) -> torch.Tensor:
    """Root of Hann-weighted mean squares over 3x3, stride 2: pooling without aliasing."""
    taps = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 3, 3)
    return (F.conv2d(x.square(), kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


def _texture_and_structure(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Per channel, [C]: agreement of the means, and correlation about them."""
    a, b = a.flatten(2)[0], b.flatten(2)[0]
    mean_a, mean_b = a.mean(dim=1), b.mean(dim=1)
    texture = (2.0 * mean_a * mean_b + 1e-6) / (mean_a.square() + mean_b.square() + 1e-6)
    covariance = (a * b).mean(dim=1) - mean_a * mean_b
    variances = (a - mean_a[:, None]).square().mean(dim=1) + (b - mean_b[:, None]).square().mean(dim=1)
    return texture, (2.0 * covariance + 1e-6) / (variances + 1e-6)

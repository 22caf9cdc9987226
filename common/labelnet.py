"""The label network: what is where in a picture, in a few milliseconds on one core.

    planes [N,6,h,w] -> 1/4 --> 1/8 -----------------> + -> logits at 1/8 of the working picture
                                  \\-> 1/16, context -/ up

Fractions are of the luma size: six planes (the four luma phases of each 2x2 block, U, V) already stand at
1/2. Pictures are brought to about 256x256 first, so that cost does not grow with the coded size and objects
keep the size that the network knows. Its three stages also serve as a perceptual distance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from common.errors import WeightsError
from common.types import LABEL_CLASSES, Picture, Plane
from common.weights import load_weights

FAMILY = "labels"
CELL = 16
"""Side of a cell of the label map, luma samples."""

WORKING_SIDE = 256
"""Square root of the number of luma samples that the network looks at."""

_WORKING_GRID = 16


class ConvUnit(nn.Module):
    """3x3 (or `kernel`) convolution and, while training, batch normalisation, which `fold` merges into it."""

    def __init__(
        self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1, kernel: int = 3, normed: bool
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=not normed)
        self.norm: nn.Module = nn.BatchNorm2d(outputs) if normed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y

    def fold(self) -> None:
        """Merge the normalisation, as it is in eval mode, into the convolution."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv.eval(), self.norm.eval())
            self.norm = nn.Identity()


class ResidualUnit(nn.Module):
    """x + two convolutions (He et al. 2016); the first may be dilated to see further."""

    def __init__(self, channels: int, dilation: int, normed: bool) -> None:
        super().__init__()
        self.first = ConvUnit(channels, channels, dilation=dilation, normed=normed)
        self.second = ConvUnit(channels, channels, normed=normed)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class LabelNet(nn.Module):
    """Fully convolutional classifier of the 21 PASCAL VOC classes.

    channels : of the three stages
    normed : with batch normalisation, for training; shipped weights are folded
    """

    def __init__(self, channels: Sequence[int] = (24, 48, 96), normed: bool = False) -> None:
        super().__init__()
        a, b, c = channels
        self.config: dict[str, Any] = {"channels": [a, b, c]}
        self.stage1 = nn.ModuleList([ConvUnit(6, a, stride=2, normed=normed), ResidualUnit(a, 1, normed)])
        self.stage2 = nn.ModuleList([ConvUnit(a, b, stride=2, normed=normed), ResidualUnit(b, 1, normed)])
        self.stage3 = nn.ModuleList(
            [ConvUnit(b, c, stride=2, normed=normed), ResidualUnit(c, 2, normed), ResidualUnit(c, 4, normed)]
        )
        self.context = nn.Linear(c, b)
        self.deep = ConvUnit(c, b, kernel=1, normed=normed)
        self.skip = ConvUnit(b, b, kernel=1, normed=normed)
        self.mix = ConvUnit(b, b, normed=normed)
        self.classify = nn.Conv2d(b, LABEL_CLASSES, 1)

    def features(self, planes: Tensor) -> list[Tensor]:
        """Planes [N,6,h,w] in -1..1 -> [N,24,h/2,w/2], [N,48,h/4,w/4], [N,96,h/8,w/8], all >= 0."""
        stages = []
        x = planes
        for stage in (self.stage1, self.stage2, self.stage3):
            x = F.relu(stage[0](x))
            for block in list(stage)[1:]:
                x = block(x)
            stages.append(x)
        return stages

    def forward(self, planes: Tensor) -> Tensor:
        """Planes [N,6,h,w] in -1..1 -> logits [N,21,h/4,w/4]; h and w multiples of 8."""
        _, fine, coarse = self.features(planes)
        around = self.context(coarse.mean((2, 3)))[:, :, None, None]
        deep = F.interpolate(self.deep(coarse) + around, fine.shape[2:], mode="bilinear", align_corners=False)
        mixed = F.relu(self.mix(F.relu(deep + self.skip(fine))))
        logits: Tensor = self.classify(mixed)
        return logits

    @torch.inference_mode()
    def logits(self, picture: Picture) -> Tensor:
        """Logits of one picture, [21, ceil(H/16), ceil(W/16)] float32."""
        planes = picture_to_planes(working_picture(picture))
        cells = -(-picture.height // CELL), -(-picture.width // CELL)
        out = self(planes.to(memory_format=torch.channels_last))
        if tuple(out.shape[2:]) != cells:
            shrinks = cells[0] < out.shape[2] or cells[1] < out.shape[3]
            out = F.interpolate(out, cells, mode="bilinear", align_corners=False, antialias=shrinks)
        return out[0].float()

    def fold(self) -> None:
        """Merge every batch normalisation into its convolution; the module is for inference from here on."""
        for module in self.modules():
            if isinstance(module, ConvUnit):
                module.fold()


def picture_to_planes(picture: Picture) -> Tensor:
    """Picture -> [1,6,H/2,W/2] float32: (sample - 128) / 128."""
    y = torch.from_numpy(np.ascontiguousarray(picture.y))[None, None]
    chroma = torch.from_numpy(np.stack([picture.u, picture.v]))[None]
    return (torch.cat([F.pixel_unshuffle(y, 2), chroma], 1).float() - 128.0) / 128.0


def working_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of about 256x256 samples in the picture's aspect, multiples of 16."""
    scale = WORKING_SIDE / math.sqrt(height * width)
    rows, cols = (max(1, round(side * scale / _WORKING_GRID)) for side in (height, width))
    return rows * _WORKING_GRID, cols * _WORKING_GRID


def working_picture(picture: Picture) -> Picture:
    """The picture at the size that the network looks at."""
    height, width = working_size(picture.height, picture.width)
    return Picture(
        resize_plane(picture.y, height, width),
        resize_plane(picture.u, height // 2, width // 2),
        resize_plane(picture.v, height // 2, width // 2),
    )


def resize_plane(plane: Plane, height: int, width: int) -> Plane:
    """Area average on the way down, bilinear on the way up."""
    if plane.shape == (height, width):
        return plane
    smaller = height <= plane.shape[0] and width <= plane.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(plane, (width, height), interpolation=method), np.uint8)


def load_labelnet(name_or_path: str = "labels") -> LabelNet:
    """The shipped network (or that in a safetensors file), float32 in eval mode; WeightsError if it cannot be."""
    weights = load_weights(name_or_path, FAMILY)
    try:
        net = LabelNet(**weights.config)
        net.load_state_dict({name: tensor.float() for name, tensor in weights.tensors.items()})
    except (TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{name_or_path} does not hold a label network of this version: retrain it"
        ) from error
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its annotations
    return net.eval().requires_grad_(False)


@torch.inference_mode()
def feature_distance(a: Picture, b: Picture, net: LabelNet) -> float:
    """Distance of two pictures in the network's features, 0 for equal ones, at full size.

    As LPIPS (Zhang et al. 2018) without its learned weights: channels scaled to length one at each place,
    squared difference summed over channels, mean over places and stages; so at most 2.
    """
    if a.y.shape != b.y.shape:
        raise ValueError(f"pictures of one size are needed, not {a.y.shape} and {b.y.shape}")
    of_a, of_b = (net.features(picture_to_planes(picture)) for picture in (a, b))
    terms = [
        (F.normalize(x, dim=1) - F.normalize(y, dim=1)).square().sum(1).mean()
        for x, y in zip(of_a, of_b, strict=True)
    ]
    return float(torch.stack(terms).mean())

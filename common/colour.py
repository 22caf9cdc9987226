"""Samples to light and back: YCbCr 4:2:0 planes <-> RGB, and the few geometric steps between picture sizes.

Matrices and ranges are those of ITU-R BT.709 and BT.601; chroma sits in the middle of its 2x2 luma block
(as in JPEG and MPEG-1), so going down is the mean of four and going up is bilinear with weights 3/4 and 1/4.
The transfer function is left alone: RGB here is the non-linear R'G'B' of the source.

None of this is part of the closed loop: floating point is allowed, the stream carries planes only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from common.types import Colour, Picture, Plane

if TYPE_CHECKING:
    import torch

Rgb = NDArray[np.uint8]
"""[H, W, 3] uint8, red first."""

_LUMA_WEIGHTS = {"bt709": (0.2126, 0.0722), "bt601": (0.299, 0.114)}
"""Weights of red and of blue in luma; green has the rest (BT.709-6 item 3.2, BT.601-7 item 2.5.1)."""


def _scales(colour: Colour) -> tuple[float, float, float]:
    """Codes of black, and code steps per unit of luma and of chroma, for samples 0..255."""
    return (0.0, 255.0, 255.0) if colour.full_range else (16.0, 219.0, 224.0)


def _rgb_to_ycc(colour: Colour) -> NDArray[np.float32]:
    """[3, 3]: rows Y, Cb, Cr as code values (before the offsets) from R'G'B' samples 0..255."""
    red, blue = _LUMA_WEIGHTS[colour.matrix]
    _, luma_step, chroma_step = _scales(colour)
    y = np.array([red, 1.0 - red - blue, blue])
    cb = (np.array([0.0, 0.0, 1.0]) - y) / (2.0 * (1.0 - blue))
    cr = (np.array([1.0, 0.0, 0.0]) - y) / (2.0 * (1.0 - red))
    steps = np.array([luma_step, chroma_step, chroma_step]) / 255.0
    return (np.stack([y, cb, cr]) * steps[:, None]).astype(np.float32)


def _ycc_to_rgb(colour: Colour) -> NDArray[np.float32]:
    """[3, 3], the inverse of `_rgb_to_ycc`."""
    return np.linalg.inv(_rgb_to_ycc(colour).astype(np.float64)).astype(np.float32)


def _to_samples(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round to nearest and clip to 0..255; overwrites its argument."""
    values += 0.5
    np.clip(values, 0.0, 255.0, out=values)
    return values.astype(np.uint8)


def _upsample(chroma: Plane) -> NDArray[np.int16]:
    """[H, W] uint8 -> [2H, 2W] int16 in sixteenths, bilinear with replicated edges."""
    height, width = chroma.shape
    padded = np.pad(chroma, 1, mode="edge").astype(np.int16)
    rows = np.empty((2 * height, width + 2), np.int16)
    centre = 3 * padded[1:-1]
    np.add(centre, padded[:-2], out=rows[0::2])
    np.add(centre, padded[2:], out=rows[1::2])
    out = np.empty((2 * height, 2 * width), np.int16)
    centre = 3 * rows[:, 1:-1]
    np.add(centre, rows[:, :-2], out=out[:, 0::2])
    np.add(centre, rows[:, 2:], out=out[:, 1::2])
    return out


def picture_to_rgb(picture: Picture, colour: Colour) -> Rgb:
    """Picture -> [H, W, 3] uint8 R'G'B', clipped to 0..255."""
    black, _, _ = _scales(colour)
    matrix = _ycc_to_rgb(colour)
    luma = (picture.y.astype(np.float32) - np.float32(black)) * matrix[0, 0]
    cb, cr = ((_upsample(plane) - np.int16(128 * 16)).astype(np.float32) for plane in (picture.u, picture.v))
    gains = matrix / np.float32(16.0)
    rgb = np.empty((*picture.y.shape, 3), np.uint8)
    rgb[..., 0] = _to_samples(luma + cr * gains[0, 2])
    rgb[..., 1] = _to_samples(luma + cb * gains[1, 1] + cr * gains[1, 2])
    rgb[..., 2] = _to_samples(luma + cb * gains[2, 1])
    return rgb


def rgb_to_picture(rgb: Rgb, colour: Colour) -> Picture:
    """[H, W, 3] uint8 R'G'B', H and W even -> Picture; raises ValueError for another shape."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.shape[0] % 2 or rgb.shape[1] % 2:
        raise ValueError(f"need [H, W, 3] with even H and W, got {rgb.shape}")
    black, _, _ = _scales(colour)
    matrix = _rgb_to_ycc(colour)
    y = rgb.astype(np.float32) @ matrix[0]
    y += np.float32(black)
    # The conversion is linear, so averaging R'G'B' first gives the mean chroma at a quarter of the work.
    pairs = rgb[0::2].astype(np.uint16) + rgb[1::2]
    blocks = (pairs[:, 0::2] + pairs[:, 1::2]).astype(np.float32)
    u, v = (blocks @ (row / np.float32(4.0)) + np.float32(128.0) for row in matrix[1:])
    return Picture(_to_samples(y), _to_samples(u), _to_samples(v))


def planes_to_rgb_tensor(y: torch.Tensor, u: torch.Tensor, v: torch.Tensor, colour: Colour) -> torch.Tensor:
    """The same conversion as `picture_to_rgb`, differentiable, for losses and metrics.

    y : [N, 1, H, W] float, sample value / 255
    u, v : [N, 1, H/2, W/2] float, sample value / 255
    returns [N, 3, H, W] of y's type, 0..1 for legal input; not clipped, so gradients survive
    """
    import torch
    from torch.nn.functional import interpolate

    black, _, _ = _scales(colour)
    chroma = interpolate(torch.cat([u, v], 1), scale_factor=2, mode="bilinear", align_corners=False)
    ycc = torch.cat([y - black / 255.0, chroma - 128.0 / 255.0], 1)
    matrix = torch.from_numpy(_ycc_to_rgb(colour)).to(ycc)
    return torch.einsum("rc,nchw->nrhw", matrix, ycc)


def crop(picture: Picture, width: int, height: int) -> Picture:
    """The top left `width` x `height` samples (both even), as views; ValueError if not inside."""
    if width % 2 or height % 2 or not (0 < width <= picture.width and 0 < height <= picture.height):
        raise ValueError(f"cannot crop {picture.width}x{picture.height} to {width}x{height}")
    u, v = (plane[: height // 2, : width // 2] for plane in (picture.u, picture.v))
    return Picture(picture.y[:height, :width], u, v)


def pad_plane(plane: Plane, width: int, height: int) -> Plane:
    """Grow a plane to the right and downwards by repeating its edge samples."""
    missing = (height - plane.shape[0], width - plane.shape[1])
    if missing == (0, 0):
        return plane
    return np.pad(plane, ((0, missing[0]), (0, missing[1])), mode="edge")


def pad_to(picture: Picture, width: int, height: int) -> Picture:
    """Grow to `width` x `height` (both even) by repeating the edges; raises ValueError for a smaller size."""
    if width % 2 or height % 2 or width < picture.width or height < picture.height:
        raise ValueError(f"cannot pad {picture.width}x{picture.height} to {width}x{height}")
    u, v = (pad_plane(plane, width // 2, height // 2) for plane in (picture.u, picture.v))
    return Picture(pad_plane(picture.y, width, height), u, v)


def resize_plane(plane: Plane, width: int, height: int) -> Plane:
    """Scale one plane: by area where it shrinks (no aliasing), by bicubic where it grows."""
    import cv2

    old_height, old_width = plane.shape
    small = (min(width, old_width), min(height, old_height))
    if small != (old_width, old_height):
        plane = cv2.resize(plane, small, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    if small != (width, height):
        plane = cv2.resize(plane, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
    return plane


def resize(picture: Picture, width: int, height: int) -> Picture:
    """Scale the whole picture to exactly `width` x `height`, both even (the aspect ratio may change)."""
    if width % 2 or height % 2 or width <= 0 or height <= 0:
        raise ValueError(f"cannot resize to {width}x{height}: sides must be even and positive")
    u, v = (resize_plane(plane, width // 2, height // 2) for plane in (picture.u, picture.v))
    return Picture(resize_plane(picture.y, width, height), u, v)

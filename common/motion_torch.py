"""The integer warp, upsampling and blending for tensors: the same bits as common/motion.py and common/fusion.py.

For ends that have the pictures on a GPU already. Planes are [h, w] uint8 tensors on any device, fields int16
[rows, cols, 2]; arithmetic is int32, far from overflow, so every device agrees with NumPy (a test compares them).
Index computations need no gradient and no floating point; nothing here is approximate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from common.fusion import CELL, NEAR
from common.motion import TAPS

Planes = tuple[Tensor, Tensor, Tensor]
"""y [h, w], u and v [h/2, w/2], uint8, on one device."""


def warp_plane(plane: Tensor, field: Tensor, eighths: int) -> Tensor:
    """Move the blocks of one plane: [h, w] uint8 -> [h, w] uint8; see `common.motion.warp_plane`."""
    (rows, cols), (height, width) = field.shape[:2], plane.shape
    vectors = (field.int() * eighths + 4) >> 3
    whole, phase = vectors >> 3, (vectors & 7).long()
    y, down = _taps(whole[..., 0], phase[..., 0], height // rows, 0)
    x, across = _taps(whole[..., 1], phase[..., 1], width // cols, 1)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    patch = plane.int()[y[..., :, None], x[..., None, :]]  # [rows, cols, block_h + 3, block_w + 3]
    half = _filtered(patch, across[..., None, :], 3, width // cols)
    full = _filtered(half, down[..., None, :], 2, height // rows)
    return full.clamp(0, 255).to(torch.uint8).transpose(1, 2).reshape(height, width)


def _taps(whole: Tensor, phase: Tensor, block: int, axis: int) -> tuple[Tensor, Tensor]:
    """Sample positions [rows, cols, block + 3] along one axis, unclamped, and filter taps [rows, cols, 4]."""
    count = torch.arange(whole.shape[axis], device=whole.device) * block
    start = count[:, None] if axis == 0 else count[None, :]
    reach = torch.arange(-1, block + 2, device=whole.device)
    return (start + whole)[..., None] + reach, torch.from_numpy(TAPS).int().to(phase.device)[phase]


def _filtered(samples: Tensor, taps: Tensor, axis: int, count: int) -> Tensor:
    """Four taps along `axis` of [rows, cols, h, w]; `count` samples remain. taps : [rows, cols, 1, 4]"""
    parts = (samples.narrow(axis, k, count) * taps[..., k : k + 1] for k in range(4))
    return (torch.stack(tuple(parts)).sum(0, dtype=torch.int32) + 32) >> 6


def warp(planes: Planes, field: Tensor) -> Planes:
    """The anchor as the field says it looks now; see `common.motion.warp`."""
    y, u, v = planes
    return warp_plane(y, field, 16), warp_plane(u, field, 8), warp_plane(v, field, 8)


def upsample_plane(plane: Tensor, scale: int) -> Tensor:
    """[h, w] uint8 -> [h*scale, w*scale] uint8, scale 1, 2, 4 or 8; see `common.fusion.upsample_plane`."""
    wide = plane.int()
    while scale > 1:
        wide = _double(_double(wide).T).T.clamp(0, 255)
        scale //= 2
    return wide.to(torch.uint8)


def _double(plane: Tensor) -> Tensor:
    """Twice the rows: bicubic, edge-replicated, centres aligned."""
    length = plane.shape[0]
    index = torch.arange(-2, length + 2, device=plane.device).clamp(0, length - 1)
    shift = [plane[index[k : k + length]] for k in range(5)]
    taps = [int(tap) for tap in NEAR]
    upper = sum((shift[k] * taps[3 - k] for k in range(4)), torch.zeros_like(plane))
    lower = sum((shift[k + 1] * taps[k] for k in range(4)), torch.zeros_like(plane))
    return ((torch.stack([upper, lower], dim=1) + 32) >> 6).reshape(2 * length, -1)


def upsample(planes: Planes, scale: int) -> Planes:
    """The guide at the coded size; see `common.fusion.upsample`."""
    y, u, v = planes
    return upsample_plane(y, scale), upsample_plane(u, scale), upsample_plane(v, scale)


def _spread(weights: Tensor) -> Tensor:
    """Linear interpolation from cell centres to the 8 samples of each cell along the rows, times 16."""
    before, after = torch.cat([weights[:1], weights[:-1]]), torch.cat([weights[1:], weights[-1:]])
    lines = [weights * (9 + 2 * k) + before * (7 - 2 * k) for k in range(CELL // 2)]
    lines += [weights * (23 - 2 * k) + after * (2 * k - 7) for k in range(CELL // 2, CELL)]
    return torch.stack(lines, dim=1).reshape(CELL * weights.shape[0], -1)


def blend(warped: Planes, guide_up: Planes, weights: Tensor) -> Planes:
    """guide + weight * (warped - guide), weights [H/8, W/8] in 0..64; see `common.fusion.blend`."""
    smooth = ((_spread(((_spread(weights.int()) + 8) >> 4).T) + 8) >> 4).T
    half = smooth[::2, ::2]
    y, u, v = (
        (low.int() + ((weight * (over.int() - low.int()) + 32) >> 6)).to(torch.uint8)
        for over, low, weight in zip(warped, guide_up, (smooth, half, half), strict=True)
    )
    return y, u, v

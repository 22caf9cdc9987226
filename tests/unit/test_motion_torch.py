"""The tensor twins give the bits of the NumPy originals, on the CPU and on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common import fusion, motion, motion_torch
from common.motion import MAX_MV
from common.types import Picture

seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 5))
DEVICES = [pytest.param("cpu"), pytest.param("cuda", marks=pytest.mark.gpu)]


def random_picture(seed: int, rows: int, cols: int) -> Picture:
    """Noise of rows x cols blocks, with flat black and white parts for the clipping."""
    generator = np.random.default_rng(seed)
    planes = []
    for side in (16, 8, 8):
        plane = generator.integers(0, 256, (rows * side, cols * side), dtype=np.uint8)
        plane[: side // 2] = 255 * generator.integers(0, 2)
        planes.append(plane)
    return Picture(*planes)


def tensors(picture: Picture, device: str) -> motion_torch.Planes:
    y, u, v = (torch.from_numpy(plane).to(device) for plane in picture.planes)
    return y, u, v


def assert_same(planes: motion_torch.Planes, picture: Picture) -> None:
    for tensor, plane in zip(planes, picture.planes, strict=True):
        assert tensor.dtype == torch.uint8
        assert np.array_equal(tensor.cpu().numpy(), plane)


@pytest.mark.parametrize("device", DEVICES)
@given(seeds, shapes, st.sampled_from([0, 3, 70, MAX_MV]))
def test_the_warp_is_the_same(device: str, seed: int, shape: tuple[int, int], reach: int) -> None:
    picture = random_picture(seed, *shape)
    field = np.random.default_rng(seed).integers(-reach, reach + 1, (*shape, 2)).astype(np.int16)
    moved = motion_torch.warp(tensors(picture, device), torch.from_numpy(field).to(device))
    assert_same(moved, motion.warp(picture, field))


@given(seeds, shapes, st.sampled_from([4, 2]))
def test_the_warp_of_small_planes_is_the_same(seed: int, shape: tuple[int, int], block: int) -> None:
    generator = np.random.default_rng(seed)
    plane = generator.integers(0, 256, (shape[0] * block, shape[1] * block), dtype=np.uint8)
    field = generator.integers(-300, 301, (*shape, 2)).astype(np.int16)
    moved = motion_torch.warp_plane(torch.from_numpy(plane), torch.from_numpy(field), block)
    assert np.array_equal(moved.numpy(), motion.warp_plane(plane, field, block))


@pytest.mark.parametrize("device", DEVICES)
@given(seeds, shapes, st.sampled_from([1, 2, 4, 8]))
def test_upsampling_is_the_same(device: str, seed: int, shape: tuple[int, int], scale: int) -> None:
    picture = random_picture(seed, *shape)
    assert_same(motion_torch.upsample(tensors(picture, device), scale), fusion.upsample(picture, scale))


@pytest.mark.parametrize("device", DEVICES)
@given(seeds, shapes)
def test_blending_is_the_same(device: str, seed: int, shape: tuple[int, int]) -> None:
    over, under = random_picture(seed, *shape), random_picture(seed + 1, *shape)
    weights = np.random.default_rng(seed).integers(0, 65, (2 * shape[0], 2 * shape[1])).astype(np.int16)
    mixed = motion_torch.blend(
        tensors(over, device), tensors(under, device), torch.from_numpy(weights).to(device)
    )
    assert_same(mixed, fusion.blend(over, under, weights))

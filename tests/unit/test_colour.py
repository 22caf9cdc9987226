"""Colour conversion against the printed constants of the standards, and the size helpers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.colour import crop, pad_to, picture_to_rgb, planes_to_rgb_tensor, resize, rgb_to_picture
from common.types import Colour, Picture

COLOURS = [Colour(matrix, full) for matrix in ("bt709", "bt601") for full in (False, True)]


def flat(rgb: tuple[int, int, int], width: int = 8, height: int = 6) -> np.ndarray:
    return np.tile(np.array(rgb, np.uint8), (height, width, 1))


def noise(width: int, height: int, seed: int = 1) -> Picture:
    rng = np.random.default_rng(seed)
    y = rng.integers(16, 236, (height, width), np.uint8)
    u, v = rng.integers(90, 166, (2, height // 2, width // 2), np.uint8)
    return Picture(y, u, v)


@pytest.mark.parametrize(
    ("colour", "rgb", "expected"),
    [
        # Colour-bar codes as printed in BT.709 / BT.601 tables and in the JFIF specification.
        (Colour("bt709"), (255, 0, 0), (63, 102, 240)),
        (Colour("bt709"), (0, 255, 0), (173, 42, 26)),
        (Colour("bt709"), (0, 0, 255), (32, 240, 118)),
        (Colour("bt601"), (255, 0, 0), (81, 90, 240)),
        (Colour("bt601"), (0, 255, 0), (145, 54, 34)),
        (Colour("bt601"), (0, 0, 255), (41, 240, 110)),
        (Colour("bt601", full_range=True), (255, 0, 0), (76, 85, 255)),
        (Colour("bt709"), (255, 255, 255), (235, 128, 128)),
        (Colour("bt709", full_range=True), (0, 0, 0), (0, 128, 128)),
    ],
)
def test_primaries_have_the_codes_of_the_standards(
    colour: Colour, rgb: tuple[int, int, int], expected: tuple[int, int, int]
) -> None:
    picture = rgb_to_picture(flat(rgb), colour)
    assert tuple(int(plane[0, 0]) for plane in picture.planes) == expected
    assert np.abs(picture_to_rgb(picture, colour).astype(int) - np.array(rgb)).max() <= 2


@pytest.mark.parametrize("colour", COLOURS)
def test_smooth_pictures_survive_the_round_trip(colour: Colour) -> None:
    ramp = np.linspace(40, 200, 64)
    rgb = np.stack([ramp[None, :] + 0 * ramp[:, None], ramp[:, None] + 0 * ramp, np.full((64, 64), 90.0)], -1)
    rgb = rgb.astype(np.uint8)
    error = picture_to_rgb(rgb_to_picture(rgb, colour), colour).astype(int) - rgb
    assert np.abs(error[2:-2, 2:-2]).max() <= 4
    assert np.abs(error).mean() < 1.0


@pytest.mark.parametrize("colour", COLOURS)
def test_torch_and_numpy_agree_and_gradients_flow(colour: Colour) -> None:
    import torch

    picture = noise(32, 16)
    planes = [
        torch.from_numpy(plane.astype(np.float32) / 255.0)[None, None].requires_grad_()
        for plane in picture.planes
    ]
    rgb = planes_to_rgb_tensor(planes[0], planes[1], planes[2], colour)
    as_samples = (rgb.detach().clamp(0, 1) * 255.0)[0].permute(1, 2, 0).numpy()
    assert np.abs(as_samples - picture_to_rgb(picture, colour)).max() <= 0.51
    rgb.square().sum().backward()
    assert all(plane.grad is not None and bool(plane.grad.abs().sum() > 0) for plane in planes)


def test_rgb_must_be_even_and_have_three_channels() -> None:
    with pytest.raises(ValueError, match="even"):
        rgb_to_picture(np.zeros((7, 8, 3), np.uint8), Colour())
    with pytest.raises(ValueError, match="even"):
        rgb_to_picture(np.zeros((8, 8, 4), np.uint8), Colour())


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 12), st.integers(0, 12))
def test_padding_repeats_the_edge_and_cropping_undoes_it(w2: int, h2: int, dw2: int, dh2: int) -> None:
    picture = noise(2 * w2, 2 * h2)
    padded = pad_to(picture, 2 * (w2 + dw2), 2 * (h2 + dh2))
    assert (padded.width, padded.height) == (2 * (w2 + dw2), 2 * (h2 + dh2))
    assert (padded.y[:, picture.width - 1 :] == padded.y[:, picture.width - 1 : picture.width]).all()
    assert (padded.v[h2 - 1 :] == padded.v[h2 - 1 : h2]).all()
    back = crop(padded, picture.width, picture.height)
    assert all(np.array_equal(a, b) for a, b in zip(back.planes, picture.planes, strict=True))


@pytest.mark.parametrize("size", [(7, 8), (40, 8), (0, 8), (8, 40)])
def test_impossible_crops_and_pads_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="crop"):
        crop(noise(32, 32), *size)
    with pytest.raises(ValueError, match="pad"):
        pad_to(noise(32, 32), *size)


@pytest.mark.parametrize("size", [(16, 16), (128, 64), (16, 128), (64, 32), (50, 34)])
def test_resize_keeps_the_mean_and_reaches_the_size(size: tuple[int, int]) -> None:
    picture = noise(64, 32)
    out = resize(picture, *size)
    assert (out.width, out.height) == size
    assert out.u.shape == (size[1] // 2, size[0] // 2)
    assert all(abs(a.mean() - b.mean()) < 1.5 for a, b in zip(out.planes, picture.planes, strict=True))


def test_shrinking_averages_instead_of_picking_samples() -> None:
    stripes = np.tile(np.array([[0, 200]], np.uint8), (32, 16))
    grey = np.full((16, 16), 128, np.uint8)
    assert (resize(Picture(stripes, grey, grey), 16, 16).y == 100).all()

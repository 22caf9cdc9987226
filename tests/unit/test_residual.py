"""Residual blocks: how close the quantiser gets, what it costs, and hostile bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import BitstreamError
from common.residual import MAX_QUANTISER, add_residual, decode_residual, encode_residual, step_of
from common.types import Picture

HEIGHT, WIDTH = 64, 80
Differences = tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int16]]
seeds = st.integers(0, 2**32 - 1)


def differences(seed: int, reach: int) -> Differences:
    generator = np.random.default_rng(seed)
    y, u, v = (
        generator.integers(-reach, reach + 1, (HEIGHT // s, WIDTH // s)).astype(np.int16) for s in (1, 2, 2)
    )
    return y, u, v


def random_mask(seed: int, share: float) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((HEIGHT // 16, WIDTH // 16)) < share


def spread(mask: NDArray[np.bool_], block: int) -> NDArray[np.bool_]:
    return mask.repeat(block, 0).repeat(block, 1)


@given(seeds, st.floats(0, 1), st.sampled_from([1, 12, 255]), st.integers(0, MAX_QUANTISER))
def test_corrections_are_right_to_a_step_and_stay_in_their_blocks(
    seed: int, share: float, reach: int, quantiser: int
) -> None:
    wanted, mask = differences(seed, reach), random_mask(seed + 1, share)
    residual = decode_residual(encode_residual(wanted, mask, quantiser), HEIGHT, WIDTH)
    assert np.array_equal(residual.mask, mask)
    step = step_of(quantiser) / 64
    for got, want, block in zip((residual.y, residual.u, residual.v), wanted, (16, 8, 8), strict=True):
        inside = spread(mask, block)
        assert got.dtype == np.int16
        assert not got[~inside].any()
        # A coefficient is off by at most 2/3 of a step (the dead zone), and so is the mean square of the samples.
        error = (got.astype(float) - want)[inside]
        assert error.size == 0 or np.sqrt(np.mean(error**2)) <= 0.67 * step + 0.6


def test_the_finest_quantiser_is_almost_lossless() -> None:
    wanted, mask = differences(5, 20), np.ones((HEIGHT // 16, WIDTH // 16), bool)
    residual = decode_residual(encode_residual(wanted, mask, 0), HEIGHT, WIDTH)
    assert np.abs(residual.y - wanted[0]).max() <= 2
    assert np.abs(residual.y - wanted[0]).mean() < 0.3


def test_the_step_doubles_every_six() -> None:
    steps = [step_of(quantiser) for quantiser in range(MAX_QUANTISER + 1)]
    assert steps == sorted(steps)
    assert all(fine * 2 == coarse for fine, coarse in zip(steps, steps[6:], strict=False))


def test_coarser_costs_less() -> None:
    mask = np.ones((HEIGHT // 16, WIDTH // 16), bool)
    sizes = [len(encode_residual(differences(5, 20), mask, quantiser)) for quantiser in range(0, 40, 6)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 8


def test_no_block_is_a_few_bytes() -> None:
    data = encode_residual(differences(1, 9), np.zeros((HEIGHT // 16, WIDTH // 16), bool), 20)
    assert len(data) <= 4
    assert not decode_residual(data, HEIGHT, WIDTH).mask.any()


@given(st.binary(max_size=300))
def test_any_bytes_are_a_residual_or_an_error(data: bytes) -> None:
    try:
        residual = decode_residual(data, HEIGHT, WIDTH)
    except BitstreamError:
        return
    for plane in (residual.y, residual.u, residual.v):
        assert np.abs(plane).max() <= 255


@pytest.mark.parametrize("data", [b"", bytes([MAX_QUANTISER + 1]), b"\xff\0\0"])
def test_an_illegal_quantiser_is_refused(data: bytes) -> None:
    with pytest.raises(BitstreamError, match="quantiser"):
        decode_residual(data, HEIGHT, WIDTH)


@given(seeds)
def test_the_corrected_picture_is_clipped(seed: int) -> None:
    generator = np.random.default_rng(seed)
    base = Picture(
        *(generator.integers(0, 256, (HEIGHT // s, WIDTH // s), dtype=np.uint8) for s in (1, 2, 2))
    )
    mask = np.ones((HEIGHT // 16, WIDTH // 16), bool)
    residual = decode_residual(encode_residual(differences(seed, 255), mask, 6), HEIGHT, WIDTH)
    corrected = add_residual(base, residual)
    for plane, correction, out in zip(
        base.planes, (residual.y, residual.u, residual.v), corrected.planes, strict=True
    ):
        assert out.dtype == np.uint8
        assert np.array_equal(out, np.clip(plane.astype(int) + correction, 0, 255))

"""The analog layer: what it costs, how it degrades, and whether it knows how wrong it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.analog import ReceivedSymbols, awgn, erase, lose_packets, noise_variance, rayleigh
from common.errors import BitstreamError, UsageError
from common.fusion import downsample
from common.softcast import AnalogGroup, AnalogPictures, decode_group, encode_group
from common.softcast_layout import chunk_of, join
from common.softcast_metadata import parse_metadata
from common.types import Picture
from sender.clip import BuiltinClip
from training.clips import read_clip

SIDE = 128
FULL = 4 * SIDE * SIDE * 3 // 4
"""Channel uses of one coefficient each for a group of four: two coefficients a use."""


@pytest.fixture(scope="module")
def group() -> list[Picture]:
    """Four pictures of the built-in clip's portrait: real texture, and something that moves."""
    clip = BuiltinClip()
    return [downsample(clip.picture(slot), 4) for slot in range(20, 24)]


def random_pictures(count: int, height: int, width: int, seed: int) -> list[Picture]:
    """Smooth, noisy or flat pictures of any size."""
    generator = np.random.default_rng(seed)
    contrast = generator.choice([0.0, 3.0, 60.0])
    slope = generator.normal(0, 2, 2)

    def plane(rows: int, columns: int) -> np.ndarray:
        ramp = slope[0] * np.arange(rows)[:, None] + slope[1] * np.arange(columns)
        return np.clip(100 + ramp + contrast * generator.standard_normal((rows, columns)), 0, 255).astype(
            np.uint8
        )

    chroma = (height // 2, width // 2)
    return [Picture(plane(height, width), plane(*chroma), plane(*chroma)) for _ in range(count)]


def flat_picture(level: int, height: int = 32, width: int = 32) -> Picture:
    planes = (np.full((height // s, width // s), level, np.uint8) for s in (1, 2, 2))
    return Picture(*planes)


def perfect(sent: AnalogGroup) -> ReceivedSymbols:
    return ReceivedSymbols(sent.symbols, np.zeros(sent.symbols.size))


def receive(sent: AnalogGroup, received: ReceivedSymbols) -> AnalogPictures:
    return decode_group(received.symbols, received.noise, sent.metadata)


def over_awgn(sent: AnalogGroup, snr_db: float, seed: int = 0) -> AnalogPictures:
    return receive(sent, awgn(sent.symbols, snr_db, np.random.default_rng(seed)))


def squared_error(pictures: list[Picture], received: AnalogPictures) -> list[np.ndarray]:
    """Squared error of every sample, [T, H, W] of each plane."""
    sent = zip(*(p.planes for p in pictures), strict=True)
    got = zip(*(p.planes for p in received.pictures), strict=True)
    return [(np.stack(a).astype(float) - np.stack(b)) ** 2 for a, b in zip(sent, got, strict=True)]


def mean_of(planes: list[np.ndarray] | tuple[np.ndarray, ...]) -> float:
    return float(np.concatenate([plane.ravel() for plane in planes]).mean())


def psnr(mean_squared_error: float) -> float:
    return float(10 * np.log10(255**2 / mean_squared_error))


def quality(pictures: list[Picture], received: AnalogPictures) -> float:
    return psnr(mean_of(squared_error(pictures, received)))


def stated_quality(received: AnalogPictures) -> float:
    return psnr(mean_of(received.variance))


def closed_form(sent: AnalogGroup, snr_db: float) -> float:
    """PSNR from the metadata alone: Σ λ σ² / (g² λ + σ²) over what is sent, and all of what is not."""
    metadata = parse_metadata(sent.metadata)
    levels = join(metadata.levels)[chunk_of(metadata.shape)]
    levels = -np.sort(-levels)[: 2 * metadata.symbols]
    variance = metadata.variance(levels[levels > 0])
    power = metadata.gain**2 * np.sqrt(variance)
    noise = noise_variance(snr_db)
    error = (variance * noise / (power + noise)).sum() + sum(
        metadata.lost_energy(plane) for plane in range(3)
    )
    mean = error / metadata.shape.coefficients
    return psnr(mean + min(mean, 1 / 12))  # and rounding to 8 bits


def test_nothing_is_lost_without_noise_at_full_bandwidth(group: list[Picture]) -> None:
    sent = encode_group(group, FULL)
    received = receive(sent, perfect(sent))
    assert mean_of(squared_error(group, received)) == 0.0
    assert mean_of(received.variance) < 1e-6


@pytest.mark.parametrize("symbols", [FULL, FULL // 4, FULL // 16, 2 * FULL + 5])
def test_quality_rises_with_the_snr_as_the_variances_predict(group: list[Picture], symbols: int) -> None:
    sent = encode_group(group, symbols)
    found = []
    for snr_db in range(-4, 22, 5):
        received = over_awgn(sent, snr_db)
        found.append(quality(group, received))
        assert found[-1] == pytest.approx(closed_form(sent, snr_db), abs=0.5)
        assert found[-1] == pytest.approx(stated_quality(received), abs=0.5)
    assert all(np.diff(found) > 0)


def test_no_cliff_between_snrs_a_decibel_apart(group: list[Picture]) -> None:
    sent = encode_group(group, FULL // 16)
    found = [quality(group, over_awgn(sent, snr_db)) for snr_db in range(-3, 21)]
    assert np.diff(found).min() > 0
    assert np.diff(found).max() < 1.2


def test_fewer_channel_uses_degrade_gracefully(group: list[Picture]) -> None:
    found = [quality(group, over_awgn(encode_group(group, FULL >> k), 10.0)) for k in range(9)]
    losses = -np.diff(found)
    assert (losses > 0).all()
    assert losses.max() < 4.0


def test_more_channel_uses_than_coefficients_are_more_power(group: list[Picture]) -> None:
    once, thrice = (quality(group, over_awgn(encode_group(group, k * FULL), 3.0)) for k in (1, 3))
    assert thrice - once == pytest.approx(10 * np.log10(3), abs=0.6)


@given(
    st.integers(1, 8), st.integers(1, 20), st.integers(1, 20), st.integers(1, 700), st.integers(0, 2**32 - 1),
    st.sampled_from([1, 4, 8, 16]),
)  # fmt: skip
def test_any_pictures_make_exactly_the_symbols_asked_for_at_unit_power(
    count: int, half_height: int, half_width: int, symbols: int, seed: int, corner: int
) -> None:
    pictures = random_pictures(count, 2 * half_height, 2 * half_width, seed)
    sent = encode_group(pictures, symbols, corner)
    assert sent.symbols.shape == (symbols,)
    assert sent.symbols.dtype == np.complex64
    power = float(np.mean(np.abs(sent.symbols.astype(np.complex128)) ** 2))
    assert power <= 1 + 1e-6
    assert power == 0 or power > 0.99
    received = over_awgn(sent, 10.0)
    assert len(received.pictures) == count
    for picture, original in zip(received.pictures, pictures, strict=True):
        assert [p.shape for p in picture.planes] == [p.shape for p in original.planes]
    shapes = [(count, *plane.shape) for plane in pictures[0].planes]
    assert [plane.shape for plane in received.variance] == shapes
    assert all(np.isfinite(plane).all() and (plane >= 0).all() for plane in received.variance)


def test_power_is_spread_over_the_packets(group: list[Picture]) -> None:
    sent = encode_group(group, FULL // 4)
    packets = (np.abs(sent.symbols.reshape(-1, 192)) ** 2).mean(axis=1)
    assert packets.max() < 2.0
    assert packets.min() > 0.4
    assert np.abs(sent.symbols).max() < 8


@pytest.mark.parametrize("symbols", [FULL, FULL // 8])
def test_losing_a_tenth_of_the_packets_costs_little_and_is_predicted(
    group: list[Picture], symbols: int
) -> None:
    sent = encode_group(group, symbols)
    clean = awgn(sent.symbols, 8.0, np.random.default_rng(1))
    lost = np.repeat(np.random.default_rng(2).permutation(symbols // 64) % 10 == 0, 64)
    received = receive(sent, erase(clean, lost))
    found = quality(group, received)
    assert found == pytest.approx(stated_quality(received), abs=0.5)
    assert quality(group, receive(sent, clean)) - found < 2.0


def test_fading_is_predicted(group: list[Picture]) -> None:
    sent = encode_group(group, FULL // 8)
    faded = rayleigh(sent.symbols, 12.0, 50, np.random.default_rng(3))
    received = receive(sent, lose_packets(faded, 100, 0.05, np.random.default_rng(4)))
    assert quality(group, received) == pytest.approx(stated_quality(received), abs=0.5)


def test_losses_without_noise_are_survived(group: list[Picture]) -> None:
    sent = encode_group(group, FULL)
    lost = np.arange(FULL) % 640 < 64
    received = receive(sent, erase(perfect(sent), lost))
    assert quality(group, received) > 40
    assert quality(group, received) == pytest.approx(stated_quality(received), abs=1.0)


def test_the_means_alone_make_a_picture(group: list[Picture]) -> None:
    sent = encode_group(group, FULL // 8)
    received = receive(sent, erase(perfect(sent), np.ones(FULL // 8, bool)))
    assert quality(group, received) > 15
    assert quality(group, received) == pytest.approx(stated_quality(received), abs=1.0)


def check_calibration(pictures: list[Picture], received: AnalogPictures) -> None:
    """Stated variance against squared error: over all luma, and in its quieter and busier blocks."""
    error, stated = (
        plane.reshape(len(pictures), SIDE // 8, 8, SIDE // 8, 8).mean(axis=(2, 4)).ravel()
        for plane in (squared_error(pictures, received)[0], received.variance[0])
    )
    assert error.mean() == pytest.approx(stated.mean(), rel=0.2)
    order = np.argsort(stated)
    for half in np.array_split(order, 2):
        assert 0.6 < error[half].mean() / stated[half].mean() < 1.6


@pytest.mark.parametrize("snr_db", [2.0, 12.0, 20.0])
@pytest.mark.parametrize("symbols", [FULL // 2, FULL // 16])
def test_the_variance_is_calibrated(group: list[Picture], symbols: int, snr_db: float) -> None:
    check_calibration(group, over_awgn(encode_group(group, symbols), snr_db))


@pytest.mark.parametrize("name", ["d01_selfie", "d05_juggle", "d11_street_parade"])
def test_the_variance_is_calibrated_on_clips(name: str, dev_clip: Callable[[str], Path]) -> None:
    pictures = [downsample(p, 4) for p in read_clip(dev_clip(name), (512, 512), 4).pictures]
    for symbols in (FULL // 4, FULL // 16):
        for snr_db in (5.0, 15.0):
            check_calibration(pictures, over_awgn(encode_group(pictures, symbols), snr_db))


def test_busy_places_expect_more_error_than_quiet_ones_when_detail_is_left_out() -> None:
    y = np.full((64, 64), 120, np.uint8)
    y[:, 32:] = np.random.default_rng(5).integers(60, 190, (64, 32))
    flat = np.full((32, 32), 128, np.uint8)
    sent = encode_group([Picture(y, flat, flat)] * 2, 600)
    variance = over_awgn(sent, 15.0).variance[0]
    assert variance[:, :, 48:].mean() > 3 * variance[:, :, :16].mean()


def test_metadata_are_small(group: list[Picture]) -> None:
    sizes = [len(encode_group(group, FULL >> k).metadata) for k in (0, 2, 4)]
    assert sizes[0] < 500
    assert sizes[1] < 300
    assert sizes[2] < 180


def test_the_same_pictures_give_the_same_bytes(group: list[Picture]) -> None:
    first, second = (encode_group(group, 1000) for _ in range(2))
    assert first.metadata == second.metadata
    assert np.array_equal(first.symbols, second.symbols)


def test_black_pictures_cost_no_power_and_come_back() -> None:
    sent = encode_group([flat_picture(0)] * 4, 100)
    assert np.abs(sent.symbols).max() < 1e-6
    received = over_awgn(sent, 0.0)
    assert mean_of(squared_error([flat_picture(0)] * 4, received)) == 0.0


@pytest.mark.parametrize(("height", "width"), [(2, 2), (2, 50), (34, 6), (30, 46)])
def test_odd_sizes_and_single_pictures_come_back(height: int, width: int) -> None:
    pictures = random_pictures(1, height, width, seed=9)
    sent = encode_group(pictures, height * width)
    assert mean_of(squared_error(pictures, receive(sent, perfect(sent)))) == 0.0


def test_one_symbol_is_enough() -> None:
    pictures = random_pictures(3, 16, 16, seed=4)
    received = over_awgn(encode_group(pictures, 1), 10.0)
    assert quality(pictures, received) > 10


def test_symbols_of_another_group_are_refused(group: list[Picture]) -> None:
    sent = encode_group(group, 60)
    with pytest.raises(BitstreamError, match="59 symbols arrived for a group of 60"):
        decode_group(sent.symbols[:59], np.ones(59), sent.metadata)


def test_impossible_groups_are_refused(group: list[Picture]) -> None:
    small = flat_picture(0)
    for pictures, symbols, message in [
        ([], 10, "no pictures"),
        ([small] * 9, 10, "1 to 8"),
        ([small, flat_picture(0, 16)], 10, "different sizes"),
        ([flat_picture(0, 33, 32)], 10, "even sides"),
        ([flat_picture(0, 2048, 2048)], 10, "fewer or smaller"),
        ([small], 0, "channel uses"),
    ]:
        with pytest.raises(UsageError, match=message):
            encode_group(pictures, symbols)
    with pytest.raises(UsageError, match="corner"):
        encode_group([small], 10, corner=3)

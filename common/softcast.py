"""The analog layer: pictures as complex symbols whose noise is the picture's noise, without a cliff.

    pictures -> 3D DCT -> means told digitally -> power by variance -> mixing -> symbols     ~ channel ~
    pictures, variance <- inverse DCT <- linear MMSE of the coefficients <- symbols, noise variances

SoftCast (Jakubczak and Katabi, MobiCom 2011): a coefficient is never quantised, it is sent as an amplitude, so the
picture is as good as the channel happens to be for each receiver. What must arrive whole (`metadata`, some ten to
some hundred bytes) is for the digital, protected path. With fewer channel uses than coefficients the weakest are
left out; see `common.softcast_power` for the power and for more uses than coefficients.

The receiver says how wrong it expects to be: channel noise spreads evenly over a picture (the transform is
orthonormal), what was left out lies where the picture is busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from common.errors import BitstreamError, UsageError
from common.softcast_layout import Floats, Planes, Shape, chunk_of, join, split
from common.softcast_metadata import CORNERS, MAX_SYMBOLS, Metadata, pack_metadata, parse_metadata, scale_code
from common.softcast_numbers import IntPlanes
from common.softcast_plan import choose_levels, choose_step, lost_codes, quantise_means
from common.softcast_power import estimate, mix, send_order
from common.softcast_variance import sample_variance
from common.types import Picture

Symbols = NDArray[np.complex64]

CORNER = 8
"""Coefficients a side whose means are told: 0.3 to 1.2 dB better at 0 dB than only the lowest, 0 to 1 dB at 10 dB,
with a channel use paid for every bit of metadata (four clips, 128x128, 8 to 1/2 uses a luma sample)."""
_MIDDLE = 128.0


@dataclass(frozen=True, slots=True, eq=False)
class AnalogGroup:
    """A group ready to be sent.

    symbols : [k] complex64, mean power one (a little less by rounding; nothing where all pictures are alike and flat)
    metadata : bytes for the digital, protected path
    """

    symbols: Symbols
    metadata: bytes


@dataclass(frozen=True, slots=True, eq=False)
class AnalogPictures:
    """A group as received.

    pictures : its pictures
    variance : expected squared error of every sample of Y, U and V, [T, H, W] float64 each
    """

    pictures: tuple[Picture, ...]
    variance: Planes


def encode_group(pictures: Sequence[Picture], symbols: int, corner: int = CORNER) -> AnalogGroup:
    """Pictures of one size as exactly `symbols` channel uses.

    pictures : 1 to 8, any even size, at most 2**22 samples together
    symbols : complex channel uses, 1 to 2**22
    corner : 1, 4, 8 or 16; with 1 only the means of whole pictures are told, as in SoftCast
    """
    shape = _shape_of(pictures)
    _check(symbols, corner)
    planes = _forward(pictures)
    step_log2 = choose_step(planes, symbols, shape)
    means = quantise_means(planes, step_log2, corner)
    _add_means(planes, means, step_log2, -1)
    floor, levels = choose_levels(planes, means, step_log2, symbols)
    plan = Metadata(shape, symbols, corner, step_log2, means, floor, levels, 0, (0, 0, 0))
    values = join(planes)
    order, prior = _sending(plan)
    scaled = values[order] * prior**-0.25
    power = float(scaled @ scaled)
    scale = scale_code(np.sqrt(symbols / power)) if power else 0
    metadata = replace(plan, scale=scale, lost=lost_codes(values, order, shape))
    return AnalogGroup(mix(scaled * metadata.gain, symbols), pack_metadata(metadata))


def decode_group(symbols: Symbols, noise: Floats, metadata: bytes) -> AnalogPictures:
    """Pictures from what arrived, and how wrong they are expected to be.

    symbols : [k] after equalisation; anything where `noise` is infinite
    noise : [k] noise variance per real dimension, infinite where lost
    Raises BitstreamError when the metadata are damaged or belong to another number of symbols.
    """
    plan = parse_metadata(metadata)
    if symbols.shape != (plan.symbols,) or noise.shape != symbols.shape:
        raise BitstreamError(f"{symbols.size} symbols arrived for a group of {plan.symbols}")
    order, prior = _sending(plan)
    gain = plan.gain * prior**-0.25
    found = estimate(symbols, noise, gain**2 * prior, gain)
    values = np.zeros(plan.shape.coefficients)
    values[order] = found.values
    planes = split(values, plan.shape)
    _add_means(planes, plan.means, plan.step_log2, 1)
    samples = _inverse(planes)
    variance = sample_variance(plan, order, found.variance, prior, samples)
    return AnalogPictures(_pictures(samples), variance)


def _check(symbols: int, corner: int) -> None:
    if not 1 <= symbols <= MAX_SYMBOLS:
        raise UsageError(f"an analog group takes 1 to {MAX_SYMBOLS} channel uses, not {symbols}")
    if corner not in CORNERS:
        raise UsageError(f"the corner has {', '.join(map(str, CORNERS))} coefficients a side, not {corner}")


def _sending(plan: Metadata) -> tuple[NDArray[np.intp], Floats]:
    """What is sent, in its order, and the variance of each: both ends know it from the metadata."""
    levels = join(plan.levels)[chunk_of(plan.shape)]
    order = send_order(levels, 2 * plan.symbols)
    return order, plan.variance(levels[order])


def _add_means(planes: Planes, means: IntPlanes, step_log2: int, sign: int) -> None:
    """Put the told means into fresh coefficients, or take them out."""
    for plane, mean in zip(planes, means, strict=True):
        plane[:, : mean.shape[1], : mean.shape[2]] += sign * np.ldexp(mean.astype(np.float64), step_log2)


def _shape_of(pictures: Sequence[Picture]) -> Shape:
    if not pictures:
        raise UsageError("an analog group has no pictures")
    first = pictures[0]
    if any((p.width, p.height) != (first.width, first.height) for p in pictures):
        raise UsageError("the pictures of an analog group have different sizes")
    return Shape(len(pictures), first.width, first.height)


def _forward(pictures: Sequence[Picture]) -> Planes:
    """3D DCT of each plane about the middle grey, orthonormal."""
    stacks = (np.stack(planes) - _MIDDLE for planes in zip(*(p.planes for p in pictures), strict=True))
    y, u, v = (fft.dctn(stack, norm="ortho", overwrite_x=True) for stack in stacks)
    return y, u, v


def _inverse(planes: Planes) -> Planes:
    y, u, v = (fft.idctn(plane, norm="ortho", overwrite_x=True) + _MIDDLE for plane in planes)
    return y, u, v


def _pictures(samples: Planes) -> tuple[Picture, ...]:
    planes = [np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in samples]
    return tuple(Picture(y, u, v) for y, u, v in zip(*planes, strict=True))

"""From what the receiver holds for a frame to the tensors of the network.

    Composition, FrameFacts, previous picture --observe--> Observation (bytes) --assemble--> Conditions

A picture becomes six channels at half its size: four luma phases and two chroma planes. This keeps 4:2:0
as it is (no colour conversion, half the values of RGB) and puts all planes on one grid. A sample s stands
for (s - 128) / 128. Channels lie last in memory, which CPU convolutions want and which costs nothing here.
Training stores observations, so that it assembles exactly what the receiver does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from common.types import Picture

if TYPE_CHECKING:  # with their libraries, which training on a bare machine does without
    from common.state import Composition, SceneState

PICTURE_CHANNELS = 6
LUMA_PHASES = 4
CONDITION_CHANNELS = 4 * PICTURE_CHANNELS + 2
"""Base, warped anchor, guide, previous output; trust; where residual was received."""
SCALARS = 6
"""Guide scale, guide quantiser, anchor age, freshness, anchor present, previous output present."""
HAS_PREVIOUS = 5
"""Place of the last of them."""
_BASE, GUIDE, _PREVIOUS = slice(0, 6), slice(12, 18), slice(18, 24)
"""Places of pictures in the stem."""

UNITS = 128.0
"""Samples per unit of the network's range; also the sample that stands for 0."""

DEAF = 32.0
"""Analog noise at which the freshness is 0, sample steps."""

_OLD_ANCHOR_S = 64.0
"""Anchor age at which its scalar reaches 1 (logarithmic)."""

Packed = NDArray[np.uint8]
"""A picture as [H/2,W/2,6] uint8."""


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """Numbers that go with a composition.

    slot : running number of the frame; seeds the noise
    guide_scale : 1, 2, 4 or 8
    guide_q : quantiser index of the guide, 0 (best)..255
    anchor_age_s : seconds since the frame that the anchor shows
    freshness : 1 = state of this very frame, 0 = stale or concealed; analog noise lowers it (`DEAF`)
    shows : the frame that the guide shows; due : the frame at whose time the picture is shown
    The last two are for the uncertainty alone.
    spared : the sender has just ended sharpening, see `SceneState`
    """

    slot: int = 0
    guide_scale: int = 1
    guide_q: int = 128
    anchor_age_s: float = 0.0
    freshness: float = 1.0
    shows: int = 0
    due: int = 0
    spared: bool = False

    @classmethod
    def of(cls, state: SceneState, freshness: float = 1.0, due: int | None = None) -> Self:
        """What follows from a state. due : by default its own frame"""
        age_s = (state.slot - state.anchor.slot) / float(state.config.frame_rate) if state.anchor else 0.0
        return cls(
            state.slot, state.scale, 4 * state.quality, age_s, freshness, state.guide_slot,
            state.slot if due is None else due, state.spared,
        )  # fmt: skip


class Observation(NamedTuple):
    """A batch of frames as bytes, before any arithmetic.

    base, warped, guide, previous : [N,H/2,W/2,6] uint8; an absent warped or previous repeats the base
    trust : [N,H/8,W/8] uint8, how far the warped anchor is believed
    received : [N,H/16,W/16] uint8, 1 where residual was received
    labels : [N,H/16,W/16] uint8, 0..20
    scalars : [N,6] float32, about 0..1, from `scalars_of`
    """

    base: Tensor
    warped: Tensor
    guide: Tensor
    previous: Tensor
    trust: Tensor
    received: Tensor
    labels: Tensor
    scalars: Tensor


class Conditions(NamedTuple):
    """What the network is given besides z and t.

    Maps repeat their value for all six channels: on a CPU, equal shapes are up to ten times faster than
    broadcasting a single channel when channels lie last.

    stem : [N,26,H/2,W/2], all pictures and maps, in samples minus 128 (see TinyBridge.embed)
    base : [N,6,H/2,W/2] base picture, -1..1
    contrast : [N,6,H/2,W/2] warped anchor minus guide, -2..2
    trust : [N,6,H/2,W/2], 0..1; the share of the warped anchor from which the gate starts
    unreliability : [N,6,H/2,W/2] u, 0..1; how much noise the bridge starts from
    received : [N,6,H/2,W/2], 0 or 1
    labels : [N,H/16,W/16] int64, 0..20
    scalars : [N,6], each about 0..1
    """

    stem: Tensor
    base: Tensor
    contrast: Tensor
    trust: Tensor
    unreliability: Tensor
    received: Tensor
    labels: Tensor
    scalars: Tensor


def pack(picture: Picture) -> Packed:
    """Picture -> [H/2,W/2,6]: luma of rows 0 and 1, columns 0 and 1 of every 2x2 block, then U and V."""
    height, width = picture.u.shape
    packed = np.empty((height, width, PICTURE_CHANNELS), np.uint8)
    # Luma columns 2c and 2c+1 are neighbours on both sides, so they are moved as one 16-bit word.
    words, luma = packed.view(np.uint16), np.ascontiguousarray(picture.y).view(np.uint16)
    words[..., 0], words[..., 1] = luma[0::2], luma[1::2]
    packed[..., 4], packed[..., 5] = picture.u, picture.v
    return packed


def unpack(packed: Packed) -> Picture:
    """The inverse of `pack`."""
    height, width, _ = packed.shape
    y = np.empty((2 * height, 2 * width), np.uint8)
    luma, words = y.view(np.uint16), np.ascontiguousarray(packed).view(np.uint16)
    luma[0::2], luma[1::2] = words[..., 0], words[..., 1]
    return Picture(y, packed[..., 4].copy(), packed[..., 5].copy())


def to_units(packed: Tensor, dtype: torch.dtype) -> Tensor:
    """[N,h,w,C] uint8 -> [N,C,h,w] in -1..1, channels last."""
    return packed.permute(0, 3, 1, 2).to(dtype).sub_(UNITS).mul_(1 / UNITS)


def to_samples(x: Tensor) -> Tensor:
    """[N,C,h,w] in -1..1 -> [N,h,w,C] uint8, rounded and clipped."""
    return (x.permute(0, 2, 3, 1).float() * UNITS).add_(UNITS + 0.5).clamp_(0.0, 255.0).to(torch.uint8)


def trust_of(composition: Composition, freshness: float) -> NDArray[np.uint8]:
    """How far the warped anchor is believed, [H/8,W/8] uint8: its reliability, halved for stale state."""
    return (composition.reliability * (0.5 + 0.5 * freshness)).astype(np.uint8)


def scalars_of(facts: FrameFacts, has_anchor: bool, has_previous: bool) -> tuple[float, ...]:
    """The six scalars of the network, each about 0..1."""
    age = math.log1p(max(0.0, facts.anchor_age_s)) / math.log1p(_OLD_ANCHOR_S) if has_anchor else 0.0
    scale = math.log2(facts.guide_scale) / 3
    return scale, facts.guide_q / 255, age, facts.freshness, float(has_anchor), float(has_previous)


def observe(composition: Composition, facts: FrameFacts, previous: Picture | None) -> Observation:
    """One frame as bytes.

    previous : the picture shown before, None after a reset
    """
    base, guide = pack(composition.base), pack(composition.guide)
    warped = base if composition.warped is None else pack(composition.warped)
    shown = base if previous is None else pack(previous)
    maps = trust_of(composition, facts.freshness), composition.residual_mask, composition.labels
    parts = [
        torch.from_numpy(np.ascontiguousarray(part))[None] for part in (base, warped, guide, shown, *maps)
    ]
    scalars = scalars_of(facts, composition.warped is not None, previous is not None)
    return Observation(*[*parts, torch.tensor([scalars])])


def assemble(observation: Observation, dtype: torch.dtype) -> Conditions:
    """Bytes -> tensors, on the device that the bytes are on."""
    trust = _enlarge(observation.trust, 4)
    received = _enlarge(observation.received, 8)
    stem = torch.cat([*observation[:4], trust[..., :1], received[..., :1] * 255], -1)
    # Subtracting 128 modulo 256 and reading the byte as signed: a pass over bytes instead of one over floats.
    stem = (stem ^ 128).view(torch.int8).permute(0, 3, 1, 2).to(dtype)
    base = to_units(observation.base, dtype)
    contrast = to_units(observation.warped, dtype).sub_(to_units(observation.guide, dtype))
    trusted = trust.permute(0, 3, 1, 2).to(dtype).mul_(1 / 255)
    arrived = received.permute(0, 3, 1, 2).to(dtype)
    severity = _severity(observation.scalars).to(dtype)[:, None, None, None]
    unreliability = (1 - trusted).mul_(1 - arrived).mul_(severity)
    labels, scalars = observation.labels.long(), observation.scalars.to(dtype)
    return Conditions(stem, base, contrast, trusted, unreliability, arrived, labels, scalars)


def known_noise(composition: Composition, reference: Tensor) -> Tensor | None:
    """Deviation of the noise that an analog link left in the base picture, in units, None where there was no such link.

    reference : [N,6,h,w], for shape, dtype and device
    """
    if composition.noise is None:
        return None
    steps = torch.from_numpy(composition.noise / np.float32(UNITS)).to(reference.device, reference.dtype)
    return _enlarge(steps[None], 4).permute(0, 3, 1, 2)


def coarser(observation: Observation, level: int) -> Observation:
    """Guide and label map with their detail below 2^level cells taken away (structure level, Gen-1)."""
    if level == 0:
        return observation
    step = 1 << level
    return observation._replace(
        guide=_pooled(observation.guide, step), labels=_repeated(observation.labels, step)
    )


def _pooled(picture: Tensor, step: int) -> Tensor:
    """[N,h,w,6] uint8 with blocks of step x step replaced by their mean."""
    x = picture.permute(0, 3, 1, 2).float()
    small = F.avg_pool2d(x, step, ceil_mode=True, count_include_pad=False)
    large = F.interpolate(small, scale_factor=step, mode="nearest")[..., : x.shape[2], : x.shape[3]]
    return large.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _repeated(cells: Tensor, step: int) -> Tensor:
    """[N,h,w] with blocks of step x step replaced by their first cell."""
    large = cells[:, ::step, ::step].repeat_interleave(step, 1).repeat_interleave(step, 2)
    return large[:, : cells.shape[1], : cells.shape[2]]


def forgetful(conditions: Conditions) -> Conditions:
    """The same frame as if nothing had been shown before: the base picture in place of the previous output."""
    stem, scalars = conditions.stem.clone(), conditions.scalars.clone()
    stem[:, _PREVIOUS] = stem[:, _BASE]
    scalars[:, HAS_PREVIOUS] = 0.0
    return conditions._replace(stem=stem, scalars=scalars)


def _enlarge(cells: Tensor, factor: int) -> Tensor:
    """[N,h,w] -> [N,h*factor,w*factor,6], each value repeated."""
    n, h, w = cells.shape
    spread = cells[:, :, None, :, None, None].expand(n, h, factor, w, factor, PICTURE_CHANNELS)
    return spread.reshape(n, h * factor, w * factor, PICTURE_CHANNELS)


def _severity(scalars: Tensor) -> Tensor:
    """How wrong the guide may be, [N] in 0..1: grows with its scale, quantiser and age."""
    scale, quantiser, freshness = scalars[:, 0], scalars[:, 1], scalars[:, 3]
    quality = (0.2 + 1.2 * scale) * (0.5 + 0.5 * quantiser)
    return torch.maximum(quality, 1 - freshness).clamp(0.0, 1.0)

"""The bridge from the base picture b to the true picture x, as pure functions.

    z_t = (1-t) x + t b + sigma(t,u) eps        sigma(t,u) = t (k_min + (k_max - k_min) u)

t = 1 is the base picture plus noise that is strong only where the base cannot be trusted; t = 0 is the
picture itself. A network predicts x from z_t; `step` moves z from t to s < t. Every prediction on the way
is a valid picture, so `sampling` may be left at any time. Nothing here remembers anything between calls.

Sources: I2SB (Liu et al. 2023) and DDBM (Zhou et al. 2023) for the bridge, DDIM (Song et al. 2020) for the
deterministic update, Video Diffusion Models (Ho et al. 2022) for reconstruction guidance.

Tensors are [N,6,H/2,W/2] in -1..1 (see `conditions`), maps are [N,6,H/2,W/2] in 0..1.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from receiver.decoder.conditions import LUMA_PHASES
from receiver.decoder.parts import Parts, Telling, telling

K_MIN = 0.01
K_MAX = 0.20
"""Noise of a fully trusted and of an untrusted sample at t=1, in units of half the sample range."""

SCHEDULES: dict[int, tuple[float, ...]] = {1: (1.0,), 2: (1.0, 0.5), 4: (1.0, 0.75, 0.5, 0.25)}
"""Times at which the network is called, by number of steps."""

REUSE_CHANGES = (0.0, 0.34, 2.11)
REUSE_UNRELIABILITIES = (0.35, 0.6)
REUSE_TIMES = ((0.25, 0.25, 0.25), (0.25, 0.25, 0.25), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
"""Switch step of denoising reuse, by change (rows) and unreliability (columns), never falling in either. On held-out
pairs all four times were equally good to a tenth of a percent of the loss; doubt made no difference that was larger."""


class Prediction(NamedTuple):
    """What the network says about the true picture.

    x : [N,6,H/2,W/2] predicted picture, -1..1
    gate : [N,6,H/2,W/2] share of the warped anchor in it, 0..1
    log_variance : [N,1,H/8,W/8] natural logarithm of the expected squared error of x
    """

    x: Tensor
    gate: Tensor
    log_variance: Tensor


class Sampled(NamedTuple):
    """Result of a run of the bridge: the newest prediction and the number of network calls behind it.

    path : every predicted picture, the newest last
    """

    prediction: Prediction
    steps_done: int
    path: tuple[Tensor, ...] = ()


def sigma(t: Tensor | float, u: Tensor) -> Tensor:
    """Noise amplitude at time t (0..1, float or [N,1,1,1]) under unreliability u."""
    return (u * (K_MAX - K_MIN) + K_MIN) * t


def noisy_enough(u: Tensor, known: Tensor) -> Tensor:
    """Unreliability raised to where sigma(1,u) is at least `known`, noise that is in the base picture already."""
    return torch.maximum(u, ((known - K_MIN) / (K_MAX - K_MIN)).clamp(0.0, 1.0))


def topped_up(eps: Tensor, u: Tensor, known: Tensor) -> Tensor:
    """Unit noise weakened so that sigma(1,u) times it and `known`, independent of each other, make sigma(1,u) together:
    channel noise is diffusion noise, and what the channel has added the bridge need not."""
    return eps * (1 - (known / sigma(1.0, u)).square()).clamp(min=0.0).sqrt()


def diffuse(x: Tensor, b: Tensor, t: Tensor | float, u: Tensor, eps: Tensor) -> Tensor:
    """z_t for a known x: where training starts from, and `b + sigma eps` at t = 1."""
    return torch.lerp(x, b, t) + sigma(t, u) * eps


def step(z: Tensor, x_hat: Tensor, b: Tensor, t: float, s: float, u: Tensor) -> Tensor:
    """Moves z from time t to s < t, keeping the noise that the prediction x_hat implies.

    Raises ValueError unless 0 <= s < t <= 1.
    """
    if not 0.0 <= s < t <= 1.0:
        raise ValueError(f"a bridge step goes from t to s with 0 <= s < t <= 1, not from {t} to {s}")
    # sigma is linear in t, so sigma(s)/sigma(t) = s/t and no division by a small sigma is needed.
    implied_noise = z - torch.lerp(x_hat, b, t)
    return torch.lerp(x_hat, b, s) + implied_noise * (s / t)


def schedule(steps: int, start: float = 1.0) -> tuple[float, ...]:
    """Times of the network calls for 1, 2 or 4 steps, those up to the switch step `start`, at least the last; ValueError
    for another number."""
    if steps not in SCHEDULES:
        raise ValueError(f"the bridge runs in {', '.join(map(str, SCHEDULES))} steps, not {steps}")
    times = SCHEDULES[steps]
    return tuple(t for t in times if t <= start) or times[-1:]


def switch_time(change: float, u: float) -> float:
    """Where to begin when an earlier picture's run is at hand (`reuse.Path`): the switch step, 0..1.

    change : mean absolute change of the base picture since, sample steps; u : mean unreliability, 0..1
    Calibrated by `python -m training.reuse`.
    """
    row = bisect_right(REUSE_CHANGES, change)
    column = bisect_right(REUSE_UNRELIABILITIES, u)
    return REUSE_TIMES[row][column]


def blended_noise(shared: Tensor, fresh: Tensor, share: float) -> Tensor:
    """sqrt(share) shared + sqrt(1 - share) fresh: unit variance, and texture that stays where it is (WVSC-D)."""
    if share >= 1.0:
        return shared
    return math.sqrt(share) * shared + math.sqrt(1 - share) * fresh


def noise_like(reference: Tensor, seed: int, slot: int) -> Tensor:
    """Standard normal noise that depends on nothing but (seed, slot): same on every run and device.

    reference : [N,6,H/2,W/2], for shape, dtype and device
    """
    n, c, h, w = reference.shape
    sheet, places = _noise_sheet(seed, (n, h, w, c), reference.dtype, reference.device), _mix(seed, slot)
    # Moving one sheet about is ten times as fast as drawing a new one, and as good for a picture of another slot.
    moved = torch.roll(sheet, (places % h, places // h % w), (1, 2))
    return moved.permute(0, 3, 1, 2)


@lru_cache(maxsize=2)
def _noise_sheet(
    seed: int, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Standard normal [n,h,w,c] in the channels-last order of the pictures; drawn on the CPU, the same everywhere."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(_mix(seed, 0))).to(device, dtype)


def _mix(seed: int, slot: int) -> int:
    """64-bit counter hash (SplitMix64, Steele et al. 2014), so that neighbouring slots are unrelated."""
    mask = (1 << 64) - 1
    h = (seed * 0x9E3779B97F4A7C15 + slot + 1) * 0xBF58476D1CE4E5B9 & mask
    h = (h ^ (h >> 27)) * 0x94D049BB133111EB & mask
    return (h ^ (h >> 31)) >> 1


def agree_with(x: Tensor, known: Tensor, scale: int, weight: float) -> Tensor:
    """Reconstruction guidance in closed form: x + weight * Up(Down(known) - Down(x)).

    known : the upsampled guide, or the base picture
    scale : how much smaller than the picture the guide was coded (1, 2, 4, 8)
    weight : 0 leaves x alone, 1 makes the mean over every guide pixel that of `known`
    """
    if weight == 0.0:
        return x
    difference = known - x
    if scale > 1:
        difference = _means(difference, scale // 2)
    return torch.add(x, difference, alpha=weight)


def _means(x: Tensor, size: int) -> Tensor:
    """The four luma phases replaced by their mean, then blocks of size x size by theirs; sides are multiples of 8.

    One convolution with that stride, since poolings and sums over slices of channels that lie last in memory take
    several times as long.
    """
    mixing = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    mixing[:LUMA_PHASES, :LUMA_PHASES] = 1 / LUMA_PHASES
    kernel = (mixing[:, :, None, None] / size**2).expand(-1, -1, size, size)
    small = F.conv2d(x, kernel.contiguous(memory_format=torch.channels_last), stride=size)
    return small if size == 1 else F.interpolate(small, scale_factor=size, mode="nearest")


def keep_received(x: Tensor, b: Tensor, received: Tensor) -> Tensor:
    """x = b where residual was received (received = 1), x elsewhere."""
    return torch.lerp(x, b, received)


def sampling(
    predict: Callable[[Tensor, float], Parts[Prediction]],
    b: Tensor,
    u: Tensor,
    noise: Tensor,
    times: tuple[float, ...],
    refine: Callable[[Tensor], Tensor] = lambda x: x,
    known: Tensor | None = None,
) -> Telling[Sampled]:
    """Runs the bridge along `times`, in parts: yields before every network call and wherever that yields.

    predict : (z, t) -> Prediction, in parts
    times : falling, from `schedule`; from 1 unless `known` is given
    known : picture that the bridge is taken to have predicted before times[0] (denoising reuse)
    refine : applied to every predicted x (guidance, received residual)
    """
    z = diffuse(b if known is None else known, b, times[0], u, noise)
    newest: Sampled | None = None
    for done, t in enumerate(times):
        yield newest
        path = newest.path if newest is not None else ()
        if newest is not None:
            z = step(z, newest.prediction.x, b, times[done - 1], t, u)
        prediction = yield from telling(newest, predict(z, t))
        x = refine(prediction.x)
        newest = Sampled(prediction._replace(x=x), done + 1, (*path, x))
    assert newest is not None, "a schedule has at least one time"
    return newest

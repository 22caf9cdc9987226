"""What a bad channel does to the views that the decoder is trained on: `damaged`, and `remembered` for its memory.

    stale state, an anchor that is missing, wrong or not moved along, analog noise, label maps coarse or missing

A decoder that never saw a bad channel fails on the first one. The receiver mostly knows how bad things are, so the
trust and the freshness that go with the view are changed too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from receiver.decoder.conditions import DEAF, PICTURE_CHANNELS, Observation
from training.dataset import FRESHNESS, HAS_ANCHOR, Batch, with_previous, without_anchor

LOUDEST = 24.0
"""Most analog noise, standard deviation in sample steps."""

_FAR = 4
"""Furthest that an anchor without motion lies off, in pairs of samples."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Damage:
    """Share of the examples that is damaged in each way.

    stale : the earlier frame's state in place of this one's
    drop_anchor : no anchor has arrived; drop_labels : no label map; coarse_labels : one label for 2x2 or 4x4 cells
    noise : analog noise on the guide, and so on the base picture
    wrong_anchor : an anchor of another scene, as after a cut; `believed` of these are trusted as if it were right
    still_anchor : an anchor whose motion is missing, some samples away from its place
    forgotten, confused : nothing is remembered; a picture of another scene is
    """

    stale: float = 0.06
    drop_anchor: float = 0.12
    drop_labels: float = 0.25
    coarse_labels: float = 0.05
    noise: float = 0.05
    wrong_anchor: float = 0.04
    believed: float = 0.25
    still_anchor: float = 0.05
    forgotten: float = 0.15
    confused: float = 0.08


GUIDE_ONLY = Damage(
    stale=0.0, drop_anchor=1.0, drop_labels=1.0, coarse_labels=0.0, noise=0.0, wrong_anchor=0.0, still_anchor=0.0,
    forgotten=1.0, confused=0.0,
)  # fmt: skip
"""Nothing but the guide ever arrives: what is trained on this is a plain super-resolution of it, the peer of equal
compute in `semcast bench rd`."""


def damaged(batch: Batch, damage: Damage, rng: np.random.Generator) -> Batch:
    """The batch as it comes out of a bad channel; the truth stays."""
    count, device = len(batch.truth_later), batch.truth_later.device

    def chosen(share: float) -> Mask:
        return np.asarray(rng.random(count) < share)

    later = _stale(batch.later, batch.earlier, chosen(damage.stale))
    later = wrong_anchor(later, chosen(damage.wrong_anchor), chosen(damage.believed))
    later = still_anchor(later, chosen(damage.still_anchor), rng)
    noise, no_anchor = chosen(damage.noise), torch.from_numpy(chosen(damage.drop_anchor)).to(device)
    earlier, later = (without_anchor(noisy(view, noise, rng), no_anchor) for view in (batch.earlier, later))
    later = coarse_labels(later, chosen(damage.coarse_labels), int(rng.choice((2, 4))))
    labels = later.labels * torch.from_numpy(~chosen(damage.drop_labels)).to(device)[:, None, None]
    earlier, later = (view._replace(previous=view.base) for view in (earlier, later._replace(labels=labels)))
    return Batch(earlier, later, batch.truth_earlier, batch.truth_later)


def remembered(view: Observation, shown: Tensor, damage: Damage, rng: np.random.Generator) -> Observation:
    """The view with what was shown before: mostly right, at times nothing or another scene."""
    confused = torch.from_numpy(rng.random(len(shown)) < damage.confused).to(shown.device)
    present = torch.from_numpy(rng.random(len(shown)) >= damage.forgotten).to(shown.device)
    mixed = torch.where(confused[:, None, None, None], shown.roll(1, 0), shown)
    return with_previous(view, mixed, present)


def wrong_anchor(view: Observation, which: Mask, believed: Mask) -> Observation:
    """The anchor of the next example in the batch: hardly trusted, or, where believed, as the right one was."""
    if not which.any():
        return view
    trusted = torch.from_numpy(believed).to(view.trust.device)[:, None, None]
    return _replaced(view, which, view.warped.roll(1, 0), torch.where(trusted, view.trust, view.trust // 8))


def still_anchor(view: Observation, which: Mask, rng: np.random.Generator) -> Observation:
    """The anchor up to 8 samples off its place, and half as trusted."""
    if not which.any():
        return view
    moved = view.warped
    for axis, shift in zip((1, 2), rng.choice((-1, 1), 2) * rng.integers(1, _FAR + 1, 2), strict=True):
        places = torch.arange(moved.shape[axis], device=moved.device) - int(shift)
        moved = moved.index_select(axis, places.clamp(0, moved.shape[axis] - 1))
    return _replaced(view, which, moved, view.trust // 2)


def noisy(view: Observation, which: Mask, rng: np.random.Generator) -> Observation:
    """Gaussian noise on the guide, 2 to `LOUDEST` sample steps; the freshness says how much, the trust follows."""
    if not which.any():
        return view
    device = view.guide.device
    steps = torch.from_numpy(np.where(which, rng.uniform(2.0, LOUDEST, len(which)), 0.0)).float().to(device)
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**31)))
    noise = torch.randn(view.guide.shape, generator=generator, device=device) * steps[:, None, None, None]
    before, scalars = view.scalars[:, FRESHNESS], view.scalars.clone()
    after = before * (1 - steps / DEAF)
    scalars[:, FRESHNESS] = after
    base = _bytes(view.base + noise * (1 - _spread(view.trust)))
    has_anchor = (scalars[:, HAS_ANCHOR] > 0)[:, None, None, None]
    return view._replace(
        base=base,
        warped=torch.where(has_anchor, view.warped, base),
        guide=_bytes(view.guide + noise),
        trust=(view.trust * ((1 + after) / (1 + before))[:, None, None]).to(torch.uint8),
        scalars=scalars,
    )


def coarse_labels(view: Observation, which: Mask, cells: int) -> Observation:
    """One label for cells x cells of the map."""
    if not which.any():
        return view
    rows, columns = (
        torch.arange(n, device=view.labels.device) // cells * cells for n in view.labels.shape[1:]
    )
    blurred = view.labels[:, rows][:, :, columns]
    chosen = torch.from_numpy(which).to(blurred.device)[:, None, None]
    return view._replace(labels=torch.where(chosen, blurred, view.labels))


def _stale(view: Observation, earlier: Observation, which: Mask) -> Observation:
    scalars = earlier.scalars.clone()
    scalars[:, FRESHNESS] = 0.0
    old = earlier._replace(scalars=scalars, trust=earlier.trust // 2)
    chosen = torch.from_numpy(which).to(view.base.device)
    parts = (torch.where(chosen.view(-1, *[1] * (x.ndim - 1)), x, y) for x, y in zip(old, view, strict=True))
    return Observation(*parts)


def _replaced(view: Observation, which: Mask, warped: Tensor, trust: Tensor) -> Observation:
    """Another anchor with its trust, where one is there; the base is guide + trust (anchor - guide) + residual."""
    chosen = torch.from_numpy(which).to(warped.device) & (view.scalars[:, HAS_ANCHOR] > 0)
    trust = torch.where(chosen[:, None, None], trust, view.trust)
    warped = torch.where(chosen[:, None, None, None], warped, view.warped)
    guide = view.guide.float()
    change = _spread(trust) * (warped - guide) - _spread(view.trust) * (view.warped - guide)
    return view._replace(base=_bytes(view.base + change), warped=warped, trust=trust)


def _spread(trust: Tensor) -> Tensor:
    """[N,H/8,W/8] uint8 -> [N,H/2,W/2,6] float32 in 0..1."""
    wide = trust.repeat_interleave(4, 1).repeat_interleave(4, 2)
    return (wide / 255)[..., None].expand(-1, -1, -1, PICTURE_CHANNELS)


def _bytes(samples: Tensor) -> Tensor:
    return samples.round().clamp(0, 255).to(torch.uint8)

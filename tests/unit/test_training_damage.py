"""Every damage changes what it should in the examples it is asked to, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from receiver.decoder.conditions import Observation
from training.damage import (
    GUIDE_ONLY,
    Damage,
    coarse_labels,
    damaged,
    noisy,
    remembered,
    still_anchor,
    wrong_anchor,
)
from training.dataset import FRESHNESS, HAS_ANCHOR, HAS_PREVIOUS, Batch

COUNT, SIDE = 3, 64
FIRST = np.array([True, False, False])
NONE = Damage(*[0.0] * 10)


def view(seed: int, anchored: bool = True) -> Observation:
    """Random pictures whose base is what guide, anchor and trust give."""
    rng = np.random.default_rng(seed)

    def picture() -> torch.Tensor:
        return torch.from_numpy(rng.integers(40, 216, (COUNT, SIDE // 2, SIDE // 2, 6)).astype(np.uint8))

    guide, warped = picture(), picture()
    trust = torch.from_numpy(rng.integers(0, 256, (COUNT, SIDE // 8, SIDE // 8)).astype(np.uint8))
    base = mixed(guide, warped, trust) if anchored else guide
    labels = torch.from_numpy(rng.integers(0, 21, (COUNT, SIDE // 16, SIDE // 16)).astype(np.uint8))
    scalars = torch.tensor([[0.3, 0.5, 0.1, 1.0, float(anchored), 0.0]]).repeat(COUNT, 1)
    return Observation(
        base, warped if anchored else base, guide, base,
        trust if anchored else trust * 0, labels * 0, labels, scalars,
    )  # fmt: skip


def mixed(guide: torch.Tensor, warped: torch.Tensor, trust: torch.Tensor) -> torch.Tensor:
    share = (trust / 255).repeat_interleave(4, 1).repeat_interleave(4, 2)[..., None]
    return (guide + share * (warped.float() - guide)).round().to(torch.uint8)


def follows(found: Observation) -> None:
    """The base is what guide, anchor and trust give, but for rounding."""
    wanted = mixed(found.guide, found.warped, found.trust)
    assert int((found.base.int() - wanted).abs().max()) <= 1


def untouched(found: Observation, before: Observation, rows: slice) -> None:
    for after, was in zip(found, before, strict=True):
        assert torch.equal(after[rows], was[rows])


def test_a_wrong_anchor_is_another_scene_and_the_base_follows() -> None:
    before = view(0)
    found = wrong_anchor(before, FIRST, believed=~FIRST)
    assert torch.equal(found.warped[0], before.warped[2])
    assert torch.equal(found.trust[0], before.trust[0] // 8)
    follows(found)
    untouched(found, before, slice(1, None))
    believed = wrong_anchor(before, FIRST, believed=FIRST)
    assert torch.equal(believed.trust, before.trust)
    follows(believed)


def test_an_anchor_without_motion_lies_beside_its_place() -> None:
    before = view(1)
    found = still_anchor(before, FIRST, np.random.default_rng(0))
    gap = found.warped[0].int() - before.warped[0]
    assert int(gap.abs().max()) > 0
    offsets = [(dy, dx) for dy in range(-4, 5) for dx in range(-4, 5) if dy and dx]
    middle = slice(8, -8)
    same = [
        torch.equal(
            found.warped[0][middle, middle], torch.roll(before.warped[0], offset, (0, 1))[middle, middle]
        )
        for offset in offsets
    ]
    assert sum(same) == 1
    assert torch.equal(found.trust[0], before.trust[0] // 2)
    follows(found)
    untouched(found, before, slice(1, None))


@pytest.mark.parametrize("change", [wrong_anchor, still_anchor])
def test_where_no_anchor_is_there_is_none_to_be_wrong(change: object) -> None:
    before = view(2, anchored=False)
    if change is wrong_anchor:
        found = wrong_anchor(before, ~FIRST | FIRST, FIRST)
    else:
        found = still_anchor(before, ~FIRST | FIRST, np.random.default_rng(0))
    untouched(found, before, slice(None))


def test_noise_is_on_guide_and_base_and_is_told() -> None:
    before = view(3)
    found = noisy(before, FIRST, np.random.default_rng(0))
    steps = float((found.guide[0].float() - before.guide[0]).std())
    assert 2 <= steps <= 24
    assert float(found.scalars[0, FRESHNESS]) == pytest.approx(1 - steps / 32, abs=0.05)
    assert torch.equal(found.warped, before.warped)
    assert bool((found.trust[0] <= before.trust[0]).all()) and int(found.trust[0].sum()) < int(
        before.trust[0].sum()
    )
    gain = (found.base[0].float() - before.base[0]).std() / steps
    assert 0.2 < float(gain) < 0.9
    untouched(found, before, slice(1, None))


def test_noise_without_an_anchor_leaves_base_and_anchor_equal() -> None:
    found = noisy(view(4, anchored=False), FIRST, np.random.default_rng(0))
    assert torch.equal(found.warped, found.base) and torch.equal(found.guide, found.base)


def test_coarse_labels_repeat_one_of_each_block() -> None:
    before = view(5)
    found = coarse_labels(before, FIRST, 2)
    wanted = before.labels[0, ::2, ::2].repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(found.labels[0], wanted)
    untouched(found, before, slice(1, None))


@pytest.mark.parametrize(
    "name", ["stale", "drop_anchor", "drop_labels", "coarse_labels", "noise", "wrong_anchor", "still_anchor"]
)
def test_every_switch_works_alone(name: str) -> None:
    batch = Batch(view(6), view(7), view(8).guide, view(9).guide)
    found = damaged(batch, Damage(**{**{f: 0.0 for f in Damage.__dataclass_fields__}, name: 1.0}), _rng())
    later, was = found.later, batch.later
    assert torch.equal(found.truth_later, batch.truth_later)
    match name:
        case "stale":
            assert (
                torch.equal(later.base, batch.earlier.base) and float(later.scalars[:, FRESHNESS].max()) == 0
            )
        case "drop_anchor":
            assert torch.equal(later.base, was.guide) and float(later.scalars[:, HAS_ANCHOR].max()) == 0
        case "drop_labels":
            assert int(later.labels.max()) == 0
        case "coarse_labels":
            assert not torch.equal(later.labels, was.labels)
        case _:
            assert not torch.equal(later.base, was.base) and torch.equal(later.labels, was.labels)


def test_without_damage_the_batch_stays_and_previous_repeats_the_base() -> None:
    batch = Batch(view(6), view(7), view(8).guide, view(9).guide)
    found = damaged(batch, NONE, _rng())
    untouched(found.later, batch.later, slice(None))
    untouched(found.earlier, batch.earlier, slice(None))


def test_memory_is_right_missing_or_of_another_scene() -> None:
    scene, shown = view(10), view(11).guide
    kept = remembered(scene, shown, NONE, _rng())
    assert torch.equal(kept.previous, shown) and float(kept.scalars[:, HAS_PREVIOUS].min()) == 1
    gone = remembered(scene, shown, Damage(forgotten=1.0), _rng())
    assert torch.equal(gone.previous, scene.base) and float(gone.scalars[:, HAS_PREVIOUS].max()) == 0
    mixed_up = remembered(scene, shown, Damage(forgotten=0.0, confused=1.0), _rng())
    assert torch.equal(mixed_up.previous, shown.roll(1, 0))


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_nothing_but_the_guide_is_left_for_the_peer() -> None:
    before, truth = view(2), torch.zeros(COUNT, SIDE // 2, SIDE // 2, 6, dtype=torch.uint8)
    batch = damaged(Batch(view(1), before, truth, truth), GUIDE_ONLY, np.random.default_rng(0))
    found = remembered(batch.later, before.warped, GUIDE_ONLY, np.random.default_rng(0))
    for picture in (found.base, found.warped, found.guide, found.previous):
        assert torch.equal(picture, before.guide)
    assert not found.trust.any() and not found.received.any() and not found.labels.any()
    assert not found.scalars[:, [HAS_ANCHOR, HAS_PREVIOUS]].any()

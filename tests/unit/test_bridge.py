"""The bridge is exact where it can be, stops where it is told to, and repeats itself bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from receiver.decoder import bridge
from receiver.decoder.bridge import Prediction, Sampled
from receiver.decoder.parts import Parts, advanced
from receiver.decoder.reuse import Path

SHAPE = (1, 6, 16, 24)
unit = st.floats(0.0, 1.0, width=32)


def pictures(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Truth, base and unreliability."""
    generator = torch.Generator().manual_seed(seed)
    x, b, u = (torch.rand(SHAPE, generator=generator) for _ in range(3))
    return 2 * x - 1, 2 * b - 1, u


def predicting(x: Tensor) -> Prediction:
    return Prediction(x, torch.zeros_like(x), torch.zeros(1, 1, 4, 6))


def run(
    predict: Callable[[Tensor, float], Prediction],
    b: Tensor,
    u: Tensor,
    noise: Tensor,
    times: tuple[float, ...],
    should_stop: Callable[[], bool],
    refine: Callable[[Tensor], Tensor] = lambda x: x,
    known: Tensor | None = None,
) -> Sampled | None:
    """`bridge.sampling` with a network whose call is one part, until `should_stop` says so."""

    def call(z: Tensor, t: float) -> Parts[Prediction]:
        yield from ()
        return predict(z, t)

    return advanced(bridge.sampling(call, b, u, noise, times, refine, known), should_stop)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_network_that_knows_the_truth_gives_the_truth(steps: int) -> None:
    x, b, u = pictures()
    sampled = run(
        lambda z, t: predicting(x), b, u, bridge.noise_like(b, 1, 2), bridge.schedule(steps), lambda: False
    )
    assert sampled is not None and sampled.steps_done == steps
    assert torch.equal(sampled.prediction.x, x)


@given(s=st.floats(0.0, 0.9), gap=st.floats(0.05, 1.0))
def test_a_step_with_the_truth_stays_on_the_bridge(s: float, gap: float) -> None:
    x, b, u = pictures()
    t = min(1.0, s + gap)
    eps = bridge.noise_like(b, 3, 4)
    stepped = bridge.step(bridge.diffuse(x, b, t, u, eps), x, b, t, s, u)
    torch.testing.assert_close(stepped, bridge.diffuse(x, b, s, u, eps), atol=1e-5, rtol=0)


def test_one_step_is_the_prediction_at_the_noisy_base() -> None:
    _, b, u = pictures()
    noise = bridge.noise_like(b, 5, 6)
    seen: list[tuple[Tensor, float]] = []

    def predict(z: Tensor, t: float) -> Prediction:
        seen.append((z, t))
        return predicting(z * 0.5)

    sampled = run(predict, b, u, noise, bridge.schedule(1), lambda: False)
    assert sampled is not None and len(seen) == 1 and seen[0][1] == 1.0
    torch.testing.assert_close(seen[0][0], b + bridge.sigma(1.0, u) * noise)
    assert torch.equal(sampled.prediction.x, seen[0][0] * 0.5)


def test_noise_is_strong_only_where_the_base_is_not_trusted() -> None:
    assert float(bridge.sigma(1.0, torch.zeros(1))) == pytest.approx(bridge.K_MIN)
    assert float(bridge.sigma(0.5, torch.ones(1))) == pytest.approx(bridge.K_MAX / 2)
    assert float(bridge.sigma(0.0, torch.ones(1))) == 0.0


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_schedules_fall_from_one(steps: int) -> None:
    times = bridge.schedule(steps)
    assert len(times) == steps and times[0] == 1.0
    assert all(0 < later < earlier for earlier, later in pairwise(times))


@pytest.mark.parametrize("steps", [0, 3, 8])
def test_other_numbers_of_steps_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="1, 2, 4 steps"):
        bridge.schedule(steps)


@pytest.mark.parametrize(("t", "s"), [(0.5, 0.5), (0.5, 0.7), (1.1, 0.5), (0.5, -0.1)])
def test_time_runs_down(t: float, s: float) -> None:
    x, b, u = pictures()
    with pytest.raises(ValueError, match="0 <= s < t <= 1"):
        bridge.step(b, x, b, t, s, u)


def test_noise_depends_on_seed_and_slot_only() -> None:
    b = torch.zeros(SHAPE)
    first = bridge.noise_like(b, 7, 8)
    torch.manual_seed(99)
    assert torch.equal(first, bridge.noise_like(b, 7, 8))
    others = [bridge.noise_like(b, seed, slot) for seed, slot in ((7, 9), (8, 7), (8, 8))]
    assert all(not torch.equal(first, other) for other in others)
    assert abs(float(first.mean())) < 0.1 and abs(float(first.std()) - 1) < 0.1


@pytest.mark.parametrize("allowed", [0, 1, 2, 3])
def test_stopping_returns_the_newest_prediction(allowed: int) -> None:
    x, b, u = pictures()
    answers = iter([False] * allowed + [True] * 9)
    made: list[Tensor] = []

    def predict(z: Tensor, t: float) -> Prediction:
        made.append(x * t)
        return predicting(made[-1])

    sampled = run(predict, b, u, torch.zeros(SHAPE), bridge.schedule(4), lambda: next(answers))
    assert len(made) == allowed
    if allowed == 0:
        assert sampled is None
    else:
        assert sampled is not None and sampled.steps_done == allowed
        assert torch.equal(sampled.prediction.x, made[-1])


def test_what_was_received_is_kept_at_every_step() -> None:
    x, b, u = pictures()
    received = torch.zeros(SHAPE)
    received[..., :8] = 1
    sampled = run(
        lambda z, t: predicting(x), b, u, torch.zeros(SHAPE), (1.0,), lambda: False,
        lambda painted: bridge.keep_received(painted, b, received),
    )  # fmt: skip
    assert sampled is not None
    assert torch.equal(sampled.prediction.x[..., :8], b[..., :8])
    assert torch.equal(sampled.prediction.x[..., 8:], x[..., 8:])


def low_pass(x: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """What a guide of this scale sees of a packed picture: luma and chroma means."""
    y = torch.nn.functional.pixel_shuffle(x[:, :4], 2)
    return torch.nn.functional.avg_pool2d(y, scale), torch.nn.functional.avg_pool2d(x[:, 4:], scale)


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_full_guidance_makes_the_low_pass_equal_to_the_guides(scale: int) -> None:
    x, guide, _ = pictures()
    pulled = bridge.agree_with(x, guide, scale, 1.0)
    for got, wanted in zip(low_pass(pulled, scale), low_pass(guide, scale), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)
    if scale > 1:
        detail = pulled - x
        assert torch.allclose(detail[:, 0], detail[:, 3])  # all phases move together: detail is left alone


def test_no_guidance_changes_nothing() -> None:
    x, guide, _ = pictures()
    assert bridge.agree_with(x, guide, 4, 0.0) is x


# --- denoising reuse and shared noise


def test_the_switch_step_stays_in_range_and_a_new_scene_starts_afresh() -> None:
    assert [bridge.switch_time(50.0, u) for u in (0.0, 0.4, 1.0)] == [1.0, 1.0, 1.0]
    assert {t for row in bridge.REUSE_TIMES for t in row} <= set(bridge.SCHEDULES[4])
    assert len(bridge.REUSE_TIMES) == len(bridge.REUSE_CHANGES) + 1
    assert all(len(row) == len(bridge.REUSE_UNRELIABILITIES) + 1 for row in bridge.REUSE_TIMES)


@given(st.floats(0, 255), st.floats(0, 255), unit, unit)
def test_the_more_has_changed_or_is_unsure_the_sooner_it_switches(
    change: float, more: float, u: float, doubt: float
) -> None:
    now = bridge.switch_time(change, u)
    assert now <= bridge.switch_time(change + more, u)
    assert now <= bridge.switch_time(change, u + doubt)


@given(st.sampled_from((1, 2, 4)), st.floats(0, 1))
def test_reuse_leaves_out_the_first_calls_and_never_all(steps: int, start: float) -> None:
    full, times = bridge.schedule(steps), bridge.schedule(steps, start)
    assert times and times == full[-len(times) :]
    assert all(t <= start for t in times) or times == full[-1:]
    assert bridge.schedule(steps, 1.0) == full


def path_of(base: Tensor, times: tuple[float, ...] = (1.0, 0.5), by: float = 0.1) -> Path:
    """A run whose k-th prediction was brighter than the base picture by k times `by`."""
    return Path.of(base, times, tuple(base + by * (k + 1) for k in range(len(times))))


def test_a_path_gives_what_was_predicted_before_the_switch() -> None:
    _, b, _ = pictures()
    path = path_of(b)
    torch.testing.assert_close(path.before(0.75, b), b + 0.1)
    torch.testing.assert_close(path.before(0.5, b), b + 0.1)
    torch.testing.assert_close(path.before(0.25, b), b + 0.2)


def test_a_path_fades_with_change_and_is_of_one_size() -> None:
    _, b, _ = pictures()
    path = path_of(b)
    kept = [float((path.before(0.5, b + steps / 128) - b - steps / 128).mean()) for steps in (0, 2, 4, 8, 20)]
    assert kept[0] == pytest.approx(0.1, abs=1e-5) and kept[-2:] == pytest.approx([0.0, 0.0], abs=1e-5)
    assert kept == sorted(kept, reverse=True)
    assert path.change(b + 3 / 128) == pytest.approx(3.0, abs=1e-3)
    assert path.change(torch.zeros(1, 6, 8, 8)) is None


def test_a_run_that_was_stopped_leaves_the_path_that_it_went() -> None:
    x, b, u = pictures()
    answers = iter([False, False, True])
    sampled = run(
        lambda z, t: predicting(x * t), b, u, torch.zeros(SHAPE), bridge.schedule(4), lambda: next(answers)
    )
    assert sampled is not None
    path = Path.of(b, bridge.schedule(4), sampled.path)
    assert path.times == (1.0, 0.75) and len(path.details) == 2
    torch.testing.assert_close(path.details[1], x * 0.75 - b)


def test_reuse_begins_at_the_known_picture() -> None:
    x, b, _ = pictures()
    u, noise = torch.ones_like(b), torch.zeros_like(b)
    seen = []

    def predict(z: torch.Tensor, t: float) -> bridge.Prediction:
        seen.append((z, t))
        return predicting(x)

    run(predict, b, u, noise, bridge.schedule(4, 0.25), lambda: False, known=x)
    ((z, t),) = seen
    assert t == 0.25 and torch.allclose(z, torch.lerp(x, b, 0.25))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_blended_noise_keeps_its_variance(share: float) -> None:
    shared, fresh = (bridge.noise_like(torch.zeros(1, 6, 64, 64), seed, 0) for seed in (1, 2))
    blended = bridge.blended_noise(shared, fresh, share)
    assert float(blended.var()) == pytest.approx(1.0, abs=0.05)
    assert float((blended * shared).mean()) == pytest.approx(share**0.5, abs=0.05)

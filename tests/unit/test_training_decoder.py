"""Training learns, resumes where it stopped and refuses what it cannot use; on a tiny made-up set."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from common.clock import VirtualClock
from common.errors import SourceError, WeightsError
from common.state import Composition
from common.types import Picture
from receiver.decoder.conditions import FrameFacts, pack
from receiver.decoder.model import TinyBridge
from training import losses
from training.dataset import (
    CROP,
    SHARD_EXAMPLES,
    Batch,
    Example,
    ExampleSet,
    ExampleWriter,
    View,
    crop_view,
    is_held_out,
    record_dtype,
    without_anchor,
)
from training.decoder import _batches, train_decoder
from training.processes import Group
from training.trainer import Trainer, TrainSettings

SIZE = 64
SETTINGS = TrainSettings(batch=2, crop=48, warm_up_steps=1, report_steps=1, validation_batches=1)


class TickingClock(VirtualClock):
    """One second passes with every look at it."""

    def now_s(self) -> float:
        self.advance_to(super().now_s() + 1.0)
        return super().now_s()


def view(seed: int) -> View:
    """A gradient with a texture that base and guide have lost."""
    rng = np.random.default_rng(seed)
    smooth = np.add.outer(np.arange(SIZE), np.arange(SIZE) * 2) % 128 + 64
    truth = (smooth + rng.integers(-8, 9, (SIZE, SIZE))).astype(np.uint8)
    chroma = np.full((SIZE // 2, SIZE // 2), 120 + seed % 8, np.uint8)
    blurred = Picture((smooth - 6).astype(np.uint8), chroma - 5, chroma + 5)
    blocks = np.zeros((SIZE // 16, SIZE // 16), np.uint8)
    scene = Composition(
        blurred,
        None,
        blurred,
        rng.integers(0, 256, (SIZE // 8, SIZE // 8)).astype(np.uint8),
        blocks,
        blocks + seed % 21,
    )
    return View(Picture(truth, chroma, chroma), scene, FrameFacts(seed, 4, 100))


def names(held_out: bool) -> list[str]:
    return [name for name in (f"clip{k}" for k in range(60)) if is_held_out(name.encode()) == held_out]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with ExampleWriter(tmp_path / "data", SIZE, shard_examples=4) as writer:
        for k, clip in enumerate(names(False)[:5] + names(True)[:1]):
            writer.add(Example(clip, view(2 * k), view(2 * k + 1)))
    return tmp_path / "data"


def tiny() -> TinyBridge:
    torch.manual_seed(0)
    return TinyBridge(widths=(8, 8, 8), down_blocks=(0, 0), middle_blocks=1, up_blocks=(0, 0))


def trainer() -> Trainer:
    return Trainer(tiny(), torch.device("cpu"), SETTINGS, {}, seed=0)


def test_examples_come_back_as_written_and_split_by_clip(folder: Path) -> None:
    assert len(list(folder.glob("shard-*.npy"))) == 2
    assert (len(ExampleSet(folder, held_out=False)), len(ExampleSet(folder, held_out=True))) == (5, 1)
    (batch,) = ExampleSet(folder, held_out=True).in_order(8, SIZE)
    assert np.array_equal(batch.truth_later[0].numpy(), pack(view(11).truth))
    assert np.array_equal(batch.earlier.guide[0].numpy(), pack(view(10).composition.guide))
    assert int(batch.later.labels[0, 0, 0]) == 11


def test_a_full_shard_is_small_enough_to_be_moved_about() -> None:
    assert record_dtype(CROP).itemsize * SHARD_EXAMPLES < 60 * 2**20


def test_symmetries_keep_pictures_and_maps_together(folder: Path) -> None:
    examples, rng = ExampleSet(folder, held_out=True), np.random.default_rng(0)
    luma, trust = view(11).truth.y, view(11).composition.reliability
    turns = itertools.product((False, True), repeat=3)
    wanted = {turn: (_turned(luma, *turn), _turned(trust, *turn)) for turn in turns}
    seen = set()
    for _ in range(80):
        batch = examples.batch(1, SIZE, rng)
        packed = batch.truth_later.permute(0, 3, 1, 2)[:, :4].float()
        found = torch.nn.functional.pixel_shuffle(packed, 2)[0, 0].numpy()
        turn = next(turn for turn, (y, _) in wanted.items() if np.array_equal(found, y))
        assert np.array_equal(batch.later.trust[0].numpy(), wanted[turn][1])
        seen.add(turn)
    assert len(seen) == 8


def _turned(array: np.ndarray, mirrored: bool, upended: bool, transposed: bool) -> np.ndarray:
    array = array[:, ::-1] if mirrored else array
    array = array[::-1] if upended else array
    return array.T if transposed else array


def test_crops_are_the_same_place_in_every_part() -> None:
    whole = view(3)
    part = crop_view(whole, 16, 32, 32)
    assert np.array_equal(part.truth.y, whole.truth.y[16:48, 32:64])
    assert part.composition.reliability.shape == (4, 4) and part.composition.labels.shape == (2, 2)
    with pytest.raises(ValueError, match="grid of 16"):
        crop_view(whole, 8, 0, 32)


def test_no_examples_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="semcast train pack"):
        ExampleSet(tmp_path, held_out=False)
    (tmp_path / "shard-00000.npy").write_bytes(b"not numpy")
    with pytest.raises(SourceError, match="damaged"):
        ExampleSet(tmp_path, held_out=False)


def test_dropping_the_anchor_leaves_the_guide(folder: Path) -> None:
    (batch,) = ExampleSet(folder, held_out=True).in_order(8, SIZE)
    with_anchor = batch.later._replace(base=batch.later.base + 1, trust=batch.later.trust + 9)
    dropped = without_anchor(with_anchor, torch.tensor([True]))
    assert torch.equal(dropped.base, batch.later.guide) and torch.equal(dropped.warped, dropped.base)
    assert int(dropped.trust.max()) == 0 and float(dropped.scalars[0, 4]) == 0.0
    kept = without_anchor(with_anchor, torch.tensor([False]))
    assert torch.equal(kept.base, with_anchor.base)


def test_losses_vanish_for_the_truth_and_grow_with_error() -> None:
    torch.manual_seed(0)
    truth = torch.rand(2, 6, 32, 32) * 2 - 1
    blurred = torch.nn.functional.avg_pool2d(truth, 3, 1, 1)
    y, soft = losses.luma(truth), losses.luma(blurred)
    pairs = [
        (losses.structure(y, y), losses.structure(soft, y)),
        (
            losses.pyramid(losses.bands(y), losses.bands(y)),
            losses.pyramid(losses.bands(soft), losses.bands(y)),
        ),
        (
            losses.texture(losses.bands(y), losses.bands(y)),
            losses.texture(losses.bands(soft), losses.bands(y)),
        ),
        (losses.feature_distance([truth], [truth]), losses.feature_distance([blurred], [truth])),
    ]
    for none, some in pairs:
        assert float(none) == pytest.approx(0.0, abs=1e-5) and float(some) > 0.01
    assert float(losses.charbonnier(truth, truth)) < 2e-3


def test_the_variance_loss_is_least_at_the_true_error() -> None:
    truth = torch.zeros(1, 6, 8, 8)
    x = torch.full_like(truth, 0.1)
    v = torch.zeros(1, 1, 2, 2, requires_grad=True)
    for value, sign in ((0.02, 1.0), (0.005, -1.0)):
        v.data.fill_(float(np.log(value)))
        (gradient,) = torch.autograd.grad(losses.beta_nll(v, x, truth), v)
        assert bool((gradient * sign > 0).all())


def test_training_beats_the_base_picture(folder: Path) -> None:
    examples, coach = ExampleSet(folder, held_out=False), trainer()
    for step in range(60):
        rng = np.random.default_rng(step)
        coach.step(examples.batch(2, 48, rng), rng, 0.0)
        coach.progress = type(coach.progress)(step + 1)
    scores = coach.scores(ExampleSet(folder, held_out=True), 1)
    assert scores.one_step.psnr_db > scores.base.psnr_db + 1


def test_a_run_leaves_weights_card_and_log_and_can_be_resumed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = train_decoder(
        folder, out, 0.1, device="cpu", settings=SETTINGS, model=tiny(), clock=TickingClock(), seed=5
    )
    with safe_open(path, "pt") as file:
        assert tuple(json.loads(file.metadata()["config"])["widths"]) == (8, 8, 8)
        assert file.get_tensor("head.weight").dtype == torch.float16
    first = [json.loads(line) for line in (out / "train.log").read_text().splitlines()]
    train_decoder(
        folder, out, 0.2, device="cpu", settings=SETTINGS, model=tiny(), clock=TickingClock(), resume=True
    )
    both = [json.loads(line) for line in (out / "train.log").read_text().splitlines()]
    assert both[len(first)]["step"] == first[-1]["step"] + 1
    assert "seed 5" in (out / "tiny.md").read_text()


def test_resuming_is_the_same_as_not_stopping(folder: Path, tmp_path: Path) -> None:
    examples = ExampleSet(folder, held_out=False)

    def train(coach: Trainer, steps: range) -> Trainer:
        for step in steps:
            rng = np.random.default_rng(step)
            coach.step(examples.batch(2, 48, rng), rng, 0.0)
            coach.progress = type(coach.progress)(step + 1)
        return coach

    straight, stopped = train(trainer(), range(4)), train(trainer(), range(2))
    stopped.save(tmp_path / "checkpoint.safetensors")
    resumed = trainer()
    resumed.resume(tmp_path / "checkpoint.safetensors")
    train(resumed, range(2, 4))
    for a, b in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_damaged_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"\x00" * 40)
    with pytest.raises(WeightsError, match="cannot resume"):
        trainer().resume(path)


def test_batches_move_as_a_whole(folder: Path) -> None:
    (batch,) = ExampleSet(folder, held_out=True).in_order(8, SIZE)
    moved = batch.to(torch.device("cpu"))
    assert isinstance(moved, Batch) and torch.equal(moved.later.base, batch.later.base)


def opposed(seed: int = 0) -> Trainer:
    settings = replace(SETTINGS, adversarial_share=0.5)
    return Trainer(tiny(), torch.device("cpu"), settings, {}, seed)


def test_the_second_stage_begins_when_its_share_of_the_time_is_left(folder: Path) -> None:
    examples, coach = ExampleSet(folder, held_out=False), opposed()
    rng = np.random.default_rng(0)
    before = coach.step(examples.batch(2, 48, rng), rng, 0.4)
    after = coach.step(examples.batch(2, 48, rng), rng, 0.8)
    assert "adversarial" not in before and {"adversarial", "opponent"} <= after.keys()
    assert trainer().opponent is None


def test_the_second_stage_resumes_as_if_it_had_not_stopped(folder: Path, tmp_path: Path) -> None:
    examples = ExampleSet(folder, held_out=False)

    def train(coach: Trainer, steps: range) -> Trainer:
        for step in steps:
            rng = np.random.default_rng(step)
            coach.step(examples.batch(2, 48, rng), rng, 0.8)
            coach.progress = type(coach.progress)(step + 1)
        return coach

    torch.manual_seed(0)
    straight = train(opposed(), range(3))
    stopped = train(opposed(), range(2))
    stopped.save(tmp_path / "checkpoint.safetensors")
    torch.manual_seed(9)
    resumed = opposed()
    resumed.resume(tmp_path / "checkpoint.safetensors")
    train(resumed, range(2, 3))
    assert straight.opponent is not None and resumed.opponent is not None
    for a, b in ((straight.model, resumed.model), (straight.opponent[0], resumed.opponent[0])):
        for name, tensor in a.state_dict().items():
            assert torch.equal(tensor, b.state_dict()[name]), name


def test_a_run_without_opponent_can_go_on_with_one(folder: Path, tmp_path: Path) -> None:
    trainer().save(tmp_path / "checkpoint.safetensors")
    coach = opposed()
    coach.resume(tmp_path / "checkpoint.safetensors")
    assert coach.progress.step == 0


def test_both_networks_step_down_the_gradient_of_all_processes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    averaged = []
    monkeypatch.setattr(
        Group, "average_gradients", lambda _, parameters: averaged.append(len(list(parameters)))
    )
    coach, rng = opposed(), np.random.default_rng(0)
    coach.step(ExampleSet(folder, held_out=False).batch(2, 48, rng), rng, 0.8)
    assert coach.opponent is not None
    assert averaged == [len(list(net.parameters())) for net in (coach.model, coach.opponent[0])]


def test_every_process_draws_its_own_batches(folder: Path) -> None:
    drawn = []
    for rank in (0, 0, 1):
        coach = Trainer(tiny(), torch.device("cpu"), SETTINGS, {}, 0, Group(torch.device("cpu"), rank, 2))
        batch, _ = next(_batches(coach, ExampleSet(folder, held_out=False)))
        drawn.append(batch.truth_later)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_a_second_judge_is_another_term_of_the_loss(folder: Path) -> None:
    def judge(packed: torch.Tensor) -> list[torch.Tensor]:
        return [torch.nn.functional.avg_pool2d(packed, 4)]

    coach = Trainer(tiny(), torch.device("cpu"), SETTINGS, {"teacher": judge}, seed=0)
    rng = np.random.default_rng(0)
    terms = coach.step(ExampleSet(folder, held_out=False).batch(2, 48, rng), rng, 0.0)
    assert terms["teacher"] > 0 and "features" not in terms
    weights = losses.LossWeights(teacher=0.5, perceptual_late=4.0)
    assert weights.at(1.0)["teacher"] == 0.5 and weights.at(0.0)["teacher"] == 2.0


def test_held_out_scores_are_logged_and_drawn(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = replace(SETTINGS, check_s=1.0, check_batches=1)
    train_decoder(
        folder, out, 0.1, name="base", device="cpu", settings=settings, model=tiny(), clock=TickingClock()
    )
    rows = [json.loads(line) for line in (out / "train.log").read_text().splitlines()]
    checks = [row["held_out"] for row in rows if "held_out" in row]
    assert len(checks) >= 2 and checks[0]["base"]["psnr_db"] > 10 and checks[0]["base"]["features"] is None
    assert (out / "curves.svg").read_text().count("held out") >= 2
    assert (out / "base.safetensors").exists() and "# base: bridge decoder" in (out / "base.md").read_text()


def test_few_held_out_examples_are_spread_over_all_clips(folder: Path) -> None:
    examples = ExampleSet(folder, held_out=False)
    (few,) = examples.in_order(8, SIZE, at_most=2)
    (every,) = examples.in_order(8, SIZE)
    assert torch.equal(few.truth_later, every.truth_later[[0, 2]])

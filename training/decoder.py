"""Trains the bridge decoder from a folder of examples for so many minutes: `train_decoder`.

Resumable: everything random is drawn from (seed, step, rank), and a checkpoint holds weights, average and moments.
"""

from __future__ import annotations

import json
import math
import platform
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from common.clock import Clock, SystemClock
from common.files import made_folder
from common.weights import save_weights
from receiver.decoder.loading import DeviceName, pick_device
from receiver.decoder.model import FAMILY, TinyBridge
from training.checkpoints import Progress
from training.curves import draw_curves
from training.dataset import Batch, ExampleSet
from training.losses import Features
from training.processes import joined
from training.sizes import new_model
from training.trainer import Trainer, TrainSettings
from training.validation import Scores

if TYPE_CHECKING:
    from common.labelnet import LabelNet
    from training.teacher import Backbone

_JUDGES = {"features": "the label network's features", "teacher": "the teacher's features"}


def train_decoder(
    data: Path,
    out: Path,
    minutes: float,
    *,
    name: str = "tiny",
    resume: bool = False,
    device: DeviceName = "auto",
    seed: int = 0,
    settings: TrainSettings | None = None,
    judge: LabelNet | None = None,
    teacher: Backbone | None = None,
    model: TinyBridge | None = None,
    clock: Clock | None = None,
    rendezvous: str = "env://",
) -> Path:
    """Train for `minutes` (all runs together) and write `NAME.safetensors` and `NAME.md` to `out`.

    data : folder of `training.dataset` shards
    name : of the network, from `training.sizes`, and of its files
    resume : go on from the checkpoint in `out` if there is one; without it training starts afresh
    judge : label network whose features tell what pictures look like; None trains without that term
    teacher : a second such judge
    model : the network to train, by default a new one
    rendezvous : where several processes meet, see `training.processes`; the first of them logs and writes
    Returns the path of the weights. SourceError without examples, SinkError where `out` is not writable.
    """
    settings = settings or TrainSettings()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(seed)
    made_folder(out)
    path, checkpoint = out / f"{name}.safetensors", out / f"{name}.checkpoint.safetensors"
    with joined(pick_device(device), rendezvous) as group:
        torch.backends.cudnn.benchmark = True  # every batch has the same size
        judges = _judges(judge, teacher, group.device)
        trainer = Trainer(model or new_model(name), group.device, settings, judges, seed, group)
        sets = ExampleSet(data, held_out=False), ExampleSet(data, held_out=True)
        if resume and checkpoint.exists():
            trainer.resume(checkpoint)
        _run(trainer, *sets, minutes * 60, out, checkpoint, clock or SystemClock())
        if group.first:
            scores = trainer.scores(sets[1], settings.validation_batches)
            save_weights(path, trainer.average.state_dict(), trainer.average.settings, FAMILY)
            counts = len(sets[0]), len(sets[1])
            path.with_suffix(".md").write_text(_card(name, trainer, counts, scores), "utf-8")
    return path


def _judges(judge: LabelNet | None, teacher: Backbone | None, device: torch.device) -> dict[str, Features]:
    judges: dict[str, Features] = {}
    if judge is not None:
        judges["features"] = judge.to(device).features
    if teacher is not None:
        judges["teacher"] = teacher.to(device).features
    return judges


def _run(
    trainer: Trainer,
    examples: ExampleSet,
    held_out: ExampleSet,
    limit_s: float,
    out: Path,
    checkpoint: Path,
    clock: Clock,
) -> None:
    s, group = trainer.settings, trainer.group
    done_s = trainer.progress.elapsed_s
    with _Journal(out, limit_s, done_s) if group.first else nullcontext() as journal:
        if journal is not None and trainer.progress.step == 0:  # what the run is to improve on
            journal.write(
                trainer.progress, {"held_out": _rounded(trainer.scores(held_out, s.validation_batches))}
            )
        began_s = saved_s = checked_s = clock.now_s()
        for batch, rng in _batches(trainer, examples):
            elapsed_s = group.agreed(done_s + clock.now_s() - began_s)
            if elapsed_s >= limit_s:
                break
            terms = trainer.step(batch, rng, elapsed_s / limit_s)
            trainer.progress = Progress(trainer.progress.step + 1, elapsed_s, trainer.progress.seed)
            if journal is None:
                continue
            journal.note(terms, trainer.progress, s.report_steps)
            now_s = clock.now_s()
            if now_s - checked_s >= s.check_s:
                journal.write(
                    trainer.progress, {"held_out": _rounded(trainer.scores(held_out, s.check_batches))}
                )
                checked_s = now_s
            if now_s - saved_s >= s.checkpoint_s:
                trainer.save(checkpoint)
                journal.draw()
                saved_s = now_s
        if journal is not None:
            trainer.save(checkpoint)
            journal.write(
                trainer.progress, {"held_out": _rounded(trainer.scores(held_out, s.validation_batches))}
            )
            journal.draw()


def _rounded(scores: Scores) -> dict[str, Any]:
    """Scores for the log, JSON values; what was not measured is None."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        return None if math.isnan(value) else round(value, 5)

    return cast(dict[str, Any], plain(asdict(scores)))


class _Journal:
    """`train.log`, one JSON object a line, its drawing, and the progress bar."""

    def __init__(self, out: Path, limit_s: float, done_s: float) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
        self._bar = ProgressBar(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task("decoder", total=limit_s, completed=int(done_s))
        self._path = out / "train.log"
        self._recent: dict[str, list[float]] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        self._log = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()
        self._bar.stop()

    def note(self, terms: Mapping[str, float], progress: Progress, every: int) -> None:
        """Add the terms of one step; every so many steps their means are written."""
        for name, value in terms.items():
            self._recent.setdefault(name, []).append(value)
        if progress.step % every:
            return
        means = {name: round(sum(values) / len(values), 5) for name, values in self._recent.items()}
        self.write(progress, means)
        text = f"step {progress.step}  loss {means['loss']:.4f}"
        self._bar.update(self._task, completed=progress.elapsed_s, description=text)
        self._recent = {}

    def write(self, progress: Progress, values: Mapping[str, Any]) -> None:
        row = {"step": progress.step, "elapsed_s": round(progress.elapsed_s, 1), **values}
        self._log.write(json.dumps(row) + "\n")
        self._log.flush()

    def draw(self) -> None:
        if not draw_curves(self._path, self._path.with_name("curves.svg")):
            self._bar.console.print("matplotlib is not installed: train.log is not drawn")


def _batches(trainer: Trainer, examples: ExampleSet) -> Iterator[tuple[Batch, np.random.Generator]]:
    """Batches from the trainer's step on, a few ahead; each depends only on (seed, step, rank)."""
    s, seed, first, rank = trainer.settings, trainer.progress.seed, trainer.progress.step, trainer.group.rank
    on_gpu = trainer.device.type == "cuda"

    def draw(step: int) -> tuple[Batch, np.random.Generator]:
        rng = np.random.default_rng((seed, step, rank))
        batch = examples.batch(s.batch, s.crop, rng)
        return batch.pin_memory() if on_gpu else batch, rng

    with ThreadPoolExecutor(s.threads) as pool:
        ahead: deque[Future[tuple[Batch, np.random.Generator]]] = deque()
        step = first
        try:
            while True:
                while len(ahead) <= s.threads:
                    ahead.append(pool.submit(draw, step))
                    step += 1
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _card(name: str, trainer: Trainer, examples: tuple[int, int], scores: Scores) -> str:
    """The model card, Markdown."""
    measured = ("base picture", scores.base), ("1 step", scores.one_step), ("2 steps", scores.two_steps)
    rows = [
        f"| {picture} | {of.psnr_db:.2f} | {of.ms_ssim_loss:.4f} | {of.texture:.4f} | {of.features:.4f} |"
        for picture, of in measured
    ]
    progress, s = trainer.progress, trainer.settings
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters()) / 1e6
    on_gpu = trainer.device.type == "cuda"
    hardware = (
        f"{trainer.group.size} GPU(s)"
        if on_gpu
        else f"{s.threads * trainer.group.size} CPU thread(s), {platform.machine()}"
    )
    judged = " and ".join(_JUDGES[judge] for judge in trainer.judges) or "no features"
    opposed = (
        f"the last {s.adversarial_share:.0%} against a patch discriminator"
        if trainer.opponent
        else "no opponent"
    )
    return "\n".join(
        [
            f"# {name}: bridge decoder",
            "",
            f"Predicts a picture from what the receiver holds; {parameters:.2f} M parameters, float16.",
            "Configuration: `" + json.dumps(trainer.model.settings) + "`",
            "",
            "- Licence of the weights: Apache-2.0.",
            f"- Data: {examples[0]} training and {examples[1]} held-out pairs of crops, made with the real sender",
            "  from the clips of the training corpus (its SOURCES file has the licence of each clip).",
            f"- Training: {progress.step} steps of {s.batch * trainer.group.size} crops of {s.crop}x{s.crop},"
            f" {progress.elapsed_s / 60:.0f} minutes",
            f"  on {hardware}, seed {progress.seed}, torch {torch.__version__}.",
            f"- Loss: fidelity, structure, detail and {judged}; {opposed}.",
            "- Not for judging what really happened: at low rates it paints plausible detail.",
            "  The uncertainty map says where.",
            "",
            f"Measured on {scores.examples} held-out pairs (other clips than those trained on):",
            "",
            "| picture | PSNR (dB) | 1 - MS-SSIM (3 scales) | texture distance | feature distance |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"The predicted error covers {scores.coverage90:.0%} of the 8x8 cells at 90 %.",
            "",
        ]
    )

"""Trains the bridge decoder from a folder of examples for so many minutes: `train_decoder`.

Resumable: everything random is drawn from (seed, step), and a checkpoint holds weights, average and moments.
"""

from __future__ import annotations

import json
import platform
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from common.clock import Clock, SystemClock
from common.errors import SinkError
from common.labelnet import LabelNet
from common.weights import save_weights
from receiver.decoder.model import FAMILY, TinyBridge
from receiver.decoder.synth import DeviceName, pick_device
from training.checkpoints import Progress
from training.dataset import Batch, ExampleSet
from training.trainer import Trainer, TrainSettings
from training.validation import Scores


def train_decoder(
    data: Path,
    out: Path,
    minutes: float,
    *,
    resume: bool = False,
    device: DeviceName = "auto",
    seed: int = 0,
    settings: TrainSettings | None = None,
    judge: LabelNet | None = None,
    model: TinyBridge | None = None,
    clock: Clock | None = None,
) -> Path:
    """Train for `minutes` (all runs together) and write `tiny.safetensors` and `tiny.md` to `out`.

    data : folder of `training.dataset` shards
    resume : go on from the checkpoint in `out` if there is one; without it training starts afresh
    judge : label network whose features tell what pictures look like; None trains without that term
    model : the network to train, by default a new TinyBridge
    Returns the path of the weights. SourceError without examples, SinkError where `out` is not writable.
    """
    settings = settings or TrainSettings()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(seed)
    _make_folder(out)
    trainer = Trainer(model or TinyBridge(), pick_device(device), settings, judge, seed)
    sets = ExampleSet(data, held_out=False), ExampleSet(data, held_out=True)
    checkpoint = out / "tiny.checkpoint.safetensors"
    if resume and checkpoint.exists():
        trainer.resume(checkpoint)
    _run(trainer, sets[0], minutes * 60, out, checkpoint, clock or SystemClock())
    scores = trainer.scores(sets[1])
    path = out / "tiny.safetensors"
    save_weights(path, trainer.average.state_dict(), trainer.average.settings, FAMILY)
    (out / "tiny.md").write_text(_card(trainer, len(sets[0]), len(sets[1]), scores), "utf-8")
    return path


def _run(
    trainer: Trainer, examples: ExampleSet, limit_s: float, out: Path, checkpoint: Path, clock: Clock
) -> None:
    s, began_s, done_s = trainer.settings, clock.now_s(), trainer.progress.elapsed_s
    saved_s = began_s
    recent: dict[str, list[float]] = {}
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with (
        ProgressBar(*columns, console=Console(stderr=True)) as bar,
        (out / "train.log").open("a", encoding="utf-8") as log,
    ):
        task = bar.add_task("decoder", total=limit_s, completed=int(done_s))
        for batch, rng in _batches(trainer, examples):
            elapsed_s = done_s + clock.now_s() - began_s
            if elapsed_s >= limit_s:
                break
            terms = trainer.step(batch, rng, elapsed_s / limit_s)
            step = trainer.progress.step + 1
            trainer.progress = Progress(step, elapsed_s, trainer.progress.seed)
            for name, value in terms.items():
                recent.setdefault(name, []).append(value)
            if step % s.report_steps == 0:
                means = {name: round(sum(values) / len(values), 5) for name, values in recent.items()}
                log.write(json.dumps({"step": step, "elapsed_s": round(elapsed_s, 1), **means}) + "\n")
                log.flush()
                bar.update(task, completed=elapsed_s, description=f"step {step}  loss {means['loss']:.4f}")
                recent = {}
            if clock.now_s() - saved_s >= s.checkpoint_s:
                trainer.save(checkpoint)
                saved_s = clock.now_s()
    trainer.save(checkpoint)


def _batches(trainer: Trainer, examples: ExampleSet) -> Iterator[tuple[Batch, np.random.Generator]]:
    """Batches from the trainer's step on, a few ahead; each depends only on (seed, step)."""
    s, seed, first = trainer.settings, trainer.progress.seed, trainer.progress.step

    def draw(step: int) -> tuple[Batch, np.random.Generator]:
        rng = np.random.default_rng((seed, step))
        return examples.batch(s.batch, s.crop, rng), rng

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


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"cannot make {out}: {error.strerror}; choose another folder") from error


def _card(trainer: Trainer, examples: int, held_out: int, scores: Scores) -> str:
    """The model card, Markdown."""
    measured = ("base picture", scores.base), ("1 step", scores.one_step), ("2 steps", scores.two_steps)
    rows = [
        f"| {name} | {of.psnr_db:.2f} | {of.ms_ssim_loss:.4f} | {of.texture:.4f} | {of.features:.4f} |"
        for name, of in measured
    ]
    progress, s = trainer.progress, trainer.settings
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters()) / 1e6
    on_gpu = trainer.device.type == "cuda"
    hardware = "one GPU" if on_gpu else f"{s.threads} CPU thread(s), {platform.machine()}"
    return "\n".join(
        [
            "# tiny: bridge decoder",
            "",
            f"Predicts a picture from what the receiver holds; {parameters:.2f} M parameters, float16.",
            "Configuration: `" + json.dumps(trainer.model.settings) + "`",
            "",
            "- Licence of the weights: Apache-2.0.",
            f"- Data: {examples} training and {held_out} held-out pairs of crops, made with the real sender",
            "  from the clips of the training corpus (its SOURCES file has the licence of each clip).",
            f"- Training: {progress.step} steps of {s.batch} crops of {s.crop}x{s.crop},"
            f" {progress.elapsed_s / 60:.0f} minutes",
            f"  on {hardware}, seed {progress.seed}, torch {torch.__version__}.",
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

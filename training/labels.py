"""Distils the label network from a large teacher for so many minutes: `train_labels`.

Resumable: everything random is drawn from (seed, step), and a checkpoint holds weights, average and moments.
"""

from __future__ import annotations

import json
import math
import platform
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress as ProgressBar
from rich.progress import track
from torch import Tensor

from common.clock import Clock, SystemClock
from common.errors import SourceError
from common.labelnet import FAMILY, LabelNet
from common.types import LABEL_CLASSES
from common.weights import save_weights
from receiver.decoder.loading import DeviceName, pick_device
from training.checkpoints import Progress, load_checkpoint, save_checkpoint
from training.clips import list_clips
from training.targets import Targets, Teacher, is_held_out, join, load_teacher, make_targets

_MIRROR = [1, 0, 3, 2, 4, 5]
"""Order of the six planes after a flip from left to right."""
_CELL = 4
"""Side of a cell of the targets, in samples of the six planes."""
PERSON = 15


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """How to train.

    frames : of each clip, each seen whole and in part
    crops : sides of the training crops, cells
    rare_share : of the picture that a class must cover to count when pictures with rare classes are preferred
    average_decay : of the moving average of the weights, which is what is kept
    threads : of torch
    """

    frames: int = 24
    batch: int = 24
    crops: tuple[int, ...] = (24, 28, 32)
    rare_share: float = 0.02
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    warm_up_steps: int = 100
    average_decay: float = 0.996
    clip_norm: float = 2.0
    report_steps: int = 50
    checkpoint_s: float = 60.0
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Agreement:
    """With the teacher's strongest class per cell.

    pixels : share of cells
    background : the share that a map of nothing but background would have, which has to be beaten
    miou : mean intersection over union of the classes in either map
    person : intersection over union of the class person, NaN without any
    """

    pixels: float
    background: float
    miou: float
    person: float
    pictures: int


def train_labels(
    clips: Path,
    out: Path,
    teacher: Path,
    minutes: float,
    resume: bool = False,
    device: DeviceName = "auto",
    seed: int = 0,
    *,
    dev: Path | None = None,
    settings: LabelSettings | None = None,
    clock: Clock | None = None,
) -> Path:
    """Train for `minutes` (all runs together, without the teacher's) and write `labels.safetensors|md` to `out`.

    clips : folder of training clips; teacher : TFLite model, see `training.targets.load_teacher`
    resume : go on from the checkpoint in `out` if there is one; without it training starts afresh
    dev : folder of more clips to measure on
    Returns the path of the weights. SourceError without clips, SinkError where `out` is not writable,
    WeightsError when the teacher cannot be loaded.
    """
    settings = settings or LabelSettings()
    torch.set_num_threads(settings.threads)
    classify = load_teacher(teacher)
    paths = list_clips(clips)
    folder = out / f"targets-{settings.frames}"
    training = _gather([p for p in paths if not is_held_out(p)], folder, classify, settings.frames, seed)
    held_out = _gather(
        [p for p in paths if is_held_out(p)], folder, classify, settings.frames, seed, parts=False
    )
    clips_seen = len(list(folder.glob("*.npz")))
    trainer = LabelTrainer(training, settings, pick_device(device), seed)
    checkpoint = out / "labels.checkpoint.safetensors"
    if resume and checkpoint.exists():
        trainer.resume(checkpoint)
    trainer.run(minutes * 60, checkpoint, out / "labels.log", clock or SystemClock())
    net = deepcopy(trainer.average).eval()
    net.fold()
    scores = {"held-out clips of the training corpus": measure(net, held_out, trainer.device)}
    if dev is not None:
        folder = out / f"targets-dev-{settings.frames}"
        extra = _gather(list_clips(dev), folder, classify, settings.frames, seed, parts=False)
        scores["development clips"] = measure(net, extra, trainer.device)
    path = out / "labels.safetensors"
    save_weights(path, net.state_dict(), net.config, FAMILY, {"seed": str(seed)})
    (out / "labels.md").write_text(card(trainer, clips_seen, scores), "utf-8")
    return path


def _gather(
    paths: list[Path], folder: Path, teacher: Teacher, frames: int, seed: int, parts: bool = True
) -> Targets:
    """Targets of all clips that can be read; says which cannot."""
    console, found = Console(stderr=True), []
    for path in track(paths, "teacher", console=console):
        try:
            found.append(make_targets(path, folder, teacher, frames, seed, parts))
        except SourceError as error:
            console.print(str(error))
    if not found:
        raise SourceError("no clip could be read for this part of the data: use more clips")
    return join(found)


class LabelTrainer:
    """The network in training, its moving average and the optimiser."""

    def __init__(self, targets: Targets, settings: LabelSettings, device: torch.device, seed: int) -> None:
        torch.manual_seed(seed)
        self.settings, self.device, self.progress = settings, device, Progress(seed=seed)
        self.model = LabelNet(normed=True).to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its annotations
        self.average = deepcopy(self.model).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._targets = targets
        self._chances = preference(targets, settings.rare_share)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint; WeightsError if it is damaged or of another model."""
        self.progress = load_checkpoint(path, self.model, self.average, self.optimiser)

    def save(self, path: Path) -> None:
        """Write a checkpoint; SinkError if that fails."""
        save_checkpoint(path, self.model, self.average, self.optimiser, self.progress)

    def run(self, limit_s: float, checkpoint: Path, log: Path, clock: Clock) -> None:
        """Train until `limit_s` seconds have been spent over all runs."""
        began_s, done_s = clock.now_s(), self.progress.elapsed_s
        saved_s, losses = began_s, []
        with ProgressBar(console=Console(stderr=True)) as bar, log.open("a", encoding="utf-8") as lines:
            task = bar.add_task("labels", total=limit_s)
            while (elapsed_s := done_s + clock.now_s() - began_s) < limit_s:
                losses.append(self.step(elapsed_s / limit_s))
                step = self.progress.step + 1
                self.progress = Progress(step, elapsed_s, self.progress.seed)
                if step % self.settings.report_steps == 0:
                    loss = float(np.mean(losses))
                    lines.write(
                        json.dumps({"step": step, "elapsed_s": round(elapsed_s, 1), "loss": loss}) + "\n"
                    )
                    lines.flush()
                    bar.update(task, completed=elapsed_s, description=f"step {step}  loss {loss:.4f}")
                    losses = []
                if clock.now_s() - saved_s >= self.settings.checkpoint_s:
                    self.save(checkpoint)
                    saved_s = clock.now_s()
        self.save(checkpoint)

    def step(self, spent: float) -> float:
        """One update; spent : share of the training time used, 0..1. Returns the loss."""
        s, rng = self.settings, np.random.default_rng((self.progress.seed, self.progress.step))
        rate = s.learning_rate * min(1.0, (self.progress.step + 1) / s.warm_up_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, spent))))
        planes, classes = draw(self._targets, self._chances, s.batch, int(rng.choice(s.crops)), rng)
        x = disturbed(planes, rng).to(self.device, memory_format=torch.channels_last)
        self.model.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.model(x)
        loss = soft_cross_entropy(logits.float(), classes.to(self.device))
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), s.clip_norm)
        if math.isfinite(float(norm)):
            self.optimiser.step()
            self._follow()
        return float(loss.detach())

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the model; a young average moves faster."""
        decay = min(self.settings.average_decay, (1 + self.progress.step) / (10 + self.progress.step))
        own = self.model.state_dict()
        for name, kept in self.average.state_dict().items():
            if kept.is_floating_point():
                kept.lerp_(own[name], 1 - decay)
            else:
                kept.copy_(own[name])


def preference(targets: Targets, rare_share: float) -> NDArray[np.float64]:
    """Chance of each picture to be drawn, [N]: those that show rare classes come more often."""
    strongest = targets.classes.argmax(1).reshape(len(targets), -1)
    shares = np.stack([np.mean(strongest == k, axis=1) for k in range(LABEL_CLASSES)], axis=1)
    present = shares >= rare_share
    worth = present @ (1.0 / np.sqrt(np.maximum(present.sum(axis=0), 1.0)))
    return np.asarray(worth / worth.sum(), np.float64)


def draw(
    targets: Targets, chances: NDArray[np.float64], count: int, cells: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Crops of `cells` x `cells`, half of them mirrored: planes [N,6,..] in -1..1 and classes [N,21,..]."""
    planes, classes = [], []
    side = targets.classes.shape[-1]
    for row in rng.choice(len(targets), count, p=chances):
        top, left = (int(k) for k in rng.integers(0, side - cells + 1, 2))
        y, x, n = top * _CELL, left * _CELL, cells * _CELL
        part = targets.planes[row, :, y : y + n, x : x + n]
        truth = targets.classes[row, :, top : top + cells, left : left + cells]
        if rng.random() < 0.5:
            part, truth = part[_MIRROR, :, ::-1], truth[:, :, ::-1]
        planes.append(part)
        classes.append(truth)
    samples = torch.from_numpy(np.stack(planes)).float()
    return (samples - 128) / 128, torch.from_numpy(np.stack(classes)).float()


def disturbed(planes: Tensor, rng: np.random.Generator) -> Tensor:
    """Other light, other colours, noise, and for a quarter of the pictures the softness of a low rate."""
    n = len(planes)

    def per_picture(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (n, channels, 1, 1))).float()

    luma = planes[:, :4] * per_picture(0.7, 1.3) + per_picture(-0.2, 0.2)
    chroma = planes[:, 4:] * per_picture(0.4, 1.5) + per_picture(-0.06, 0.06, 2)
    x = torch.cat([luma, chroma], 1)
    soft = n // 4
    low = F.avg_pool2d(x[:soft], 2)
    x[:soft] = F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(int(rng.integers(1 << 31))))
    return (x + noise * per_picture(0.0, 0.04)).clamp(-1, 1)


def soft_cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Mean over cells of the cross-entropy against probabilities (Hinton et al. 2015); both [N,21,h,w]."""
    return -(classes * logits.log_softmax(1)).sum(1).mean()


@torch.inference_mode()
def measure(net: LabelNet, targets: Targets, device: torch.device) -> Agreement:
    """How far the network agrees with the teacher."""
    confusion = np.zeros((LABEL_CLASSES, LABEL_CLASSES), np.int64)
    for start in range(0, len(targets), 32):
        here = slice(start, start + 32)
        planes = (torch.from_numpy(targets.planes[here]).float().to(device) - 128) / 128
        found = net(planes).argmax(1).cpu().numpy()
        pairs = targets.classes[here].argmax(1) * LABEL_CLASSES + found
        confusion += np.bincount(pairs.ravel(), minlength=LABEL_CLASSES**2).reshape(confusion.shape)
    return agreement(confusion, len(targets))


def agreement(confusion: NDArray[np.int64], pictures: int) -> Agreement:
    """From cells counted by teacher's class (rows) and network's class (columns)."""
    both = np.diag(confusion)
    either = confusion.sum(0) + confusion.sum(1) - both
    iou = np.full(LABEL_CLASSES, np.nan)
    iou[either > 0] = both[either > 0] / either[either > 0]
    pixels, background = both.sum() / confusion.sum(), confusion[0].sum() / confusion.sum()
    return Agreement(float(pixels), float(background), float(np.nanmean(iou)), float(iou[PERSON]), pictures)


def card(trainer: LabelTrainer, clips: int, scores: dict[str, Agreement]) -> str:
    """The model card, Markdown."""
    progress, s = trainer.progress, trainer.settings
    on_cpu = trainer.device.type == "cpu"
    hardware = (
        f"{platform.machine().replace('_', '-')}, {torch.get_num_threads()} CPU thread(s)"
        if on_cpu
        else "one GPU"
    )
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters()) / 1e6
    rows = [
        f"| {name} | {of.pictures} | {of.pixels:.1%} | {of.background:.1%} | {of.miou:.3f} | {of.person:.3f} |"
        for name, of in scores.items()
    ]
    return "\n".join(
        [
            "# labels: what is where",
            "",
            f"21 PASCAL VOC classes on a 16x16 grid of the coded picture; {parameters:.2f} M parameters, float16.",
            "Configuration: `" + json.dumps(trainer.model.config) + "`",
            "",
            "- Licence of the weights: Apache-2.0.",
            "- Teacher: DeepLabV3 with a MobileNetV2 (0.5) backbone, published by the TensorFlow project under",
            "  Apache-2.0; only its output was used.",
            f"- Data: {clips} clips of the training corpus, {s.frames} frames of each, whole and in part;",
            f"  {len(trainer._targets)} training pictures. One scene in ten is held out.",
            f"- Training: {progress.step} steps of {s.batch} crops, {progress.elapsed_s / 60:.0f} minutes on"
            f" {hardware},",
            f"  seed {progress.seed}, torch {torch.__version__}; soft cross-entropy, AdamW, cosine, moving average.",
            "- It inherits the mistakes of its teacher and adds its own. Made for giving bits to what matters,",
            "  not for saying who or what is in a picture.",
            "",
            "Agreement with the teacher's strongest class per cell, and that of a map of nothing but background;",
            "mean IoU over the classes in either map. Where `cells` does not exceed `all background`, the map is",
            "no better than none by that count.",
            "",
            "| measured on | pictures | cells | all background | mIoU | person IoU |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )

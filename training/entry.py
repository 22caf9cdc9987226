"""`semcast train decoder`: from a folder of clips, or of examples, to decoder weights."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from common.errors import ConfigError, UsageError
from common.labelnet import LabelNet, load_labelnet
from common.ports import Analyzer
from common.weights import shipped
from receiver.decoder.synth import DeviceName, load_model
from training.clips import list_clips
from training.decoder import train_decoder
from training.pack import pack
from training.trainer import TrainSettings

DEVICES: tuple[DeviceName, ...] = ("auto", "cpu", "cuda")
EXAMPLES = "shard-*.npy"
LABELS = "labels"


def decoder_from(
    clips: Path,
    out: Path,
    minutes: float,
    resume: bool,
    device: str,
    threads: int,
    seed: int,
    start: str | None = None,
) -> None:
    """Train the decoder for `minutes`; the last line printed is JSON.

    clips : folder of examples from `train pack`, or of video files; those are first packed into `out`/examples,
        which takes `packing_minutes` of the time
    resume : go on from what `out` holds, examples included
    device : auto, cpu or cuda; threads : of torch
    start : weights to begin from; None begins from scratch
    UsageError for settings that make no sense, SourceError for a folder without clips.
    """
    chosen = _device(device)
    if minutes <= 0 or threads < 1:
        raise UsageError(
            f"training for {minutes:g} minutes on {threads} threads is not possible: give more of both"
        )
    examples, left_minutes = _examples(clips, out, minutes, resume, seed)
    path = train_decoder(
        examples, out, left_minutes, resume=resume, device=chosen, seed=seed,
        settings=TrainSettings(threads=threads), judge=shipped_judge(),
        model=None if start is None else load_model(start),
    )  # fmt: skip
    document = {
        "weights": str(path), "card": str(path.with_suffix(".md")), "examples": str(examples),
        "minutes": left_minutes, "seed": seed,
    }  # fmt: skip
    print(json.dumps(document))


def packing_minutes(minutes: float) -> float:
    """How much of the time goes into examples: a fifth, and never more than ten minutes."""
    return min(10.0, minutes / 5)


def shipped_judge() -> LabelNet | None:
    """The shipped label network, whose features judge pictures; None, and a word on stderr, where none is shipped.

    Weights that are there but damaged are a WeightsError.
    """
    if LABELS not in shipped():
        Console(stderr=True).print("no label network is shipped: training without the feature loss")
        return None
    return load_labelnet(LABELS)


def _examples(clips: Path, out: Path, minutes: float, resume: bool, seed: int) -> tuple[Path, float]:
    """The folder of examples to train on, and the time that is left for it."""
    if any(clips.glob(EXAMPLES)):
        return clips, minutes
    packing, folder = packing_minutes(minutes), out / "examples"
    if not any(folder.glob(EXAMPLES)):
        list_clips(clips)  # says so at once when there are none
        pack(clips, folder, packing, _analyzer(), seed)
    elif not resume:
        raise UsageError(
            f"{folder} holds examples already: add --resume to use them, or choose another --out"
        )
    return folder, minutes - packing


def _analyzer() -> Analyzer:
    from sender.labels import LabelAnalyzer

    return LabelAnalyzer()


def _device(name: str) -> DeviceName:
    for known in DEVICES:
        if name == known:
            return known
    raise ConfigError(f"device {name!r} is not known: use one of {', '.join(DEVICES)}")


def labels_from(
    clips: Path,
    out: Path,
    teacher: Path,
    minutes: float,
    resume: bool,
    device: str,
    seed: int,
    frames: int,
    dev: Path | None,
) -> Path:
    """Distil the label network; see `training.labels.train_labels`. UsageError for settings that make no sense."""
    from training.labels import LabelSettings, train_labels

    chosen = _device(device)
    if minutes <= 0 or frames < 1:
        raise UsageError(
            f"training for {minutes:g} minutes on {frames} frames is not possible: give more of both"
        )
    settings = LabelSettings(frames=frames)
    return train_labels(clips, out, teacher, minutes, resume, chosen, seed, dev=dev, settings=settings)

"""`semcast train decoder`: from a folder of clips, or of examples, to decoder weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from common.errors import ConfigError, UsageError
from common.labelnet import LabelNet, load_labelnet
from common.weights import shipped
from receiver.decoder.loading import DeviceName, load_model
from receiver.decoder.model import TinyBridge
from training.curves import read_log
from training.damage import GUIDE_ONLY
from training.dataset import CROP, GRID
from training.decoder import train_decoder
from training.processes import launched
from training.sizes import is_of_size, new_model
from training.teacher import load_backbone
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
    *,
    model: str = "tiny",
    teacher: Path | None = None,
    adversarial_share: float = 0.0,
    batch: int | None = None,
    crop: int | None = None,
    guide_only: bool = False,
) -> None:
    """Train the decoder for `minutes`; the last line printed is JSON.

    clips : folder of examples from `train pack`, or of video files; those are first packed into `out`/examples,
        which takes `packing_minutes` of the time
    resume : go on from what `out` holds, examples included
    device : auto, cpu or cuda; threads : of torch
    start : weights to begin from; None begins from scratch
    model : tiny or base; teacher : TFLite file of a second judge, see `training.teacher`
    adversarial_share : of the time, at its end, with an opponent; batch, crop : see TrainSettings
    guide_only : train a plain super-resolution of the guide instead, a peer to compare with
    Several processes (torchrun, accelerate launch) share one run; they need examples that are packed already.
    UsageError for settings that make no sense, SourceError for a folder without clips.
    """
    chosen = _device(device)
    if minutes <= 0 or threads < 1:
        raise UsageError(
            f"training for {minutes:g} minutes on {threads} threads is not possible: give more of both"
        )
    if not 0 <= adversarial_share <= 1:
        raise UsageError(f"the adversarial share is a part of the time, 0 to 1, not {adversarial_share:g}")
    settings = _settings(threads, adversarial_share, batch, crop)
    if guide_only:
        settings = replace(settings, damage=GUIDE_ONLY, own_previous=0.0)
    network = _network(model, start)
    backbone = None if teacher is None else load_backbone(teacher)
    examples, left_minutes = _examples(clips, out, minutes, resume, seed)
    path = train_decoder(
        examples, out, left_minutes, name=model, resume=resume, device=chosen, seed=seed,
        settings=settings, judge=shipped_judge(), teacher=backbone, model=network,
    )  # fmt: skip
    document = {
        "weights": str(path), "card": str(path.with_suffix(".md")), "examples": str(examples),
        "minutes": left_minutes, "seed": seed,
    }  # fmt: skip
    if launched()[0] == 0:
        print(json.dumps(document | _held_out(path.with_name("train.log"))))


def _held_out(log: Path) -> dict[str, object]:
    """Scores on clips that were not trained on, before the first step and after the last."""
    scores = read_log(log)[1] if log.exists() else ()
    return {"held_out": {"start": scores[0]["held_out"], "end": scores[-1]["held_out"]}} if scores else {}


def _settings(threads: int, adversarial_share: float, batch: int | None, crop: int | None) -> TrainSettings:
    default = TrainSettings(threads=threads, adversarial_share=adversarial_share)
    chosen = replace(default, batch=batch or default.batch, crop=crop or default.crop)
    if chosen.batch < 1 or chosen.crop < 48 or chosen.crop % GRID or chosen.crop > CROP:
        raise UsageError(
            f"batches of {chosen.batch} crops of {chosen.crop} pixels are not possible: take at least 1, and a"
            f" multiple of {GRID} from 48 to {CROP}"
        )
    return chosen


def _network(name: str, start: str | None) -> TinyBridge:
    """The network to train; UsageError where the weights to start from are of another size."""
    if start is None:
        return new_model(name)
    network = load_model(start)
    if not is_of_size(network, name):
        raise UsageError(f"{start} holds another network than {name!r}: change --start or --model")
    return network


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
    if launched()[1] > 1:
        raise UsageError(
            f"{clips} holds no examples: make them with `semcast train pack`, then start the processes"
        )
    packing, folder = packing_minutes(minutes), out / "examples"
    if not any(folder.glob(EXAMPLES)):
        from training.clips import list_clips

        list_clips(clips)  # says so at once when there are none
        _pack(clips, folder, packing, seed)
    elif not resume:
        raise UsageError(
            f"{folder} holds examples already: add --resume to use them, or choose another --out"
        )
    return folder, minutes - packing


def _pack(clips: Path, folder: Path, minutes: float, seed: int) -> None:
    # The whole sender with its codecs, which a machine that only trains need not have.
    from sender.labels import LabelAnalyzer
    from training.pack import pack

    pack(clips, folder, minutes, LabelAnalyzer(), seed)


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


def calibration_from(clips: Path, out: Path, decoder: str, rounds: int, threads: int, seed: int) -> str:
    """Calibrate weights on the held-back clips of a folder; see `training.calibration`. Returns JSON: files and fits."""
    import torch

    from sender.labels import LabelAnalyzer
    from training.calibration import calibrate
    from training.sightings import CalibrationSettings

    torch.set_num_threads(threads)
    files, fits = calibrate(clips, out, decoder, LabelAnalyzer(), CalibrationSettings(rounds=rounds), seed)
    found = {kind: fit._asdict() for kind, fit in fits.items()}
    return json.dumps({"weights": str(files.weights), "levels": str(files.levels), "fits": found})

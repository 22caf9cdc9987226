"""What the teacher sees in the clips: pictures and soft classes on a grid, kept on disk.

clip -> frames spread over it -> whole frame and a random part -> teacher -> folder/CLIP.npz
                                                                              planes [n,6,128,128] uint8
                                                                              classes [n,21,32,32] float16
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from common.colour import picture_to_rgb
from common.errors import SinkError, SourceError, WeightsError
from common.labelnet import WORKING_SIDE, resize_plane
from common.types import Picture
from training.clips import sample_clip

HELD_OUT_IN = 10
"""One scene in so many is kept for validation."""

GRID = WORKING_SIDE // 8
"""Cells per side of the targets: 8x8 samples of the working picture each."""

_READ_SIDE = 384
_SMALLEST_PART = 0.45
_TEACHER_SIDE = 257
_STEP, _CENTRE = _TEACHER_SIDE // GRID, _TEACHER_SIDE // GRID // 2
"""Where cells lie in the teacher's output, which it has itself enlarged from about this grid."""

Teacher = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""R'G'B' [H,W,3] uint8 -> probabilities [21,32,32] at the centres of the cells."""


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Views of clips and what the teacher says.

    planes : [N,6,128,128] uint8, the four luma phases, U, V
    classes : [N,21,32,32] float16, probabilities
    """

    planes: NDArray[np.uint8]
    classes: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.planes)


def load_teacher(path: Path) -> Teacher:
    """DeepLabV3 as a TFLite model: 257x257 in -1..1 -> 21 logits per pixel. WeightsError if it cannot be run."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise WeightsError("the teacher needs ai-edge-litert: pip install 'semcast[train]'") from error
    try:
        interpreter = Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"cannot load the teacher {path}: {error}") from error
    put, get = (
        info[0]["index"] for info in (interpreter.get_input_details(), interpreter.get_output_details())
    )

    def classify(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        scaled = cv2.resize(rgb, (_TEACHER_SIDE, _TEACHER_SIDE), interpolation=cv2.INTER_AREA)
        interpreter.set_tensor(put, scaled[None].astype(np.float32) / 127.5 - 1.0)
        interpreter.invoke()
        logits = interpreter.get_tensor(get)[0][_CENTRE::_STEP, _CENTRE::_STEP]
        return np.asarray(torch.from_numpy(logits.copy()).softmax(-1).permute(2, 0, 1).numpy(), np.float32)

    return classify


def scene_of(path: Path) -> str:
    """Clips that differ only in a final number show the same scene and stay together."""
    return re.sub(r"_?\d+$", "", path.stem)


def is_held_out(path: Path) -> bool:
    """Whether a clip is for validation, by a hash of its scene."""
    return zlib.crc32(scene_of(path).encode()) % HELD_OUT_IN == 0


def make_targets(
    clip: Path, folder: Path, teacher: Teacher, frames: int, seed: int, parts: bool = True
) -> Targets:
    """Targets of one clip, read from `folder` if they are there already.

    frames : spread over the clip; parts : a random part of each frame as well
    Raises SourceError for a broken clip or a damaged file, SinkError when the folder cannot be written.
    """
    path = folder / f"{clip.stem}.npz"
    if not path.exists():
        targets = _ask(
            clip, teacher, frames, np.random.default_rng((seed, zlib.crc32(clip.stem.encode()))), parts
        )
        _save(path, targets)
    try:
        with np.load(path, allow_pickle=False) as file:
            return Targets(file["planes"], file["classes"])
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(f"{path} is damaged: delete it and run the training again") from error


def join(parts: Sequence[Targets]) -> Targets:
    """All views of several clips."""
    return Targets(np.concatenate([p.planes for p in parts]), np.concatenate([p.classes for p in parts]))


def _ask(clip: Path, teacher: Teacher, frames: int, rng: np.random.Generator, parts: bool) -> Targets:
    read = sample_clip(clip, (_READ_SIDE, _READ_SIDE), frames)
    if not read.pictures:
        raise SourceError(f"{clip}: not one picture could be decoded; remove it from the folder")
    views = [
        view for picture in read.pictures for view in ([picture, _part(picture, rng)] if parts else [picture])
    ]
    classes = [teacher(picture_to_rgb(view, read.colour)) for view in views]
    return Targets(np.stack([_working_planes(view) for view in views]), np.stack(classes).astype(np.float16))


def _part(picture: Picture, rng: np.random.Generator) -> Picture:
    """A random rectangle, so that objects come in more sizes, shapes and surroundings."""
    side = rng.uniform(_SMALLEST_PART, 0.95)
    stretch = np.exp(rng.uniform(-0.2, 0.2))
    height, width = (int(min(1.0, s) * _READ_SIDE) // 2 for s in (side * stretch, side / stretch))
    top, left = (int(rng.integers(0, _READ_SIDE // 2 - n + 1)) for n in (height, width))

    def cut(plane: NDArray[np.uint8], k: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(plane[top * k : (top + height) * k, left * k : (left + width) * k])

    return Picture(cut(picture.y, 2), cut(picture.u, 1), cut(picture.v, 1))


def _working_planes(picture: Picture) -> NDArray[np.uint8]:
    y = torch.from_numpy(resize_plane(picture.y, WORKING_SIDE, WORKING_SIDE))
    half = WORKING_SIDE // 2
    chroma = np.stack([resize_plane(plane, half, half) for plane in (picture.u, picture.v)])
    return np.concatenate([F.pixel_unshuffle(y[None], 2).numpy(), chroma])


def _save(path: Path, targets: Targets) -> None:
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, planes=targets.planes, classes=targets.classes)
        partial.replace(path)
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror}; free some space") from error

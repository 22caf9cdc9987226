"""Fits the weights of common/sharpen.py: what brings an upsampled guide closer to the source, by kind of edge.

    python -m training.sharpen CLIPS_FOLDER [CLIPS]

Guides of every scale and band of quality are made with the real encoder; every frame counts by its own error, so that
a few busy clips do not decide for all. Writes common/assets/sharpen.npy; a change there is a change of the bitstream.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from common.errors import SemcastError
from common.fusion import upsample_plane
from common.sharpen import BANDS, CLASSES, REACH, STEPS, differences, edge_classes
from common.types import Picture, Plane
from common.units import StreamConfig
from sender.coded import MAX_QP
from sender.guide import GuideCoder
from sender.rate import OFFSET, Role
from training.clips import ClipFrames, list_clips, read_clip

SIDE, FRAMES, LOOK_AT = 512, 26, (14, 21, 25)
QUANTISERS = (34, 44, 52, 60)
"""One in each band."""
PRESET = 10  # one for all scales, so that the fit does not depend on how speed is chosen
_TAPS = len(STEPS)
_KEPT = 0.4  # share of the samples that are looked at
_RIDGE = 2e-3
_NOISE = 2.0  # squared error that counts as none

Sums = NDArray[np.float64]
"""[scale, band, class, tap, tap + 1]: normal equations."""


def clip_sums(clip: ClipFrames, rng: np.random.Generator) -> Sums:
    """The normal equations of one clip."""
    sums = np.zeros((len(REACH), len(BANDS) + 1, CLASSES, _TAPS, _TAPS + 1))
    for number, scale in enumerate(REACH):
        for band, quantiser in enumerate(QUANTISERS):
            for source, guide in _guides(clip, scale, quantiser):
                sums[number, band] += _frame_sums(source.y, guide.y, scale, rng)
    return sums


def _guides(clip: ClipFrames, scale: int, quantiser: int) -> Iterator[tuple[Picture, Picture]]:
    config = StreamConfig(0, SIDE, SIDE, clip.frame_rate, 1 / clip.frame_rate)
    coder = GuideCoder(config, scale, PRESET)
    try:
        for index, picture in enumerate(clip.pictures):
            role = Role.KEY if index == 0 else coder.role
            coded = coder.encode(picture, min(MAX_QP, quantiser + OFFSET[role]), key=index == 0)
            guide = coder.decode(coded.data)
            if index in LOOK_AT:
                yield picture, guide
    finally:
        coder.close()


def _frame_sums(source: Plane, guide: Plane, scale: int, rng: np.random.Generator) -> Sums:
    up = upsample_plane(guide, scale)
    wanted = source.astype(np.float32) - up
    classes = edge_classes(guide).repeat(scale, 0).repeat(scale, 1).ravel()
    chosen = np.flatnonzero(rng.random(classes.size) < _KEPT)
    chosen = chosen[np.argsort(classes[chosen], kind="stable")]
    bounds = np.searchsorted(classes[chosen], np.arange(CLASSES + 1))
    bends = np.stack([bend.ravel()[chosen] for bend in differences(up, scale)], 1).astype(np.float32)
    errors = wanted.ravel()[chosen, None]
    sums = np.zeros((CLASSES, _TAPS, _TAPS + 1))
    for k in range(CLASSES):
        x, y = bends[bounds[k] : bounds[k + 1]], errors[bounds[k] : bounds[k + 1]]
        sums[k] = np.concatenate([x.T @ x, x.T @ y], 1)
    return sums / (float(np.square(wanted).mean()) + _NOISE)


def table_of(sums: Sums) -> NDArray[np.int8]:
    """Weights in sixty-fourths; a little ridge keeps rare classes near zero."""
    out = np.zeros(sums.shape[:-1], np.int8)
    for index in np.ndindex(sums.shape[:3]):
        left, right = sums[index][:, :-1], sums[index][:, -1]
        ridge = np.eye(_TAPS) * (1.0 + _RIDGE * np.trace(left) / _TAPS)
        out[index] = np.clip(np.rint(64 * np.linalg.solve(left + ridge, right)), -36, 36)
    return out


def fit(paths: Sequence[Path], seed: int = 1) -> NDArray[np.int8]:
    """The table from these clips; unreadable ones are left out."""
    rng, sums = np.random.default_rng(seed), np.zeros(())
    for path in track(list(paths), "sharpening"):
        try:
            clip = read_clip(path, (SIDE, SIDE), FRAMES, int(rng.integers(0, 40)))
        except SemcastError:
            continue
        if len(clip.pictures) == FRAMES:
            sums = sums + clip_sums(clip, rng)
    return table_of(sums)


if __name__ == "__main__":
    every = list_clips(Path(sys.argv[1]))
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 48
    chosen = np.random.default_rng(3).permutation(len(every))[:count]
    target = Path(__file__).parent.parent / "common/assets/sharpen.npy"
    np.save(target, fit([every[i] for i in chosen]), allow_pickle=False)
    print(target)

"""Fits the table of common/tables.py: how far to believe the warped anchor, cell by cell.

    python -m training.fusion CLIPS_FOLDER [MINUTES]

For cells of real guides and anchors with derived motion it adds up, by class of disagreement and difference, what
least squares needs: the weight a that brings guide + a * (warped - guide) closest to the source is
sum((source - guide)(warped - guide)) / sum((warped - guide)^2).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from common.clock import SystemClock
from common.codecs import Av1Decoder
from common.errors import SemcastError
from common.fusion import CELL, cell_features, downsample, downsample_plane, upsample
from common.motion import refine, warp, zero_field
from common.tables import STEPS
from common.types import Picture
from sender.coded import MAX_QP
from sender.rate import OFFSET, ROLES, Role
from sender.svtav1 import SvtAv1Encoder
from training.clips import list_clips, read_clip

SIDE, FRAMES, LOOK_AT = 512, 50, (3, 8, 14, 22, 30, 38, 46)
FULL_WEIGHT = 64
_RARE = 400  # cells below which a class borrows from its neighbours

Sums = NDArray[np.float64]


def clip_sums(pictures: Sequence[Picture], frame_rate: Fraction, rng: np.random.Generator) -> Sums:
    """[3, 16, 16]: numerator, denominator and number of cells by class, for one clip at a random quality."""
    scale, quantiser = int(rng.choice([2, 2, 4])), int(rng.choice([42, 50, 58]))
    still = SvtAv1Encoder(SIDE, SIDE, frame_rate).encode(pictures[0], int(rng.choice([30, 38, 46])), key=True)
    anchor = Av1Decoder(SIDE, SIDE).decode(still.data)
    reference = downsample_plane(anchor.y, scale)
    encoder, decoder = (
        SvtAv1Encoder(SIDE // scale, SIDE // scale, frame_rate),
        Av1Decoder(SIDE // scale, SIDE // scale),
    )
    field, sums = zero_field(SIDE, SIDE), np.zeros((3, 16, 16))
    for index, picture in enumerate(pictures):
        role = Role.KEY if index == 0 else ROLES[encoder.position]
        q = min(MAX_QP, quantiser + OFFSET[role])
        guide = decoder.decode(encoder.encode(downsample(picture, scale), q, key=index == 0).data)
        field = refine(reference, guide.y, field, scale, index)
        if index in LOOK_AT:
            sums += _cell_sums(picture, warp(anchor, field), guide, scale)
    return sums


def _cell_sums(source: Picture, warped: Picture, guide: Picture, scale: int) -> Sums:
    wide = upsample(guide, scale)
    features = cell_features(warped.y, guide.y, wide.y, scale)
    classes = tuple(np.searchsorted(STEPS, feature, side="right") for feature in features)
    over, wanted = (plane.astype(np.int32) - wide.y for plane in (warped.y, source.y))
    sums = np.zeros((3, 16, 16))
    for index, product in enumerate((over * wanted, over * over)):
        rows, cols = product.shape[0] // CELL, product.shape[1] // CELL
        np.add.at(sums[index], classes, product.reshape(rows, CELL, cols, CELL).sum(axis=(1, 3)))
    np.add.at(sums[2], classes, 1)
    return sums


def table_of(sums: Sums) -> NDArray[np.int16]:
    """Weights 0..64, int16 [16, 16]; rare classes take the sums of their neighbours too."""
    numerator, denominator, count = sums
    for _ in range(6):
        spread = [_around(part) for part in (numerator, denominator)]
        numerator, denominator = (
            np.where(count < _RARE, wide, part)
            for wide, part in zip(spread, (numerator, denominator), strict=True)
        )
    weights = np.clip(np.rint(FULL_WEIGHT * numerator / np.maximum(denominator, 1)), 0, FULL_WEIGHT)
    return weights.astype(np.int16)


def _around(part: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(part, 1)
    return np.asarray(sum(padded[y : y + 16, x : x + 16] for y in range(3) for x in range(3)))


def fit(folder: Path, minutes: float, seed: int = 1) -> NDArray[np.int16]:
    """The table from the clips of a folder, as many as the time allows."""
    clock, console, rng = SystemClock(), Console(stderr=True), np.random.default_rng(seed)
    end_s, sums = clock.now_s() + 60 * minutes, np.zeros((3, 16, 16))
    for path in rng.permutation(np.array(list_clips(folder), object)):
        if clock.now_s() > end_s:
            break
        try:
            clip = read_clip(path, (SIDE, SIDE), FRAMES)
            sums += clip_sums(clip.pictures, clip.frame_rate, rng)
        except SemcastError as error:
            console.print(f"left out: {error}", markup=False)
    return table_of(sums)


if __name__ == "__main__":
    print(fit(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 3.0).tolist())

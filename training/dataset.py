"""Training examples of the decoder on disk: what the receiver held for two frames of a clip, and the truth.

    folder/shard-00000.npy   one structured array of `SHARD_EXAMPLES` records, readable with plain NumPy
    folder/shard-00001.npy   ...

A record is a square crop of an earlier and of a later frame (axis of length 2), as bytes: 0.8 MB at 256x256.
Shards are memory-mapped, so a set may be larger than memory. A file gets its name only when complete.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import SinkError, SourceError
from common.types import Picture
from receiver.decoder.conditions import (
    PICTURE_CHANNELS,
    SCALARS,
    FrameFacts,
    Observation,
    pack,
    scalars_of,
    trust_of,
)

if TYPE_CHECKING:  # reading a set needs no codec
    from common.state import Composition

SHARD_EXAMPLES = 64
CROP = 256
"""Side of the crops in packed examples, pixels."""

GRID = 16
"""Crops start at multiples of this, so that blocks, cells and phases stay where they are."""

HELD_OUT_IN = 12
"""One clip in so many is kept for validation, chosen by a hash of its name."""

_MIRRORED, _UPENDED, _TRANSPOSED = [1, 0, 3, 2, 4, 5], [2, 3, 0, 1, 4, 5], [0, 2, 1, 3, 4, 5]
"""Order of the six channels of a packed picture after a flip from left to right, top to bottom, about the diagonal."""

ANCHOR_AGE, FRESHNESS, HAS_ANCHOR, HAS_PREVIOUS = 2, 3, 4, 5
"""Places in the scalars."""

Record = NDArray[np.void]
Fields = dict[str, NDArray[np.generic]]
"""Part of a record by field name, each with an axis of length 2: earlier, later."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One frame as the receiver holds it, and the source picture that it stands for; all of one size."""

    truth: Picture
    composition: Composition
    facts: FrameFacts


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """An earlier and a later frame of one clip, one to a few frame times apart, in the same crop."""

    clip: str
    earlier: View
    later: View


def record_dtype(size: int) -> np.dtype[np.void]:
    """Layout of one example with crops of size x size pixels."""
    picture = (2, size // 2, size // 2, PICTURE_CHANNELS)
    blocks = (2, size // GRID, size // GRID)
    return np.dtype(
        [
            ("clip", "S48"),
            *((name, np.uint8, picture) for name in ("truth", "base", "warped", "guide")),
            ("trust", np.uint8, (2, size // 8, size // 8)),
            ("received", np.uint8, blocks),
            ("labels", np.uint8, blocks),
            ("scalars", np.float32, (2, SCALARS)),
        ]
    )


def crop_view(view: View, top: int, left: int, size: int) -> View:
    """A square of a view; top, left and size are multiples of 16 and inside the picture."""
    if top % GRID or left % GRID or size % GRID:
        raise ValueError(f"crops lie on a grid of {GRID}, not at ({top}, {left}) of size {size}")

    def cut(array: NDArray[np.uint8], cell: int) -> NDArray[np.uint8]:
        y, x, n = top // cell, left // cell, size // cell
        return array[y : y + n, x : x + n]

    def cut_picture(picture: Picture) -> Picture:
        return Picture(cut(picture.y, 1), cut(picture.u, 2), cut(picture.v, 2))

    whole = view.composition
    part = replace(
        whole,
        base=cut_picture(whole.base),
        warped=None if whole.warped is None else cut_picture(whole.warped),
        guide=cut_picture(whole.guide),
        reliability=cut(whole.reliability, 8),
        residual_mask=cut(whole.residual_mask, 16),
        labels=cut(whole.labels, 16),
    )
    return View(cut_picture(view.truth), part, view.facts)


class ExampleWriter:
    """Fills a folder with shards. Use it in a `with` block: the last shard is written on leaving."""

    def __init__(self, folder: Path, size: int = 256, shard_examples: int = SHARD_EXAMPLES) -> None:
        """folder : created if missing (SinkError if it cannot be); shards already there are kept."""
        self._folder, self._size = folder, size
        self._rows = np.zeros(shard_examples, record_dtype(size))
        self._filled = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"cannot make the training folder {folder}: {error.strerror}") from error
        self._shard = len(list(folder.glob("shard-*.npy")))

    def add(self, example: Example) -> None:
        """Append one example; ValueError unless its pictures have the writer's size."""
        row = self._rows[self._filled]
        row["clip"] = example.clip.encode()[:48]
        for k, view in enumerate((example.earlier, example.later)):
            if view.truth.y.shape != (self._size, self._size):
                raise ValueError(f"examples here are {self._size} pixels square, not {view.truth.y.shape}")
            _fill(row, k, view)
        self._filled += 1
        if self._filled == len(self._rows):
            self.flush()

    def flush(self) -> None:
        """Write what has been added so far as a shard."""
        if not self._filled:
            return
        path = self._folder / f"shard-{self._shard:05d}.npy"
        partial = path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                np.save(file, self._rows[: self._filled], allow_pickle=False)
            partial.replace(path)
        except OSError as error:
            raise SinkError(f"cannot write {path}: {error.strerror}; free some space") from error
        self._shard, self._filled = self._shard + 1, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is None:
            self.flush()


def _fill(row: np.void, k: int, view: View) -> None:
    composition = view.composition
    base = pack(composition.base)
    row["truth"][k], row["base"][k], row["guide"][k] = pack(view.truth), base, pack(composition.guide)
    row["warped"][k] = base if composition.warped is None else pack(composition.warped)
    row["trust"][k] = trust_of(composition, view.facts.freshness)
    row["received"][k], row["labels"][k] = composition.residual_mask, composition.labels
    row["scalars"][k] = scalars_of(view.facts, composition.warped is not None, has_previous=False)


@dataclass(frozen=True, slots=True)
class Batch:
    """N pairs of frames. `previous` of both observations repeats the base: the trainer puts it in."""

    earlier: Observation
    later: Observation
    truth_earlier: Tensor
    truth_later: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device; from pinned memory the copy does not wait."""
        return self._each(lambda part: part.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch where a GPU can fetch it by itself."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        earlier, later = (Observation(*map(change, view)) for view in (self.earlier, self.later))
        return Batch(earlier, later, change(self.truth_earlier), change(self.truth_later))


class ExampleSet:
    """The examples of a folder, split by clip."""

    def __init__(self, folder: Path, held_out: bool) -> None:
        """held_out : the validation clips instead of the training clips. SourceError without any example."""
        self._shards = [_open(path) for path in sorted(folder.glob("shard-*.npy"))]
        wanted = [
            (number, row)
            for number, shard in enumerate(self._shards)
            for row in np.flatnonzero([is_held_out(clip) == held_out for clip in shard["clip"]])
        ]
        if not wanted:
            part = "validation" if held_out else "training"
            raise SourceError(f"{folder} holds no {part} examples: run `semcast train pack` with more clips")
        self._index = np.array(wanted)

    def __len__(self) -> int:
        return len(self._index)

    def batch(self, size: int, crop: int, rng: np.random.Generator) -> Batch:
        """Random examples, cropped at random on the 16-pixel grid, in one of the eight symmetries of a square."""
        rows = self._index[rng.integers(0, len(self._index), size)]
        return _collate([self._draw(int(shard), int(row), crop, rng) for shard, row in rows])

    def in_order(self, size: int, crop: int, at_most: int | None = None) -> Iterator[Batch]:
        """Every example once, or `at_most` spread over all clips; central crops, no flips.

        The last batch may be smaller.
        """
        count = min(len(self._index), at_most or len(self._index))
        index = self._index[np.arange(count) * len(self._index) // count]
        for start in range(0, count, size):
            rows = index[start : start + size]
            yield _collate([self._cut(int(shard), int(row), crop, None, None) for shard, row in rows])

    def _draw(self, shard: int, row: int, crop: int, rng: np.random.Generator) -> Fields:
        room = (self._shards[shard].dtype["truth"].shape[1] * 2 - crop) // GRID
        top, left = (int(k) * GRID for k in rng.integers(0, room + 1, 2))
        fields = self._cut(shard, row, crop, top, left)
        mirrored, upended, transposed = rng.random(3) < 0.5
        return {
            name: array if name == "scalars" else _flipped(array, mirrored, upended, transposed)
            for name, array in fields.items()
        }

    def _cut(self, shard: int, row: int, crop: int, top: int | None, left: int | None) -> Fields:
        record = self._shards[shard][row]
        size = record["truth"].shape[1] * 2
        middle = (size - crop) // (2 * GRID) * GRID
        y, x = middle if top is None else top, middle if left is None else left

        def cut(name: str, cell: int) -> NDArray[np.generic]:
            part = record[name][:, y // cell : (y + crop) // cell, x // cell : (x + crop) // cell]
            return cast(NDArray[np.generic], part)

        cells = {"truth": 2, "base": 2, "warped": 2, "guide": 2, "trust": 8, "received": 16, "labels": 16}
        return {name: cut(name, cell) for name, cell in cells.items()} | {"scalars": record["scalars"]}


def is_held_out(clip: bytes) -> bool:
    """Whether a clip of this name is for validation."""
    return zlib.crc32(clip) % HELD_OUT_IN == 0


def _open(path: Path) -> Record:
    try:
        shard = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} is damaged: delete it and run `semcast train pack` again") from error
    if shard.dtype.names != record_dtype(GRID).names:
        raise SourceError(f"{path} has another layout: delete the folder and run `semcast train pack` again")
    return cast(Record, shard)


def _flipped(
    array: NDArray[np.generic], mirrored: bool, upended: bool, transposed: bool
) -> NDArray[np.generic]:
    """[2,h,w] or [2,h,w,6] in another of the symmetries of a square."""
    order = np.arange(PICTURE_CHANNELS)
    if mirrored:
        array, order = array[:, :, ::-1], order[_MIRRORED]
    if upended:
        array, order = array[:, ::-1], order[_UPENDED]
    if transposed:
        array, order = array.swapaxes(1, 2), order[_TRANSPOSED]
    return array[..., order] if array.ndim == 4 else array


def _collate(rows: list[Fields]) -> Batch:
    stacked = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}

    def observation(k: int) -> Observation:
        pictures = [stacked[name][:, k] for name in ("base", "warped", "guide", "base")]
        maps = [stacked[name][:, k] for name in ("trust", "received", "labels", "scalars")]
        return Observation(*pictures, *maps)

    return Batch(observation(0), observation(1), stacked["truth"][:, 0], stacked["truth"][:, 1])


def without_anchor(view: Observation, drop: Tensor) -> Observation:
    """The view as if no anchor had arrived where drop (bool [N]) is set: base and anchor are the guide."""
    chosen = drop[:, None, None, None]
    base = torch.where(chosen, view.guide, view.base)
    trust = view.trust * ~drop[:, None, None]
    received = view.received * ~drop[:, None, None]
    scalars = view.scalars.clone()
    scalars[drop, ANCHOR_AGE] = 0.0
    scalars[drop, HAS_ANCHOR] = 0.0
    return view._replace(
        base=base,
        warped=torch.where(chosen, base, view.warped),
        trust=trust,
        received=received,
        scalars=scalars,
    )


def with_previous(view: Observation, shown: Tensor, present: Tensor) -> Observation:
    """The view after `shown` [N,H/2,W/2,6] uint8 was painted, where present (bool [N]) is set."""
    scalars = view.scalars.clone()
    scalars[:, HAS_PREVIOUS] = present.to(scalars.dtype)
    previous = torch.where(present[:, None, None, None], shown, view.base)
    return view._replace(previous=previous, scalars=scalars)

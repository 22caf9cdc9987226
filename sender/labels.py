"""Says what is where in a picture, steadily: `LabelAnalyzer`; or nothing at all: `BlankAnalyzer`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from common.types import LABEL_CLASSES, Picture

if TYPE_CHECKING:
    from common.labelnet import LabelNet

CELL = 16
"""Side of a cell of the label map, luma samples."""

LabelMap = NDArray[np.uint8]
"""[ceil(H/16), ceil(W/16)] uint8, classes 0..20."""

PERSON = 15
ANIMALS = (3, 8, 10, 12, 13, 17)
"""Bird, cat, cow, dog, horse, sheep."""
VEHICLES = (1, 2, 4, 6, 7, 14, 19)
"""Aeroplane, bicycle, boat, bus, car, motorbike, train."""


class LabelAnalyzer:
    """The label network with a memory: a cell changes class only when the new one is clearly better.

    Without it, cells at borders flicker between two classes, and every flicker costs bits.
    """

    def __init__(self, net: LabelNet | None = None, *, threads: int = 1, margin: float = 0.2) -> None:
        """net : by default the shipped one (WeightsError if it cannot be loaded)
        threads : CPU threads for the network
        margin : by how much the new class must be more probable than the old, 0..1; 0 has no memory
        """
        from common.labelnet import load_labelnet

        self._net = net or load_labelnet()
        self._threads = threads
        self._margin = margin
        self._held: LabelMap | None = None

    def label(self, picture: Picture) -> LabelMap:
        """Classes of the cells of one picture; pictures come in time order, a new size starts afresh."""
        with _torch_threads(self._threads):
            probabilities = self._net.logits(picture).softmax(0).numpy()
        self._held = without_specks(hold_on(self._held, probabilities, self._margin))
        return self._held

    def reset(self) -> None:
        """Forget what was seen: another video starts, or a new scene."""
        self._held = None


class BlankAnalyzer:
    """Everything is background: for a sender without label maps."""

    def label(self, picture: Picture) -> LabelMap:
        """Zeros."""
        return np.zeros((-(-picture.height // CELL), -(-picture.width // CELL)), np.uint8)


def importance(labels: LabelMap) -> NDArray[np.float32]:
    """How much an error in each cell matters, same shape: person 4, animals 3, vehicles 2.5, objects 2, rest 1."""
    worth = np.full(LABEL_CLASSES, 2.0, np.float32)
    worth[0] = 1.0
    worth[list(VEHICLES)] = 2.5
    worth[list(ANIMALS)] = 3.0
    worth[PERSON] = 4.0
    return worth[labels]


def hold_on(held: LabelMap | None, probabilities: NDArray[np.float32], margin: float) -> LabelMap:
    """The most probable class [h,w] of probabilities [21,h,w], or the held one unless beaten by `margin`."""
    best = probabilities.argmax(0).astype(np.uint8)
    if held is None or held.shape != best.shape:
        return best
    of_held = np.take_along_axis(probabilities, held[None].astype(np.intp), 0)[0]
    return np.where(probabilities.max(0) - of_held > margin, best, held)


def without_specks(labels: LabelMap) -> LabelMap:
    """The map with every cell that differs from all its neighbours (up to 8) set to the commonest of them."""
    rows, cols = labels.shape
    outside = LABEL_CLASSES
    padded = np.pad(labels, 1, constant_values=outside)
    shifts = [(dy, dx) for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)]
    around = np.stack([padded[dy : dy + rows, dx : dx + cols] for dy, dx in shifts])
    specks = np.argwhere((around != labels).all(0) & (around != outside).any(0))
    cleaned = labels.copy()
    for y, x in specks:
        cleaned[y, x] = np.bincount(around[:, y, x], minlength=outside + 1)[:outside].argmax()
    return cleaned


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Run torch with so many threads, and with as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""The peer of equal compute: a plain single-image super-resolution of the guide that our own stream carries.

    guide, enlarged + its scale and quantiser -> a network of the decoder's architecture, one step -> picture

Nothing else that the decoder has is there: no warped anchor, no previous picture, no labels, no residual, and no
correction towards the base picture. The weights are a file of the same kind as the decoder's, trained like that.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import JsonValue

from common.config import DecoderSettings
from common.state import Composition
from common.types import Picture
from common.weights import load_weights
from receiver.decoder.conditions import FrameFacts
from receiver.decoder.loading import DeviceName, load_model
from receiver.decoder.model import FAMILY
from receiver.decoder.running import Correction
from receiver.decoder.synth import BridgeSynthesizer

UNCORRECTED = Correction(guide=0.0, base=0.0, detail=0.0, residual=0.0)


class SuperResolution:
    """One network, one picture at a time, nothing remembered."""

    def __init__(self, weights: str, device: DeviceName = "auto", seed: int = 0, threads: int = 1) -> None:
        """weights : safetensors file of a bridge decoder, or a shipped name; WeightsError for anything else."""
        torch.set_num_threads(threads)
        self._painter = BridgeSynthesizer(
            load_model(weights), device=device, seed=seed, correction=UNCORRECTED,
            settings=DecoderSettings(sparing=False),
        )  # fmt: skip

    def paint(self, guide: Picture, facts: FrameFacts) -> Picture:
        """guide : enlarged to the coded size, whose sides are multiples of 16; facts : of its frame"""
        self._painter.reset()
        return self._painter.render(alone(guide), facts, "bridge1", lambda: False).picture


def alone(guide: Picture) -> Composition:
    """What a receiver would hold that was sent the guide and nothing else."""
    rows, cols = guide.height // 16, guide.width // 16
    cells = np.zeros((rows, cols), np.uint8)
    return Composition(guide, None, guide, np.zeros((2 * rows, 2 * cols), np.uint8), cells, cells)


def weights_hash(weights: str) -> str:
    """Of the file; WeightsError where there is none that fits."""
    return load_weights(weights, FAMILY).sha256


def network_facts(weights: str) -> dict[str, JsonValue]:
    """What the compute of a decoder network follows from, and which file it is."""
    model = load_model(weights)
    count = sum(parameter.numel() for parameter in model.parameters())
    return {"weights": weights, "sha256": weights_hash(weights), "parameters": count, **model.settings}

"""The two painters behind the ladder: with the diffusion decoder, and without any network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from common.config import Config
from common.errors import WeightsError
from common.state import Composition
from common.types import Picture
from receiver.decoder.conditions import FrameFacts
from receiver.decoder.synth import LEVELS, BridgeSynthesizer, Painted
from receiver.gauge import Gauge
from receiver.uncertainty import Map


class Painter(Protocol):
    """Paints a composition at one level; remembers the picture it painted last."""

    @property
    def levels(self) -> tuple[str, ...]: ...
    @property
    def threads(self) -> tuple[int, ...]: ...
    @property
    def held(self) -> Picture | None: ...
    def use_threads(self, count: int) -> None: ...
    def change(self, composition: Composition) -> float | None: ...
    def held_map(self, slot: int) -> Map | None: ...
    def reset(self, seed: int | None = None) -> None: ...
    def go_on(
        self, composition: Composition, facts: FrameFacts, should_stop: Callable[[], bool]
    ) -> Painted | None: ...
    def render(
        self, composition: Composition, facts: FrameFacts, level: str, should_stop: Callable[[], bool]
    ) -> Painted: ...


class BasePainter:
    """Levels hold, guide and base: no weights, no network."""

    levels = LEVELS[:3]
    threads = (1,)

    def __init__(self) -> None:
        self._gauge = Gauge()

    @property
    def held(self) -> Picture | None:
        """The picture painted last."""
        return self._gauge.picture

    def held_map(self, slot: int) -> Map | None:
        """How wrong it is at the time of frame `slot`."""
        return self._gauge.held_at(slot)

    def use_threads(self, count: int) -> None:
        """There is nothing to divide."""

    def change(self, composition: Composition) -> float | None:
        """There is no detail to carry over."""
        return None

    def go_on(
        self, composition: Composition, facts: FrameFacts, should_stop: Callable[[], bool]
    ) -> Painted | None:
        """There are no steps."""
        return None

    def reset(self, seed: int | None = None) -> None:
        """Forget the picture painted last; there is no noise to seed."""
        self._gauge.reset()

    def render(
        self, composition: Composition, facts: FrameFacts, level: str, should_stop: Callable[[], bool]
    ) -> Painted:
        """`level` is one of `levels`."""
        if level not in self.levels:
            raise WeightsError(f"level {level} needs a decoder: choose --decoder tiny, or --steps 0")
        return Painted(*self._gauge.plain(level, composition, facts), 0)


def open_painter(config: Config, seed: int, size: tuple[int, int]) -> Painter:
    """The painter that the settings ask for, warmed up. No steps need no decoder.

    seed : of the noise, as the stream says; size : (height, width) of the coded picture
    Raises WeightsError when the decoder's weights are missing: never a silent fallback.
    """
    receiver = config.receiver
    if receiver.steps == 0:
        return BasePainter()
    import torch

    torch.set_num_threads(receiver.threads)  # threads that wait for a busy core cost more than they give
    painter = BridgeSynthesizer.load(
        receiver.decoder, device=receiver.device, seed=seed, settings=config.decoder,
        backend=receiver.backend,
    )  # fmt: skip
    painter.warm_up(*size)
    return painter

"""A painter that goes on where the processor that paints has no memory left: less is painted, nothing ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from common.clock import Clock
from common.state import Composition
from common.types import Picture
from receiver.decoder.conditions import FrameFacts
from receiver.decoder.synth import Painted
from receiver.painter import Painter
from receiver.uncertainty import Map

REST_S = 10.0
"""For so long nothing is asked of the network: who took the memory may give it back."""


@dataclass(slots=True)
class FrugalPainter:
    """Paints as `painter` does; the base picture while that has no memory.

    warn : told once each time that it happens
    """

    painter: Painter
    clock: Clock
    warn: Callable[[str], None]
    rests_until_s: float = float("-inf")

    @property
    def levels(self) -> tuple[str, ...]:
        """Of `painter`."""
        return self.painter.levels

    @property
    def held(self) -> Picture | None:
        """Of `painter`."""
        return self.painter.held

    @property
    def threads(self) -> tuple[int, ...]:
        """Of `painter`."""
        return self.painter.threads

    def use_threads(self, count: int) -> None:
        """Of `painter`."""
        self.painter.use_threads(count)

    def change(self, composition: Composition) -> float | None:
        """Of `painter`."""
        return self.painter.change(composition)

    def held_map(self, slot: int) -> Map | None:
        """Of `painter`."""
        return self.painter.held_map(slot)

    def reset(self, seed: int | None = None) -> None:
        """Of `painter`."""
        self.painter.reset(seed)

    def go_on(
        self, composition: Composition, facts: FrameFacts, should_stop: Callable[[], bool]
    ) -> Painted | None:
        """With steps that were begun before, None where nothing comes of them."""
        if self._rests:
            return None
        try:
            return self.painter.go_on(composition, facts, should_stop)
        except torch.OutOfMemoryError:
            self._give_back()
        return None

    def render(
        self, composition: Composition, facts: FrameFacts, level: str, should_stop: Callable[[], bool]
    ) -> Painted:
        """At `level`, or with no step done."""
        if not (level.startswith("bridge") and self._rests):
            try:
                return self.painter.render(composition, facts, level, should_stop)
            except torch.OutOfMemoryError:
                self._give_back()
        return self.painter.render(composition, facts, "base", should_stop)

    @property
    def _rests(self) -> bool:
        return self.clock.now_s() < self.rests_until_s

    def _give_back(self) -> None:
        """What PyTorch keeps for later may be what others need."""
        torch.cuda.empty_cache()
        self.rests_until_s = self.clock.now_s() + REST_S
        self.warn(
            f"the GPU has no memory left: the base picture is shown for {REST_S:g} s; "
            "end what else uses the GPU, or choose --steps 0 or --device cpu"
        )

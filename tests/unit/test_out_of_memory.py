"""A GPU without memory: the base picture meanwhile, and the network again later."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.live import streams
from benchmarks.live.streams import Studio
from common.clock import VirtualClock
from common.config import load_config
from common.errors import WeightsError
from receiver.decoder.conditions import FrameFacts
from receiver.decoder.synth import LEVELS, Painted
from receiver.out_of_memory import REST_S, FrugalPainter


class Greedy:
    """A painter of names; its network fails while `full`."""

    levels = LEVELS
    held = None

    def __init__(self) -> None:
        self.full, self.asked, self.seed = False, [], None

    def reset(self, seed: int | None = None) -> None:
        self.seed = seed

    def go_on(self, scene: Any, facts: Any, should_stop: Callable[[], bool]) -> Painted:
        if self.full:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Painted(scene, None, 1)

    def render(self, scene: Any, facts: Any, level: str, should_stop: Callable[[], bool]) -> Painted:
        self.asked.append(level)
        if self.full and level.startswith("bridge"):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Painted(scene, None, int(level.startswith("bridge")))


def test_the_base_picture_is_shown_while_there_is_no_memory() -> None:
    clock, warned, greedy = VirtualClock(), [], Greedy()
    painter = FrugalPainter(greedy, clock, warned.append)
    painter.reset(7)

    def steps(level: str = "bridge1") -> int:
        scene: Any = SimpleNamespace()
        return painter.render(scene, FrameFacts(), level, lambda: False).steps_done

    assert steps() == 1 and painter.levels == LEVELS and painter.held is None and greedy.seed == 7
    greedy.full = True
    assert [steps(), steps(), steps("guide")] == [0, 0, 0]
    assert len(warned) == 1 and "the base picture is shown for 10 s" in warned[0]
    assert greedy.asked[1:] == ["bridge1", "base", "base", "guide"], "not asked again so soon"
    greedy.full = False
    clock.advance_to(REST_S)
    assert steps() == 1 and len(warned) == 1


def test_steps_that_were_begun_wait_as_well() -> None:
    clock, warned, greedy = VirtualClock(), [], Greedy()
    painter = FrugalPainter(greedy, clock, warned.append)
    scene: Any = SimpleNamespace()
    assert painter.go_on(scene, FrameFacts(), lambda: False) is not None
    greedy.full = True
    assert [painter.go_on(scene, FrameFacts(), lambda: False) for _ in range(2)] == [None, None]
    assert len(warned) == 1


def test_other_failures_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = Greedy()
    monkeypatch.setattr(greedy, "render", lambda *_: (_ for _ in ()).throw(RuntimeError("a fault of ours")))
    scene: Any = SimpleNamespace()
    with pytest.raises(RuntimeError, match="of ours"):
        FrugalPainter(greedy, VirtualClock(), print).render(scene, FrameFacts(), "bridge1", lambda: False)


def test_a_decoder_that_finds_no_room_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_nothing(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...\nmore")

    monkeypatch.setattr(streams, "open_painter", open_nothing)
    with pytest.raises(WeightsError, match="no memory for the decoder: choose --device cpu or --steps 0"):
        Studio(load_config(None, []), VirtualClock(), print).prepare()

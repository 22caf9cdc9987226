"""What a receiver asks of whatever turns received bytes into scenes: `SceneDecoder` or `AnalogDecoder`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Protocol

from common.state import Composition, SceneState
from common.units import StreamConfig


def newest_until(scenes: Mapping[int, SceneState], slot: int) -> SceneState | None:
    """Of scenes by slot the newest that is not younger than `slot`, None without any."""
    return scenes.get(max((known for known in scenes if known <= slot), default=-1))


class Scenes(Protocol):
    """Units in, scene states out; see `receiver.chain.SceneDecoder`."""

    config: StreamConfig | None
    state: SceneState | None
    counts: Counter[str]
    mismatches: list[tuple[float, float]]

    @property
    def newest_slot(self) -> int: ...
    @property
    def anchor_ids(self) -> tuple[int, ...]: ...
    @property
    def anchor_wanted(self) -> bool: ...
    @property
    def undecodable(self) -> int: ...
    def push(self, data: bytes, now_s: float) -> None: ...
    def stalled_for_s(self, now_s: float) -> float: ...
    def scene_at(self, slot: int) -> SceneState | None: ...
    def latest_before(self, slot: int) -> SceneState | None: ...
    def shown(self, slot: int) -> None: ...
    def compose(self, scene: SceneState, aside: Executor | None = None) -> Composition: ...

"""The five seams. Each has at least two implementations; none is inherited from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from common.state import SceneState
    from common.types import Datagram, Frame, Picture


class FrameSource(Protocol):
    """Where pictures come from. Iterating yields frames at the coded size, in time order."""

    def __iter__(self) -> Iterator[Frame]: ...
    def close(self) -> None: ...


class Analyzer(Protocol):
    """Says what is where: label map [ceil(H/16), ceil(W/16)] uint8 in 0..20."""

    def label(self, picture: Picture) -> NDArray[np.uint8]: ...


class Transport(Protocol):
    """Carries datagrams of at most 1200 bytes; may lose, delay, reorder or repeat them."""

    def send(self, datagram: bytes, now_s: float) -> None: ...
    def receive(self, now_s: float) -> list[Datagram]: ...
    def close(self) -> None: ...


class Synthesizer(Protocol):
    """Paints a picture from a scene state at one level of the ladder."""

    levels: tuple[str, ...]

    def render(self, state: SceneState, level: str, should_stop: Callable[[], bool]) -> Picture: ...


class FrameSink(Protocol):
    """Where pictures go."""

    def show(self, frame: Frame) -> None: ...
    def close(self) -> None: ...

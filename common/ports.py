"""Four of the five seams. Each has at least two implementations; none is inherited from.

The fifth is `receiver.painter.Painter`: what it takes and gives is known to the receiver alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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


class FrameSink(Protocol):
    """Where pictures go."""

    def show(self, frame: Frame) -> None: ...
    def close(self) -> None: ...

"""From what the receiver shows to what a browser can draw: overlays, the source beside the output, JPEG.

At 512x512 on one core JPEG at this quality takes 0.6 ms and 63 kB (41 dB) after 1.1 ms for the conversion to RGB. WebP
has half the size and takes 35 ms, which is longer than a picture lasts.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

import cv2

from common.colour import picture_to_rgb
from common.types import Frame
from receiver.overlay import overlaid
from receiver.sinks import side_by_side
from receiver.web.messages import GENERATED, LEVEL, SOURCE, UNCERTAINTY, Overlay

if TYPE_CHECKING:
    from receiver.pipeline import Shown

JPEG_QUALITY = 90
_KEPT_SOURCES = 32  # a second, and more than the receiver is behind: 12 MB at 512x512
_FLAGS: dict[Overlay, int] = {"uncertainty": UNCERTAINTY, "generated": GENERATED, "level": LEVEL}


@dataclass(frozen=True, slots=True)
class View:
    """What is drawn into the pictures of a browser; browsers with the same view share them."""

    overlays: frozenset[Overlay] = frozenset()
    source: bool = False


class Sources:
    """The newest pictures of the source by slot, for showing them beside what became of them; safe between threads."""

    def __init__(self) -> None:
        self._frames: OrderedDict[int, Frame] = OrderedDict()
        self._lock = Lock()

    def put(self, frame: Frame) -> None:
        """Keep one, and forget the oldest."""
        with self._lock:
            self._frames[frame.slot] = frame
            self._frames.move_to_end(frame.slot)
            while len(self._frames) > _KEPT_SOURCES:
                self._frames.popitem(last=False)

    def at(self, slot: int) -> Frame | None:
        """What the source showed at `slot`; None where that is unknown."""
        with self._lock:
            return self._frames.get(slot)

    def __bool__(self) -> bool:
        return bool(self._frames)


def rendered(shown: Shown, source: Frame | None, view: View) -> tuple[bytes, int]:
    """A JPEG, and the flags of what is drawn in.

    source : of the same slot; without one the output stands alone
    """
    flags = 0
    for overlay, flag in _FLAGS.items():
        if overlay in view.overlays:
            shown, flags = replace(shown, frame=overlaid(shown, overlay)), flags | flag
    picture = shown.frame.picture
    if view.source and source is not None:
        picture, flags = side_by_side(source.picture, picture, "source", shown.level), flags | SOURCE
    rgb = picture_to_rgb(picture, shown.frame.colour)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    return jpeg.tobytes(), flags

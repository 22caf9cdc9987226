"""Where a network call cannot help: there the base picture is shown, and the call is saved.

    base picture --contrast--> nearly nothing to see -------------------------------------------> base picture
    guide at full size --quantiser step over texture--> coded too finely to need repair --------> base picture
    sender ends sharpening --> its edges are where the source has none, as where a pan begins --> base picture

A step is as likely to do harm there as good, and what it changes is hardly seen. Fitted on joined training clips at 24
kbit/s, flashes and fades included, by MS-SSIM over the guide's: the second rule (`decoder.sparing`) leaves out a fifth of
the guides at full size, with 2 % of what steps gain on them and three quarters of the steps that did harm; on the first
rule's pictures steps gained nothing on the mean, and did their greatest harm. On the development clips the second leaves
out a tenth, 0.3 %, and all. The third, which the same setting turns on, leaves out about one picture in a hundred after
the cuts of both (2841 pictures), with 0.5 % of what steps gain, and 7 of the 23 that they leave below the guide.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2

from receiver.uncertainty import texture

if TYPE_CHECKING:
    from common.state import Composition
    from common.types import Plane
    from receiver.decoder.conditions import FrameFacts

BLANK = 8.0
"""Contrast, sample steps, below which there is nothing to paint: the ends of fades, and flashes in which all drowns."""

FINE = 4.5
"""Quantiser step of a full-size guide, over its texture, below which it needs no repair."""


def is_blank(composition: Composition) -> bool:
    """Whether its base picture shows next to nothing."""
    return contrast(composition.base.y) < BLANK


def is_fine(composition: Composition, facts: FrameFacts) -> bool:
    """Whether its guide is at full size and needs no repair. 0.15 ms at 512x512"""
    # What a smaller guide leaves out is there to be painted, and of an analog link's noise no quantiser tells.
    if facts.guide_scale > 1 or composition.noise is not None:
        return False
    return quantiser_step(facts.guide_q) < FINE * float(texture(composition.guide.y).mean())


def contrast(luma: Plane) -> float:
    """Standard deviation, sample steps."""
    return float(cv2.meanStdDev(luma)[1].item())


def quantiser_step(index: int) -> float:
    """About AV1's at a quantiser index of 0..255, in sample steps: from a half to 228, evenly in its logarithm."""
    return 0.5 * math.exp(index / 255 * math.log(1828 / 4))

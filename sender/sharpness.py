"""How strongly the receiver is to sharpen the guide, found out on the picture itself."""

from __future__ import annotations

from dataclasses import replace

from common.fusion import upsample_plane
from common.sharpen import best_strength, edge_detail
from common.state import SceneState
from common.types import Picture
from common.units import FrameUnit

_KEEP = 0.8
"""The strength in use stays until the best one is farther away: a change costs two bytes."""


def graded(draft: FrameUnit, source: Picture, followed: SceneState) -> FrameUnit:
    """The draft with the sharpness that suits this picture, told when it changes or the quality is told."""
    if followed.scale == 1 or followed.guide is None:
        return draft
    wide = upsample_plane(followed.guide.y, followed.scale)
    detail = edge_detail(followed.guide.y, wide, followed.scale, followed.quality)
    best = best_strength(source.y, wide, detail)
    sharpness = (
        followed.sharpness if abs(best - followed.sharpness) < _KEEP and not draft.key else round(best)
    )
    if draft.quality is None and sharpness == followed.sharpness:
        return draft
    return replace(draft, quality=followed.quality, sharpness=sharpness)

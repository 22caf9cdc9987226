"""From libav frames to upright 8-bit 4:2:0 planes, touching samples only where it must be.

    decoded frame --(other pixel format or matrix? swscale)--> 8-bit 4:2:0 --(rotated?)--> planes

8-bit 4:2:0 in BT.709 or BT.601, limited or full range, goes through untouched; everything else (10 bit,
4:4:4, RGB, palettes, BT.2020) is converted once by swscale, keeping the transfer function.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from common.types import Colour, Plane

if TYPE_CHECKING:
    import av

Planes = tuple[Plane, Plane, Plane]
"""Y [H, W], U and V [ceil(H/2), ceil(W/2)], uint8; H and W may be odd."""


def default_colour(width: int, height: int) -> Colour:
    """Colour of a video that does not say: BT.709 from 1280 wide or 720 high (or turned), else BT.601."""
    is_hd = max(width, height) >= 1280 or min(width, height) >= 720
    return Colour("bt709" if is_hd else "bt601")


_MATRICES: dict[int, Literal["bt709", "bt601"]] = {1: "bt709", 5: "bt601", 6: "bt601"}
"""AVColorSpace (ITU-T H.273 table 4) of the matrices that pass untouched."""
_UNSPECIFIED_MATRIX = 2
_FULL_RANGE = 2
"""AVCOL_RANGE_JPEG."""


def _stated_colour(frame: av.VideoFrame) -> Colour | None:
    """Colour of a YCbCr frame in BT.709 or BT.601, None for anything else."""
    full_range = frame.format.name.startswith("yuvj") or frame.color_range == _FULL_RANGE
    if frame.format.is_rgb or frame.format.has_palette:
        return None
    if frame.colorspace == _UNSPECIFIED_MATRIX:
        return replace(default_colour(frame.width, frame.height), full_range=full_range)
    if frame.colorspace not in _MATRICES:
        return None
    return Colour(_MATRICES[frame.colorspace], full_range)


def own_colour(frame: av.VideoFrame) -> Colour:
    """The frame's own colour where the stream can carry it, else the default of its size."""
    return _stated_colour(frame) or default_colour(frame.width, frame.height)


def _to_yuv420p(frame: av.VideoFrame, colour: Colour) -> av.VideoFrame:
    """8-bit 4:2:0 in `colour`; the frame itself where it is that already."""
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    stated = _stated_colour(frame)
    if stated == colour and frame.format.name in ("yuv420p", "yuvj420p"):
        return frame
    spaces = {"bt709": Colorspace.ITU709, "bt601": Colorspace.ITU601}
    ranges = {False: ColorRange.MPEG, True: ColorRange.JPEG}
    return frame.reformat(
        format="yuv420p",
        src_colorspace=spaces[stated.matrix] if stated else None,
        src_color_range=ranges[stated.full_range] if stated else None,
        dst_colorspace=spaces[colour.matrix],
        dst_color_range=ranges[colour.full_range],
        interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
        threads=1,
    )


def _plane(frame: av.VideoFrame, index: int, turns: int) -> Plane:
    plane = frame.planes[index]
    padded = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
    samples: Plane = padded[: plane.height, : plane.width]
    return np.ascontiguousarray(np.rot90(samples, turns)).copy()


def quarter_turns(frame: av.VideoFrame) -> int:
    """Counter-clockwise quarter turns that the container's display matrix asks for."""
    return round(frame.rotation / 90) % 4


def frame_to_planes(frame: av.VideoFrame, colour: Colour) -> Planes:
    """Upright 8-bit 4:2:0 planes of a decoded frame in `colour`."""
    yuv, turns = _to_yuv420p(frame, colour), quarter_turns(frame)
    return _plane(yuv, 0, turns), _plane(yuv, 1, turns), _plane(yuv, 2, turns)

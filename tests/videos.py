"""Video files made of given samples, and sources read whole."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from common.types import Picture
from sender.sources import VideoSource, open_source


def planes(width: int, height: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    chroma = ((height + 1) // 2, (width + 1) // 2)
    y = rng.integers(16, 236, (height, width), np.uint8)
    return y, rng.integers(60, 190, chroma, np.uint8), rng.integers(60, 190, chroma, np.uint8)


def av_frame(samples: Iterable[np.ndarray], pixel_format: str = "yuv420p") -> av.VideoFrame:
    samples = list(samples)
    frame = av.VideoFrame(samples[0].shape[1], samples[0].shape[0], pixel_format)
    for plane, values in zip(frame.planes, samples, strict=True):
        row = np.frombuffer(plane, values.dtype).reshape(values.shape[0], -1)
        row[:, : values.shape[1]] = values
    return frame


def write_video(
    path: Path,
    pictures: Iterable[Any],
    *,
    pts: list[int] | None = None,
    time_base: Fraction = Fraction(1, 1000),
    rate: Fraction = Fraction(25),
    matrix: int = 2,
    sample_range: int = 0,
    pixel_format: str = "yuv420p",
    turn_deg: int = 0,
) -> Path:
    """A lossless FFV1 file of planes or ready frames (Matroska or MOV-like by suffix)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate)
        if turn_deg:
            stream.set_display_rotation(turn_deg)
        for index, picture in enumerate(pictures):
            frame = picture if isinstance(picture, av.VideoFrame) else av_frame(picture, pixel_format)
            if index == 0:
                context = stream.codec_context
                context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
                context.time_base = time_base
                context.colorspace, context.color_range = matrix, sample_range
            frame.colorspace, frame.color_range = matrix, sample_range
            frame.time_base = time_base
            frame.pts = pts[index] if pts else round(index / rate / time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def same(picture: Picture, samples: Iterable[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(picture.planes, samples, strict=True))


def read(spec: str | None, *args: Any, **options: Any) -> tuple[VideoSource, list[Any]]:
    with open_source(spec, *args, **options) as source:
        return source, list(source)

"""Units into a decoder, and whether the states that it holds are the sender's."""

from __future__ import annotations

from collections.abc import Sequence

from common.types import EncodedUnit
from receiver.chain import SceneDecoder
from tests.small_stream import Recording


def push_all(units: Sequence[EncodedUnit], decoder: SceneDecoder | None = None) -> SceneDecoder:
    """Units at the pace of their frames."""
    decoder = decoder or SceneDecoder()
    for unit in units:
        decoder.push(unit.data, unit.slot / 25)
    return decoder


def assert_never_wrong(decoder: SceneDecoder, story: Recording) -> None:
    for source, step in zip(story.frames, story.steps, strict=True):
        scene = decoder.scene_at(source.slot)
        assert scene is None or scene.digest == step.state.digest


def held(decoder: SceneDecoder, story: Recording) -> set[int]:
    return {frame.slot for frame in story.frames if decoder.scene_at(frame.slot) is not None}

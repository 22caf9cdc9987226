"""A stored stream must decode to the stored pictures, bit by bit, on every machine and in every later version.

If this fails, the stream format has changed: raise `BITSTREAM_VERSION` and run `python -m tests.golden.make_stream`.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from common.container import read_sgv
from common.errors import BitstreamError, SourceError
from common.state import compose, picture_digest
from common.types import UnitKind
from common.units import AnchorUnit
from common.wire import kind_of, parse_unit
from receiver.chain import SceneDecoder
from tests.golden.make_stream import PATCHES, STORY, Golden
from tests.small_stream import STREAM


def decoded(golden: Golden) -> SceneDecoder:
    decoder = SceneDecoder()
    for data in read_sgv(golden.stream_file):
        decoder.push(data, 0.0)
    return decoder


def expected(golden: Golden) -> dict[int, dict[str, str]]:
    document = json.loads(golden.digests_file.read_text(encoding="utf-8"))
    return {int(slot): digests for slot, digests in document["frames"].items()}


@pytest.mark.parametrize("golden", [STORY, PATCHES], ids=lambda golden: golden.name)
def test_the_stored_pictures_come_out(golden: Golden) -> None:
    decoder, digests_of = decoded(golden), expected(golden)
    assert decoder.config == STREAM
    assert set(digests_of) == set(golden.slots)
    for slot, digests in digests_of.items():
        scene = decoder.scene_at(slot)
        assert scene is not None, f"frame {slot} is missing"
        base = compose(scene, decoder.residual_of(scene)).base
        assert f"{scene.digest:08x}" == digests["state"], f"the state of frame {slot} has changed"
        assert f"{picture_digest(base):08x}" == digests["base"], f"the picture of frame {slot} has changed"


def test_the_stored_stream_uses_what_it_should_guard() -> None:
    decoder = decoded(STORY)
    kinds = Counter(kind_of(data) for data in read_sgv(STORY.stream_file))
    assert kinds[UnitKind.FRAME] == len(STORY.slots)
    assert kinds[UnitKind.ANCHOR] >= 1 and kinds[UnitKind.CONFIG] >= 2
    scenes = [decoder.scene_at(slot) for slot in STORY.slots]
    assert sum(scene is not None and scene.anchor is not None for scene in scenes) >= 10
    assert sum(scene is not None and bool(scene.labels.any()) for scene in scenes) >= 10
    assert STORY.stream_file.stat().st_size <= 20_000


def test_the_stored_patches_are_sent_and_used() -> None:
    decoder = decoded(PATCHES)
    anchors = [
        parse_unit(data, 0, 0) for data in read_sgv(PATCHES.stream_file) if kind_of(data) is UnitKind.ANCHOR
    ]
    assert [a.region for a in anchors if isinstance(a, AnchorUnit)] == list(PATCHES.anchors.values())
    assert decoder.counts["partial anchor"] == len(anchors)
    used = {scene.anchor.slot for slot in PATCHES.slots if (scene := decoder.scene_at(slot)) and scene.anchor}
    assert used == set(PATCHES.anchors)
    assert PATCHES.stream_file.stat().st_size <= 20_000


def test_a_cut_of_the_stored_stream_gives_the_frames_before_it(tmp_path: Path) -> None:
    data, cut, digests = STORY.stream_file.read_bytes(), tmp_path / "cut.sgv", expected(STORY)
    for length in range(0, len(data), 997):
        cut.write_bytes(data[:length])
        decoder = SceneDecoder()
        try:
            for unit in read_sgv(cut):
                decoder.push(unit, 0.0)
        except (BitstreamError, SourceError) as error:
            assert str(cut) in str(error)
        for slot in STORY.slots:
            scene = decoder.scene_at(slot)
            assert scene is None or f"{scene.digest:08x}" == digests[slot]["state"]

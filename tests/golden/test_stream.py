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
from common.wire import kind_of
from receiver.chain import SceneDecoder
from tests.golden.make_stream import DIGESTS_FILE, SLOTS, STREAM_FILE
from tests.small_stream import STREAM


@pytest.fixture(scope="module")
def decoder() -> SceneDecoder:
    decoder = SceneDecoder()
    for data in read_sgv(STREAM_FILE):
        decoder.push(data, 0.0)
    return decoder


@pytest.fixture(scope="module")
def expected() -> dict[int, dict[str, str]]:
    document = json.loads(DIGESTS_FILE.read_text(encoding="utf-8"))
    return {int(slot): digests for slot, digests in document["frames"].items()}


def test_the_stored_pictures_come_out(decoder: SceneDecoder, expected: dict[int, dict[str, str]]) -> None:
    assert decoder.config == STREAM
    assert set(expected) == set(SLOTS)
    for slot, digests in expected.items():
        scene = decoder.scene_at(slot)
        assert scene is not None, f"frame {slot} is missing"
        base = compose(scene, decoder.residual_of(scene)).base
        assert f"{scene.digest:08x}" == digests["state"], f"the state of frame {slot} has changed"
        assert f"{picture_digest(base):08x}" == digests["base"], f"the picture of frame {slot} has changed"


def test_the_stored_stream_uses_what_it_should_guard(decoder: SceneDecoder) -> None:
    kinds = Counter(kind_of(data) for data in read_sgv(STREAM_FILE))
    assert kinds[UnitKind.FRAME] == len(SLOTS)
    assert kinds[UnitKind.ANCHOR] >= 1 and kinds[UnitKind.CONFIG] >= 2
    scenes = [decoder.scene_at(slot) for slot in SLOTS]
    assert sum(scene is not None and scene.anchor is not None for scene in scenes) >= 10
    assert sum(scene is not None and bool(scene.labels.any()) for scene in scenes) >= 10
    assert STREAM_FILE.stat().st_size <= 20_000


def test_a_cut_of_the_stored_stream_gives_the_frames_before_it(
    tmp_path: Path, expected: dict[int, dict[str, str]]
) -> None:
    data, cut = STREAM_FILE.read_bytes(), tmp_path / "cut.sgv"
    for length in range(0, len(data), 997):
        cut.write_bytes(data[:length])
        decoder = SceneDecoder()
        try:
            for unit in read_sgv(cut):
                decoder.push(unit, 0.0)
        except (BitstreamError, SourceError) as error:
            assert str(cut) in str(error)
        for slot in SLOTS:
            scene = decoder.scene_at(slot)
            assert scene is None or f"{scene.digest:08x}" == expected[slot]["state"]

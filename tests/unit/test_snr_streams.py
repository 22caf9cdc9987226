"""Peers over links: streams at a rate, and decoders that go on when parts are missing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import SVT_AV1, X264, X265, PeerCodec
from benchmarks.plans import Clip
from benchmarks.rd_clip import Loaded, Material
from benchmarks.snr_link import through_codec
from benchmarks.snr_streams import StreamSpec, concealed
from common.config import Config, load_config
from common.types import Frame, Picture

SIDE, COUNT = 128, 24


def _clip() -> Loaded:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    frames, grain = [], np.random.default_rng(1).integers(0, 40, (SIDE, SIDE))
    for slot in range(COUNT):
        y = (108 + 80 * np.sin((columns + 2 * slot) / 9) * np.cos(rows / 13) + grain).astype(np.uint8)
        half = np.full((SIDE // 2, SIDE // 2), 110 + slot, np.uint8)
        frames.append(Frame(Picture(y, half, half), slot, Fraction(1, 25), slot))
    return Loaded(frames, Fraction(25))


CLIP = _clip()


def _config(spec: str = "clean", *texts: str) -> Config:
    return load_config(None, [f"channel.spec={spec}", "stream.bitrate_bps=64000", *texts])


def _spec(codec: PeerCodec, bps: int = 64_000, gop_s: float = 0.0) -> StreamSpec:
    return StreamSpec(Material(Clip(name="c", path=None), _config(), 1.0), codec, bps, gop_s)


@pytest.mark.parametrize("codec", [X264, X265, SVT_AV1])
def test_a_stream_is_the_best_that_the_rate_holds(codec: PeerCodec, tmp_path: Path) -> None:
    low, high = (_spec(codec, bps).open(CLIP, tmp_path) for bps in (16_000, 60_000))
    for stream, bps in ((low, 16_000), (high, 60_000)):
        assert len(stream.packets) == COUNT
        assert stream.link_bytes() <= bps / 8 * COUNT / 25
    assert high.link_bytes() >= low.link_bytes()


def test_a_stream_is_kept_and_made_again_where_its_file_is_damaged(tmp_path: Path) -> None:
    spec = _spec(X264)
    first = spec.open(CLIP, tmp_path)
    (path,) = (tmp_path / "streams").iterdir()
    stamp = path.stat().st_mtime_ns
    assert spec.open(CLIP, tmp_path) == first
    assert path.stat().st_mtime_ns == stamp
    path.write_bytes(path.read_bytes()[:-40])
    assert spec.open(CLIP, tmp_path) == first


def test_keys_come_as_often_as_asked(tmp_path: Path) -> None:
    stream = _spec(X264, gop_s=0.4).open(CLIP, tmp_path)
    assert [slot for slot, key in enumerate(stream.keys) if key] == [0, 10, 20]
    without_first = [None, *stream.packets[1:]]
    shown = concealed(X264, without_first, CLIP.pictures[0])
    assert all(picture is not None for picture in shown[10:])


@pytest.mark.parametrize("codec", [X264, X265, SVT_AV1])
def test_a_lost_picture_is_missing_and_the_rest_goes_on(codec: PeerCodec, tmp_path: Path) -> None:
    stream = _spec(codec).open(CLIP, tmp_path)
    whole = concealed(codec, stream.packets, CLIP.pictures[0])
    assert all(p is not None and (p.width, p.height) == (SIDE, SIDE) for p in whole)
    packets = [None if slot == 5 else packet for slot, packet in enumerate(stream.packets)]
    shown = concealed(codec, packets, CLIP.pictures[0])
    assert shown[5] is None
    assert all(
        a is not None and b is not None and np.array_equal(a.y, b.y)
        for a, b in zip(shown[:5], whole[:5], strict=True)
    )


def test_nothing_but_rubbish_shows_nothing() -> None:
    assert concealed(X264, [b"\0" * 40, b"\xff" * 40], CLIP.pictures[0]) == [None, None]


def test_over_a_clean_link_everything_is_new_and_as_decoded(tmp_path: Path) -> None:
    stream = _spec(X264).open(CLIP, tmp_path)
    received = through_codec(X264, stream, CLIP, _config())
    assert all(received.fresh)
    whole = concealed(X264, stream.packets, CLIP.pictures[0])
    assert all(
        b is not None and np.array_equal(a.y, b.y) for a, b in zip(received.pictures, whole, strict=True)
    )
    assert received.uses is None
    assert received.sent_bytes is not None and received.sent_bytes >= sum(map(len, stream.packets))


def test_what_comes_after_the_delay_is_not_shown(tmp_path: Path) -> None:
    stream = _spec(X264).open(CLIP, tmp_path)
    late = _config("packet:delay_ms=400", "receiver.playout_delay_ms=300")
    received = through_codec(X264, stream, CLIP, late)
    assert not any(received.fresh)
    assert all((picture.y == 128).all() for picture in received.pictures)
    in_time = _config("packet:delay_ms=400", "receiver.playout_delay_ms=500")
    assert all(through_codec(X264, stream, CLIP, in_time).fresh)


def test_losses_are_repaired_while_there_is_time(tmp_path: Path) -> None:
    stream = _spec(X264).open(CLIP, tmp_path)
    channel = "packet:loss=0.2,delay_ms=20"
    patient, hasty = (
        through_codec(X264, stream, CLIP, _config(channel, f"receiver.playout_delay_ms={ms}"))
        for ms in (2000, 30)
    )
    assert sum(patient.fresh) > sum(hasty.fresh)
    assert sum(patient.fresh) >= COUNT - 2


def test_a_rate_below_the_lowest_gets_the_smallest_stream(tmp_path: Path) -> None:
    tiny = _spec(X264, 100).open(CLIP, tmp_path)
    assert (tiny.scale, tiny.crf) == (4, 51)
    assert tiny.link_bytes() > 100 / 8 * COUNT / 25

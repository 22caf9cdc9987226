"""Recordings: lossless means lossless, whole-looking means whole, and nothing recorded is lost."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from common.errors import CodecError, SinkError
from common.types import Colour, Frame, Picture
from receiver.sinks import (
    CAPTION_HEIGHT,
    BackgroundSink,
    Ffv1Sink,
    MemorySink,
    Mp4Sink,
    NullSink,
    SideBySideSink,
)
from sender.sources import open_source

RATE, TICK, COLOUR = Fraction(25), Fraction(1, 25), Colour()


def noise(width: int = 64, height: int = 48, seed: int = 0) -> Picture:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 256, (height, width), np.uint8)
    u, v = rng.integers(0, 256, (2, height // 2, width // 2), np.uint8)
    return Picture(y, u, v)


def frames(count: int, colour: Colour = COLOUR, time_base: Fraction = TICK) -> list[Frame]:
    return [Frame(noise(seed=slot), slot, time_base, slot, colour) for slot in range(count)]


@pytest.mark.parametrize("colour", [Colour(m, f) for m in ("bt709", "bt601") for f in (False, True)])
def test_ffv1_gives_back_every_sample_time_and_colour(tmp_path: Path, colour: Colour) -> None:
    sent = frames(5, colour)
    with Ffv1Sink(tmp_path / "a.mkv", RATE, TICK, colour) as sink:
        for frame in sent:
            sink.show(frame)
    with open_source(str(tmp_path / "a.mkv")) as source:
        received = list(source)
    assert source.colour == colour and source.frame_rate == RATE
    for a, b in zip(sent, received, strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(a.picture.planes, b.picture.planes, strict=True))
        assert a.pts * a.time_base == b.pts * b.time_base
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_ffv1_times_are_exact_to_half_a_millisecond_and_uneven_ones_survive(tmp_path: Path) -> None:
    time_base = Fraction(1, 90000)
    stamps = [0, 3003, 6006, 30000, 30100, 90001]
    with Ffv1Sink(tmp_path / "a.mkv", Fraction(30000, 1001), time_base, COLOUR) as sink:
        for slot, pts in enumerate(stamps):
            sink.show(Frame(noise(seed=slot), pts, time_base, slot))
    with open_source(str(tmp_path / "a.mkv")) as source:
        received = [frame.pts * frame.time_base for frame in source]
    assert len(received) == len(stamps)
    assert all(abs(a - b * time_base) <= Fraction(1, 2000) for a, b in zip(received, stamps, strict=True))
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.streams.video[0].codec_context.name == "ffv1"


def test_mp4_is_h264_close_to_the_picture_with_exact_times(tmp_path: Path) -> None:
    time_base = Fraction(1001, 30000)
    ramp = np.tile(np.linspace(30, 200, 64).astype(np.uint8), (48, 1))
    grey = np.full((24, 32), 128, np.uint8)
    sent = [Frame(Picture(np.roll(ramp, k, 0), grey, grey), k, time_base, k) for k in range(8)]
    with Mp4Sink(tmp_path / "a.mp4", 1 / time_base, time_base, COLOUR) as sink:
        for frame in sent:
            sink.show(frame)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    with open_source(str(tmp_path / "a.mp4")) as source:
        received = list(source)
    assert source.colour == COLOUR
    for a, b in zip(sent, received, strict=True):
        assert a.pts * a.time_base == b.pts * b.time_base
        assert np.abs(a.picture.y.astype(int) - b.picture.y).mean() < 3


def test_other_encoders_only_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="libnothing"):
        Mp4Sink(tmp_path / "a.mp4", RATE, TICK, COLOUR, codec="libnothing")
    with Mp4Sink(tmp_path / "a.mp4", RATE, TICK, COLOUR, codec="mpeg4") as sink:
        for frame in frames(3):
            sink.show(frame)
    with open_source(str(tmp_path / "a.mp4")) as source:
        assert len(list(source)) == 3


def test_side_by_side_has_both_pictures_under_captions(tmp_path: Path) -> None:
    dark = Picture(np.full((48, 64), 40, np.uint8), *[np.full((24, 32), 128, np.uint8)] * 2)
    light = Picture(np.full((24, 32), 200, np.uint8), *[np.full((12, 16), 128, np.uint8)] * 2)
    sink = SideBySideSink(Mp4Sink(tmp_path / "s.mp4", RATE, TICK, COLOUR))
    for slot in range(3):
        sink.show_pair(Frame(dark, slot, TICK), Frame(light, slot, TICK), "source", "bridge 1")
    sink.close()
    with open_source(str(tmp_path / "s.mp4")) as source:
        picture = next(iter(source)).picture
    assert (picture.width, picture.height) == (128, 48 + CAPTION_HEIGHT)
    body = picture.y[CAPTION_HEIGHT:].astype(int)
    assert abs(body[:, 4:60].mean() - 40) < 3 and abs(body[:, 68:124].mean() - 200) < 3
    strip = picture.y[:CAPTION_HEIGHT]
    assert strip[:, :64].max() > 150 and strip[:, 64:].max() > 150, "both captions are written"


@pytest.mark.parametrize(("kind", "name"), [(Ffv1Sink, "a.mkv"), (Mp4Sink, "a.mp4")])
def test_an_interrupted_recording_is_kept_beside(
    tmp_path: Path, kind: type[Ffv1Sink] | type[Mp4Sink], name: str
) -> None:
    (tmp_path / name).write_text("an older recording")
    with pytest.raises(KeyboardInterrupt) as caught, kind(tmp_path / name, RATE, TICK, COLOUR) as sink:
        for frame in frames(4):
            sink.show(frame)
        raise KeyboardInterrupt
    assert (tmp_path / name).read_text() == "an older recording"
    assert str(sink.partial_path) in caught.value.__notes__[0]
    with open_source(str(sink.partial_path)) as source:
        assert len(list(source)) == 4


def test_a_killed_recording_plays_up_to_the_cut(tmp_path: Path) -> None:
    """What lies on the disk before `close` is already a readable file."""
    big = [Frame(noise(256, 256, seed), seed, TICK, seed) for seed in range(60)]
    sink = Ffv1Sink(tmp_path / "a.mkv", RATE, TICK, COLOUR)
    for frame in big:
        sink.show(frame)
    (tmp_path / "copy.mkv").write_bytes(sink.partial_path.read_bytes())
    sink.abandon()
    assert not (tmp_path / "a.mkv").exists()
    with open_source(str(tmp_path / "copy.mkv")) as source:
        assert len(list(source)) >= 30


def test_of_a_killed_mp4_all_but_the_last_seconds_plays(tmp_path: Path) -> None:
    """However few bytes its pictures take: a fragment waits in no buffer."""
    sink = Mp4Sink(tmp_path / "a.mp4", RATE, TICK, COLOUR)
    for slot in range(100):
        sink.show(Frame(noise(64, 64, 0), slot, TICK, slot))
    (tmp_path / "copy.mp4").write_bytes(sink.partial_path.read_bytes())
    sink.abandon()
    with open_source(str(tmp_path / "copy.mp4")) as source:
        assert len(list(source)) >= 40


@pytest.mark.parametrize(("kind", "name"), [(Ffv1Sink, "a.mkv"), (Mp4Sink, "a.mp4")])
def test_a_full_disk_is_one_line(tmp_path: Path, kind: type[Ffv1Sink] | type[Mp4Sink], name: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    sink = kind(tmp_path / name, RATE, TICK, COLOUR)
    sink.abandon()
    assert not sink.partial_path.exists(), "nothing was written"
    sink.partial_path.symlink_to("/dev/full")
    sink = kind(tmp_path / name, RATE, TICK, COLOUR)
    with pytest.raises(SinkError, match="disk is full") as caught:
        for slot in range(60):
            sink.show(Frame(noise(256, 256, slot), slot, TICK, slot))
        sink.close()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / name).exists()
    sink.abandon()
    with pytest.raises(SinkError, match="already closed"):
        sink.show(Frame(noise(), 100, TICK))


def test_unwritable_places_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.mkv").mkdir()
    (tmp_path / "file").touch()
    for place in (tmp_path / "folder.mkv", tmp_path / "none" / "a.mkv", tmp_path / "file" / "a.mkv"):
        with pytest.raises(SinkError) as caught:
            Ffv1Sink(place, RATE, TICK, COLOUR)
        assert "\n" not in str(caught.value) and str(place) in str(caught.value)


def test_misuse_is_refused(tmp_path: Path) -> None:
    sink = Ffv1Sink(tmp_path / "a.mkv", RATE, TICK, COLOUR)
    sink.show(Frame(noise(), 5, TICK))
    with pytest.raises(SinkError, match="does not come after"):
        sink.show(Frame(noise(), 5, TICK))
    with pytest.raises(SinkError, match="size or colour"):
        sink.show(Frame(noise(32, 32), 6, TICK))
    with pytest.raises(SinkError, match="size or colour"):
        sink.show(Frame(noise(), 6, TICK, colour=Colour("bt601")))
    sink.close()
    sink.close()
    empty = Ffv1Sink(tmp_path / "b.mkv", RATE, TICK, COLOUR)
    with pytest.raises(SinkError, match="no picture"):
        empty.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_memory_and_null_sinks() -> None:
    memory, null = MemorySink(), NullSink()
    for frame in frames(3):
        memory.show(frame)
        null.show(frame)
    memory.close()
    null.close()
    assert [frame.slot for frame in memory.frames] == [0, 1, 2] and null.count == 3


def test_a_background_recording_is_the_same_and_its_errors_come_out(tmp_path: Path) -> None:
    sent = frames(20)
    for name in ("plain", "background"):
        recording = Ffv1Sink(tmp_path / f"{name}.mkv", RATE, TICK, COLOUR)
        sink = recording if name == "plain" else BackgroundSink(recording)
        for frame in sent:
            sink.show(frame)
        sink.close()
    with open_source(str(tmp_path / "plain.mkv")) as a, open_source(str(tmp_path / "background.mkv")) as b:
        for one, other in zip(a, b, strict=True):
            assert np.array_equal(one.picture.y, other.picture.y) and one.pts == other.pts
    broken = BackgroundSink(Ffv1Sink(tmp_path / "broken.mkv", RATE, TICK, COLOUR))
    broken.show(sent[1])
    broken.show(sent[0])
    with pytest.raises(SinkError, match="does not come after"):
        broken.close()
    broken.abandon()
    assert not (tmp_path / "broken.mkv").exists()

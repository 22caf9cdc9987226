"""Pictures elsewhere: playable by others, never in the way of the receiver, honest about what fails."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any

import av
import numpy as np
import pytest

from common.clock import VirtualClock
from common.errors import SinkError, UsageError
from common.provenance import Provenance, WeightsId
from common.types import Colour, Frame, Picture
from common.units import StreamConfig
from receiver.encoding import Encoding, VideoEncoder
from receiver.marking import read_video
from receiver.outputs import RETRY_S, STALL_S, OutputSink, check_output, open_output
from receiver.rtmp import reason

SLOW = StreamConfig(1, 64, 48, Fraction(1), Fraction(1, 1000), Colour("bt709"))
"""One picture a second: four, which may all wait, make two segments."""
MARKING = Provenance(model=WeightsId(name="tiny", sha256="ab" * 32), statement="Detail is partly generated.")
LIVE = StreamConfig(1, 64, 48, Fraction(25), Fraction(1, 1000))


def frame(slot: int, stream: StreamConfig = SLOW) -> Frame:
    """A ramp that moves; even its first slot is in the middle of a stream."""
    ramp = np.add.outer(np.zeros(48, int), np.arange(64) * 2 + 40 + 5 * (slot % 8)).astype(np.uint8)
    grey = np.full((24, 32), 128, np.uint8)
    slot += 700
    return Frame(Picture(ramp, grey, grey), stream.pts_of(slot), stream.time_base, slot, stream.colour)


class Warnings(list[str]):
    """What an output said, and a way to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.came = Event()

    def __call__(self, text: str) -> None:
        self.append(text)
        self.came.set()


@dataclass
class FakeTarget:
    """Writes nowhere; `trouble` is called for each picture before it is taken."""

    trouble: Callable[[], None]
    name: str = "fake"
    opened: list[bool] = field(default_factory=list)
    killed: Event = field(default_factory=Event)

    def open(self, stream: StreamConfig, marking: Provenance | None, again: bool) -> VideoEncoder:
        self.opened.append(again)
        target = self

        class Encoder(VideoEncoder):
            def write(self, frame: Frame) -> None:
                target.trouble()

        return Encoder(Nowhere(), "fake", Encoding("flv", "flv"), Fraction(25), Fraction(1, 1000), Colour())

    def kill(self) -> None:
        self.killed.set()

    def close(self, patience_s: float) -> str:
        return ""


class Nowhere:
    def write(self, data: bytes) -> int:
        return len(data)


def show_until(out: OutputSink, done: Callable[[], bool]) -> int:
    """Show pictures until something has happened on the output's thread."""
    for slot in range(20_000):
        if done():
            return slot
        out.show(frame(slot, LIVE))
        Event().wait(0.005)
    raise AssertionError("it never happened")


# --- HLS ----------------------------------------------------------------------------------------------------------


def test_an_hls_folder_plays(tmp_path: Path) -> None:
    warnings = Warnings()
    out = open_output(f"hls:{tmp_path}/100% live", SLOW, warnings, marking=MARKING)
    sent = [frame(slot) for slot in range(4)]
    for picture in sent:
        out.show(picture)
    out.close()
    assert warnings == [] and out.drops == () and not out.failing
    folder = tmp_path / "100% live"
    playlist = (folder / "index.m3u8").read_text()
    assert "#EXT-X-ENDLIST" in playlist and "#EXT-X-INDEPENDENT-SEGMENTS" in playlist
    assert sorted(path.name for path in folder.glob("*.ts")) == ["segment00000.ts", "segment00001.ts"]
    with av.open(str(folder / "index.m3u8")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        received = list(container.decode(video=0))
    assert [float(f.pts * f.time_base - received[0].pts * received[0].time_base) for f in received] == [
        0,
        1,
        2,
        3,
    ]
    for picture, got in zip(sent, received, strict=True):
        assert np.abs(picture.picture.y.astype(int) - got.to_ndarray(format="gray")[:48]).mean() < 8
        assert (got.width, got.height, got.colorspace) == (64, 48, 1)
    assert read_video(folder / "index.m3u8")["provenance"] == MARKING.document()
    with av.open(str(folder / "index.m3u8")) as container:
        keys = [bytes(packet) for packet in container.demux(video=0) if packet.is_keyframe]
    assert len(keys) == 2 and all(MARKING.text().encode() in key for key in keys), "who joins late sees it"


def test_an_hls_folder_that_fails_is_begun_anew_and_goes_on(tmp_path: Path) -> None:
    warnings, clock = Warnings(), VirtualClock()
    folder = tmp_path / "live"
    out = open_output(f"hls:{folder}", SLOW, warnings, clock)
    folder.rmdir()
    folder.touch()
    show_until(out, warnings.came.is_set)
    assert out.failing and str(folder) in warnings[0] and "trying again" in warnings[0]
    folder.unlink()
    folder.mkdir()
    clock.advance_to(RETRY_S)
    show_until(out, (folder / "segment00000.ts").exists)
    clock.advance_to(2 * RETRY_S)
    show_until(out, lambda: not out.failing)
    out.close()
    assert len(warnings) == 2 and warnings[1].endswith("works again")
    with av.open(str(folder / "index.m3u8")) as container:
        assert len(list(container.decode(video=0))) > 1


def test_a_folder_that_cannot_be_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot be made"):
        check_output(f"hls:{tmp_path}/file/live")


# --- never in the way ---------------------------------------------------------------------------------------------


def test_a_busy_output_drops_pictures_and_counts_them() -> None:
    entered, free = Event(), Event()

    def busy() -> None:
        entered.set()
        free.wait()

    out = OutputSink(FakeTarget(busy), LIVE, Warnings(), VirtualClock())
    out.show(frame(0))
    entered.wait()
    for slot in range(1, 11):
        out.show(frame(slot))
    free.set()
    out.close()
    assert out.drops == (("full", 6),)


def test_an_output_that_takes_nothing_is_ended() -> None:
    warnings, clock, entered = Warnings(), VirtualClock(), Event()

    def hang() -> None:
        entered.set()
        target.killed.wait()
        raise SinkError("broken")

    target = FakeTarget(hang)
    out = OutputSink(target, LIVE, warnings, clock)
    out.show(frame(0))
    entered.wait()
    clock.advance_to(STALL_S)
    out.show(frame(1))
    assert not target.killed.is_set()
    clock.advance_to(STALL_S + 0.1)
    out.show(frame(2))
    warnings.came.wait()
    out.close()
    assert warnings == ["fake: has taken nothing for 10 s; trying again every 5 s"]


def test_a_failure_is_told_once_and_so_is_its_end() -> None:
    warnings, clock = Warnings(), VirtualClock()
    broken = True

    def trouble() -> None:
        if broken:
            raise SinkError("fake: broken")

    target = FakeTarget(trouble)
    out = OutputSink(target, LIVE, warnings, clock)
    for attempt in range(3):
        clock.advance_to(attempt * RETRY_S)
        show_until(out, lambda: len(target.opened) > attempt)  # noqa: B023
    broken = False
    clock.advance_to(3 * RETRY_S)
    show_until(out, lambda: len(target.opened) > 3)
    assert out.failing, "it has to hold for a while"
    clock.advance_to(4 * RETRY_S)
    show_until(out, lambda: not out.failing)
    out.close()
    assert warnings == ["fake: broken; trying again every 5 s", "fake: works again"]
    assert target.opened == [False, True, True, True]
    assert dict(out.drops)["failing"] >= 3


# --- RTMP ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Nobody listens there, and nobody else can."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_a_refused_connection_is_one_clear_line_without_the_key(closed_port: int) -> None:
    warnings = Warnings()
    out = open_output(f"rtmp://127.0.0.1:{closed_port}/live/SECRET", LIVE, warnings, VirtualClock())
    show_until(out, warnings.came.is_set)
    for slot in range(30):
        out.show(frame(slot, LIVE))
    out.close()
    assert warnings == [
        f"rtmp://127.0.0.1:{closed_port}/live/...: Connection refused; trying again every 5 s"
    ]
    assert out.failing and dict(out.drops)["failing"] > 0


def test_a_server_gets_the_pictures(tmp_path: Path) -> None:
    """ffmpeg as server; until it listens the connection is refused, and tried again."""
    from imageio_ffmpeg import get_ffmpeg_exe

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, got = f"rtmp://127.0.0.1:{port}/live/key", tmp_path / "got.mkv"
    server = subprocess.Popen(
        [get_ffmpeg_exe(), "-loglevel", "quiet", "-listen", "1", "-probesize", "32", "-i", url, "-c", "copy", str(got)],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    warnings, clock = Warnings(), VirtualClock()
    out = open_output(url, LIVE, warnings, clock, MARKING)

    def arrives() -> bool:
        clock.advance_to(clock.now_s() + 1)
        return got.exists()

    try:
        show_until(out, arrives)
        out.close()
        server.wait(20)
    finally:
        server.kill()
        server.wait()
    with av.open(str(got)) as container:
        assert container.metadata["COMMENT"] == MARKING.text()
        received = [f.to_ndarray(format="gray")[:48] for f in container.decode(video=0)]
    assert len(received) > 1 and received[0].shape == (48, 64)
    assert read_video(got)["provenance"] == MARKING.document()


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("[tcp @ 0x1] Connection to tcp://h:1?x=0 failed: Connection refused\nmore\n", "Connection refused"),
        ("[rtmp @ 0x1] Server error: Stream key is wrong\n", "Stream key is wrong"),
        ("Error opening output rtmp://h/live/key: rtmp://h/live/key", "the server"),
        ("", ""),
    ],
)
def test_reasons_are_short_and_tell_no_secret(said: str, wanted: str) -> None:
    assert reason(said, "rtmp://h/live/key") == wanted


# --- cameras and mistakes -----------------------------------------------------------------------------------------


def test_a_virtual_camera_must_be_there_and_be_one(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="modprobe v4l2loopback"):
        check_output(f"v4l2:{tmp_path}/video9")
    warnings = Warnings()
    out = open_output("v4l2:/dev/null", LIVE, warnings, VirtualClock())
    show_until(out, warnings.came.is_set)
    out.close()
    assert len(warnings) == 1 and warnings[0].startswith("v4l2:/dev/null: cannot be written (")


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("hsl:live", "hls:FOLDER"),
        ("hls:", "hls:FOLDER"),
        ("rtmp:host", "a server and a path"),
        ("rtmp://", "a server and a path"),
        ("rtmp://host", "a server and a path"),
        ("rtmp://host:x/live", "a server and a path"),
        ("rtmp://host/live/a b", "a server and a path"),
        ("rtnp://host/live", "rtmp://HOST/APP/KEY"),
        ("v4l:/dev/video9", "v4l2:/dev/video9"),
        ("", "hls:FOLDER, rtmp://HOST/APP/KEY"),
    ],
)
def test_what_is_no_output_is_refused(url: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_output(url)
    assert hint in str(caught.value) and "\n" not in str(caught.value)


def test_names_keep_secrets() -> None:
    target: Any = check_output("rtmps://user:word@[::1]:1936/app/SECRET?token=SECRET")
    assert target.name == "rtmps://[::1]:1936/app/..."
    assert "SECRET" not in repr(target)

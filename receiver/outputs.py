"""The received pictures elsewhere: an HLS folder, an RTMP server, a virtual camera.

    show -> the newest few wait -> own thread -> H.264 -> playlist and segments
                                                       -> FLV -> RtmpRelay -> server
                                              -> raw samples -> v4l2 device

What goes out is marked as partly generated where the format has room for it (receiver/marking.py): before every key
picture of H.264, and in FLV's metadata. Raw samples for a virtual camera have no room.

`show` never waits and never fails. Pictures that an output has no time for are dropped and counted; an output that fails
says so once, and is begun anew every few seconds until it works.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from common.clock import Clock, SystemClock
from common.errors import SinkError, UsageError
from common.files import made_folder
from common.provenance import Provenance
from common.queues import BoundedQueue, DropCounter, Drops
from common.types import Frame
from common.units import StreamConfig
from receiver.encoding import ByteSink, Encoding, VideoEncoder
from receiver.marking import in_pictures
from receiver.rtmp import RtmpRelay
from receiver.timeline import Timeline

RETRY_S = 5.0
"""How long an output that failed is left alone, and how long it has to hold to count as working again."""
STALL_S = 10.0
"""An output that takes so long over one picture has failed."""
CLOSE_S = 3.0
"""How long closing may take before the rest is given up."""
KINDS = {
    "hls": "hls:FOLDER",
    "rtmp": "rtmp://HOST/APP/KEY",
    "rtmps": "rtmps://HOST/APP/KEY",
    "v4l2": "v4l2:/dev/video9",
}
_LAST_WORDS_S = 0.5
"""How long a connection that broke has to say why."""
_WAITING = 4
_LEAST_S = Fraction(1, 500)
"""Between two pictures: containers count milliseconds, or 1/90000 s, and want times that increase."""
_SEGMENT_S, _SEGMENTS = 2, 6


def open_output(
    url: str,
    stream: StreamConfig,
    warn: Callable[[str], None],
    clock: Clock | None = None,
    marking: Provenance | None = None,
) -> OutputSink:
    """An output for the pictures of `stream`; see `KINDS` for `url`.

    marking : what the video says of itself
    warn : told in one line, on another thread, that the output fails, and that it works again
    Raises UsageError and SinkError as `check_output` does; what fails later only warns.
    """
    return OutputSink(check_output(url), stream, warn, clock or SystemClock(), marking)


def check_output(url: str) -> Target:
    """What can be known about an output before the first picture. Nothing is sent, and no server asked.

    Raises UsageError for a URL that is not understood, SinkError for a folder or device that cannot be used.
    """
    kind, _, rest = url.partition(":")
    if kind == "hls" and rest:
        return HlsFolder.at(Path(rest))
    if kind in ("rtmp", "rtmps"):
        return RtmpServer.at(url)
    if kind == "v4l2" and rest:
        return VirtualCamera.at(Path(rest))
    near = difflib.get_close_matches(kind.lower(), KINDS, n=1, cutoff=0.5)
    wanted = KINDS[near[0]] if near else ", ".join(KINDS.values())
    raise UsageError(f"output {url!r} is not understood; write {wanted}")


class Target(Protocol):
    """Where an output goes."""

    @property
    def name(self) -> str:
        """For messages: without secrets."""

    def open(self, stream: StreamConfig, marking: Provenance | None, again: bool) -> VideoEncoder:
        """Begin, or begin again after a failure. Raises SinkError."""

    def kill(self) -> None:
        """Make whatever waits fail, from another thread."""

    def close(self, patience_s: float) -> str:
        """After the last byte, or a failure; says what went wrong where it knows better than the encoder."""


class OutputSink:
    """One output of one stream (a `common.ports.FrameSink`); see `open_output`."""

    def __init__(
        self,
        target: Target,
        stream: StreamConfig,
        warn: Callable[[str], None],
        clock: Clock,
        marking: Provenance | None = None,
    ) -> None:
        self._target, self._stream, self._warn, self._clock = target, stream, warn, clock
        self._marking = marking
        self._waiting: BoundedQueue[Frame] = BoundedQueue(_WAITING)
        self._drops = DropCounter()
        self._timeline = Timeline(stream, _LEAST_S)
        self._encoder: VideoEncoder | None = None
        self._failing = self._stalled = False
        self._opened_s, self._failed_s = float("-inf"), float("-inf")
        self._busy_s: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"output {target.name}", daemon=True)
        self._thread.start()

    @property
    def failing(self) -> bool:
        """Whether it has failed, and not worked since."""
        return self._failing

    @property
    def drops(self) -> Drops:
        """Pictures that did not go out: "full" as the output was busy, "failing"."""
        return tuple(sorted((*self._waiting.drops, *self._drops.snapshot())))

    def show(self, frame: Frame) -> None:
        """Hand one picture over."""
        busy_s = self._busy_s
        if busy_s is not None and self._clock.now_s() - busy_s > STALL_S:
            self._stalled = True
            self._target.kill()
        self._waiting.put(frame)

    def close(self) -> None:
        """Send what waits and complete the output; what takes too long is given up."""
        self._waiting.close()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self._target.kill()
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while (frame := self._waiting.get(None)) is not None:
            self._busy_s = self._clock.now_s()
            try:
                self._write(frame, self._busy_s)
            except SinkError as error:
                self._failed(error)
            self._busy_s = None
        self._finish()

    def _write(self, frame: Frame, now_s: float) -> None:
        if now_s - self._failed_s < RETRY_S:
            self._drops.add("failing")
            return
        if self._encoder is None:
            self._encoder = self._target.open(self._stream, self._marking, again=self._failing)
            self._opened_s = now_s
        self._encoder.write(replace(frame, pts=self._timeline.place(frame)))
        if self._failing and now_s - self._opened_s >= RETRY_S:
            self._failing = False
            self._warn(f"{self._target.name}: works again")

    def _failed(self, error: SinkError) -> None:
        self._drops.add("failing")
        self._failed_s = self._clock.now_s()
        said = self._target.close(_LAST_WORDS_S)
        if self._encoder is not None:
            self._encoder.abandon()
            self._encoder = None
        if self._stalled:
            said, self._stalled = f"has taken nothing for {STALL_S:g} s", False
        if not self._failing:
            self._failing = True
            text = f"{self._target.name}: {said}" if said else str(error)
            self._warn(f"{text}; trying again every {RETRY_S:g} s")

    def _finish(self) -> None:
        if self._encoder is None:
            return
        try:
            self._encoder.finish()
        except SinkError as error:
            self._warn(str(error))
        self._target.close(CLOSE_S)


# --- targets ------------------------------------------------------------------------------------------------------


def _h264(container: str, stream: StreamConfig, **container_options: str) -> Encoding:
    """For players: seekable every segment, no delay, and a rate that networks expect."""
    options = {
        "preset": "veryfast", "tune": "zerolatency", "crf": "20", "maxrate": "4M", "bufsize": "4M",
        "g": str(round(_SEGMENT_S * stream.frame_rate)), "threads": "1",
    }  # fmt: skip
    return Encoding(container, "libx264", options, container_options)


def _encoder(
    target: str | ByteSink,
    name: str,
    encoding: Encoding,
    stream: StreamConfig,
    marking: Provenance | None = None,
) -> VideoEncoder:
    """marking : for H.264 alone"""
    comment, before_keys = ("", b"") if marking is None else (marking.text(), in_pictures(marking))
    return VideoEncoder(
        target, name, encoding, stream.frame_rate, stream.time_base, stream.colour,
        comment=comment, before_keys=before_keys,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class HlsFolder:
    """A playlist of the last seconds, index.m3u8, and its segments, for any web server to serve."""

    name: str
    folder: Path

    @classmethod
    def at(cls, folder: Path) -> HlsFolder:
        """Raises SinkError where the folder cannot be made."""
        return cls(f"hls:{folder}", made_folder(folder).absolute())

    def open(self, stream: StreamConfig, marking: Provenance | None, again: bool) -> VideoEncoder:
        """`again` goes on with the playlist that is there."""
        flags = "delete_segments+independent_segments" + "+append_list+discont_start" * again
        encoding = _h264(
            "hls", stream, hls_time=str(_SEGMENT_S), hls_list_size=str(_SEGMENTS), hls_flags=flags,
            hls_segment_filename=f"{self.folder}/segment%05d.ts",
        )  # fmt: skip
        return _encoder(str(self.folder / "index.m3u8"), self.name, encoding, stream, marking)

    def kill(self) -> None:
        """Files do not wait."""

    def close(self, patience_s: float) -> str:
        """The encoder has said it all."""
        return ""


@dataclass(slots=True)
class RtmpServer:
    """A streaming service; see `RtmpRelay`."""

    name: str
    url: str = field(repr=False)
    relay: RtmpRelay | None = None

    @classmethod
    def at(cls, url: str) -> RtmpServer:
        """Raises UsageError for a URL without host or path."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        app = parts.path.strip("/").partition("/")[0] if host else ""
        if not host or not app or url.split() != [url]:
            raise UsageError(f"an RTMP output needs a server and a path; write {KINDS['rtmp']}")
        place = f"[{host}]" if ":" in host else host
        return cls(f"{parts.scheme}://{place}{f':{port}' if port else ''}/{app}/...", url)

    def open(self, stream: StreamConfig, marking: Provenance | None, again: bool) -> VideoEncoder:
        """Connects while the first pictures are encoded."""
        self.relay = RtmpRelay(self.url)
        return _encoder(self.relay, self.name, _h264("flv", stream), stream, marking)

    def kill(self) -> None:
        """End the connection."""
        if self.relay is not None:
            self.relay.kill()

    def close(self, patience_s: float) -> str:
        """What the server or the network said."""
        relay, self.relay = self.relay, None
        return relay.close(patience_s) if relay is not None else ""


@dataclass(frozen=True, slots=True)
class VirtualCamera:
    """A device of v4l2loopback, which other programs see as a camera."""

    name: str
    device: Path

    @classmethod
    def at(cls, device: Path) -> VirtualCamera:
        """Raises SinkError where there is no such device."""
        if not device.is_char_device():
            raise SinkError(
                f"there is no device {device}; make one with: sudo modprobe v4l2loopback video_nr=9"
            )
        return cls(f"v4l2:{device}", device)

    def open(self, stream: StreamConfig, marking: Provenance | None, again: bool) -> VideoEncoder:
        """Raises SinkError for a device that is no output. Raw samples cannot be marked."""
        return _encoder(str(self.device), self.name, Encoding("v4l2", "rawvideo"), stream)

    def kill(self) -> None:
        """A device does not wait."""

    def close(self, patience_s: float) -> str:
        """The encoder has said it all."""
        return ""

"""Where pictures go: a lossless recording, a video for people, two pictures side by side, memory, nowhere.

Recordings are written as `NAME.partial.EXT` beside their final name and renamed when they are complete, so
a whole-looking file is whole. An interrupted recording stays under the partial name; both containers are
written such that it plays up to where it was cut. Only their owner may read them: they show people. Where there is a
marking, the comment in the file is its JSON (common/provenance.py).
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np

from common.colour import resize
from common.container import private_file
from common.errors import SinkError
from common.provenance import Marking
from common.types import Colour, Frame, Picture, Plane
from receiver.encoding import Encoding, VideoEncoder
from receiver.marking import padded, restate

CAPTION_HEIGHT = 24
"""Of the strip above each picture of a pair, pixels."""


class _Recording:
    """One video file under its partial name until it is complete. Raises SinkError, in one line."""

    def __init__(
        self,
        path: Path,
        encoding: Encoding,
        frame_rate: Fraction,
        time_base: Fraction,
        colour: Colour,
        marking: Marking | None,
    ) -> None:
        self.path = path
        self.partial_path = path.with_name(f"{path.stem}.partial{path.suffix}")
        _check_writable(path, self.partial_path)
        remark = f"; the part so far is in {self.partial_path}"
        self._marking = marking
        self._comment = padded(marking()) if marking else ""
        self._encoder = VideoEncoder(
            str(self.partial_path), str(path), encoding, frame_rate, time_base, colour, remark, self._comment
        )

    def write(self, frame: Frame) -> None:
        """Encode one frame; frames come in time order and in one size and colour."""
        self._encoder.write(frame)

    def finish(self) -> None:
        """Complete the file and give it its name."""
        if self._encoder.closed:
            return
        self._encoder.finish()
        if not self._encoder.started:
            self.partial_path.unlink(missing_ok=True)
            raise SinkError(f"{self.path}: there was no picture to write, so no file was made")
        try:
            if self._marking is not None:
                restate(self.partial_path, self._comment, padded(self._marking()))
            self.partial_path.replace(self.path)
        except OSError as error:
            raise SinkError(
                f"{self.path}: cannot get its name ({error.strerror}); it is in {self.partial_path}"
            ) from error

    def abandon(self) -> None:
        """Stop without renaming: what was written, if anything was, stays under the partial name."""
        self._encoder.abandon()
        if not self._encoder.started:
            self.partial_path.unlink(missing_ok=True)


def _check_writable(path: Path, partial_path: Path) -> None:
    """Refuse at the start what would otherwise be refused at the first picture."""
    if path.is_dir():
        raise SinkError(f"{path}: is a folder; name a file")
    try:
        private_file(partial_path).close()  # libav keeps its mode
    except OSError as error:
        raise SinkError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


class _FileSink:
    """What all file sinks share: `show`, `close`, and use as a context manager.

    Leaving the `with` block by an exception keeps the partial file and notes on the exception where it is.
    """

    def __init__(self, recording: _Recording) -> None:
        self._recording = recording

    @property
    def partial_path(self) -> Path:
        """Where the recording is until `close`."""
        return self._recording.partial_path

    def show(self, frame: Frame) -> None:
        """Write one frame; raises SinkError."""
        self._recording.write(frame)

    def close(self) -> None:
        """Complete the file and rename it to its final name; raises SinkError. Safe to call again."""
        self._recording.finish()

    def abandon(self) -> None:
        """Give up: the part written so far stays at `partial_path`."""
        self._recording.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()
            error.add_note(f"what was recorded so far is in {self.partial_path}")


class Ffv1Sink(_FileSink):
    """Lossless FFV1 (RFC 9043) in Matroska (RFC 9559), 8-bit 4:2:0, every frame a key frame.

    Matroska counts time in milliseconds: a frame's time is exact where it is a whole number of them (25 or
    50 frames per second) and rounded to the nearest otherwise (33, 67, 100 ms for 30). The nominal rate is
    kept exactly beside it, and the frames are all there, one per frame shown.

    frame_rate : nominal; time_base : unit of the frames' pts, seconds; colour : written into the file
    marking : what the file says of its pictures, None for nothing
    Raises SinkError when the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        frame_rate: Fraction,
        time_base: Fraction,
        colour: Colour,
        marking: Marking | None = None,
    ) -> None:
        options = {"level": "3", "slices": "4", "slicecrc": "1", "g": "1"}
        # Clusters of at most a second reach the disk early, so a cut recording loses little.
        encoding = Encoding("matroska", "ffv1", options, {"cluster_time_limit": "1000"})
        super().__init__(_Recording(path, encoding, frame_rate, time_base, colour, marking))


class Mp4Sink(_FileSink):
    """H.264 in MP4, for people to watch. Lossy; x264 comes inside PyAV's wheel and is GPL.

    codec : libav encoder name, to be chosen openly where libx264 is missing (`libopenh264`, `mpeg4`)
    marking : what the file says of its pictures, None for nothing
    Raises CodecError when PyAV lacks the encoder and SinkError when the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        frame_rate: Fraction,
        time_base: Fraction,
        colour: Colour,
        marking: Marking | None = None,
        codec: str = "libx264",
    ) -> None:
        options = {"preset": "veryfast", "crf": "18", "g": "48"} if codec == "libx264" else {"qscale": "2"}
        # Fragments of at most 48 frames while recording (playable when cut), one ordinary index at the end.
        # Times are as given; otherwise all would be later by what the encoder reorders.
        flags = "hybrid_fragmented+frag_keyframe+negative_cts_offsets"
        # A fragment reaches the disk when it is complete: what waits in a buffer is lost with a program that is killed.
        encoding = Encoding("mp4", codec, options, {"movflags": flags, "flush_packets": "1"})
        super().__init__(_Recording(path, encoding, frame_rate, time_base, colour, marking))


class BackgroundSink:
    """Records on a thread of its own, so that encoding takes no time from painting; pictures stay in order.

    Errors of the recording come out of a later `show`, or of `close`.
    """

    _MAX_WAITING = 8
    """Pictures that may wait; a slower disk than that holds `show` up instead of filling the memory."""

    def __init__(self, sink: _FileSink) -> None:
        self._sink = sink
        self._worker = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()

    def show(self, frame: Frame) -> None:
        """Hand one picture over."""
        while self._waiting and (self._waiting[0].done() or len(self._waiting) >= self._MAX_WAITING):
            self._waiting.popleft().result()
        self._waiting.append(self._worker.submit(self._sink.show, frame))

    def close(self) -> None:
        """Record what waits and complete the file."""
        self._worker.shutdown()
        while self._waiting:
            self._waiting.popleft().result()
        self._sink.close()

    def abandon(self) -> None:
        """Stop without completing the file."""
        self._worker.shutdown(cancel_futures=True)
        self._sink.abandon()


class SideBySideSink:
    """Two pictures beside each other under captions, into an `Mp4Sink`."""

    def __init__(self, sink: Mp4Sink) -> None:
        self._sink = sink

    def show_pair(
        self, left: Frame, right: Frame, left_caption: str = "source", right_caption: str = ""
    ) -> None:
        """Write one frame at the time of `left`; `right` is scaled to the size of `left` if it differs."""
        pair = side_by_side(left.picture, right.picture, left_caption, right_caption)
        self._sink.show(replace(left, picture=pair))

    def close(self) -> None:
        """Complete the file; raises SinkError."""
        self._sink.close()

    def abandon(self) -> None:
        """Give up: the part written so far stays under its partial name."""
        self._sink.abandon()


def side_by_side(left: Picture, right: Picture, left_caption: str, right_caption: str) -> Picture:
    """Two pictures beside each other under captions; `right` is scaled to the size of `left` if it differs."""
    size = (left.width, left.height)
    pictures = (left, right if (right.width, right.height) == size else resize(right, *size))
    halves = [
        _captioned(picture, caption, CAPTION_HEIGHT)
        for picture, caption in zip(pictures, (left_caption, right_caption), strict=True)
    ]
    y, u, v = (np.hstack(planes) for planes in zip(*(half.planes for half in halves), strict=True))
    return Picture(y, u, v)


def _captioned(picture: Picture, caption: str, height: int) -> Picture:
    """The picture under a dark strip of `height` rows (even) with white text, ASCII only."""
    import cv2

    strip: Plane = np.full((height, picture.width), 16, np.uint8)
    place, font = (6, height - 8), cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(strip, caption, place, font, 0.45, (235,), 1, cv2.LINE_AA)
    grey: Plane = np.full((height // 2, picture.width // 2), 128, np.uint8)
    y, u, v = picture.planes
    return Picture(np.vstack([strip, y]), np.vstack([grey, u]), np.vstack([grey, v]))


class MemorySink:
    """Keeps the frames, for tests and reports."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def show(self, frame: Frame) -> None:
        """Keep one frame."""
        self.frames.append(frame)

    def close(self) -> None:
        """The frames stay."""


class NullSink:
    """Counts the frames and forgets them."""

    def __init__(self) -> None:
        self.count = 0

    def show(self, frame: Frame) -> None:
        """Count one frame."""
        self.count += 1

    def close(self) -> None:
        """Nothing to do."""

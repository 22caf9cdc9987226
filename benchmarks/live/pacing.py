"""A source read on a thread of its own, each frame when its time has come: what a live sender takes frames from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Self

from common.clock import Clock
from common.queues import Mailbox
from common.types import Frame


class PacedFrames:
    """Only the newest frame waits: a sender that was busy goes on with the present, as with a camera.

    frames : in order of time
    clock : what frame times, which start at 0, are measured by
    paced : False for a source that delivers in real time by itself, such as a camera
    wait : for so many seconds of `clock`; whether to stop
    """

    def __init__(
        self,
        frames: Iterable[Frame],
        clock: Clock,
        paced: bool = True,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._frames, self._clock, self._paced = frames, clock, paced
        self._newest: Mailbox[Frame] = Mailbox()
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._read, name="source", daemon=True)
        self.began_s = 0.0

    def start(self) -> Self:
        """Frame time 0 is now."""
        self.began_s = self._clock.now_s()
        self._thread.start()
        return self

    def take(self) -> Frame | None:
        """The newest frame, if there is one since the last call. Raises what reading the source failed with."""
        frame = self._newest.get()
        if frame is None and self._newest.closed and self._error is not None:
            error, self._error = self._error, None
            raise error
        return frame

    @property
    def ended(self) -> bool:
        """Whether the source has given its last frame, and it was taken."""
        return self._newest.closed and len(self._newest) == 0 and self._error is None

    @property
    def dropped(self) -> int:
        """Frames that a newer one replaced before anybody took them."""
        return sum(count for reason, count in self._newest.drops if reason == "full")

    def close(self) -> None:
        """Stop reading; a camera that delivers nothing is left behind."""
        self._stop.set()
        self._newest.close()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _read(self) -> None:
        try:
            for frame in self._frames:
                wait_s = frame.time_s - (self._clock.now_s() - self.began_s) if self._paced else 0.0
                if self._wait(wait_s) if wait_s > 0 else self._stop.is_set():
                    return
                self._newest.put(frame)
        except Exception as error:  # for the thread that takes frames
            self._error = error
        finally:
            self._newest.close()

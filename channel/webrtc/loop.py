"""An asyncio event loop in a thread of its own: uvloop where there is one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Hashable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

T = TypeVar("T")

Work = Callable[[], Coroutine[Any, Any, None]]

_START_TIMEOUT_S = 30.0


class LoopThread:
    """Runs coroutines in the background until `close`."""

    def __init__(self, name: str) -> None:
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._stop = asyncio.Event()
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        self._first: tuple[Hashable, ...] = ()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self.loop = self._ready.result(_START_TIMEOUT_S)

    def start(self, key: Hashable, work: Work, done: Callable[[BaseException | None], None]) -> None:
        """Start a task, from any thread.

        key : what `cancel` knows it by
        done : called on the loop when it has ended, with what it raised (None for nothing, or when cancelled)
        """
        self.loop.call_soon_threadsafe(self._start, key, work, done)

    def cancel(self, key: Hashable) -> None:
        """Cancel a task, from any thread; one that has ended is left alone."""
        with suppress(RuntimeError):  # the loop is closed, and the task with it
            self.loop.call_soon_threadsafe(self._cancel, key)

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """The result of `work`; not from the loop's own thread, which would wait for itself."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a coroutine of the live link cannot be waited for on its own event loop")
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def close(self, first: Iterable[Hashable] = ()) -> None:
        """Cancel the tasks, let them clean up, and end the thread. Closing twice is harmless.

        first : keys of tasks that need the others for their last words
        """
        if self._thread.is_alive():
            self._first = tuple(first)
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._ready.set_result(asyncio.get_running_loop())
        await self._stop.wait()
        for keys in (self._first, tuple(self._tasks)):
            tasks = [self._tasks[key] for key in keys if key in self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: Hashable, work: Work, done: Callable[[BaseException | None], None]) -> None:
        if self._stop.is_set():
            done(None)
            return
        task = self._tasks[key] = self.loop.create_task(work())

        def ended(task: asyncio.Task[None]) -> None:
            del self._tasks[key]
            done(None if task.cancelled() else task.exception())

        task.add_done_callback(ended)

    def _cancel(self, key: Hashable) -> None:
        if key in self._tasks:
            self._tasks[key].cancel()


def _new_loop() -> asyncio.AbstractEventLoop:
    if find_spec("uvloop") is None:  # there is none for Windows
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = import_module("uvloop").new_event_loop()
    return loop

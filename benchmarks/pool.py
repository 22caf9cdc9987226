"""Independent pieces of work on several cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from common.memory import keep_freed_memory

T = TypeVar("T")
R = TypeVar("R")


def as_done(
    work: Callable[[T], R], tasks: Sequence[T], processes: int
) -> Iterator[tuple[T, Callable[[], R]]]:
    """Each task and how to get its result, in the order in which they are done.

    work, tasks : go to other processes, so they must be importable and picklable; with one process all stays here
    Getting a result raises what `work` raised, and BrokenProcessPool where a process ended.
    """
    if min(processes, len(tasks)) <= 1:
        yield from ((task, partial(work, task)) for task in tasks)
        return
    with _pool(min(processes, len(tasks))) as pool:
        futures: dict[Future[R], T] = {pool.submit(work, task): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that start afresh, since threads of libraries do not survive a fork; ended at once on any error."""
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise


def _begin() -> None:
    """One thread, since there is a process for each core; Ctrl-C is the parent's; gone when the parent is."""
    import cv2

    keep_freed_memory()
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

"""Independent pieces of work on several cores, here or on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from common.memory import keep_freed_memory

T = TypeVar("T")
R = TypeVar("R")


def as_done(
    work: Callable[[T], R], tasks: Sequence[T], processes: int, scheduler: str | None = None
) -> Generator[tuple[T, Callable[[], R]], None, None]:
    """Each task and how to get its result, in the order in which they are done.

    work, tasks : go to other processes, so they must be importable and picklable; with one process all stays here
    processes : on this machine at a time; a cluster has its own
    scheduler : address of a Dask cluster (benchmarks/cluster.py) that does the work instead of this machine
    Getting a result raises what `work` raised, and BrokenExecutor where a process ended. Get each before the next task;
    closing the generator gives up the rest.
    """
    if scheduler is not None and tasks:
        from benchmarks.cluster import on_cluster

        yield from on_cluster(work, tasks, scheduler)
    elif min(processes, len(tasks)) <= 1:
        yield from ((task, partial(work, task)) for task in tasks)
    else:
        with _pool(min(processes, len(tasks))) as pool:
            futures: dict[Future[R], T] = {pool.submit(work, task): task for task in tasks}
            for future in as_completed(futures):
                yield futures[future], future.result


def take_one_core() -> None:
    """For a process that shares its machine with one for each other core; call it before libraries are loaded."""
    keep_freed_memory()
    os.environ["OMP_NUM_THREADS"] = "1"  # torch and OpenBLAS read it when they are loaded
    import cv2

    cv2.setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


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
    """One core, since there is a process for each; Ctrl-C is the parent's; gone when the parent is."""
    take_one_core()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

"""Independent pieces of work on a Dask cluster.

    dask scheduler                                          on one machine
    dask worker tcp://HOST:8786 --nworkers 8 --nthreads 1   on each, one worker for a core

A task finds there what it would find here: the same program, the same files under the same names, one core. What a
worker has is asked before any work and again with every task, since workers come and go. Who reaches the scheduler can
run anything on the workers: Dask is for a network that one trusts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.kept import code_hash
from benchmarks.pool import take_one_core
from benchmarks.report import versions
from common.errors import ConfigError, SemcastError, UsageError

if TYPE_CHECKING:
    from distributed import Client
    from distributed import Future as Promise

T = TypeVar("T")
R = TypeVar("R")

CONNECT_S = 8.0
IN_FLIGHT = 2
"""Tasks at a time for each thread of the workers: one at work, one at hand, so that memory stays flat."""
LOOK_S = 5.0
"""Between looks at whether there are workers."""
PATIENCE_S = 60.0
"""How long there may be none: a worker that ended is started again within seconds."""
LOST = (
    "the connection to the cluster's scheduler is lost: start the same command again when it is back; it goes on where"
    " it stopped"
)
CODE = ("common", "sender", "channel", "receiver", "benchmarks")
"""Folders that decide what a task finds."""

_ALONE = threading.Lock()
"""One task at a time in a process: they have settings of their own for libraries, and seeds."""


def on_cluster(
    work: Callable[[T], R], tasks: Sequence[T], address: str
) -> Generator[tuple[T, Callable[[], R]], None, None]:
    """`benchmarks.pool.as_done` on the workers of the scheduler at `address`, the first tasks first.

    A task whose worker ended is given to another, as often as Dask's allowed-failures says (3).
    ConfigError without Dask; UsageError for an address that is none; SemcastError where there is no scheduler, no worker,
    or one unlike this program, or where they are lost on the way.
    """
    with _connected(address) as client:
        ours = Place.here()
        _check(client.run(ours.unlike, on_error="return"))
        yield from _as_done(client, partial(_carry_out, ours, work), tasks)


@dataclass(frozen=True, slots=True)
class Place:
    """What a task's result may depend on besides the task. code : hash of the program; folder : names start there"""

    folder: str
    code: str
    packages: Mapping[str, str]

    @classmethod
    def here(cls) -> Place:
        return cls(str(Path.cwd()), code_hash(*CODE), _packages())

    def unlike(self) -> str | None:
        """What the process that this runs in has not in common with the one it comes from, None for nothing."""
        theirs = _packages()
        for name, version in self.packages.items():
            if theirs[name] != version:
                return (
                    f"{name} is {theirs[name]} there and {version} here: install the same, and start it again"
                )
        if code_hash(*CODE) != self.code:
            return "it runs another version of this program: install the same, and start it again"
        if not Path(self.folder).is_dir():
            return f"there is no {self.folder}: workers need the same files under the same names"
        return None


@cache
def _packages() -> dict[str, str]:
    """Versions of what figures depend on; Dask itself looks at Python's."""
    return {name: version for name, version in versions().items() if name != "python"}


def _check(answers: Mapping[str, str | Exception | None]) -> None:
    """SemcastError for a cluster without workers, or with one that is unlike us or cannot run our program at all."""
    if not answers:
        raise SemcastError("the cluster has no workers: start some with `dask worker ADDRESS --nthreads 1`")
    for worker, answer in answers.items():
        if isinstance(answer, Exception):
            raise SemcastError(f"the worker {worker} cannot run this program ({answer}): install it there")
        if answer is not None:
            raise SemcastError(f"the worker {worker} cannot be used: {answer}")


def _carry_out(ours: Place, work: Callable[[T], R], task: T) -> R:
    """On a worker: one task."""
    with _ALONE:
        if (reason := ours.unlike()) is not None:
            raise SemcastError(f"a worker that came later cannot be used: {reason}")
        take_one_core()
        os.chdir(ours.folder)
        return work(task)


# --- here ---------------------------------------------------------------------------------------------------------


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            "a cluster needs dask and distributed, which are not installed: pip install 'semcast[cluster]'"
        ) from error
    _find_scheduler(address)
    try:
        with _quiet(), Client(address, timeout=CONNECT_S, set_as_default=False, name="semcast") as client:
            yield client
    except (OSError, CancelledError) as error:
        raise SemcastError(LOST) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracebacks that Dask logs for what we say in one line."""
    loggers = [
        logging.getLogger(name) for name in ("distributed", "distributed.client", "tornado.application")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _find_scheduler(address: str) -> None:
    """Ask who is there; a Client that finds nobody is hard to get rid of."""
    try:
        identity = asyncio.run(asyncio.wait_for(_identity(address), CONNECT_S))
    except ValueError as error:
        raise UsageError(f"{address!r} is no scheduler's address ({error}): give tcp://HOST:PORT") from error
    except OSError as error:
        raise SemcastError(
            f"no Dask scheduler answers at {address}: start one with `dask scheduler`, which says its address"
        ) from error
    if identity.get("type") != "Scheduler":
        raise UsageError(f"{address} is a {identity.get('type')}: give the address of the scheduler")


async def _identity(address: str) -> dict[str, Any]:
    from distributed import rpc

    async with rpc(address, timeout=CONNECT_S) as there:
        return await there.identity()


def _as_done(
    client: Client, work: Callable[[T], R], tasks: Sequence[T]
) -> Generator[tuple[T, Callable[[], R]], None, None]:
    waiting = iter(enumerate(tasks))
    running: dict[Promise[R], T] = {}
    try:
        while True:
            room = max(1, IN_FLIGHT * sum(client.nthreads().values())) - len(running)
            for number, task in islice(waiting, max(0, room)):
                # A partial, since Dask looks for tasks of its own inside arguments.
                running[client.submit(partial(work, task), pure=False, priority=-number)] = task
            if not running:
                return
            for promise in _some_done(client, running):
                yield running.pop(promise), partial(_result, promise)
    finally:
        with suppress(OSError, CancelledError):
            client.cancel(list(running))


def _some_done(client: Client, running: Mapping[Promise[R], T]) -> set[Promise[R]]:
    """At least one that is done. SemcastError when all workers have gone for good."""
    from distributed import wait

    seen_s = time.monotonic()
    while True:
        with suppress(TimeoutError), client.as_current():
            return wait(list(running), LOOK_S, "FIRST_COMPLETED").done
        now_s = time.monotonic()
        if client.nthreads():
            seen_s = now_s
        elif now_s - seen_s > PATIENCE_S:
            raise SemcastError(
                "the cluster has no workers any more: start the same command again when it has; it goes on where it"
                " stopped"
            )


def _result(promise: Promise[R]) -> R:
    from distributed import KilledWorker
    from distributed.comm.core import CommClosedError

    try:
        return promise.result()
    except KilledWorker as error:
        raise BrokenExecutor(str(error)) from error
    except (CommClosedError, CancelledError) as error:
        raise SemcastError(LOST) from error

"""Long sweeps of many runs: those not yet on disk are done, the longest first, on this machine's cores or a cluster.

    runs -> stored results, where there are any -> the rest through `benchmarks.pool` -> a file for each

Every run that is done is in a file below the results' folder, so a sweep that was killed goes on where it stopped, and
one that grew only does what is new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from benchmarks.kept import Done_co, Keyed, carry_out
from benchmarks.pool import as_done
from benchmarks.report import Model
from common.errors import SemcastError
from common.files import made_folder

SPEED_WINDOW_S = 3600.0
"""The time left is judged by the speed over this long: single runs take up to minutes."""


class Run(Keyed[Done_co], Protocol[Done_co]):
    """One piece of work: hashable, and picklable for other processes. weight : time it takes, in any unit"""

    @property
    def weight(self) -> int: ...


AnyRun = TypeVar("AnyRun", bound=Run[Model])
Done = TypeVar("Done", bound=Model)


def run_all(
    runs: Sequence[AnyRun],
    out: Path,
    jobs: int,
    title: str,
    stored: Callable[[AnyRun, Path], Done | None],
    scheduler: str | None = None,
) -> dict[AnyRun, Done]:
    """Results of all runs; what is not yet below `out` is done now, and kept there.

    jobs : processes of this machine; without effect on a cluster
    stored : what an earlier call left of a run, None for nothing (`benchmarks.kept.kept_result` with a kind)
    scheduler : of the cluster to use instead of this machine, tcp://HOST:PORT

    Raises what a run raises, an expected failure with the run's name; SemcastError where a process ended.
    """
    out = made_folder(out).resolve()
    wanted = list(dict.fromkeys(runs))
    results = {run: found for run in wanted if (found := stored(run, out)) is not None}
    waiting = sorted((run for run in wanted if run not in results), key=lambda run: -run.weight)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=Console(stderr=True), speed_estimate_period=SPEED_WINDOW_S) as bar,
        closing(as_done(partial(carry_out, out=out), waiting, jobs, scheduler)) as doing,
    ):
        task = bar.add_task(title, total=sum(run.weight for run in waiting))
        for run, finish in doing:
            results[run] = _named(run, finish)
            left = len(wanted) - len(results)
            bar.update(task, advance=run.weight, description=f"{title}, {left} left")
    return results


def _named(run: AnyRun, finish: Callable[[], Done]) -> Done:
    """The result; an expected failure says which run it was."""
    try:
        return finish()
    except BrokenExecutor as error:
        raise SemcastError(
            f"a process ended while {run.name} ran, perhaps for lack of memory: start the same command again with fewer"
            " --jobs, or workers with more memory; it goes on where it stopped"
        ) from error
    except SemcastError as error:
        raise type(error)(f"{run.name}: {error}") from error

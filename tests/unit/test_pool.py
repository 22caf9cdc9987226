"""Work on several cores: what comes back is what one process finds, whatever happens to the others."""

from __future__ import annotations

import math
import os
from concurrent.futures import BrokenExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

from benchmarks.pool import as_done


def noise(seed: int) -> bytes:
    """Exact bits of something that depends on the order of sums."""
    x = np.random.default_rng(seed).normal(size=(64, 64))
    return np.linalg.svd(x @ x, compute_uv=False).tobytes()


def settings(_: int) -> tuple[str | None, int]:
    import cv2

    return os.environ.get("OMP_NUM_THREADS"), cv2.getNumThreads()


def fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def test_processes_find_the_same_as_one() -> None:
    found = {task: result() for task, result in as_done(noise, range(3), 2)}
    assert found == {task: result() for task, result in as_done(noise, range(3), 1)}
    assert found == {task: noise(task) for task in range(3)}


def test_a_process_takes_one_core() -> None:
    assert [result() for _, result in as_done(settings, [1, 2], 2)] == [("1", 1)] * 2


def test_one_process_does_a_task_when_its_result_is_wanted() -> None:
    done: list[int] = []
    waiting = as_done(done.append, [1, 2], 1)
    _, first = next(waiting)
    assert not done
    first()
    assert done == [1]


def test_a_failing_task_raises_where_its_result_is_wanted_and_the_others_go_on() -> None:
    for task, result in as_done(fail_at_three, [2, 3, 4], 2):
        if task == 3:
            with pytest.raises(ValueError, match="three"):
                result()
        else:
            assert result() == task


def test_a_process_that_ends_is_not_waited_for() -> None:
    with pytest.raises(BrokenProcessPool) as caught:
        [result() for _, result in as_done(os._exit, [3, 3], 2)]
    assert isinstance(caught.value, BrokenExecutor)


def test_without_tasks_nobody_is_asked() -> None:
    assert not list(as_done(math.factorial, [], 2))
    assert not list(as_done(math.factorial, [], 2, "tcp://127.0.0.1:1"))

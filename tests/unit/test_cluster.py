"""Work on a Dask cluster: the same bits as here, and one clear line for whatever is wrong with it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cluster as module
from benchmarks.cluster import Place
from benchmarks.kept import carry_out
from benchmarks.pool import as_done
from benchmarks.sweep import run_all
from common.errors import ConfigError, SemcastError, UsageError
from tests.unit.test_pool import fail_at_three, noise, settings
from tests.unit.test_sweep import GATE, EndingRun, SquareRun, log_of, stored

distributed = pytest.importorskip(
    "distributed", reason="needs the extra `cluster`: pip install 'semcast[cluster]'"
)

SILENT = {"dashboard_address": ":0", "scheduler_port": 0, "silence_logs": logging.CRITICAL}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers, each a process with one thread; a task that ends one is not tried again."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, scheduler_kwargs={"allowed_failures": 0}, **SILENT
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def scheduler(cluster: Any) -> str:
    return str(cluster.scheduler_address)


@pytest.fixture(scope="module")
def deserted() -> Iterator[str]:
    """The address of a scheduler without workers."""
    with distributed.LocalCluster(n_workers=0, **SILENT) as cluster:
        yield cluster.scheduler_address


def folder(_: int) -> str:
    return os.getcwd()


def test_workers_find_the_same_as_one_process(cluster: Any, scheduler: str) -> None:
    found, most = {}, 0
    for task, result in as_done(noise, range(20), 1, scheduler):
        found[task], most = result(), max(most, len(cluster.scheduler.tasks))
    assert found == {task: noise(task) for task in range(20)}
    assert most <= 2 * module.IN_FLIGHT + 2  # what is done leaves a moment later


def test_a_task_finds_one_core_and_our_folder(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [result() for _, result in as_done(folder, [1, 2], 1, scheduler)] == [str(tmp_path)] * 2
    assert [result() for _, result in as_done(settings, [1, 2], 1, scheduler)] == [("1", 1)] * 2


def test_a_sweep_leaves_the_same_files_and_does_nothing_twice(scheduler: str, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    runs = [SquareRun(number) for number in range(5)]
    run_all(runs[:3], there, 1, "squares", stored, scheduler)
    found = run_all(runs, there, 1, "squares", stored, scheduler)
    assert found == run_all(runs, here, 1, "squares", stored)
    assert sorted(log_of(there)) == ["0", "1", "2", "3", "4"]
    files = [{path.name: path.read_bytes() for path in (out / "runs").iterdir()} for out in (here, there)]
    assert files[0] == files[1]


def test_a_failing_task_raises_as_it_does_here(scheduler: str, tmp_path: Path) -> None:
    for task, result in as_done(fail_at_three, [2, 3, 4], 1, scheduler):
        if task == 3:
            with pytest.raises(ValueError, match="three"):
                result()
        else:
            assert result() == task
    with pytest.raises(UsageError, match=r"^square--1: no negative numbers$"):
        run_all([SquareRun(-1)], tmp_path, 1, "squares", stored, scheduler)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_given_up_is_cancelled(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / GATE)
    cancelled: list[int] = []
    real = distributed.Client.cancel
    monkeypatch.setattr(
        distributed.Client, "cancel", lambda self, of: (cancelled.append(len(of)), real(self, of))[1]
    )
    doing = as_done(partial(carry_out, out=tmp_path), [SquareRun(n, 1) for n in range(9)], 1, scheduler)
    assert next(doing)[0].number == 0
    doing.close()  # the others wait at the gate, or for a worker
    assert cancelled == [2 * module.IN_FLIGHT - 1]
    with (tmp_path / GATE).open("wb"):
        (tmp_path / GATE).unlink()


# --- clusters that cannot be used


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("code_hash", lambda *_: "other", "another version of this program: install the same"),
        ("_packages", lambda: {"numpy": "0.1"}, r"numpy is \S+ there and 0\.1 here"),
        ("Path.cwd", lambda: Path("none"), "there is no none: workers need the same files"),
    ],
)
def test_a_worker_unlike_us_is_refused(
    scheduler: str, monkeypatch: pytest.MonkeyPatch, name: str, other: object, message: str
) -> None:
    monkeypatch.setattr(f"benchmarks.cluster.{name}", other)
    with pytest.raises(SemcastError, match=rf"the worker tcp://\S+ cannot be used: .*{message}"):
        next(as_done(noise, [1], 1, scheduler))


def test_a_worker_that_comes_later_is_refused_too() -> None:
    with pytest.raises(SemcastError, match="a worker that came later cannot be used"):
        module._carry_out(replace(Place.here(), code="other"), noise, 1)


def test_a_worker_without_our_program_is_refused() -> None:
    with pytest.raises(SemcastError, match=r"cannot run this program \(No module named 'benchmarks'\)"):
        module._check({"tcp://there:1": None, "tcp://here:1": ImportError("No module named 'benchmarks'")})


def test_a_cluster_without_workers_is_refused(deserted: str) -> None:
    with pytest.raises(SemcastError, match="the cluster has no workers: start some"):
        next(as_done(noise, [1], 1, deserted))


def test_workers_that_have_gone_for_good_are_not_waited_for(
    deserted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    monkeypatch.setattr(module, "_check", lambda answers: None)
    with pytest.raises(SemcastError, match="no workers any more"):
        next(as_done(noise, [1], 1, deserted))


def test_where_nobody_answers_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_S", 0.1)
    with pytest.raises(SemcastError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1: start one"):
        next(as_done(noise, [1], 1, "tcp://127.0.0.1:1"))


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1", "ftp://127.0.0.1:21"])
def test_an_address_that_is_none_is_wrong_usage(address: str) -> None:
    with pytest.raises(UsageError, match=rf"'{address}' is no scheduler's address .*give tcp://HOST:PORT"):
        next(as_done(noise, [1], 1, address))


def test_a_workers_address_is_wrong_usage(cluster: Any) -> None:
    with pytest.raises(UsageError, match="is a Worker: give the address of the scheduler"):
        next(as_done(noise, [1], 1, cluster.workers[0].worker_address))


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'semcast\[cluster\]'"):
        next(as_done(noise, [1], 1, "tcp://127.0.0.1:1"))


def test_a_worker_that_ends_is_said_and_replaced(scheduler: str, tmp_path: Path) -> None:
    with pytest.raises(SemcastError, match="a process ended while square-1 ran"):
        run_all([EndingRun(1)], tmp_path, 1, "squares", stored, scheduler)
    assert [result() for _, result in as_done(len, ["ab"], 1, scheduler)] == [2]

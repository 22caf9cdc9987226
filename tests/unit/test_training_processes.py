"""Processes that train together average their gradients, so that all keep the same weights."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from training.processes import Group, joined, launched

# Nothing heavy is imported here: the processes that the test starts import this file.

CPU = torch.device("cpu")


def test_without_a_launcher_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    assert launched() == (0, 1)
    with joined(CPU) as group:
        assert group == Group(CPU) and group.first and group.agreed(2.5) == 2.5
        parameter = torch.nn.Parameter(torch.ones(2))
        parameter.grad = torch.ones(2)
        group.average_gradients([parameter])
        assert torch.equal(parameter.grad, torch.ones(2))


@pytest.mark.slow
def test_two_processes_end_with_equal_weights(tmp_path: Path) -> None:
    # Spawned, since a fork would inherit the threads of torch; they meet in a file, so no port can be taken.
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=train_as, args=(rank, str(tmp_path))) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        worker.kill()
    assert [worker.exitcode for worker in workers] == [0, 0]
    first, second = (np.load(tmp_path / f"rank{rank}.npz") for rank in range(2))
    assert np.array_equal(first["weights"], second["weights"])
    assert not np.array_equal(first["gradient"], second["gradient"])
    assert first["mean"] == pytest.approx((first["gradient"] + second["gradient"]) / 2, rel=1e-6)


def train_as(rank: int, folder: str) -> None:
    """Two steps of one of two processes, each on its own numbers; leaves what it saw in the folder."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    with joined(CPU, f"file://{folder}/meeting") as group:
        assert group.rank == rank and group.first == (rank == 0) and group.agreed(7.0 + rank) == 7.0
        for step in range(2):
            x = torch.from_numpy(np.random.default_rng((0, step, rank)).normal(size=(5, 4))).float()
            model.zero_grad()
            model(x).square().mean().backward()
            gradient = _flat(parameter.grad for parameter in model.parameters())
            group.average_gradients(model.parameters())
            mean = _flat(parameter.grad for parameter in model.parameters())
            with torch.no_grad():  # an optimiser would import half of torch
                for parameter in model.parameters():
                    parameter.sub_(parameter.grad, alpha=0.1)
    np.savez(
        Path(folder) / f"rank{rank}.npz", weights=_flat(model.parameters()), gradient=gradient, mean=mean
    )


def _flat(tensors: object) -> np.ndarray:
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).numpy().copy()

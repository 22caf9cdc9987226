"""Several processes that train one network: what torchrun and `accelerate launch` start, one for each GPU.

Every process draws its own batches; gradients are averaged before each update, so weights that begin alike stay alike.
The average is asked for by name instead of through DistributedDataParallel: a step calls the network several times,
with and without gradient, and ends in a second backward pass for the opponent.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of this training run.

    rank : of this one; 0 logs and saves
    size : how many there are
    device : of this process
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every gradient becomes its mean over the processes; all must have gradients for the same parameters."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = torch.split(flat / self.size, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, parts, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def agreed(self, value: float) -> float:
        """The value of the first process."""
        if self.size == 1:
            return value
        shared: Tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared)


def launched() -> tuple[int, int]:
    """Rank of this process and number of processes, from the launcher's environment variables; (0, 1) without."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: torch.device, rendezvous: str = "env://") -> Iterator[Group]:
    """The group that `launched` speaks of.

    device : `cuda` stands for the GPU that is this process's
    rendezvous : where the processes meet, see `torch.distributed.init_process_group`
    """
    rank, size = launched()
    if size == 1:
        yield Group(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=rendezvous, world_size=size, rank=rank)
    try:
        yield Group(device, rank, size)
    finally:
        dist.destroy_process_group()

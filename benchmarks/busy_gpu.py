"""A process that keeps a device busy for a share of its time, until whoever began it has ended.

    python -m benchmarks.busy_gpu SHARE DEVICE

Prints `READY` once the device answers, or one line that says why it does not.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

READY = "ready"
TURN_S = 0.02
"""How long a turn of work and rest takes at least: shorter than a frame, so that every picture meets the load."""
_WORTH_TIMING_S = 5e-4


def take_turns(
    share: float,
    work: Callable[[], object],
    go_on: Callable[[], bool],
    now_s: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Work for `share` of the time (0..1), however long one piece of work takes, while `go_on`."""
    while go_on():
        began_s = now_s()
        while now_s() - began_s < share * TURN_S:
            work()
        sleep((now_s() - began_s) * (1.0 - share) / share)


def work_on(device: str) -> Callable[[], object]:
    """A piece of work that occupies all of `device` for half a millisecond or more, and waits for its end."""
    import torch

    side, spent_s = 128, 0.0
    wait: Callable[[], object] = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    while spent_s < _WORTH_TIMING_S:
        side *= 2
        matrix, product = torch.ones(side, side, device=device), torch.empty(side, side, device=device)

        def work(matrix: torch.Tensor = matrix, product: torch.Tensor = product) -> None:
            torch.mm(matrix, matrix, out=product)
            wait()

        work()  # libraries and kernels are loaded by the first
        began_s = time.perf_counter()
        work()
        spent_s = time.perf_counter() - began_s
    return work


def main() -> None:
    """See above."""
    share, device, parent = float(sys.argv[1]), sys.argv[2], os.getppid()
    try:
        work = work_on(device)
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # what torch says of no device, a broken one, and no memory
        print(str(error).splitlines()[0], flush=True)
        sys.exit(1)
    print(READY, flush=True)
    take_turns(share, work, lambda: os.getppid() == parent)


if __name__ == "__main__":
    main()

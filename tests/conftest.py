"""What every test shares: fixed seeds, one thread, markers by folder, and the clips of the corpus.

Property tests draw the same examples on every run; `pytest --hypothesis-profile=explore` looks for new ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
DEV_CLIPS = ROOT.parent / "shared" / "corpus" / "dev"
SEED = 2026

# No deadline and no complaint about slow examples: a busy machine must not fail a correct program.
settings.register_profile(
    "semcast",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", settings.get_profile("semcast"), derandomize=False, max_examples=2_000)
settings.load_profile("semcast")

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the folder they are in; skip those that need a GPU where there is none."""
    no_gpu = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        folder = item.path.parent.name
        if folder in ("unit", "loopback", "golden"):
            item.add_marker(folder)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Every test starts from the same random numbers, whatever ran before it."""
    random.seed(SEED)
    np.random.seed(SEED)  # for libraries that draw from the global generator; our code takes a Generator
    torch.manual_seed(SEED)


@pytest.fixture(scope="session")
def dev_clip() -> Callable[[str], Path]:
    """`dev_clip("d05_juggle")` is that clip's file; the test is skipped where the corpus is not there."""

    def find(name: str) -> Path:
        path = DEV_CLIPS / f"{name}.mp4"
        if not DEV_CLIPS.is_dir():
            pytest.skip(f"needs the clip {name}: no corpus beside the repository (../shared/corpus/dev)")
        if not path.is_file():
            raise FileNotFoundError(
                f"no clip named {name!r} among {sorted(p.stem for p in DEV_CLIPS.glob('*.mp4'))}"
            )
        return path

    return find

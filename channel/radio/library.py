"""sionna, imported when the first radio link is opened; everything else works without it."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from common.errors import ConfigError

DEVICE = "cpu"
"""Everything runs here: blocks are small, and results must not depend on what else the machine has."""


def check_installed() -> None:
    """Raises ConfigError, saying how to install it, where sionna is missing."""
    if find_spec("sionna") is None:
        raise ConfigError("radio channels need sionna, which is not installed: pip install 'semcast[radio]'")


def sionna_phy(module: str) -> Any:
    """`sionna.phy.<module>`. Raises ConfigError where sionna is missing."""
    check_installed()
    import torch

    with torch.random.fork_rng():  # its import seeds PyTorch's own generators anew
        return import_module(f"sionna.phy.{module}")

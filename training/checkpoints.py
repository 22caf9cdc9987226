"""What an interrupted training run leaves on disk, to go on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from common.errors import SinkError, WeightsError


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training run stands.

    step : optimiser steps done
    elapsed_s : training time so far, over all resumed runs
    seed : of the run; a resumed run keeps it
    """

    step: int = 0
    elapsed_s: float = 0.0
    seed: int = 0


Opponent = tuple[nn.Module, torch.optim.Optimizer]
"""The network of the adversarial stage and its optimiser."""


def save_checkpoint(
    path: Path,
    model: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    opponent: Opponent | None = None,
) -> None:
    """One file, replaced in one go: an interrupted save leaves the old one. SinkError if that fails."""
    tensors = _with_prefix("model.", model.state_dict()) | _with_prefix("average.", average.state_dict())
    tensors |= _with_prefix("optimiser.", _moments(model, optimiser))
    if opponent is not None:
        tensors |= _with_prefix("opponent.", opponent[0].state_dict())
        tensors |= _with_prefix("opponents-optimiser.", _moments(*opponent))
    state = {"step": progress.step, "elapsed_s": progress.elapsed_s, "seed": progress.seed}
    _write(path, tensors, {"progress": json.dumps(state)})


def load_checkpoint(
    path: Path,
    model: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    opponent: Opponent | None = None,
) -> Progress:
    """Fills model, average and optimiser; raises WeightsError if the file is damaged or of another model.

    opponent : filled where the file has one; left as it is where the run had none so far
    """
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
        model.load_state_dict(_under(tensors, "model."))
        average.load_state_dict(_under(tensors, "average."))
        _restore(model, optimiser, _under(tensors, "optimiser."))
        if opponent is not None and (weights := _under(tensors, "opponent.")):
            opponent[0].load_state_dict(weights)
            _restore(*opponent, _under(tensors, "opponents-optimiser."))
        return Progress(**state)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"cannot resume from {path}: it is damaged or of another model; delete it to start afresh"
        ) from error


def _moments(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What Adam remembers, as KEY.PARAMETER; nothing before the first update."""
    return {
        f"{key}.{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimiser.state[parameter].items()
    }


def _restore(model: nn.Module, optimiser: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    if not moments:
        return
    for name, parameter in model.named_parameters():
        kept = {key: moments[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        optimiser.state[parameter] = {
            key: value if key == "step" else value.to(parameter) for key, value in kept.items()
        }


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file that appears only when complete; SinkError if it cannot be written."""
    partial = path.with_suffix(".partial")
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(plain, partial, metadata)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise SinkError(f"cannot write {path}: {error}; free some space or choose another folder") from error


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

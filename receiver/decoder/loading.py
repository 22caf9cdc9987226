"""From a weights file to a network on a device."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import nn

from common.errors import ConfigError, WeightsError
from common.weights import LoadedWeights, load_weights
from receiver.decoder.model import FAMILY, TinyBridge

DeviceName = Literal["auto", "cpu", "cuda"]


def pick_device(name: DeviceName) -> torch.device:
    """`auto` is a CUDA device where there is one; raises ConfigError for `cuda` without one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("no CUDA device is visible to torch: use --device cpu or auto")
    use_cuda = name != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if use_cuda else "cpu")


def load_model(name_or_path: str) -> TinyBridge:
    """The network in a safetensors file, float32; WeightsError if it is missing or of another family."""
    return model_of(load_weights(name_or_path, FAMILY), name_or_path)


def model_of(weights: LoadedWeights, name: str) -> TinyBridge:
    try:
        model: TinyBridge = TinyBridge(**weights.config)
        model.load_state_dict({name: tensor.float() for name, tensor in weights.tensors.items()})
    except (TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{name} does not hold a bridge decoder of this version: retrain it or name another file"
        ) from error
    return model


def prepared(model: TinyBridge, device: torch.device, dtype: torch.dtype) -> TinyBridge:
    model = model.eval().requires_grad_(False)
    # Not model.to(...): diffusers warns of any change of dtype there.
    moved = nn.Module.to(model, device=device, dtype=dtype)
    return cast(TinyBridge, moved.to(memory_format=torch.channels_last))

"""The named networks have the size that their table says."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from common.errors import UsageError
from receiver.decoder.conditions import CONDITION_CHANNELS, PICTURE_CHANNELS, SCALARS, Conditions
from training.sizes import is_of_size, new_model


@pytest.mark.parametrize(
    ("name", "parameters", "gflop"), [("tiny", (1.6, 1.8), (8.0, 8.5)), ("base", (20.0, 40.0), (80.0, 100.0))]
)
def test_parameters_and_operations_of_a_step_at_512(
    name: str, parameters: tuple[float, float], gflop: tuple[float, float]
) -> None:
    # On the meta device shapes are followed and nothing is computed.
    with torch.device("meta"):
        model = new_model(name)
        maps = [torch.zeros(1, c, 256, 256) for c in (CONDITION_CHANNELS, *[PICTURE_CHANNELS] * 5)]
        conditions = Conditions(*maps, torch.zeros(1, 32, 32, dtype=torch.long), torch.zeros(1, SCALARS))
        with FlopCounterMode(display=False) as counter:
            model(conditions.base, torch.zeros(1), conditions)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert parameters[0] < millions < parameters[1]
    assert gflop[0] < counter.get_total_flops() / 1e9 < gflop[1]


def test_a_name_stands_for_one_network() -> None:
    tiny = new_model("tiny")
    assert is_of_size(tiny, "tiny") and not is_of_size(tiny, "base")
    with pytest.raises(UsageError, match="tiny, base"):
        new_model("large")

"""The networks that are trained, by name.

| name | for | parameters | GFLOP a step at 512x512 |
|---|---|---|---|
| tiny | two processor cores | 1.7 M | 8 |
| base | a GPU | 25 M | 93 |
"""

from __future__ import annotations

import json
from typing import Any

from common.errors import UsageError
from receiver.decoder.model import TinyBridge

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {},
    # Parameters are cheap at 1/16 of the picture, where meaning is; channels in multiples of 32 suit tensor cores.
    "base": {"widths": (96, 256, 512), "down_blocks": (1, 1), "middle_blocks": 4, "up_blocks": (2, 2)},
}


def new_model(name: str) -> TinyBridge:
    """An untrained network; UsageError for a name that is not known."""
    if name not in SIZES:
        raise UsageError(f"there is no model {name!r}: use one of {', '.join(SIZES)}")
    return TinyBridge(**SIZES[name])


def is_of_size(model: TinyBridge, name: str) -> bool:
    """Whether a network is built as its name says."""
    return json.dumps(model.settings, sort_keys=True) == json.dumps(new_model(name).settings, sort_keys=True)

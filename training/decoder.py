"""Trains the bridge decoder from a folder of examples: `train_decoder`.

    examples --crop, damage--> earlier, later frame
                                  |        |
                 K=1, no gradient |        | bridge at t (often 1, or from its own earlier step)
                                  v        v
                           previous output -> prediction --losses--> AdamW, EMA

Resumable: everything random is drawn from (seed, step), and a checkpoint holds weights, averages and moments.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.clock import Clock, SystemClock
from common.errors import SinkError, WeightsError
from receiver.decoder import bridge
from receiver.decoder.conditions import Conditions, Observation, assemble, to_samples, to_units
from receiver.decoder.model import TinyBridge
from receiver.decoder.synth import DeviceName, pick_device
from training import losses
from training.dataset import Batch, ExampleSet, with_previous, without_anchor

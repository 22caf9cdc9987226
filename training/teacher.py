"""The teacher's backbone as a second judge of pictures: MobileNetV2, rebuilt in torch from its TFLite file.

    packed YCbCr --> R'G'B' in -1..1 --> convolutions, depthwise convolutions, residual sums --> feature maps

The label network shares the sender's and the receiver's view of the world; features of a network that was trained on
photographs by others see what it misses. The file is read when training starts, and nothing of it is shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from common.colour import planes_to_rgb_tensor
from common.errors import WeightsError
from common.types import Colour
from receiver.decoder.conditions import LUMA_PHASES, UNITS

_CONV, _DEPTHWISE, _SUM = "CONV_2D", "DEPTHWISE_CONV_2D", "ADD"
_LINEAR, _RELU6 = 0, 3
"""Values of ActivationFunctionType in the TFLite schema."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One operation of the backbone.

    inputs, output : numbers of the tensors that it takes and makes
    weight, bias : [O,I,h,w] and [O] of a convolution, None of a sum
    stride, dilation, groups : of a convolution; bounded : ends in ReLU6
    """

    inputs: tuple[int, ...]
    output: int
    weight: Tensor | None = None
    bias: Tensor | None = None
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    bounded: bool = False


class Backbone(nn.Module):
    """The layers in their order, frozen. The first takes the picture; padding is TensorFlow's SAME."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.taps = _taps(self.layers)
        for number, layer in enumerate(self.layers):
            self.register_buffer(f"weight{number}", layer.weight)
            self.register_buffer(f"bias{number}", layer.bias)

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """[N,3,H,W] in -1..1 -> the last bottleneck of every width, fine to coarse: [N,C,H/2..H/8,W/2..W/8]."""
        made = {self.layers[0].inputs[0]: rgb}
        for number, layer in enumerate(self.layers):
            weight, bias = getattr(self, f"weight{number}"), getattr(self, f"bias{number}")
            taken = [made[k] for k in layer.inputs]
            made[layer.output] = (
                taken[0] + taken[1] if weight is None else _convolved(taken[0], layer, weight, bias)
            )
        return [made[tap] for tap in self.taps]

    def features(self, packed: Tensor) -> list[Tensor]:
        """The same of a packed picture, [N,6,H/2,W/2] YCbCr (BT.709, limited range) in -1..1."""
        return self(packed_to_rgb(packed))


def packed_to_rgb(packed: Tensor) -> Tensor:
    """[N,6,H/2,W/2] YCbCr in -1..1 -> [N,3,H,W] R'G'B' in -1..1, not clipped."""
    samples = (packed + 1) * (UNITS / 255)
    y = F.pixel_shuffle(samples[:, :LUMA_PHASES], 2)
    return planes_to_rgb_tensor(y, samples[:, 4:5], samples[:, 5:6], Colour()) * 2 - 1


def load_backbone(path: Path) -> Backbone:
    """From a TFLite file of MobileNetV2, whatever head it has; WeightsError if that cannot be read."""
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise WeightsError("the teacher needs ai-edge-litert: pip install 'semcast[train]'") from error
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
        layers = _layers(model, {code: name for name, code in vars(schema.BuiltinOperator).items()})
    except OSError as error:
        raise WeightsError(f"cannot read the teacher {path}: {error.strerror}; check the path") from error
    except Exception as error:  # the generated reader raises whatever a damaged file makes it stumble over
        raise WeightsError(
            f"{path} is not a float32 TFLite model that can be read: take another file"
        ) from error
    if not layers:
        raise WeightsError(
            f"{path} does not begin with convolutions: take a MobileNetV2, such as DeepLabV3's"
        )
    return Backbone(layers).eval().requires_grad_(False)


def _layers(model: Any, names: dict[Any, str]) -> list[Layer]:
    """The operations up to the first that no backbone has (the pooling of the head)."""
    graph, layers = model.subgraphs[0], []
    for operation in graph.operators:
        code = model.operatorCodes[operation.opcodeIndex]
        kind = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if kind not in (_CONV, _DEPTHWISE, _SUM):
            break
        layers.append(_layer(model, kind, operation))
    return layers


def _layer(model: Any, kind: str, operation: Any) -> Layer:
    inputs, output = [int(k) for k in operation.inputs], int(operation.outputs[0])
    options = operation.builtinOptions
    if options.fusedActivationFunction not in (_LINEAR, _RELU6):
        raise ValueError("only ReLU6 and no activation are known")
    bounded = options.fusedActivationFunction == _RELU6
    if kind == _SUM:
        return Layer(tuple(inputs), output, bounded=bounded)
    if options.padding != 0:
        raise ValueError("only SAME padding is known")
    weight, bias = (torch.from_numpy(_values(model, k)) for k in inputs[1:3])
    depthwise = kind == _DEPTHWISE
    # TFLite has [O,h,w,I], and [1,h,w,O] for depthwise convolutions.
    weight = weight.permute((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)).contiguous()
    groups = len(weight) if depthwise else 1
    return Layer(
        (inputs[0],),
        output,
        weight,
        bias,
        int(options.strideH),
        int(options.dilationHFactor),
        groups,
        bounded,
    )


def _values(model: Any, number: int) -> NDArray[np.float32]:
    tensor = model.subgraphs[0].tensors[number]
    data = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
    return data.view(np.float32).reshape(tuple(int(n) for n in tensor.shape)).copy()


def _taps(layers: Sequence[Layer]) -> tuple[int, ...]:
    """The last linear tensor of each number of channels: where a bottleneck of the network ends."""
    channels: dict[int, int] = {}
    last: dict[int, int] = {}
    for layer in layers:
        if not layer.bounded:
            count = channels[layer.inputs[0]] if layer.weight is None else len(layer.weight)
            channels[layer.output] = count
            last[count] = layer.output
    return tuple(last.values())


def _convolved(x: Tensor, layer: Layer, weight: Tensor, bias: Tensor) -> Tensor:
    reach = (weight.shape[-1] - 1) * layer.dilation + 1
    (top, bottom), (left, right) = (_same(size, reach, layer.stride) for size in x.shape[-2:])
    x = F.pad(x, (left, right, top, bottom))
    x = F.conv2d(x, weight, bias, layer.stride, 0, layer.dilation, layer.groups)
    return F.relu6(x) if layer.bounded else x


def _same(size: int, reach: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding before and after: an odd rest goes behind."""
    missing = max(0, (-(-size // stride) - 1) * stride + reach - size)
    return missing // 2, missing - missing // 2

"""Ways to run the decoder's network; all take and give the same tensors.

    torch     the module itself, on any device: the reference
    openvino  its convolutions compiled for this processor. Where that multiplies bfloat16, an embedding and a call of
              `tiny` take 0.65, 0.76 and 0.85 times as long on one thread at 256x256, 512x512 and 1280x720; the result
              is as near to the float32 one. It starts two seconds later and takes 150 MiB more
    graph     a call replayed on a CUDA device as one launch (CUDA graphs)

`openvino` and `graph` prepare themselves for a size at their first call there, so warm up before the first picture.
Inside a call nothing waits for the device.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from common.errors import ConfigError
from receiver.decoder.bridge import Prediction
from receiver.decoder.conditions import Conditions
from receiver.decoder.model import TinyBridge

BackendName = Literal["auto", "torch", "openvino", "graph"]

_CAPTURE_WARM_UP = 3
"""Calls before a capture, in which libraries choose their kernels and take their workspaces."""

_Shapes = tuple[tuple[int, ...], ...]


class Network(Protocol):
    """What the bridge needs of a network (see TinyBridge)."""

    def embed(self, conditions: Conditions) -> Tensor:
        """What does not change between the steps of a frame."""

    def __call__(self, z: Tensor, t: Tensor, conditions: Conditions, embedded: Tensor) -> Prediction:
        """One network call; a result stays as it is when the next call begins."""


def open_network(model: TinyBridge, backend: BackendName, device: torch.device) -> Network:
    """The network to call instead of `model`, which is ready for inference: on `device`, in its type.

    "auto" is torch: the others give slightly different pictures and cost time at the start, so they are asked for.
    Raises ConfigError where the backend cannot run here.
    """
    if backend == "openvino":
        if device.type != "cpu":
            raise ConfigError(f"backend openvino runs on the processor, not on {device}: use --device cpu")
        return OpenVinoNetwork(model, torch.get_num_threads())
    if backend == "graph":
        return GraphedNetwork(model, device)
    return cast(Network, model)


class OpenVinoNetwork:
    """The convolutions in OpenVINO; stem and painting, which are not faster there, in torch."""

    def __init__(self, model: TinyBridge, threads: int) -> None:
        """threads : processor threads of a call, whatever torch uses by then; ConfigError without OpenVINO."""
        try:
            import openvino
        except ImportError as error:
            raise ConfigError(
                "backend openvino needs the package openvino, which is not installed: "
                "pip install 'semcast[openvino]', or use --set receiver.backend=torch"
            ) from error
        self._model = model
        self._core: Any = openvino.Core()
        native = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        half = native and next(model.parameters()).dtype == torch.bfloat16
        self._settings = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # the sender of the same machine may be on that core
        }
        self._graph: Any = None
        self._requests: dict[_Shapes, Any] = {}

    def embed(self, conditions: Conditions) -> Tensor:
        """As TinyBridge does."""
        return self._model.embed(conditions)

    def __call__(self, z: Tensor, t: Tensor, conditions: Conditions, embedded: Tensor) -> Prediction:
        """As TinyBridge does; compiles at the first call with tensors of these sizes."""
        inputs = (z, t, embedded, *conditions)
        shapes = _shapes(inputs)
        request = self._requests.get(shapes)
        if request is None:
            request = self._requests[shapes] = self._compiled(inputs)
        lent = [_last(x).contiguous() for x in inputs]  # as they lie already: nothing is copied
        for place, x in enumerate(lent):
            request.set_input_tensor(place, _shared(x))
        results = [torch.empty(tuple(port.shape), dtype=z.dtype) for port in request.model_outputs]
        for place, x in enumerate(results):
            request.set_output_tensor(place, _shared(x))
        request.infer()
        painted, log_variance = (x.permute(0, 3, 1, 2) for x in results)
        return self._model.paint(painted, log_variance, conditions)

    def _compiled(self, inputs: Sequence[Tensor]) -> Any:
        """A request for tensors of these sizes and types."""
        from openvino.preprocess import PrePostProcessor

        if self._graph is None:
            self._graph = _converted(self._model, inputs)
        graph = self._graph.clone()
        graph.reshape({port: list(x.shape) for port, x in zip(graph.inputs, inputs, strict=True)})
        steps = PrePostProcessor(graph)
        for place, x in enumerate(inputs):
            _as_in_torch(steps.input(place), x.dtype, x.ndim)
        for place in range(len(graph.outputs)):
            _as_in_torch(steps.output(place), inputs[0].dtype, 4)
        return self._core.compile_model(steps.build(), "CPU", self._settings).create_infer_request()


class _Features(nn.Module):
    """`TinyBridge.features` as a module of plain tensors, which is what can be traced."""

    def __init__(self, model: TinyBridge) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, t: Tensor, embedded: Tensor, *conditions: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.features(z, t, Conditions(*conditions), embedded)


def _converted(model: TinyBridge, inputs: Sequence[Tensor]) -> Any:
    """`model.features` as an OpenVINO graph in float32, for any size.

    By way of the front end itself: `openvino.convert_model` would report its use over the network.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    features = _Features(nn.Module.float(copy.deepcopy(model))).eval()
    # Tracing refuses tensors of inference mode, and torch.jit, on which OpenVINO builds, is deprecated.
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        example = tuple(x.clone().float() if x.is_floating_point() else x.clone() for x in inputs)
        decoder = TorchScriptPythonDecoder(features, example_input=example)
    front_end = FrontEndManager().load_by_framework("pytorch")
    return front_end.convert(front_end.load(decoder))


def _as_in_torch(port: Any, dtype: torch.dtype, dimensions: int) -> None:
    """Declare that a tensor at the border has this type and, if it is a picture, its channels last."""
    from openvino import Layout, Type

    tensor = port.tensor().set_element_type(getattr(Type, _TYPES[dtype]))
    if dimensions == 4:
        tensor.set_layout(Layout("NHWC"))
        port.model().set_layout(Layout("NCHW"))


_TYPES = {torch.bfloat16: "bf16", torch.float32: "f32", torch.int64: "i64"}
"""OpenVINO's names."""


def _last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x


def _shared(x: Tensor) -> Any:
    """The same memory as an OpenVINO tensor; NumPy, which is between them, has no bfloat16."""
    from openvino import Shape, Tensor, Type

    plain = x.view(torch.int16) if x.dtype == torch.bfloat16 else x
    return Tensor(plain.numpy(), Shape(list(x.shape)), getattr(Type, _TYPES[x.dtype]))


class _Captured:
    """One call at one size: its graph, and the memory from which it reads and to which it writes."""

    def __init__(self, model: TinyBridge, inputs: Sequence[Tensor]) -> None:
        self.inputs = [x.clone() for x in inputs]
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_CAPTURE_WARM_UP):
                self._call(model)
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.outputs = self._call(model)

    def _call(self, model: TinyBridge) -> Prediction:
        z, t, embedded, *conditions = self.inputs
        return model(z, t, Conditions(*conditions), embedded)


class GraphedNetwork:
    """The module on a CUDA device, one graph for each size of tensors."""

    def __init__(self, model: TinyBridge, device: torch.device) -> None:
        """ConfigError where `device` is not a CUDA device."""
        if device.type != "cuda":
            raise ConfigError(
                f"backend graph needs a CUDA device, and the decoder runs on {device}: "
                "use --set receiver.backend=torch"
            )
        self._model = model
        self._captured: dict[_Shapes, _Captured] = {}

    def embed(self, conditions: Conditions) -> Tensor:
        """As TinyBridge does."""
        return self._model.embed(conditions)

    def __call__(self, z: Tensor, t: Tensor, conditions: Conditions, embedded: Tensor) -> Prediction:
        """As TinyBridge does; captures at the first call with tensors of these sizes, ConfigError if that fails."""
        inputs = (z, t, embedded, *conditions)
        shapes = _shapes(inputs)
        if shapes not in self._captured:
            try:
                self._captured[shapes] = _Captured(self._model, inputs)
            except RuntimeError as error:
                raise ConfigError(
                    f"the network cannot be captured as a CUDA graph here ({error}): "
                    "use --set receiver.backend=torch"
                ) from error
        captured = self._captured[shapes]
        for held, x in zip(captured.inputs, inputs, strict=True):
            held.copy_(x)
        captured.graph.replay()
        return Prediction(*(x.clone() for x in captured.outputs))


def _shapes(tensors: Sequence[Tensor]) -> _Shapes:
    return tuple(tuple(x.shape) for x in tensors)

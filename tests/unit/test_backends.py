"""Every backend gives the network's own result, prepares itself for each size and says what it lacks."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch

from common.errors import ConfigError
from receiver.decoder.backends import GraphedNetwork, Network, OpenVinoNetwork, open_network
from receiver.decoder.bridge import Prediction
from receiver.decoder.conditions import SCALARS, Conditions, Observation, assemble
from receiver.decoder.model import TinyBridge

CPU = torch.device("cpu")
STEP = 1 / 128
"""One sample step in the network's units."""


def model(dtype: torch.dtype, device: torch.device = CPU) -> TinyBridge:
    torch.manual_seed(0)
    net = TinyBridge(widths=(16, 16, 16))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    net = torch.nn.Module.to(net.eval().requires_grad_(False), device=device, dtype=dtype)
    return net.to(memory_format=torch.channels_last)


def conditions(
    height: int, width: int, dtype: torch.dtype, device: torch.device = CPU, seed: int = 0
) -> Conditions:
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, (1, *shape), generator=generator, dtype=torch.uint8)

    pictures = [draw(256, height // 2, width // 2, 6) for _ in range(4)]
    trust = draw(256, height // 8, width // 8)
    received, labels = draw(2, height // 16, width // 16), draw(21, height // 16, width // 16)
    scalars = torch.rand(1, SCALARS, generator=generator)
    parts = Observation(*pictures, trust, received, labels, scalars)
    return assemble(Observation(*(part.to(device) for part in parts)), dtype)


@torch.inference_mode()
def call(network: Network, given: Conditions, t: float = 1.0) -> Prediction:
    return network(given.base, given.base.new_full((1,), t), given, network.embed(given))


def worst(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape and a.dtype == b.dtype
    return float((a.float() - b.float()).abs().max())


def test_torch_is_the_module_itself_and_the_default() -> None:
    net = model(torch.float32)
    assert open_network(net, "torch", CPU) is net
    assert open_network(net, "auto", CPU) is net


def test_openvino_in_float32_gives_the_same_numbers_at_every_size_and_time() -> None:
    pytest.importorskip("openvino")
    net = model(torch.float32)
    network = open_network(net, "openvino", CPU)
    for (height, width), t in (((32, 48), 1.0), ((64, 32), 0.5), ((32, 48), 0.25)):
        given = conditions(height, width, torch.float32, seed=height)
        for found, expected in zip(call(network, given, t), call(net, given, t), strict=True):
            assert worst(found, expected) < 1e-4


def test_openvino_in_bfloat16_stays_within_the_error_of_that_type() -> None:
    pytest.importorskip("openvino")
    exact = call(model(torch.float32), conditions(64, 64, torch.float32))
    half, given = model(torch.bfloat16), conditions(64, 64, torch.bfloat16)
    expected, found = call(half, given), call(open_network(half, "openvino", CPU), given)
    assert worst(found.x, expected.x) < 8 * STEP
    mean_error = (found.x.float() - exact.x).abs().mean()
    assert mean_error <= 1.1 * (expected.x.float() - exact.x).abs().mean()
    assert worst(found.log_variance, expected.log_variance) < 0.25


def test_a_result_survives_the_next_call() -> None:
    pytest.importorskip("openvino")
    network = OpenVinoNetwork(model(torch.float32), 1)
    first = call(network, conditions(32, 32, torch.float32, seed=1))
    kept = first.x.clone()
    call(network, conditions(32, 32, torch.float32, seed=2))
    assert torch.equal(first.x, kept)


def test_what_a_backend_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model(torch.float32)
    with pytest.raises(ConfigError, match="backend=torch"):
        open_network(net, "graph", CPU)
    with pytest.raises(ConfigError, match="--device cpu"):
        open_network(net, "openvino", torch.device("cuda"))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"pip install 'semcast\[openvino\]'"):
        open_network(net, "openvino", CPU)


def test_a_failed_capture_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Callable[..., object]:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr("receiver.decoder.backends._Captured", refuse)
    network = GraphedNetwork(model(torch.float32), torch.device("cuda"))
    with pytest.raises(ConfigError, match=r"stream is capturing.*backend=torch"):
        call(network, conditions(32, 32, torch.float32))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_graph_gives_the_same_numbers_without_waiting_for_the_device() -> None:
    cuda = torch.device("cuda")
    net = model(torch.bfloat16, cuda)
    network = open_network(net, "graph", cuda)
    call(network, conditions(32, 48, torch.bfloat16, cuda))  # captures
    given = conditions(32, 48, torch.bfloat16, cuda, seed=2)
    expected = call(net, given, 0.5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = call(network, given, 0.5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for a, b in zip(found, expected, strict=True):
        assert worst(a, b) < STEP

"""The teacher's backbone in torch says what the TFLite interpreter says, and gives gradients to the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.colour import picture_to_rgb
from common.errors import WeightsError
from common.types import Colour, Picture
from receiver.decoder.conditions import pack, to_units
from training.losses import feature_distance
from training.teacher import Backbone, Layer, load_backbone, packed_to_rgb

TEACHER = Path(__file__).parents[3] / "shared" / "teachers" / "deeplabv3_257_mv_gpu.tflite"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    if not TEACHER.is_file():
        pytest.skip("the teacher's file is not here")
    return load_backbone(TEACHER)


def test_the_deepest_features_are_those_of_the_interpreter(backbone: Backbone) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    rgb = np.random.default_rng(0).uniform(-1, 1, (1, 257, 257, 3)).astype(np.float32)
    interpreter = Interpreter(
        str(TEACHER),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], rgb)
    interpreter.invoke()
    with torch.no_grad():
        found = backbone(torch.from_numpy(rgb).permute(0, 3, 1, 2))
    for tap, features in zip(backbone.taps, found, strict=True):
        wanted = interpreter.get_tensor(tap)
        found_here = features.permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(found_here, wanted, rtol=0, atol=1e-3 * float(np.abs(wanted).max()))


def test_features_come_from_every_depth_and_lead_the_picture(backbone: Backbone) -> None:
    torch.manual_seed(0)
    truth, x = torch.rand(1, 6, 32, 32) - 0.5, torch.zeros(1, 6, 32, 32, requires_grad=True)
    wanted = backbone.features(truth)
    assert [f.shape[1] for f in wanted] == [8, 12, 16, 32, 48, 80, 160]
    assert [f.shape[2] for f in wanted] == [32, 16, 8, 8, 8, 8, 8]
    assert float(feature_distance(wanted, wanted)) == 0.0
    feature_distance(backbone.features(x), wanted).backward()
    assert x.grad is not None and float(x.grad.abs().max()) > 0
    assert not list(backbone.parameters())


def test_same_padding_puts_the_odd_rest_behind() -> None:
    ones = torch.ones(1, 1, 3, 3)
    layers = [Layer((0,), 1, ones, torch.zeros(1), stride=2), Layer((1, 1), 2)]
    (out,) = Backbone(layers)(torch.ones(1, 1, 4, 4))
    assert out[0, 0].tolist() == [[18.0, 12.0], [12.0, 8.0]]


def test_colours_are_those_of_the_project() -> None:
    rng = np.random.default_rng(1)
    planes = (rng.integers(60, 190, shape).astype(np.uint8) for shape in ((8, 8), (4, 4), (4, 4)))
    picture = Picture(*planes)
    wanted = picture_to_rgb(picture, Colour()).astype(np.float32)
    packed = to_units(torch.from_numpy(pack(picture))[None], torch.float32)
    found = (packed_to_rgb(packed)[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert found.clip(0, 255) == pytest.approx(wanted, abs=0.75)


def test_what_is_no_teacher_is_one_clear_line(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    with pytest.raises(WeightsError, match="check the path"):
        load_backbone(tmp_path / "none.tflite")
    (tmp_path / "bad.tflite").write_bytes(b"TFL3 not really" * 4)
    with pytest.raises(WeightsError, match="take another file"):
        load_backbone(tmp_path / "bad.tflite")

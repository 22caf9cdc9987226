"""The label network, the steadiness of its maps, its training and the clips that it is trained on."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.errors import SourceError, WeightsError
from common.labelnet import (
    ConvUnit,
    LabelNet,
    feature_distance,
    load_labelnet,
    picture_to_planes,
    working_size,
)
from common.types import LABEL_CLASSES, Picture
from common.weights import save_weights
from sender.labels import BlankAnalyzer, LabelAnalyzer, hold_on, importance, without_specks
from training.clips import list_clips, read_clip, sample_clip
from training.labels import (
    LabelSettings,
    LabelTrainer,
    agreement,
    disturbed,
    draw,
    measure,
    preference,
    soft_cross_entropy,
)
from training.targets import Targets, make_targets, scene_of

SIZES = [(512, 512), (64, 48), (360, 640), (34, 18)]


def noise_picture(height: int, width: int, seed: int = 0) -> Picture:
    rng = np.random.default_rng(seed)
    shapes = (height, width), (height // 2, width // 2), (height // 2, width // 2)
    return Picture(*(rng.integers(0, 256, shape, np.uint8) for shape in shapes))


def random_net(channels: tuple[int, int, int] = (4, 6, 8), normed: bool = False) -> LabelNet:
    torch.manual_seed(5)
    return LabelNet(channels, normed).eval()


def random_targets(count: int) -> Targets:
    rng = np.random.default_rng(1)
    classes = rng.dirichlet(np.ones(LABEL_CLASSES), (count, 32, 32)).transpose(0, 3, 1, 2)
    return Targets(rng.integers(0, 256, (count, 6, 128, 128), np.uint8), classes.astype(np.float16))


# --- network


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_one_logit_vector_per_cell(height: int, width: int) -> None:
    logits = random_net().logits(noise_picture(height, width))
    assert logits.shape == (LABEL_CLASSES, -(-height // 16), -(-width // 16))
    assert logits.dtype == torch.float32 and bool(logits.isfinite().all())


@given(st.integers(1, 300), st.integers(1, 300))
def test_working_size_keeps_area_and_aspect_on_the_grid(rows: int, cols: int) -> None:
    height, width = working_size(2 * rows, 2 * cols)
    assert height % 16 == width % 16 == 0 and min(height, width) >= 16
    if 0.25 < rows / cols < 4:
        assert 0.8 < height * width / 256**2 < 1.25


def test_planes_hold_the_luma_phases_in_the_order_of_the_decoder() -> None:
    y = np.array([[0, 64], [128, 255]], np.uint8)
    planes = picture_to_planes(Picture(y, np.full((1, 1), 192, np.uint8), np.full((1, 1), 32, np.uint8)))
    assert planes.flatten().tolist() == [-1.0, -0.5, 0.0, 127 / 128, 0.5, -0.75]


def test_folding_the_normalisation_changes_nothing_else() -> None:
    net = random_net(normed=True)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    planes = torch.randn(2, 6, 32, 48, generator=torch.Generator().manual_seed(0))
    before = net(planes)
    net.fold()
    torch.testing.assert_close(net(planes), before, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in net.modules())
    assert all(module.conv.bias is not None for module in net.modules() if isinstance(module, ConvUnit))


def test_three_stages_of_features_with_a_gradient_to_the_picture() -> None:
    net, planes = random_net(), torch.rand(1, 6, 16, 32, generator=torch.Generator().manual_seed(0))
    planes.requires_grad_(True)
    stages = net.features(planes)
    assert [tuple(stage.shape[1:]) for stage in stages] == [(4, 8, 16), (6, 4, 8), (8, 2, 4)]
    torch.stack([stage.square().mean() for stage in stages]).sum().backward()
    assert planes.grad is not None and float(planes.grad.abs().sum()) > 0


def test_feature_distance_is_a_distance() -> None:
    net, a, b = random_net(), noise_picture(64, 48, 0), noise_picture(64, 48, 1)
    half = Picture(*((p // 2 + q // 2).astype(np.uint8) for p, q in zip(a.planes, b.planes, strict=True)))
    assert feature_distance(a, a, net) == 0
    assert 0 < feature_distance(a, half, net) <= 2
    assert feature_distance(a, b, net) == pytest.approx(feature_distance(b, a, net), rel=1e-5)
    with pytest.raises(ValueError, match="one size"):
        feature_distance(a, noise_picture(64, 64), net)


def test_shipped_network_loads_frozen() -> None:
    net = load_labelnet()
    assert not net.training and not any(parameter.requires_grad for parameter in net.parameters())
    assert sum(parameter.numel() for parameter in net.parameters()) < 1_000_000


@pytest.mark.parametrize("config", [{"channels": [4, 6, 9]}, {"channels": [4]}, {"depth": 3}])
def test_weights_of_another_version_are_refused(tmp_path: Path, config: dict[str, object]) -> None:
    path = tmp_path / "x.safetensors"
    save_weights(path, random_net().state_dict(), config, "labels")
    with pytest.raises(WeightsError, match="label network of this version"):
        load_labelnet(str(path))


# --- analyzer


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_analyzers_give_one_class_per_cell(height: int, width: int) -> None:
    picture = noise_picture(height, width)
    for analyzer in (LabelAnalyzer(random_net()), BlankAnalyzer()):
        labels = analyzer.label(picture)
        assert labels.shape == (-(-height // 16), -(-width // 16)) and labels.dtype == np.uint8
        assert labels.max() < LABEL_CLASSES
    assert not labels.any()


def test_the_analyzer_leaves_the_thread_count_of_others_alone() -> None:
    before = torch.get_num_threads()
    LabelAnalyzer(random_net(), threads=before + 1).label(noise_picture(32, 32))
    assert torch.get_num_threads() == before


class BrightIsPerson(LabelNet):
    """Sees a person in every cell that is brighter than grey."""

    def logits(self, picture: Picture) -> torch.Tensor:
        cells = torch.from_numpy(picture.y[::16, ::16].astype(np.float32))
        logits = torch.zeros(LABEL_CLASSES, *cells.shape)
        logits[0], logits[15] = 128 - cells, cells - 128
        return logits


def flat_picture(level: int, side: int = 64) -> Picture:
    return Picture(*(np.full_like(plane, level) for plane in noise_picture(side, side).planes))


@pytest.mark.parametrize(("margin", "second"), [(0.0, 0), (0.2, 0), (1.0, 15)])
def test_memory_is_kept_between_pictures_until_reset(margin: float, second: int) -> None:
    analyzer = LabelAnalyzer(BrightIsPerson(), margin=margin)
    assert (analyzer.label(flat_picture(250)) == 15).all()
    assert (analyzer.label(flat_picture(20)) == second).all()
    analyzer.reset()
    assert (analyzer.label(flat_picture(20)) == 0).all()
    assert (analyzer.label(flat_picture(250, side=32)) == 15).all()


@pytest.mark.parametrize(("new", "expected"), [(0.45, 3), (0.55, 3), (0.65, 15)])
def test_a_cell_changes_only_when_the_new_class_is_clearly_better(new: float, expected: int) -> None:
    probabilities = np.zeros((LABEL_CLASSES, 1, 1), np.float32)
    probabilities[15], probabilities[3] = new, 1 - new
    held = np.array([[3]], np.uint8)
    assert hold_on(held, probabilities, 0.2)[0, 0] == expected
    assert hold_on(None, probabilities, 0.2)[0, 0] == (15 if new > 0.5 else 3)


def test_single_cells_go_and_pairs_stay() -> None:
    labels = np.zeros((5, 6), np.uint8)
    labels[2, 1] = 7
    labels[2:4, 4] = 15
    labels[0, 5] = 9
    expected = np.zeros((5, 6), np.uint8)
    expected[2:4, 4] = 15
    np.testing.assert_array_equal(without_specks(labels), expected)


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.integers(0, 20))
)
def test_removing_specks_only_spreads_what_is_there(labels: np.ndarray) -> None:
    before = labels.copy()
    cleaned = without_specks(labels)
    np.testing.assert_array_equal(labels, before)
    assert cleaned.shape == labels.shape and set(np.unique(cleaned)) <= set(np.unique(labels))


def test_importance_by_class() -> None:
    labels = np.array([[0, 15, 12], [7, 9, 20]], np.uint8)
    worth = importance(labels)
    assert worth.dtype == np.float32 and worth.tolist() == [[1, 4, 3], [2.5, 2, 2]]


# --- clips


def write_clip(path: Path, width: int = 64, height: int = 48, count: int = 12) -> Path:
    """Frame k has luma 16 + 16 k."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for k in range(count):
            rows = height * 3 // 2
            samples = np.full((rows, width), 128, np.uint8)
            samples[:height] = 16 + 16 * k
            container.mux(stream.encode(av.VideoFrame.from_ndarray(samples, "yuv420p")))
        container.mux(stream.encode(None))
    return path


def test_a_clip_is_read_from_where_one_asks(tmp_path: Path) -> None:
    clip = read_clip(write_clip(tmp_path / "a.mkv"), None, 3, start=4)
    assert [int(picture.y[0, 0]) for picture in clip.pictures] == [80, 96, 112]
    assert clip.frame_rate == 25 and clip.pictures[0].y.shape == (48, 64)
    assert read_clip(tmp_path / "a.mkv", None, 3, start=40).pictures == ()


def test_a_clip_is_stretched_to_the_size_one_asks(tmp_path: Path) -> None:
    picture = read_clip(write_clip(tmp_path / "a.mkv"), (32, 96), 1).pictures[0]
    assert [plane.shape for plane in picture.planes] == [(96, 32), (48, 16), (48, 16)]
    assert (picture.y == 16).all() and (picture.u == 128).all()


def test_samples_are_spread_over_the_clip(tmp_path: Path) -> None:
    clip = sample_clip(write_clip(tmp_path / "a.mkv"), None, 3)
    assert [int(picture.y[0, 0]) for picture in clip.pictures] == [48, 112, 176]


def test_clips_are_listed_in_order_and_other_files_left_out(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.MKV", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_clips(tmp_path)] == ["a.MKV", "b.mp4"]
    with pytest.raises(SourceError, match="no video files"):
        list_clips(tmp_path / "none")


@pytest.mark.parametrize("content", [None, b"", b"no video at all" * 99])
def test_a_broken_clip_is_a_source_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    for read in (read_clip, sample_clip):
        with pytest.raises(SourceError, match=r"a\.mp4"):
            read(path, None, 5)


# --- training


def halves(rgb: np.ndarray) -> np.ndarray:
    """A teacher that sees people on the left."""
    probabilities = np.zeros((LABEL_CLASSES, 32, 32), np.float32)
    probabilities[15, :, :16], probabilities[0, :, 16:] = 1, 1
    return probabilities


def test_targets_are_asked_once_and_kept(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a_1.mkv")
    targets = make_targets(clip, tmp_path / "kept", halves, frames=2, seed=0)
    assert targets.planes.shape == (4, 6, 128, 128) and targets.classes.shape == (4, 21, 32, 32)
    assert (targets.classes[:, 15, :, :16] == 1).all() and (targets.classes[:, 0, :, 16:] == 1).all()

    def never(rgb: np.ndarray) -> np.ndarray:
        raise AssertionError("asked again")

    again = make_targets(clip, tmp_path / "kept", never, frames=2, seed=0)
    np.testing.assert_array_equal(again.planes, targets.planes)
    (tmp_path / "kept/a_1.npz").write_bytes(b"damaged")
    with pytest.raises(SourceError, match="damaged"):
        make_targets(clip, tmp_path / "kept", never, frames=2, seed=0)


def test_clips_of_one_scene_stay_together() -> None:
    assert scene_of(Path("bbb_0.mp4")) == scene_of(Path("bbb_12.mp4")) != scene_of(Path("bbc_0.mp4"))


def test_a_mirrored_crop_keeps_picture_and_classes_together() -> None:
    targets = random_targets(1)
    targets.planes[:] = 0
    targets.planes[:, 0, 40, 20] = 255  # the top left luma phase of cell (10, 5)
    targets.classes[:] = 0
    targets.classes[:, 9, 10, 5] = 1
    seen = set()
    for seed in range(12):
        planes, classes = draw(targets, np.ones(1), 1, 28, np.random.default_rng(seed))
        spots = (planes[0] > 0.9).nonzero().tolist()
        cells = classes[0, 9].nonzero().tolist()
        assert len(spots) == len(cells) == 1
        phase, y, x = spots[0]
        assert [y // 4, x // 4] == cells[0]
        assert x % 4 == (0 if phase == 0 else 3)
        seen.add(phase)
    assert seen == {0, 1}


def test_rare_classes_are_preferred() -> None:
    targets = random_targets(10)
    targets.classes[:] = 0
    targets.classes[:, 0] = 1
    targets.classes[3, :, :8] = 0
    targets.classes[3, 8, :8] = 1
    chances = preference(targets, 0.02)
    assert chances.sum() == pytest.approx(1) and chances.argmax() == 3 and chances.min() > 0


def test_disturbance_stays_in_range_and_is_seeded() -> None:
    planes = torch.zeros(8, 6, 16, 16)
    once, twice = (disturbed(planes, np.random.default_rng(2)) for _ in range(2))
    assert torch.equal(once, twice) and float(once.abs().max()) <= 1 and float(once.std()) > 0


def test_soft_cross_entropy_of_a_known_case() -> None:
    logits = torch.zeros(1, LABEL_CLASSES, 1, 1)
    classes = torch.full((1, LABEL_CLASSES, 1, 1), 1 / LABEL_CLASSES)
    assert float(soft_cross_entropy(logits, classes)) == pytest.approx(np.log(LABEL_CLASSES))


def test_agreement_counts_only_classes_that_occur() -> None:
    confusion = np.zeros((LABEL_CLASSES, LABEL_CLASSES), np.int64)
    confusion[0, 0], confusion[15, 15], confusion[15, 0] = 60, 20, 20
    result = agreement(confusion, 1)
    assert (result.pixels, result.background, result.person) == pytest.approx((0.8, 0.6, 0.5))
    assert result.miou == pytest.approx((60 / 80 + 20 / 40) / 2)


def small_trainer() -> LabelTrainer:
    """On four pictures of which the left is bright and a person."""
    targets = random_targets(4)
    targets.planes[..., :64], targets.planes[..., 64:] = 200, 60
    targets.classes[:] = 0
    targets.classes[:, 15, :, :16], targets.classes[:, 0, :, 16:] = 1, 1
    settings = LabelSettings(batch=4, crops=(24,), warm_up_steps=1)
    return LabelTrainer(targets, settings, torch.device("cpu"), seed=0)


def test_training_learns_what_the_teacher_says() -> None:
    trainer = small_trainer()
    losses = [trainer.step(0.0) for _ in range(12)]
    assert losses[-1] < 0.5 * losses[0]


def test_a_resumed_run_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    straight, first = small_trainer(), small_trainer()
    for trainer in (straight, first):
        trainer.step(0.0)
    first.save(tmp_path / "checkpoint.safetensors")
    resumed = small_trainer()
    resumed.resume(tmp_path / "checkpoint.safetensors")
    assert resumed.step(0.5) == pytest.approx(straight.step(0.5), rel=1e-4)


# --- the shipped network on real pictures


def test_the_shipped_network_finds_the_person_in_a_selfie(dev_clip: Callable[[str], Path]) -> None:
    picture = read_clip(dev_clip("d01_selfie"), (512, 512), 1).pictures[0]
    labels = LabelAnalyzer().label(picture)
    assert np.mean(labels == 15) > 0.15
    assert measure(load_labelnet(), random_targets(1), torch.device("cpu")).pictures == 1

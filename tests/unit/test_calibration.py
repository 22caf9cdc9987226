"""`train calibrate`: fits are monotone and cover nine of ten, clips and weights go in, calibrated weights come out."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SourceError
from common.quality import coverage
from common.state import Composition
from common.types import Colour, Frame, Picture
from common.weights import load_weights, save_weights
from receiver.decoder.conditions import FrameFacts
from receiver.decoder.model import FAMILY, TinyBridge
from receiver.decoder.synth import BridgeSynthesizer
from receiver.sinks import Ffv1Sink
from receiver.uncertainty import ASSET, Calibration, parsed
from sender.labels import BlankAnalyzer
from training.calibration import calibrate, calibrated, fit, score_of, table
from training.dataset import View, is_held_out
from training.sightings import CalibrationSettings, Listener, Seen, Sighting, Watch, sightings

SIDE = 64
QUICK = CalibrationSettings(rounds=2, as_it_is=1.0, frames=(24, 25), every=2, cells=64, waits=(1, 2))
HELD_OUT, OTHER = "clip10", "clip0"


def view(slot: int) -> View:
    rng = np.random.default_rng(slot)
    base = Picture(*(rng.integers(60, 200, (SIDE // k, SIDE // k)).astype(np.uint8) for k in (1, 2, 2)))
    truth = Picture(base.y + np.uint8(4), base.u, base.v)
    cells = [np.zeros((SIDE // k, SIDE // k), np.uint8) for k in (8, 16, 16)]
    scene = Composition(base, None, base, cells[0], cells[1], cells[2])
    return View(truth, scene, FrameFacts(slot, 2, 100, shows=slot, due=slot))


def model() -> TinyBridge:
    torch.manual_seed(1)
    return TinyBridge(widths=(8, 12, 16), middle_blocks=1)


# --- fits ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1000, 2000))
def test_every_fit_is_a_calibration_that_covers_nine_of_ten(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    strengths = rng.random((count, 3)) * 2
    errors = np.exp(strengths @ (1.0, -1.0, 0.0) + rng.normal(0, 0.5, count)).astype(np.float32)
    found = fit(("texture", "scale", "motion"), strengths, errors)  # refuses what is not monotone
    named = dict(zip(("texture", "scale", "motion"), strengths.T.astype(np.float32), strict=True))
    assert coverage(errors, found.at(score_of(found, named))) == pytest.approx(0.9, abs=0.1)
    assert found.weights.get("scale", 0.0) < 0.3, "what speaks against an error has no weight"


def test_weights_are_found() -> None:
    rng = np.random.default_rng(0)
    strengths = rng.random((20_000, 2)) * 2
    errors = np.exp(1 + strengths @ (0.8, 0.3) + rng.normal(0, 0.3, len(strengths))).astype(np.float32)
    found = fit(("texture", "scale"), strengths, errors)
    assert found.weights["texture"] == pytest.approx(0.8, abs=0.02)
    assert found.weights["scale"] == pytest.approx(0.3, abs=0.02)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(-1, 4)), min_size=1, max_size=300))
def test_a_table_never_falls(pairs: list[tuple[float, float]]) -> None:
    scores, steps = table(*(np.array(column) for column in zip(*pairs, strict=True)))
    Calibration({}, scores, steps)


def _sighting(rng: np.random.Generator, harder: float, network: bool) -> Sighting:
    count = 200
    evidence = {"texture": rng.random(count).astype(np.float32)}
    errors = (np.exp(evidence["texture"] + rng.normal(0, 0.3, count)) * harder).astype(np.float32)
    plain = Seen(evidence, errors)
    if not network:
        return Sighting({"base": plain, "guide": plain}, {}, {}, evidence["texture"])
    kinds = {"base": plain, "guide": plain, "network": plain, "carried": plain}
    return Sighting(kinds, evidence, {1: errors}, evidence["texture"])  # type: ignore[arg-type]


@pytest.mark.parametrize(("harder", "covers_more"), [(1.0, False), (1.5, True)])
def test_easy_held_back_clips_are_allowed_for(harder: float, covers_more: bool) -> None:
    rng = np.random.default_rng(0)
    own = [_sighting(rng, 1.0, network=True) for _ in range(8)]
    others = [_sighting(rng, harder, network=False) for _ in range(72)]
    network = calibrated(own, others).of["network"]
    errors = np.concatenate([one.kinds["network"].errors for one in own])
    expected = np.concatenate([network.at(score_of(network, one.kinds["network"].evidence)) for one in own])
    assert (coverage(errors, expected) > 0.95) == covers_more


# --- sightings ----------------------------------------------------------------------------------------------------


def _seen(painter: BridgeSynthesizer | None, listener: Listener) -> Sequence[Sighting]:
    return sightings(map(view, range(24)), Watch(painter, listener, np.random.default_rng(0)), QUICK)


def test_all_kinds_are_seen_with_their_errors() -> None:
    listener = Listener()
    found = _seen(BridgeSynthesizer(model(), device="cpu", dtype=torch.float32, estimator=listener), listener)
    assert len(found) == 12
    for one in found:
        assert np.allclose(one.kinds["base"].errors, 4.0)
        assert "carried" in one.kinds or "network" in one.kinds or "base" in one.kinds
        assert bool(one.painted) == ("carried" in one.kinds)
        assert set(one.later) <= {1, 2}
    assert any("network" in one.kinds for one in found)


def test_without_a_network_the_plain_levels_are_seen() -> None:
    assert all(one.kinds.keys() == {"base", "guide"} and not one.later for one in _seen(None, Listener()))


# --- all of it ----------------------------------------------------------------------------------------------------


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A held-back clip and another, of a square that moves over noise."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number, name in enumerate((HELD_OUT, OTHER)):
        rng = np.random.default_rng(number)
        ground = rng.integers(90, 130, (SIDE, SIDE)).astype(np.uint8)
        grey = np.full((SIDE // 2, SIDE // 2), 128, np.uint8)
        with Ffv1Sink(folder / f"{name}.mkv", Fraction(25), Fraction(1, 25), Colour()) as sink:
            for slot in range(24):
                y = ground.copy()
                y[8:24, slot : slot + 16] = 220
                sink.show(Frame(Picture(y, grey, grey), slot, Fraction(1, 25), slot))
    return folder


def test_calibrated_weights_are_the_same_weights(clips: Path, tmp_path: Path) -> None:
    assert is_held_out(HELD_OUT.encode()) and not is_held_out(OTHER.encode())
    weights = tmp_path / "mine.safetensors"
    one = model()
    save_weights(weights, one.state_dict(), one.settings, FAMILY)
    files, fits = calibrate(clips, tmp_path / "out", str(weights), BlankAnalyzer(), QUICK)
    assert fits.keys() == {"base", "guide", "network", "carried", "held"}
    before, after = load_weights(str(weights)), load_weights(str(files.weights))
    assert all(torch.equal(tensor, after.tensors[name]) for name, tensor in before.tensors.items())
    assert parsed(after.metadata["calibration"], "it").of.keys() == {"network", "carried"}
    assert parsed(files.levels.read_text(), ASSET).of.keys() == {"base", "guide", "held"}
    assert files.card.read_text().count("## Uncertainty") == 1
    painter = BridgeSynthesizer.load(str(files.weights), device="cpu")
    found = painter.render(view(3).composition, view(3).facts, "bridge1", lambda: False)
    assert found.uncertainty is not None and found.steps_done == 1


def test_without_held_back_clips_there_is_nothing_to_calibrate_on(clips: Path, tmp_path: Path) -> None:
    (clips / f"{HELD_OUT}.mkv").unlink()
    with pytest.raises(SourceError, match="one in twelve"):
        calibrate(clips, tmp_path / "out", "tiny", BlankAnalyzer(), QUICK)

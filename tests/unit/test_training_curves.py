"""The log of a run becomes a drawing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import SourceError
from training.curves import draw_curves, read_log


def test_losses_and_held_out_scores_are_drawn(tmp_path: Path) -> None:
    score = {"psnr_db": 30.0, "texture": 0.4}
    rows = [
        {"step": 50 * k, "fidelity": 0.1 / k, "base": 0.1, "variance": -0.1, "loss": 0.2 / k, "norm": 1.0}
        for k in (1, 2, 3)
    ]
    checked = {"step": 150, "held_out": {"base": score, "one_step": score, "two_steps": score}}
    log = tmp_path / "train.log"
    log.write_text("\n".join(json.dumps(row) for row in [*rows, checked]))
    losses, held_out = read_log(log)
    assert (len(losses), len(held_out)) == (3, 1)
    assert draw_curves(log, tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text()
    for text in ("terms of the loss", "base picture", "variance", "held out: PSNR (dB)", "two steps"):
        assert text in drawn
    assert ">norm<" not in drawn


def test_a_damaged_log_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("no JSON\n")
    with pytest.raises(SourceError, match="not a training log"):
        draw_curves(tmp_path / "train.log", tmp_path / "curves.svg")

"""Draws `train.log` as `curves.svg`: the loss by terms, fidelity beside the base picture's, and held-out scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import SinkError, SourceError

_NOT_TERMS = {"step", "elapsed_s", "norm", "base"}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "semcast",
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.5,
    "grid.color": "#d5d8dc",
    "axes.axisbelow": True,
    "legend.frameon": False,
}
_COLOURS = {"base": "#4f7fd6", "one_step": "#e07b39", "two_steps": "#23795a"}

Rows = Sequence[Mapping[str, Any]]


def read_log(path: Path) -> tuple[Rows, Rows]:
    """Lines of losses and lines of held-out scores, in order; SourceError for a damaged log."""
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} is not a training log that can be read: {error}") from error
    return [row for row in lines if "held_out" not in row], [row for row in lines if "held_out" in row]


def draw_curves(log: Path, out: Path) -> bool:
    """Write the drawing (SVG) of a training log; False where matplotlib is not installed.

    SourceError for a damaged log, SinkError where `out` cannot be written.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        return False
    losses, held_out = read_log(log)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9.0, 9.0), layout="constrained")
        axes = figure.subplots(2, 2)
        _terms(axes[0, 0], losses)
        _fidelity(axes[0, 1], losses)
        for place, name, label in (
            (axes[1, 0], "psnr_db", "PSNR (dB)"),
            (axes[1, 1], "texture", "texture distance"),
        ):
            _scores(place, held_out, name, f"held out: {label}")
        for place in axes.flat:
            place.set_xlabel("step")
            if place.get_lines():
                place.legend()
        try:
            figure.savefig(out, format="svg", metadata={"Date": None})
        except OSError as error:
            raise SinkError(f"cannot write {out}: {error.strerror}; free some space") from error
    return True


def _terms(axes: Any, rows: Rows) -> None:
    names = dict.fromkeys(name for row in rows for name in row if name not in _NOT_TERMS)
    for name in names:
        have = [row for row in rows if name in row]
        axes.plot([row["step"] for row in have], [row[name] for row in have], linewidth=0.9, label=name)
    # The variance's likelihood and the opponent's scores can be negative.
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_title("terms of the loss")


def _fidelity(axes: Any, rows: Rows) -> None:
    steps = [row["step"] for row in rows]
    for name, label, colour in (("base", "base picture", "base"), ("fidelity", "network", "one_step")):
        if all(name in row for row in rows) and rows:
            values = [row[name] for row in rows]
            axes.plot(steps, values, linewidth=0.9, color=_COLOURS[colour], label=label)
    axes.set_title("fidelity (lower is better)")


def _scores(axes: Any, rows: Rows, name: str, title: str) -> None:
    for level, colour in _COLOURS.items():
        if rows:
            values = [row["held_out"][level][name] for row in rows]
            label = level.replace("_", " ")
            axes.plot(
                [row["step"] for row in rows], values, marker=".", linewidth=0.9, color=colour, label=label
            )
    axes.set_title(title)

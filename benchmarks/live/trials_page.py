"""The trials of `semcast bench live` as a page: figures against what is promised, and a picture of the page."""

from __future__ import annotations

import base64
import difflib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from benchmarks.html import page, section
from benchmarks.live.trials import TRIALS, Outcome, Trial
from benchmarks.tables import framed_table
from common.errors import UsageError

_COLUMNS = (
    ("connect_s", "connected, s"), ("first_picture_s", "first picture, s"), ("fps", "pictures/s"),
    ("p50_ms", "delay p50, ms"), ("p95_ms", "p95, ms"), ("freeze_ratio", "frozen"),
    ("longest_freeze_s", "longest, s"), ("recovery_s", "back after, s"), ("most_queue_s", "queue, s"),
    ("settled_queue_s", "settled, s"), ("kbps", "kbit/s"),
)  # fmt: skip


def chosen(names: Sequence[str]) -> tuple[Trial, ...]:
    """The trials of these names, all without any. Raises UsageError."""
    known = {trial.name: trial for trial in TRIALS}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {'; '.join(known)}"
            raise UsageError(f"there is no trial {name!r}: {hint}")
    return tuple(known[name] for name in names) or TRIALS


def write_page(outcomes: Sequence[Outcome], trials: Sequence[Trial], out: Path) -> Path:
    """`live.html` in `out`, with `page.png` where that is there."""
    limits = {trial.name: trial.limits for trial in trials}
    missed = sum(len(outcome.missed(limits[outcome.name])) for outcome in outcomes)
    verdict = f"{len(outcomes)} of {len(trials)} trials ran to their end; {missed} figures missed"
    parts = [section("Both ends, two hosts", "Bold: not within what is promised.", _table(outcomes, limits))]
    picture = out / "page.png"
    if picture.exists():
        data = base64.b64encode(picture.read_bytes()).decode()
        image = f'<img alt="the page in a browser" style="max-width:100%" src="data:image/png;base64,{data}">'
        parts.append(section("The receiver's page", "As a browser shows it.", image))
    path = out / "live.html"
    path.write_text(
        page("Live link", "sender and receiver as programs", verdict, (), parts), encoding="utf-8"
    )
    return path


def _table(outcomes: Sequence[Outcome], limits: Mapping[str, Mapping[str, float]]) -> str:
    rows = (_row(outcome, limits[outcome.name]) for outcome in outcomes)
    return framed_table(("link", *(title for _, title in _COLUMNS)), rows)


def _row(outcome: Outcome, limits: Mapping[str, float]) -> str:
    missed = outcome.missed(limits)
    cells = []
    for name, _ in _COLUMNS:
        value = getattr(outcome, name)
        text = "-" if value is None else f"{value:g}"
        cells.append(f"<td><b>{text}</b></td>" if name in missed else f"<td>{text}</td>")
    return f"<td>{escape(outcome.name)}</td>{''.join(cells)}"

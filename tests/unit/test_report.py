"""`report.json` against its schema, and `report.html` drawn from a made-up run."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from fractions import Fraction
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks import plots_time, report
from benchmarks.html import render, write_html
from benchmarks.measure import Instruments, measure
from benchmarks.report import Event, PictureQuality, Report, StageLatency
from benchmarks.timeline import Snapshot, Timeline, choose_snapshots
from common.colour import rgb_to_picture
from common.errors import SinkError
from common.quality import Metric
from common.stats import Freeze, FreezeSummary, Latency
from common.types import Colour, Picture

FPS = 30.0
CUT_SLOT = 110


def scene(seed: int, shift: int, side: int = 256) -> Picture:
    """A drawn landscape with a moving sun, in the colours of `seed`."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32) / side
    sky, ground = rng.uniform(60, 230, 3), rng.uniform(20, 150, 3)
    hills = 0.55 + 0.1 * np.sin(columns * (6 + seed) + shift / 20) + 0.05 * np.sin(columns * 23)
    rgb = np.where((rows > hills)[..., None], ground, sky * (0.6 + 0.5 * rows[..., None]))
    grain = cv2.resize(rng.normal(0, 18, (side // 2, side // 2, 3)), (side, side))
    rgb = rgb + np.roll(grain, shift, axis=1) * (rows > hills)[..., None]
    sun = (rows - 0.25) ** 2 + (columns - 0.2 - shift / 400) ** 2 < 0.008
    rgb[sun] = (250, 225, 140)
    return rgb_to_picture(np.clip(rgb, 0, 255).astype(np.uint8), Colour())


def soften(picture: Picture, divisor: int) -> Picture:
    """What is left after a trip through 1/divisor of the resolution."""

    def plane(samples: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        size = (samples.shape[1] // divisor, samples.shape[0] // divisor)
        small = cv2.resize(samples, size, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, samples.shape[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)

    return Picture(plane(picture.y), plane(picture.u), plane(picture.v))


def snapshot(slot: int, title: str) -> Snapshot:
    after_cut = slot >= CUT_SLOT
    source = scene(5 if after_cut else 2, slot)
    fresh = 0 <= slot - CUT_SLOT < 20
    base = None if fresh and slot == CUT_SLOT else soften(source, 4)
    doubt = np.abs(source.y.astype(np.float32) - soften(source, 8).y) / 60
    return Snapshot(
        pts_s=slot / FPS,
        title=title,
        level="guide" if fresh else "bridge1",
        source=source,
        guide=soften(source, 8),
        base=base,
        output=soften(source, 6 if fresh else 2),
        uncertainty=np.clip(cv2.GaussianBlur(doubt, (0, 0), 3), 0, 1).astype(np.float32),
    )


def timeline(slots: int = 240) -> Timeline:
    """Eight seconds at 24 kbit/s with a cut, a lossy moment and a freeze."""
    rng = np.random.default_rng(0)
    slot = np.arange(slots)
    pts_s = slot / FPS
    since_cut = np.where(slot >= CUT_SLOT, slot - CUT_SLOT, slot)
    guide = np.where(since_cut == 0, 420, 38 + 10 * rng.standard_normal(slots)).clip(10)
    guide_db = 27.5 + 0.3 * np.sin(slot / 9) - 3 * np.exp(-since_cut / 4.0)
    gain_db = 3.2 * (1 - np.exp(-since_cut / 25.0))
    latency_ms = (24 + rng.gamma(2.0, 3.0, slots)).round(2)
    latency_ms[rng.integers(0, slots, 5)] += 25
    late = latency_ms > 45
    latency_ms[180:187] = np.nan
    level = np.where(rng.uniform(size=slots) < 0.15, "bridge2", "bridge1")
    level[:4] = level[CUT_SLOT : CUT_SLOT + 6] = "guide"
    level[4:18] = level[CUT_SLOT + 6 : CUT_SLOT + 22] = "base"
    level[180:187] = "hold"
    happened = [
        (0.0, "cut"), (0.55, "anchor"), (110 / FPS, "cut"), (4.4, "anchor"), (5.95, "loss"), (6.0, "loss"),
        (6.03, "concealment"), (6.05, "refresh_request"), (6.1, "digest_mismatch"), (6.9, "anchor"),
    ]  # fmt: skip
    return Timeline(
        pts_s=pts_s,
        bytes_by_layer={
            "guide": guide.astype(np.int64),
            "anchor": np.where((since_cut > 3) & (since_cut < 60), 38, 4),
            "motion": np.where(since_cut > 15, rng.integers(3, 9, slots), 0),
            "semantics": np.where(slot % 8 == 0, 22, 0),
            "residual": np.where(since_cut >= 60, 30, 0),
            "config": np.where(slot % 60 == 0, 30, 0),
            "overhead": np.full(slots, 3),
        },
        psnr_yuv={"guide": guide_db, "base": guide_db + 0.8 * gain_db, "output": guide_db + gain_db},
        ms_ssim={
            "guide": 0.86 + 0 * gain_db,
            "base": 0.86 + 0.02 * gain_db,
            "output": 0.86 + 0.027 * gain_db,
        },
        latency_ms=latency_ms,
        level=level.tolist(),
        uncertainty=0.3 * np.exp(-since_cut / 20.0) + 0.08 + 0.01 * rng.standard_normal(slots),
        events=[Event(pts_s=at_s, kind=kind) for at_s, kind in happened],  # type: ignore[arg-type]
        freezes=[Freeze(6.0, 0.25)],
        target_kbps=24.0,
        late=late.tolist(),
        snapshots=[snapshot(at, title) for at, title in choose_snapshots(pts_s, [110 / FPS], evenly=2)],
    )


def figures(psnr_yuv: float) -> PictureQuality:
    return PictureQuality.of(
        {
            "psnr_yuv": Metric(psnr_yuv),
            "ms_ssim": Metric(0.9),
            "vmaf": Metric(61.5),
            "lpips": Metric(None, "LPIPS needs a local backbone file, none was given"),
        }
    )


def example(**changes: Any) -> Report:
    stage = StageLatency.of(Latency.of([8.0, 9.0, 14.0]))
    whole = StageLatency.of(Latency.of([24.0, 30.0, 55.0]))
    fields: dict[str, Any] = {
        "config": {"rate": {"target_bps": 24000}, "seed": 0},
        "versions": report.versions(),
        "source": {"frames": 240, "fps": 30.0, "width": 256, "height": 256, "duration_s": 8.0},
        "rate": {"kbps_payload": 24.1, "kbps_onwire": 29.9, "bytes_by_layer": {"guide": 24100}},
        "quality": {"output": figures(30.2), "base": figures(29.6), "guide": figures(27.4)},
        "latency": {"sender": stage, "network": stage, "bridge": stage, "end to end": whole},
        "deadline": {"budget_ms": 42.0, "miss_ratio": 0.021},
        "levels": {"bridge1": 200, "base": 30, "hold": 10},
        "events": [{"pts_s": 3.67, "kind": "cut"}],
        "uncertainty": {"mean": 0.12, "coverage90": 0.88, "ause": 0.21},
        "freezes": report.Freezes.of(FreezeSummary(1, 0.25, 0.25)),
        "digest_mismatches": 1,
        "channel": {"spec": "packet:loss=0.05", "lost": 12},
        **changes,
    }
    return Report.model_validate(fields)


# --- report.json


def test_the_schema_file_is_current() -> None:
    expected = report.schema_text()
    assert report.SCHEMA_PATH.read_text() == expected, "run `python -m benchmarks.report` to write it anew"


def test_the_document_has_every_key_of_the_contract() -> None:
    document = json.loads(example().model_dump_json())
    assert document["schema"] == "semcast.report/1"
    assert set(document) == {
        "schema", "config", "versions", "source", "rate", "quality", "latency", "deadline", "levels",
        "events", "uncertainty", "safety", "freezes", "digest_mismatches", "channel",
    }  # fmt: skip
    assert set(document["source"]) == {"frames", "fps", "width", "height", "duration_s"}
    assert set(document["rate"]) == {"kbps_payload", "kbps_onwire", "bytes_by_layer"}
    assert set(document["quality"]) == {"output", "base", "guide"}
    contract = {"psnr_yuv", "ms_ssim", "vmaf", "lpips", "dists", "feature_distance", "label_miou"}
    assert contract <= set(document["quality"]["output"])
    assert set(document["latency"]["sender"]) == {"p50_ms", "p95_ms", "p99_ms", "max_ms"}
    assert {"mean", "coverage90", "ause"} <= set(document["uncertainty"])


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    path = report.write_report(example(), tmp_path / "new" / "folder")
    assert path.name == "report.json"
    assert report.read_report(path) == example()


def test_every_absent_metric_has_its_reason() -> None:
    quality = figures(30.0)
    assert quality.lpips is None and "backbone" in quality.reasons["lpips"]
    assert quality.reasons["dists"] == "not measured"
    assert "vmaf" not in quality.reasons
    with pytest.raises(ValidationError, match="absent are"):
        PictureQuality(psnr_yuv=30.0)
    with pytest.raises(ValueError, match="unknown metrics"):
        PictureQuality.of({"sharpness": Metric(1.0)})


@pytest.mark.parametrize(
    "change",
    [
        {"digest_mismatches": -1},
        {"extra": 1},
        {"deadline": {"budget_ms": 42.0, "miss_ratio": 1.5}},
        {"events": [{"pts_s": 1.0, "kind": "sneeze"}]},
        {"uncertainty": {"mean": float("nan")}},
        {"schema": "semcast.report/2"},
    ],
)
def test_a_wrong_report_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        example(**change)


def test_standard_output_ends_with_the_document() -> None:
    out = io.StringIO()
    report.print_report(example(), out)
    *people, last = out.getvalue().splitlines()
    assert Report.model_validate_json(last) == example()
    assert any("24.1 kbit/s" in line for line in people)


def test_an_unwritable_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (
        lambda: report.write_report(example(), tmp_path / "file"),
        lambda: write_html(example(), timeline(4), tmp_path / "file"),
    ):
        with pytest.raises(SinkError, match=r"cannot write .*report\.(json|html): .*; choose another --out"):
            write()


# --- measuring


def test_measure_fills_what_its_instruments_allow() -> None:
    source = [scene(1, shift, side=64) for shift in (0, 8)]
    blurred = [soften(picture, 4) for picture in source]
    tools = Instruments(
        label=lambda picture: (picture.y[::16, ::16] > 128).astype(np.uint8),
        feature_distance=lambda a, b: float(np.abs(a.y.astype(float) - b.y).mean()),
        with_vmaf=False,
    )
    measured = measure(source, blurred, Fraction(30), tools)
    assert measured.psnr_yuv.shape == measured.ms_ssim.shape == (2,)
    assert measured.means.psnr_yuv == pytest.approx(measured.psnr_yuv.mean())
    assert measured.means.label_miou is not None and measured.means.feature_distance is not None
    assert set(measured.means.reasons) == {"vmaf", "lpips", "dists"}
    with pytest.raises(ValueError, match="equally many"):
        measure(source, blurred[:1], Fraction(30), tools)


# --- report.html


class Page(HTMLParser):
    """Collects what a page loads, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "a":
            names = ("src", "href", "xlink:href")
            self.loaded += [value for name, value in attrs if name in names and value is not None]

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def page_text() -> str:
    return render(example(), timeline())


def test_the_page_is_self_contained(page_text: str) -> None:
    page = Page(page_text)
    assert page.loaded and all(value.startswith(("data:image/jpeg;base64,", "#")) for value in page.loaded)
    assert "script" not in page.tags and "link" not in page.tags
    assert not re.search(r"url\((?!#)|@import", page_text)


def test_the_page_says_the_figures_and_shows_the_pictures(page_text: str) -> None:
    page = Page(page_text)
    for words in ("24.1 kbit/s", "0.60 dB above the base picture", "froze once", "cut + 0.3 s", "2.1 %"):
        assert words in page.words
    assert "LPIPS needs a local backbone file" in page.words
    shots = timeline().snapshots
    absent = sum(shot.base is None for shot in shots)
    assert absent == 1
    assert page.tags.count("img") == 5 * len(shots) - absent
    assert page.tags.count("svg") == 5
    assert "nan" not in page.words.lower()


def test_rendering_is_deterministic_and_escapes() -> None:
    once, again = (render(example(channel={"spec": "<b>&"}), timeline(30)) for _ in range(2))
    assert once == again
    assert "<b>&" not in once and "&lt;b&gt;&amp;" in once


def test_a_single_picture_without_anything_optional_makes_a_page() -> None:
    bare = Timeline(
        pts_s=np.zeros(1),
        bytes_by_layer={"guide": np.array([100])},
        psnr_yuv={"output": np.array([30.0])},
        ms_ssim={"output": np.array([0.9])},
        latency_ms=np.array([np.nan]),
        level=["odd-level"],
    )
    assert "odd-level" in render(example(), bare)


def test_pictures_are_late_by_the_work_on_them_not_by_the_way_they_came() -> None:
    slow = dataclasses.replace(timeline(30), latency_ms=np.full(30, 250.0))
    marked = [
        plots_time.latency_plot(dataclasses.replace(slow, late=late)).svg.count(plots_time.BAD)
        for late in ([False] * 30, [True] * 3 + [False] * 27)
    ]
    assert marked[0] < marked[1]


def test_plots_take_their_colours_from_the_page() -> None:
    svg = plots_time.quality_plot(timeline()).svg
    assert svg.startswith("<svg") and "currentColor" in svg and "var(--line)" in svg
    assert "#010203" not in svg and 'width="748' not in svg


def test_rates_are_means_over_their_window() -> None:
    steady = dataclasses.replace(timeline(60), bytes_by_layer={"guide": np.full(60, 100)})
    assert plots_time._kbps(steady, steady.bytes_by_layer["guide"]) == pytest.approx(np.full(60, 24.0))


def test_runs_cover_the_time_line_once() -> None:
    runs = plots_time._runs(timeline())
    ends = [start_s + duration_s for _, start_s, duration_s in runs]
    assert [start_s for _, start_s, _ in runs[1:]] == pytest.approx(ends[:-1])
    assert ends[-1] == pytest.approx(8.0)
    assert all(a[0] != b[0] for a, b in pairwise(runs))


def test_a_timeline_of_unequal_series_is_refused() -> None:
    with pytest.raises(ValueError, match="level has 2 values for 240 slots"):
        dataclasses.replace(timeline(), level=["base", "base"])


def test_snapshots_are_spread_and_follow_each_cut() -> None:
    pts_s = np.arange(300) / 30
    chosen = dict(choose_snapshots(pts_s, [5.0, 5.2, 9.5], evenly=3))
    assert [slot for slot, title in chosen.items() if not title] == [75, 224]
    assert chosen[150] == "cut" and chosen[153] == "cut + 0.1 s"
    assert chosen[159] == "cut + 0.1 s"  # of the second cut, whose scene it is
    assert 180 not in chosen
    assert chosen[156] == "cut" and chosen[186] == "cut + 1 s" and chosen[285] == "cut"
    assert max(chosen) < 300
    assert list(chosen) == sorted(chosen)

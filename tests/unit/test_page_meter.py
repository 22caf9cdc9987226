"""The page's figures add up."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from common.types import Layer, UnitKind
from receiver.reassembly import ReassemblyStats
from receiver.web.meter import Meter
from tests.page_pictures import shown


def wire(received: int, loss: float = 0.0) -> ReassemblyStats:
    return ReassemblyStats(0, received, 0, 0, 0, loss, 0.0, 0.0, ())


def test_nothing_yet() -> None:
    stats = Meter().stats(5.0, None, {}, wire(0), 42.0)
    assert (stats.link, stats.fps, stats.rate_bps, stats.layer_bps, stats.width) == (
        "waiting",
        0.0,
        0.0,
        (),
        0,
    )


def test_rates_are_those_of_the_window_and_what_belongs_to_no_layer_is_overhead() -> None:
    meter = Meter()
    for second in range(
        10
    ):  # 100 bytes of guide, 20 of motion and 30 around them a second; twice that from 5 s on
        total = second + max(0, second - 5)
        frames = Counter({Layer.GUIDE: 100 * total, Layer.MOTION: 20 * total})
        stats = meter.stats(float(second), float(second), frames, wire(150 * total, 0.25), None)
    assert stats.rate_bps == pytest.approx(2400)
    assert dict(stats.layer_bps) == pytest.approx({"guide": 1600, "motion": 320, "overhead": 480})
    assert (stats.link, stats.loss_ratio, stats.budget_ms) == ("connected", 0.25, None)


def test_units_that_are_no_frames_are_counted_as_they_come() -> None:
    meter = Meter()
    meter.stats(0.0, 0.0, {}, wire(0), None)
    anchor = bytes([UnitKind.ANCHOR << 6]) + bytes(99)
    meter.unit(anchor)
    meter.unit(b"")  # damaged
    assert dict(meter.stats(1.0, 1.0, {}, wire(100), None).layer_bps) == {"anchor": 800.0}


def test_pictures_are_counted_and_a_standstill_shows() -> None:
    meter = Meter()
    for slot in range(26):
        meter.picture(
            shown(slot, concealed=slot == 25, late=slot == 3, taken_back=0.1 * (slot % 10 == 4)), slot / 25
        )
    stats = meter.stats(1.0, 1.0, {}, wire(0), None)
    assert stats.fps == pytest.approx(25, rel=0.05)
    assert (stats.shown, stats.concealed, stats.late, stats.taken_back_pictures) == (26, 1, 1, 3)
    assert stats.as_message({})["taken_back_pictures"] == 3
    assert (stats.width, stats.height, stats.level, stats.spent_ms) == (64, 64, "bridge1", 12.5)
    later = meter.stats(2.5, 1.0, {}, wire(0), None)
    assert later.link == "silent" and 0 < later.fps < 12


def test_uncertainty_is_in_sample_steps() -> None:
    meter = Meter()
    meter.picture(shown(0, uncertainty=np.full((8, 8), 6, np.uint8)), 0.0)
    assert meter.stats(0.0, 0.0, {}, wire(0), None).uncertainty == 1.5
    meter.picture(shown(1, level="base"), 0.04)
    assert meter.stats(0.1, 0.1, {}, wire(0), None).uncertainty is None

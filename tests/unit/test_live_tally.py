"""What a live receiver has shown, as its report says it."""

from __future__ import annotations

import pytest

from benchmarks.live.tally import Recent, Tally
from tests.live_stage import FRAME_S
from tests.page_pictures import shown


def test_what_a_stream_has_shown() -> None:
    tally = Tally()
    assert tally.document(FRAME_S, 9.0)["pictures"] == 0 and tally.document(FRAME_S, 9.0)["fps"] == 0.0
    for slot in range(50):
        now_s = 10.0 + slot * FRAME_S + (1.0 if slot >= 30 else 0.0)
        tally.picture(shown(slot, taken_back=0.2 * (slot == 7)), now_s, 100.0 + slot)
        tally.picture(shown(slot, concealed=True), now_s + 0.01, 5.0)
    found = tally.document(FRAME_S, 13.0)
    assert tally.first_s == 10.0
    assert found == {
        "pictures": 50, "watched_s": 3.0, "fps": 16.67, "freezes": 1, "longest_freeze_s": 1.04,
        "freeze_ratio": round(1.04 / 3, 4), "drift_ms": None, "taken_back_pictures": 1,
        "glass_to_glass_ms": {"p50": 124.5, "p95": 146.6, "max": 149.0},
    }  # fmt: skip
    assert tally.document(FRAME_S, 0.0)["watched_s"] == 3.0, "at least until the last picture's time is over"
    assert tally.document(FRAME_S, 20.0)["freezes"] == 2, "a picture that stood until the end stood still"


def test_drift_is_how_much_later_pictures_come_in_the_end() -> None:
    tally = Tally()
    for slot in range(1000):
        tally.picture(shown(0), slot * FRAME_S, 100.0 + 0.02 * slot)
    assert tally.document(FRAME_S, 40.0)["drift_ms"] == pytest.approx(0.02 * 820, abs=0.1)


def test_only_the_last_numbers_are_kept() -> None:
    recent = Recent(3)
    assert len(recent) == 0 and recent.values.tolist() == []
    for number in range(5):
        recent.append(number)
    assert len(recent) == 3 and recent.values.tolist() == [2, 3, 4]

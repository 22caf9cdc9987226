"""What two ends on one machine share, and what they must not take from each other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.live import sameness
from benchmarks.live.sameness import Sameness, SourceWindow, boot_id
from common.types import Frame, Picture

SIDE = 64

CHILD = """
import json, sys
from fractions import Fraction
from benchmarks.live.sameness import Sameness
from common.types import Frame
found = Sameness.of(json.loads(sys.argv[1]))
frame = Frame(None, 0, Fraction(1, 25), int(sys.argv[2]))
seen = None if found is None else found.source_at(frame)
print(json.dumps({
    "delay_ms": None if found is None else found.delay_ms(0.5, 12.0),
    "samples": None if seen is None else [plane.tobytes().hex() for plane in seen.picture.planes],
}))
"""


@pytest.fixture
def window() -> Iterator[SourceWindow]:
    if boot_id() is None:
        pytest.skip("this system does not say which boot of it this is")
    with closing(SourceWindow.create(SIDE, SIDE)) as made:
        yield made


def picture(slot: int) -> Picture:
    rng = np.random.default_rng(slot)
    planes = [rng.integers(0, 256, (side, side), np.uint8) for side in (SIDE, SIDE // 2, SIDE // 2)]
    return Picture(planes[0], planes[1], planes[2])


def frame(slot: int) -> Frame:
    return Frame(picture(slot), slot, Fraction(1, 25), slot)


def samples(slot: int) -> list[str]:
    return [plane.tobytes().hex() for plane in picture(slot).planes]


def seen_elsewhere(message: dict[str, Any], slot: int) -> dict[str, Any]:
    """What another process sees of the source at `slot`."""
    command = [sys.executable, "-c", CHILD, json.dumps(message), str(slot)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_another_process_sees_the_source_and_leaves_it_there(window: SourceWindow) -> None:
    for slot in range(60, 64):
        window.put(frame(slot))
    message = Sameness.message(10.0, window, SIDE, SIDE)
    there = seen_elsewhere(message, 62)
    assert there == {"delay_ms": 1500.0, "samples": samples(62)}
    window.put(frame(64))
    assert seen_elsewhere(message, 64)["samples"] == samples(64), "it is still there"
    elsewhere = seen_elsewhere({**message, "boot_id": "another"}, 64)
    assert elsewhere == {"delay_ms": None, "samples": None}


def test_pictures_are_kept_for_a_while(window: SourceWindow) -> None:
    for slot in range(100):
        window.put(frame(slot))
    kept = [slot for slot in range(120) if window.at(slot) is not None]
    assert kept == list(range(36, 100))
    found = window.at(40)
    window.put(frame(104))
    assert found is not None and [plane.tobytes().hex() for plane in found.planes] == samples(40)


def test_half_a_picture_is_none(window: SourceWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    window.put(frame(5))
    broken = replace(frame(69), picture=Picture(picture(69).y, picture(69).u, None))  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        window.put(broken)  # the writer stops half way, in the same cell
    assert window.at(5) is None and window.at(69) is None
    window.put(frame(69))

    class Overtaking(np.ndarray):
        """Samples of which the writer has begun to overwrite the cell by the time that they were copied."""

        def copy(self, order: Any = "C") -> Any:
            window._numbers[69 % 64] = 133, -1
            return super().copy(order)

    monkeypatch.setattr(window, "_samples", window._samples.view(Overtaking))
    assert window.at(69) is None


def test_a_sender_elsewhere_is_not_believed(window: SourceWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    message = Sameness.message(1.0, None, SIDE, SIDE)
    assert "window" not in message and Sameness.of(message) == Sameness(1.0, None)
    assert Sameness.of({**message, "boot_id": "5f0c"}) is None
    assert Sameness.of({**message, "boot_id": None}) is None
    monkeypatch.setattr(sameness, "_BOOT_ID", Path("no such file"))
    assert boot_id() is None
    assert Sameness.of(message) is None and Sameness.of({**message, "boot_id": None}) is None


@pytest.mark.parametrize("began_s", [None, "1.0", 1, float("nan"), float("inf"), [1.0], {}])
def test_a_beginning_that_is_no_time(window: SourceWindow, began_s: object) -> None:
    assert Sameness.of({**Sameness.message(1.0, window, SIDE, SIDE), "began_s": began_s}) is None


@pytest.mark.parametrize(
    "claimed",
    [
        {"width": 0}, {"height": -64}, {"width": 1 << 40}, {"width": "64"},
        {"height": 64.0}, {"width": None}, {"window": 7}, {"window": None}, {"window": ""}, {"window": "no-such-name"},
        {"window": "../../etc/passwd"}, {"window": "nul\0inside"}, {"window": "x" * 5000},
    ],
)  # fmt: skip
def test_claims_about_the_window_that_do_not_hold(window: SourceWindow, claimed: dict[str, Any]) -> None:
    found = Sameness.of({**Sameness.message(1.0, window, SIDE, SIDE), **claimed})
    assert found is not None and found.window is None
    assert found.source_at(frame(1)) is None and found.delay_ms(1.0, 2.5) == 500.0


def test_a_block_of_another_size_is_refused_and_left_alone() -> None:
    small = SharedMemory(create=True, size=4096)
    try:
        code = f"from benchmarks.live.sameness import *; print(SourceWindow.attach({small.name!r}, 64, 64))"
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
        )
        assert (done.stdout, done.stderr) == ("None\n", "")
    finally:
        small.close()
        small.unlink()


def test_other_messages_are_about_something_else() -> None:
    assert Sameness.of({}) is None and Sameness.of({"bitrate_bps": 1000}) is None


def test_the_owner_takes_it_away() -> None:
    made = SourceWindow.create(SIDE, SIDE)
    made.close()
    assert SourceWindow.attach(made.name, SIDE, SIDE) is None
    made.close()

"""Joined clips: what happens in them is what they say, and the same seed gives the same ones."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.effects import Flash, Whip, Zoom
from benchmarks.scenes import (
    BLACK,
    KNOWN_EVENTS,
    NEW_SCENE,
    SAME_SCENE,
    Event,
    Join,
    Reel,
    Shot,
    Take,
    draw_reels,
    shots_of,
)
from common.errors import SourceError
from common.types import Picture

SIDE = 64


def grey(level: int) -> Picture:
    return Picture(*(np.full((SIDE // k, SIDE // k), level, np.uint8) for k in (1, 2, 2)))


def shot(*levels: int) -> Shot:
    return Shot("levels", tuple(map(grey, levels)))


def ramp() -> Picture:
    """Brighter from left to right, one step a sample."""
    luma = np.tile(np.arange(SIDE, dtype=np.uint8), (SIDE, 1)) + np.uint8(50)
    return Picture(luma, grey(128).u, grey(128).v)


def levels(reel: Reel) -> list[int]:
    return [round(float(picture.y.mean())) for picture in reel]


def test_a_shot_goes_forth_and_back() -> None:
    looped = shot(1, 2, 3)
    assert [int(looped.at(index).y[0, 0]) for index in range(7)] == [1, 2, 3, 2, 1, 2, 3]
    assert shot(9).at(4) is shot(9).at(0) or int(shot(9).at(4).y[0, 0]) == 9


def test_shots_lie_between_what_happens() -> None:
    pictures = [grey(level) for level in range(100)]
    events = [Event("cut", 40, 40, 40), Event("fade", 60, 69, 65)]
    found = shots_of("clip", pictures, events, longest=24)
    ranges = [(int(one.pictures[0].y[0, 0]), int(one.pictures[-1].y[0, 0])) for one in found]
    assert ranges == [(8, 31), (41, 59), (73, 96)]  # the middle of each, and nothing of the cut's own picture
    assert shots_of("clip", pictures[:7], [], longest=24) == []


def test_the_known_clips_tell_their_events_in_order() -> None:
    for events in KNOWN_EVENTS.values():
        assert all(event.kind in NEW_SCENE and event.first <= event.seen <= event.last for event in events)
        assert [event.first for event in events] == sorted(event.first for event in events)
    assert sum(event.kind == "cut" for events in KNOWN_EVENTS.values() for event in events) == 6


def test_a_cut_goes_from_one_picture_to_the_next() -> None:
    reel = Reel("r", (Take(shot(50), 0, 3), Take(shot(200), 0, 2)), (Join(),))
    assert levels(reel) == [50, 50, 50, 200, 200]
    assert reel.events == (Event("cut", 3, 3, 3),)


def test_a_cross_fade_mixes_both() -> None:
    reel = Reel("r", (Take(shot(50), 0, 5), Take(shot(200), 0, 5)), (Join("cross-fade", 2),))
    assert levels(reel) == [50, 50, 50, 100, 150, 200, 200, 200]
    assert reel.events == (Event("cross-fade", 3, 4, 4),)


def test_a_fade_goes_through_black() -> None:
    reel = Reel("r", (Take(shot(116), 0, 3), Take(shot(216), 0, 3)), (Join("fade", 2, 1),))
    assert levels(reel) == [116, 66, BLACK, BLACK, 116, 216, 216]
    (event,) = reel.events
    assert (event.first, event.seen, event.last) == (1, 4, 5)


def test_a_flash_lights_its_pictures_alone() -> None:
    flash = Flash(2, (0.8, 0.4), 0.5, 0.5)
    lit = [float(flash.apply(ramp(), index).y.mean()) for index in range(5)]
    assert lit[0] == lit[1] == lit[4] < lit[3] < lit[2]


def test_a_whip_pan_stays_where_it_goes_and_blurs_on_its_way() -> None:
    whip = Whip(2, 6, 0.25, 0.0)
    before, on_its_way, after = (whip.apply(ramp(), index) for index in (2, 5, 9))
    assert np.array_equal(before.y, ramp().y)
    assert int(after.y[0, 8]) == int(ramp().y[0, 8]) + SIDE // 4
    assert int(on_its_way.y[0, 8]) == pytest.approx(int(ramp().y[0, 8]) + SIDE // 8, abs=2)


def test_a_zoom_keeps_the_middle() -> None:
    zoom = Zoom(0, 4, 1.0, 2.0)
    seen = zoom.apply(ramp(), 4)
    middle = SIDE // 2
    assert int(seen.y[middle, middle]) == pytest.approx(int(ramp().y[middle, middle]), abs=1)
    steps = np.diff(seen.y[middle, 8:-8].astype(int))
    assert steps.mean() == pytest.approx(0.5, abs=0.05)  # half as steep


def test_the_seed_says_what_is_drawn() -> None:
    shots = [shot(*range(k, k + 30)) for k in (20, 90, 160)]
    first, again, other = (draw_reels(shots, seed, 3, 4, (20, 30)) for seed in (1, 1, 2))
    assert [reel.events for reel in first] == [reel.events for reel in again]
    assert [reel.events for reel in first] != [reel.events for reel in other]
    for reel in first:
        assert len(list(reel)) == len(reel) == len(levels(reel))
        assert sum(event.kind in NEW_SCENE for event in reel.events) == 3
        assert all(0 <= event.first <= event.last < len(reel) for event in reel.events)
        assert {event.kind for event in reel.events} <= {*NEW_SCENE, *SAME_SCENE}
        assert all(a.shot is not b.shot for a, b in zip(reel.takes, reel.takes[1:], strict=False))


def test_one_scene_is_not_joined_to_itself() -> None:
    with pytest.raises(SourceError, match="more clips"):
        draw_reels([shot(1, 2, 3)], 0, 1, 2, (5, 6))

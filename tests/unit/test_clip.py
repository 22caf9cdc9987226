"""The built-in clip: the same every time, cuts where it says, smooth motion elsewhere."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

import sender.clip
from common.errors import SourceError
from common.types import Picture
from sender.clip import LENGTH_SLOTS, BuiltinClip


def change(a: Picture, b: Picture) -> float:
    """Mean absolute luma difference."""
    return float(np.abs(a.y.astype(np.int16) - b.y).mean())


@pytest.fixture(scope="module")
def clip() -> BuiltinClip:
    return BuiltinClip()


def test_pictures_are_a_function_of_seed_and_slot(clip: BuiltinClip) -> None:
    again, other = BuiltinClip(), BuiltinClip(seed=7)
    for slot in (0, 50, 170):
        same = zip(clip.picture(slot).planes, again.picture(slot).planes, strict=True)
        assert all(np.array_equal(a, b) for a, b in same)
    assert not np.array_equal(clip.picture(50).y, other.picture(50).y)


def test_only_the_cuts_and_the_whip_change_much(clip: BuiltinClip) -> None:
    near = {slot + offset for slot in (26, 80, 106, 140, 170) for offset in range(-2, 9)}
    slots = sorted(near - {0})
    changes = {slot: change(clip.picture(slot - 1), clip.picture(slot)) for slot in slots}
    assert clip.cut_slots == (80, 140)
    assert {slot for slot, value in changes.items() if value > 45.0} == set(clip.cut_slots)
    whip = {slot for slot, value in changes.items() if 20.0 < value <= 45.0}
    assert whip <= set(range(106, 113)) and len(whip) >= 5
    assert min(changes.values()) > 0.3, "nothing ever stands still completely"


def test_longer_clips_repeat_the_script_with_a_cut_at_the_seam() -> None:
    clip = BuiltinClip(seconds=12.0)
    assert clip.frame_count == 300
    assert clip.cut_slots == (80, 140, 200, 280)
    assert np.array_equal(clip.picture(3).y, clip.picture(LENGTH_SLOTS + 3).y)


def test_frames_are_lazy_even_and_in_order() -> None:
    frames = list(BuiltinClip(seconds=0.2))
    assert [frame.slot for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.04, 0.08, 0.12, 0.16])
    assert all(
        frame.picture.y.shape == (512, 512) and frame.picture.u.shape == (256, 256) for frame in frames
    )
    assert all(plane.dtype == np.uint8 for plane in frames[0].picture.planes)


def test_the_ball_hides_what_is_behind_it(clip: BuiltinClip) -> None:
    """Its middle stays the same pattern while the scene under it differs."""
    with_ball, bare = clip.picture(50), clip.picture(20)
    centre = (slice(200, 300), slice(210, 300))
    assert np.abs(with_ball.v[100:150, 105:150].astype(int) - bare.v[100:150, 105:150]).mean() > 5
    assert (
        change(Picture(with_ball.y[centre], *bare.planes[1:]), Picture(bare.y[centre], *bare.planes[1:])) > 20
    )


def test_the_mouth_moves_without_the_camera(clip: BuiltinClip) -> None:
    photograph = clip._scenes[0].photograph
    spoken = [clip._speaking(photograph, slot).y for slot in range(0, 12, 3)]
    moved = np.max([np.abs(a.astype(int) - photograph.y) for a in spoken], 0)
    assert moved[140:160, 205:245].max() > 20
    assert moved[:60].max() == 0 and moved[200:].max() == 0


def test_it_needs_no_network_and_says_when_photographs_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name.partition(".")[0] in {"pooch", "requests", "urllib3"}:
            raise ImportError(name)
        return real_import(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    BuiltinClip().picture(0)
    with pytest.raises(SourceError, match="reinstall scikit-image"):
        sender.clip._photograph("no_such_photograph.png", 1.0)

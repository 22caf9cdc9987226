"""The content frame: less noise where nothing changed, the present picture where something did."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from common.config import load_config
from common.types import Picture
from sender.anchoring import AnchorDesk
from sender.content import WINDOW, LookBack, agreement
from sender.rate import RateTarget
from tests.small_stream import STREAM, frame, open_session, record

SIDE = 192
NOISE = 4.0


def scene(seed: int = 0, shift: int = 0) -> Picture:
    """A soft texture, panned by `shift` samples."""
    coarse = np.random.default_rng(seed).integers(50, 200, (24, 48), dtype=np.uint8)
    wide = cv2.resize(coarse, (2 * SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    luma = np.ascontiguousarray(wide[:, shift : shift + SIDE])
    half = np.ascontiguousarray(luma[::2, ::2])
    return Picture(luma, half, 255 - half)


def noisy(picture: Picture, seed: int) -> Picture:
    rng = np.random.default_rng(seed)
    return Picture(
        *(np.clip(p + rng.normal(0, NOISE, p.shape), 0, 255).astype(np.uint8) for p in picture.planes)
    )


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean((a.astype(float) - b) ** 2))


def looked_back(pictures: list[Picture]) -> LookBack:
    past = LookBack(spacing=1)
    for slot, picture in enumerate(pictures):
        past.see(picture, slot)
    return past


def with_object(picture: Picture, left: int, seed: int) -> Picture:
    """A patch of fine texture in front."""
    luma = picture.y.copy()
    luma[64:128, left : left + 48] = np.random.default_rng(seed).integers(0, 256, (64, 48), dtype=np.uint8)
    return replace(picture, y=luma)


def test_a_still_scene_loses_most_of_its_noise() -> None:
    clean = scene()
    *before, now = (noisy(clean, seed) for seed in range(WINDOW + 1))
    found = looked_back(before).content(now)
    for plane, last, true in zip(found.planes, now.planes, clean.planes, strict=True):
        assert error(plane, true) < 0.5 * error(last, true)


def test_a_pan_is_followed() -> None:
    clean = [scene(shift=6 * k) for k in range(WINDOW + 1)]
    *before, now = (noisy(picture, seed) for seed, picture in enumerate(clean))
    found = looked_back(before).content(now)
    assert error(found.y, clean[-1].y) < 0.75 * error(now.y, clean[-1].y)


def test_what_moved_away_leaves_no_ghost() -> None:
    room = [noisy(scene(), seed) for seed in range(WINDOW + 1)]
    places = (8, 32, 56, 80, 128)
    pictures = [
        with_object(picture, left, seed)
        for seed, (picture, left) in enumerate(zip(room, places, strict=True))
    ]
    *before, now = pictures
    found = looked_back(before).content(now)
    assert np.array_equal(found.y[64:128, 128:176], now.y[64:128, 128:176])  # where it is, and looks new
    uncovered = (slice(64, 128), slice(8, 128))
    assert error(found.y[uncovered], scene().y[uncovered]) < 1.05 * error(
        now.y[uncovered], scene().y[uncovered]
    )


def test_another_scene_changes_nothing() -> None:
    now = scene(1)
    found = looked_back([scene(seed) for seed in (2, 3, 4, 5)]).content(now)
    assert all(error(a, b) < 0.5 for a, b in zip(found.planes, now.planes, strict=True))
    assert looked_back([]).content(now) is now


def test_blurred_pictures_count_less_than_sharp_ones() -> None:
    now = noisy(scene(), 0)  # its grain is fine detail here
    blurred = Picture(*(cv2.GaussianBlur(plane, (0, 0), 1.0) for plane in now.planes))
    found = looked_back([blurred] * WINDOW).content(now)
    if_all_counted_alike = error(blurred.y, now.y) * (WINDOW / (WINDOW + 1)) ** 2
    assert error(found.y, now.y) < 0.5 * if_all_counted_alike


def test_agreement_is_about_content_not_noise() -> None:
    flat = np.full((64, 64), 120, np.uint8)
    rng = np.random.default_rng(0)
    now, before = (
        np.clip(flat + rng.normal(0, NOISE, flat.shape), 0, 255).astype(np.uint8) for _ in range(2)
    )
    before[:, 48:] += 30
    weights = agreement(now, before)
    assert weights[:, :40].mean() > 0.4 and not weights[:, 48:].any()


def test_the_window_is_short_and_spread_over_time() -> None:
    past = LookBack.at(25.0)
    assert past.spacing == 2  # 0.1 s, rounded to even
    pictures = [scene(seed) for seed in range(12)]
    for slot, picture in enumerate(pictures):
        past.see(picture, slot)
    assert [slot for slot, _ in past._seen] == [4, 6, 8, 10]
    past.forget()
    assert past.content(pictures[0]) is pictures[0]


@pytest.mark.parametrize(("content", "enabled"), [("false", "true"), ("true", "false")])
def test_nothing_is_kept_unless_asked_for(content: str, enabled: str) -> None:
    settings = load_config(None, [f"anchor.content={content}", f"anchor.enabled={enabled}"])
    desk = AnchorDesk(STREAM, settings, RateTarget(24_000, 25.0))
    desk.see(frame(0).picture, 0)
    assert desk.past is None


def test_a_session_sends_the_content_frame_and_the_bytes_still_say_what_the_state_is() -> None:
    plain = record(range(20, 40), open_session(), launch_at=(28,))
    session = open_session(60_000, STREAM, "anchor.content=true")
    found = record(range(20, 40), session, launch_at=(28,))
    assert any("anchor in use" in step.events for step in found.steps)
    assert session.anchors.source is not None
    assert not np.array_equal(session.anchors.source.y, frame(28).picture.y)
    assert [step.events for step in found.steps][:8] == [step.events for step in plain.steps][:8]

"""How a stream is made, lost in part, and understood: the whole link in one page, without packets and clocks.

    built-in clip -> SenderSession -> units (bytes) ~ 5 % lost ~> SceneDecoder -> base picture
                          ^____________ Feedback: anchors held, refresh wanted ____/

Read this first to see how the parts fit; the real link adds datagrams, repair and deadlines (benchmarks/link.py).
"""

from __future__ import annotations

import random

from common.state import compose, picture_digest
from common.types import Feedback, UnitKind
from receiver.chain import SceneDecoder
from tests.small_stream import frame, open_session

FRAME_S = 1 / 25
REFRESH_AFTER_S = 0.2
"""A receiver that has been stuck for so long asks for a key frame."""


def test_a_stream_over_a_perfect_link() -> None:
    sender, receiver = open_session(rate_bps=40_000), SceneDecoder()
    for slot in range(20, 60):
        step = sender.step(frame(slot))

        # Only bytes cross.
        for unit in step.units:
            receiver.push(unit.data, now_s=slot * FRAME_S)
        sender.on_feedback(Feedback(slot, anchors=receiver.anchor_ids))

        # Both ends now know the same about the scene, and paint the same base picture from it.
        scene = receiver.scene_at(slot)
        assert scene is not None
        assert scene.digest == step.state.digest
        assert picture_digest(compose(scene).base) == picture_digest(compose(step.state).base)
    sender.close()
    assert receiver.mismatches == []


def test_a_stream_that_loses_one_unit_in_twenty() -> None:
    dice = random.Random(4)
    sender, receiver = open_session(rate_bps=40_000), SceneDecoder()
    understood, refreshes, asked_s = [], 0, -1.0
    for slot in range(20, 170):
        now_s = slot * FRAME_S
        step = sender.step(frame(slot))
        for unit in step.units:
            # A lost configuration, key frame or anchor is repaired by the real link; here nothing is.
            if dice.random() >= 0.05:
                receiver.push(unit.data, now_s)

        # What is held is never wrong: a frame that does not fit the state waits, it is not decoded.
        scene = receiver.scene_at(slot)
        assert scene is None or scene.digest == step.state.digest
        understood.append(scene is not None)

        # A frame that others need is lost: the receiver notices, asks, and a key frame starts over.
        stuck = receiver.state is None or receiver.stalled_for_s(now_s) > REFRESH_AFTER_S
        refresh = stuck and now_s - asked_s > REFRESH_AFTER_S
        if refresh:
            asked_s, refreshes = now_s, refreshes + 1
        sender.on_feedback(Feedback(slot, anchors=receiver.anchor_ids, refresh=refresh))
    sender.close()

    assert 2 <= refreshes <= 12
    assert sum(understood) > 0.6 * len(understood)
    gaps = "".join("x" if ok else "." for ok in understood).split("x")
    assert max(map(len, gaps)) <= 15  # no outage is longer than the time to notice and ask, twice


def test_what_is_lost_without_harm() -> None:
    """Half of all frames are disposable: nothing builds on them, so losing every one costs only themselves."""
    sender, receiver = open_session(rate_bps=40_000), SceneDecoder()
    for slot in range(20, 60):
        step = sender.step(frame(slot))
        for unit in step.units:
            if not unit.disposable:
                receiver.push(unit.data, slot * FRAME_S)
        sender.on_feedback(Feedback(slot, anchors=receiver.anchor_ids))
        frames = [unit for unit in step.units if unit.kind is UnitKind.FRAME]
        arrived = bool(frames) and not frames[0].disposable
        assert (receiver.scene_at(slot) is not None) == arrived
    sender.close()
    assert receiver.mismatches == []

"""SVT-AV1 that stops answering: the stream goes on."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from common.errors import CodecError
from common.wire import is_key
from sender.svtav1 import Codes, _any_runs, _Aside
from tests.chains import assert_never_wrong, held, push_all
from tests.small_stream import Recording, frame, open_session


def test_a_call_that_never_returns_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    aside, forever = _Aside(), threading.Event()

    def stuck() -> Codes:
        forever.wait()
        return 0, 0

    assert aside(lambda: (0, 7), set()) == (0, 7)
    monkeypatch.setattr("sender.svtav1._LOOK_S", 0.001)
    looks = [True] * 15  # on a busy machine work takes its time
    monkeypatch.setattr("sender.svtav1._any_runs", lambda _: bool(looks) and looks.pop())
    assert aside(stuck, {1}) is None and not looks
    aside.end()
    forever.set()


def test_where_nobody_knows_the_threads_there_is_more_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    aside, forever, looks = _Aside(), threading.Event(), [0]

    def stuck() -> Codes:
        forever.wait()
        return 0, 0

    def idle(_: set[int]) -> bool:
        looks[0] += 1
        return False

    monkeypatch.setattr("sender.svtav1._LOOK_S", 0.001)
    monkeypatch.setattr("sender.svtav1._any_runs", idle)
    assert aside(stuck, set()) is None and looks[0] > 100
    aside.end()
    forever.set()


def test_the_stream_goes_on_with_a_key_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    session, frames, stuck = open_session(), [frame(slot) for slot in range(24)], [False]
    answered = _Aside.__call__

    def sometimes(aside: _Aside, *call: object) -> Codes | None:
        if stuck[0]:
            stuck[0] = False
            return None
        return answered(aside, *call)  # type: ignore[arg-type]

    monkeypatch.setattr(_Aside, "__call__", sometimes)
    steps = []
    for shot in frames:
        stuck[0] = shot.slot == 10
        steps.append(session.step(shot))
    session.close()
    story = Recording(tuple(frames), tuple(steps))
    keys = [shot.slot for shot, step in zip(frames, steps, strict=True) if "key" in step.events]
    assert keys == [0, 10] and any(is_key(unit.data) for unit in steps[10].units)
    decoder = push_all(story.units)
    assert_never_wrong(decoder, story)
    assert held(decoder, story) == {shot.slot for shot, step in zip(frames, steps, strict=True) if step.units}


def test_an_encoder_that_never_answers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session()
    monkeypatch.setattr(_Aside, "__call__", lambda *_: None)
    with pytest.raises(CodecError, match="does not answer"):
        session.step(frame(0))


def test_a_thread_that_runs_is_told_from_none() -> None:
    assert _any_runs({threading.get_native_id()}) == Path("/proc/self/task").is_dir()
    assert not _any_runs({-1})

"""The trials of live links: figures against limits, programs that were started, and the page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.live import trials as trials_module
from benchmarks.live.trials import TRIALS, Outcome, Program, Trial, run_live, run_trial
from benchmarks.live.trials_page import chosen, write_page
from common.errors import ChannelError, UsageError

GOOD = Outcome("good", 0.5, 0.3, 25.0, 150.0, 190.0, 0.0, 0.1, None, 0.05, None, 41.5, {}, {})
STREAM = {
    "pictures": 240, "watched_s": 10.0, "fps": 24.0, "freeze_ratio": 0.2, "longest_freeze_s": 2.25,
    "connect_s": 0.4, "first_picture_s": 0.3, "glass_to_glass_ms": {"p50": 140.0, "p95": 180.0, "max": 300.0},
}  # fmt: skip


def received(*streams: Mapping[str, Any]) -> dict[str, Any]:
    return {"streams": list(streams), "wire": {"received_bytes": 60_000}}


# --- figures ------------------------------------------------------------------------------------------------------


def test_figures_beyond_their_limits_are_missed() -> None:
    limits = {"p50_ms": 150.0, "p95_ms": 189.0, "freeze_ratio": 0.0, "connect_s": 0.4, "recovery_s": 1.0}
    assert GOOD.missed(limits) == ["p95_ms", "connect_s", "recovery_s"], (
        "at the limit is within; what is not known is missed"
    )
    assert GOOD.missed({}) == []
    assert "recovery_s" not in replace(GOOD, of_hosts=False).missed(limits), (
        "without hosts it cannot be known"
    )


def test_the_limits_name_figures_that_there_are() -> None:
    for trial in TRIALS:
        assert not set(trial.limits) - set(Outcome.__dataclass_fields__), trial.name
    assert len({trial.name for trial in TRIALS}) == len(TRIALS)


def test_trials_are_chosen_by_name() -> None:
    assert chosen(()) == TRIALS
    assert [trial.name for trial in chosen(["5 % loss", "12 kbit/s"])] == ["5 % loss", "12 kbit/s"]
    with pytest.raises(UsageError, match="there is no trial '5 % los': did you mean '5 % loss'"):
        chosen(["5 % los"])
    with pytest.raises(UsageError, match="there are 25 ms each way; "):
        chosen(["xyz"])


class Ends:
    """Both programs of a trial, as run_trial starts them."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, found: Mapping[str, Any], fails: bool = False
    ) -> None:
        self.found, self.fails, self.ended = found, fails, False
        monkeypatch.setattr(trials_module, "hosts_or_none", self._nowhere)
        monkeypatch.setattr(trials_module, "start_receiver", lambda *_: (self, "ws://there"))
        monkeypatch.setattr(trials_module, "start_sender", lambda *_: self)

    @contextmanager
    def _nowhere(self, link: str) -> Iterator[None]:
        yield None

    def wait_for(self, where: str, what: object) -> str:
        if self.fails:
            raise ChannelError("a live end did not start")
        return ""

    def document(self, timeout_s: float) -> Mapping[str, Any]:
        return self.found

    def end(self) -> None:
        self.ended = True


def test_the_outcome_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(monkeypatch, received({}, STREAM))
    outcome = run_trial(Trial("outage", "packet:delay_ms=25", outage_s=2.0), None, ())
    assert (outcome.p50_ms, outcome.p95_ms, outcome.fps, outcome.kbps) == (140.0, 180.0, 24.0, 48.0)
    assert (outcome.recovery_s, outcome.most_queue_s, outcome.settled_queue_s) == (None, None, None)
    assert ends.ended, "without hosts nothing takes the link down: there is no recovery to speak of"
    Ends(monkeypatch, received({**STREAM, "glass_to_glass_ms": None}))
    outcome = run_trial(Trial("outage", "clean"), None, ())
    assert (outcome.p50_ms, outcome.p95_ms) == (None, None)


@pytest.mark.parametrize("found", [received(), received({**STREAM, "pictures": 0})])
def test_a_trial_without_a_picture_has_failed(
    monkeypatch: pytest.MonkeyPatch, found: Mapping[str, Any]
) -> None:
    Ends(monkeypatch, found)
    with pytest.raises(ChannelError, match="no picture arrived"):
        run_trial(Trial("nothing", "clean"), None, ())


def test_no_receiver_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(monkeypatch, {}, fails=True)
    with pytest.raises(ChannelError, match="did not start"):
        run_trial(Trial("nothing", "clean"), None, ())
    assert ends.ended


# --- all of them --------------------------------------------------------------------------------------------------


def test_one_that_fails_does_not_mix_up_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(trial: Trial, clip: str | None, options: object) -> Outcome:
        if trial.name == "2 % loss":
            raise ChannelError("a live end failed")
        return replace(GOOD, name=trial.name, freeze_ratio=0.05, p50_ms=200.0)

    monkeypatch.setattr(trials_module, "run_trial", run)
    names = ["25 ms each way", "2 % loss", "5 % loss", "10 % loss"]
    run_live(None, tmp_path / "out", names, picture=False)
    told = capsys.readouterr()
    result = json.loads(told.out.splitlines()[-1])
    assert result["missed"] == {"5 % loss": ["freeze_ratio"]}, "each has its own limits"
    assert result["failed"] == 1 and list(result["trials"]) == [names[0], *names[2:]]
    assert "failed: a live end failed" in told.err
    assert len(json.loads((tmp_path / "out" / "live.json").read_text())) == 3
    assert "3 of 4 trials ran to their end; 1 figures missed" in (tmp_path / "out" / "live.html").read_text()

    with pytest.raises(ChannelError, match="no trial came to its end"):
        run_live(None, tmp_path, ["2 % loss"], picture=False)


def test_the_page(tmp_path: Path) -> None:
    trials = [
        Trial("good", "clean", limits={"p50_ms": 200}),
        Trial("<bad> & slow", "clean", limits={"p95_ms": 100}),
    ]
    outcomes = [GOOD, replace(GOOD, name="<bad> & slow")]
    text = write_page(outcomes, trials, tmp_path).read_text()
    assert "2 of 2 trials ran to their end; 1 figures missed" in text
    assert text.count("<table") == text.count('<div class="scroll"><table') == 1
    good, bad = text.split("<tr>")[2:4]
    assert "<td>150</td><td>190</td>" in good and "<b>" not in good and "<td>-</td>" in good
    assert "&lt;bad&gt; &amp; slow" in bad and "<td><b>190</b></td>" in bad and "<bad>" not in text
    assert "data:image/png" not in text
    (tmp_path / "page.png").write_bytes(b"a picture")
    assert "data:image/png;base64,YSBwaWN0dXJl" in write_page(outcomes, trials, tmp_path).read_text()


# --- programs -----------------------------------------------------------------------------------------------------


def program(code: str) -> Program:
    command = [sys.executable, "-c", f"import signal, sys; {code}"]
    return Program(subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE))


WAITS = "print('up', flush=True); print('loading', file=sys.stderr, flush=True); signal.pause()"


def test_lines_are_read_as_they_come() -> None:
    started = program("print('{\"a\": 1}'); print('no'); print('well', file=sys.stderr); print('{}')")
    assert started.wait_for("out", lambda line: line.startswith("{")) == '{"a": 1}'
    assert started.wait_for("err", lambda line: line == "well") == "well"
    assert started.document(20.0) == {} and started.lines == {
        "out": ['{"a": 1}', "no", "{}"],
        "err": ["well"],
    }


def test_a_program_that_ends_without_the_word_has_failed() -> None:
    started = program("print('a'); sys.exit('semcast: no camera 0')")
    with pytest.raises(ChannelError, match="did not start: semcast: no camera 0"):
        started.wait_for("out", lambda line: line == "b")
    with pytest.raises(ChannelError, match="did not start: no word"):
        program("").wait_for("out", lambda line: True)


def test_a_program_that_never_says_it_is_ended() -> None:
    started = program(WAITS)
    started.wait_for("err", lambda line: line == "loading")
    with pytest.raises(ChannelError, match="did not start: loading"):
        started.wait_for("out", lambda line: line == "ready", timeout_s=0.0)
    started.end()
    with pytest.raises(ChannelError, match="a live end failed: loading"):
        started.document(20.0)


def test_a_program_that_goes_on_is_asked_to_end_and_says_what_came_of_it() -> None:
    started = program(f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('[[1, 2]]'))); {WAITS}")
    started.wait_for("out", lambda line: line == "up")
    assert started.document(0.0) == {1: 2}

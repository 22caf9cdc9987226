"""What a live sender leaves out when a frame comes late; without a budget, nothing, whatever the clock says."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from common.clock import VirtualClock
from sender.budget import STARVED_S, SenderBudget, Stage
from sender.pipeline import SenderSession
from tests.small_stream import frame, open_session

INTERVAL_S = 0.04
STAGES: tuple[Stage, ...] = ("sharpness", "motion", "labels", "anchor", "residual", "anchor policy")


@dataclass
class Work:
    """A sender whose guide takes `guide_s` and whose stages take `stage_s` each."""

    budget: SenderBudget
    guide_s: float = 0.01
    stage_s: float = 0.005
    behind_s: float = 0.0
    now_s: float = 0.0

    def frame(self) -> list[Stage]:
        """The stages that were run in one frame; the next one comes in its time, or at once."""
        began_s, run = self.now_s, []
        self.budget.behind_s = self.behind_s
        self.budget.begin(self.now_s)
        self.now_s += self.guide_s
        for stage in STAGES:
            if self.budget.affords(stage, self.now_s):
                run.append(stage)
                self.now_s += self.stage_s
                self.budget.took(stage, self.stage_s, self.now_s)
        self.budget.end(self.now_s)
        self.now_s = max(self.now_s, began_s + INTERVAL_S)
        return run


def test_with_time_enough_nothing_is_left_out() -> None:
    work = Work(SenderBudget(INTERVAL_S), stage_s=0.004)
    assert all(work.frame() == list(STAGES) for _ in range(50))
    assert not work.budget.left_out


def test_a_frame_that_comes_late_does_without_and_the_next_one_makes_up_for_it() -> None:
    work = Work(SenderBudget(INTERVAL_S), stage_s=0.004)
    work.frame()
    work.behind_s = 0.028
    assert work.frame() == []
    assert set(work.budget.left_out) == set(STAGES)
    work.behind_s, work.now_s = 0.0, work.now_s + 1.0
    assert work.frame() == list(STAGES)


@given(st.floats(0.02, 0.2), st.floats(0.001, 0.05))
def test_no_stage_starves_however_slow_everything_is(guide_s: float, stage_s: float) -> None:
    work = Work(SenderBudget(INTERVAL_S), guide_s, stage_s)
    last_s = dict.fromkeys(STAGES, 0.0)
    while work.now_s < 20.0:
        began_s = work.now_s
        for stage in work.frame():
            last_s[stage] = began_s
        slowest_s = guide_s + len(STAGES) * stage_s + INTERVAL_S
        assert all(began_s - at_s <= STARVED_S + 2 * slowest_s for at_s in last_s.values())


@given(st.floats(0.0, 0.039), st.floats(0.0, 0.039))
def test_less_time_never_means_more_stages(behind_s: float, more_s: float) -> None:
    counts = []
    for late_s in (behind_s, behind_s + more_s):
        work = Work(SenderBudget(INTERVAL_S), stage_s=0.004)
        work.frame()
        work.behind_s = late_s
        counts.append(len(work.frame()))
    assert counts[1] <= counts[0]


def test_an_overload_makes_frames_late_only_now_and_then() -> None:
    work = Work(SenderBudget(INTERVAL_S), guide_s=0.03, stage_s=0.02)
    late = 0
    for _ in range(1000):
        began_s = work.now_s
        work.frame()
        late += work.now_s > began_s + INTERVAL_S + 1e-9
    assert late <= len(STAGES) * (2 + 40 / STARVED_S)


# --- the session --------------------------------------------------------------------------------------------------


class SlowClock(VirtualClock):
    """Every look at it takes so long."""

    def __init__(self, look_s: float) -> None:
        super().__init__()
        self.look_s = look_s

    def now_s(self) -> float:
        self.advance_to(super().now_s() + self.look_s)
        return super().now_s()


def session(look_s: float, budget: SenderBudget | None) -> SenderSession:
    opened = open_session(60_000)
    opened.clock = SlowClock(look_s)
    opened.budget = budget
    return opened


def bytes_of(opened: SenderSession, frames: int = 24) -> list[bytes]:
    sent = [unit.data for slot in range(frames) for unit in opened.step(frame(slot)).units]
    opened.close()
    return sent


def test_without_a_budget_the_bytes_depend_on_the_input_alone() -> None:
    plain = bytes_of(open_session(60_000))
    assert bytes_of(session(0.5, None)) == plain


def test_a_budget_that_is_never_short_changes_no_byte() -> None:
    plain = bytes_of(open_session(60_000))
    budget = SenderBudget(INTERVAL_S)
    assert bytes_of(session(0.0, budget)) == plain
    assert not budget.left_out


def test_on_a_slow_machine_stages_are_left_out_and_the_stream_goes_on() -> None:
    budget = SenderBudget(INTERVAL_S)
    slow = bytes_of(session(0.03, budget))
    assert budget.left_out.total() > 10
    assert len(slow) > 20


def test_an_anchor_that_does_not_fit_is_put_off_and_not_forgotten() -> None:
    from sender.anchors import AnchorOrder
    from sender.rate import Role

    opened = session(0.0, SenderBudget(INTERVAL_S))
    opened.step(frame(0))
    assert opened.budget is not None
    opened.budget.affords("anchor", 0.0)
    opened.budget.took("anchor", 1.0, 0.0)  # a second once: it fits into no frame
    events = []
    for slot in range(1, 9):
        if opened.keeper.guide.role is Role.BASE:
            opened.order = AnchorOrder(launch=True) if not events else opened.order
            events.append(opened.step(frame(slot)).events)
            assert opened.order.launch and opened.put_off
        else:
            opened.step(frame(slot))
    opened.close()
    assert events and all("anchor" not in found for found in events)
    assert opened.budget.left_out["anchor"] == len(events)

"""The whole link in one process: rates add up, a late anchor counts only as far as it left, loss is survived."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest

from benchmarks.link import Link, LinkResult, layer_totals
from common.clock import SystemClock, VirtualClock
from common.config import ReceiverSettings, load_config
from common.state import Composition
from common.types import Frame, UnitKind
from common.units import StreamConfig
from common.wire import pack_config
from receiver.decoder.conditions import FrameFacts
from receiver.decoder.helping import is_blank, is_fine
from receiver.decoder.synth import Painted
from receiver.painter import BasePainter
from receiver.pipeline import ReceiverSession, Shown
from sender.labels import BlankAnalyzer
from sender.pipeline import SenderSession, Step
from sender.rate import RateTarget
from tests.small_stream import STREAM, frame, open_session, record

RATE = Fraction(25)


class Source:
    """The built-in clip at 128x128."""

    def __iter__(self):  # type: ignore[no-untyped-def]
        return (frame(slot) for slot in range(50))

    def close(self) -> None:
        pass


def run(channel: str, seed: int = 0) -> tuple[LinkResult, list[Shown], list[bytes]]:
    config = load_config(
        None,
        [
            f"channel.spec={channel}",
            f"stream.seed={seed}",
            "semantics.enabled=false",
            "receiver.steps=0",
            "receiver.budget_ms=none",
        ],
    )
    first = frame(0)
    stream = StreamConfig(7, 128, 128, RATE, first.time_base, first.colour, seed)
    sender = SenderSession(stream, config, BlankAnalyzer(), RateTarget(24_000, 25.0), clock=VirtualClock())
    shown: list[Shown] = []
    sent: list[bytes] = []

    def on_sent(_: Frame, step: Step) -> None:
        sent.extend(unit.data for unit in step.units)

    def on_shown(_: Frame, picture: Shown, at_s: float) -> None:
        shown.append(picture)

    receiver = ReceiverSession(config.receiver, BasePainter(), SystemClock())
    result = Link(config, sender, receiver, SystemClock(), on_sent, on_shown).run(Source())
    sender.close()
    return result, shown, sent


def test_a_clean_link_shows_every_frame_and_its_bytes_add_up() -> None:
    result, shown, _ = run("clean")
    assert [picture.frame.slot for picture in shown] == list(range(50))
    assert sum(layer_totals(result).values()) == result.sent_bytes
    assert result.datagrams > 0


@pytest.mark.parametrize("seed", [1, 2])
def test_loss_is_survived_and_repeatable(seed: int) -> None:
    channel = "packet:loss=0.1,burst=2,delay_ms=30,jitter_ms=10"
    result, shown, sent = run(channel, seed)
    again, _, sent_again = run(channel, seed)
    assert len(shown) == 50
    assert sum(not picture.concealed for picture in shown) > 35
    assert (sent, result.sent_bytes) == (sent_again, again.sent_bytes)


def test_an_anchor_counts_only_as_far_as_it_left() -> None:
    result = LinkResult(layer_bytes=[{"guide": 100, "anchor": 5000}], sent_bytes=400, carried={"anchor": 250})
    totals = layer_totals(result)
    assert (totals["anchor"], totals["overhead"], sum(totals.values())) == (250, 50, 400)


def test_a_frame_that_comes_too_late_is_shown_in_the_place_of_a_missing_one() -> None:
    stream = record(range(4), open_session())
    units = {unit.slot: unit.data for unit in stream.units if unit.kind is UnitKind.FRAME}
    config = load_config(None, ["receiver.steps=0", "receiver.budget_ms=none"])
    session = ReceiverSession(config.receiver, BasePainter(), VirtualClock())
    session.receive(pack_config(STREAM, 0).data, 0.0)
    session.receive(units[0], 0.0)
    assert not session.paint(0).concealed and session.paint(1).concealed
    session.receive(units[1], 0.1)
    late = session.paint(2)
    assert not late.concealed and late.frame.slot == 2 and late.scene is not None
    assert session.paint(3).concealed  # once is enough


def test_a_receiver_learns_what_levels_cost_from_a_picture_that_costs_something() -> None:
    """What the network cannot help is shown as it is by every level, so it would tell nothing."""
    primed: list[tuple[str, bool]] = []

    class Recorder(BasePainter):
        def render(
            self, composition: Composition, facts: FrameFacts, level: str, should_stop: Callable[[], bool]
        ) -> Painted:
            primed.append((level, is_blank(composition) or is_fine(composition, facts)))
            return super().render(composition, facts, level, should_stop)

    session = ReceiverSession(ReceiverSettings(), Recorder(), VirtualClock())
    session.receive(pack_config(StreamConfig(1, 64, 64, Fraction(25), Fraction(1, 25)), 0).data, 0.0)
    session.receive(b"anything", 0.0)
    assert {level for level, _ in primed} == set(BasePainter.levels)
    assert not any(left_out for _, left_out in primed)

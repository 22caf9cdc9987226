"""The far ends of a live sender in virtual time: none of them hurts another."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks.live import outlets
from benchmarks.live.outlets import (
    ALIVE_S,
    CAREFUL_BPS,
    CROWDED_S,
    LONG_CONNECT_S,
    MOST_HOLD_MS,
    OPENING_S,
    PARKED_S,
    PROBE_S,
    REFRESH_EVERY_S,
    START_BPS,
    Outlet,
    Outlets,
)
from channel.packetise import PacketiserConfig
from common.types import Datagram, EncodedUnit, UnitKind
from tests.live_ends import FakeLink, outlet_to, peer_link

INTRODUCTION = EncodedUnit(UnitKind.CONFIG, 0, b"what the stream is")
KEY = EncodedUnit(UnitKind.FRAME, 0, b"a key picture", key=True)
BASE = EncodedUnit(UnitKind.FRAME, 1, b"what others build on")
SPARE = EncodedUnit(UnitKind.FRAME, 2, b"nothing builds on it", disposable=True)
RESIDUAL = EncodedUnit(UnitKind.RESIDUAL, 2, b"a correction")


def joined(name: str, limit_bps: float = 100_000.0, now_s: float = 0.0) -> tuple[FakeLink, Outlet]:
    """A far end that has had a key picture, which took 50 ms to be reported."""
    link = FakeLink(name)
    outlet = outlet_to(link, limit_bps)
    outlet.offer([KEY], INTRODUCTION, now_s)
    outlet.exchange(now_s)
    link.report(now_s + 0.05, last_slot=0)
    outlet.exchange(now_s + 0.05)
    return link, outlet


def crowd(outlet: Outlet, now_s: float) -> None:
    """Its newest report, of `now_s`, tells of a long queue."""
    outlet.heard_s, outlet.estimator.queue_s = now_s, 2 * CROWDED_S


def test_who_joins_gets_the_configuration_and_a_key_picture_first() -> None:
    link = FakeLink(connected=False)
    outlet = outlet_to(link)
    outlet.offer([KEY], INTRODUCTION, 0.0)
    assert not outlet.joined
    link.connected = True
    for now_s, units in enumerate([[BASE], [SPARE, RESIDUAL], [KEY], [BASE, RESIDUAL]]):
        outlet.offer(units, INTRODUCTION, float(now_s))
        outlet.exchange(float(now_s))
        assert outlet.joined == (now_s >= 2)
    assert link.units() == [unit.data for unit in (INTRODUCTION, KEY, BASE, RESIDUAL)]


def test_what_one_far_end_cannot_take_is_left_out_for_it_alone() -> None:
    (wide, one), (narrow, other) = joined("wide"), joined("narrow")
    crowd(other, 1.0)
    both = Outlets([one, other])
    before = len(wide.units()), len(narrow.units())
    next_base = EncodedUnit(UnitKind.FRAME, 3, b"and the next of these")
    both.offer([next_base, SPARE, RESIDUAL], INTRODUCTION, 1.1)
    both.exchange(1.1)
    assert wide.units()[before[0] :] == [next_base.data, SPARE.data, RESIDUAL.data] and one.thinned == 0
    assert narrow.units()[before[1] :] == [next_base.data] and other.thinned == 2
    both.offer([KEY], INTRODUCTION, 1.2)
    assert other.thinned == 2, "a key picture is for everybody"


def test_all_stand_still_only_where_every_living_one_is_crowded() -> None:
    (_, one), (_, other) = joined("wide"), joined("narrow")
    both = Outlets([one, other])
    crowd(other, 1.0)
    one.heard_s = 1.0
    assert not both.stand_still(1.0)
    one.heard_s = 1.0 - ALIVE_S - 0.01
    assert both.stand_still(1.0), "who is not heard has no say"
    other.heard_s = one.heard_s
    assert not both.stand_still(1.0), "nor is there anybody to wait for"


def test_anchors_are_those_that_all_hold_who_keep_up() -> None:
    (first, one), (second, other), (_, third) = joined("first"), joined("second"), joined("third")
    late = outlet_to(FakeLink("late"))
    everybody = Outlets([one, other, third, late])
    first.report(0.1, anchors=(1, 2, 3), last_slot=7)
    second.report(0.1, anchors=(2, 3, 4), last_slot=5)
    everybody.exchange(0.1)
    third.heard_s = 0.1 - ALIVE_S - 0.01
    said = everybody.feedback(0.1)
    assert said.anchors == (2, 3) and said.last_slot == 7 and not said.refresh

    # One that does not keep up must not hold up the others: a slow one, a silent one, one that has left.
    crowd(other, 1.1)
    first.report(1.1, anchors=(1, 2, 3))
    everybody.exchange(1.1)
    assert everybody.feedback(1.1).anchors == (1, 2, 3)
    second.connected = False
    assert everybody.feedback(1.1).anchors == (1, 2, 3)
    assert Outlets([third, late]).feedback(1.2).anchors == ()


def test_wishes_for_an_anchor_and_the_worst_loss_reach_the_encoder() -> None:
    (asking, one), (_, other) = joined("asking"), joined("other")
    both = Outlets([one, other])
    assert not both.feedback(0.1).anchor_wanted and both.feedback(0.1).loss_ratio == 0
    asking.report(0.2, last_slot=3, anchor_wanted=True, loss_ratio=0.5)
    both.exchange(0.2)
    said = both.feedback(0.2)
    assert said.anchor_wanted and said.loss_ratio == one.loss_ratio > 0


def test_a_wish_for_a_key_picture_is_passed_on_once() -> None:
    link, outlet = joined("far")
    alone = Outlets([outlet])
    for now_s in (1.0, 1.5):
        link.report(now_s, refresh=True)
        alone.exchange(now_s)
        assert [alone.feedback(now_s).refresh for _ in range(3)] == [True, False, False]
    link.refresh = True  # by PLI
    assert [alone.feedback(2.0).refresh for _ in range(2)] == [True, False]


def test_one_of_several_may_not_ask_too_often() -> None:
    (asking, one), (_, other) = joined("asking"), joined("other")
    both = Outlets([one, other])

    def wish(now_s: float) -> bool:
        asking.report(now_s, refresh=True)
        both.exchange(now_s)
        return both.feedback(now_s).refresh

    assert wish(0.4) and wish(1.0), "the encoder has passed over it, as a key picture was on its way"
    both.offer([KEY], INTRODUCTION, 1.0)
    assert not wish(1.6) and not wish(8.9)
    assert both.feedback(1.0 + REFRESH_EVERY_S).refresh, "what was asked for is not forgotten"
    assert not both.feedback(1.1 + REFRESH_EVERY_S).refresh


def test_a_key_picture_that_another_had_made_grants_the_wish() -> None:
    (asking, one), (_, other) = joined("asking"), joined("other")
    both = Outlets([one, other])
    for now_s in (1.0, 2.0):
        asking.report(now_s, refresh=True)
        both.exchange(now_s)
        assert both.feedback(now_s).refresh == (now_s == 1.0)
        both.offer([KEY], INTRODUCTION, now_s)
    assert not both.feedback(3.0 + REFRESH_EVERY_S).refresh


def test_who_has_not_joined_asks_for_nothing() -> None:
    link = FakeLink(refresh=True)
    new = Outlets([outlet_to(link)])
    link.report(0.0, highest_seq=-1, refresh=True)
    new.exchange(0.0)
    assert new.joining(0.0) and new.wanted and not new.feedback(0.0).refresh
    new.offer([KEY], INTRODUCTION, 0.1)
    assert not new.joining(0.2) and not new.feedback(0.2).refresh, "it has just been sent one"


def test_the_rate_is_that_of_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlets, "START_BPS", 64_000.0)
    (wide, one), (narrow, other) = joined("wide", 50_000.0), joined("narrow", 20_000.0)
    both = Outlets([one, other, outlet_to(FakeLink("never heard", connected=False))])
    assert both.rate_bps(0.1) == 50_000.0
    wide.connected = False
    assert both.rate_bps(0.1) == 20_000.0
    assert both.rate_bps(0.1 + 2 * ALIVE_S) is None and Outlets().rate_bps(0.0) is None
    assert not Outlets().wanted and not Outlets().joining(0.0)
    narrow.connected = False
    assert not both.wanted


def test_it_begins_with_what_nearly_every_link_carries() -> None:
    assert outlet_to(FakeLink(), 2e6).rate_bps == START_BPS
    assert outlet_to(FakeLink(), 10_000.0).rate_bps == 10_000.0


def test_what_a_far_end_waited_before_it_reported_is_no_way() -> None:
    link, outlet = joined("far")
    for sent_s, held_ms, rtt_s in ((1.0, 0, 0.25), (2.0, 200, 0.05), (3.0, 1_000_000_000, 0.0)):
        outlet.offer([BASE, EncodedUnit(UnitKind.FRAME, 9, bytes([int(sent_s)]))], INTRODUCTION, sent_s)
        outlet.exchange(sent_s)
        link.report(sent_s + 0.25, held_ms=held_ms)
        outlet.exchange(sent_s + 0.25)
        assert outlet.rtt_s == pytest.approx(rtt_s)
    link.report(3.3)  # names nothing new
    outlet.exchange(3.3)
    assert outlet.rtt_s == 0.0


def test_protection_follows_the_loss() -> None:
    def repairs_of(outlet: Outlet, now_s: float) -> int:
        before = outlet.figures().fec_bytes
        outlet.offer([EncodedUnit(UnitKind.FRAME, 50, bytes(6000), protect=True)], INTRODUCTION, now_s)
        for step in range(100):
            outlet.exchange(now_s + 0.02 * step)
        return outlet.figures().fec_bytes - before

    (_, calm), (lossy, troubled) = joined("calm"), joined("lossy")
    for step in range(40):
        lossy.report(0.1 + 0.05 * step, loss_ratio=0.2)
        troubled.exchange(0.1 + 0.05 * step)
    assert troubled.figures().loss_ratio == pytest.approx(0.2, abs=0.01)
    assert repairs_of(troubled, 3.0) > repairs_of(calm, 3.0) > 0


def test_only_who_lost_something_is_sent_it_again() -> None:
    (losing, one), (other_link, other) = joined("losing"), joined("other")
    both = Outlets([one, other])
    for number in range(2):
        both.offer([EncodedUnit(UnitKind.FRAME, 1 + number, bytes([number] * 9))], INTRODUCTION, 0.2)
        both.exchange(0.2)
    before = len(losing.sent), len(other_link.sent)
    losing.report(0.25, missing=(len(losing.sent) - 2,))
    other_link.report(0.25)
    both.exchange(0.25)
    assert (len(losing.sent) - before[0], len(other_link.sent) - before[1]) == (1, 0)
    assert one.figures().retransmission_bytes == 9 and other.figures().retransmission_bytes == 0


def test_damaged_reports_are_passed_over() -> None:
    link, outlet = joined("far")
    link.inbox += [Datagram(b"", 0.1), Datagram(b"nonsense", 0.1)]
    link.report(0.1, last_slot=3)
    outlet.exchange(0.1)
    assert outlet.report is not None and outlet.report.last_slot == 3


def test_figures() -> None:
    link, outlet = joined("far", 10_000.0)
    figures = outlet.figures()
    assert (figures.name, figures.state, figures.rate_bps, figures.link) == (
        "far",
        "connected",
        10_000.0,
        None,
    )
    assert figures.sent_bytes == sum(map(len, link.sent)) and figures.datagrams == len(link.sent)
    assert figures.rtt_s == pytest.approx(0.05)
    link.connected = False
    assert outlet.figures().state == "waiting"
    assert outlet.figures(peer_link().stats()).state == "connecting"


def test_who_is_far_behind_the_others_waits_for_a_key_picture() -> None:
    (_, one), (narrow, other) = joined("wide"), joined("narrow")
    both = Outlets([one, other])
    other.heard_s, other.estimator.queue_s = 1.0, 2 * PARKED_S
    before = len(narrow.units())
    both.offer([BASE], INTRODUCTION, 1.1)
    both.exchange(1.1)
    assert one.joined and not other.joined and len(narrow.units()) == before
    assert not both.joining(1.2), "the others would have to pay for it"
    assert both.joining(1.1 + REFRESH_EVERY_S)
    both.offer([KEY], INTRODUCTION, 2.0)
    assert other.joined, "a key picture that is made anyway is for everybody"
    alone = Outlets([other])
    other.estimator.queue_s = 2 * PARKED_S
    alone.offer([BASE], INTRODUCTION, 2.1)
    assert other.joined, "for one alone the encoder leaves out frames instead"


def test_who_took_long_to_connect_begins_with_less() -> None:
    quick, slow = outlet_to(FakeLink()), outlet_to(FakeLink(connect_s=LONG_CONNECT_S + 0.1))
    for outlet in (quick, slow):
        outlet.exchange(0.0)
    assert quick.rate_bps == START_BPS and slow.rate_bps == CAREFUL_BPS


def test_nothing_follows_the_first_key_picture_until_it_is_through() -> None:
    link = FakeLink()
    outlet = outlet_to(link)
    alone = Outlets([outlet])
    alone.offer([EncodedUnit(UnitKind.FRAME, 0, bytes(3000), key=True)], INTRODUCTION, 0.0)
    alone.exchange(0.0)
    assert not alone.stand_still(0.0), "it may be there at any moment"
    alone.exchange(1.0)
    assert alone.stand_still(1.0) and not alone.stand_still(OPENING_S), "but nobody waits for ever"
    link.report(2.0, last_slot=0)
    alone.exchange(2.0)
    assert not alone.stand_still(2.0)
    sent_bps = 8 * sum(map(len, link.sent)) / 2.0
    assert outlet.rate_bps < sent_bps, "what took so long tells what the link carries"


def test_a_quick_first_picture_lowers_no_rate() -> None:
    _, outlet = joined("far")
    assert outlet.rate_bps == START_BPS


def test_a_link_that_lets_nothing_through_is_only_probed() -> None:
    link, outlet = joined("far")
    link.report(0.1, last_slot=0)
    outlet.exchange(0.1)
    began_s, sent_s = 1.0, []
    for step in range(200):
        now_s, before = began_s + 0.01 * step, len(link.sent)
        outlet.offer([EncodedUnit(UnitKind.FRAME, step + 1, bytes(40))], INTRODUCTION, now_s)
        outlet.exchange(now_s)
        sent_s += [now_s] * (len(link.sent) > before)
    late = [at for at in sent_s if at > began_s + 0.6]
    assert outlet.stuck and late and all(b - a >= PROBE_S - 1e-6 for a, b in pairwise(late))
    link.report(began_s + 2.0, last_slot=200)
    outlet.exchange(began_s + 2.0)
    outlet.exchange(began_s + 2.01)
    assert not outlet.stuck


def test_a_link_that_stood_is_found_to_carry_again() -> None:
    """What was lost last held nothing that the far end misses: nobody asks for it, and nothing is to be sent again."""
    link, outlet = joined("far")
    all_ends = Outlets([outlet])
    arrived, sent_at_s = len(link.sent) - 1, []
    for tick in range(10, 600):
        now_s = tick / 100
        if tick % 5 == 0:
            link.report(now_s, last_slot=tick, highest_seq=arrived)
        before = len(link.sent)
        if tick % 3 == 0 and not all_ends.stand_still(now_s):
            all_ends.offer([EncodedUnit(UnitKind.FRAME, tick, bytes(60))], INTRODUCTION, now_s)
        all_ends.exchange(now_s)
        sent_at_s += [now_s] * (len(link.sent) > before)
        if len(link.sent) > before and not 1.0 <= now_s < 4.0:
            arrived = len(link.sent) - 1
    gaps_s = [b - a for a, b in pairwise(sent_at_s)]
    assert max(gaps_s) <= 0.6, "something leaves now and then, whatever the reports say"
    assert sum(at_s > 5.0 for at_s in sent_at_s) > 20 and not outlet.stuck, "and then everything goes on"


def test_on_a_narrow_link_datagrams_wait_for_company_as_long_as_playout_hides_it() -> None:
    holds = []
    for limit_bps in (24_000.0, 16_000.0, 8_000.0):
        link, outlet = joined("far", limit_bps)
        outlet.config = PacketiserConfig(hold_ms=40)
        link.report(0.2, last_slot=0)
        outlet.exchange(0.2)
        holds.append(outlet.packetiser.hold_ms)
    assert holds[0] == 40 < holds[1] < holds[2] == MOST_HOLD_MS

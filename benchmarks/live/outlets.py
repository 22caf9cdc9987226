"""The far ends of a live sender: packets, reports and a rate for each, so that none of them hurts another.

    units -> Outlet a: Packetiser -> link        what a far end cannot take is thinned for it alone
          -> Outlet b: Packetiser -> link
    reports -> Outlet: retransmission, bandwidth, protection -> Outlets: one report for the encoder

There is one encoder for all. It follows the far end that can take most; who can take less is sent less: first no
residuals and no disposable frames, then nothing until a key picture comes after the queue is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from benchmarks.live.figures import OutletFigures
from channel.bandwidth import BandwidthEstimator, BandwidthSettings
from channel.packetise import Packetiser, PacketiserConfig
from channel.webrtc.stats import LinkStats
from common.datagram import parse_feedback
from common.errors import BitstreamError
from common.types import Datagram, EncodedUnit, Feedback, UnitKind

START_BPS = 24_000.0
"""Nobody knows at first what a link carries; the estimate grows by half in a second."""
LONG_CONNECT_S, CAREFUL_BPS = 2.0, 10_000.0
"""Who took so long to connect has a narrow link or one that loses much, and begins with less."""
OPENING_S = 4.0
"""For so long at the most nothing follows the first key picture until it is through."""
FIRST_SHARE, LONG_WAY_S = 0.7, 0.5
"""Part of what the first key picture got through that is for pictures from then on: small datagrams have more headers;
and what a round trip over satellites takes, for which the rate is not to blame."""
STUCK_S, PROBE_S, UNKNOWN_RTT_S = 0.12, 0.1, 0.1
"""Nothing more is pushed into a link that has let nothing through for so long, its round trip apart, but a probe now and
then: by the time that a report tells of a queue it would have doubled."""
STARVED_S = 0.5
"""Where what was lost is not worth sending again, only a new frame can show that a link that stood carries again."""
OWN_MOST_S = 1.5
"""A queue that this end has made by a key picture is no sign of a narrow link, up to this."""
ALIVE_S = 1.0
"""A far end whose last report is older has no say about the stream."""
CROWDED_S, PARKED_S = 0.2, 1.5
"""Queueing delay from which on only what others build on is sent, and nothing at all."""
REFRESH_EVERY_S = 8.0
"""How often one of several far ends may have a key picture made for it alone, which all of them pay for."""
LEAST_BPS = 4_000.0
NARROW_BPS, MOST_HOLD_MS = 24_000.0, 150.0
"""Below this rate datagrams wait longer for company: with SRTP, UDP and IP each costs 55 bytes of headers. At 12 kbit/s a
datagram for each second picture would be half of all; the playout delay hides the wait."""
QUEUEING_S, MOVING_S = 0.09, 0.5
"""A queue from this delay on, which moves as long as reports name something new that often."""
WEIGHED_BYTES = 2000
REPORT_S = 0.25
"""Time between two reports, until it is known: the longest."""
_MOST_REPAIR = 0.5
_MEMORY = 0.1
"""Weight of a new report in the mean loss and the mean interval; four to twenty reports come in a second."""


class OutletLink(Protocol):
    """What an outlet needs of a link: `channel.webrtc.link.PeerLink` has it, and `benchmarks.live.links.UdpLink`."""

    name: str

    @property
    def connected(self) -> bool: ...
    @property
    def connect_s(self) -> float: ...
    def send_poll(self, datagrams: Sequence[bytes], now_s: float) -> None: ...
    def receive(self, now_s: float) -> list[Datagram]: ...
    def take_refresh(self) -> bool: ...


@dataclass(slots=True)
class Outlet:
    """One far end.

    config : as at first; the rate, what protects and how long datagrams wait follow the link
    limit_bps : what it, or the user, allows at the most
    met : whether there has been a connection
    joined : whether it was sent a key picture, on which everything else builds; parked_s : when that was taken back
    joined_s : when its first key picture left; proven : whether a picture has come out of it
    stuck : what was sent last has not come through, for longer than it ought to take; polled_s : when that was
    owed_bytes : sent beyond the rate, as of owed_s
    report : its newest; heard_s : when that came
    wished : whether a wish for a key picture was passed on, and none has come since; refresh_s : when one came of it
    report_every_s : time between two reports
    loss_ratio : of the last second or so, 0..1
    moved_s : when a report last named something new
    weighed : bytes in all and of repairs when `repair_share`, the part that repairs take lately, was last changed
    """

    link: OutletLink
    packetiser: Packetiser
    estimator: BandwidthEstimator
    config: PacketiserConfig
    limit_bps: float
    met: bool = False
    joined: bool = False
    joined_s: float = float("-inf")
    proven: bool = False
    stuck: bool = False
    polled_s: float = float("-inf")
    owed_bytes: float = 0.0
    owed_s: float = 0.0
    parked_s: float = float("-inf")
    report: Feedback | None = None
    heard_s: float = float("-inf")
    report_every_s: float = REPORT_S
    wished: bool = False
    refresh_s: float = float("-inf")
    loss_ratio: float = 0.0
    rtt_s: float | None = None
    moved_s: float = float("-inf")
    weighed: tuple[int, int] = (0, 0)
    repair_share: float = 0.0
    thinned: int = 0

    @classmethod
    def to(cls, link: OutletLink, config: PacketiserConfig, limit_bps: float) -> Outlet:
        """Begin with `link`. config : its rate is replaced by the estimate"""
        start_bps = min(START_BPS, limit_bps)
        estimator = BandwidthEstimator(BandwidthSettings(start_bps=start_bps, least_bps=LEAST_BPS))
        packetiser = Packetiser(config.model_copy(update={"rate_bps": start_bps}))
        return cls(link, packetiser, estimator, config, limit_bps)

    @property
    def rate_bps(self) -> float:
        """What it can be sent."""
        return min(self.estimator.rate_bps, self.limit_bps)

    @property
    def media_bps(self) -> float:
        """What of that is left for pictures."""
        return self.rate_bps * (1 - self.repair_share)

    @property
    def crowded(self) -> bool:
        """Whether more waits on its way than is good for a conversation."""
        return self.stuck or self.estimator.queue_s > CROWDED_S

    def holds_up(self, now_s: float) -> bool:
        """Whether a frame is better left out for it. Never for long without sending anything: reports would go on naming
        what they named before, and nothing would ever move again."""
        starved = self.stuck and now_s - self.polled_s >= STARVED_S and not self.opening(now_s)
        return self.crowded and not starved

    def alive(self, now_s: float) -> bool:
        """Whether it has been heard lately."""
        return now_s - self.heard_s <= ALIVE_S

    def opening(self, now_s: float) -> bool:
        """Whether its first key picture is on its way, and no picture has come of it."""
        return self.joined and not self.proven and now_s - self.joined_s < OPENING_S

    def offer(
        self, units: Sequence[EncodedUnit], introduction: EncodedUnit, now_s: float, alone: bool = True
    ) -> None:
        """Queue one frame's units, as far as this far end can take them.

        introduction : the stream's configuration, for who has just come
        alone : there is no other far end; the encoder leaves out frames for its sake
        """
        key = any(unit.key for unit in units)
        if not alone and self.joined and self.estimator.queue_s > PARKED_S and not key:
            self.joined, self.parked_s = False, now_s
        if not self.joined:
            if not self.link.connected or not key:
                return
            self.joined, units = True, (introduction, *units)
            self.joined_s = now_s if self.joined_s < 0 else self.joined_s
        if key:
            self._granted(now_s)
        if self.crowded:
            kept = [unit for unit in units if not unit.disposable and unit.kind is not UnitKind.RESIDUAL]
            self.thinned += len(units) - len(kept)
            units = kept
        self.packetiser.push(units, now_s)

    def exchange(self, now_s: float) -> None:
        """Take in its reports, and send what is due."""
        if not self.met and self.link.connected:
            self._meet()
        for datagram in self.link.receive(now_s):
            try:
                self._on_report(parse_feedback(datagram.data), datagram.arrival_s)
            except BitstreamError:
                continue
        waiting_s = self.packetiser.waiting_s(now_s) or 0.0
        self.stuck = waiting_s > (self.estimator.base_s or UNKNOWN_RTT_S) + self._report_due_s + STUCK_S
        if self.joined and (not self.stuck or now_s - self.polled_s >= PROBE_S):
            self._poll(now_s)

    @property
    def _report_due_s(self) -> float:
        """How long the next report may take; where much gets lost, some of them do."""
        return self.report_every_s * min(3.0, 1 + 20 * self.loss_ratio)

    def _poll(self, now_s: float) -> None:
        datagrams = self.packetiser.poll(now_s)
        if datagrams:
            self.owed_bytes = self._owed_bytes(now_s) + sum(map(len, datagrams))
            self.polled_s = self.owed_s = now_s
            self.link.send_poll(datagrams, now_s)

    def _owed_bytes(self, now_s: float) -> float:
        """What is still on its way of what was sent beyond the rate, as far as the link carries that."""
        return max(0.0, self.owed_bytes - self.rate_bps / 8 * (now_s - self.owed_s))

    def refresh_wanted(self, now_s: float, alone: bool) -> bool:
        """Whether a key picture should be made for it. True once for each wish.

        alone : nobody else has to pay for it
        """
        asked = self.link.take_refresh() or (self.report is not None and self.report.refresh)
        if not asked or not self.joined or (not alone and now_s - self.refresh_s < REFRESH_EVERY_S):
            return False
        if self.report is not None:
            self.report = replace(self.report, refresh=False)
        self.wished = True
        return True

    def figures(self, link: LinkStats | None = None) -> OutletFigures:
        """As of now; link : what its link says about itself."""
        stats = self.packetiser.stats
        state = link.state.value if link is not None else "connected" if self.link.connected else "waiting"
        return OutletFigures(
            name=self.link.name, state=state, rate_bps=self.rate_bps, queue_s=self.estimator.queue_s,
            rtt_s=self.rtt_s, loss_ratio=self.loss_ratio, sent_bytes=stats.total_bytes, datagrams=stats.datagrams,
            fec_bytes=stats.fec_bytes, retransmission_bytes=stats.retransmission_bytes,
            thinned_units=self.thinned, link=link,
        )  # fmt: skip

    def _meet(self) -> None:
        """There is a connection: how long it took tells something of the link."""
        self.met = True
        if self.link.connect_s > LONG_CONNECT_S:
            self.estimator.rate_bps = min(CAREFUL_BPS, self.rate_bps)

    def _prove(self, now_s: float) -> None:
        """The first picture is there, and all that was sent with it: a link that took long carries less than assumed."""
        self.proven = True
        took_s, bits = now_s - self.joined_s, 8 * self.packetiser.stats.total_bytes
        if took_s > bits / self.rate_bps + LONG_WAY_S:
            self.estimator.rate_bps = max(LEAST_BPS, min(self.rate_bps, FIRST_SHARE * bits / took_s))

    def _granted(self, now_s: float) -> None:
        """A key picture goes out. The encoder may have passed over a wish for one: only what was made counts."""
        if self.wished:
            self.wished, self.refresh_s = False, now_s
        if self.report is not None:
            self.report = replace(self.report, refresh=False)

    def _on_report(self, report: Feedback, now_s: float) -> None:
        refresh = report.refresh or (self.report is not None and self.report.refresh)
        if self.alive(now_s):
            self.report_every_s += _MEMORY * (now_s - self.heard_s - self.report_every_s)
        self.report, self.heard_s = replace(report, refresh=refresh), now_s
        # What stands in a queue is not lost, as long as the queue moves.
        queueing = self.estimator.queue_s > QUEUEING_S and now_s - self.moved_s < MOVING_S
        self.packetiser.on_feedback(report, now_s, link_busy=queueing or self.opening(now_s))
        sample_s = self.packetiser.round_trip_s()
        self.moved_s = self.moved_s if sample_s is None else now_s
        rtt_s = None if sample_s is None else max(0.0, sample_s - report.held_ms / 1e3)
        self.rtt_s = self.rtt_s if rtt_s is None else rtt_s
        self.loss_ratio += _MEMORY * (report.loss_ratio - self.loss_ratio)
        waiting_s = self.packetiser.waiting_s(now_s)
        if report.last_slot >= 0 and not self.proven and (waiting_s or 0.0) < UNKNOWN_RTT_S + STUCK_S:
            self._prove(now_s)
        if self.proven or not self.opening(now_s):  # before that its own size is all that is measured
            own_s = min(OWN_MOST_S, 8 * self._owed_bytes(now_s) / self.rate_bps)
            self.estimator.on_report(now_s, rtt_s, report.received_bps, report.loss_ratio, waiting_s, own_s)
        self.estimator.rate_bps = self.rate_bps
        self.packetiser.set_rate_bps(self.rate_bps)
        self._weigh_repairs()
        self.packetiser.set_repair_ratio(min(_MOST_REPAIR, self.config.repair_ratio + 2 * self.loss_ratio))
        self.packetiser.set_hold_ms(
            min(MOST_HOLD_MS, self.config.hold_ms * max(1.0, NARROW_BPS / self.rate_bps) ** 2)
        )

    def _weigh_repairs(self) -> None:
        """Follow the part of what leaves that is no picture: protection and what is sent again."""
        stats = self.packetiser.stats
        total, repairs = stats.total_bytes, stats.fec_bytes + stats.retransmission_bytes
        sent = total - self.weighed[0]
        if sent >= WEIGHED_BYTES:
            share = (repairs - self.weighed[1]) / sent
            self.repair_share += 0.3 * (min(0.5, share) - self.repair_share)
            self.weighed = total, repairs


@dataclass(slots=True)
class Outlets:
    """All far ends of one stream."""

    all: list[Outlet] = field(default_factory=list)

    def exchange(self, now_s: float) -> None:
        """Reports in, packets out, for every far end."""
        for outlet in self.all:
            outlet.exchange(now_s)

    def offer(self, units: Sequence[EncodedUnit], introduction: EncodedUnit, now_s: float) -> None:
        """Queue one frame's units for every far end."""
        for outlet in self.all:
            outlet.offer(units, introduction, now_s, alone=len(self.all) == 1)

    @property
    def wanted(self) -> bool:
        """Whether anybody is there to send to."""
        return any(outlet.link.connected for outlet in self.all)

    def joining(self, now_s: float) -> bool:
        """Whether a key picture should be made for somebody who has just come, or was parked for long enough."""
        waiting = [outlet for outlet in self.all if outlet.link.connected and not outlet.joined]
        return any(now_s - outlet.parked_s >= REFRESH_EVERY_S for outlet in waiting)

    def rate_bps(self, now_s: float) -> float | None:
        """What the encoder should aim at: the most that anybody can take. None while nobody says anything."""
        rates = [
            outlet.media_bps
            for outlet in self.all
            if outlet.link.connected and (outlet.alive(now_s) or outlet.report is None)
        ]
        return max(rates, default=None)

    def stand_still(self, now_s: float) -> bool:
        """Whether every far end has more on its way than it can take, so that a frame is better left out."""
        living = [outlet for outlet in self.all if outlet.alive(now_s) or outlet.opening(now_s)]
        return bool(living) and all(outlet.holds_up(now_s) for outlet in living)

    def feedback(self, now_s: float) -> Feedback:
        """One report for the encoder, of all far ends that keep up: anchors are those that all of them hold.

        Who does not keep up must not keep the others from better anchors; it will ask for a key picture.
        """
        connected = [outlet for outlet in self.all if outlet.link.connected]
        refresh = [outlet.refresh_wanted(now_s, len(connected) == 1) for outlet in connected]
        living = [o for o in connected if o.joined and o.alive(now_s) and not o.crowded]
        held = [set(o.report.anchors) for o in living if o.report is not None]
        anchors = tuple(sorted(set.intersection(*held))) if held else ()
        last_slot = max((o.report.last_slot for o in living if o.report is not None), default=-1)
        return Feedback(
            0, last_slot=last_slot, anchors=anchors[:4], refresh=any(refresh),
            anchor_wanted=any(o.report.anchor_wanted for o in living if o.report is not None),
            loss_ratio=max((o.loss_ratio for o in living), default=0.0),
        )  # fmt: skip

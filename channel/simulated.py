"""A packet link in virtual time: repeatable, and blind to how often it is called.

    send -> queue for the link (rate or trace, bounded) -> outage? lost? -> delay, jitter, hold-back
         -> corrupt? -> duplicate? -> in flight until receive(now_s) reaches the arrival

Datagram number n draws its random numbers from a Philox generator at counter n (Salmon et al., SC 2011), so
its fate depends on seed, n, and the time it was sent, not on the pattern of calls. Losses in bursts follow
the Gilbert-Elliott model (Elliott 1963) with no loss in the good and certain loss in the bad state.
`change` makes it another link on the way: what waits then leaves at the new rate.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from channel.analog_spec import AnalogSpec
from channel.radio.spec import RadioSettings
from channel.spec import (
    ChannelSpec,
    CleanSpec,
    DatagramChannelSpec,
    Impairments,
    PacketChannelSpec,
    PacketSpec,
    TraceSpec,
)
from channel.traffic import Traffic
from common.datagram import MAX_DATAGRAM_BYTES, WIRE_OVERHEAD_BYTES
from common.errors import ChannelError, ConfigError
from common.queues import DropCounter, Drops
from common.types import Datagram

if TYPE_CHECKING:
    from channel.radio.link import RadioChannel

_MAX_IN_FLIGHT = 1 << 16
_HOLD_BACK_S = (0.020, 0.060)
_DUPLICATE_LAG_S = 0.010
_MAX_CORRUPT_BYTES = 8
_OPPORTUNITY_BYTES = MAX_DATAGRAM_BYTES + WIRE_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """Totals since the start.

    sent, sent_bytes : datagrams handed to `send`
    delivered, delivered_bytes : datagrams that `receive` returned, duplicates included
    corrupted, duplicated, reordered : datagrams to which that was done
    drops : by reason: "loss", "queue" (the link's queue was full), "outage", "overflow" (nobody receives)
    """

    sent: int
    sent_bytes: int
    delivered: int
    delivered_bytes: int
    corrupted: int
    duplicated: int
    reordered: int
    drops: Drops


class _Link(Protocol):
    """The bottleneck: says when the last bit of a datagram has left it."""

    def departure_s(self, wire_bytes: int, now_s: float, longest_wait_s: float) -> float | None:
        """Departure time, or None when the queue is full (the datagram is not taken)."""

    def backlog_s(self, now_s: float) -> float:
        """Until everything that it has taken has left."""


class _RateLink:
    """Constant capacity, which may be infinite; first in, first out."""

    def __init__(self, rate_bps: float) -> None:
        self.rate_bps = rate_bps
        self._busy_until_s = 0.0

    def departure_s(self, wire_bytes: int, now_s: float, longest_wait_s: float) -> float | None:
        start_s = max(now_s, self._busy_until_s)
        if start_s - now_s > longest_wait_s:
            return None
        self._busy_until_s = start_s + wire_bytes * 8 / self.rate_bps
        return self._busy_until_s

    def backlog_s(self, now_s: float) -> float:
        return max(0.0, self._busy_until_s - now_s)

    def change(self, rate_bps: float, now_s: float) -> float:
        """Another capacity from `now_s` on; returns by how much that stretches the time to every departure."""
        backlog_s = self.backlog_s(now_s)
        stretch = self.rate_bps / rate_bps if backlog_s else 1.0
        self.rate_bps, self._busy_until_s = rate_bps, now_s + backlog_s * stretch
        return stretch


class _TraceLink:
    """Delivery opportunities from a recording that repeats; what an idle link does not use is gone."""

    def __init__(self, opportunities_ms: tuple[int, ...]) -> None:
        self._times_ms = opportunities_ms
        self._index = -1
        self._left_bytes = 0

    def departure_s(self, wire_bytes: int, now_s: float, longest_wait_s: float) -> float | None:
        index, left = self._index, self._left_bytes
        first = self._first_at_or_after(now_s)
        if first > index:
            index, left = first, _OPPORTUNITY_BYTES
        while left < wire_bytes:
            index, left = index + 1, left + _OPPORTUNITY_BYTES
        departure_s = self._time_s(index)
        if departure_s - now_s > longest_wait_s:
            return None
        self._index, self._left_bytes = index, left - wire_bytes
        return departure_s

    def backlog_s(self, now_s: float) -> float:
        return max(0.0, self._time_s(self._index) - now_s) if self._index >= 0 else 0.0

    def _time_s(self, index: int) -> float:
        lap, position = divmod(index, len(self._times_ms))
        return (lap * self._times_ms[-1] + self._times_ms[position]) / 1000

    def _first_at_or_after(self, now_s: float) -> int:
        lap = int(now_s * 1000 // self._times_ms[-1])
        position = bisect_left(self._times_ms, now_s * 1000 - lap * self._times_ms[-1] - 1e-6)
        return lap * len(self._times_ms) + position


@dataclass(frozen=True, slots=True)
class _Dice:
    """The random numbers of one datagram, each uniform in [0, 1)."""

    loss: float
    jitter: float
    reorder: float
    hold_back: float
    duplicate: float
    lag: float
    corrupt: float


class _Flying(NamedTuple):
    """A datagram that will arrive; the first in order of arrival, then of sending.

    departure_s : when it has left the bottleneck
    delay_s : from there to the other end, jitter included
    held_s : for how much longer it is held back so that others overtake it
    """

    arrival_s: float
    number: int
    data: bytes
    departure_s: float
    delay_s: float
    held_s: float


class SimulatedChannel:
    """One direction of a simulated link; implements `common.ports.Transport`.

    spec : the channel, see `channel.spec`
    seed : same seed, same datagrams at the same times: same fate
    max_bytes : of a datagram
    overhead_bytes : what the link carries for each one besides

    Arrival times are those of the simulation, not those of the calls to `receive`.
    """

    def __init__(
        self,
        spec: PacketChannelSpec,
        seed: int,
        max_bytes: int = MAX_DATAGRAM_BYTES,
        overhead_bytes: int = WIRE_OVERHEAD_BYTES,
    ) -> None:
        self._spec = _impairments(spec)
        self._max_bytes, self._overhead_bytes = max_bytes, overhead_bytes
        self._key = np.random.SeedSequence(seed).generate_state(2, np.uint64)
        self._link = _make_link(spec)
        self._in_bad_state = False
        self._newest_arrival_s = 0.0
        self._in_flight: list[_Flying] = []
        self._entered = 0
        self._closed = False
        self._sent = self._sent_bytes = self._delivered = self._delivered_bytes = 0
        self._corrupted = self._duplicated = self._reordered = 0
        self._drops = DropCounter()

    def send(self, datagram: bytes, now_s: float, traffic: Traffic = Traffic.FRAME) -> None:
        """Put a datagram on its way; all `traffic` is alike here.

        Raises ChannelError when it is too large or the channel is closed.
        """
        if self._closed:
            raise ChannelError("the simulated channel is closed")
        if len(datagram) > self._max_bytes:
            raise ChannelError(f"datagram of {len(datagram)} bytes, at most {self._max_bytes} allowed")
        generator = self._generator(self._sent)
        self._sent += 1
        self._sent_bytes += len(datagram)
        dice = _Dice(*generator.random(7).tolist())
        reason, departure_s = self._cross(len(datagram), dice, now_s)
        if reason:
            self._drops.add(reason)
            return
        if dice.corrupt < self._spec.corrupt and datagram:
            datagram = _corrupt(datagram, generator)
            self._corrupted += 1
        delay_s, held_s = self._delays_s(dice)
        self._enter(datagram, departure_s, delay_s, held_s)
        if dice.duplicate < self._spec.duplicate:
            self._duplicated += 1
            self._enter(datagram, departure_s, delay_s, held_s + dice.lag * _DUPLICATE_LAG_S)

    def receive(self, now_s: float) -> list[Datagram]:
        """Everything that has arrived by `now_s`, in order of arrival."""
        arrived = []
        while self._in_flight and self._in_flight[0].arrival_s <= now_s:
            flying = heappop(self._in_flight)
            arrived.append(Datagram(flying.data, flying.arrival_s))
            self._delivered += 1
            self._delivered_bytes += len(flying.data)
        return arrived

    def change(self, spec: PacketChannelSpec, now_s: float) -> None:
        """Another link from `now_s` on: what waits leaves at its rate or falls into its outages.

        All else about what was sent before is settled. Raises ConfigError where either link follows a trace.
        """
        if not isinstance(self._link, _RateLink) or isinstance(spec, TraceSpec):
            raise ConfigError("a link that follows a trace cannot be changed: the trace says when it changes")
        self._spec = _impairments(spec)
        stretch = self._link.change(_rate_bps(spec), now_s)
        waiting = [flying for flying in self._in_flight if flying.departure_s > now_s]
        self._in_flight = [flying for flying in self._in_flight if flying.departure_s <= now_s]
        heapify(self._in_flight)
        self._newest_arrival_s = max((f.arrival_s for f in self._in_flight if not f.held_s), default=0.0)
        for flying in sorted(waiting, key=attrgetter("number")):
            departure_s = now_s + (flying.departure_s - now_s) * stretch
            if self._is_out(departure_s):
                self._drops.add("outage")
            else:
                self._enter(flying.data, departure_s, flying.delay_s, flying.held_s)

    def queue_s(self, now_s: float) -> float:
        """For how long a datagram sent now would wait for the link."""
        return self._link.backlog_s(now_s)

    @property
    def busy(self) -> bool:
        """Never: what has been sent is on its way or lost, and this end does not know which."""
        return False

    def next_arrival_s(self) -> float | None:
        """When the next datagram arrives, None while nothing is in flight."""
        return self._in_flight[0].arrival_s if self._in_flight else None

    def close(self) -> None:
        """Refuse further datagrams and forget those in flight."""
        self._closed = True
        self._in_flight.clear()

    @property
    def stats(self) -> ChannelStats:
        """Totals so far."""
        return ChannelStats(
            sent=self._sent,
            sent_bytes=self._sent_bytes,
            delivered=self._delivered,
            delivered_bytes=self._delivered_bytes,
            corrupted=self._corrupted,
            duplicated=self._duplicated,
            reordered=self._reordered,
            drops=self._drops.snapshot(),
        )

    def _generator(self, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, 0, number]))

    def _cross(self, size_bytes: int, dice: _Dice, now_s: float) -> tuple[str, float]:
        """(reason for its loss or "", departure time) of a datagram at the bottleneck and on the air."""
        lost = self._is_lost(dice)  # first, so that the loss process steps once per datagram whatever happens
        departure_s = self._link.departure_s(
            size_bytes + self._overhead_bytes, now_s, self._spec.queue_ms / 1000
        )
        if departure_s is None:
            return "queue", now_s
        if self._is_out(departure_s):
            return "outage", departure_s
        return ("loss" if lost else ""), departure_s

    def _is_out(self, departure_s: float) -> bool:
        return any(0 <= departure_s - o.start_s < o.duration_s for o in self._spec.outage)

    def _is_lost(self, dice: _Dice) -> bool:
        spec = self._spec
        if spec.burst == 1 or spec.loss == 0:
            return dice.loss < spec.loss
        leave_bad = 1 / spec.burst
        enter_bad = spec.loss / (spec.burst * (1 - spec.loss))
        self._in_bad_state = dice.loss >= leave_bad if self._in_bad_state else dice.loss < enter_bad
        return self._in_bad_state

    def _delays_s(self, dice: _Dice) -> tuple[float, float]:
        """(delay, for how much longer it is held back) of a datagram."""
        delay_s = max(0.0, self._spec.delay_ms + self._spec.jitter_ms * (2 * dice.jitter - 1)) / 1000
        if dice.reorder >= self._spec.reorder:
            return delay_s, 0.0
        self._reordered += 1
        shortest_s, longest_s = _HOLD_BACK_S
        return delay_s, shortest_s + dice.hold_back * (longest_s - shortest_s)

    def _enter(self, datagram: bytes, departure_s: float, delay_s: float, held_s: float) -> None:
        """Jitter alone keeps the order; a datagram held back lets others overtake it."""
        arrival_s = max(self._newest_arrival_s, departure_s + delay_s)
        if not held_s:
            self._newest_arrival_s = arrival_s
        if len(self._in_flight) >= _MAX_IN_FLIGHT:
            self._drops.add("overflow")
            return
        self._entered += 1
        flying = _Flying(arrival_s + held_s, self._entered, datagram, departure_s, delay_s, held_s)
        heappush(self._in_flight, flying)


def make_link(
    spec: ChannelSpec, seed: int
) -> tuple[SimulatedChannel | RadioChannel, SimulatedChannel | RadioChannel]:
    """(forward, backward): the same impairments on both ways, independent losses, a capacity for each.

    Raises ConfigError for a radio channel where sionna is missing, and for an analog one, which carries no datagrams.
    """
    if isinstance(spec, AnalogSpec):
        raise ConfigError("an analog channel carries pictures, not datagrams: use it with `semcast demo`")
    forward, backward = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    return _open(spec, int(forward)), _open(spec, int(backward))


def _open(spec: DatagramChannelSpec, seed: int) -> SimulatedChannel | RadioChannel:
    if not isinstance(spec, RadioSettings):
        return SimulatedChannel(spec, seed)
    from channel.radio.link import RadioChannel  # with PyTorch and, when opened, sionna

    return RadioChannel(spec, seed)


def _make_link(spec: PacketChannelSpec) -> _Link:
    if isinstance(spec, TraceSpec):
        return _TraceLink(spec.opportunities_ms)
    return _RateLink(_rate_bps(spec))


def _rate_bps(spec: CleanSpec | PacketSpec) -> float:
    rate_kbps = spec.rate_kbps if isinstance(spec, PacketSpec) else None
    return inf if rate_kbps is None else rate_kbps * 1000


def _impairments(spec: PacketChannelSpec) -> Impairments:
    return PacketSpec() if isinstance(spec, CleanSpec) else spec


def _corrupt(datagram: bytes, generator: np.random.Generator) -> bytes:
    """Change 1 to 8 bytes, each to another value."""
    data = bytearray(datagram)
    for _ in range(int(generator.integers(1, _MAX_CORRUPT_BYTES + 1))):
        data[int(generator.integers(len(data)))] ^= int(generator.integers(1, 256))
    return bytes(data)

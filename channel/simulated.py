"""A packet link in virtual time: repeatable, and blind to how often it is called.

    send -> queue for the link (rate or trace, bounded) -> outage? lost? -> delay, jitter, hold-back
         -> corrupt? -> duplicate? -> in flight until receive(now_s) reaches the arrival

Datagram number n draws its random numbers from a Philox generator at counter n (Salmon et al., SC 2011), so
its fate depends on seed, n, and the time it was sent, not on the pattern of calls. Losses in bursts follow
the Gilbert-Elliott model (Elliott 1963) with no loss in the good and certain loss in the bad state.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol

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


class _FreeLink:
    """Unlimited capacity."""

    def departure_s(self, wire_bytes: int, now_s: float, longest_wait_s: float) -> float | None:
        return now_s


class _RateLink:
    """Constant capacity, first in first out."""

    def __init__(self, rate_bps: float) -> None:
        self._rate_bps = rate_bps
        self._busy_until_s = 0.0

    def departure_s(self, wire_bytes: int, now_s: float, longest_wait_s: float) -> float | None:
        start_s = max(now_s, self._busy_until_s)
        if start_s - now_s > longest_wait_s:
            return None
        self._busy_until_s = start_s + wire_bytes * 8 / self._rate_bps
        return self._busy_until_s


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


class SimulatedChannel:
    """One direction of a simulated link; implements `common.ports.Transport`.

    spec : the channel, see `channel.spec`
    seed : same seed, same datagrams at the same times: same fate

    Arrival times are those of the simulation, not those of the calls to `receive`.
    """

    def __init__(self, spec: PacketChannelSpec, seed: int) -> None:
        self._spec: Impairments = PacketSpec() if isinstance(spec, CleanSpec) else spec
        self._key = np.random.SeedSequence(seed).generate_state(2, np.uint64)
        self._link = _make_link(spec)
        self._in_bad_state = False
        self._newest_arrival_s = 0.0
        self._in_flight: list[tuple[float, int, bytes]] = []
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
        if len(datagram) > MAX_DATAGRAM_BYTES:
            raise ChannelError(f"datagram of {len(datagram)} bytes, at most {MAX_DATAGRAM_BYTES} allowed")
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
        arrival_s = self._arrival_s(departure_s, dice)
        self._enter(arrival_s, datagram)
        if dice.duplicate < self._spec.duplicate:
            self._duplicated += 1
            self._enter(arrival_s + dice.lag * _DUPLICATE_LAG_S, datagram)

    def receive(self, now_s: float) -> list[Datagram]:
        """Everything that has arrived by `now_s`, in order of arrival."""
        arrived = []
        while self._in_flight and self._in_flight[0][0] <= now_s:
            arrival_s, _, data = heappop(self._in_flight)
            arrived.append(Datagram(data, arrival_s))
            self._delivered += 1
            self._delivered_bytes += len(data)
        return arrived

    @property
    def busy(self) -> bool:
        """Never: what has been sent is on its way or lost, and this end does not know which."""
        return False

    def next_arrival_s(self) -> float | None:
        """When the next datagram arrives, None while nothing is in flight."""
        return self._in_flight[0][0] if self._in_flight else None

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
            size_bytes + WIRE_OVERHEAD_BYTES, now_s, self._spec.queue_ms / 1000
        )
        if departure_s is None:
            return "queue", now_s
        if any(0 <= departure_s - o.start_s < o.duration_s for o in self._spec.outage):
            return "outage", departure_s
        return ("loss" if lost else ""), departure_s

    def _is_lost(self, dice: _Dice) -> bool:
        spec = self._spec
        if spec.burst == 1 or spec.loss == 0:
            return dice.loss < spec.loss
        leave_bad = 1 / spec.burst
        enter_bad = spec.loss / (spec.burst * (1 - spec.loss))
        self._in_bad_state = dice.loss >= leave_bad if self._in_bad_state else dice.loss < enter_bad
        return self._in_bad_state

    def _arrival_s(self, departure_s: float, dice: _Dice) -> float:
        """Jitter alone keeps the order; a datagram held back lets others overtake it."""
        delay_ms = self._spec.delay_ms + self._spec.jitter_ms * (2 * dice.jitter - 1)
        arrival_s = max(self._newest_arrival_s, departure_s + max(0.0, delay_ms) / 1000)
        if dice.reorder < self._spec.reorder:
            self._reordered += 1
            shortest_s, longest_s = _HOLD_BACK_S
            return arrival_s + shortest_s + dice.hold_back * (longest_s - shortest_s)
        self._newest_arrival_s = arrival_s
        return arrival_s

    def _enter(self, arrival_s: float, datagram: bytes) -> None:
        if len(self._in_flight) >= _MAX_IN_FLIGHT:
            self._drops.add("overflow")
            return
        self._entered += 1
        heappush(self._in_flight, (arrival_s, self._entered, datagram))


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
    if isinstance(spec, PacketSpec) and spec.rate_kbps is not None:
        return _RateLink(spec.rate_kbps * 1000)
    return _FreeLink()


def _corrupt(datagram: bytes, generator: np.random.Generator) -> bytes:
    """Change 1 to 8 bytes, each to another value."""
    data = bytearray(datagram)
    for _ in range(int(generator.integers(1, _MAX_CORRUPT_BYTES + 1))):
        data[int(generator.integers(len(data)))] ^= int(generator.integers(1, 256))
    return bytes(data)

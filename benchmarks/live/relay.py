"""A relay between two devices that carry IP packets: each packet crosses a simulated link, in real time.

    device of a ~ read ~> Way a: link (rate, queue) -> outage? lost? -> delay, jitter ~ write ~> device of b
    device of b ~ read ~> Way b: ...                                                  ~ write ~> device of a

One thread waits for the next packet or the next arrival, whichever is first. The links are those of
channel/simulated.py, fed with whole packets: their headers count towards the rate, nothing is added. All times are in
seconds since the relay started, so that `outage=2+0.5` begins two seconds after that.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from channel.simulated import ChannelStats, SimulatedChannel
from channel.spec import CleanSpec, Outage, PacketChannelSpec, PacketSpec, TraceSpec, parse_channel
from common.clock import Clock, SystemClock
from common.errors import ChannelError, ConfigError

Host = Literal["a", "b"]
HOSTS: tuple[Host, Host] = ("a", "b")
MTU = 1500

_SAMPLES_A_SECOND = 20
SAMPLE_S = 1 / _SAMPLES_A_SECOND
_MOST_SAMPLES = 12_000
"""Ten minutes in which something always waits."""
_READS_PER_TURN = 64
_IPV4 = 4


def packet_link(text: str) -> PacketChannelSpec:
    """A channel SPEC that a relay can be. Raises ConfigError."""
    spec = parse_channel(text)
    if not isinstance(spec, CleanSpec | PacketSpec | TraceSpec):
        raise ConfigError(f"a relay is a link `clean`, `packet:...` or `trace:...`, not `{text}`")
    return spec


@dataclass(frozen=True, slots=True)
class WayStats:
    """What one way did since the relay started.

    link : totals of its packets and bytes, headers included
    strange : packets of its host that are not IPv4; they are dropped
    refused : packets that the other host's device did not take
    queue : (end of the interval, longest time that a packet would have waited for the link in it) for each interval
        of `SAMPLE_S` in which something happened, at most the last ten minutes of them
    late_s, most_late_s : by how much the relay itself delivered later than the link did, on average and at worst
    """

    link: ChannelStats
    strange: int
    refused: int
    queue: tuple[tuple[float, float], ...]
    late_s: float
    most_late_s: float

    def most_queue_s(self, from_s: float = 0.0, to_s: float = float("inf")) -> float:
        """The longest queueing delay between two times, 0 where nothing was recorded."""
        return max((queue_s for at_s, queue_s in self.queue if from_s <= at_s <= to_s), default=0.0)


class Way:
    """One direction: takes a host's packets, gives what arrives at the other. Pure: time comes in, and only grows."""

    def __init__(self, spec: PacketChannelSpec, seed: int, mtu: int = MTU) -> None:
        self._spec = spec
        self._link = SimulatedChannel(spec, seed, max_bytes=mtu, overhead_bytes=0)
        self._queue: deque[tuple[float, float]] = deque(maxlen=_MOST_SAMPLES)
        self._strange = self._delivered = 0
        self._late_s = self._most_late_s = 0.0
        self.refused = 0

    def push(self, packet: bytes, now_s: float) -> None:
        """A packet that the host sends."""
        if not packet or packet[0] >> 4 != _IPV4:
            self._strange += 1
            return
        self.sample(now_s)
        self._link.send(packet, now_s)

    def pull(self, now_s: float) -> list[bytes]:
        """Packets that have arrived by `now_s`."""
        arrived = self._link.receive(now_s)
        for datagram in arrived:
            self._late_s += now_s - datagram.arrival_s
            self._most_late_s = max(self._most_late_s, now_s - datagram.arrival_s)
        self._delivered += len(arrived)
        return [datagram.data for datagram in arrived]

    def wake_s(self, now_s: float) -> float | None:
        """When something is to be done next, None while the way is idle."""
        arrival_s = self._link.next_arrival_s()
        if not self._link.queue_s(now_s):
            return arrival_s
        return now_s + SAMPLE_S if arrival_s is None else min(arrival_s, now_s + SAMPLE_S)

    def change(self, spec: PacketChannelSpec, now_s: float) -> None:
        """Another link from `now_s` on, see `SimulatedChannel.change`."""
        self._link.change(spec, now_s)
        self._spec = spec
        self.sample(now_s)

    def cut(self, seconds: float, now_s: float) -> None:
        """Everything that would cross in the next `seconds` is lost."""
        spec = PacketSpec() if isinstance(self._spec, CleanSpec) else self._spec
        outage = (*spec.outage, Outage(start_s=now_s, duration_s=seconds))
        self.change(spec.model_copy(update={"outage": outage}), now_s)

    def sample(self, now_s: float) -> None:
        """Note how long a packet sent now would wait."""
        end_s = (int(now_s * _SAMPLES_A_SECOND) + 1) / _SAMPLES_A_SECOND
        queue_s = self._link.queue_s(now_s)
        if self._queue and self._queue[-1][0] == end_s:
            queue_s = max(queue_s, self._queue.pop()[1])
        self._queue.append((end_s, queue_s))

    @property
    def stats(self) -> WayStats:
        """Totals so far."""
        late_s = self._late_s / max(1, self._delivered)
        return WayStats(
            self._link.stats, self._strange, self.refused, tuple(self._queue), late_s, self._most_late_s
        )


class Relay:
    """Carries packets between two devices until it is closed; a context manager that starts on entry.

    devices : non-blocking file descriptors by host; a read gives one packet, a write takes one. They stay open
    links : by the host that sends
    seed : both ways lose differently, and alike for the same seed and the same packets

    `change`, `cut` and `stats` may be called from any thread. They and `close` raise ChannelError once a device failed.
    `stats` is there after `close`, too. Python code that keeps this process busy makes the relay up to 5 ms late.
    """

    def __init__(
        self,
        devices: Mapping[Host, int],
        links: Mapping[Host, PacketChannelSpec],
        seed: int = 0,
        mtu: int = MTU,
        clock: Clock | None = None,
    ) -> None:
        self._devices, self._mtu, self._clock = dict(devices), mtu, clock or SystemClock()
        seeds = np.random.SeedSequence(seed).generate_state(2, np.uint64).tolist()
        self._ways = {host: Way(links[host], seed, mtu) for host, seed in zip(HOSTS, seeds, strict=True)}
        self._lock = threading.Lock()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._began_s = self._clock.now_s()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def now_s(self) -> float:
        """Time since the start."""
        return self._clock.now_s() - self._began_s

    def change(self, link: str, way: Host | None = None) -> None:
        """Another link at once, as a channel SPEC, for what host `way` sends, or both. Raises ConfigError."""
        spec = packet_link(link)
        self._check()
        with self._lock:
            for each in self._named(way):
                each.change(spec, self.now_s())
        os.eventfd_write(self._bell, 1)

    def cut(self, seconds: float, way: Host | None = None) -> None:
        """An outage that begins now."""
        self._check()
        with self._lock:
            for each in self._named(way):
                each.cut(seconds, self.now_s())
        os.eventfd_write(self._bell, 1)

    def stats(self, way: Host) -> WayStats:
        """Totals so far of what host `way` sent."""
        self._check()
        with self._lock:
            return self._ways[way].stats

    def close(self) -> None:
        """End the thread; what is on its way is lost. Closing twice is harmless."""
        if self._bell < 0:
            return
        with self._lock:
            self._closed = True
        os.eventfd_write(self._bell, 1)
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._bell)
        self._bell = -1
        self._check()

    def _named(self, way: Host | None) -> list[Way]:
        return list(self._ways.values()) if way is None else [self._ways[way]]

    def _check(self) -> None:
        if self._error is not None:
            raise ChannelError(f"the relay has failed: {self._error}") from self._error

    def _run(self) -> None:
        # Both ends may keep every core busy, and the relay's lateness must not be taken for the link's. In real time
        # it goes first for the little that it does; without the right to that it is as punctual as the machine is free.
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        try:
            while self._turn(self._wait()):
                pass
        except (OSError, ValueError) as error:  # ValueError: select takes no descriptor above 1023
            self._error = error

    def _wait(self) -> list[int]:
        """Until there is something to do; returns the descriptors that can be read."""
        with self._lock:
            now_s = self.now_s()
            wakes = [wake_s for way in self._ways.values() if (wake_s := way.wake_s(now_s)) is not None]
            timeout_s = max(0.0, min(wakes) - now_s) if wakes else None
        # Unlike epoll, select waits for microseconds rather than whole milliseconds.
        return select.select([self._bell, *self._devices.values()], [], [], timeout_s)[0]

    def _turn(self, readable: list[int]) -> bool:
        """Take what came and give what arrived; False once the relay is closed."""
        if self._bell in readable:
            os.eventfd_read(self._bell)
        with self._lock:
            for host, way in self._ways.items():
                if self._devices[host] in readable:
                    self._take(self._devices[host], way)
                elif way.wake_s(self.now_s()) is not None:
                    way.sample(self.now_s())
            for host, other in zip(HOSTS, reversed(HOSTS), strict=True):
                self._give(self._ways[host], self._devices[other])
            return not self._closed

    def _take(self, device: int, way: Way) -> None:
        for _ in range(_READS_PER_TURN):
            try:
                packet = os.read(device, self._mtu)
            except BlockingIOError:
                return
            way.push(packet, self.now_s())

    def _give(self, way: Way, device: int) -> None:
        for packet in way.pull(self.now_s()):
            try:
                os.write(device, packet)
            except OSError:  # full, or the interface is down: what a network card would drop too
                way.refused += 1

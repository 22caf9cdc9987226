"""One direction of a radio link in virtual time, with the interface of `channel.simulated`.

    send -> queue -> each interval: what failed again, then scheme from an old report -> blocks -> symbols
         ~ air ~ -> symbols -> blocks or erasures -> datagrams, in flight until receive(now_s) reaches the arrival

A datagram is lost when any of its blocks is given up. An interval carries what was sent before it began; what happens
in it depends on that, the seed and its number, not on the pattern of calls. Scheme and length of every block are
taken to reach the receiver (on a control channel outside the budget), as the receiver's reports reach the sender.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np

from channel.radio.fading import Dice, Stream, open_air, uses_before
from channel.radio.harq import Process, Repeats
from channel.radio.mcs import MCS_TABLE, REFERENCE_USES, McsName, McsPolicy, mcs_named
from channel.radio.phy import block_code
from channel.radio.scheduler import Block, Scheduler
from channel.radio.segments import Joiner, parse_block
from channel.radio.spec import RadioSpec
from channel.simulated import ChannelStats
from channel.traffic import Traffic
from common.datagram import MAX_DATAGRAM_BYTES
from common.errors import ChannelError
from common.queues import DropCounter
from common.types import Datagram

_MAX_IN_FLIGHT = 1 << 16
_HOPELESS_DB = MCS_TABLE[0].threshold_db(REFERENCE_USES) - 3
"""Reported SNR at which a sender waits: not even two copies of the most robust block would get through."""
_ROUNDING = 1e-6
"""Of an interval: a time this close to its beginning is its beginning."""


@dataclass(frozen=True, slots=True)
class RadioStats(ChannelStats):
    """Totals since the start; drops: "radio" (a block failed), "queue" (waited too long), "overflow".

    blocks, failed_blocks : sent, and of those the ones whose CRC failed, those that were sent again included
    uses : channel uses spent, pilots included
    offered_uses : channel uses of all intervals so far
    uses_by_traffic : spent on each kind of datagram, and on "pilots"
    blocks_by_mcs : (scheme, blocks, failed)
    """

    blocks: int
    failed_blocks: int
    uses: int
    offered_uses: int
    uses_by_traffic: tuple[tuple[str, int], ...]
    blocks_by_mcs: tuple[tuple[McsName, int, int], ...]

    def cbr(self, pixels: int) -> float:
        """Channel bandwidth ratio, uses / (3 H W), for so many pixels (H W, times frames)."""
        return self.uses / (3 * pixels)


class RadioChannel:
    """One direction of a radio link; implements `common.ports.Transport`.

    spec : the channel, see `channel.radio.spec`
    seed : same seed, same datagrams at the same times: same fate

    Raises ConfigError where sionna is missing.
    """

    def __init__(self, spec: RadioSpec, seed: int) -> None:
        self._spec = spec
        self._tti_s = spec.tti_ms / 1000
        self._air = open_air(spec, seed)
        self._dice = Dice(seed)
        fixed = None if spec.mcs == "adaptive" else mcs_named(spec.mcs)
        self._scheduler = Scheduler(
            McsPolicy(fixed, spec.margin_db, spec.protect_db), queue_s=spec.queue_ms / 1000
        )
        self._repeats = Repeats(spec.harq, spec.report_age - 1)
        self._joiner = Joiner()
        self._next_interval = 0
        self._in_flight: deque[Datagram] = deque()
        self._closed = False
        self._counts: Counter[str] = Counter()
        self._uses: Counter[str] = Counter()
        self._blocks: Counter[tuple[McsName, bool]] = Counter()
        self._drops = DropCounter()

    def send(self, datagram: bytes, now_s: float, traffic: Traffic = Traffic.FRAME) -> None:
        """Queue a datagram. Raises ChannelError when it is empty, too large, or the channel is closed."""
        if self._closed:
            raise ChannelError("the radio channel is closed")
        if not 1 <= len(datagram) <= MAX_DATAGRAM_BYTES:
            raise ChannelError(f"datagram of {len(datagram)} bytes, 1 to {MAX_DATAGRAM_BYTES} allowed")
        self._run_before(ceil(now_s / self._tti_s - _ROUNDING))
        queued = self._scheduler.push(self._counts["sent"], datagram, traffic, now_s)
        self._counts.update(sent=1, sent_bytes=len(datagram))
        if not queued:
            self._drops.add("overflow")

    def receive(self, now_s: float) -> list[Datagram]:
        """Everything that has arrived by `now_s`, in order of arrival."""
        self._run_before(floor((now_s - self._spec.delay_ms / 1000) / self._tti_s + _ROUNDING))
        arrived = []
        while self._in_flight and self._in_flight[0].arrival_s <= now_s:
            arrived.append(self._in_flight.popleft())
        self._counts.update(delivered=len(arrived), delivered_bytes=sum(len(d.data) for d in arrived))
        return arrived

    def next_arrival_s(self) -> float | None:
        """When the next datagram arrives, None while all still wait to be sent."""
        return self._in_flight[0].arrival_s if self._in_flight else None

    def close(self) -> None:
        """Refuse further datagrams and forget those on their way."""
        self._closed = True
        self._in_flight.clear()
        self._scheduler.clear()
        self._repeats.clear()

    @property
    def busy(self) -> bool:
        """Whether anything has not been sent yet, or is to be sent again: nothing of that is lost."""
        return bool(self._scheduler) or bool(self._repeats)

    @property
    def stats(self) -> RadioStats:
        """Totals so far."""
        counts, names = self._counts, {name for name, _ in self._blocks}
        by_mcs = tuple(
            (name, self._blocks[name, True] + self._blocks[name, False], self._blocks[name, False])
            for name in sorted(names)
        )
        return RadioStats(
            sent=counts["sent"],
            sent_bytes=counts["sent_bytes"],
            delivered=counts["delivered"],
            delivered_bytes=counts["delivered_bytes"],
            corrupted=0,
            duplicated=0,
            reordered=0,
            drops=self._drops.snapshot(),
            blocks=sum(blocks for _, blocks, _ in by_mcs),
            failed_blocks=sum(failed for _, _, failed in by_mcs),
            uses=sum(self._uses.values()),
            offered_uses=uses_before(self._spec, self._next_interval),
            uses_by_traffic=tuple(sorted(self._uses.items())),
            blocks_by_mcs=by_mcs,
        )

    def _run_before(self, interval: int) -> None:
        """Let all intervals before this one pass."""
        while self.busy and self._next_interval < interval:
            self._run(self._next_interval)
            self._next_interval += 1
        self._next_interval = max(self._next_interval, interval)

    def _run(self, interval: int) -> None:
        start_s = interval * self._tti_s
        self._drops.add("queue", self._scheduler.drop_late(start_s))
        report_db = self._report_db(interval)
        if report_db is not None and report_db < _HOPELESS_DB:
            return
        room = self._room(interval)
        processes = self._repeats.due(interval, room)
        left = room - sum(process.block.uses for process in processes)
        blocks = self._scheduler.blocks(left, report_db, self._air.data_uses(interval))
        processes += [self._repeats.begin(block) for block in blocks]
        if not processes:
            return
        self._uses["pilots"] += self._air.pilot_uses(interval)
        for process, payload in zip(processes, self._transmit(interval, processes), strict=True):
            self._book(process.block, payload is not None)
            if not self._repeats.judge(process, payload, interval):
                self._give_up(process.block)
        arrival_s = start_s + self._tti_s + self._spec.delay_ms / 1000
        for payload in self._repeats.released():
            self._take_in(payload, arrival_s)

    def _room(self, interval: int) -> int:
        """Channel uses for blocks in an interval, none where all that may be spent is spent."""
        room, limit = self._air.data_uses(interval), self._spec.limit_uses
        if limit is None:
            return room
        return max(0, min(room, limit - sum(self._uses.values()) - self._air.pilot_uses(interval)))

    def _report_db(self, interval: int) -> float | None:
        """The newest SNR report that the sender has when an interval begins, None before the first."""
        about = interval - self._spec.report_age
        if about < 0 or self._spec.mcs != "adaptive":
            return None
        error_db = self._dice.generator(Stream.REPORT, about).standard_normal() * self._spec.report_noise_db
        return self._air.snr_db(about) + float(error_db)

    def _transmit(self, interval: int, processes: Sequence[Process]) -> list[bytes | None]:
        """What the receiver gets of each block."""
        symbols = np.zeros(self._air.data_uses(interval), np.complex64)
        ends = np.cumsum([process.block.uses for process in processes])
        places = [slice(end - p.block.uses, end) for end, p in zip(ends, processes, strict=True)]
        for place, process in zip(places, processes, strict=True):
            block = process.block
            symbols[place] = block_code(block.mcs, block.uses).encode([block.payload])[0]
        heard = self._air.carry(interval, symbols)
        return [process.decode(heard, place) for place, process in zip(places, processes, strict=True)]

    def _book(self, block: Block, good: bool) -> None:
        self._blocks[block.mcs.name, good] += 1
        total_bytes = sum(size for _, size in block.content)
        left, left_bytes = block.uses, total_bytes
        for entry, size in block.content:
            share = left * size // left_bytes
            self._uses[entry.traffic.value] += share
            left, left_bytes = left - share, left_bytes - size

    def _give_up(self, block: Block) -> None:
        for entry, _ in block.content:
            if not entry.lost:
                entry.lost = True
                self._drops.add("radio")

    def _take_in(self, payload: bytes, arrival_s: float) -> None:
        for segment in parse_block(payload):
            datagram = self._joiner.push(segment)
            if datagram is None:
                continue
            if len(self._in_flight) >= _MAX_IN_FLIGHT:
                self._drops.add("overflow")
            else:
                self._in_flight.append(Datagram(datagram, arrival_s))

"""Units in, datagrams out: priorities, aggregation, protection, pacing, retransmission.

    push(units) -> cut -> urgent   CONFIG, then FRAME: leave at once, or after at most `hold_ms` of company
                          later    copies and repair symbols of the above, a little later
                          residual after the frames, unless far in debt
                          anchor   trickles with the rate that is left over
    on_feedback -> resend          before everything else, at most `retransmit_share` of the rate
    poll(now_s) -> up to as many datagrams of at most 1200 bytes as these need

Only the fields of `EncodedUnit` are looked at, never inside `data`. A token bucket at `rate_bps` counts
every byte that leaves; urgent pieces may put it in debt, anchors leave only while it is positive. Anchor
pieces ride in datagrams that leave anyway, and travel alone only when nothing else has left for `idle_ms`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from channel.composer import Builder, Composer
from channel.flight import Flight
from channel.history import SentHistory
from channel.pacing import TokenBucket
from channel.pieces import Account, Cutting, Piece, cut_unit
from channel.traffic import Traffic
from channel.waiting import PieceQueue
from common.datagram import HEADER_BYTES, MAX_DATAGRAM_BYTES, MAX_UNIT_BYTES, SEQ_MODULUS, pack_datagram
from common.queues import DropCounter, Drops
from common.types import EncodedUnit, Feedback, UnitKind

_PROBES = 2
"""During a run of losses everything is sent again so often, to find its end soon."""

_TIME_TOLERANCE_S = 1e-6
"""A poll at the very instant of a deadline must count as reaching it."""


class PacketiserConfig(BaseModel):
    """Settings of the sending end of a packet channel.

    rate_bps : target for all bytes handed to the transport
    hold_ms : how long a frame unit may wait for company in its datagram (adds to the latency)
    max_datagram_bytes : largest datagram
    repair_ratio : RaptorQ repair symbols per source symbol of protected units, 0 switches protection off
    copy_limit_bytes : protected units up to this size are sent twice instead
    repair_delay_ms : how much later copies and repair symbols leave
    anchor_piece_ms : link time that one anchor piece may take at `rate_bps`
    idle_ms : silence after which anchor, copy and repair pieces get a datagram of their own
    burst_ms : how much unused rate can be saved up
    retransmit_share : part of `rate_bps` that retransmissions may use
    retransmit_burst_ms : how much of that part can be saved up
    retransmit_overdraft_ms : how much of the whole rate frames that are sent again may use beyond that
    probe_ms : pause between the copies of what is sent again during a run of losses
    retransmit_window_ms : age after which nothing is sent again
    residual_debt_ms : a residual waits while frames have overdrawn the rate by more than this
    residual_max_age_ms : a residual older than this is dropped
    max_queue_bytes : bound of each queue
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate_bps: float = Field(24_000, gt=0)
    hold_ms: float = Field(0, ge=0, le=1000)
    max_datagram_bytes: int = Field(MAX_DATAGRAM_BYTES, ge=256, le=MAX_DATAGRAM_BYTES)
    repair_ratio: float = Field(0.2, ge=0, le=2)
    copy_limit_bytes: int = Field(256, ge=0)
    repair_delay_ms: float = Field(30, ge=0)
    anchor_piece_ms: float = Field(40, gt=0)
    idle_ms: float = Field(50, ge=0)
    burst_ms: float = Field(200, ge=0)
    retransmit_share: float = Field(0.3, ge=0, le=1)
    retransmit_burst_ms: float = Field(3000, ge=0)
    retransmit_overdraft_ms: float = Field(1500, ge=0)
    probe_ms: float = Field(15, ge=0)
    retransmit_window_ms: float = Field(1000, ge=0)
    residual_debt_ms: float = Field(500, ge=0)
    residual_max_age_ms: float = Field(200, ge=0)
    max_queue_bytes: int = Field(2 * MAX_UNIT_BYTES, ge=MAX_DATAGRAM_BYTES)


@dataclass(frozen=True, slots=True)
class PacketiserStats:
    """Totals since the start; the bytes add up to everything `poll` returned.

    header_bytes : datagram and record headers
    fec_bytes : copies and repair symbols
    retransmission_bytes : whatever was sent again
    anchor_backlog_bytes : anchor bytes that still wait
    drops : units, pieces or requests given up, by reason
    """

    datagrams: int
    total_bytes: int
    header_bytes: int
    frame_bytes: int
    anchor_bytes: int
    config_bytes: int
    residual_bytes: int
    fec_bytes: int
    retransmission_bytes: int
    anchor_backlog_bytes: int
    drops: Drops


class Packetiser:
    """The sending end of a packet channel. Pure: time comes in, bytes come out."""

    def __init__(self, config: PacketiserConfig) -> None:
        self._config = config
        self._bucket = TokenBucket(config.rate_bps, config.burst_ms / 1000, MAX_DATAGRAM_BYTES)
        self._resend_bucket = TokenBucket(
            config.rate_bps * config.retransmit_share, config.retransmit_burst_ms / 1000, MAX_DATAGRAM_BYTES
        )
        self._urgent, self._later, self._residual, self._anchor, self._resend = (
            PieceQueue(config.max_queue_bytes) for _ in range(5)
        )
        self._history = SentHistory(config.retransmit_window_ms / 1000)
        self._flight = Flight(config.rate_bps)
        self._next_seq = 0
        self._next_unit_id = 0
        self._last_sent_s = float("-inf")
        self._good_slot = -1
        self._key_slot = -1
        self._anchor_slot = -1
        self._bytes: Counter[Account] = Counter()
        self._datagrams = 0
        self._total_bytes = 0
        self._drops = DropCounter()

    def set_rate_bps(self, rate_bps: float) -> None:
        """Follow a new target. Raises ValueError unless it is positive."""
        if not rate_bps > 0:
            raise ValueError(f"rate must be positive, not {rate_bps}")
        self._config = self._config.model_copy(update={"rate_bps": rate_bps})
        self._bucket.rate_bps = self._flight.rate_bps = rate_bps
        self._resend_bucket.rate_bps = rate_bps * self._config.retransmit_share

    def set_repair_ratio(self, ratio: float) -> None:
        """Protect what is pushed from now on more, or less: as many repair symbols per source symbol."""
        self._config = self._config.model_copy(update={"repair_ratio": ratio})

    def set_hold_ms(self, hold_ms: float) -> None:
        """Let frame units wait for company for so long: on a narrow link headers cost more than the wait."""
        self._config = self._config.model_copy(update={"hold_ms": hold_ms})

    @property
    def hold_ms(self) -> float:
        """How long frame units wait for company now."""
        return self._config.hold_ms

    def round_trip_s(self) -> float | None:
        """What the last report says of the newest datagram it names, queues included; None where it names no new one."""
        return self._flight.sample_s

    def waiting_s(self, now_s: float) -> float | None:
        """For how long the oldest datagram that no report has named has been on its way; None where there is none."""
        return self._flight.waiting_s(now_s)

    def push(self, units: Sequence[EncodedUnit], now_s: float) -> None:
        """Queue the units of one frame (or any others) for the next polls.

        Drop reasons: "unit_size" (empty or above MAX_UNIT_BYTES), "anchor_superseded", "anchor_given_up", "queue_full".
        """
        for unit in units:
            if not 1 <= len(unit.data) <= MAX_UNIT_BYTES:
                self._drops.add("unit_size")
            elif unit.kind != UnitKind.ANCHOR:
                self._push_prompt(unit, now_s)
            elif unit.slot < self._anchor_slot:
                self._drops.add("anchor_superseded")
            else:
                self._push_anchor(unit, now_s)

    def poll(self, now_s: float) -> list[bytes]:
        """The datagrams that have to leave now, most urgent first. Call at least once per frame."""
        return [datagram for datagram, _ in self.poll_with_traffic(now_s)]

    def poll_with_traffic(self, now_s: float) -> list[tuple[bytes, Traffic]]:
        """As `poll`, and what each datagram carries, for a link that tells them apart."""
        self._bucket.refill(now_s)
        self._resend_bucket.refill(now_s)
        self._history.forget_old(now_s)
        composer = Composer(self._config.max_datagram_bytes)
        self._place_resends(composer, now_s)
        if self._prompt_due(now_s):
            self._place_urgent(composer)
            self._place_residuals(composer, now_s)
        self._place_later(composer, now_s)
        self._place_anchors(composer, now_s)
        return [(self._seal(builder, now_s), builder.traffic) for builder in composer.builders]

    def on_feedback(self, feedback: Feedback, now_s: float, link_busy: bool = False) -> None:
        """Queue again what the receiver misses and can still use.

        link_busy : the link itself still holds some of what was sent, so that silence is no sign of loss
        """
        self._good_slot = feedback.last_slot
        self._history.forget_old(now_s)
        for seq in feedback.missing:
            self._send_again(seq, [now_s], feedback.sequence)
        copies_s = [now_s + copy * self._config.probe_ms / 1000 for copy in range(_PROBES)]
        for seq in self._flight.reported(feedback.highest_seq, now_s, patient=link_busy):
            self._send_again(seq, copies_s)

    def _send_again(self, seq: int, times_s: Sequence[float], echo: int | None = None) -> None:
        """Queue what datagram `seq` held, and the receiver still needs, once for each of `times_s`.

        echo : number of the report that asked for it, None where none did
        """
        waiting = {entry.piece for entry in self._resend.items}
        for piece in self._history.take(seq):
            if piece in waiting or (piece.protection is not None and not piece.protection.lose()):
                continue
            wanted_s = times_s if piece.protection is None else times_s[:1]  # its repairs are copies enough
            if self._useful(piece) and not self._resend.offer(((time_s, piece) for time_s in wanted_s), echo):
                self._drops.add("queue_full")

    @property
    def stats(self) -> PacketiserStats:
        """Totals so far."""
        booked = {f"{account.value}_bytes": self._bytes[account] for account in Account}
        return PacketiserStats(
            datagrams=self._datagrams,
            total_bytes=self._total_bytes,
            header_bytes=self._total_bytes - sum(booked.values()),
            anchor_backlog_bytes=self._anchor.size_bytes,
            drops=self._drops.snapshot(),
            **booked,
        )

    def _push_prompt(self, unit: EncodedUnit, now_s: float) -> None:
        cut = cut_unit(unit, self._new_unit_id(), self._cutting())
        queue = self._residual if unit.kind == UnitKind.RESIDUAL else self._urgent
        if not queue.offer((now_s, piece) for piece in cut.now):
            self._drops.add("queue_full")
            return
        step_s = self._config.repair_delay_ms / 1000
        if not self._later.offer((now_s + (i + 1) * step_s, piece) for i, piece in enumerate(cut.later)):
            self._drops.add("queue_full")
        if unit.kind == UnitKind.FRAME and unit.key:
            self._key_slot = max(self._key_slot, unit.slot)
        if unit.ends_anchors:
            self._end_anchors(unit.slot)

    def _end_anchors(self, slot: int) -> None:
        """Of anchors that show a frame before this one nothing more is sent, nor sent again."""
        self._anchor_slot = max(self._anchor_slot, slot)
        kept = [entry for entry in self._anchor.items if entry.piece.slot >= slot]
        self._drops.add(
            "anchor_given_up", len({e.piece.slot for e in self._anchor.items if e.piece.slot < slot})
        )
        self._anchor.keep(kept)

    def _push_anchor(self, unit: EncodedUnit, now_s: float) -> None:
        """A newer anchor replaces whatever of older ones still waits."""
        self._anchor_slot = unit.slot
        current = [entry for entry in self._anchor.items if entry.piece.slot == unit.slot]
        self._drops.add("anchor_superseded", len({e.piece.slot for e in self._anchor.items} - {unit.slot}))
        self._anchor.keep(current)
        cut = cut_unit(unit, self._new_unit_id(), self._cutting())
        if not self._anchor.offer((now_s, piece) for piece in cut.now + cut.later):
            self._drops.add("queue_full")

    def _cutting(self) -> Cutting:
        config = self._config
        piece_bytes = int(config.rate_bps / 8 * config.anchor_piece_ms / 1000)
        return Cutting(config.max_datagram_bytes, config.repair_ratio, config.copy_limit_bytes, piece_bytes)

    def _new_unit_id(self) -> int:
        self._next_unit_id = (self._next_unit_id + 1) % SEQ_MODULUS
        return self._next_unit_id

    def _prompt_due(self, now_s: float) -> bool:
        """Whether the oldest urgent piece has waited long enough, or there is a datagram full of them."""
        waiting = [queue.items[0].since_s for queue in (self._urgent, self._residual) if queue]
        full = self._urgent.size_bytes >= self._config.max_datagram_bytes - HEADER_BYTES
        hold_s = 0.0 if self._flight.silent else self._config.hold_ms / 1000  # company would be lost as well
        return bool(waiting) and (full or self._reached(min(waiting) + hold_s, now_s))

    def _place_resends(self, composer: Composer, now_s: float) -> None:
        waiting = []
        for entry in sorted(
            self._resend.items, key=lambda entry: (entry.piece.kind == UnitKind.ANCHOR, entry.since_s)
        ):
            if now_s - entry.since_s > self._config.retransmit_window_ms / 1000:
                self._drops.add("resend_late")
            elif not self._reached(entry.since_s, now_s) or not self._may_resend(entry.piece):
                waiting.append(entry)
            elif self._useful(entry.piece):
                builder = composer.place(entry.piece)
                builder.resent.append(entry.piece)
                builder.echo = entry.echo if builder.echo is None else builder.echo
                self._resend_bucket.spend(entry.piece.wire_bytes)
        self._resend.keep(waiting)

    def _may_resend(self, piece: Piece) -> bool:
        """Whether there is rate for it. Frames may overdraw: until they arrive the picture stands still."""
        overdraft = 0.0 if piece.kind == UnitKind.ANCHOR else self._config.retransmit_overdraft_ms
        return self._resend_bucket.level_bytes > -self._config.rate_bps / 8 * overdraft / 1000

    def _place_urgent(self, composer: Composer) -> None:
        for entry in sorted(self._urgent.items, key=lambda entry: entry.piece.kind):
            composer.place(entry.piece)
        self._urgent.keep(())

    def _place_residuals(self, composer: Composer, now_s: float) -> None:
        floor = -self._config.rate_bps / 8 * self._config.residual_debt_ms / 1000
        while self._residual:
            if now_s - self._residual.items[0].since_s > self._config.residual_max_age_ms / 1000:
                self._residual.pop()
                self._drops.add("residual_late")
            elif self._bucket.level_bytes - composer.total_bytes >= floor:
                composer.place(self._residual.pop().piece)
            else:
                return

    def _place_later(self, composer: Composer, now_s: float) -> None:
        """Copies and repair symbols whose time has come, with other datagrams if there are any soon."""
        patience_s = 0.0 if composer.builders else self._config.idle_ms / 1000
        waiting = []
        for entry in self._later.items:
            if not self._reached(entry.since_s + patience_s, now_s):
                waiting.append(entry)
            elif self._useful(entry.piece):
                composer.place(entry.piece)
        self._later.keep(waiting)

    def _place_anchors(self, composer: Composer, now_s: float) -> None:
        idle = self._reached(self._last_sent_s + self._config.idle_ms / 1000, now_s)
        if not composer.builders and not idle:
            return
        while self._anchor and self._bucket.level_bytes - composer.total_bytes > 0:
            composer.place(self._anchor.pop().piece)

    def _useful(self, piece: Piece) -> bool:
        """Whether the receiver can still make something of a piece that it missed."""
        if piece.kind == UnitKind.FRAME:
            return piece.slot > self._good_slot and piece.slot >= self._key_slot
        return piece.kind != UnitKind.ANCHOR or piece.slot >= self._anchor_slot

    def _seal(self, builder: Builder, now_s: float) -> bytes:
        seq = self._next_seq
        self._next_seq = (seq + 1) % SEQ_MODULUS
        datagram = pack_datagram(seq, [piece.record for piece in builder.pieces], builder.echo)
        self._history.remember(seq, builder.pieces, now_s)
        self._flight.sent(seq, len(datagram), now_s)
        self._bucket.spend(len(datagram))
        self._last_sent_s = now_s
        self._datagrams += 1
        self._total_bytes += len(datagram)
        for piece in builder.pieces:
            account = Account.RETRANSMISSION if piece in builder.resent else piece.account
            self._bytes[account] += piece.payload_bytes
        return datagram

    @staticmethod
    def _reached(deadline_s: float, now_s: float) -> bool:
        return now_s >= deadline_s - _TIME_TOLERANCE_S

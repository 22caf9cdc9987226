"""The bytes of a datagram and of the feedback report. No other file knows these offsets.

    datagram (at most 1200 bytes)
        0     version 1 (high nibble) | flags (low nibble)
        1..2  sequence number, big endian
        3..4  CRC-16/CCITT over everything else
        5..   records
    flags
        bit 0     the body is one whole unit, without any record header
        bit 1     carries something sent again; bits 2..3 echo the number (mod 4) of the report that asked
    record
        1..223        whole unit of that many bytes
        224..227, b   whole unit of 224 + 256 * (first - 224) + b bytes
        240           fragment: unit id (2 bytes), varint index, varint count, varint length, bytes
        241           RaptorQ symbol: block id (2 bytes), varint transfer length, varint symbol number,
                      varint symbol length / 8, bytes

    feedback report
        0     0xA (high nibble) | flags: bit 0 refresh, bit 1 `highest_seq` is known, bit 2 an anchor is wanted
        1..2  report number, big endian
        3..4  CRC-16/CCITT over everything else
        5..6  highest sequence number
        7     loss ratio * 255
        8     number of missing * 5 + number of anchors
        9..   varints: bytes/s received, last slot + 1, milliseconds for which the highest has been here, missing
              (distance below the highest), anchors

A frame unit of 60-120 bytes alone in its datagram costs 5 bytes of header. Varints are LEB128, shortest form
only. Both parsers raise BitstreamError on anything malformed; no field is trusted before it is checked, and
nothing larger than the input is ever allocated.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.errors import BitstreamError
from common.fec import SYMBOL_ALIGNMENT, FecSymbol, check_symbol
from common.types import Feedback

MAX_DATAGRAM_BYTES = 1200
HEADER_BYTES = 5
WIRE_OVERHEAD_BYTES = 28
"""IPv4 and UDP headers that each datagram costs on the wire."""

MAX_UNIT_BYTES = 256 * 1024
"""Largest unit that may be cut in fragments or symbols."""

MAX_FRAGMENTS = 4096
MAX_MISSING = 32
MAX_ANCHORS = 4
SEQ_MODULUS = 1 << 16

_VERSION = 1
_FEEDBACK_VERSION = 0xA
_FLAG_SINGLE = 1
_FLAG_RESENT = 2
_FLAG_REFRESH = 1
_FLAG_HIGHEST = 2
_FLAG_ANCHOR = 4
_SHORT_MAX = 223
_LONG_FIRST, _LONG_LAST = 224, 227
_FRAGMENT = 240
_SYMBOL = 241
_UINT32_MAX = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class WholeUnit:
    """A unit in one piece, 1..1194 bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Fragment:
    """Piece `index` (0-based) of the `count` (2..MAX_FRAGMENTS) that make the unit `unit_id` (mod 2**16)."""

    unit_id: int
    index: int
    count: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FecPiece:
    """One RaptorQ symbol of the unit `block_id` (mod 2**16)."""

    block_id: int
    symbol: FecSymbol


Record = WholeUnit | Fragment | FecPiece


@dataclass(frozen=True, slots=True)
class ParsedDatagram:
    """What a datagram says.

    seq : sequence number, 0..65535
    records : in the order sent, at least one
    echo : report number modulo 4 whose request this datagram answers, None for first transmissions
    """

    seq: int
    records: tuple[Record, ...]
    echo: int | None = None


def record_bytes(record: Record) -> int:
    """Bytes that `record` takes in a datagram, its header included."""
    return len(_record_head(record)) + payload_bytes(record)


def payload_bytes(record: Record) -> int:
    """Bytes of unit or symbol in `record`, without its header."""
    return len(record.symbol.data if isinstance(record, FecPiece) else record.data)


def pack_datagram(seq: int, records: Sequence[Record], echo: int | None = None) -> bytes:
    """Bytes of one datagram; `seq` and `echo` are taken modulo 2**16 and 4.

    Raises ValueError when there are no records, an empty one, or more than fits MAX_DATAGRAM_BYTES.
    """
    if not records or not all(payload_bytes(record) for record in records):
        raise ValueError("a datagram needs records, and each needs bytes")
    flags = 0 if echo is None else _FLAG_RESENT | (echo & 3) << 2
    first = records[0]
    if len(records) == 1 and isinstance(first, WholeUnit):
        flags, body = flags | _FLAG_SINGLE, first.data
    else:
        body = b"".join(_record_head(record) + _record_body(record) for record in records)
    if HEADER_BYTES + len(body) > MAX_DATAGRAM_BYTES:
        raise ValueError(f"a datagram of {HEADER_BYTES + len(body)} bytes cannot be sent")
    return _seal(_VERSION << 4 | flags, seq, body)


def parse_datagram(data: bytes) -> ParsedDatagram:
    """Read one datagram. Raises BitstreamError for anything that `pack_datagram` cannot have written."""
    if len(data) > MAX_DATAGRAM_BYTES:
        raise BitstreamError(f"datagram of {len(data)} bytes, at most {MAX_DATAGRAM_BYTES} allowed")
    flags, seq = _open(data, _VERSION, "datagram")
    echo = flags >> 2 if flags & _FLAG_RESENT else None
    if echo is None and flags >> 2:
        raise BitstreamError("datagram echoes a report but carries nothing sent again")
    if len(data) == HEADER_BYTES:
        raise BitstreamError("datagram without records")
    if flags & _FLAG_SINGLE:
        return ParsedDatagram(seq, (WholeUnit(data[HEADER_BYTES:]),), echo)
    reader = _Reader(data, HEADER_BYTES)
    records = []
    while not reader.at_end:
        records.append(_read_record(reader))
    return ParsedDatagram(seq, tuple(records), echo)


def pack_feedback(feedback: Feedback) -> bytes:
    """Bytes of one report, about 12-20. The loss ratio is rounded to 1/255, the rate to 8 bit/s.

    Raises ValueError when a field is out of range or `missing` is set without `highest_seq`.
    """
    _check_feedback(feedback)
    known = feedback.highest_seq >= 0
    highest = feedback.highest_seq % SEQ_MODULUS if known else 0
    flags = _FLAG_REFRESH * feedback.refresh | _FLAG_HIGHEST * known | _FLAG_ANCHOR * feedback.anchor_wanted
    fixed = highest.to_bytes(2, "big") + bytes(
        [round(feedback.loss_ratio * 255), len(feedback.missing) * (MAX_ANCHORS + 1) + len(feedback.anchors)]
    )
    numbers = [round(feedback.received_bps / 8), feedback.last_slot + 1, feedback.held_ms]
    numbers += [(highest - seq) % SEQ_MODULUS for seq in feedback.missing]
    numbers += feedback.anchors
    return _seal(_FEEDBACK_VERSION << 4 | flags, feedback.sequence, fixed + _varints(numbers))


def parse_feedback(data: bytes) -> Feedback:
    """Read one report. Raises BitstreamError for anything that `pack_feedback` cannot have written."""
    flags, sequence = _open(data, _FEEDBACK_VERSION, "feedback report")
    reader = _Reader(data, HEADER_BYTES)
    if flags & ~(_FLAG_REFRESH | _FLAG_HIGHEST | _FLAG_ANCHOR):
        raise BitstreamError("feedback report with unknown flags")
    highest = int.from_bytes(reader.take(2), "big")
    loss_byte, counts = reader.take(2)
    missing_count, anchor_count = divmod(counts, MAX_ANCHORS + 1)
    known = bool(flags & _FLAG_HIGHEST)
    if missing_count > MAX_MISSING or (not known and (highest or missing_count)):
        raise BitstreamError("feedback report with impossible counts")
    feedback = Feedback(
        sequence=sequence,
        highest_seq=highest if known else -1,
        received_bps=reader.varint(_UINT32_MAX) * 8.0,
        last_slot=reader.varint(_UINT32_MAX) - 1,
        held_ms=reader.varint(_UINT32_MAX),
        missing=tuple((highest - reader.varint(SEQ_MODULUS - 1)) % SEQ_MODULUS for _ in range(missing_count)),
        anchors=tuple(reader.varint(_UINT32_MAX) for _ in range(anchor_count)),
        loss_ratio=loss_byte / 255,
        refresh=bool(flags & _FLAG_REFRESH),
        anchor_wanted=bool(flags & _FLAG_ANCHOR),
    )
    if not reader.at_end:
        raise BitstreamError("feedback report with bytes left over")
    return feedback


def is_feedback(data: bytes) -> bool:
    """Whether `data` claims to be a report (not whether it is sound)."""
    return bool(data) and data[0] >> 4 == _FEEDBACK_VERSION


class _Reader:
    """Walks over received bytes; every step is checked against what is there."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._at = start

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise BitstreamError("record is cut short")
        self._at += count
        return self._data[self._at - count : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self, maximum: int) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if value > maximum or (byte == 0 and shift > 7) or shift > 35:
                raise BitstreamError("number is out of range or not in its shortest form")
            if byte < 0x80:
                return value


def _read_record(reader: _Reader) -> Record:
    lead = reader.byte()
    if 1 <= lead <= _SHORT_MAX:
        return WholeUnit(reader.take(lead))
    if _LONG_FIRST <= lead <= _LONG_LAST:
        return WholeUnit(reader.take(_LONG_FIRST + (lead - _LONG_FIRST) * 256 + reader.byte()))
    if lead == _FRAGMENT:
        return _read_fragment(reader)
    if lead == _SYMBOL:
        return _read_symbol(reader)
    raise BitstreamError(f"unknown record type {lead}")


def _read_fragment(reader: _Reader) -> Fragment:
    unit_id = int.from_bytes(reader.take(2), "big")
    index, count = reader.varint(MAX_FRAGMENTS - 1), reader.varint(MAX_FRAGMENTS)
    length = reader.varint(MAX_DATAGRAM_BYTES)
    if count < 2 or index >= count or length == 0:
        raise BitstreamError(f"fragment {index} of {count} with {length} bytes is impossible")
    return Fragment(unit_id, index, count, reader.take(length))


def _read_symbol(reader: _Reader) -> FecPiece:
    block_id = int.from_bytes(reader.take(2), "big")
    transfer_bytes, esi = reader.varint(MAX_UNIT_BYTES), reader.varint(SEQ_MODULUS - 1)
    symbol_bytes = reader.varint(MAX_DATAGRAM_BYTES // SYMBOL_ALIGNMENT) * SYMBOL_ALIGNMENT
    check_symbol(transfer_bytes, symbol_bytes, esi)
    return FecPiece(block_id, FecSymbol(transfer_bytes, esi, reader.take(symbol_bytes)))


def _record_head(record: Record) -> bytes:
    if isinstance(record, WholeUnit):
        length = len(record.data)
        if length <= _SHORT_MAX:
            return bytes([length])
        high, low = divmod(length - _LONG_FIRST, 256)
        return bytes([_LONG_FIRST + min(high, _LONG_LAST - _LONG_FIRST), low])
    if isinstance(record, Fragment):
        head = bytes([_FRAGMENT]) + record.unit_id.to_bytes(2, "big")
        return head + _varints((record.index, record.count, len(record.data)))
    symbol = record.symbol
    head = bytes([_SYMBOL]) + record.block_id.to_bytes(2, "big")
    return head + _varints((symbol.transfer_bytes, symbol.esi, len(symbol.data) // SYMBOL_ALIGNMENT))


def _record_body(record: Record) -> bytes:
    return record.symbol.data if isinstance(record, FecPiece) else record.data


def _varints(values: Iterable[int]) -> bytes:
    """Unsigned LEB128: seven bits a byte, lowest first, high bit set on all but the last."""
    out = bytearray()
    for value in values:
        rest = value
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def _seal(first: int, number: int, body: bytes) -> bytes:
    head = bytes([first]) + (number % SEQ_MODULUS).to_bytes(2, "big")
    return head + crc_hqx(body, crc_hqx(head, 0xFFFF)).to_bytes(2, "big") + body


def _open(data: bytes, version: int, name: str) -> tuple[int, int]:
    """(flags, number) of a sealed message after the checks common to both forms."""
    if len(data) < HEADER_BYTES:
        raise BitstreamError(f"{name} of {len(data)} bytes is too short")
    if data[0] >> 4 != version:
        raise BitstreamError(f"not a {name} of this version: it starts with {data[0]:#04x}")
    crc = crc_hqx(data[HEADER_BYTES:], crc_hqx(data[:3], 0xFFFF))
    if crc != int.from_bytes(data[3:HEADER_BYTES], "big"):
        raise BitstreamError(f"{name} is damaged (CRC)")
    return data[0] & 0xF, int.from_bytes(data[1:3], "big")


def _check_feedback(feedback: Feedback) -> None:
    numbers = (feedback.last_slot + 1, feedback.held_ms, *feedback.anchors)
    if not all(0 <= number <= _UINT32_MAX for number in numbers) or not 0 <= feedback.loss_ratio <= 1:
        raise ValueError(f"feedback field out of range: {feedback}")
    if not 0 <= feedback.received_bps <= _UINT32_MAX * 8.0:
        raise ValueError(f"feedback rate out of range: {feedback.received_bps}")
    if len(feedback.missing) > MAX_MISSING or len(feedback.anchors) > MAX_ANCHORS:
        raise ValueError("feedback names too many datagrams or anchors")
    if feedback.missing and feedback.highest_seq < 0:
        raise ValueError("feedback cannot miss datagrams before the first has arrived")

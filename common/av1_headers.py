"""The frame headers of an AV1 guide, reduced to what the receiver cannot tell by itself.

    size, frame header | tiles      17-20 bytes of the 60-100 that a picture has at 24 kbit/s
    code               | tiles      1-2 bytes

Nearly every field of a header (AV1 specification 5.9.2) follows from the header before it and from the picture's place
in the encoder's prediction structure. Each field gets a prediction, and what differs from it is coded with static
probabilities (`training/headers.py` counts them), as robust header compression does for packets (RFC 5795). Lossless
for any input: a header of a form that is not known goes verbatim, at two bytes more. Predictions come from pictures
that others build on, never from disposable ones, which the receiver may not have.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from common.av1_syntax import (
    FRAME,
    HAS_SIZE,
    SEQUENCE_HEADER,
    Bits,
    Sequence,
    expect,
    parse_sequence,
    split_obu,
    walk_frame_header,
)
from common.errors import BitstreamError
from common.short_code import ShortReader, ShortWriter
from common.tables import HEADER_TABLES

_LONGEST_HEADER = 48
_NOTHING: Mapping[str, int] = MappingProxyType({})
_START = bytes([FRAME << 3 | HAS_SIZE])


@dataclass(frozen=True, slots=True)
class HeaderContext:
    """What both ends know of the headers so far.

    slot, count : of the last picture that others build on: its frame number, and pictures since the key picture
    last : fields of its header, none after the key picture
    """

    sequence: Sequence
    slot: int
    count: int = 0
    last: Mapping[str, int] = field(default_factory=lambda: _NOTHING)

    @property
    def digest(self) -> int:
        """CRC-32 of everything that predictions depend on."""
        return zlib.crc32(repr((self.slot, self.count, *self.last.items())).encode())

    def count_at(self, slot: int) -> int:
        """Pictures since the key picture, if none was left out between."""
        return self.count + slot - self.slot


class Symbols(Protocol):
    """Where the symbols of a header go to, or come from. table, row : of `HEADER_TABLES`; wanted : told when writing"""

    def symbol(self, table: str, row: int, wanted: int) -> int: ...
    def raw(self, bits: int, wanted: int) -> int: ...


def begin(data: bytes, slot: int) -> HeaderContext | None:
    """After a key picture, which carries the sequence header; None where that has a form that is not known."""
    try:
        kind, payload, _ = split_obu(data)
        expect(kind == SEQUENCE_HEADER, "an AV1 key picture without its sequence header")
        return HeaderContext(parse_sequence(payload), slot)
    except BitstreamError:
        return None


def shrink(data: bytes, context: HeaderContext | None, slot: int) -> bytes:
    """One inter picture without what `expand` puts back.

    data : a temporal unit of AV1 without its temporal delimiter; slot : its frame number
    """
    if context is None:
        return data
    writer = _Writer()
    tiles = write_header(data, context, slot, writer)
    return writer.finish() + tiles


def expand(code: bytes, context: HeaderContext | None, slot: int) -> tuple[bytes, HeaderContext | None]:
    """Inverse of `shrink`, and what is known after the picture. BitstreamError for bytes that are no code."""
    if context is None:
        return code, None
    reader = _Reader(code)
    header = _Header(reader, context, slot)
    if reader.symbol("verbatim", 0, -1):
        return code[reader.finish() :], header.context_after(slot, context.last)
    walk_frame_header(header.field, context.sequence)
    payload = header.packed() + code[reader.finish() :]
    return _START + _leb128(len(payload)) + payload, header.context_after(slot, header.fields)


def write_header(data: bytes, context: HeaderContext, slot: int, symbols: Symbols) -> bytes:
    """Hand the header's symbols to `symbols`; returns what of `data` is to follow their code."""
    try:
        fields, tiles = _parsed(data, context.sequence)
    except BitstreamError:
        symbols.symbol("verbatim", 0, 1)
        return data
    symbols.symbol("verbatim", 0, 0)
    walk_frame_header(_Header(symbols, context, slot, fields).field, context.sequence)
    return tiles


def _parsed(data: bytes, sequence: Sequence) -> tuple[dict[str, int], bytes]:
    """Fields of the frame header and the bytes behind it; BitstreamError unless `expand` can make `data` of them."""
    kind, payload, rest = split_obu(data)
    expect(kind == FRAME and not rest, "other than one AV1 frame")
    expect(data == _START + _leb128(len(payload)) + payload, "a long form of an AV1 size")
    bits, fields = Bits(payload[:_LONGEST_HEADER]), {}

    def take(name: str, count: int) -> int:
        fields[name] = bits.take(count)
        return fields[name]

    walk_frame_header(take, sequence)
    expect(bits.take(-bits.at % 8) == 0, "filling that is not zero")
    return fields, payload[bits.at // 8 :]


def _leb128(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + _leb128(value >> 7)


class _Writer(ShortWriter):
    def symbol(self, table: str, row: int, wanted: int) -> int:
        return self.write(HEADER_TABLES[table][row], wanted)


class _Reader(ShortReader):
    def symbol(self, table: str, row: int, wanted: int) -> int:
        return self.read(HEADER_TABLES[table][row])


# --- what is predicted --------------------------------------------------------------------------------------------

# References of SVT-AV1's low-delay structure by place in the group of eight pictures: primary_ref_frame, and
# ref_frame_idx 1, 4 (and 6), 5; the others name the last base picture. It starts otherwise after a key picture, and
# names fewer pictures where it finds that more would not help (`_sparse`).
# fmt: off
_FIRST = (
    (0, 4, 5, 3), (0, 2, 5, 5), (0, 2, 5, 5), (4, 2, 3, 3), (0, 2, 3, 3), (1, 3, 4, 4), (1, 3, 4, 4), (4, 4, 5, 3),
)
_LATER = (
    (0, 4, 5, 3), (4, 4, 5, 3), (4, 4, 5, 3), (1, 5, 3, 4), (5, 5, 3, 4), (1, 3, 4, 5), (1, 3, 4, 5), (4, 4, 5, 3),
)
_LEVELS = (
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5, 6, 6, 6, 6,
    7, 7, 7, 7, 8, 8, 9, 9, 9, 10, 11, 11, 12, 13, 13, 14, 15, 16, 17, 18, 20, 21, 22, 24, 26, 27, 29, 32, 34, 36, 40, 44,
)
# fmt: on
"""Luma level of the loop filter that SVT-AV1 takes at each quantiser, where it filters at all; chroma has half of it."""
_QUANTISERS = (0, *range(4, 248, 4), 249, 255)
"""base_q_idx of the quantisers 0..63 (SVT-AV1's `quantizer_to_qindex`)."""
_KEPT = {2: 0x08, 4: 0x10, 6: 0x20}
"""refresh_frame_flags of the middle layers, by place."""
_USUAL = {
    "frame_type": 1, "show_frame": 1, "filter_switchable": 1, "motion_mode_switchable": 1, "uniform_tile_spacing": 1,
    "reference_select": 1,
}  # fmt: skip
"""Fields that are usually not 0."""
_OFTEN_CHANGED = ("allow_high_precision_mv", "tx_mode_select")
_REFERENCES = ("primary_ref_frame", *(f"ref_frame_idx_{number}" for number in (0, 1, 3, 4, 5, 6)))
_OLDEST = "ref_frame_idx_2"
"""The reference that names the key picture, or what the encoder keeps in its place: the seventh, or the last base."""
_OLDEST_PLACE = 7
_ALL, _SPARSE, _OTHER_REFERENCES = range(3)
_NO_FILTER, _FILTER, _LUMA_FILTER, _OTHER_FILTER = range(4)
_LARGEST_STEP = 16
_STEP_ESCAPE = 2 * _LARGEST_STEP + 1


def _base_of(count: int) -> int:
    """Where the last base picture is kept; all places hold the key picture at first."""
    return ((count - 1) // 8 - 1) % 3


def _references(count: int, kind: int) -> Mapping[str, int]:
    """References of the picture `count` after a key picture in one of the two usual cases."""
    place, base = count % 8, _base_of(count)
    primary, first, second, third = (_LATER if count > 8 else _FIRST)[place]
    if kind == _SPARSE:
        primary, first, third = 0 if place in (0, 4) else 4, base, second
    return dict(zip(_REFERENCES, (primary, base, first, base, second, third, second), strict=True))


def _references_kind(fields: Mapping[str, int], count: int) -> int:
    """Which case the references of a header are."""
    for kind in (_ALL, _SPARSE):
        if all(fields.get(name) == value for name, value in _references(count, kind).items()):
            return kind
    return _OTHER_REFERENCES


def _kept(count: int) -> int:
    """refresh_frame_flags: where the picture is kept."""
    place = count % 8
    return 1 << (count // 8 - 1) % 3 if place == 0 else _KEPT.get(place, 0)


def _usual_level(quantiser: int) -> int:
    """Luma level of the loop filter at a base_q_idx, 0 for one that the encoder never takes."""
    return _LEVELS[_QUANTISERS.index(quantiser)] if quantiser in _QUANTISERS else 0


def _filter_kind(fields: Mapping[str, int]) -> int:
    """Which of four cases the loop filter's levels are."""
    levels = tuple(fields.get(f"filter_level_{name}", 0) for name in "01uv")
    usual = _usual_level(fields.get("base_q_idx", 0))
    kinds: dict[tuple[int, ...], int] = {
        (0,) * 4: _NO_FILTER,
        (usual, usual, usual // 2, usual // 2): _FILTER,
        (usual, usual, 0, 0): _LUMA_FILTER,
    }
    return kinds.get(levels, _OTHER_FILTER)


def _strength(value: int) -> int:
    """Class of a primary strength of the directional enhancement filter: none, some, most."""
    return 0 if value == 0 else 2 if value == 15 else 1


def _is_modelled(name: str) -> bool:
    """Whether a field has symbols of its own."""
    own = ("order_hint", "base_q_idx", "refresh_frame_flags", _OLDEST, *_OFTEN_CHANGED, *_REFERENCES)
    return name in own or name.startswith(("filter_level", "cdef"))


class _Header:
    """One pass over a header, field by field: predicts each, and writes or reads what differs.

    truth : the fields, when writing
    fields : those passed so far
    """

    def __init__(
        self, symbols: Symbols, context: HeaderContext, slot: int, truth: Mapping[str, int] = _NOTHING
    ) -> None:
        self._symbols, self._truth = symbols, truth
        self._sequence, self._last, self._count = context.sequence, context.last, context.count_at(slot)
        self._last_kind = _references_kind(context.last, context.count) if context.last else _ALL
        self._references: Mapping[str, int] | None = None
        self._rest: Mapping[str, int] | None = None
        self._bits: list[tuple[int, int]] = []
        self._filter = _NO_FILTER
        self.fields: dict[str, int] = {}

    def field(self, name: str, bits: int) -> int:
        """The value of a field (a `common.av1_syntax.Field`)."""
        if name == "order_hint":
            value = self._order_hint(bits)
        elif name == "base_q_idx":
            value = self._quantiser(bits)
        elif name.startswith("filter_level"):
            value = self._filter_level(name, bits)
        elif name.startswith("cdef"):
            value = self._cdef(name)
        elif name in _OFTEN_CHANGED:
            row = 2 * self._role + self._last.get(name, 0)
            value = self._symbols.symbol(name, row, self._wanted(name))
        elif name == "refresh_frame_flags":
            value = self._as_expected(name, 0, bits, _kept(self._count))
        elif name == _OLDEST:
            value = self._oldest(bits)
        elif name in _REFERENCES:
            value = self._reference(name, bits)
        else:
            value = self._usual(name, bits)
        self.fields[name] = value
        self._bits.append((value, bits))
        return value

    def packed(self) -> bytes:
        """The fields as bytes, filled up with zeros."""
        value = length = 0
        for part, bits in self._bits:
            value, length = value << bits | part, length + bits
        return (value << -length % 8).to_bytes(-(-length // 8), "big")

    def context_after(self, slot: int, fields: Mapping[str, int]) -> HeaderContext:
        return HeaderContext(self._sequence, slot, self._count, MappingProxyType(dict(fields)))

    @property
    def _role(self) -> int:
        """0 of a base picture, 1 of a middle one, 2 of a disposable one."""
        return (0, 2, 1, 2)[self._count % 4]

    def _wanted(self, name: str) -> int:
        return self._truth.get(name, -1)

    def _order_hint(self, bits: int) -> int:
        """As many pictures as frame numbers have gone by, unless the source left some out."""
        expected, wanted = self._count % (1 << bits), self._wanted("order_hint")
        if not self._symbols.symbol("order_hint", 0, int(wanted != expected)):
            return expected
        hint = self._symbols.raw(bits, wanted)
        self._count += (hint - expected) % (1 << bits)
        return hint

    def _as_expected(self, name: str, row: int, bits: int, expected: int) -> int:
        """A field of which one symbol says that it is as expected."""
        wanted = self._wanted(name)
        differs = self._symbols.symbol(name, row, int(wanted != expected))
        return self._symbols.raw(bits, wanted) if differs else expected

    def _oldest(self, bits: int) -> int:
        """As in the header before: the seventh place, or the last base picture's."""
        base = _base_of(self._count)
        kept = self._count > 8 and self._last.get(_OLDEST) == _OLDEST_PLACE
        return self._as_expected(_OLDEST, int(kept), bits, _OLDEST_PLACE if kept else base)

    def _reference(self, name: str, bits: int) -> int:
        """One symbol says which usual case all references are, if any."""
        if self._references is None:
            kind = self._symbols.symbol(
                "references", self._last_kind, _references_kind(self._truth, self._count)
            )
            self._references = _references(self._count, kind) if kind != _OTHER_REFERENCES else _NOTHING
        return self._references[name] if self._references else self._symbols.raw(bits, self._wanted(name))

    def _usual(self, name: str, bits: int) -> int:
        """All other fields nearly always stay as they are: one symbol says whether they do."""
        if self._rest is None:
            # Skip mode needs two different references, which the first two pictures after a key picture do not have.
            usual = {**_USUAL, **self._last, "skip_mode_present": int(self._count > 2)}
            differs = any(
                value != usual.get(other, 0)
                for other, value in self._truth.items()
                if not _is_modelled(other)
            )
            self._rest = _NOTHING if self._symbols.symbol("rest", 0, int(differs)) else usual
        return self._rest.get(name, 0) if self._rest else self._symbols.raw(bits, self._wanted(name))

    def _quantiser(self, bits: int) -> int:
        """In steps of the encoder's own scale from the quantiser before, which by the roles of the two has a habit."""
        before, wanted = self._last.get("base_q_idx", 0), self._wanted("base_q_idx")
        step = _STEP_ESCAPE
        if before in _QUANTISERS and wanted in _QUANTISERS:
            difference = _QUANTISERS.index(wanted) - _QUANTISERS.index(before) + _LARGEST_STEP
            step = difference if 0 <= difference < _STEP_ESCAPE else _STEP_ESCAPE
        step = self._symbols.symbol("quantiser", self._count % 4 if self._last else 4, step)
        if step == _STEP_ESCAPE:
            return self._symbols.raw(bits, wanted)
        index = (_QUANTISERS.index(before) if before in _QUANTISERS else 0) + step - _LARGEST_STEP
        expect(0 < index < len(_QUANTISERS), "an AV1 quantiser out of range")
        return _QUANTISERS[index]

    def _filter_level(self, name: str, bits: int) -> int:
        """Nothing, or the usual levels of the quantiser."""
        if name == "filter_level_0":
            row = 3 * self._role + min(2, _filter_kind(self._last))
            self._filter = self._symbols.symbol("filter", row, _filter_kind(self._truth))
        if self._filter == _OTHER_FILTER:
            return self._symbols.raw(bits, self._wanted(name))
        level = _usual_level(self.fields["base_q_idx"])
        luma = name in ("filter_level_0", "filter_level_1")
        shown = self._filter == _FILTER or (self._filter == _LUMA_FILTER and luma)
        return (level if luma else level // 2) * shown

    def _cdef(self, name: str) -> int:
        """The directional enhancement filter: like the picture before, and its parts like one another."""
        kind, _, number = name.rpartition("_") if name[-1].isdigit() else (name, "", "0")
        before = self._last.get(name, 0)
        if kind == "cdef_damping":
            row = 4 * self._role + before
        elif kind == "cdef_bits":
            row = self._role
        elif kind.endswith("primary"):
            row = 9 if number != "0" else 3 * self._role + _strength(before)
        else:
            row = 3 * self._role + _strength(self.fields[name.replace("secondary", "primary")])
        return self._symbols.symbol(kind, row, self._wanted(name))

"""Readers of units, files and the payloads of the layers. Where a writer is the inverse, what was read must come back."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np

from common import motion, semantics
from common.av1_headers import HeaderContext, begin, expand, shrink
from common.codec_headers import check_av1, check_h264, check_vp9
from common.container import RecordJoiner, read_sgv, read_units
from common.entropy import RangeReader
from common.errors import BitstreamError, SourceError
from common.residual import decode_residual
from common.short_code import ShortReader
from common.softcast_metadata import parse_metadata
from common.state import initial_state
from common.tables import HEADER_TABLES
from common.types import EncodedUnit, UnitKind
from common.units import AnchorUnit, ConfigUnit, FrameUnit, GroupUnit, NoteUnit, ResidualUnit, Unit
from common.wire import (
    is_disposable,
    is_group,
    is_key,
    kind_of,
    pack_anchor,
    pack_config,
    pack_frame,
    pack_group,
    pack_note,
    pack_residual,
    parse_unit,
    slot_near,
)
from receiver.analog import AnalogDecoder
from receiver.chain import SceneDecoder
from tests.fuzz.sealing import sealed_metadata, sealed_unit, split

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "builtin_128.sgv"
FIRST_SLOT = 20
"""Of the golden stream."""

_DIGEST = 0x5EED
_SLOT = 300
_SIDE = 128

# --- units and files ----------------------------------------------------------------------------------------------


def wire(data: bytes) -> None:
    """One unit."""
    for unit in (data, sealed_unit(data, _SLOT, _DIGEST)):
        with suppress(BitstreamError):
            kind_of(unit), is_key(unit), is_disposable(unit), is_group(unit), slot_near(unit, _SLOT)
            parsed = parse_unit(unit, _SLOT, _DIGEST)
            assert parse_unit(_packed(parsed).data, _SLOT, _DIGEST if _bound(parsed) else 0) == parsed


def _bound(unit: Unit) -> bool:
    return isinstance(unit, FrameUnit | ResidualUnit)


def _packed(unit: Unit) -> EncodedUnit:
    match unit:
        case FrameUnit():
            return pack_frame(unit, _DIGEST)
        case AnchorUnit():
            return pack_anchor(unit)
        case ResidualUnit():
            return pack_residual(unit, _DIGEST)
        case GroupUnit():
            return pack_group(unit)
        case ConfigUnit():
            return pack_config(unit.config, unit.slot)
        case NoteUnit():
            return pack_note(unit)


def container(data: bytes) -> None:
    """A `.sgv` file, and the records of one alone."""
    with suppress(BitstreamError, SourceError):
        for unit in read_units(BytesIO(data), Path("fuzzed.sgv")):
            assert len(unit) <= len(data)
    joiner = RecordJoiner()
    for record in split(data):
        with suppress(BitstreamError):
            joiner.push(record)


@cache
def _golden() -> tuple[bytes, ...]:
    """The units up to the frame after the first."""
    units, frames = [], 0
    for unit in read_sgv(GOLDEN):
        frames += kind_of(unit) is UnitKind.FRAME
        units.append(unit)
        if frames == 2:
            return tuple(units)
    raise AssertionError("the golden stream is shorter than that")


def chain(data: bytes) -> None:
    """Units on top of a stream that stands: the closed loop, AV1 decoding, composition."""
    decoder = SceneDecoder()
    for unit in _golden():
        decoder.push(unit, 0.0)
    now_s = 0.0
    for message in split(data)[:8]:
        state = decoder.state
        if state is None:
            break
        slot = state.slot + (not message or message[0] >> 6 != UnitKind.RESIDUAL)
        named = message[:1] + bytes([slot & 0xFF]) + message[2:]
        now_s += 0.04
        decoder.push(sealed_unit(named, slot, state.digest), now_s)
        if decoder.state is not None:
            decoder.compose(decoder.state)
        decoder.stalled_for_s(now_s)


def analog(data: bytes) -> None:
    """Units of an analog link, each with symbols of another seed."""
    decoder = AnalogDecoder()
    decoder.push(_golden()[0], 0.0)
    noise = np.random.default_rng(1)
    for message in split(data)[:4]:
        unit = message
        if len(message) > 10 and is_group(message):
            unit = message[:6] + sealed_metadata(message[6:])
            with suppress(BitstreamError):
                count = min(4096, parse_metadata(unit[6:]).symbols)
                symbols = noise.normal(size=count) + 1j * noise.normal(size=count)
                decoder.hear(symbols, np.full(count, 0.1))
        decoder.push(sealed_unit(unit, FIRST_SLOT, 0), 0.0)
        if decoder.state is not None:
            decoder.compose(decoder.state)


# --- the layers ---------------------------------------------------------------------------------------------------


def layers(data: bytes) -> None:
    """Payloads of residual, motion and labels, and the analog layer's metadata."""
    rows = cols = _SIDE // 16
    with suppress(BitstreamError):
        decode_residual(data, _SIDE, _SIDE)
    with suppress(BitstreamError):
        reader, tables = RangeReader(data), motion.default_tables()
        for _ in range(3):
            update, tables = motion.decode_update(reader, rows, cols, tables)
            motion.apply_update(update, update)
    with suppress(BitstreamError):
        label_map, label_tables = np.zeros((rows, cols), np.uint8), semantics.default_tables()
        for start in range(3):
            label_map, label_tables = semantics.decode_labels(data[start:], label_map, label_tables)
        assert int(label_map.max()) <= 20
    for metadata in (data, sealed_metadata(data)):
        with suppress(BitstreamError):
            parse_metadata(metadata)


@cache
def _context() -> HeaderContext:
    """After the golden stream's key picture."""
    first, key = parse_unit(_golden()[0], 0, 0), _golden()[1]
    assert isinstance(first, ConfigUnit)
    frame = parse_unit(key, FIRST_SLOT, initial_state(first.config).digest)
    assert isinstance(frame, FrameUnit) and frame.guide is not None
    context = begin(frame.guide, FIRST_SLOT)
    assert context is not None
    return context


def av1_headers(data: bytes) -> None:
    """Reduced AV1 headers, and headers to reduce: whatever goes in must come out again."""
    begin(data, 0)
    context: HeaderContext | None = _context()
    with suppress(BitstreamError):
        for slot in range(FIRST_SLOT + 1, FIRST_SLOT + 4):
            _, context = expand(data, context, slot)
    code = shrink(data, _context(), FIRST_SLOT + 1)
    assert expand(code, _context(), FIRST_SLOT + 1)[0] == data


def codec_headers(data: bytes) -> None:
    """What the codecs' own headers announce, before a decoder sees them."""
    for check in (check_av1, check_vp9, check_h264):
        with suppress(BitstreamError):
            check(data, (_SIDE, _SIDE))


def short_code(data: bytes) -> None:
    """Symbols of a header code in any order, raw bits between."""
    if not data:
        return
    names, reader = sorted(HEADER_TABLES), ShortReader(data[1:])
    with suppress(BitstreamError):
        for number in range(data[0]):
            tables = HEADER_TABLES[names[number % len(names)]]
            symbol = reader.read(tables[number % len(tables)])
            assert 0 <= symbol < len(tables[number % len(tables)].frequencies)
            assert 0 <= reader.raw(number % 9) < 1 << number % 9
        assert 0 <= reader.finish() <= len(data) - 1

"""Bytes of the units: the only file that knows their offsets. A change here raises `BITSTREAM_VERSION`.

    byte 0      kind (2 bits) | flags (6 bits)
    byte 1      low 8 bits of the slot (frame number)
    bytes 2-5   check: CRC-32 of all other bytes and the full slot, seeded with the digest of the state built on;
                of a disposable frame, on which nothing builds, only its low 16 bits (bytes 2-3)
    then        what the kind needs

Four bytes do two jobs: a unit passes its check only if it arrived intact *and* this end holds the very state that
the sender built on. At 24 kbit/s a frame has 100 bytes, and a digest and a checksum apart would cost 4 % of them.
A FRAME carries, each only if its flag is set: extension byte and its fields, motion, labels (both with a length), and
the guide as the rest. Numbers are big endian; lengths are LEB128 varints, each bounded before anything is sized by it.
A GROUP goes with the symbols of an analog link and builds on nothing; it is a RESIDUAL with a flag that others lack.
So is a NOTE, with another flag: it says something about a file, at its end, and has no meaning on a link.
An ANCHOR with a region is a patch on the base picture of the frame that was marked; it names the digest of that state
itself, since it may arrive before it.
"""

from __future__ import annotations

import zlib
from fractions import Fraction

from common.errors import BitstreamError, ReleaseError
from common.tables import TABLES_HASH
from common.types import Colour, EncodedUnit, GuideCodec, Layer, UnitKind
from common.units import (
    MAX_SIDE,
    MIN_CODED_SIDE,
    REGION_STEP,
    AnchorUnit,
    ConfigUnit,
    FrameUnit,
    GroupUnit,
    NoteUnit,
    Region,
    ResidualUnit,
    StreamConfig,
    Unit,
)

BITSTREAM_VERSION = 4
MAX_UNIT_BYTES = 1 << 18
HEADER_BYTES, DISPOSABLE_HEADER_BYTES = 6, 4

_KEY, _DISPOSABLE, _MOTION, _LABELS, _EXTENDED, _GUIDE = 32, 16, 8, 4, 2, 1
_GROUP, _GROUP_SCENE, _GROUP_PTS = 1, 2, 4
_GROUP_SCALE = 3  # the scale's place in the flags
_NOTE = 32
_REGION = 1  # of an ANCHOR
_EXT_PTS, _EXT_MARK, _EXT_ACTIVATE, _EXT_QUALITY, _EXT_DROP_ANCHOR = 1, 2, 4, 8, 16
_CONFIG_MAGIC = b"SV"
_CODECS: tuple[GuideCodec, ...] = (
    "av1",
    "vp9",
    "h264",
)  # by their number in the format byte of CONFIG, above two bits of colour


# --- small parts --------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Cursor:
    """Reads fields in order; every step past the end is a BitstreamError."""

    def __init__(self, data: bytes, start: int = 0) -> None:
        self._data, self._at = data, start

    def take(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._data):
            raise BitstreamError(f"cut short: {count} bytes wanted, {len(self._data) - self._at} left")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def varint(self, limit: int) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > limit:
                    raise BitstreamError(f"length {value} is above the limit of {limit}")
                return value
        raise BitstreamError("varint longer than five bytes")

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    @property
    def done(self) -> bool:
        return self._at == len(self._data)


def check_of(head: bytes, body: bytes, slot: int, base_digest: int) -> int:
    """CRC-32 that binds a unit to its slot and to the state it builds on."""
    seed = zlib.crc32(slot.to_bytes(4, "big"), base_digest)
    return zlib.crc32(body, zlib.crc32(head, seed))


def _seal(kind: UnitKind, flags: int, slot: int, body: bytes, base_digest: int) -> bytes:
    head = bytes([kind << 6 | flags, slot & 0xFF])
    check = check_of(head, body, slot, base_digest).to_bytes(4, "big")
    return head + check[2 - header_bytes(head) :] + body


def header_bytes(data: bytes) -> int:
    """Length of a unit's header, told by its first byte."""
    disposable = data[0] >> 6 == UnitKind.FRAME and data[0] & _DISPOSABLE
    return DISPOSABLE_HEADER_BYTES if disposable else HEADER_BYTES


def kind_of(data: bytes) -> UnitKind:
    """Kind of a unit; BitstreamError when it is too short or too long to be one."""
    if not data or not header_bytes(data) <= len(data) <= MAX_UNIT_BYTES:
        raise BitstreamError(f"a unit cannot be {len(data)} bytes long")
    return UnitKind(data[0] >> 6)


def builds_on(data: bytes, slot: int, base_digest: int) -> bool:
    """Whether the unit is intact and was made for `slot` on top of the state with `base_digest`."""
    kind_of(data)
    length = header_bytes(data)
    wanted = check_of(data[:2], data[length:], slot, base_digest).to_bytes(4, "big")
    return wanted.endswith(data[2:length])


def slot_near(data: bytes, expected: int) -> int:
    """Full slot of a unit from its low 8 bits, nearest to `expected`."""
    return max(0, expected + (data[1] - expected + 128) % 256 - 128) if expected >= 0 else data[1]


def is_key(data: bytes) -> bool:
    return kind_of(data) is UnitKind.FRAME and bool(data[0] & _KEY)


def is_disposable(data: bytes) -> bool:
    return kind_of(data) is UnitKind.FRAME and bool(data[0] & _DISPOSABLE)


def is_group(data: bytes) -> bool:
    return kind_of(data) is UnitKind.RESIDUAL and bool(data[0] & _GROUP)


def is_note(data: bytes) -> bool:
    return kind_of(data) is UnitKind.RESIDUAL and data[0] & (_NOTE | _GROUP) == _NOTE


# --- FRAME --------------------------------------------------------------------------------------------------------


def pack_frame(frame: FrameUnit, base_digest: int) -> EncodedUnit:
    """Bytes of a FRAME that builds on the state with `base_digest` (for key frames: see `common.state`)."""
    flags = (
        _KEY * frame.key | _DISPOSABLE * frame.disposable | _MOTION * (frame.motion is not None)
        | _LABELS * (frame.labels is not None) | _GUIDE * (frame.guide is not None)
    )  # fmt: skip
    head = bytearray()
    if frame.key:
        head.append(frame.scale.bit_length() - 1)
    extension = _pack_extension(frame)
    if extension:
        flags |= _EXTENDED
        head += extension
    motion = b"" if frame.motion is None else varint(len(frame.motion)) + frame.motion
    labels = b"" if frame.labels is None else varint(len(frame.labels)) + frame.labels
    data = _seal(
        UnitKind.FRAME, flags, frame.slot, bytes(head) + motion + labels + (frame.guide or b""), base_digest
    )
    return EncodedUnit(
        UnitKind.FRAME, frame.slot, data, key=frame.key, disposable=frame.disposable, protect=frame.key,
        layer_bytes=layers_of(frame, len(data)), ends_anchors=frame.key,
    )  # fmt: skip


def layers_of(frame: FrameUnit, total_bytes: int) -> tuple[tuple[Layer, int], ...]:
    """Bytes of a FRAME of `total_bytes` by layer; header and lengths are overhead."""
    payloads = (Layer.MOTION, frame.motion), (Layer.SEMANTICS, frame.labels), (Layer.GUIDE, frame.guide)
    sizes = tuple((layer, len(payload or b"")) for layer, payload in payloads)
    return (Layer.OVERHEAD, total_bytes - sum(size for _, size in sizes)), *sizes


def _pack_extension(frame: FrameUnit) -> bytes:
    flags, fields = 0, b""
    if frame.pts is not None:
        flags, fields = flags | _EXT_PTS, fields + frame.pts.to_bytes(5, "big")
    for value, bit in (
        (frame.mark, _EXT_MARK),
        (frame.activate, _EXT_ACTIVATE),
        (None if frame.quality is None else frame.sharpness << 6 | frame.quality, _EXT_QUALITY),
    ):
        if value is not None:
            flags, fields = flags | bit, fields + bytes([value])
    if frame.drop_anchor:
        flags |= _EXT_DROP_ANCHOR
    return bytes([flags]) + fields if flags else b""


def _parse_frame(data: bytes, slot: int) -> FrameUnit:
    flags, cursor = data[0] & 63, Cursor(data, header_bytes(data))
    scale = 0
    if flags & _KEY:
        power = cursor.number(1)
        if power > 3:
            raise BitstreamError(f"guide scale 2**{power} is not 1, 2, 4 or 8")
        scale = 1 << power
    extension = cursor.number(1) if flags & _EXTENDED else 0
    if extension >> 5:
        raise BitstreamError("unknown frame extension")
    pts = cursor.number(5) if extension & _EXT_PTS else None
    mark = cursor.number(1) if extension & _EXT_MARK else None
    activate = cursor.number(1) if extension & _EXT_ACTIVATE else None
    grade = cursor.number(1) if extension & _EXT_QUALITY else None
    quality, sharpness = (None, 0) if grade is None else (grade & 63, grade >> 6)
    motion = cursor.take(cursor.varint(MAX_UNIT_BYTES)) if flags & _MOTION else None
    labels = cursor.take(cursor.varint(MAX_UNIT_BYTES)) if flags & _LABELS else None
    guide = cursor.rest()
    if bool(guide) != bool(flags & _GUIDE) or (flags & _KEY and not guide):
        raise BitstreamError("guide data do not match the frame's flags")
    return FrameUnit(
        slot, bool(flags & _KEY), bool(flags & _DISPOSABLE), scale, pts, mark, activate,
        bool(extension & _EXT_DROP_ANCHOR), quality, sharpness, motion, labels, guide or None,
    )  # fmt: skip


# --- ANCHOR, RESIDUAL, GROUP, CONFIG ------------------------------------------------------------------------------


def pack_anchor(anchor: AnchorUnit) -> EncodedUnit:
    """The check of an anchor is seeded with zero: whether it is intact can be told at any time."""
    head = bytes([anchor.anchor_id, anchor.quality]) + anchor.slot.to_bytes(4, "big")
    if anchor.region is not None:
        head += _pack_region(anchor.region) + anchor.base_digest.to_bytes(4, "big")
    flags = _REGION * (anchor.region is not None)
    data = _seal(UnitKind.ANCHOR, flags, anchor.slot, head + anchor.data, 0)
    layers = ((Layer.OVERHEAD, HEADER_BYTES + len(head)), (Layer.ANCHOR, len(anchor.data)))
    return EncodedUnit(UnitKind.ANCHOR, anchor.slot, data, key=True, protect=True, layer_bytes=layers)


def pack_residual(residual: ResidualUnit, digest: int) -> EncodedUnit:
    """A residual names the digest of the very state whose base picture it corrects."""
    data = _seal(UnitKind.RESIDUAL, 0, residual.slot, residual.data, digest)
    layers = ((Layer.OVERHEAD, HEADER_BYTES), (Layer.RESIDUAL, len(residual.data)))
    return EncodedUnit(UnitKind.RESIDUAL, residual.slot, data, disposable=True, layer_bytes=layers)


def pack_group(group: GroupUnit) -> EncodedUnit:
    """Like an anchor a group builds on nothing; what it describes is the guide."""
    flags = _GROUP | _GROUP_SCENE * group.scene | (group.scale.bit_length() - 1) << _GROUP_SCALE
    times = b""
    if group.pts:
        flags |= _GROUP_PTS
        times = bytes([len(group.pts)]) + b"".join(pts.to_bytes(5, "big") for pts in group.pts)
    data = _seal(UnitKind.RESIDUAL, flags, group.slot, times + group.metadata, 0)
    layers = ((Layer.OVERHEAD, len(data) - len(group.metadata)), (Layer.GUIDE, len(group.metadata)))
    return EncodedUnit(UnitKind.RESIDUAL, group.slot, data, key=True, protect=True, layer_bytes=layers)


def pack_note(note: NoteUnit) -> EncodedUnit:
    """A note belongs to no frame, and builds on nothing."""
    data = _seal(UnitKind.RESIDUAL, _NOTE, 0, note.text, 0)
    return EncodedUnit(UnitKind.RESIDUAL, 0, data, layer_bytes=((Layer.OVERHEAD, len(data)),))


def pack_config(config: StreamConfig, slot: int) -> EncodedUnit:
    format_ = (config.colour.matrix == "bt601") | config.colour.full_range << 1
    format_ |= _CODECS.index(config.guide_codec) << 2
    body = (
        _CONFIG_MAGIC + bytes([BITSTREAM_VERSION, format_]) + slot.to_bytes(4, "big")
        + config.session.to_bytes(2, "big") + config.seed.to_bytes(4, "big") + TABLES_HASH.to_bytes(4, "big")
        + varint(config.width) + varint(config.height)
        + b"".join(varint(n) for f in (config.frame_rate, config.time_base) for n in (f.numerator, f.denominator))
    )  # fmt: skip
    data = _seal(UnitKind.CONFIG, 0, slot, body, 0)
    return EncodedUnit(
        UnitKind.CONFIG, slot, data, key=True, protect=True, layer_bytes=((Layer.CONFIG, len(data)),)
    )


def _parse_config(data: bytes) -> ConfigUnit:
    cursor = Cursor(data, HEADER_BYTES)
    if cursor.take(2) != _CONFIG_MAGIC:
        raise BitstreamError("not a stream configuration")
    version, format_ = cursor.number(1), cursor.number(1)
    if version != BITSTREAM_VERSION:
        raise ReleaseError(f"stream version {version}, this program reads version {BITSTREAM_VERSION}")
    if format_ >> 2 >= len(_CODECS):
        raise ReleaseError(f"guide codec {format_ >> 2} is not known to this program: use a newer one")
    slot, session, seed, tables = cursor.number(4), cursor.number(2), cursor.number(4), cursor.number(4)
    if tables != TABLES_HASH:
        raise ReleaseError("the sender uses other constant tables: both ends need the same release")
    width, height = cursor.varint(MAX_SIDE), cursor.varint(MAX_SIDE)
    numbers = [cursor.varint((1 << 31) - 1) for _ in range(4)]
    if width < 16 or height < 16 or 0 in numbers or not cursor.done:
        raise BitstreamError("stream configuration is out of range")
    frame_rate, time_base = Fraction(numbers[0], numbers[1]), Fraction(numbers[2], numbers[3])
    if not 0 < frame_rate <= 1000:
        raise BitstreamError(f"frame rate {frame_rate} is out of range")
    colour = Colour("bt601" if format_ & 1 else "bt709", bool(format_ & 2))
    codec = _CODECS[format_ >> 2]
    return ConfigUnit(StreamConfig(session, width, height, frame_rate, time_base, colour, seed, codec), slot)


def _parse_anchor(data: bytes) -> AnchorUnit:
    flags, cursor = data[0] & 63, Cursor(data, HEADER_BYTES)
    anchor_id, quality, slot = cursor.number(1), cursor.number(1), cursor.number(4)
    region, base_digest = (_read_region(cursor), cursor.number(4)) if flags & _REGION else (None, 0)
    body = cursor.rest()
    if quality > 63 or flags & ~_REGION or not body:
        raise BitstreamError("anchor header is out of range")
    return AnchorUnit(slot, anchor_id, quality, body, region, base_digest)


def _pack_region(region: Region) -> bytes:
    x, y, width, height = (n // REGION_STEP for n in (region.x, region.y, region.width, region.height))
    return bytes([x, y, width - 1, height - 1])


def _read_region(cursor: Cursor) -> Region:
    x, y, width, height = (cursor.number(1) * REGION_STEP for _ in range(4))
    region = Region(x, y, width + REGION_STEP, height + REGION_STEP)
    if min(region.width, region.height) < MIN_CODED_SIDE or not region.within(MAX_SIDE, MAX_SIDE):
        raise BitstreamError(f"anchor region {region} is out of range")
    return region


def _parse_group(data: bytes, slot: int) -> GroupUnit:
    flags, cursor = data[0] & 63, Cursor(data, HEADER_BYTES)
    count = cursor.number(1) if flags & _GROUP_PTS else 0
    pts = tuple(cursor.number(5) for _ in range(count))
    return GroupUnit(slot, bool(flags & _GROUP_SCENE), 1 << (flags >> _GROUP_SCALE & 3), pts, cursor.rest())


def parse_unit(data: bytes, slot: int, base_digest: int) -> Unit:
    """Parse a unit that is known to be for `slot` and to build on `base_digest`.

    For CONFIG and ANCHOR both are taken from the unit itself; a GROUP builds on 0, a NOTE is always for 0 as well.
    Raises BitstreamError when the check fails or a field is out of range.
    """
    kind = kind_of(data)
    if is_note(data):
        slot, base_digest = 0, 0
    if kind is UnitKind.CONFIG or kind is UnitKind.ANCHOR:
        unit = _parse_config(data) if kind is UnitKind.CONFIG else _parse_anchor(data)
        slot, base_digest = unit.slot, 0
    if not builds_on(data, slot, base_digest):
        raise BitstreamError(
            f"check of a {kind.name} unit at frame {slot} failed: damaged, or a unit before it is missing"
        )
    if kind is UnitKind.FRAME:
        return _parse_frame(data, slot)
    if kind is UnitKind.RESIDUAL:
        if is_note(data):
            return NoteUnit(data[HEADER_BYTES:])
        return _parse_group(data, slot) if is_group(data) else ResidualUnit(slot, data[HEADER_BYTES:])
    return unit

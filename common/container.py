"""The file form of the stream, `.sgv`: the units one after another.

    "SGV" version(1 byte), then records:  varint(2 * length + is_piece)  bytes

A record is one unit, or a piece of an anchor: anchors trickle in between the frames, in a file just as on a link, so
that every stretch of the file keeps to the rate. A piece starts with one byte: 1 for the last piece of its unit, and 2
where the rest of the unit was given up, with nothing behind it.
The last record is a NOTE where the file says that its pictures are partly generated (`common.provenance`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from common.errors import BitstreamError, SinkError, SourceError
from common.provenance import Marking
from common.types import EncodedUnit, UnitKind
from common.units import NoteUnit
from common.wire import BITSTREAM_VERSION, MAX_UNIT_BYTES, Cursor, pack_note, varint

MAGIC = b"SGV" + bytes([BITSTREAM_VERSION])
_SMALLEST_PIECE = 48
_MORE, _LAST, _GIVEN_UP = 0, 1, 2


def private_file(path: Path) -> BinaryIO:
    """A new file that only its owner may read and write: it shows people. Raises OSError."""
    path.touch(mode=0o600)
    path.chmod(0o600)  # one that was there keeps its mode otherwise
    return path.open("wb")


def unit_record(unit: bytes) -> bytes:
    """A whole unit as a record."""
    return varint(2 * len(unit)) + unit


def piece_record(piece: bytes, last: bool) -> bytes:
    """A piece of an anchor as a record."""
    return varint(2 * (len(piece) + 1) + 1) + bytes([_LAST if last else _MORE]) + piece


class RecordJoiner:
    """Units out of records that may be lost: of an anchor that lacks a piece the rest fails the unit's own check."""

    def __init__(self) -> None:
        self._pieces = b""

    def push(self, record: bytes | None) -> bytes | None:
        """The unit that this record completes.

        record : what follows it is ignored; None for one that was lost
        Raises BitstreamError where it cannot be one.
        """
        if record is None:
            self._pieces = b""
            return None
        cursor = Cursor(record)
        length = cursor.varint(2 * MAX_UNIT_BYTES + 3)
        data = cursor.take(length >> 1)
        if not length & 1:
            return data
        joined, self._pieces = self._pieces + data[1:], b""
        if not data or data[0] > _GIVEN_UP or len(joined) > MAX_UNIT_BYTES:
            raise BitstreamError("a piece of an anchor is empty, or the anchor too long")
        if data[0] == _MORE:
            self._pieces = joined
        return joined if data[0] == _LAST else None


class SgvWriter:
    """Writes a `.sgv` file; it bears its name only once it is complete, and only its owner may read it.

    marking : what the file says of its pictures, at its end; None for nothing
    bytes_written : so far, header included; note_bytes : of them, of the note, which is no part of the stream
    """

    def __init__(self, path: Path, marking: Marking | None = None) -> None:
        self._path, self._partial = path, path.with_name(path.name + ".partial")
        self._marking = marking
        self.bytes_written = self.note_bytes = 0
        self._anchors: list[EncodedUnit] = []
        self._sent = 0
        self._room = 0.0
        if path.is_dir():
            raise SinkError(f"{path}: is a folder; name a file")
        try:
            self._file = private_file(self._partial)
        except OSError as error:
            raise SinkError(
                f"cannot write {path}: {error.strerror}; choose another place with room"
            ) from error
        self._put(MAGIC)

    def write(
        self, units: Sequence[EncodedUnit], allowance_bytes: float = float("inf")
    ) -> tuple[EncodedUnit, ...]:
        """Append units; returns the anchors that are complete by now.

        allowance_bytes : what the rate allows for this frame; anchors only use what the other units leave of it
        """
        before = self.bytes_written
        if any(unit.ends_anchors for unit in units):
            self._give_up()
        self._anchors += [unit for unit in units if unit.kind is UnitKind.ANCHOR]
        for unit in units:
            if unit.kind is not UnitKind.ANCHOR:
                self._put(unit_record(unit.data))
        self._room += allowance_bytes - (self.bytes_written - before)
        return self._trickle() if self._anchors else self._rest()

    def _rest(self) -> tuple[EncodedUnit, ...]:
        self._room = min(0.0, self._room)  # room is not saved up while no anchor waits
        return ()

    def _give_up(self) -> None:
        """What still waits of anchors is of no use any more."""
        if self._sent:
            self._put(varint(2 * 1 + 1) + bytes([_GIVEN_UP]))
        self._anchors, self._sent = [], 0

    def _trickle(self) -> tuple[EncodedUnit, ...]:
        complete = []
        while self._anchors and self._room >= _SMALLEST_PIECE:
            unit = self._anchors[0]
            piece = unit.data[self._sent : self._sent + int(min(self._room, MAX_UNIT_BYTES))]
            self._sent += len(piece)
            last = self._sent == len(unit.data)
            record = piece_record(piece, last)
            self._put(record)
            self._room -= len(record)
            if last:
                complete.append(self._anchors.pop(0))
                self._sent = 0
        return tuple(complete)

    def _note(self) -> None:
        if self._marking is not None and not self._file.closed:
            record = unit_record(pack_note(NoteUnit(self._marking().text().encode("ascii"))).data)
            self._put(record)
            self.note_bytes = len(record)

    def _put(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise SinkError(
                f"cannot write {self._path}: {error.strerror}; what was written so far is in {self._partial}"
            ) from error
        self.bytes_written += len(data)

    def close(self) -> None:
        """Finish the file and give it its name."""
        self._note()
        try:
            self._file.close()
            self._partial.replace(self._path)
        except OSError as error:
            raise SinkError(f"cannot finish {self._path}: {error.strerror}") from error

    def abandon(self) -> None:
        """Give up: what was written so far stays under the partial name."""
        with suppress(OSError):  # the disk may be full
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


def is_sgv(path: Path) -> bool:
    """Whether a file begins like a `.sgv` file of some version. Raises SourceError when it cannot be read."""
    with _opened(path) as file:
        return file.read(3) == MAGIC[:3]


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def read_sgv(path: Path) -> Iterator[bytes]:
    """The units of a file, in order; anchors appear where they became complete.

    Raises SourceError when the file cannot be read or is no `.sgv`, BitstreamError where it is cut short or damaged.
    """
    with _opened(path) as file:
        yield from read_units(file, path)


def read_units(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """As `read_sgv`, of an open file. path : for messages"""
    magic = file.read(len(MAGIC))
    if magic[:3] != MAGIC[:3]:
        raise SourceError(f"{path} is not a .sgv file")
    if len(magic) < len(MAGIC):
        raise BitstreamError(f"{path} is cut short")
    if magic != MAGIC:
        raise SourceError(
            f"{path} has another .sgv version than {BITSTREAM_VERSION}: use the release that wrote it"
        )
    yield from _records(file, path)


def _records(file: BinaryIO, path: Path) -> Iterator[bytes]:
    pieces = b""
    while (length := _read_length(file, path)) is not None:
        size, is_piece = length >> 1, length & 1
        data = file.read(size)
        if len(data) < size:
            raise BitstreamError(f"{path} is cut short")
        if not is_piece:
            yield data
            continue
        pieces += data[1:]
        if len(pieces) > MAX_UNIT_BYTES or not data or data[0] > _GIVEN_UP:
            raise BitstreamError(f"{path} is damaged: impossible anchor")
        if data[0] == _LAST:
            yield pieces
        if data[0] != _MORE:
            pieces = b""


def _read_length(file: BinaryIO, path: Path) -> int | None:
    value = 0
    for shift in range(0, 28, 7):
        byte = file.read(1)
        if not byte:
            if shift:
                raise BitstreamError(f"{path} is cut short")
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            if value >> 1 > MAX_UNIT_BYTES + 1:
                raise BitstreamError(f"{path} is damaged: a record of {value >> 1} bytes")
            return value
    raise BitstreamError(f"{path} is damaged: impossible record length")

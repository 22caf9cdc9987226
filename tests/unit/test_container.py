"""The `.sgv` file: units come back, anchors keep to what the rate leaves them, damage is an error."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.container import MAGIC, RecordJoiner, SgvWriter, piece_record, read_sgv
from common.errors import BitstreamError, SinkError, SourceError
from common.types import EncodedUnit, UnitKind
from common.wire import MAX_UNIT_BYTES, varint


def unit(kind: UnitKind, number: int, size: int) -> EncodedUnit:
    return EncodedUnit(kind, number, random.Random(number * 8 + kind).randbytes(size))


kinds = st.sampled_from(list(UnitKind))
steps = st.lists(st.lists(st.tuples(kinds, st.integers(1, 400)), max_size=3), min_size=1, max_size=12)


def numbered(shapes: Sequence[Sequence[tuple[UnitKind, int]]]) -> list[list[EncodedUnit]]:
    return [
        [unit(kind, 10 * slot + place, size) for place, (kind, size) in enumerate(step)]
        for slot, step in enumerate(shapes)
    ]


@given(steps)
def test_without_a_limit_every_unit_comes_back(
    tmp_path_factory: pytest.TempPathFactory, shapes: list
) -> None:
    path = tmp_path_factory.mktemp("sgv") / "a.sgv"
    given_steps = numbered(shapes)
    with SgvWriter(path) as writer:
        for step in given_steps:
            assert list(writer.write(step)) == [u for u in step if u.kind is UnitKind.ANCHOR]
    units = list(read_sgv(path))
    assert sorted(units) == sorted(u.data for step in given_steps for u in step)
    frames = [u.data for step in given_steps for u in step if u.kind is not UnitKind.ANCHOR]
    assert [data for data in units if data in frames] == frames
    assert path.stat().st_size == writer.bytes_written


@given(steps, st.integers(60, 500))
def test_anchors_keep_to_the_allowance(
    tmp_path_factory: pytest.TempPathFactory, shapes: list, allowance_bytes: int
) -> None:
    """Frames are written whatever they cost; with an anchor waiting, the sum stays within what was allowed."""
    path = tmp_path_factory.mktemp("sgv") / "a.sgv"
    complete: list[EncodedUnit] = []
    room = 0.0  # what anchors may use: unused allowance since one waits, less what frames overdrew
    with SgvWriter(path) as writer:
        for step in [*numbered(shapes), *[[]] * 120]:
            before = writer.bytes_written
            complete += writer.write(step, allowance_bytes)
            frames = [u for u in step if u.kind is not UnitKind.ANCHOR]
            frame_bytes = sum(len(u.data) + len(varint(2 * len(u.data))) for u in frames)
            anchor_bytes = writer.bytes_written - before - frame_bytes
            room += allowance_bytes - frame_bytes
            assert anchor_bytes <= max(0.0, room) + 9  # headers of at most two pieces
            room = max(room - anchor_bytes, -20_000.0)
            waiting = sum(u.kind is UnitKind.ANCHOR for u in chain(*numbered(shapes)))
            if len(complete) == waiting:
                room = min(room, 0.0)
    expected = [u for step in numbered(shapes) for u in step if u.kind is UnitKind.ANCHOR]
    assert complete == expected
    assert sorted(read_sgv(path)) == sorted(u.data for step in numbered(shapes) for u in step)


def test_an_anchor_trickles_in_between_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.sgv"
    anchor, sizes, complete = unit(UnitKind.ANCHOR, 0, 2000), [], -1
    with SgvWriter(path) as writer:
        for slot in range(60):
            before = writer.bytes_written
            step = [unit(UnitKind.FRAME, slot, 50)] + ([anchor] if slot == 5 else [])
            if writer.write(step, 100.0):
                complete = slot
            sizes.append(writer.bytes_written - before)
    total = [0, *accumulate(sizes)]
    for start in range(60):  # any stretch of the file keeps to the rate, give or take one frame
        for end in range(start + 1, 61):
            assert total[end] - total[start] <= 100 * (end - start + 1)
    assert 5 + 2000 // 49 <= complete <= 5 + 2000 // 43 + 1
    units = list(read_sgv(path))
    assert units.index(anchor.data) == complete + 1


def test_room_is_not_saved_up_for_anchors(tmp_path: Path) -> None:
    with SgvWriter(tmp_path / "a.sgv") as writer:
        for _ in range(50):
            writer.write([], 1000.0)
        before = writer.bytes_written
        writer.write([unit(UnitKind.ANCHOR, 0, 30_000)], 1000.0)
        assert writer.bytes_written - before <= 1005


def test_an_anchor_that_is_given_up_leaves_the_rest_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.sgv"
    given_up, later = unit(UnitKind.ANCHOR, 0, 2000), unit(UnitKind.ANCHOR, 9, 300)
    ending = replace(unit(UnitKind.FRAME, 9, 50), ends_anchors=True)
    with SgvWriter(path) as writer:
        complete = [writer.write([given_up], 100.0)]
        complete += [writer.write([unit(UnitKind.FRAME, slot, 50)], 100.0) for slot in range(1, 9)]
        before = writer.bytes_written
        complete.append(writer.write([ending, later], 100.0))
        complete += [writer.write([unit(UnitKind.FRAME, slot, 50)], 100.0) for slot in range(10, 30)]
    assert 300 < before < 2000
    assert [one for some in complete for one in some] == [later]
    units, joiner = list(read_sgv(path)), RecordJoiner()
    assert later.data in units and given_up.data not in units
    assert [u for u in units if u != later.data] == [
        (unit(UnitKind.FRAME, slot, 50)).data for slot in range(1, 30)
    ]
    assert joiner.push(piece_record(b"half", last=False)) is None
    assert joiner.push(bytes([3, 2])) is None  # a piece of one byte: given up
    assert joiner.push(piece_record(b"whole", last=True)) == b"whole"
    with pytest.raises(BitstreamError, match="piece of an anchor"):
        joiner.push(bytes([3, 3]))


def test_a_key_frame_ends_anchors_in_a_file_that_has_written_none_of_them(tmp_path: Path) -> None:
    path = tmp_path / "a.sgv"
    with SgvWriter(path) as writer:
        writer.write([unit(UnitKind.ANCHOR, 0, 500)], 10.0)
        writer.write([replace(unit(UnitKind.FRAME, 1, 50), ends_anchors=True)], 10_000.0)
    assert list(read_sgv(path)) == [unit(UnitKind.FRAME, 1, 50).data]


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    """Frames and an anchor in several pieces, 400 bytes."""
    path = tmp_path / "small.sgv"
    with SgvWriter(path) as writer:
        writer.write([unit(UnitKind.CONFIG, 0, 45), unit(UnitKind.ANCHOR, 1, 150)], 100)
        for slot in range(5):
            writer.write([unit(UnitKind.FRAME, slot, 30)], 100)
    return path


def test_a_file_cut_anywhere_gives_the_units_before_the_cut(small_file: Path, tmp_path: Path) -> None:
    data, whole = small_file.read_bytes(), list(read_sgv(small_file))
    cut = tmp_path / "cut.sgv"
    errors = 0
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        read: list[bytes] = []
        try:
            for data_of_unit in read_sgv(cut):
                read.append(data_of_unit)
        except (BitstreamError, SourceError):
            errors += 1
        assert read == whole[: len(read)]
        assert len(read) < len(whole)
    assert errors > 0.9 * len(data)  # a cut between two records looks like an end


@given(st.binary(max_size=200))
def test_any_bytes_are_units_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("sgv") / "a.sgv"
    path.write_bytes(MAGIC + data)
    try:
        assert sum(map(len, read_sgv(path))) <= len(data)
    except BitstreamError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"", SourceError, "not a .sgv"),
        (b"RIFF....", SourceError, "not a .sgv"),
        (b"SGV\x63", SourceError, "another .sgv version"),
        (b"SGV", BitstreamError, "cut short"),
        (MAGIC + b"\xff" * 6, BitstreamError, "impossible record length"),
        (MAGIC + varint(2 * (MAX_UNIT_BYTES + 2)), BitstreamError, "a record of"),
        (MAGIC + varint(1), BitstreamError, "impossible anchor"),
        (MAGIC + varint(20) + b"short", BitstreamError, "cut short"),
    ],
)
def test_errors_say_what_is_wrong(tmp_path: Path, data: bytes, kind: type[Exception], message: str) -> None:
    path = tmp_path / "a.sgv"
    path.write_bytes(data)
    with pytest.raises(kind, match=message):
        list(read_sgv(path))


def test_an_anchor_cannot_grow_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.sgv"
    piece = varint(2 * 60_001 + 1) + b"\0" + bytes(60_000)
    path.write_bytes(MAGIC + piece * 6)
    with pytest.raises(BitstreamError, match="impossible anchor"):
        list(read_sgv(path))


def test_a_file_bears_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.sgv"
    with pytest.raises(RuntimeError), SgvWriter(path) as writer:
        writer.write([unit(UnitKind.FRAME, 0, 10)])
        raise RuntimeError
    assert not path.exists()
    with SgvWriter(path):
        assert not path.exists()
    assert path.read_bytes() == MAGIC


def test_places_that_cannot_be_used_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot write"):
        SgvWriter(tmp_path / "missing" / "a.sgv")
    with pytest.raises(SinkError, match="is a folder; name a file"):
        SgvWriter(tmp_path)
    with pytest.raises(SourceError, match="cannot read"):
        list(read_sgv(tmp_path / "missing.sgv"))
    with pytest.raises(SourceError, match="cannot read"):
        list(read_sgv(tmp_path))

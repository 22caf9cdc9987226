"""The bytes of datagrams and feedback reports."""

from __future__ import annotations

from binascii import crc_hqx

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.datagram import (
    HEADER_BYTES,
    MAX_DATAGRAM_BYTES,
    FecPiece,
    Fragment,
    Record,
    WholeUnit,
    is_feedback,
    pack_datagram,
    pack_feedback,
    parse_datagram,
    parse_feedback,
    record_bytes,
)
from common.errors import BitstreamError
from common.fec import FecSymbol
from common.types import Feedback

seqs = st.integers(0, 0xFFFF)
wholes = st.builds(WholeUnit, st.binary(min_size=1, max_size=500))
fragments = st.builds(
    lambda unit_id, index, extra, data: Fragment(unit_id, index, min(4096, index + extra), data),
    seqs,
    st.integers(0, 4000),
    st.integers(2, 90),
    st.binary(min_size=1, max_size=300),
)
symbols = st.builds(
    lambda block_id, size, esi, words: FecPiece(block_id, FecSymbol(size, esi, b"abcdefgh" * words)),
    seqs,
    st.integers(1, 60_000),
    seqs,
    st.integers(4, 40),
)
records: st.SearchStrategy[Record] = st.one_of(wholes, fragments, symbols)
feedbacks = st.builds(
    Feedback,
    sequence=seqs,
    highest_seq=seqs,
    missing=st.lists(seqs, max_size=32).map(tuple),
    loss_ratio=st.integers(0, 255).map(lambda byte: byte / 255),
    received_bps=st.integers(0, 10**8).map(lambda rate: rate * 8.0),
    last_slot=st.integers(-1, 2**31),
    held_ms=st.integers(0, 2**31),
    anchors=st.lists(st.integers(0, 2**31), max_size=4).map(tuple),
    refresh=st.booleans(),
    anchor_wanted=st.booleans(),
)


def _fitting(candidates: list[Record]) -> list[Record]:
    kept: list[Record] = []
    for record in candidates:
        if sum(map(record_bytes, [*kept, record])) <= MAX_DATAGRAM_BYTES - HEADER_BYTES:
            kept.append(record)
    return kept


@given(seqs, st.lists(records, min_size=1, max_size=8), st.none() | st.integers(0, 3))
def test_datagram_round_trip(seq: int, candidates: list[Record], echo: int | None) -> None:
    chosen = _fitting(candidates)
    data = pack_datagram(seq, chosen, echo)
    parsed = parse_datagram(data)
    assert (parsed.seq, list(parsed.records), parsed.echo) == (seq, chosen, echo)
    if len(chosen) > 1 or not isinstance(chosen[0], WholeUnit):
        assert len(data) == HEADER_BYTES + sum(map(record_bytes, chosen))


def test_headers_cost_few_bytes() -> None:
    """A frame alone costs 5 bytes; in company one more each, two from 224 bytes on."""
    frame, large = WholeUnit(b"f" * 80), WholeUnit(b"g" * 224)
    assert len(pack_datagram(7, [frame])) == 80 + 5
    assert len(pack_datagram(7, [frame, frame])) == 2 * 81 + 5
    assert len(pack_datagram(7, [frame, large])) == 81 + 226 + 5


def test_exact_bytes() -> None:
    """Golden: a change here is a change of the format."""
    assert pack_datagram(0x1234, [WholeUnit(b"abc")]).hex() == "111234" + "6a23" + "616263"
    two = pack_datagram(1, [WholeUnit(b"a"), Fragment(5, 0, 2, b"bc")], echo=2)
    assert two[5:].hex() == "0161" + "f00005" + "000202" + "6263"
    assert two[0] == 0x1A


@pytest.mark.parametrize("unit_bytes", [1, 223, 224, 1195])
def test_largest_and_smallest_units(unit_bytes: int) -> None:
    unit = WholeUnit(b"x" * unit_bytes)
    assert parse_datagram(pack_datagram(0, [unit])).records == (unit,)


def test_refuses_to_pack_what_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="1201"):
        pack_datagram(0, [WholeUnit(b"x" * 1196)])
    with pytest.raises(ValueError, match="needs records"):
        pack_datagram(0, [])
    with pytest.raises(ValueError, match="needs bytes"):
        pack_datagram(0, [WholeUnit(b"")])


@given(st.lists(records, min_size=1, max_size=4), st.data())
def test_one_changed_or_missing_byte_is_always_noticed(candidates: list[Record], data: st.DataObject) -> None:
    packed = pack_datagram(3, _fitting(candidates))
    at = data.draw(st.integers(0, len(packed) - 1))
    changed = bytearray(packed)
    changed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BitstreamError):
        parse_datagram(bytes(changed))
    with pytest.raises(BitstreamError):
        parse_datagram(packed[:at])


def _sealed(body: bytes, first: int = 0x10) -> bytes:
    """A body of our choice under a correct CRC, so that the record parser sees it."""
    head = bytes([first, 0, 9])
    return head + crc_hqx(head + body, 0xFFFF).to_bytes(2, "big") + body


@given(st.binary(max_size=1195), st.integers(0, 15))
def test_random_records_only_raise_bitstream_errors(body: bytes, flags: int) -> None:
    try:
        parsed = parse_datagram(_sealed(body, 0x10 | flags))
    except BitstreamError:
        return
    assert sum(map(record_bytes, parsed.records)) <= len(body) + 2


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "without records"),
        ("00", "unknown record"),
        ("0561", "cut short"),
        ("e4", "unknown record"),
        ("f00001" + "02" + "02" + "01" + "61", "impossible"),
        ("f00001" + "00" + "01" + "01" + "61", "impossible"),
        ("f00001" + "00" + "8020" + "00", "impossible"),
        ("f00001" + "00" + "ffffff7f" + "0161", "out of range"),
        ("f00001" + "8000" + "02" + "0161", "shortest"),
        ("f10001" + "00" + "00" + "04" + "00" * 32, "FEC block"),
        ("f10001" + "ffff0f" + "00" + "04" + "00" * 32, "too many"),
        ("f10001" + "ffff7f" + "00" + "04", "out of range"),
        ("f10001" + "05" + "00" + "01" + "00" * 8, "FEC symbol"),
    ],
)
def test_each_bound_is_checked(body: str, why: str) -> None:
    with pytest.raises(BitstreamError, match=why):
        parse_datagram(_sealed(bytes.fromhex(body)))


@given(st.binary(max_size=1300))
def test_random_bytes_only_raise_bitstream_errors(data: bytes) -> None:
    for parse in (parse_datagram, parse_feedback):
        try:
            parse(data)
        except BitstreamError:
            continue


@given(feedbacks)
def test_feedback_round_trip(feedback: Feedback) -> None:
    data = pack_feedback(feedback)
    assert parse_feedback(data) == feedback
    assert is_feedback(data)
    with pytest.raises(BitstreamError):
        parse_datagram(data)


def test_a_report_is_small_and_never_taken_for_a_datagram() -> None:
    usual = Feedback(5, 1000, (990, 995), 0.05, 24_000.0, 30_000, (29_000, 29_700), held_ms=37)
    assert len(pack_feedback(usual)) <= 23
    assert len(pack_feedback(Feedback(0))) <= 14
    assert not is_feedback(pack_datagram(0, [WholeUnit(b"x")]))
    assert not is_feedback(b"")


def test_a_report_before_the_first_datagram() -> None:
    assert parse_feedback(pack_feedback(Feedback(3, refresh=True))) == Feedback(3, refresh=True)


@given(feedbacks, st.data())
def test_damaged_feedback_is_noticed(feedback: Feedback, data: st.DataObject) -> None:
    packed = bytearray(pack_feedback(feedback))
    at = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(BitstreamError):
        parse_feedback(bytes(packed[:at]))
    packed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BitstreamError):
        parse_feedback(bytes(packed))


@pytest.mark.parametrize(
    "feedback",
    [
        Feedback(0, 10, tuple(range(33))),
        Feedback(0, -1, (3,)),
        Feedback(0, loss_ratio=1.5),
        Feedback(0, loss_ratio=float("nan")),
        Feedback(0, received_bps=-1.0),
        Feedback(0, anchors=(1, 2, 3, 4, 5)),
        Feedback(0, last_slot=-2),
    ],
)
def test_refuses_impossible_reports(feedback: Feedback) -> None:
    with pytest.raises(ValueError, match="feedback"):
        pack_feedback(feedback)

"""The range coder: what goes in comes out, any bytes are survived, probabilities are exact."""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from common.entropy import TOTAL, AdaptiveTable, RangeReader, RangeWriter, read_signed, write_signed
from common.errors import BitstreamError

tables = st.lists(st.integers(1, 2000), min_size=2, max_size=21).map(
    lambda counts: AdaptiveTable(tuple(counts))
)
signed = st.integers(-60, 60) | st.integers(1 - 2**15, 2**15 - 1)


@st.composite
def messages(draw: st.DrawFn) -> list[tuple[AdaptiveTable, list[int]]]:
    """A few runs of symbols, each with a table of its own; runs may be empty."""
    runs = []
    for table in draw(st.lists(tables, min_size=1, max_size=5)):
        symbols = st.integers(0, len(table.counts) - 1)
        runs.append((table, draw(st.lists(symbols, max_size=60))))
    return runs


@given(messages())
def test_symbols_come_back(runs: list[tuple[AdaptiveTable, list[int]]]) -> None:
    writer = RangeWriter()
    for table, symbols in runs:
        writer.symbols(np.array(symbols, np.int32), table)
    reader = RangeReader(writer.finish())
    for table, symbols in runs:
        assert reader.symbols(len(symbols), table).tolist() == symbols


@given(st.lists(signed, max_size=80), tables.filter(lambda table: len(table.counts) == 15) | st.just(None))
def test_signed_numbers_come_back(values: list[int], given_table: AdaptiveTable | None) -> None:
    table = given_table or AdaptiveTable.geometric(15)
    writer = RangeWriter()
    written = write_signed(writer, np.array(values, np.int32), table)
    read, symbols = read_signed(RangeReader(writer.finish()), len(values), table)
    assert read.tolist() == values
    assert np.array_equal(symbols, written)


@given(st.lists(st.lists(st.integers(0, 6), max_size=200), max_size=8))
def test_both_ends_adapt_alike(runs: list[list[int]]) -> None:
    writer, table = RangeWriter(), AdaptiveTable.flat(7)
    for run in runs:
        writer.symbols(np.array(run, np.int32), table)
        table = table.update(np.array(run, np.int32))
    reader, again = RangeReader(writer.finish()), AdaptiveTable.flat(7)
    for run in runs:
        symbols = reader.symbols(len(run), again)
        assert symbols.tolist() == run
        again = again.update(symbols)
    assert again == table


@given(st.binary(max_size=80), tables, st.integers(0, 400))
def test_any_bytes_are_symbols_or_an_error(data: bytes, table: AdaptiveTable, count: int) -> None:
    try:
        symbols = RangeReader(data).symbols(count, table)
    except BitstreamError:
        return
    assert symbols.shape == (count,)
    assert symbols.size == 0 or 0 <= symbols.min() <= symbols.max() < len(table.counts)


@given(st.binary(max_size=80), st.integers(0, 200))
def test_any_bytes_are_signed_numbers_or_an_error(data: bytes, count: int) -> None:
    try:
        values, symbols = read_signed(RangeReader(data), count, AdaptiveTable.flat(15))
    except BitstreamError:
        return
    assert values.shape == symbols.shape == (count,)
    assert values.size == 0 or np.abs(values).max() < 2**15 + 14


@given(tables, st.lists(st.integers(0, 1), max_size=300))
def test_frequencies_are_positive_and_sum_to_the_total(table: AdaptiveTable, seen: list[int]) -> None:
    for state in (table, table.update(np.array(seen, np.int32))):
        frequencies = state.frequencies()
        assert frequencies.sum() == TOTAL
        assert frequencies.min() >= 1
        assert np.array_equal(frequencies / TOTAL * TOTAL, frequencies)  # exact in float64


def test_a_table_follows_the_scene_and_forgets() -> None:
    table = AdaptiveTable.flat(4).update(np.full(4000, 2, np.int32))
    assert table.frequencies()[2] > 0.9 * TOTAL
    for _ in range(20):
        table = table.update(np.full(30, 1, np.int32))
    assert table.frequencies()[1] > 0.8 * TOTAL
    assert sum(table.counts) <= 2048


def test_nothing_seen_changes_nothing() -> None:
    table = AdaptiveTable((3, 5))
    assert table.update(np.zeros(0, np.int32)) is table
    assert RangeWriter().finish() == b""


def test_likely_symbols_are_cheap() -> None:
    """One symbol in 64 of two: the entropy is 0.116 bit a symbol, and the coder stays within 4 bytes of it."""
    symbols = (np.arange(4096) % 64 == 0).astype(np.int32)
    writer = RangeWriter()
    writer.symbols(symbols, AdaptiveTable((63, 1)))
    ideal = -(4032 * math.log2(63 / 64) + 64 * math.log2(1 / 64)) / 8
    assert ideal - 1 <= len(writer.finish()) <= ideal + 4


def test_trailing_zero_bytes_are_not_sent() -> None:
    for length in range(40):
        writer = RangeWriter()
        writer.symbols(np.zeros(length, np.int32), AdaptiveTable.flat(3))
        data = writer.finish()
        assert not data.endswith(b"\0")
        assert RangeReader(data).symbols(length, AdaptiveTable.flat(3)).tolist() == [0] * length


def test_large_numbers_are_no_dearer_than_exp_golomb() -> None:
    """2 * floor(log2) + 1 bits behind the escape symbol, and a sign."""
    values = np.array([14, 15, 100, 4095, 32767, -32767] * 40, np.int32)
    writer = RangeWriter()
    write_signed(writer, values, AdaptiveTable((1,) * 14 + (2000,)))
    bits = sum(2 * (abs(int(v)) - 13).bit_length() for v in values)
    assert len(writer.finish()) < bits / 8 + 16


def test_many_large_numbers_take_no_loop() -> None:
    """A receiver must not be kept busy by a few bytes that ask for work: calls to the coder, not time, are counted."""
    data = np.random.default_rng(0).bytes(4000)
    reader = RangeReader(data)
    calls = []
    plain = reader.symbols
    reader.symbols = lambda count, table: (calls.append(count), plain(count, table))[1]  # type: ignore[method-assign]
    with suppress(BitstreamError):
        read_signed(reader, 5000, AdaptiveTable((1,) * 14 + (50,)))
    assert 1 <= len(calls) <= 4

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import BitstreamError
from common.short_code import MAX_BYTES, TOTAL_BITS, ShortReader, ShortWriter, SymbolTable

counts = st.lists(st.integers(0, 5000), min_size=1, max_size=40).map(tuple)


@st.composite
def messages(draw: st.DrawFn) -> list[tuple[SymbolTable | int, int]]:
    """(table, symbol) or (bits, value), a few of each."""
    items: list[tuple[SymbolTable | int, int]] = []
    for _ in range(draw(st.integers(0, 12))):
        if draw(st.booleans()):
            table = SymbolTable.of_counts(draw(counts))
            items.append((table, draw(st.integers(0, len(table.frequencies) - 1))))
        else:
            bits = draw(st.integers(1, 9))
            items.append((bits, draw(st.integers(0, (1 << bits) - 1))))
    return items


def written(items: list[tuple[SymbolTable | int, int]]) -> bytes:
    writer = ShortWriter()
    for model, value in items:
        if isinstance(model, SymbolTable):
            assert writer.write(model, value) == value
        else:
            assert writer.raw(model, value) == value
    return writer.finish()


def read(code: bytes, models: list[SymbolTable | int]) -> tuple[list[int], int]:
    reader = ShortReader(code)
    values = [reader.read(m) if isinstance(m, SymbolTable) else reader.raw(m) for m in models]
    return values, reader.finish()


@given(counts)
def test_frequencies_sum_to_the_total_and_none_is_zero(seen: tuple[int, ...]) -> None:
    table = SymbolTable.of_counts(seen)
    assert sum(table.frequencies) == 1 << TOTAL_BITS
    assert min(table.frequencies) >= 1
    assert len(table.frequencies) == len(seen)


@given(messages(), st.binary(max_size=20))
def test_what_follows_the_code_is_found(items: list[tuple[SymbolTable | int, int]], rest: bytes) -> None:
    code = written(items)
    values, length = read(code + rest, [model for model, _ in items])
    assert values == [value for _, value in items]
    assert length == len(code)


@given(messages())
def test_the_code_is_as_short_as_its_information(items: list[tuple[SymbolTable | int, int]]) -> None:
    bits = 0.0
    for model, value in items:
        bits += model if isinstance(model, int) else TOTAL_BITS - math.log2(model.frequencies[value])
    assert len(written(items)) <= math.ceil((bits + 1 + 1e-9) / 8)


@given(st.binary(max_size=40), st.lists(counts.map(SymbolTable.of_counts) | st.integers(1, 9), max_size=12))
def test_any_bytes_give_symbols_in_range_or_an_error(data: bytes, models: list[SymbolTable | int]) -> None:
    try:
        values, length = read(data, models)
    except BitstreamError:
        return
    assert length <= len(data)
    for model, value in zip(models, values, strict=True):
        assert 0 <= value < (1 << model if isinstance(model, int) else len(model.frequencies))


def test_no_symbols_take_no_bytes() -> None:
    assert written([]) == b""


def test_a_code_that_is_cut_short_is_refused() -> None:
    code = written([(9, 511), (9, 3)])
    reader = ShortReader(code[:-1])
    reader.raw(9), reader.raw(9)
    with pytest.raises(BitstreamError, match="cut short"):
        reader.finish()


def test_a_code_beyond_all_bounds_is_refused() -> None:
    reader = ShortReader(b"\x55" * 300)
    with pytest.raises(BitstreamError, match="too long"):
        for _ in range(MAX_BYTES + 1):
            reader.raw(8)

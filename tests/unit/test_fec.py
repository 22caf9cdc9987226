"""RaptorQ protection of one unit."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import BitstreamError
from common.fec import (
    MAX_BLOCK_BYTES,
    MAX_SOURCE_SYMBOLS,
    MAX_SYMBOL_BYTES,
    FecBlock,
    FecSymbol,
    check_symbol,
    fit_symbol_bytes,
    protect,
    source_symbols,
)


def _unit(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def _decode(unit: bytes, symbols: list[FecSymbol]) -> bytes | None:
    block = FecBlock(len(unit), len(symbols[0].data))
    results = [block.add(symbol) for symbol in symbols]
    return next((result for result in results if result is not None), None)


@pytest.mark.parametrize(("count", "repairs"), [(1, 1), (3, 1), (3, 2), (6, 3), (10, 2), (12, 2)])
def test_every_loss_pattern_up_to_the_repair_count(count: int, repairs: int) -> None:
    unit = _unit(count * 64 - 5)
    symbols = protect(unit, 64, repairs / count)
    assert [symbol.is_repair for symbol in symbols] == [False] * count + [True] * repairs
    for lost in itertools.chain.from_iterable(
        itertools.combinations(range(count + repairs), size) for size in range(repairs + 1)
    ):
        kept = [symbol for index, symbol in enumerate(symbols) if index not in lost]
        assert _decode(unit, kept) == unit, lost


def test_one_symbol_beyond_repair_is_lost() -> None:
    unit = _unit(640)
    symbols = protect(unit, 64, 0.2)
    assert _decode(unit, symbols[3:]) is None


@settings(max_examples=40)
@given(st.integers(1, 20_000), st.integers(32, 1192), st.randoms(use_true_random=False))
def test_any_size_in_any_order_with_repeats(size: int, limit: int, shuffler: random.Random) -> None:
    unit = _unit(size)
    symbols = protect(unit, fit_symbol_bytes(size, limit), 0.25)
    symbols += symbols[: len(symbols) // 2]
    shuffler.shuffle(symbols)
    assert _decode(unit, symbols) == unit


def test_a_unit_comes_out_once() -> None:
    unit = _unit(500)
    symbols = protect(unit, 104, 0.5)
    block = FecBlock(500, 104)
    outputs = [block.add(symbol) for symbol in symbols + symbols]
    assert [output for output in outputs if output is not None] == [unit]
    assert block.held_bytes == 0


@given(st.integers(1, MAX_BLOCK_BYTES), st.integers(1, 2000))
def test_fitted_symbols_are_legal_and_waste_little(size: int, limit: int) -> None:
    symbol_bytes = fit_symbol_bytes(size, limit)
    check_symbol(size, symbol_bytes, 0)
    assert symbol_bytes <= max(min(limit, MAX_SYMBOL_BYTES), 32, -(-size // MAX_SOURCE_SYMBOLS) + 7)
    count = source_symbols(size, symbol_bytes)
    assert count * symbol_bytes - size < max(32, 8 * count)


def test_largest_block() -> None:
    unit = _unit(MAX_BLOCK_BYTES)
    symbols = protect(unit, MAX_SYMBOL_BYTES, 0.02)
    assert _decode(unit, symbols[4:]) == unit


@pytest.mark.parametrize(
    ("transfer_bytes", "symbol_bytes"),
    [(0, 64), (MAX_BLOCK_BYTES + 1, 1192), (10**12, 64), (100, 0), (100, 60), (100, 1200), (200_000, 64)],
)
def test_bounds_come_before_the_library(transfer_bytes: int, symbol_bytes: int) -> None:
    with pytest.raises(BitstreamError):
        FecBlock(transfer_bytes, symbol_bytes)


def test_symbols_of_another_block_are_refused() -> None:
    block = FecBlock(500, 104)
    with pytest.raises(BitstreamError, match="does not fit"):
        block.add(FecSymbol(501, 0, b"x" * 104))
    with pytest.raises(BitstreamError, match="does not fit"):
        block.add(FecSymbol(500, 0, b"x" * 103))
    with pytest.raises(BitstreamError, match="symbol number"):
        block.add(FecSymbol(500, 1 << 16, b"x" * 104))


class _NeverSolves:
    """Stands in for the library's decoder; counts what reaches it."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def with_defaults(self, transfer_bytes: int, symbol_bytes: int) -> _NeverSolves:
        return self

    def decode(self, packet: bytes) -> None:
        self.packets.append(packet)


def test_a_block_that_does_not_solve_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = _NeverSolves()
    monkeypatch.setattr("common.fec.Decoder", decoder)
    block = FecBlock(320, 32)
    with pytest.raises(BitstreamError, match="does not solve"):
        for esi in range(1000):
            for _ in range(2):
                block.add(FecSymbol(320, esi, bytes(32)))
    assert len(decoder.packets) == 10 + 64


def test_protect_refuses_nothing_and_too_much() -> None:
    for unit in (b"", b"x" * (MAX_BLOCK_BYTES + 1)):
        with pytest.raises(BitstreamError):
            protect(unit, 1192, 0.1)

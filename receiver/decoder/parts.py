"""Work in parts: it may be left at every yield and gone on with later, in the time that another picture leaves."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")
N = TypeVar("N")

Parts = Generator[None, None, T]
"""Yields between parts and returns the result."""
Telling = Generator[N | None, None, N]
"""Likewise, and tells at every yield what it has so far."""


def finished(parts: Generator[object, None, T]) -> T:
    """All of it at once."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            return end.value


def advanced(work: Telling[N], should_stop: Callable[[], bool]) -> N | None:
    """Go on with `work` until it is over, or until `should_stop`, asked at every yield, says so: the newest it has."""
    while True:
        try:
            newest = next(work)
        except StopIteration as end:
            return end.value
        if should_stop():
            return newest


def telling(newest: N | None, parts: Parts[T]) -> Generator[N | None, None, T]:
    """`parts`, telling `newest` at every yield."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            return end.value
        yield newest

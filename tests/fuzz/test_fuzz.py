"""Every reader of foreign bytes survives its corpus, what was found in it before, mutations of both, and any bytes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import main, shares
from tests.fuzz.sealing import joined, split
from tests.fuzz.seeds import CORPUS, REGRESSION
from tests.fuzz.targets import TARGETS

FILES = sorted(path for path in CORPUS.glob("*/*"))
SLOW = {name for name, target in TARGETS.items() if target.share < 100}


def label(path: Path) -> str:
    return f"{path.parent.name}-{path.name}"


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A seed with some bytes replaced, left out or put in."""
    data = bytearray(draw(st.sampled_from(inputs(name))))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


def inputs(name: str) -> list[bytes]:
    return [path.read_bytes() for path in FILES if path.parent.name == name]


@pytest.mark.parametrize("path", FILES, ids=label)
def test_the_corpus_and_what_was_found_before(path: Path) -> None:
    TARGETS[path.parent.name].one(path.read_bytes())


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_mutations_and_any_bytes(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=8 if name in SLOW else 50)
    @given(st.binary(max_size=64) | mutated(name))
    def survives(data: bytes) -> None:
        target.one(data)

    survives()


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - SLOW))
def test_longer_ones(name: str) -> None:
    numbers = random.Random(name)
    for size in (100, 1_000, TARGETS[name].max_bytes):
        TARGETS[name].one(numbers.randbytes(size))


def test_each_target_has_seeds_and_all_of_them_are_sound_in_size() -> None:
    folders = {path.name for path in CORPUS.iterdir()}
    assert folders == TARGETS.keys()
    for path in FILES:
        assert path.name.startswith(("seed-", REGRESSION))
        assert path.stat().st_size <= TARGETS[path.parent.name].max_bytes


def test_messages_in_one_input() -> None:
    messages = [b"", b"one", bytes(300)]
    assert split(joined(messages)) == messages
    assert split(b"\0\5ab") == [b"ab"]


def test_an_unknown_target_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left:
        main(target=["wire", "wirre"])
    assert left.value.exit_code == 2
    assert "no target wirre: there are wire," in " ".join(capsys.readouterr().err.split())


def test_slow_targets_get_fewer_executions() -> None:
    counts = shares(1_000_000, ["wire", "chain"])
    assert counts["chain"] < counts["wire"] / 10
    assert abs(sum(counts.values()) - 1_000_000) <= 1

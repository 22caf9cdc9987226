"""What came of each fault: the row, what is left of its recording, and the table as a document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from benchmarks.tables import Cells
from common.container import read_sgv
from common.errors import BitstreamError, SourceError, UsageError
from common.types import UnitKind
from common.wire import kind_of
from sender.sources import open_source

_HEAD = """# What happens when something goes wrong

Written by `semcast bench faults --all --docs docs/faults.md`. Both ends are real programs on two hosts (network
namespaces joined by a relay, 25 ms each way, 48 kbit/s), they meet in a room of a `semcast signal`, a third program
watches the receiver's page as a browser would and records. "Built in": nothing outside can do that to a program, so
it is started with the fault in it (`benchmarks/live/faulty.py`); all else is done to it from outside. Recovered: from
the end of the fault, or from the start of the program that was started again, to the first new picture on the page.
Longest: between two new pictures, the fault included. Recording: of `.sgv` frames, of `.mp4` pictures; "partial":
under its partial name, readable up to where it broke off. The figures are of a machine whose two
cores did other work besides; where a program is started again, most of the time is the loading of libraries.

| fault | what is done | what the user sees | recording | recovered after | longest | verdict |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is on the disk of all that was recorded. partial : a file kept its partial name

    frames : in the `.sgv` files; pictures : in the `.mp4` files
    """

    frames: int = 0
    pictures: int = 0
    complete: int = 0
    partial: int = 0

    @property
    def readable(self) -> bool:
        """Whether there is something in both forms."""
        return self.frames > 0 and self.pictures > 0

    @property
    def text(self) -> str:
        """For people."""
        if not self.complete and not self.partial:
            return "-"
        partial = f", {self.partial} partial" if self.partial else ""
        return f"{self.complete} complete{partial}: {self.frames} frames, {self.pictures} pictures"


@dataclass(frozen=True, slots=True)
class FaultRow:
    """What came of one fault.

    seen : lines and states of the page, in order; recovered_s : None where nothing had to, or nothing did
    longest_s : between two new pictures; for a program that does not start, until it has said so
    """

    fault: str
    meaning: str
    seen: tuple[str, ...]
    kept: Kept
    recovered_s: float | None
    longest_s: float | None
    verdict: Literal["good", "failed"]


def rows_as_text(rows: Sequence[FaultRow]) -> str:
    """JSON."""
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"


def rows_of(text: str) -> list[FaultRow]:
    """The rows of `rows_as_text`. Raises UsageError where it is none."""
    try:
        found = json.loads(text)
        return [
            FaultRow(**(row | {"seen": tuple(row["seen"]), "kept": Kept(**row["kept"])})) for row in found
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"faults.json is not of `semcast bench faults` ({error}): choose another --out"
        ) from None


def merged(rows: Sequence[FaultRow], new: FaultRow) -> list[FaultRow]:
    """With `new` in the place of what was done before."""
    key = (new.fault, new.meaning)
    known = [(row.fault, row.meaning) for row in rows]
    return [new if (row.fault, row.meaning) == key else row for row in rows] + [new] * (key not in known)


def kept_in(folder: Path) -> Kept:
    """Read all recordings in a folder, to their ends."""
    whole = [path for path in folder.iterdir() if ".partial" not in path.name]
    parts = [path for path in folder.iterdir() if ".partial" in path.name]
    paths = [*whole, *parts]
    frames = sum(frames_of(path) for path in paths if ".sgv" in path.name)
    pictures = sum(pictures_of(path) for path in paths if path.name.endswith(".mp4"))
    return Kept(frames, pictures, len(whole), len(parts))


def frames_of(path: Path) -> int:
    """Frame units of a `.sgv`, up to where it is cut short."""
    count = 0
    try:
        for unit in read_sgv(path):
            count += kind_of(unit) is UnitKind.FRAME
    except (BitstreamError, SourceError):
        pass
    return count


def pictures_of(path: Path) -> int:
    """Pictures of a video that can be decoded, up to where it is cut short."""
    count = 0
    try:
        with open_source(str(path)) as source:
            for _ in source:
                count += 1
    except SourceError:
        pass
    return count


def fault_table(rows: Sequence[FaultRow]) -> Cells:
    """For the terminal."""
    head = ("fault", "what the user sees", "recording", "recovered, s", "longest, s", "")
    cells = tuple(
        (r.fault, "\n".join(r.seen), r.kept.text, _number(r.recovered_s), _number(r.longest_s), r.verdict)
        for r in rows
    )
    return Cells("Faults", head, cells)


def write_document(rows: Sequence[FaultRow], path: Path) -> None:
    """The table in Markdown."""
    lines = [
        f"| {row.fault} | {row.meaning} | {'<br>'.join(_code(line) for line in row.seen)} | {row.kept.text} "
        f"| {_number(row.recovered_s, ' s')} | {_number(row.longest_s, ' s')} | {row.verdict} |"
        for row in rows
    ]
    path.write_text(_HEAD + "\n".join(lines) + "\n", encoding="utf-8")


def _code(line: str) -> str:
    who, _, what = line.partition(": ")
    return f"{who}: `{what.replace('|', '/').replace('`', chr(39))}`"


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:g}{unit}"

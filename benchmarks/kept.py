"""Results of long runs on disk: a bench that was killed goes on where it stopped.

run -> OUT/runs/NAME.KEY.json       KEY is a hash of everything that the run's figures depend on
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import ValidationError

from benchmarks.report import Model, write_text

ROOT = Path(__file__).resolve().parents[1]

Kept = TypeVar("Kept", bound=Model)
Done_co = TypeVar("Done_co", bound=Model, covariant=True)


class Keyed(Protocol[Done_co]):
    """A run that knows what its result depends on. name : for people and for the file's name"""

    @property
    def name(self) -> str: ...
    def key(self) -> str: ...
    def run(self, out: Path) -> Done_co: ...


def kept_result(run: Keyed[Kept], out: Path, kind: type[Kept]) -> Kept | None:
    """What an earlier call left of exactly this run, None where there is nothing complete."""
    try:
        return kind.model_validate_json(_path(run, out).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def carry_out(run: Keyed[Kept], out: Path) -> Kept:
    """Do the work and keep the result below `out`."""
    result = run.run(out)
    write_text(result.model_dump_json(indent=2) + "\n", _path(run, out))
    return result


def _path(run: Keyed[Model], out: Path) -> Path:
    return out / "runs" / f"{run.name}.{run.key()}.json"


@cache
def code_hash(*folders: str) -> str:
    """Of every file of our own code and weights in `folders`, as they are when it is first asked for."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()):
        if "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(ROOT)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()

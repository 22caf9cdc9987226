"""What plans of all sweeps share: clips by pattern, sizes, files beside the plan, and errors that readers understand."""

from __future__ import annotations

import difflib
import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from common.config import Size, parse_size
from common.errors import ConfigError, UsageError

P = TypeVar("P", bound=BaseModel)


class Clip(BaseModel):
    """One clip. name : unique in a plan; path : None is the built-in clip"""

    model_config = ConfigDict(frozen=True)

    name: str
    path: str | None


def parse_sizes(text: str) -> list[Size]:
    """Sizes from "256x256,1280x720", none from ""; raises UsageError."""
    sizes = [parse_size(part) for part in text.split(",") if part.strip()]
    known = [size for size in sizes if size != "auto"]
    if len(known) < len(sizes):
        raise UsageError("--sizes takes sizes as WIDTHxHEIGHT, separated by commas; auto is none")
    return known


def find_clips(patterns: Sequence[str], folder: Path = Path()) -> list[Clip]:
    """The clips that `patterns` name, seen from `folder`, else from the current one; UsageError where there is none."""
    if not patterns:
        return [Clip(name="builtin", path=None)]
    paths = list(dict.fromkeys(path for pattern in patterns for path in _matches(pattern, folder)))
    seen: Counter[str] = Counter()
    clips = []
    for path in paths:
        seen[path.stem] += 1
        number = f"-{seen[path.stem]}" if seen[path.stem] > 1 else ""
        clips.append(Clip(name=f"{path.stem}{number}", path=str(path)))
    return clips


def _matches(pattern: str, folder: Path) -> list[Path]:
    for start in (folder, Path()):
        whole = start / Path(pattern).expanduser()
        found = [whole] if whole.exists() else sorted(Path(name) for name in glob.glob(str(whole)))
        if found:
            return found
    raise UsageError(
        f"no clip is called {pattern!r}: name files, or a pattern in quotes such as 'clips/*.mp4'"
    )


def with_files(settings: Mapping[str, object], folder: Path, keys: Sequence[str]) -> dict[str, object]:
    """The settings of a plan in `folder`: files named by `keys` that are there are named from the current folder."""
    beside = {
        key: str(folder / name)
        for key in keys
        if isinstance(name := settings.get(key), str) and (folder / name).is_file()
    }
    return {**settings, **beside}


def checked(plan: type[P], settings: Mapping[str, object], where: str) -> P:
    """A plan from its settings; ConfigError that says what is wrong in it. where : names the settings"""
    try:
        return plan.model_validate(settings)
    except ValidationError as error:
        found = {  # the first of each key
            detail["loc"][:1]: _explain(detail, list(plan.model_fields))
            for detail in reversed(error.errors())
        }
        raise ConfigError(f"{where}: {'; '.join(found.values())}") from error


def _explain(detail: ErrorDetails, known: Sequence[str]) -> str:
    """One pydantic finding as a sentence in the reader's terms."""
    name = ".".join(part for part in detail["loc"] if isinstance(part, str))
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        return f"unknown key {name!r}" + (f": {hint}" if len(detail["loc"]) == 1 else "")
    message = detail["msg"].removeprefix("Value error, ")
    sentence = f"{message[:1].lower()}{message[1:]}"
    return f"{name}: {sentence}" if name else sentence

"""What `semcast bench rd` compares: a short TOML file, checked.

clips = ["clips/*.mp4"]            # paths or patterns, from this file's folder or the current one; none: built-in clip
size = "512x512"
seconds = 5.0                      # of each clip; all of it by default
rates = ["24k", "100k"]            # of our system
levels = ["guide", "base"]         # and "output", the decoder's pictures, which take long
peers = ["svt-av1", "x265"]
vmaf = true
pictures = ["24k"]                 # rates at which pictures are shown side by side
set = ["anchor.max_share=0.2"]     # settings of our system, as for --set
"""

from __future__ import annotations

import difflib
import glob
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from benchmarks.peers import PEERS, PeerCodec
from common.config import Bitrate, PictureSize, Size, read_toml
from common.errors import ConfigError, UsageError

Level = Literal["guide", "base", "output"]
"""Our pictures, from the poorest to the best: the guide enlarged, the base picture, what the decoder paints from it.

The same guide behind a plain super-resolution network would be one more name here, and one more series in
`benchmarks/rd_runs.py`.
"""
PeerName = Literal["svt-av1", "x265", "vp9", "x264"]

SHOWN_BPS = (24_000, 100_000)
"""Rates at which pictures are shown where the plan names none."""


class RdPlan(BaseModel):
    """What to compare; the top of this file shows it as TOML.

    clips : paths or patterns; none is the built-in clip
    seconds : of each clip, None for all of it
    rates : targets of our system, bit/s, ascending
    pictures : those of `rates` at which pictures are kept and shown
    set : settings of our system, `section.key=value`; rates and size of the plan win
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    clips: tuple[str, ...] = ()
    size: PictureSize = Size(512, 512)
    seconds: Annotated[float, Field(gt=0.0)] | None = None
    rates: Annotated[tuple[Bitrate, ...], Field(min_length=1)] = (
        8_000, 16_000, 24_000, 48_000, 100_000, 400_000, 1_000_000,
    )  # fmt: skip
    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = ("guide", "base")
    peers: Annotated[tuple[PeerName, ...], Field(min_length=1)] = ("svt-av1", "x265", "vp9", "x264")
    vmaf: bool = True
    pictures: tuple[Bitrate, ...] | None = None
    set: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sorted(set(self.rates)) != list(self.rates):
            raise ValueError("rates must rise")
        for name, values in (("levels", self.levels), ("peers", self.peers)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names something twice")
        if not set(self.pictures or ()) <= set(self.rates):
            raise ValueError("pictures must be among rates")
        return self

    @property
    def codecs(self) -> tuple[PeerCodec, ...]:
        """The peers in the order of the plan."""
        known = {codec.name: codec for codec in PEERS}
        return tuple(known[name] for name in self.peers)

    @property
    def shown_bps(self) -> tuple[int, ...]:
        """Rates at which pictures are kept: those asked for, else the usual ones, else the middle one."""
        if self.pictures is not None:
            return self.pictures
        usual = tuple(rate for rate in SHOWN_BPS if rate in self.rates)
        return usual or (self.rates[len(self.rates) // 2],)


BUILTIN = RdPlan(rates=(24_000, 48_000, 100_000, 400_000), peers=("svt-av1", "x265"))
"""What is compared when nobody says what: the whole built-in clip, since in a shorter one its cuts are not paid back;
about two minutes on two free cores."""


class Clip(BaseModel):
    """One clip. name : unique in a plan; path : None is the built-in clip"""

    model_config = ConfigDict(frozen=True)

    name: str
    path: str | None


def load_plan(path: Path | None, clips: Sequence[str] = (), seconds: float | None = None) -> RdPlan:
    """The plan of a file, or the default one; `clips` and `seconds` from the command line win.

    Raises ConfigError for a file that cannot be read or does not hold a plan.
    """
    default = RdPlan() if clips else BUILTIN
    plan = default if path is None else _checked(read_toml(path, "plan"), str(path))
    changes = {"clips": tuple(clips) or None, "seconds": seconds}
    changed = {key: value for key, value in changes.items() if value is not None}
    return _checked({**plan.model_dump(), **changed}, "the command line")


def find_clips(patterns: Sequence[str], folder: Path) -> list[Clip]:
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


def _checked(settings: dict[str, object], where: str) -> RdPlan:
    try:
        return RdPlan.model_validate(settings)
    except ValidationError as error:
        found = {
            detail["loc"][:1]: _explain(detail) for detail in reversed(error.errors())
        }  # the first of each key
        raise ConfigError(f"{where}: {'; '.join(found.values())}") from error


def _explain(detail: ErrorDetails) -> str:
    """One pydantic finding as a sentence in the reader's terms."""
    name = str(detail["loc"][0]) if detail["loc"] else ""
    if detail["type"] == "extra_forbidden":
        known = list(RdPlan.model_fields)
        near = difflib.get_close_matches(name, known, n=1)
        return f"unknown key {name!r}: " + (
            f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        )
    message = detail["msg"].removeprefix("Value error, ")
    sentence = f"{message[:1].lower()}{message[1:]}"
    return f"{name}: {sentence}" if name else sentence

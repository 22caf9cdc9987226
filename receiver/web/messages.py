"""What crosses between the server and the page.

to the page    binary: PICTURE_HEADER, then a JPEG; text: JSON with "type" setup, stats or notice
to the server  text: JSON with "type" drawn, look, view, set or record, checked here; anything else is refused
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from common.errors import BitstreamError, UsageError

if TYPE_CHECKING:
    from receiver.pipeline import Shown

PICTURE_HEADER = struct.Struct("<BBHIIq8s")
"""Version, flags, time spent on the picture (0.1 ms, at most 6.5 s), its running number on the page, slot, presentation
time (microseconds), level (ASCII, padded with zeros)."""

HEADER_VERSION = 1
CONCEALED, LATE, UNCERTAINTY, GENERATED, LEVEL, SOURCE = (1 << bit for bit in range(6))
"""Flags of a picture: what it is, and what is drawn into it."""

ControlName = Literal["bitrate_bps", "budget_ms", "steps", "loss", "delay_ms", "rate_kbps"]
Overlay = Literal["uncertainty", "generated", "level"]
LinkState = Literal["waiting", "connected", "silent"]


# --- to the page --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PageStats:
    """What the page says about the link.

    link : waiting for a stream, connected, or silent since a while
    fps : pictures shown a second; rate_bps : everything that arrived; layer_bps : its parts, by layer
    spent_ms : work on the last picture; budget_ms : what it may take, None without a limit
    delay_ms : from capture to display, None where the sender's clock is unknown
    uncertainty : error to expect of the last picture, sample steps; None before the first
    taken_back : part of its cells where the decoder contradicted the guide, so that the base picture is shown
    loss_ratio : datagrams lost, 0..1
    shown, concealed, late : pictures so far; taken_back_pictures : of these, with something taken back
    """

    link: LinkState = "waiting"
    width: int = 0
    height: int = 0
    fps: float = 0.0
    rate_bps: float = 0.0
    layer_bps: tuple[tuple[str, float], ...] = ()
    spent_ms: float = 0.0
    budget_ms: float | None = None
    delay_ms: float | None = None
    level: str = ""
    uncertainty: float | None = None
    taken_back: float = 0.0
    loss_ratio: float = 0.0
    shown: int = 0
    concealed: int = 0
    late: int = 0
    taken_back_pictures: int = 0

    def as_message(self, page: Mapping[str, Any]) -> dict[str, Any]:
        """page : what is known of this one browser"""
        return {"type": "stats", **asdict(self), "layer_bps": dict(self.layer_bps), "page": dict(page)}


@dataclass(frozen=True, slots=True)
class Control:
    """One thing that viewers may change in this run.

    value : as it is now; least, most : bounds of a number, both included
    choices : the values there are, where it is none of a range
    """

    name: ControlName
    value: float | str
    least: float = 0.0
    most: float = 0.0
    choices: tuple[str, ...] = ()

    def checked(self, value: float | str) -> float | str:
        """`value` itself, if this run can have it. Raises UsageError."""
        known = KNOWN_CONTROLS[self.name]
        if self.choices:
            if str(value) in self.choices:
                return str(value)
            raise UsageError(f"{known.label} cannot be {value}: there is {', '.join(self.choices)}")
        if isinstance(value, str) or not self.least <= value <= self.most:
            raise UsageError(f"{known.label} goes from {self.least:g} to {self.most:g} {known.unit}".rstrip())
        return value


@dataclass(frozen=True, slots=True)
class KnownControl:
    """How the page shows one; scale : its numbers are divided by this; logarithmic : by ratio rather than by steps"""

    label: str
    unit: str = ""
    scale: float = 1.0
    step: float = 1.0
    logarithmic: bool = False


KNOWN_CONTROLS: dict[ControlName, KnownControl] = {
    "bitrate_bps": KnownControl("Bit rate", "kbit/s", 1e3, 1e3, True),
    "budget_ms": KnownControl("Time for a picture", "ms"),
    "steps": KnownControl("Diffusion steps"),
    "loss": KnownControl("Packet loss", "%", 1e-2, 5e-3),
    "delay_ms": KnownControl("Delay", "ms"),
    "rate_kbps": KnownControl("Link rate", "kbit/s", 1.0, 1.0, True),
}


def setup_message(
    controls: Mapping[ControlName, Control], recording: bool | None, files: tuple[str, ...], source: bool
) -> dict[str, Any]:
    """What this run can do.

    recording : under way or not, None where there is nothing to record with; files : of the recording under way, or
        the last one
    source : the source's pictures can be shown beside the output
    """
    shown = [
        {**asdict(known), "name": name, **(asdict(controls[name]) if name in controls else {"value": None})}
        for name, known in KNOWN_CONTROLS.items()
    ]
    return {"type": "setup", "controls": shown, "recording": recording, "files": files, "source": source}


def picture_message(jpeg: bytes, shown: Shown, number: int, flags: int) -> bytes:
    """One picture for a browser; flags : of what was drawn in."""
    flags |= CONCEALED * shown.concealed | LATE * shown.late
    spent = min(0xFFFF, round(shown.spent_s * 1e4))
    header = PICTURE_HEADER.pack(
        HEADER_VERSION, flags, spent, number & 0xFFFFFFFF, shown.frame.slot & 0xFFFFFFFF,
        round(shown.frame.time_s * 1e6), shown.level.encode("ascii")[:8],
    )  # fmt: skip
    return header + jpeg


# --- to the server ------------------------------------------------------------------------------------------------


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Drawn(_Message):
    """The page has drawn picture `number`, and none before it is still to come."""

    type: Literal["drawn"]
    number: Annotated[int, Field(ge=0, le=0xFFFFFFFF)]


class Look(_Message):
    """Whether somebody can see the page: a hidden one gets no pictures."""

    type: Literal["look"]
    visible: bool


class ChooseView(_Message):
    """What this browser wants to see drawn in, and the source beside it."""

    type: Literal["view"]
    overlays: Annotated[list[Overlay], Field(max_length=3)]
    source: bool


class SetControl(_Message):
    """Change something for everybody; which values this run can have is for its `Control` to say."""

    type: Literal["set"]
    name: ControlName
    value: Annotated[float, Field(ge=0.0, le=1e9)] | Annotated[str, Field(max_length=16)]


class Record(_Message):
    """Begin or end a recording."""

    type: Literal["record"]
    on: bool


BrowserMessage = Drawn | Look | ChooseView | SetControl | Record
_BROWSER_MESSAGE: TypeAdapter[BrowserMessage] = TypeAdapter(
    Annotated[BrowserMessage, Field(discriminator="type")]
)


def parse_browser_message(text: str) -> BrowserMessage:
    """Raises BitstreamError for anything but a message of the page."""
    try:
        return _BROWSER_MESSAGE.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BitstreamError(f"not a message of the page: {first['msg']}") from error

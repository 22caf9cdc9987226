"""Every setting of the link, with its unit in its name.

    built-in defaults  <-  FILE.toml  <-  --set section.key=value        (later wins)

The result is a frozen value. A name that does not exist is refused together with the nearest one that does;
`Config.as_dict()` is stored in every report, so that a result can be repeated.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError
from pydantic_core import ErrorDetails

from common.errors import ConfigError, UsageError
from common.types import GuideCodec

MIN_SIDE_PX, MAX_SIDE_PX = 16, 4096
"""What the stream can carry."""

MIN_BITRATE_BPS = 1_000
MAX_BITRATE_BPS = 100_000_000

_BITRATE = re.compile(r"(\d+(?:\.\d+)?)([kM]?)")
_SIZE = re.compile(r"(\d{1,6})[xX](\d{1,6})")
_MULTIPLIER = {"": 1, "k": 1_000, "M": 1_000_000}


class Size(NamedTuple):
    """Picture size in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def parse_bitrate(text: str) -> int:
    """Bits per second from "24k", "1.5M" or "24000"; raises UsageError."""
    match = _BITRATE.fullmatch(text.strip())
    if not match:
        raise UsageError(
            f"bit rate {text!r} is not understood: write 24k, 1.5M or a number of bits per second"
        )
    bps = round(float(match[1]) * _MULTIPLIER[match[2]])
    if bps < MIN_BITRATE_BPS:
        meant = f": did you mean {match[1]}k?" if float(match[1]) >= 1 and not match[2] else ""
        raise UsageError(f"bit rate {text!r} is {bps} bit/s, the least is 1k{meant}")
    if bps > MAX_BITRATE_BPS:
        raise UsageError(f"bit rate {text!r} is {bps} bit/s, the most is 100M")
    return bps


def parse_size(text: str) -> Size | Literal["auto"]:
    """Picture size from "512x512", or "auto"; raises UsageError.

    Sides are MIN_SIDE_PX to MAX_SIDE_PX and may be odd.
    """
    if text.strip() == "auto":
        return "auto"
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"size {text!r} is not understood: write WIDTHxHEIGHT, for example 512x512, or auto")
    return check_size(int(match[1]), int(match[2]))


def check_size(width: int, height: int) -> Size:
    """The size itself; UsageError if the stream cannot carry it."""
    size = Size(width, height)
    if any(not MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in size):
        raise UsageError(
            f"size {size} is not possible: each side must be {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels"
        )
    return size


def _bitrate_in(value: object) -> int:
    """A number given without quotes passes the same bounds as text."""
    return parse_bitrate(str(value))


def _size_in(value: object) -> Size | Literal["auto"]:
    return parse_size(str(value))


def _auto_is_none(value: object) -> object:
    return None if value == "auto" else value


def _integer_in(value: object) -> object:
    """Text of digits as an integer, so that `--set guide.scale=2` meets a Literal of integers."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


def _number_in(value: object) -> object:
    """Text of a number as a float; other values as they are."""
    return float(value) if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value) else value


def _none_in(value: object) -> object:
    return None if value == "none" else value


Bitrate = Annotated[int, BeforeValidator(_bitrate_in)]
PictureSize = Annotated[
    Size | Literal["auto"], BeforeValidator(_size_in), PlainSerializer(str, return_type=str)
]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
KeySeconds = Annotated[float, Field(gt=0.0, le=4.0)]
Threads = Annotated[int, Field(ge=1, le=64)]


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )


class StreamSettings(_Section):
    """[stream]: what both ends agree on."""

    size: PictureSize = "auto"
    """Picture size WIDTHxHEIGHT; "auto" is the source's own, its shorter side brought down to 512."""
    bitrate_bps: Bitrate = 24_000
    """Target for all payload bytes, as 24k, 1.5M or a number."""
    seed: int = Field(0, ge=0, le=2**32 - 1)
    """Seed of everything random at either end."""


class GuideSettings(_Section):
    """[guide]: the small picture of every frame."""

    codec: GuideCodec = "av1"
    """Video codec of the guide: av1, vp9 or h264 (README, "Guide codecs")."""
    scale: Annotated[Literal["auto", 1, 2, 4, 8], BeforeValidator(_integer_in)] = "auto"
    """Coded size over guide size; "auto" leaves it to the rate controller."""
    preset: Annotated[int | None, BeforeValidator(_auto_is_none)] = Field(None, ge=0, le=13)
    """Speed preset of the guide's encoder, on SVT-AV1's scale; higher is faster; "auto" (None) goes by the size."""


class AnchorSettings(_Section):
    """[anchor]: the full-resolution picture sent now and then."""

    enabled: bool = True
    """Send anchors at all."""
    max_share: Share = 0.35
    """Largest part of the bit rate that anchors may take."""
    max_age_s: float = Field(10.0, gt=0.0)
    """An anchor older than this is due for replacement."""
    min_gain_db: float = Field(0.3, ge=0.0)
    """Predicted gain of the base picture below which an anchor is not worth its bits."""
    partial: bool = False
    """Send a rectangle of the picture as an anchor where that is worth more than the whole: pays where one part of the
    picture stands and another keeps the guide coarse."""
    by_link: bool = True
    """Weigh losses, queue and a rate that has just fallen before an anchor is begun, and while it is on its way; without,
    only the rate counts."""
    content: bool = False
    """Make anchors from the last 0.4 s instead of one picture: less noise, and a few pictures more in memory."""


class MotionSettings(_Section):
    """[motion]: where each block of the anchor is now."""

    corrections: bool = True
    """Send corrections where they gain more than they cost; without, only derived motion, which costs no bits."""


class SemanticsSettings(_Section):
    """[semantics]: the label map."""

    enabled: bool = True
    """Send label maps at all."""
    rate_hz: float = Field(3.0, gt=0.0, le=60.0)
    """Label maps per second at most; motion carries them in between."""
    max_share: float = Field(0.02, gt=0.0, le=1.0)
    """Largest part of the rate that label maps may take; a dear map makes the next one wait longer."""


class ResidualSettings(_Section):
    """[residual]: corrections of the base picture."""

    enabled: bool = True
    """Send corrections at all."""
    by_labels: bool = True
    """Where the label map says that errors matter more, corrections come first; without, the largest errors do."""


class ChannelSettings(_Section):
    """[channel]: the link and its packets."""

    spec: str = "clean"
    """Channel, for example packet:loss=0.05,delay_ms=40 (README, "Channels")."""
    hold_ms: float = Field(40.0, ge=0.0)
    """How long a datagram may wait for more frames to fill it."""
    repair_ratio: float = Field(0.1, ge=0.0, le=2.0)
    """Repair packets per source packet for units worth protecting."""


def _cores() -> int:
    return max(1, min(4, os.cpu_count() or 1))


class ReceiverSettings(_Section):
    """[receiver]: decoding and showing."""

    decoder: str = "tiny"
    """Decoder weights: tiny, base, or a folder."""
    steps: Annotated[Literal["auto", 0, 1, 2, 4], BeforeValidator(_integer_in)] = "auto"
    """Diffusion steps; 0 shows the base picture, "auto" takes as many as the budget allows."""
    least_gain: float = Field(0.25, ge=0.0, le=100.0)
    """With steps "auto" and a budget: what a step has to be expected to gain over the detail painted before, in VMAF
    points; 0 paints every picture anew."""
    budget_ms: Annotated[Annotated[float, Field(gt=0.0)] | None, BeforeValidator(_none_in)] = 42.0
    """Time for one picture; None, written "none", is no limit."""
    playout_delay_ms: float = Field(150.0, ge=0.0)
    """A frame is shown this long after the quickest way that any frame took."""
    live_playout_delay_ms: float = Field(100.0, ge=0.0)
    """The same in `semcast receive`, where people wait for one another: what is late is shown late rather than not."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the decoder runs."""
    backend: Literal["auto", "torch", "openvino", "graph"] = "auto"
    """What runs the decoder's network: openvino is the faster one on a processor that multiplies bfloat16, graph replays
    CUDA graphs. Pictures differ by a sample step at most places. "auto" is torch."""
    threads: Threads = Field(default_factory=_cores)
    """Processor threads of the decoder; by default one for each core, up to four."""


class DecoderSettings(_Section):
    """[decoder]: the ideas of the diffusion decoder, as switches that `semcast bench ablation` turns one by one."""

    start: Literal["base", "noise"] = "base"
    """Where the bridge begins: at the base picture with noise where that cannot be trusted, or full noise everywhere."""
    reuse: bool = False
    """With 2 or 4 steps: leave out the first ones where an earlier picture's run still fits, as many as its change and
    doubt allow."""
    shared_noise: Share = 1.0
    """Part of the noise's power that is the same for every picture; the rest is drawn anew and flickers."""
    moving: bool = False
    """Move the previous output and the noise along with the picture's motion."""
    previous: bool = True
    """Show the network its previous output."""
    temporal_guidance: float = Field(1.0, ge=0.0, le=4.0)
    """How far to go from the picture without to the one with the previous output; other than 1, a second network call."""
    guide_pull: Share = 0.0
    """Pull of the coded guide on the low-passed output (reconstruction guidance)."""
    base_pull: Share = 0.25
    """The same pull by the base picture, which is right where the guide is blind."""
    detail_pull: Share = 0.15
    """Pull of the base picture on everything. Of six settings of the two, these gave most PSNR on four clips."""
    structure_level: int = Field(0, ge=0, le=3)
    """Guide and label map are shown to the network 2^level times coarser."""
    labels: Literal["sent", "predicted", "none"] = "sent"
    """Label map shown to the network: as sent; where none was sent, predicted from the base picture; or none."""
    uncertainty: Literal["calibrated", "network"] = "calibrated"
    """What the network's uncertainty map is made of: all that the receiver knows, calibrated; or its own word alone."""
    safety: bool = True
    """Show the base picture where the network contradicts the guide by more than its own uncertainty."""
    sparing: bool = True
    """Make no network call for a guide at full size that was coded too finely to need repair, nor where the sender has
    just ended sharpening because it would do harm."""


class SenderSettings(_Section):
    """[sender]: encoding."""

    threads: Threads = 1
    """Processor threads of the encoder."""
    start_key_s: Annotated[
        Annotated[float, Field(gt=0.0, le=4.0)] | Literal["auto"], BeforeValidator(_number_in)
    ] = "auto"
    """Seconds of the rate that the first key frame may take: less shows it sooner and blurs it. "auto": 3 for a file,
    which nobody waits for, and 1 for a link."""
    config_interval_s: Annotated[
        Annotated[float, Field(gt=0.0, le=60.0)] | Literal["auto"], BeforeValidator(_number_in)
    ] = "auto"
    """How often the stream configuration is repeated for late joiners. "auto": 1.5 on a link, 10 in a file."""


class Config(_Section):
    """All settings in force."""

    stream: StreamSettings = StreamSettings()
    guide: GuideSettings = GuideSettings()
    anchor: AnchorSettings = AnchorSettings()
    motion: MotionSettings = MotionSettings()
    semantics: SemanticsSettings = SemanticsSettings()
    residual: ResidualSettings = ResidualSettings()
    channel: ChannelSettings = ChannelSettings()
    receiver: ReceiverSettings = ReceiverSettings()
    decoder: DecoderSettings = DecoderSettings()
    sender: SenderSettings = SenderSettings()

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values by section and key, ready for JSON; `Config.model_validate` takes it back."""
        return self.model_dump(mode="json")


def load_config(path: Path | None, overrides: Sequence[str]) -> Config:
    """Defaults, changed by a TOML file, changed by `section.key=value` texts in order; raises ConfigError."""
    settings = _read_sections(path) if path else {}
    for text in overrides:
        section, key, value = _split_override(text)
        settings.setdefault(section, {})[key] = value
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(detail, settings) for detail in error.errors())) from error


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The values of a TOML file; `what` names it in the ConfigError for one that cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {what} {path}: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise ConfigError(f"{what} {path} is not valid TOML: {error}") from error


def _read_sections(path: Path) -> dict[str, dict[str, Any]]:
    settings = read_toml(path, "configuration")
    for name, value in settings.items():
        if not isinstance(value, dict):
            raise ConfigError(
                f"{name!r} in {path} stands outside a section: put it under one of {_sections()}"
            )
    return settings


def _split_override(text: str) -> tuple[str, str, str]:
    """ "guide.preset=8" as ("guide", "preset", "8"); the value may hold further dots and equals signs."""
    name, equals, value = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise ConfigError(
            f"setting {text!r} is not understood: write section.key=value, for example guide.preset=8"
        )
    return section, key, value.strip()


def _sections() -> str:
    return ", ".join(f"[{name}]" for name in Config.model_fields)


def setting_names() -> list[str]:
    """Every setting as "section.key"."""
    return [f"{name}.{key}" for name, section in Config() for key in type(section).model_fields]


def _explain(detail: ErrorDetails, settings: Mapping[str, Mapping[str, Any]]) -> str:
    """One pydantic finding as a sentence in the reader's terms."""
    path = [str(part) for part in detail["loc"][:2]]
    if detail["type"] == "extra_forbidden":
        return _explain_unknown(path)
    section, key = path
    message = detail["msg"].removeprefix("Value error, ")
    return f"{section}.{key} = {settings[section][key]!r}: {message[:1].lower()}{message[1:]}"


def _explain_unknown(path: Sequence[str]) -> str:
    if len(path) == 1:
        near = difflib.get_close_matches(path[0], list(Config.model_fields), n=1)
        return f"unknown section [{path[0]}]: " + (
            f"did you mean [{near[0]}]?" if near else f"there are {_sections()}"
        )
    section, key = path
    near = _nearest_setting(section, key)
    known = ", ".join(type(getattr(Config(), section)).model_fields)
    return f"unknown setting {section}.{key}: " + (
        f"did you mean {near[0]}?" if near else f"[{section}] has {known}"
    )


def _nearest_setting(section: str, key: str) -> list[str]:
    """The closest key of the same section, else the same key in another one; at most one name."""
    keys = list(type(getattr(Config(), section)).model_fields)
    here = difflib.get_close_matches(key, keys, n=1)
    return (
        [f"{section}.{here[0]}"]
        if here
        else [name for name in setting_names() if name.endswith(f".{key}")][:1]
    )

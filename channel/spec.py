"""The channel as the user writes it: one string, parsed into a frozen model.

    clean
    packet:loss=0.05,burst=3,delay_ms=40,jitter_ms=10,reorder=0.01,duplicate=0.01,corrupt=0,
           rate_kbps=32,queue_ms=300,outage=2.0+0.5/7.5+1
    trace:FILE[,delay_ms=40,...]
    awgn:snr_db=7,mcs=qpsk-1/2      rayleigh:snr_db=10,...      tdl-a:snr_db=12,...     (see channel.radio.spec)
    analog:snr_db=7                 (see channel.analog_spec)

A trace is a text file in the manner of Mahimahi: each line holds one time in whole milliseconds, in rising
order (repeats allowed); at each the link can deliver one datagram of full size (1200 bytes and the 28 of its
UDP and IP headers). Empty lines and lines that begin with `#` are skipped. The trace starts over at its last
time, which is therefore its length. A trace takes the keys of `packet` except `rate_kbps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from channel.analog_spec import FADINGS, AnalogSpec
from channel.radio.library import check_installed
from channel.radio.mcs import MCS_NAMES
from channel.radio.spec import (
    TDL_KINDS,
    AwgnSpec,
    NoiseKnowledge,
    RadioSettings,
    RadioSpec,
    RayleighSpec,
    TdlSpec,
)
from common.errors import ConfigError

_RADIO: Mapping[str, type[AwgnSpec] | type[RayleighSpec] | type[TdlSpec]] = {
    "awgn": AwgnSpec,
    "rayleigh": RayleighSpec,
    **dict.fromkeys(TDL_KINDS, TdlSpec),
}
_KINDS = ("clean", "packet", "trace", *_RADIO, "analog")
_WORDS: Mapping[str, tuple[str, ...]] = {
    "mcs": ("adaptive", *MCS_NAMES),
    "noise": get_args(NoiseKnowledge),
    "fading": FADINGS,
}
"""Settings that take one of these words instead of a number."""

_MAX_TRACE_LINES = 1_000_000

M = TypeVar("M", bound=BaseModel)


class Outage(BaseModel):
    """Nothing is delivered from `start_s` for `duration_s`; written `start+duration`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    start_s: float = Field(ge=0)
    duration_s: float = Field(gt=0)


class Impairments(BaseModel):
    """What happens to datagrams on their way.

    loss : average fraction lost, 0..1
    burst : mean length of a run of losses; 1 means independent losses, more a Gilbert-Elliott channel
    delay_ms : propagation delay
    jitter_ms : the delay varies uniformly by as much up and down, without reordering
    reorder : fraction held back by a further 20 to 60 ms, so that others overtake them
    duplicate : fraction delivered twice
    corrupt : fraction in which 1 to 8 bytes are changed
    queue_ms : longest wait for the link where the rate is limited; what would wait longer is dropped
    outage : times in which everything that would cross is lost
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    loss: float = Field(0, ge=0, le=1)
    burst: float = Field(1, ge=1, le=1000)
    delay_ms: float = Field(0, ge=0, le=60_000)
    jitter_ms: float = Field(0, ge=0, le=60_000)
    reorder: float = Field(0, ge=0, le=1)
    duplicate: float = Field(0, ge=0, le=1)
    corrupt: float = Field(0, ge=0, le=1)
    queue_ms: float = Field(300, gt=0, le=60_000)
    outage: tuple[Outage, ...] = ()

    @model_validator(mode="after")
    def _burst_fits_loss(self) -> Impairments:
        if self.burst > 1 and self.loss > self.burst / (self.burst + 1):
            limit = self.burst / (self.burst + 1)
            raise ValueError(
                f"loss={self.loss:g} with burst={self.burst:g} is impossible: at most {limit:.3g}"
            )
        return self


class CleanSpec(BaseModel):
    """A perfect link."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["clean"] = "clean"


class PacketSpec(Impairments):
    """A packet link.

    rate_kbps : capacity in kbit/s of datagrams with their UDP and IP headers, None for unlimited
    """

    kind: Literal["packet"] = "packet"
    rate_kbps: float | None = Field(None, gt=0)


class TraceSpec(Impairments):
    """A packet link whose capacity follows a recording.

    file : where it came from
    opportunities_ms : times at which one full datagram can be delivered, rising; the last one is the period
    """

    kind: Literal["trace"] = "trace"
    file: str
    opportunities_ms: tuple[int, ...] = Field(min_length=1)


PacketChannelSpec = CleanSpec | PacketSpec | TraceSpec
DatagramChannelSpec = PacketChannelSpec | RadioSpec
ChannelSpec = DatagramChannelSpec | AnalogSpec


def parse_channel(text: str) -> ChannelSpec:
    """Read a channel SPEC. Raises ConfigError that names what is wrong, and the nearest right name."""
    kind, colon, rest = text.strip().partition(":")
    if kind == "clean":
        if colon:
            raise ConfigError("channel `clean` takes no settings; use `packet:` for impairments")
        return CleanSpec()
    if kind == "packet":
        return _build(PacketSpec, kind, _settings(rest, PacketSpec, kind))
    if kind == "trace":
        return _parse_trace(rest)
    if kind in _RADIO:
        model = _RADIO[kind]
        return _build(model, kind, {**_settings(rest, model, kind), "kind": kind})
    if kind == "analog":
        return _build(AnalogSpec, kind, _settings(rest, AnalogSpec, kind))
    raise ConfigError(f"unknown channel kind `{kind}`{_nearest(kind, _KINDS)}")


def check_channel(text: str) -> None:
    """Raises ConfigError when a channel SPEC is wrong, or needs a library that is not installed."""
    if isinstance(parse_channel(text), RadioSettings | AnalogSpec):
        check_installed()


def read_trace(path: Path) -> tuple[int, ...]:
    """Delivery opportunities of a trace file in ms. Raises ConfigError when it cannot be read or used."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"cannot read the trace {path}: {reason}") from error
    entries = [(n, s) for n, line in enumerate(lines, 1) if (s := line.strip()) and not s.startswith("#")]
    for number, entry in entries:
        if not entry.isdigit() or len(entry) > 9:
            raise ConfigError(f"{path}, line {number}: `{entry[:40]}` is not a time in whole milliseconds")
    times = tuple(int(entry) for _, entry in entries)
    if not 0 < len(times) <= _MAX_TRACE_LINES or times[-1] == 0:
        raise ConfigError(f"the trace {path} needs 1 to {_MAX_TRACE_LINES} times, the last one above 0")
    if any(later < earlier for earlier, later in pairwise(times)):
        raise ConfigError(f"the times in the trace {path} must not fall")
    return times


def _parse_trace(rest: str) -> TraceSpec:
    name, _, settings = rest.partition(",")
    if not name:
        raise ConfigError("channel `trace` needs a file: trace:FILE")
    values = _settings(settings, TraceSpec, "trace")
    return _build(TraceSpec, "trace", values | {"file": name, "opportunities_ms": read_trace(Path(name))})


def _settings(text: str, model: type[BaseModel], kind: str) -> dict[str, object]:
    """`key=value,key=value` as constructor arguments of `model`."""
    names = [name for name in model.model_fields if name not in ("kind", "file", "opportunities_ms")]
    values: dict[str, object] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = item.partition("=")
        if name not in names:
            raise ConfigError(f"channel `{kind}` has no setting `{name}`{_nearest(name, names)}")
        if not equals or not value:
            raise ConfigError(f"channel setting `{name}` needs a value: {name}=...")
        if name in values:
            raise ConfigError(f"channel setting `{name}` is given twice")
        values[name] = _value(name, value)
    return values


def _value(name: str, text: str) -> object:
    if name == "outage":
        return _parse_outages(text)
    if name not in _WORDS:
        return _number(name, text)
    if text not in _WORDS[name]:
        raise ConfigError(f"channel setting `{name}`: unknown `{text}`{_nearest(text, _WORDS[name])}")
    return text


def _parse_outages(value: str) -> tuple[Outage, ...]:
    outages = []
    for item in value.split("/"):
        start, plus, duration = item.partition("+")
        if not plus:
            raise ConfigError(f"outage `{item}` must be START+DURATION in seconds, as in outage=2.0+0.5")
        settings = {"start_s": _number("outage", start), "duration_s": _number("outage", duration)}
        outages.append(_build(Outage, "outage", settings))
    return tuple(outages)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"channel setting `{name}`: `{text}` is not a number") from None


def _build(model: type[M], kind: str, values: Mapping[str, object]) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise ConfigError(f"channel `{kind}` needs `{where}`: write {kind}:{where}=VALUE") from error
        said = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise ConfigError(" ".join(filter(None, (f"channel `{kind}`:", where, said)))) from error


def _nearest(name: str, known: Sequence[str]) -> str:
    match = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean `{match[0]}`?" if match else f"; known: {', '.join(known)}"

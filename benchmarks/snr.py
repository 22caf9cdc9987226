"""`semcast bench snr`: quality against the channel, for our system and its peers, at equal channel use.

    plan -> runs (clip, system, scheme, channel, value, seed), each in its own process and file
         -> lines with bands, the best scheme of the peers at each value -> report: tables, snr.json, snr.csv, snr.html

Everyone shares packets, protection, retransmission, LDPC, QAM and channel uses; a system's rate is the same part of
what its scheme sustains on that channel. Every run that is done is in a file below the results' folder, so a sweep that
was killed goes on where it stopped, and one whose plan grew only does what is new.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.files import open_input
from benchmarks.kept import kept_result
from benchmarks.plans import Clip
from benchmarks.rd_clip import Material, agreed
from benchmarks.report import versions
from benchmarks.snr_figures import lines, requirements
from benchmarks.snr_model import ChannelReport, Row, Shot, SnrReport
from benchmarks.snr_page import write_snr_page
from benchmarks.snr_plan import ANALOG, ChannelPlan, SnrPlan, SystemName, codec_named
from benchmarks.snr_report import print_snr, write_snr
from benchmarks.snr_runs import LinkPoint, LinkRun, with_spec
from benchmarks.snr_streams import StreamSpec
from benchmarks.sweep import run_all
from channel.radio.capacity import sustainable_bps
from channel.radio.spec import AwgnSpec, RadioSettings, RayleighSpec
from channel.spec import PacketSpec, parse_channel
from common.config import Config, load_config
from sender.rate import FILE

ADAPTIVE = "adaptive"
RATES = tuple(math.floor(2 ** (step / 8)) for step in range(80, 184))
"""Rates are rounded down to these, 1 kbit/s and eight an octave, so that one stream of a peer serves many links."""


_CALM_DB = 0.0
"""Without fading, metadata need no more than `qpsk-1/5` from here on, two decibels above its threshold."""


def run_snr(
    plan: SnrPlan,
    found: Sequence[Clip],
    out: Path,
    jobs: int | None,
    scheduler: str | None,
    config_path: Path | None,
    overrides: Sequence[str],
) -> SnrReport:
    """Sweep, write everything below `out` and print tables and JSON.

    found : the plan's clips
    jobs : processes at a time, None for one a core; scheduler : address of a Dask cluster to use instead
    config_path, overrides : settings of our system; those of the plan come before `overrides`

    Raises ConfigError for settings that make no sense, SourceError for a clip that cannot be read.
    """
    config = our_config(plan, config_path, overrides)
    materials = [Material(clip, config, plan.seconds) for clip in found]
    for clip in found:  # before any work
        open_input(clip.path, config, plan.seconds).close()
    runs = list(dict.fromkeys(run for material in materials for run in runs_of(plan, material)))
    stored = partial(kept_result, kind=LinkPoint)
    results = run_all(runs, out, jobs or os.cpu_count() or 1, "sweep", stored, scheduler)
    report = evaluate(plan, config.as_dict(), found, {run: results[run] for run in runs})
    write_snr(report, out)
    page = write_snr_page(report, out)
    Console(stderr=True).print(f"see {page}")
    print_snr(report)
    return report


def our_config(plan: SnrPlan, path: Path | None, overrides: Sequence[str]) -> Config:
    """Settings of our system, but for channel and rate; what the plan itself says wins."""
    start = f"sender.start_key_s={min(FILE.start_key_s, plan.delay_s / 2):g}"
    texts = [
        "receiver.threads=1",
        "receiver.budget_ms=none",
        "receiver.steps=1",
        start,
        *plan.set,
        *overrides,
    ]
    fixed = [f"stream.size={plan.size}", f"receiver.playout_delay_ms={1e3 * plan.delay_s:g}"]
    return load_config(path, [*texts, *fixed])


# --- what there is to do ------------------------------------------------------------------------------------------


def runs_of(plan: SnrPlan, material: Material) -> Iterator[LinkRun]:
    """Everything to be measured on one clip."""
    for channel in plan.channels:
        for value in channel.values:
            for system in plan.systems_on(channel):
                for setting in _settings(channel, value, system):
                    for seed in range(channel.seeds):
                        yield _run(plan, channel, value, system, setting, seed, material)


@dataclass(frozen=True, slots=True)
class _Setting:
    """How a system uses a channel. spec, bps : channel and rate; gop_s : of a peer"""

    variant: str
    spec: str
    bps: int
    gop_s: float = 0.0


def _settings(channel: ChannelPlan, value: float, system: SystemName) -> Iterator[_Setting]:
    spec = channel.spec_at(value)
    if system != "semcast" and not channel.others_at(value):
        return
    if system in ANALOG:
        yield _Setting("", analog_of(spec), rate_bps(channel, spec))
    elif codec_named(system) is None:
        yield _Setting("", spec, rate_bps(channel, spec))
    else:
        for scheme in _schemes(channel):
            own = f"{spec},mcs={scheme}" if scheme else spec
            for gop_s in channel.gops_s:
                keys = f" keys {gop_s:g} s" if gop_s else ""
                yield _Setting(f"{scheme}{keys}".strip(), own, rate_bps(channel, own), gop_s)


def _schemes(channel: ChannelPlan) -> tuple[str, ...]:
    """Schemes of the peers; "" where the channel has none."""
    return (ADAPTIVE, *channel.mcs) if channel.is_radio else ("",)


def rate_bps(channel: ChannelPlan, spec: str) -> int:
    """The rate of everyone's video on a channel."""
    parsed = parse_channel(spec)
    if channel.kbps is not None:
        return round(channel.kbps * 1e3)
    if isinstance(parsed, PacketSpec):
        assert parsed.rate_kbps is not None  # the plan has seen to it
        return stepped(channel.share * parsed.rate_kbps * 1e3)
    assert isinstance(parsed, RadioSettings)
    return stepped(channel.share * sustainable_bps(parsed))


def stepped(bps: float) -> int:
    """The highest of `RATES` that is not above, or the lowest there is."""
    return RATES[max(0, bisect_right(RATES, bps) - 1)]


def analog_of(spec: str) -> str:
    """The analog channel with the noise, fading and uses of a radio channel."""
    parsed = parse_channel(spec)
    assert isinstance(parsed, AwgnSpec | RayleighSpec)
    text = f"analog:snr_db={parsed.snr_db:g},uses_per_s={parsed.uses_per_s:g},delay_ms={parsed.delay_ms:g}"
    if isinstance(parsed, AwgnSpec) and parsed.snr_db >= _CALM_DB:
        text += ",mcs=qpsk-1/5"
    if isinstance(parsed, RayleighSpec):
        text += f",fading=rayleigh,coherence_ms={parsed.coherence_ms:g}"
    return text


def _run(
    plan: SnrPlan,
    channel: ChannelPlan,
    value: float,
    system: SystemName,
    setting: _Setting,
    seed: int,
    material: Material,
) -> LinkRun:
    codec = codec_named(system)
    stream = None if codec is None else StreamSpec(material, codec, setting.bps, setting.gop_s)
    return LinkRun(
        with_spec(material, setting.spec, setting.bps, seed), channel.name, value, system, setting.variant,
        plan.metrics, plan.warm_up_s, shown=value in channel.pictures and seed == 0, stream=stream,
    )  # fmt: skip


# --- the result ---------------------------------------------------------------------------------------------------


def evaluate(
    plan: SnrPlan,
    config: dict[str, dict[str, object]],
    clips: Sequence[Clip],
    results: dict[LinkRun, LinkPoint],
) -> SnrReport:
    """Lines, pictures and requirements of everything that was measured.

    SourceError when the systems were not given the same pictures.
    """
    rows = [
        Row(channel=run.channel, value=run.value, clip=run.material.clip.name, seed=run.seed, system=run.system,
            variant=run.variant, point=point)
        for run, point in results.items()
    ]  # fmt: skip
    for clip in clips:
        agreed(clip.name, (row.point.clip for row in rows if row.clip == clip.name))
    channels = [
        _channel(channel, [row for row in rows if row.channel == channel.name]) for channel in plan.channels
    ]
    return SnrReport(
        plan=plan.model_dump(mode="json"), config=config, versions=versions(),
        requirements=requirements(plan, channels), channels=channels, rows=rows,
    )  # fmt: skip


def _channel(plan: ChannelPlan, rows: Sequence[Row]) -> ChannelReport:
    return ChannelReport(
        name=plan.name,
        spec=plan.spec,
        axis=plan.axis,
        series=lines(rows),
        shots=list(_shots(plan, rows)),
    )


def _shots(plan: ChannelPlan, rows: Sequence[Row]) -> Iterator[Shot]:
    """Of each system the picture of its best variant (by PSNR of the clip)."""
    for value in plan.pictures:
        for clip in dict.fromkeys(row.clip for row in rows):
            here = [row for row in rows if (row.value, row.clip) == (value, clip) and row.point.pictures]
            here.sort(key=lambda row: -row.point.quality.psnr_yuv)
            best = {row.system: row.point for row in reversed(here)}
            ours_first = sorted(best, key=lambda name: not name.startswith("semcast"))
            pictures = [best[name].pictures[1] for name in ours_first]
            if pictures:
                yield Shot(
                    clip=clip, value=value, pictures=[next(iter(best.values())).pictures[0], *pictures]
                )

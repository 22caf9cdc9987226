"""`semcast doctor`: what works on this machine, found out by trying it, and what to do about the rest."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.report import Model, versions
from channel.udp import Address, UdpTransport
from common.codecs import GuideDecoder
from common.errors import CodecError, SemcastError, WeightsError
from common.types import Colour, Frame, GuideCodec, Picture
from common.weights import load_weights, shipped
from receiver.sinks import Ffv1Sink, Mp4Sink
from sender.guide import ENCODERS
from sender.sources import open_source

Status = Literal["ok", "missing", "failed"]

SIDE = 64
RATE = Fraction(25)
PRESET = 10
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Instructions that decide how fast the decoder runs, slowest first."""
DEFAULT_WEIGHTS = ("labels", "tiny")
"""What the commands use unless told otherwise."""
FFMPEG_TIMEOUT_S = 30.0

EXTRAS = {
    "live": ("aiortc", "aiohttp", "prometheus-client", "psutil"),
    "radio": ("sionna-no-rt",),
    "train": ("ai-edge-litert", "accelerate"),
    "cluster": ("dask", "distributed"),
    "openvino": ("openvino",),
}
"""Packages of the optional extras, as in pyproject.toml."""


class UnfitError(SemcastError):
    """Something is missing on this machine."""


class Finding(Model):
    """status : "missing" for what one can do without, "failed" for what one cannot; detail : figures, or what to do"""

    name: str
    status: Status
    detail: str


class Diagnosis(Model):
    """The last line of the output."""

    ok: bool
    versions: dict[str, str]
    findings: list[Finding]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to try: `attempt` returns what it found, or raises, saying what to do."""

    name: str
    attempt: Callable[[], str]
    essential: bool = False


def examine(checks: Sequence[Check] | None = None) -> Diagnosis:
    """Try everything, print a table and JSON; raises UnfitError afterwards if something essential failed."""
    findings = [find(check) for check in (every_check() if checks is None else checks)]
    failed = [finding.name for finding in findings if finding.status == "failed"]
    diagnosis = Diagnosis(ok=not failed, versions=versions(), findings=findings)
    Console().print(_table(diagnosis))
    print(diagnosis.model_dump_json())
    if failed:
        raise UnfitError(f"this machine is not ready, see the table: {', '.join(failed)}")
    return diagnosis


def find(check: Check) -> Finding:
    """Carry out one check; whatever goes wrong is a finding."""
    try:
        return Finding(name=check.name, status="ok", detail=check.attempt())
    except Exception as error:  # a broken installation fails in any way; a diagnosis must get to its end
        detail = str(error) if isinstance(error, SemcastError) else f"{type(error).__name__}: {error}"
        return Finding(name=check.name, status="failed" if check.essential else "missing", detail=detail)


def every_check() -> list[Check]:
    """What `semcast doctor` tries, in the order of its table."""
    return [
        Check("processor", processor),
        Check("torch devices", torch_devices),
        Check(
            "SVT-AV1 encoder",
            lambda: f"one {SIDE}x{SIDE} picture in {len(coded_picture())} bytes",
            essential=True,
        ),
        Check("AV1 decoder (libdav1d)", partial(guide_codec, "av1"), essential=True),
        Check("VP9 guide (libvpx)", partial(guide_codec, "vp9")),
        Check("H.264 guide (libx264)", partial(guide_codec, "h264")),
        Check("FFV1 recordings", ffv1, essential=True),
        Check("H.264 recordings (libx264)", x264, essential=True),
        Check("ffmpeg program", ffmpeg),
        Check("VMAF (libvmaf)", libvmaf),
        *weights_checks(),
        Check("cameras", cameras),
        Check("UDP on loopback", udp),
        *extras_checks(),
    ]


# --- processor and devices ----------------------------------------------------------------------------------------


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the instruction set, threads, and which of `CPU_FLAGS` are there."""
    try:
        found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        return f"{platform.machine()}; instructions unknown on {platform.system()}"
    flags = found[1].split() if found else []
    known = [flag for flag in CPU_FLAGS if flag in flags]
    slow = (
        "" if {"avx512_bf16", "amx_bf16"} & set(known) else "; no bfloat16 units: expect fewer decoder steps"
    )
    return f"{platform.machine()}, {', '.join(known) or 'no wide vectors'}{slow}"


def torch_devices() -> str:
    """Where the decoder can run."""
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return "; ".join([f"cpu, {torch.get_num_threads()} threads", *names])


# --- codecs -------------------------------------------------------------------------------------------------------


def gradient() -> Picture:
    """The test picture, 64x64."""
    ramp = np.add.outer(np.arange(SIDE), np.arange(SIDE)).astype(np.uint8) + 64
    grey = np.full((SIDE // 2, SIDE // 2), 128, np.uint8)
    return Picture(ramp, grey, grey)


def coded_picture(codec: GuideCodec = "av1") -> bytes:
    """The test picture through one of the guide's encoders."""
    encoder = ENCODERS[codec](SIDE, SIDE, RATE, PRESET)
    try:
        return encoder.encode(gradient(), 30, key=True).data
    finally:
        encoder.close()


def guide_codec(codec: GuideCodec) -> str:
    """What the encoder made, decoded again."""
    coded, wanted = coded_picture(codec), gradient()
    error = float(np.abs(GuideDecoder(codec, SIDE, SIDE).decode(coded).y.astype(int) - wanted.y).mean())
    if error > 16:
        raise CodecError("the decoded picture is another one: reinstall PyAV (av) from PyPI")
    return f"decodes {len(coded)} bytes, mean error {error:.1f}"


def ffv1() -> str:
    """A recording is written and read back without loss."""
    with tempfile.TemporaryDirectory(prefix="semcast-doctor-") as folder:
        path = Path(folder) / "one.mkv"
        with Ffv1Sink(path, RATE, 1 / RATE, Colour()) as sink:
            sink.show(Frame(gradient(), 0, 1 / RATE))
        with open_source(str(path)) as source:
            (frame,) = source
    if not np.array_equal(frame.picture.y, gradient().y):
        raise CodecError("FFV1 gave back another picture: reinstall PyAV (av) from PyPI")
    return "lossless"


def x264() -> str:
    """A film for people is written."""
    with tempfile.TemporaryDirectory(prefix="semcast-doctor-") as folder:
        path = Path(folder) / "one.mp4"
        with Mp4Sink(path, RATE, 1 / RATE, Colour()) as sink:
            sink.show(Frame(gradient(), 0, 1 / RATE))
        return f"writes MP4, {path.stat().st_size} bytes"


def ffmpeg() -> str:
    """The program inside imageio-ffmpeg."""
    return _ffmpeg("-version").splitlines()[0]


def libvmaf() -> str:
    """Whether that program can measure VMAF."""
    if "libvmaf" not in _ffmpeg("-filters"):
        raise CodecError(
            "this ffmpeg has no libvmaf: VMAF stays empty; unset IMAGEIO_FFMPEG_EXE or name another one"
        )
    return "present"


def _ffmpeg(option: str) -> str:
    from imageio_ffmpeg import get_ffmpeg_exe

    command = [get_ffmpeg_exe(), "-hide_banner", option]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=FFMPEG_TIMEOUT_S, check=True
    ).stdout


# --- weights ------------------------------------------------------------------------------------------------------


def weights_checks() -> Iterator[Check]:
    """One check per weights file that is shipped or that commands need; shipped ones are hashed."""
    try:
        names = set(shipped())
    except WeightsError:
        names = set()  # a damaged manifest fails the checks below, each with its reason
    for name in sorted(names | set(DEFAULT_WEIGHTS)):
        yield Check(f"weights {name}", partial(weights, name), essential=True)


def weights(name: str) -> str:
    """Licence, size and hash of shipped weights. WeightsError when they are missing or damaged."""
    loaded, asset = load_weights(name), shipped()[name]
    return f"{asset.bytes / 1e6:.2f} MB, {asset.licence}, sha256 {loaded.sha256}"


# --- surroundings -------------------------------------------------------------------------------------------------


def cameras(devices: Path = Path("/dev")) -> str:
    """Video devices of Linux."""
    found = sorted(path.name for path in devices.glob("video*"))
    if not found:
        raise UnfitError("none: plug one in, or name a file")
    return ", ".join(name.replace("video", "camera:") for name in found)


def udp() -> str:
    """Whether the two live ends can talk on this machine."""
    transport = UdpTransport(Address("127.0.0.1", 0))
    try:
        return f"port {transport.local.port} can be used"
    finally:
        transport.close()


def extras_checks() -> Iterator[Check]:
    """One check per optional extra of the package."""
    for extra, packages in EXTRAS.items():
        yield Check(f"extra {extra}", partial(installed, extra, packages))


def installed(extra: str, packages: Sequence[str]) -> str:
    """Versions of the packages of an extra; says how to install them when one is missing."""
    present, absent = [], []
    for package in packages:
        try:
            present.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            absent.append(package)
    if absent:
        raise UnfitError(
            f"no {', '.join(absent)}: in the project's folder, pip install --editable '.[{extra}]'"
        )
    return ", ".join(present)


def _table(diagnosis: Diagnosis) -> Table:
    table = Table("", "", "found", title="This machine", title_justify="left")
    for name, number in diagnosis.versions.items():
        table.add_row(name, "", number)
    for finding in diagnosis.findings:
        colour = {"ok": "green", "missing": "yellow", "failed": "red"}[finding.status]
        table.add_row(escape(finding.name), f"[{colour}]{finding.status}[/]", escape(finding.detail))
    return table

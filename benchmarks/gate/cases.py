"""The clips and channels of the gate, and what is measured of each: bytes, quality, stalls and digests.

    pictures -> sender -> packets -> channel -> receiver -> one diffusion step      (benchmarks/link.py, stream time)
             -> bytes by layer, PSNR and MS-SSIM of guide, base and output, stalls, digests of stream and states
    the stored stream of tests/golden -> receiver -> digests, which hold on every machine

Everything is seeded and small: 256x256, one or two seconds, so that all cases take some twenty seconds on one core.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.analog_link import AnalogLink
from benchmarks.demo import Record
from benchmarks.files import open_input, open_sender, stream_of
from benchmarks.gate.model import Kind, Row
from benchmarks.kept import ROOT
from benchmarks.link import Clip, Link, LinkResult, launch_anchor, layer_totals
from channel.analog_spec import AnalogSpec
from channel.spec import parse_channel
from common.clock import SystemClock
from common.config import Config, load_config
from common.container import read_sgv
from common.errors import SourceError, UsageError
from common.quality import ms_ssim, psnr_yuv
from common.state import compose, picture_digest
from common.stats import find_freezes
from common.types import Frame, Picture
from receiver.chain import SceneDecoder
from receiver.painter import open_painter
from receiver.pipeline import ReceiverSession, Shown
from sender.clip import BuiltinClip
from sender.pipeline import Step
from sender.readers import Sample, SourceInfo
from sender.sources import VideoSource

SIDE = 256
CLIP_SECONDS = 2.0
"""Of every clip of the user's own."""
STORED = ROOT / "tests" / "golden" / "builtin_128.sgv"

_ALWAYS = (f"stream.size={SIDE}x{SIDE}", "receiver.steps=1", "receiver.budget_ms=none", "receiver.threads=1",
           "receiver.device=cpu", "receiver.backend=torch")  # fmt: skip
_LOSSES = "channel.spec=packet:loss=0.05,burst=3,delay_ms=40"


@dataclass(frozen=True, slots=True)
class Case:
    """One window of a clip over one channel.

    name : what its rows are called by
    first, frames : the window of the built-in clip
    settings : "section.key=value", besides those that all cases share
    with_anchor : an anchor is launched whatever the policy thinks of it, so that motion is exercised too
    path : a clip of the user's own instead, from its start
    """

    name: str
    first: int = 0
    frames: int = 50
    settings: tuple[str, ...] = ()
    with_anchor: bool = False
    path: Path | None = None

    @property
    def config(self) -> Config:
        return load_config(None, [*_ALWAYS, *self.settings])

    def open(self) -> VideoSource:
        """Its pictures, read anew each time."""
        if self.path is not None:
            return open_input(str(self.path), self.config, CLIP_SECONDS)
        return VideoSource(_Window(self.first, self.frames), (SIDE, SIDE))


ANCHORED = Case("anchor", 140, 45, ("stream.bitrate_bps=100k", "guide.scale=2", "channel.spec=packet:delay_ms=20"),
                with_anchor=True)  # fmt: skip
CASES = (
    Case("talk", 0, 50, ("stream.bitrate_bps=24k",)),
    Case("cuts", 60, 50, ("stream.bitrate_bps=12k", "guide.scale=2")),
    Case("losses", 60, 50, ("stream.bitrate_bps=32k", _LOSSES)),
    ANCHORED,
    Case("rich", 140, 25, ("stream.bitrate_bps=2M",)),
    Case("analog", 0, 32, ("channel.spec=analog:snr_db=7",)),
)
"""Labels; scene cuts and sharpening; repairs and concealment; anchors and motion; residual; symbols instead of bits."""


def cases_of(folder: Path | None) -> tuple[Case, ...]:
    """The built-in cases, and two for each clip in `folder`; UsageError where there is none."""
    if folder is None:
        return CASES
    if not folder.is_dir():
        raise UsageError(f"--clips {folder} is not a folder: name one that holds video files")
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not paths:
        raise UsageError(f"--clips {folder} is empty: name a folder that holds video files")
    names = [path.stem for path in paths]
    clashes = sorted(
        {name for name in names if names.count(name) > 1 or name in {case.name for case in CASES}}
    )
    if clashes:
        raise UsageError(
            f"--clips {folder}: rows go by the files' names, and {clashes[0]!r} is taken: rename it"
        )
    return (*CASES, *(case for path in paths for case in _cases_of_clip(path)))


def _cases_of_clip(path: Path) -> tuple[Case, Case]:
    rate = "stream.bitrate_bps=24k"
    return Case(path.stem, settings=(rate,), path=path), Case(
        f"{path.stem}, losses", settings=(rate, _LOSSES), path=path
    )


class _Window:
    """Some pictures of the built-in clip, numbered from 0 (a `sender.readers.Reader`)."""

    def __init__(self, first: int, frames: int) -> None:
        clip = _builtin()
        self.damaged = 0
        self._slots = range(first, first + frames)
        self.info = SourceInfo(
            clip.name, clip.width, clip.height, clip.frame_rate, clip.time_base, clip.colour, frames
        )

    def samples(self) -> Iterator[Sample]:
        for number, slot in enumerate(self._slots):
            yield Sample(_builtin().picture(slot).planes, number)

    def close(self) -> None:
        """Nothing is held."""


@cache
def _builtin() -> BuiltinClip:
    return BuiltinClip()


# --- one case -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Digests:
    """What passed, in few digits: source pictures, units as sent, states after them, base pictures as received."""

    source: int = 0
    states: int = 0
    bases: int = 0
    stream: hashlib._Hash = field(default_factory=hashlib.sha256)

    def sent(self, frame: Frame, step: Step) -> None:
        self.source = _chained(self.source, picture_digest(frame.picture))
        self.states = _chained(self.states, step.state.digest)
        for unit in step.units:
            self.stream.update(unit.data)

    def shown(self, shown: Shown) -> None:
        if shown.scene is not None:
            self.bases = _chained(self.bases, picture_digest(shown.scene.base))

    def rows(self, case: str) -> list[Row]:
        found = {
            "source pictures": f"{self.source:08x}", "stream": self.stream.hexdigest()[:16],
            "states": f"{self.states:08x}", "base pictures": f"{self.bases:08x}",
        }  # fmt: skip
        return [Row(case=case, name=name, kind=Kind.DIGEST, value=value) for name, value in found.items()]


def _chained(before: int, digest: int) -> int:
    return zlib.crc32(digest.to_bytes(4, "big"), before)


def run_case(case: Case) -> list[Row]:
    """Send and receive, and measure. SourceError where nothing can be read, WeightsError without the decoder's."""
    with case.open() as source:
        clip = Clip(tuple(source))
        if not clip.frames:
            raise SourceError(f"{source.name} holds no picture")
        spec = parse_channel(case.config.channel.spec)
        if isinstance(spec, AnalogSpec):
            return _through_analog(case, source, clip, spec)
        return _through_link(case, source, clip)


def _through_link(case: Case, source: VideoSource, clip: Clip) -> list[Row]:
    config, record, digests = case.config, Record(), _Digests()
    sender = open_sender(source, config)
    stream = sender.config
    painter = open_painter(config, stream.seed, (stream.coded_height, stream.coded_width))
    receiver = ReceiverSession(config.receiver, painter, SystemClock())

    def on_sent(frame: Frame, step: Step) -> None:
        digests.sent(frame, step)
        if case.with_anchor:
            launch_anchor(sender)

    def on_shown(frame: Frame, shown: Shown, shown_s: float) -> None:
        digests.shown(shown)
        record.add(frame, shown, shown_s)

    try:
        result = Link(config, sender, receiver, SystemClock(), on_sent, on_shown).run(clip)
    finally:
        sender.close()
        receiver.aside.shutdown()
    measured = [*_rates(case, result), *_stalls(case, record, result, source)]
    return [*measured, *_qualities(case, record), *digests.rows(case.name)]


def _through_analog(case: Case, source: VideoSource, clip: Clip, spec: AnalogSpec) -> list[Row]:
    """Records and symbols are made in floating point: no digests."""
    stream, record = stream_of(source, case.config), Record()
    painter = open_painter(case.config, stream.seed, (stream.coded_height, stream.coded_width))
    link = AnalogLink(case.config, spec, stream, painter, record.add)
    result = link.run(clip)
    link.receiver.aside.shutdown()
    total = Row(case=case.name, name="bytes", kind=Kind.BYTES, value=result.sent_bytes)
    return [total, *_stalls(case, record, result, source), *_qualities(case, record)]


def _rates(case: Case, result: LinkResult) -> list[Row]:
    rows = [Row(case=case.name, name="bytes", kind=Kind.BYTES, value=result.sent_bytes)]
    for layer, size in layer_totals(result).items():
        rows.append(Row(case=case.name, name=f"{layer} bytes", kind=Kind.LAYER, value=size))
    return rows


def _stalls(case: Case, record: Record, result: LinkResult, source: VideoSource) -> list[Row]:
    """Pictures that were sent and not shown in time, pictures never shown, and freezes as W3C counts them."""
    concealed = sum(kind == "concealment" for _, kind in result.events)
    missing = len(result.layer_bytes) - len(record.levels)
    freezes = len(find_freezes(record.fresh_s, float(1 / source.frame_rate)))
    found = {"concealed": concealed, "not shown": missing, "freezes": freezes}
    return [Row(case=case.name, name=name, kind=Kind.STALLS, value=value) for name, value in found.items()]


def _qualities(case: Case, record: Record) -> list[Row]:
    """Means over the pictures shown; SourceError where there is none, for then there is nothing to compare."""
    if not record.source:
        raise SourceError(f"gate case {case.name!r}: no picture came through the link")
    series = {"guide": record.guide, "base": record.base, "output": record.output}
    rows = []
    for name, pictures in series.items():
        for metric, kind, digits in ((psnr_yuv, Kind.PSNR, 3), (ms_ssim, Kind.MS_SSIM, 5)):
            mean = _mean(metric, record.source, pictures)
            label = "PSNR" if kind is Kind.PSNR else "MS-SSIM"
            rows.append(Row(case=case.name, name=f"{label} of {name}", kind=kind, value=round(mean, digits)))
    return rows


def _mean(
    metric: Callable[[Picture, Picture], float], source: Iterable[Picture], pictures: Iterable[Picture]
) -> float:
    return float(np.mean([metric(a, b) for a, b in zip(source, pictures, strict=True)]))


# --- the stored stream --------------------------------------------------------------------------------------------


def stored_rows(path: Path = STORED) -> list[Row]:
    """Digests of what a receiver makes of stored bytes: integers alone, so the same on every machine.

    SourceError where the file is not there, which is outside a checkout.
    """
    decoder, states, bases = SceneDecoder(), 0, 0
    for data in read_sgv(path):
        decoder.push(data, 0.0)
    for slot in range(decoder.newest_slot + 1):
        scene = decoder.scene_at(slot)
        if scene is not None:
            states = _chained(states, scene.digest)
            bases = _chained(bases, picture_digest(compose(scene, decoder.residual_of(scene)).base))
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(decoder.counts.items()))
    found = {"units": counts, "states": f"{states:08x}", "base pictures": f"{bases:08x}"}
    return [
        Row(case="stored stream", name=name, kind=Kind.STORED, value=value) for name, value in found.items()
    ]

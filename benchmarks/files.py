"""Sender to a file, receiver from a file, and what a file holds."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.link import PROBE_FRAMES
from common.clock import SystemClock
from common.config import Config
from common.container import MAGIC, SgvWriter, is_sgv, read_sgv, unit_record
from common.errors import BitstreamError, SourceError, UsageError
from common.files import refuse_overwriting
from common.ports import Analyzer
from common.provenance import Provenance, read_provenance
from common.state import compose, picture_digest
from common.types import Feedback, Frame, UnitKind
from common.units import AnchorUnit, ConfigUnit, NoteUnit, StreamConfig
from common.wire import HEADER_BYTES, is_group, is_key, is_note, kind_of, parse_unit
from receiver.chain import SceneDecoder
from receiver.marking import read_video
from receiver.overlay import OVERLAYS, overlaid
from receiver.painter import open_painter
from receiver.pipeline import ReceiverSession, Shown
from receiver.provenance import PaintedTally
from receiver.scenes import Scenes
from receiver.sinks import Ffv1Sink
from receiver.timeline import Timeline
from sender.labels import BlankAnalyzer, LabelAnalyzer
from sender.pipeline import SenderSession, Step
from sender.rate import FILE, LINK, Pace, RateTarget
from sender.sources import VideoSource, open_source


def stream_of(source: VideoSource, config: Config) -> StreamConfig:
    """What both ends must agree on."""
    return StreamConfig(
        zlib.crc32(f"{source.name} {config.stream.seed}".encode()) & 0xFFFF, source.width, source.height,
        source.frame_rate, source.time_base, source.colour, config.stream.seed, config.guide.codec,
    )  # fmt: skip


def open_sender(
    source: VideoSource, config: Config, pace: Pace = LINK, session: int | None = None
) -> SenderSession:
    """A sender for everything that `source` will deliver, at the pace of a link or of a file.

    session : tells this stream from others, 16 bits; None: the same for the same source
    """
    stream = stream_of(source, config)
    if session is not None:
        stream = replace(stream, session=session)
    analyzer: Analyzer = (
        LabelAnalyzer(threads=config.sender.threads) if config.semantics.enabled else BlankAnalyzer()
    )
    target = RateTarget(config.stream.bitrate_bps, float(source.frame_rate))
    return SenderSession(stream, config, analyzer, target, pace, source.frame_count)


def open_input(
    source: str | None, config: Config, seconds: float | None, loop: bool = False, live: bool = False
) -> VideoSource:
    """The source at the configured size. loop, live : as for `open_source`"""
    size = config.stream.size
    shape = size if size == "auto" else (size.width, size.height)
    return open_source(source, shape, seconds, loop=loop, live=live)


def encoded(source: VideoSource, sender: SenderSession, writer: SgvWriter) -> Iterator[tuple[Frame, Step]]:
    """Send every frame of `source` into a file and say what each gave; `writer` counts the bytes.

    Raises SourceError for a source without a picture.
    """
    frames = iter(source)
    first = list(islice(frames, PROBE_FRAMES))
    if not first:
        raise SourceError(f"{source.name} holds no picture")
    sender.probe(first)
    for frame in chain(first, frames):
        step = sender.step(frame)
        complete = writer.write(step.units, sender.target.picture_bytes)
        anchors = tuple(_anchor_id(unit.data) for unit in complete)
        if anchors:
            sender.on_feedback(Feedback(0, anchors=anchors))
        yield frame, step


def encode_file(source_name: str, out: Path, config: Config, seconds: float | None = None) -> None:
    """Encode a source to `out` and print what it took; the last line is JSON.

    The file says that a receiver's pictures of it will partly be generated; the rate is without that.
    """
    if source_name:
        refuse_overwriting(Path(source_name), out)
    console = Console(stderr=True)
    base_digest, cuts, slots, last_s = 0, 0, 0, 0.0
    with (
        open_input(source_name, config, seconds) as source,
        SgvWriter(out, Provenance) as writer,
        Progress(console=console) as bar,
    ):
        sender = open_sender(source, config, FILE)
        task = bar.add_task("encode", total=source.frame_count)
        for frame, step in encoded(source, sender, writer):
            if step.units:
                base_digest = zlib.crc32(
                    picture_digest(compose(step.state, step.residual).base).to_bytes(4, "big"), base_digest
                )
            cuts += "cut" in step.events
            slots, last_s = frame.slot + 1, frame.time_s
            bar.update(task, completed=slots)
        rate, size = source.frame_rate, (source.width, source.height)
        sender.close()
    duration_s = last_s + float(1 / rate)
    stream_bytes = writer.bytes_written - writer.note_bytes
    document = {
        "file": out.name, "frames": slots, "width": size[0], "height": size[1], "fps": float(rate),
        "bytes": writer.bytes_written, "kbps": round(stream_bytes * 8 / duration_s / 1e3, 3),
        "target_kbps": config.stream.bitrate_bps / 1e3, "cuts": cuts, "base_digest": f"{base_digest:08x}",
    }  # fmt: skip
    print(json.dumps(document))


def _anchor_id(data: bytes) -> int:
    unit = parse_unit(data, 0, 0)
    assert isinstance(unit, AnchorUnit)
    return unit.anchor_id


def decode_file(path: Path, out: Path, config: Config, overlay: str = "none") -> None:
    """Decode a `.sgv` file to lossless video: one picture per frame slot. The last line printed is JSON.

    Pictures begin at the file's first slot and at time 0: a recording may be from the middle of a stream.
    A file that is cut short gives the pictures up to there, then a BitstreamError.
    """
    if overlay not in OVERLAYS:
        raise UsageError(f"overlay {overlay!r} is not known: use one of {', '.join(OVERLAYS)}")
    refuse_overwriting(path, out)
    if out.suffix.lower() != ".mkv":
        raise UsageError(
            f"{out}: lossless video is written as Matroska: name it {out.with_suffix('.mkv').name}"
        )
    session, stream, units = open_received(path, config)
    tally = PaintedTally.of(config.receiver)
    sink = Ffv1Sink(out, stream.frame_rate, stream.time_base, stream.colour, tally.marking)
    levels: Counter[str] = Counter()
    digest, broken, timeline = 0, None, Timeline(stream)
    with sink, Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("decode", total=path.stat().st_size)
        try:
            for shown in received(session, _counted(units, partial(bar.advance, task))):
                levels[shown.level] += 1
                tally.add(shown)
                sink.show(replace(overlaid(shown, overlay), pts=timeline.place(shown.frame)))
                if shown.scene is not None:
                    digest = zlib.crc32(picture_digest(shown.scene.base).to_bytes(4, "big"), digest)
        except BitstreamError as error:
            broken = error
        else:
            bar.update(task, completed=path.stat().st_size)  # lengths and the note are no units
        if not levels:  # what is wrong with the file, before the sink says that it got nothing
            if broken is not None:
                raise BitstreamError(f"{broken}; not one picture comes before that") from broken
            _refuse_damage(path, session.decoder)
    frames = levels.total()
    print(json.dumps({
        "file": out.name, "frames": frames, "levels": dict(levels), "base_digest": f"{digest:08x}",
        "damaged_units": session.decoder.counts["damaged"], "digest_mismatches": len(session.decoder.mismatches),
    }))  # fmt: skip
    if broken is not None:
        raise BitstreamError(f"{broken}; the {frames} frames before that are in {out}")
    _refuse_damage(path, session.decoder)


def _counted(units: Iterable[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    """The same units; `advance` is told the length of each."""
    for unit in units:
        advance(len(unit))
        yield unit


def _decodable(path: Path) -> Iterator[bytes]:
    """The units of a file but for notes; SourceError where the pictures are not among them."""
    for unit in read_sgv(path):
        if is_note(unit):
            continue
        if len(unit) >= HEADER_BYTES and is_group(unit):
            raise SourceError(
                f"{path} holds what an analog link sent as bits; its pictures crossed as symbols, which no file holds"
            )
        yield unit


def open_received(path: Path, config: Config) -> tuple[ReceiverSession, StreamConfig, Iterator[bytes]]:
    """A receiver for a `.sgv` file, what the stream is, and all its units. WeightsError without the decoder's weights."""
    units = _decodable(path)
    first, stream = _first_config(units, path)
    settings, size = config.receiver, (stream.coded_height, stream.coded_width)
    painter = open_painter(config, stream.seed, size)
    session = ReceiverSession(settings, painter, SystemClock())
    return session, stream, chain([first], units)


def received(session: ReceiverSession, units: Iterable[bytes]) -> Iterator[Shown]:
    """The picture of every frame slot from the one that the first configuration names.

    Where the units end in a BitstreamError, that comes after the pictures before.
    """
    broken = None
    try:
        for unit in units:
            session.receive(unit, 0.0)
            while session.playout.next_slot < session.decoder.newest_slot:
                yield session.paint(session.playout.next_slot)
    except BitstreamError as error:
        broken = error
    while session.playout.next_slot <= session.decoder.newest_slot:
        yield session.paint(session.playout.next_slot)
    if broken is not None:
        raise broken


def _refuse_damage(path: Path, decoder: Scenes) -> None:
    """A file has no second copy of what is damaged: say what is missing."""
    lost = decoder.undecodable + decoder.counts["damaged"]
    if lost:
        where = "before the first picture" if decoder.state is None else f"after frame {decoder.state.slot}"
        raise BitstreamError(f"{path} is damaged {where}: {lost} units could not be decoded")


def _first_config(units: Iterator[bytes], path: Path) -> tuple[bytes, StreamConfig]:
    for unit in units:
        if len(unit) >= 6 and kind_of(unit) is UnitKind.CONFIG:
            parsed = parse_unit(unit, 0, 0)
            assert isinstance(parsed, ConfigUnit)
            return unit, parsed.config
        break
    raise BitstreamError(f"{path} does not start with a stream configuration")


def describe_file(path: Path, json_only: bool) -> None:
    """Print what a `.sgv` file holds, or what a video says of its pictures; the last line is JSON."""
    if is_sgv(path):
        _describe_stream(path, json_only)
    else:
        _print(path, read_video(path), json_only)


def _describe_stream(path: Path, json_only: bool) -> None:
    decoder = SceneDecoder()
    layers: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    keys: list[int] = []
    digest, first_slot = 0, 0
    broken: BitstreamError | None = None
    try:
        for data in _decodable(path):
            before = decoder.counts["frame"]
            decoder.push(data, 0.0)
            first_slot = first_slot if kinds else decoder.newest_slot + 1
            kinds[kind_of(data).name.lower()] += 1
            if kind_of(data) is not UnitKind.FRAME:
                layers[kind_of(data).name.lower()] += len(data)
            if kind_of(data) is UnitKind.FRAME and is_key(data):
                keys.append(decoder.newest_slot)
            if decoder.counts["frame"] > before:
                scene = decoder.scene_at(decoder.newest_slot)
                if scene is not None:
                    base = compose(scene, decoder.residual_of(scene)).base
                    digest = zlib.crc32(picture_digest(base).to_bytes(4, "big"), digest)
    except BitstreamError as error:
        broken = error
    if decoder.config is None:
        raise broken or BitstreamError(f"{path} holds no stream configuration")
    document = _document(path, decoder, layers, kinds, keys, first_slot, digest)
    _print(path, document, json_only)
    if broken is not None:
        raise broken
    _refuse_damage(path, decoder)


def _document(
    path: Path,
    decoder: SceneDecoder,
    layers: Counter[str],
    kinds: Counter[str],
    keys: Sequence[int],
    first_slot: int,
    digest: int,
) -> dict[str, object]:
    stream = decoder.config
    assert stream is not None
    frames = decoder.newest_slot + 1 - first_slot
    size, (provenance, note_bytes) = path.stat().st_size, _note_of(path)
    duration_s = float(Fraction(frames) / stream.frame_rate)
    layers.update({"note": note_bytes} if note_bytes else {})
    layers.update({layer.name.lower(): count for layer, count in decoder.layers.items() if count})
    layers["container"] = size - sum(layers.values())
    return {
        "file": path.name, "version": MAGIC[3], "width": stream.width, "height": stream.height,
        "fps": float(stream.frame_rate), "frames": frames, "first_slot": first_slot,
        "duration_s": round(duration_s, 4), "bytes": size,
        "kbps": round((size - note_bytes) * 8 / duration_s / 1e3, 3) if frames else None,
        "units": dict(kinds), "bytes_by_layer": dict(layers),
        "anchors": decoder.counts["anchor"], "key_frames": list(keys), "base_digest": f"{digest:08x}",
        "colour": {"matrix": stream.colour.matrix, "full_range": stream.colour.full_range},
        "guide_codec": stream.guide_codec,
        "damaged_units": decoder.counts["damaged"], "seed": stream.seed, "session": stream.session,
        "provenance": None if provenance is None else provenance.document(),
    }  # fmt: skip


def _note_of(path: Path) -> tuple[Provenance | None, int]:
    """What the file says of its pictures, and the bytes that this takes."""
    found, size = None, 0
    with suppress(BitstreamError):
        for data in read_sgv(path):
            if is_note(data):
                note = parse_unit(data, 0, 0)
                assert isinstance(note, NoteUnit)
                found, size = read_provenance(note.text), size + len(unit_record(data))
    return found, size


def _print(path: Path, document: Mapping[str, object], json_only: bool) -> None:
    if not json_only:
        table = Table(title=path.name, show_header=False)
        for name, value in document.items():
            table.add_row(name, json.dumps(value))
        Console().print(table)
    print(json.dumps(document))

"""What recordings say of their pictures: in the file, in time, and only to their owner."""

from __future__ import annotations

import json
import stat
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.files import describe_file
from common.config import load_config
from common.container import SgvWriter, private_file, read_sgv
from common.errors import SourceError, WeightsError
from common.provenance import (
    ENHANCED,
    MAX_BYTES,
    PARTLY_GENERATED,
    STATEMENT,
    Provenance,
    UncertaintySummary,
    WeightsId,
    read_provenance,
)
from common.types import Frame, UnitKind
from common.units import NoteUnit
from common.weights import load_weights, weights_id
from common.wire import is_note, kind_of, pack_note, parse_unit
from receiver.chain import SceneDecoder
from receiver.encoding import Encoding, VideoEncoder
from receiver.marking import in_pictures, padded, read_video
from receiver.pipeline import Shown
from receiver.provenance import PaintedTally, model_of
from receiver.sinks import Ffv1Sink, Mp4Sink
from tests.golden.make_stream import STORY
from tests.small_stream import frame

TINY = WeightsId(name="tiny", sha256="ab" * 32)
RATE, TICK = Fraction(25), Fraction(1, 25)
LONGEST = Provenance(
    software="s" * 64, model=WeightsId(name="n" * 64, sha256="0" * 64), pictures=10**9, generated_pictures=10**9,
    uncertainty=UncertaintySummary(mean=123.456, p95=123.75), statement=STATEMENT,
)  # fmt: skip


def shown(level: str, uncertainty: int | None = None, concealed: bool = False) -> Shown:
    cells = None if uncertainty is None else np.full((4, 4), uncertainty, np.uint8)
    return Shown(frame(0), level, concealed, None, cells, 0.0, False)


def counted(*pictures: Shown) -> PaintedTally:
    tally = PaintedTally(TINY)
    for picture in pictures:
        tally.add(picture)
    return tally


# --- the statement ------------------------------------------------------------------------------------------------


def test_it_comes_back_and_later_fields_do_no_harm() -> None:
    assert read_provenance(LONGEST.text()) == LONGEST
    assert read_provenance(LONGEST.text().replace("{", '{"more": 1,', 1).encode()) == LONGEST
    assert json.loads(Provenance().text())["schema"] == "semcast.provenance/1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "a holiday",
        b"\xff\xfe",
        '{"schema": "semcast.provenance/2"}',
        "[" * 500,
        " " * (MAX_BYTES + 1),
    ],
)
def test_other_comments_are_no_statement(text: str | bytes) -> None:
    assert read_provenance(text) is None


def test_pictures_are_counted_by_what_painted_them() -> None:
    before = counted().marking()
    assert (before.model, before.pictures, before.uncertainty) == (TINY, None, None)
    assert before.digital_source_type == PARTLY_GENERATED
    held_first = counted(shown("hold", concealed=True), shown("base"), shown("bridge1", 8)).marking()
    assert (held_first.pictures, held_first.generated_pictures) == (3, 1)
    later = counted(shown("bridge1", 8), shown("bridge2", 16), shown("hold", concealed=True)).marking()
    assert (later.pictures, later.generated_pictures) == (3, 3)
    plain_again = counted(shown("bridge1", 8), shown("base", 200), shown("hold", concealed=True)).marking()
    assert (plain_again.generated_pictures, plain_again.uncertainty) == (
        1,
        UncertaintySummary(mean=2.0, p95=2.0),
    )
    assert later.uncertainty == UncertaintySummary(mean=3.0, p95=4.0)


def test_without_a_decoder_nothing_is_called_generated() -> None:
    tally = PaintedTally(model_of(load_config(None, ["receiver.steps=0"]).receiver))
    tally.add(shown("base"))
    marking = tally.marking()
    assert (marking.digital_source_type, marking.model, marking.statement) == (ENHANCED, None, None)
    assert marking.generated_pictures == 0


def test_the_weights_are_named_by_their_hash(tmp_path: Path) -> None:
    assert weights_id("tiny").sha256 == load_weights("tiny").sha256
    other = tmp_path / "mine.safetensors"
    other.write_bytes(b"not looked into")
    assert weights_id(str(other)).name == "mine"
    with pytest.raises(WeightsError, match="no weights named"):
        weights_id("nothing")


# --- in a stream --------------------------------------------------------------------------------------------------


def test_a_stream_ends_with_its_note(tmp_path: Path) -> None:
    path = tmp_path / "a.sgv"
    units = list(read_sgv(STORY.stream_file))
    tally = counted()
    with SgvWriter(path, tally.marking) as writer:
        before = writer.bytes_written
        tally.add(shown("bridge1", 8))
    *_, last = read_sgv(path)
    assert (
        is_note(last) and writer.note_bytes == writer.bytes_written - before == path.stat().st_size - before
    )
    note = parse_unit(last, 5, 77)
    assert isinstance(note, NoteUnit)
    found = read_provenance(note.text)
    assert found is not None and (found.pictures, found.model) == (1, TINY)
    assert not any(map(is_note, units))


def test_a_note_on_a_link_changes_nothing() -> None:
    decoder, plain = SceneDecoder(), SceneDecoder()
    note = pack_note(NoteUnit(Provenance().text().encode())).data
    assert kind_of(note) is UnitKind.RESIDUAL
    for unit in read_sgv(STORY.stream_file):
        plain.push(unit, 0.0)
        decoder.push(unit, 0.0)
        decoder.push(note, 0.0)
    assert decoder.state is not None and plain.state is not None
    assert decoder.state.digest == plain.state.digest
    assert decoder.counts["damaged"] == 0 == decoder.undecodable


# --- in a video ---------------------------------------------------------------------------------------------------


def record(path: Path, tally: PaintedTally, complete: bool = True) -> Ffv1Sink | Mp4Sink:
    sink = (Ffv1Sink if path.suffix == ".mkv" else Mp4Sink)(path, RATE, TICK, frame(0).colour, tally.marking)
    for slot in range(60):
        tally.add(shown("bridge1", 8))
        sink.show(as_frame(slot))
    if complete:
        sink.close()
    return sink


def as_frame(slot: int) -> Frame:
    return replace(frame(0), pts=slot, slot=slot)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_complete_video_says_all(tmp_path: Path, name: str) -> None:
    path, tally = tmp_path / name, counted()
    record(path, tally)
    document = read_video(path)
    assert document["provenance"] == tally.marking().document()
    assert tally.marking().pictures == 60
    with av.open(str(path)) as container:  # and still is a sound video
        assert sum(1 for _ in container.decode(video=0)) == 60


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_an_interrupted_video_says_what_was_known(tmp_path: Path, name: str) -> None:
    sink = record(tmp_path / name, counted(), complete=False)
    sink.abandon()
    provenance = read_video(sink.partial_path)["provenance"]
    assert isinstance(provenance, dict)
    assert provenance["model"] == TINY.model_dump() and "pictures" not in provenance


def test_the_checksum_of_matroska_tags_stays_right(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    record(path, counted())
    data = path.read_bytes()
    tags = data.rindex(b"\x12\x54\xc3\x67", 0, data.index(b"semcast.provenance"))
    size = int.from_bytes(data[tags + 4 : tags + 6], "big") & 0x3FFF
    payload = data[tags + 6 : tags + 6 + size]
    assert payload[:2] == b"\xbf\x84"
    assert zlib.crc32(payload[6:]) == int.from_bytes(payload[2:6], "little")


def test_the_longest_statement_has_room() -> None:
    assert len(padded(LONGEST)) == len(padded(Provenance()))
    assert len(padded(LONGEST)) <= MAX_BYTES


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_without_a_marking_nothing_is_said(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with (Ffv1Sink if name == "a.mkv" else Mp4Sink)(path, RATE, TICK, frame(0).colour) as sink:
        sink.show(as_frame(0))
    assert read_video(path)["provenance"] is None


@pytest.mark.parametrize("marking", [Provenance(), LONGEST], ids=["short", "longest"])
def test_what_goes_with_the_pictures_needs_no_container(tmp_path: Path, marking: Provenance) -> None:
    path = tmp_path / "a.h264"
    encoding = Encoding("h264", "libx264", {"g": "4", "tune": "zerolatency"})
    encoder = VideoEncoder(
        str(path), "a", encoding, RATE, TICK, frame(0).colour, before_keys=in_pictures(marking)
    )
    for slot in range(8):
        encoder.write(as_frame(slot))
    encoder.finish()
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 8
    data = path.read_bytes()
    assert data.count(in_pictures(marking)) == 2, "one for each key picture"
    path.write_bytes(data[data.rindex(in_pictures(marking)) :])  # who came too late for the first
    assert read_video(path)["provenance"] == marking.document()


# --- seen and unseen ----------------------------------------------------------------------------------------------


def test_only_the_owner_reads_a_recording(tmp_path: Path) -> None:
    record(tmp_path / "a.mkv", counted())
    record(tmp_path / "a.mp4", counted())
    with SgvWriter(tmp_path / "a.sgv"):
        pass
    (tmp_path / "old").touch(mode=0o644)
    private_file(tmp_path / "old").close()
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


@pytest.mark.parametrize("name", ["a.mkv", "a.sgv"])
def test_info_shows_it(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path, tally = tmp_path / name, counted()
    if name == "a.mkv":
        record(path, tally)
    else:
        with SgvWriter(path, tally.marking):
            pass
        body = STORY.stream_file.read_bytes() + path.read_bytes()[4:]
        path.write_bytes(body)
    describe_file(path, json_only=False)
    table, *_, last = capsys.readouterr().out.splitlines()
    assert name in table or "─" in table
    document = json.loads(last)
    assert document["provenance"]["model"]["sha256"] == TINY.sha256
    if name == "a.sgv":
        assert document["bytes_by_layer"]["note"] == len(body) - STORY.stream_file.stat().st_size
        assert sum(document["bytes_by_layer"].values()) == document["bytes"]


@pytest.mark.parametrize("content", [b"", b"RIFF....", b"SG", b"\x1aE\xdf\xa3"])
def test_info_of_neither_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "what"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"neither a \.sgv file nor a video"):
        describe_file(path, json_only=True)

"""Recording from the middle of a stream: what arrived and what was shown, complete from a key frame on."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from benchmarks.files import decode_file, describe_file
from common.clock import VirtualClock
from common.config import ReceiverSettings, load_config
from common.container import MAGIC, read_sgv, unit_record
from common.errors import BitstreamError, SinkError
from common.state import compose, picture_digest
from common.types import EncodedUnit, UnitKind
from common.units import AnchorUnit, ConfigUnit
from common.wire import is_key, is_note, kind_of, pack_config, parse_unit
from receiver.painter import BasePainter
from receiver.pipeline import ReceiverSession, Shown
from receiver.recording import Recorder
from sender.pipeline import Step
from sender.sources import open_source
from tests.small_stream import STREAM, Recording, open_session, record

FIRST, REFRESH, LAST = 5000, 5032, 5071
LATE_ANCHOR = 5028
BASE_ONLY = load_config(None, ["receiver.steps=0", "receiver.budget_ms=none"])


@pytest.fixture(scope="module")
def story() -> Recording:
    """Slots 5000 to 5071: an anchor at 5028 that is still on its way at the refresh at 5032, and one at 5044."""
    session = open_session()
    return record(range(FIRST, LAST + 1), session, refresh_at=(REFRESH,), launch_at=(LATE_ANCHOR, 5044))


def units_of(steps: Sequence[Step]) -> list[list[EncodedUnit]]:
    """Units by frame as they arrive; the first anchor only after the key frame that forgets it."""
    frames = [list(step.units) for step in steps]
    anchor = next(u for units in frames for u in units if u.kind is UnitKind.ANCHOR)
    at = LATE_ANCHOR - FIRST
    if at < len(frames) and anchor in frames[at]:
        frames[at].remove(anchor)
        frames[REFRESH - FIRST + 2].append(anchor)
    return frames


class Live:
    """A receiver on stream time, and a recorder that is there from `begin` on."""

    def __init__(self, folder: Path) -> None:
        self.session = ReceiverSession(
            ReceiverSettings(steps=0, budget_ms=None), BasePainter(), VirtualClock()
        )
        self.folder = folder
        self.recorder: Recorder | None = None
        self.shown: list[Shown] = []

    def begin(self) -> Recorder:
        assert self.session.decoder.config is not None
        self.recorder = Recorder(self.folder, "take", self.session.decoder.config)
        return self.recorder

    def run(self, slots: Iterable[int], units: Iterable[Sequence[EncodedUnit]]) -> None:
        for slot, arrived in zip(slots, units, strict=True):
            for unit in arrived:
                self.session.receive(unit.data, slot / 25)
                if self.recorder is not None:
                    self.recorder.unit(unit.data)
            for shown in self.session.due(slot / 25):
                self.shown.append(shown)
                if self.recorder is not None:
                    self.recorder.shown(shown)


@pytest.fixture(scope="module")
def take(story: Recording, tmp_path_factory: pytest.TempPathFactory) -> tuple[Live, tuple[str, ...]]:
    """Recorded from slot 5010 on, that is from the refresh."""
    live = Live(tmp_path_factory.mktemp("take"))
    frames = units_of(story.steps)
    live.run(range(FIRST, 5010), frames[:10])
    recorder = live.begin()
    assert not recorder.begun
    live.run(range(5010, LAST + 1), frames[10:])
    assert recorder.begun
    return live, recorder.close()


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_file_begins_with_the_configuration_and_the_key_frame(
    take: tuple[Live, tuple[str, ...]], story: Recording
) -> None:
    live, files = take
    assert files == ("take.sgv", "take.mp4") and sorted(p.name for p in live.folder.iterdir()) == sorted(
        files
    )
    units = list(read_sgv(live.folder / "take.sgv"))
    first = parse_unit(units[0], 0, 0)
    assert isinstance(first, ConfigUnit) and (first.config, first.slot) == (STREAM, REFRESH)
    assert is_key(units[1])
    sent = [
        u.data for f, s in zip(story.frames, story.steps, strict=True) if f.slot >= REFRESH for u in s.units
    ]
    frames = [u for u in units if kind_of(u) is UnitKind.FRAME]
    assert frames == [u for u in sent if kind_of(u) is UnitKind.FRAME]
    anchors = [parse_unit(u, 0, 0) for u in units if kind_of(u) is UnitKind.ANCHOR]
    assert [a.slot for a in anchors if isinstance(a, AnchorUnit)] == [5044], "what was under way is left out"


def test_decode_begins_at_the_first_slot(
    take: tuple[Live, tuple[str, ...]], story: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live, _ = take
    decode_file(live.folder / "take.sgv", tmp_path / "take.mkv", BASE_ONLY)
    result = last_json(capsys)
    assert result["frames"] == LAST - REFRESH + 1 and result["levels"].keys() <= {"base", "hold"}
    digest = 0
    for source, step in zip(story.frames, story.steps, strict=True):
        if source.slot >= REFRESH and step.units:
            base = compose(step.state, step.residual).base
            digest = zlib.crc32(picture_digest(base).to_bytes(4, "big"), digest)
    assert result["base_digest"] == f"{digest:08x}", "the very pictures that the sender means"
    with open_source(str(tmp_path / "take.mkv")) as source:
        times = [frame.pts * frame.time_base for frame in source]
    assert times == [Fraction(k, 25) for k in range(LAST - REFRESH + 1)]


@pytest.mark.parametrize(
    ("kept", "message"),
    [(slice(0, -1), "cut short; not one picture comes before that"), (slice(None), "damaged")],
)
def test_a_file_without_one_sound_picture_says_so_and_leaves_nothing(
    take: tuple[Live, tuple[str, ...]], tmp_path: Path, kept: slice, message: str
) -> None:
    config, key = list(islice(read_sgv(take[0].folder / "take.sgv"), 2))
    broken = key[:-1] + bytes([key[-1] ^ 255])
    (tmp_path / "broken.sgv").write_bytes((MAGIC + unit_record(config) + unit_record(broken))[kept])
    with pytest.raises(BitstreamError, match=message):
        decode_file(tmp_path / "broken.sgv", tmp_path / "broken.mkv", BASE_ONLY)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.sgv"]


def test_info_knows_where_it_begins(
    take: tuple[Live, tuple[str, ...]], story: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    live, _ = take
    describe_file(live.folder / "take.sgv", json_only=True)
    result = last_json(capsys)
    assert (result["first_slot"], result["frames"]) == (REFRESH, LAST - REFRESH + 1)
    assert result["key_frames"][0] == REFRESH and result["anchors"] == 1
    assert result["duration_s"] == pytest.approx(result["frames"] / 25)
    assert result["bytes"] == sum(result["bytes_by_layer"].values())


def test_the_video_is_what_was_shown_since(take: tuple[Live, tuple[str, ...]]) -> None:
    live, _ = take
    shown = [s.frame for s in live.shown if s.frame.slot >= REFRESH]
    with open_source(str(live.folder / "take.mp4")) as source:
        frames = list(source)
    assert [f.time_s for f in frames] == pytest.approx([k / 25 for k in range(len(shown))])
    with av.open(str(live.folder / "take.mp4")) as container:
        assert container.streams.video[0].start_time == 0
    for wanted, frame in zip(shown, frames, strict=True):
        assert np.abs(wanted.picture.y.astype(int) - frame.picture.y).mean() < 4


def test_after_a_long_outage_the_file_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers in units are modulo 256: here the stream is gone for 400 frames."""
    story = record([*range(5000, 5012), *range(5412, 5424)], open_session(2_000_000), refresh_at=(5412,))
    recorder = Recorder(tmp_path, "take", STREAM)
    for unit in story.units:
        if unit.kind is UnitKind.CONFIG and unit.slot >= 5412:
            continue  # the repeated configuration got lost as well
        recorder.unit(unit.data)
    assert recorder.close() == ("take.sgv",), "no picture was shown"
    decode_file(tmp_path / "take.sgv", tmp_path / "take.mkv", BASE_ONLY)
    result = last_json(capsys)
    assert result["frames"] == 424 and result["levels"]["base"] == 24
    describe_file(tmp_path / "take.sgv", json_only=True)
    assert last_json(capsys)["key_frames"] == [5000, 5412]


def test_an_empty_recording_is_an_error_and_leaves_nothing(story: Recording, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "new", "take", STREAM)
    for step in story.steps[3:20]:
        for unit in step.units:
            recorder.unit(unit.data)
    recorder.unit(b"")
    recorder.unit(b"\x40")
    with pytest.raises(SinkError, match="nothing was recorded"):
        recorder.close()
    assert list((tmp_path / "new").iterdir()) == []


def test_a_damaged_key_frame_begins_nothing(story: Recording, tmp_path: Path) -> None:
    key = next(u for u in story.units if u.key and u.kind is UnitKind.FRAME)
    recorder = Recorder(tmp_path, "take", STREAM)
    recorder.unit(pack_config(STREAM, FIRST).data)
    recorder.unit(key.data[:-1] + bytes([key.data[-1] ^ 1]))
    assert not recorder.begun
    recorder.unit(key.data)
    assert recorder.begun
    recorder.abandon()
    recorder.abandon()
    assert [p.name for p in tmp_path.iterdir()] == ["take.sgv.partial"]


def test_another_stream_ends_it(story: Recording, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "take", STREAM)
    for unit in story.units[:6]:
        recorder.unit(unit.data)
    recorder.unit(pack_config(replace(STREAM, session=8, width=64), 0).data)
    for unit in story.units[6:]:
        recorder.unit(unit.data)
    assert recorder.close() == ("take.sgv",)
    units = [u for u in read_sgv(tmp_path / "take.sgv") if not is_note(u)]
    frames = [u for u in units if kind_of(u) is not UnitKind.CONFIG]
    assert frames == [u.data for u in story.units[:6] if u.kind is not UnitKind.CONFIG]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "take.mp4").write_text("an older recording")
    (tmp_path / "take-2.sgv.partial").write_text("what is left of one that was given up")
    assert Recorder(tmp_path, "take", STREAM).files == ("take-3.sgv", "take-3.mp4")
    assert Recorder(tmp_path, "5.june", STREAM).files == ("5.june.sgv", "5.june.mp4")


def test_bad_places_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot be made"):
        Recorder(tmp_path / "file" / "folder", "take", STREAM)


def test_a_full_disk_gives_it_up_in_one_line(story: Recording, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    recorder = Recorder(tmp_path, "take", STREAM)
    (tmp_path / "take.sgv.partial").symlink_to("/dev/full")
    with pytest.raises(SinkError, match="No space left") as caught:
        for unit in story.units:
            recorder.unit(unit.data)
        recorder.close()
    assert "\n" not in str(caught.value)
    recorder.unit(story.units[0].data)
    with pytest.raises(SinkError, match="given up"):
        recorder.close()
    recorder.abandon()

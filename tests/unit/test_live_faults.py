"""Faults: what is chosen, what is left of recordings, the table; and the faults that are built into programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.live import faulty
from benchmarks.live.faults import FAULTS, Fault, Refusal, chosen, kill_sender
from benchmarks.live.faults_page import (
    FaultRow,
    Kept,
    fault_table,
    frames_of,
    kept_in,
    merged,
    rows_as_text,
    rows_of,
    write_document,
)
from benchmarks.live.rig import Event, Rig
from benchmarks.live.viewer import link_of
from channel import packetise
from common.clock import UnixClock
from common.container import SgvWriter
from common.datagram import WholeUnit, pack_datagram, parse_datagram
from common.errors import UsageError, WeightsError
from common.types import EncodedUnit, UnitKind
from common.weights import load_weights
from receiver.decoder.model import FAMILY

ROW = FaultRow("cut", "2 s", ("page: connected, silent", "receiver: a | b"), Kept(9, 8, 2), 0.5, 2.5, "good")


def test_faults_are_chosen_by_name_and_the_long_one_only_when_asked_for() -> None:
    assert len({(fault.name, fault.meaning) for fault in FAULTS}) == len(FAULTS)
    assert "cut of 60 s" not in {fault.name for fault in chosen((), False)}
    assert chosen((), True) == list(FAULTS)
    assert [fault.name for fault in chosen(["cut of 60 s"], False)] == ["cut of 60 s"]
    with pytest.raises(UsageError, match="there is no fault 'flood': there are kill -9"):
        chosen(["flood"], False)
    assert [fault.meaning for fault in chosen(["wrong weights", "disorder"], False)] == [
        "weights of another network; it does not start", "a damaged file; it does not start",
        "30 % of the packets held back, 30 % twice, 5 s",
    ]  # fmt: skip
    assert "wrong weights" in {fault.name for fault in chosen((), False)}
    links = [fault for fault in FAULTS if isinstance(fault, Fault)]
    assert all(set(fault.built_in.values()) <= set(faulty.FAULTS) for fault in links)
    assert Fault("a", "b", kill_sender).after_s < 10


def test_weights_that_a_receiver_refuses_are_written(tmp_path: Path) -> None:
    for fault in FAULTS:
        if isinstance(fault, Refusal):
            with pytest.raises(WeightsError):
                load_weights(str(fault.weights(tmp_path)), FAMILY)
    (other,) = [fault for fault in FAULTS if isinstance(fault, Fault) and fault.weights is not None]
    assert other.weights is not None
    loaded, shipped = load_weights(str(other.weights(tmp_path)), FAMILY), load_weights("tiny", FAMILY)
    assert loaded.sha256 != shipped.sha256 and loaded.config == shipped.config


def test_rows_are_kept_and_replaced() -> None:
    again, other = replace(ROW, recovered_s=0.1), replace(ROW, fault="kill")
    assert merged(merged([], ROW), other) == [ROW, other]
    assert merged([ROW, other], again) == [again, other]
    assert rows_of(rows_as_text([ROW, other])) == [ROW, other]
    with pytest.raises(UsageError, match="choose another --out"):
        rows_of('[{"fault": 1}]')


def test_the_document_says_what_was_seen(tmp_path: Path) -> None:
    write_document([ROW, replace(ROW, kept=Kept(), recovered_s=None)], tmp_path / "faults.md")
    lines = (tmp_path / "faults.md").read_text().splitlines()
    assert lines[-2] == (
        "| cut | 2 s | page: `connected, silent`<br>receiver: `a / b` | 2 complete: 9 frames, 8 pictures "
        "| 0.5 s | 2.5 s | good |"
    )
    assert "| - | - | 2.5 s |" in lines[-1]
    assert fault_table([ROW]).rows[0][-1] == "good"


def test_of_a_recording_that_broke_off_what_is_there_counts(tmp_path: Path) -> None:
    frame = EncodedUnit(UnitKind.FRAME, 0, bytes([UnitKind.FRAME << 6]) + bytes(40))
    with SgvWriter(tmp_path / "a.sgv") as writer:
        writer.write([frame] * 5)
    (tmp_path / "b.sgv.partial").write_bytes((tmp_path / "a.sgv").read_bytes()[:-10])
    (tmp_path / "b.partial.mp4").write_bytes(b"no video")
    assert (frames_of(tmp_path / "a.sgv"), frames_of(tmp_path / "b.sgv.partial")) == (5, 4)
    kept = kept_in(tmp_path)
    assert kept == Kept(9, 0, 1, 2) and not kept.readable
    assert kept.text == "1 complete, 2 partial: 9 frames, 0 pictures" and Kept().text == "-"


# --- what is seen -------------------------------------------------------------------------------------------------


def told(*lines: dict[str, Any]) -> Any:
    return SimpleNamespace(lines={"out": [json.dumps(line) for line in lines], "err": []})


def test_events_of_all_viewers_in_order() -> None:
    picture = {"kind": "picture", "slot": 3, "concealed": False, "level": "base"}
    rig = Rig(cast("Any", None), None, Path())
    rig.viewers = [told({**picture, "at_s": 5.0}), told({**picture, "at_s": 4.0, "concealed": True})]
    assert [event.at_s for event in rig.events()] == [4.0, 5.0]
    assert [event.fresh for event in rig.events()] == [False, True]
    assert rig.picture(0.0, 1.0) == Event(5.0, "picture", {"slot": 3, "concealed": False, "level": "base"})
    assert rig.wait_for(lambda event: True, after_s=6.0, timeout_s=0.0) is None


def test_the_link_of_a_page() -> None:
    assert link_of("http://10.77.0.2:8080/?token=abc") == "ws://10.77.0.2:8080/link?token=abc"


# --- built in -----------------------------------------------------------------------------------------------------


def active(state: list[bool]) -> Callable[[], bool]:
    return lambda: state[0]


def test_corrupted_datagrams_have_a_right_crc(monkeypatch: pytest.MonkeyPatch) -> None:
    state = [False]
    monkeypatch.setattr(packetise, "pack_datagram", pack_datagram)
    monkeypatch.setattr(faulty, "CORRUPTED", 1.0)
    faulty.corrupt(active(state))
    record = WholeUnit(bytes(50))
    assert parse_datagram(packetise.pack_datagram(1, [record])).records == (record,)
    state[0] = True
    (damaged,) = parse_datagram(packetise.pack_datagram(2, [record])).records
    assert isinstance(damaged, WholeUnit) and sum(byte != 0 for byte in damaged.data) == 1


def test_wall_clocks_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    rtc = pytest.importorskip("aiortc.clock")
    monkeypatch.setattr(UnixClock, "now_s", UnixClock.now_s)
    monkeypatch.setattr(rtc, "current_datetime", rtc.current_datetime)
    state = [False]
    faulty.clock(active(state))
    before, rtc_before = UnixClock().now_s(), rtc.current_datetime()
    state[0] = True
    assert UnixClock().now_s() - before >= faulty.JUMP_S
    assert (rtc.current_datetime() - rtc_before).total_seconds() >= faulty.JUMP_S

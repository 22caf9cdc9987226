"""The measurement of two processes: both finish, and what they say adds up."""

from __future__ import annotations

import pytest

from benchmarks.two_ends import measure_ends
from common.config import load_config
from common.errors import ChannelError

SMALL = ["stream.size=64x64", "semantics.enabled=false", "receiver.steps=0", "stream.bitrate_bps=64k"]


@pytest.mark.slow
def test_two_processes_report_their_pace_and_memory() -> None:
    ends = measure_ends(None, load_config(None, SMALL), 1.0, 25.0)
    assert ends.frames == 25 and 0 < ends.shown_frames <= 25
    assert ends.realtime_factor == pytest.approx(min(ends.sender_fps, ends.receiver_fps) / 25)
    assert ends.painted_frames == 0  # without the network there is nothing above the base picture
    assert min(ends.sender_peak_memory_mib, ends.receiver_peak_memory_mib) > 20


@pytest.mark.slow
def test_an_end_that_fails_is_said_in_one_line() -> None:
    with pytest.raises(ChannelError, match="failed"):
        measure_ends("nowhere.mp4", load_config(None, SMALL), 0.2, 25.0)

"""How thresholds are measured and kept."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import pytest

pytest.importorskip("sionna.phy", reason="needs the extra `radio`: pip install 'semcast[radio]'")

from channel.radio.mcs import MCS_NAMES, MCS_TABLE, THRESHOLDS_FILE, mcs_named
from channel.radio.thresholds import (
    LENGTHS,
    Point,
    as_text,
    block_failures,
    main,
    measure_point,
    measured_lengths,
    merged,
    snr_at,
)


def test_every_scheme_has_been_measured() -> None:
    for mcs in MCS_TABLE:
        assert tuple(row.uses for row in mcs.thresholds) == measured_lengths(mcs)
        assert len(mcs.thresholds) == LENGTHS
    assert measured_lengths(mcs_named("qpsk-1/10")) == (480, 960, 1920)
    assert measured_lengths(mcs_named("qpsk-1/5")) == (240, 480, 960)


def test_rows_of_named_schemes_replace_theirs_alone() -> None:
    text = files("channel.radio").joinpath(THRESHOLDS_FILE).read_text(encoding="utf-8")
    new = {"qpsk-1/2": [{"uses": 120, "bler_1e-1": 1.0, "bler_1e-2": 2.0}]}
    rows = json.loads(as_text(merged(new, text)))["thresholds"]
    assert tuple(rows) == MCS_NAMES
    assert rows == {**json.loads(text)["thresholds"], **new}


def test_the_rate_between_two_points_is_interpolated() -> None:
    points = [Point(0.0, 100, 50), Point(0.2, 100, 20), Point(0.4, 1000, 50)]
    assert snr_at(points, 0.2) == pytest.approx(0.2)
    assert snr_at(points, 0.1) == pytest.approx(0.3)


@pytest.mark.parametrize("name", ["qpsk-1/10", "qpsk-1/5"])
def test_blocks_fail_as_often_as_measured(name: str) -> None:
    mcs = next(mcs for mcs in MCS_TABLE if mcs.name == name)
    failures = block_failures(mcs, 480, np.random.default_rng(1))
    point = measure_point(failures, mcs.threshold_db(480, "1e-1"), batch=300, enough_errors=1)
    assert point.errors == pytest.approx(30, abs=16)  # three standard deviations


def test_schemes_that_do_not_exist_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["qpsk-1/2", "qpsk-1/7"])
    assert caught.value.code == 2
    assert "unknown schemes: qpsk-1/7" in capsys.readouterr().err

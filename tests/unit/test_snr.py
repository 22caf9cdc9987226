"""`semcast bench snr`: the plan, which runs it means, their figures, and a small sweep from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sionna.phy", reason="needs the extra `radio`: pip install 'semcast[radio]'")

from benchmarks.plans import Clip, find_clips
from benchmarks.rd_clip import ClipFacts, Material
from benchmarks.rd_quality import Quality
from benchmarks.snr import analog_of, our_config, run_snr, runs_of, stepped
from benchmarks.snr_figures import lines, requirements
from benchmarks.snr_model import ENVELOPE, ChannelReport, Row
from benchmarks.snr_plan import QUICK, ChannelPlan, SnrPlan, load_plan
from benchmarks.snr_report import channel_tables, main_systems
from benchmarks.snr_runs import LinkPoint
from channel.spec import parse_channel
from common.config import Size
from common.errors import ConfigError, UsageError

AWGN = ChannelPlan(
    name="AWGN", spec="awgn:snr_db={x},tti_ms=20", axis="snr_db", values=(-4, -2, 0, 2, 4, 8, 12),
    other_values=(0, 8), mcs=("qpsk-1/2",),
)  # fmt: skip
LOSS = ChannelPlan(
    name="loss", spec="packet:loss={x}", axis="loss", values=(0, 0.5), kbps=32, gops_s=(0, 2), seeds=2
)
PLAN = SnrPlan(systems=("semcast", "semcast-analog", "softcast", "x264", "x265"), channels=(AWGN, LOSS))
FACTS = ClipFacts(frames=50, fps=25, width=64, height=64, duration_s=2, samples="s")


def _runs(plan: SnrPlan = PLAN) -> list[Any]:
    return list(runs_of(plan, Material(Clip(name="c", path=None), our_config(plan, None, ()), 1.0)))


# --- the plan -----------------------------------------------------------------------------------------------------


def test_a_plan_file_is_read_and_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(
        'systems = ["semcast", "x264"]\nseconds = 3\n[[channels]]\nname = "A"\naxis = "snr_db"\n'
        'spec = "awgn:snr_db={x}"\nvalues = [0, 5]\n',
        "utf-8",
    )
    plan = load_plan(path, ["a.mp4"], 2.0)
    assert (plan.seconds, plan.clips, plan.systems) == (2.0, ("a.mp4",), ("semcast", "x264"))
    assert plan.channels[0].spec_at(5) == "awgn:snr_db=5"


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        ({"spec": "awgn:snr_db=3"}, "has no {x}"),
        ({"values": [3, 1]}, "values must rise"),
        ({"spec": "awgn:snr={x}"}, "has no setting `snr`; did you mean `snr_db`?"),
        ({"spec": "packet:loss={x}", "axis": "loss", "values": [0, 0.1]}, "add kbps = 48"),
        ({"pictures": [7]}, "must be among values"),
        ({"mcs": ["qpsk-9/10"]}, "channels.mcs: input should be 'qpsk-1/10'"),
    ],
)
def test_a_wrong_plan_is_one_clear_line(tmp_path: Path, channel: dict[str, Any], message: str) -> None:
    values = {"name": "A", "axis": "snr_db", "spec": "awgn:snr_db={x}", "values": [0, 5]} | channel
    path = tmp_path / "plan.toml"
    path.write_text(
        "[[channels]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()), "utf-8"
    )
    with pytest.raises(ConfigError) as caught:
        load_plan(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_plans_are_one_too_many() -> None:
    assert load_plan(None, quick=True) == QUICK
    with pytest.raises(UsageError, match="a plan of its own"):
        load_plan(Path("plan.toml"), quick=True)


# --- which runs it means ------------------------------------------------------------------------------------------


def test_our_system_runs_everywhere_others_where_the_plan_says() -> None:
    awgn = [run for run in _runs() if run.channel == "AWGN"]
    values = {
        (system, variant): [r.value for r in awgn if (r.system, r.variant) == (system, variant)]
        for system, variant in {(r.system, r.variant) for r in awgn}
    }
    assert values.pop(("semcast", "")) == list(AWGN.values)
    assert values.pop(("semcast-analog", "")) == values.pop(("softcast", "")) == [0, 8]
    assert values.pop(("x264", "adaptive")) == values.pop(("x265", "adaptive")) == [0, 8]
    assert values.pop(("x264", "qpsk-1/2")) == values.pop(("x265", "qpsk-1/2")) == [0, 8]
    assert not values


def test_packet_channels_have_seeds_and_key_distances_and_no_symbols() -> None:
    loss = [run for run in _runs() if run.channel == "loss"]
    assert {run.system for run in loss} == {"semcast", "x264", "x265"}
    assert {run.variant for run in loss if run.system == "x264"} == {"", "keys 2 s"}
    assert {run.seed for run in loss} == {0, 1}
    assert all(run.material.config.stream.bitrate_bps == 32_000 for run in loss)


def test_every_run_has_its_own_name_and_key() -> None:
    runs = _runs()
    assert len({run.key() for run in runs}) == len({run.name for run in runs}) == len(runs)
    assert all("/" not in run.name for run in runs)


def test_rates_follow_the_channel_and_are_shared() -> None:
    awgn = {run.value: run for run in _runs() if run.channel == "AWGN" and run.system == "semcast"}
    rates = [awgn[value].material.config.stream.bitrate_bps for value in AWGN.values]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1] / 8
    assert all(stepped(rate) == rate for rate in rates)


@given(st.floats(1100, 7e6))
def test_stepped_rates_are_few_and_not_above(bps: float) -> None:
    assert bps / 2 ** (1 / 8) - 1 <= stepped(bps) <= bps
    assert stepped(stepped(bps)) == stepped(bps)


def test_an_analog_channel_has_the_noise_fading_and_uses_of_the_radio_one() -> None:
    spec = parse_channel(analog_of("rayleigh:snr_db=7,uses_per_s=48000,coherence_ms=50"))
    assert (spec.kind, spec.snr_db, spec.uses_per_s) == ("analog", 7, 48_000)  # type: ignore[union-attr]
    assert (spec.fading, spec.coherence_ms) == ("rayleigh", 50)  # type: ignore[union-attr]


# --- figures ------------------------------------------------------------------------------------------------------


def _row(value: float, system: Any, ms_ssim: float, variant: str = "", clip: str = "c", seed: int = 0) -> Row:
    quality = Quality(psnr_yuv=30 * ms_ssim, ms_ssim=ms_ssim, feature_distance=1 - ms_ssim)
    point = LinkPoint(
        clip=FACTS, quality=quality, kbps=20, cbr=0.01, freeze_ratio=0.0 if ms_ssim > 0.5 else 1.0,
        longest_freeze_s=0,
    )  # fmt: skip
    return Row(channel="AWGN", value=value, clip=clip, seed=seed, system=system, variant=variant, point=point)


def test_means_are_over_clips_and_bands_over_seeds() -> None:
    rows = [
        _row(0, "semcast", q, clip=c, seed=s)
        for c, s, q in (("a", 0, 0.6), ("b", 0, 0.8), ("a", 1, 0.8), ("b", 1, 1.0))
    ]
    (series,) = lines(rows)
    found = series.points[0].figures["ms_ssim"]
    assert found.mean == pytest.approx(0.8)
    assert found.low is not None and found.high is not None
    assert found.mean - found.low == pytest.approx(
        12.706 * 0.1414 / 1.4142, rel=1e-3
    )  # Student's t, one degree
    assert lines(rows[:2])[0].points[0].figures["ms_ssim"].low is None


def test_the_envelope_takes_the_best_scheme_for_each_clip() -> None:
    rows = [
        _row(8, "x264", 0.7, "adaptive", clip="a"), _row(8, "x264", 0.9, "adaptive", clip="b"),
        _row(8, "x265", 0.8, "adaptive", clip="a"), _row(8, "x265", 0.6, "adaptive", clip="b"),
    ]  # fmt: skip
    found = {series.system: series for series in lines(rows)}
    assert found[ENVELOPE].points[0].figures["ms_ssim"].mean == pytest.approx(0.85)
    assert found[ENVELOPE].points[0].figures["feature_distance"].mean == pytest.approx(0.15)


def _channel(rows: list[Row]) -> ChannelReport:
    return ChannelReport(name="AWGN", spec=AWGN.spec, axis="snr_db", series=lines(rows), shots=[])


def test_requirements_see_cliffs_and_what_lies_below_the_threshold() -> None:
    rows = [
        _row(v, "semcast", q)
        for v, q in zip(AWGN.values, (0.5, 0.7, 0.72, 0.74, 0.8, 0.85, 0.9), strict=True)
    ]
    rows += [_row(v, "x264", q, "qpsk-1/2") for v, q in ((0, 0.1), (2, 0.5), (4, 0.9))]
    found = {item.name: item for item in requirements(PLAN, [_channel(rows)])}
    below = found["semcast, 5 dB below the threshold of the best fixed scheme: MS-SSIM over its clean value"]
    assert below.measured == pytest.approx(0.71 / 0.9)
    assert below.where == "AWGN at -1 dB (x264 qpsk-1/2 needs 4)"
    fall = found["semcast: MS-SSIM lost for 1 dB of SNR"]
    assert fall.measured == pytest.approx(0.03)  # from -2 on: -4 is outside of the range
    assert fall.met is True
    peers = found["semcast: MS-SSIM over the peers' envelope"]
    assert peers.measured == pytest.approx((0.72 + 0.74 + 0.8) / (0.1 + 0.5 + 0.9))


def test_tables_leave_single_schemes_out() -> None:
    rows = [_row(0, "semcast", 0.7), _row(0, "x264", 0.6, "qpsk-1/2"), _row(0, "x264", 0.5, "adaptive")]
    channel = _channel(rows)
    assert main_systems(channel) == ["semcast", "x264 adaptive", "x264 envelope", ENVELOPE]
    titles = [cells.title for cells in channel_tables(channel)]
    assert titles == ["AWGN: PSNR", "AWGN: MS-SSIM", "AWGN: feature distance", "AWGN: freeze ratio"]


# --- a small sweep ------------------------------------------------------------------------------------------------

SMALL = SnrPlan(
    size=Size(128, 128), seconds=1.0, warm_up_s=0.2, systems=("semcast", "softcast", "x264"),
    set=("receiver.steps=0", "semantics.enabled=false", "sender.start_key_s=0.5"),
    channels=(
        ChannelPlan(name="AWGN", spec="awgn:snr_db={x},tti_ms=20,uses_per_s=48000", axis="snr_db", values=(10,),
                    mcs=(), pictures=(10,)),
        ChannelPlan(name="loss", spec="packet:loss={x}", axis="loss", values=(0,), kbps=48, systems=("semcast",)),
    ),
)  # fmt: skip


def test_a_sweep_from_end_to_end_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sweep() -> dict[str, Any]:
        run_snr(SMALL, find_clips([]), tmp_path / "out", 1, None, None, ())
        document: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return document

    first = sweep()
    assert first["schema"] == "semcast.snr/1"
    kept = sorted((tmp_path / "out" / "runs").iterdir())
    assert len(kept) == 4
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "snr.json",
        "snr.csv",
        "snr.html",
        "pictures",
    }
    awgn = {series["system"]: series["points"][0] for series in first["channels"][0]["series"]}
    assert awgn["semcast"]["figures"]["ms_ssim"]["mean"] > 0.8
    assert 0 < awgn["semcast"]["cbr"] < 48_000 / 25 / (3 * 128 * 128) * 1.5
    assert awgn["softcast"]["kbps"] is None
    assert [len(shot["pictures"]) for shot in first["channels"][0]["shots"]] == [
        4
    ]  # source and three systems
    stamps = [path.stat().st_mtime_ns for path in kept]
    kept[0].unlink()
    assert sweep()["channels"] == first["channels"]
    again = sorted((tmp_path / "out" / "runs").iterdir())
    assert [path.name for path in again] == [path.name for path in kept]
    assert [path.stat().st_mtime_ns for path in again[1:]] == stamps[1:]
    drawing = ElementTree.parse(tmp_path / "out" / "figures" / "awgn.svg").getroot()
    assert drawing.tag.endswith("svg") and "softcast" in "".join(drawing.itertext())
    page = (tmp_path / "out" / "snr.html").read_text("utf-8")
    assert "<svg" in page and "softcast" in page

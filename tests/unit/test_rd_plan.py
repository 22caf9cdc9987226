"""Plans of the rate-distortion bench."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.plans import Clip, find_clips
from benchmarks.rd import our_configs
from benchmarks.rd_plan import BUILTIN, QUICK, RdPlan, load_plan
from common.errors import ConfigError, UsageError


def plan_file(folder: Path, text: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(text)
    return path


def test_a_plan_file_is_read_and_the_command_line_wins(tmp_path: Path) -> None:
    path = plan_file(tmp_path, 'rates = ["24k", 100000]\npeers = ["vp9", "x264"]\nset = ["guide.scale=2"]\n')
    plan = load_plan(path, ["a.mp4"], 2.0)
    assert plan.rates == (24_000, 100_000) and plan.clips == ("a.mp4",) and plan.seconds == 2.0
    assert [codec.name for codec in plan.codecs] == ["vp9", "x264"]
    configs = our_configs(plan, None, ["anchor.enabled=false"])
    assert [config.stream.bitrate_bps for config in configs] == [24_000, 100_000]
    assert configs[0].guide.scale == 2 and not configs[0].anchor.enabled


def test_without_a_plan_the_builtin_clip_is_short_and_named_clips_get_every_rate() -> None:
    assert load_plan(None) == BUILTIN and find_clips(BUILTIN.clips, Path()) == [
        Clip(name="builtin", path=None)
    ]
    assert load_plan(None, ["a.mp4"]).rates == RdPlan().rates


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('rate = ["24k"]', "unknown key 'rate': did you mean rates?"),
        ('peers = ["x266"]', "peers: input should be 'svt-av1'"),
        ('rates = ["24k", "8k"]', "rates must rise"),
        ('pictures = ["25k"]', "pictures must be among rates"),
        ('levels = ["base", "base"]', "levels names something twice"),
        ('levels = ["base", "sr"]', "the level sr needs sr_weights"),
        ('sr_weights = "sr.safetensors"', "sr_weights is for the level sr"),
        ("seconds = 0", "seconds: input should be greater than 0"),
        ('rates = ["24q"]', "bit rate '24q' is not understood"),
        ("rates = [", "is not valid TOML"),
    ],
)
def test_a_wrong_plan_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_plan(plan_file(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_files_of_a_plan_are_found_beside_it_and_the_option_adds_the_level(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").touch()
    path = plan_file(tmp_path, 'levels = ["sr"]\nsr_weights = "net.safetensors"\nlpips = "net.safetensors"')
    plan = load_plan(path)
    assert plan.sr_weights == str(tmp_path / "net.safetensors") == plan.metrics.lpips
    assert load_plan(None, sr_weights="x.safetensors").levels == ("guide", "base", "sr")


def test_the_quick_plan_has_enough_rates_for_every_bd_rate() -> None:
    plan = load_plan(None, ["a.mp4"], 2.0, quick=True)
    assert plan.model_copy(update={"clips": (), "seconds": None}) == QUICK
    assert sum(rate <= 64_000 for rate in plan.rates) >= 4 and plan.vmaf and "output" in plan.levels
    with pytest.raises(UsageError, match="--quick is a plan of its own"):
        load_plan(Path("plan.toml"), quick=True)


def test_pictures_are_shown_at_the_usual_rates_or_the_middle_one() -> None:
    assert RdPlan().shown_bps == (24_000, 100_000)
    assert RdPlan(rates=(8_000, 16_000, 32_000)).shown_bps == (16_000,)
    assert RdPlan(pictures=(8_000,)).shown_bps == (8_000,)


def test_clips_are_found_beside_the_plan_and_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("a/x.mp4", "b/x.mp4", "b/y.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_clips(["*/x.mp4", "b/*.mp4"], tmp_path)
    assert [clip.name for clip in found] == ["x", "x-2", "y"]
    with pytest.raises(UsageError, match=r"no clip is called 'c/\*.mp4'"):
        find_clips(["c/*.mp4"], tmp_path)

"""Settings: defaults, files, overrides, and one clear line for every mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import (
    MAX_BITRATE_BPS,
    MAX_SIDE_PX,
    MIN_BITRATE_BPS,
    MIN_SIDE_PX,
    Config,
    Size,
    load_config,
    parse_bitrate,
    parse_size,
    setting_names,
)
from common.errors import ConfigError, UsageError

NOT_AN_OVERRIDE = "is not understood: write section.key=value, for example guide.preset=8"

sides = st.integers(MIN_SIDE_PX, MAX_SIDE_PX)


def written(folder: Path, text: str) -> Path:
    path = folder / "semcast.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_need_no_file() -> None:
    assert load_config(None, []) == Config()
    assert Config().stream.size == "auto"
    assert Config().as_dict()["stream"] == {"size": "auto", "bitrate_bps": 24_000, "seed": 0}


def test_overrides_beat_the_file_which_beats_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, '[stream]\nbitrate_bps = "1.5M"\nsize = "640x480"\n[guide]\nscale = 4\n')
    config = load_config(path, ["stream.bitrate_bps=64k", "stream.bitrate_bps=32k", "guide.preset=8"])
    assert config.stream.bitrate_bps == 32_000
    assert config.stream.size == Size(640, 480)
    assert (config.guide.scale, config.guide.preset, config.guide.codec) == (4, 8, "av1")


def test_override_text_takes_the_type_of_its_setting() -> None:
    config = load_config(
        None,
        [
            "anchor.enabled=false",
            "anchor.max_share=0.5",
            "motion.corrections=false",
            "receiver.steps=2",
            "receiver.budget_ms=none",
            "channel.spec=packet:loss=0.05,burst=3",
        ],
    )
    assert config.anchor.enabled is False
    assert config.anchor.max_share == 0.5
    assert config.motion.corrections is False
    assert config.receiver.steps == 2
    assert config.receiver.budget_ms is None
    assert config.channel.spec == "packet:loss=0.05,burst=3"


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().guide.preset = 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("guide.pre_set=8", "unknown setting guide.pre_set: did you mean guide.preset?"),
        ("stream.preset=8", "unknown setting stream.preset: did you mean guide.preset?"),
        ("stream.colour=8", "unknown setting stream.colour: [stream] has size, bitrate_bps, seed"),
        ("guid.preset=8", "unknown section [guid]: did you mean [guide]?"),
        ("guide.preset=99", "guide.preset = '99': input should be less than or equal to 13"),
        ("guide.scale=3", "guide.scale = '3': input should be 'auto', 1, 2, 4 or 8"),
        ("anchor.max_share=nan", "anchor.max_share = 'nan': input should be a finite number"),
        (
            "stream.bitrate_bps=24",
            "stream.bitrate_bps = '24': bit rate '24' is 24 bit/s, the least is 1k: did you mean 24k?",
        ),
        ("stream.bitrate_bps=0", "stream.bitrate_bps = '0': bit rate '0' is 0 bit/s, the least is 1k"),
        (
            "stream.size=1x1",
            "stream.size = '1x1': size 1x1 is not possible: each side must be 16 to 4096 pixels",
        ),
        ("preset=8", f"setting 'preset=8' {NOT_AN_OVERRIDE}"),
        ("guide.preset", f"setting 'guide.preset' {NOT_AN_OVERRIDE}"),
    ],
)
def test_a_mistake_is_one_clear_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert str(caught.value) == message


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(ConfigError, match=r"stream\.seed = '-1': .*; guide\.preset = '77': "):
        load_config(None, ["stream.seed=-1", "guide.preset=77"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[stream\n", "is not valid TOML"),
        ("seed = 3\n", "'seed' in .* stands outside a section"),
        ("[stream]\nsize = [1, 1]\n", r"size '\[1, 1\]' is not understood"),
        ("[stream]\nbitrate_bps = true\n", "bit rate 'True' is not understood"),
        ("[stream]\nbitrate = 3\n", r"did you mean stream\.bitrate_bps\?"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(written(tmp_path, text), [])


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read configuration .*absent\.toml: No such file"):
        load_config(tmp_path / "absent.toml", [])
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_config(tmp_path / "binary.toml", [])


def test_every_setting_has_a_name_and_a_description() -> None:
    for name in setting_names():
        section, key = name.split(".")
        assert type(getattr(Config(), section)).model_fields[key].description, name


@pytest.mark.parametrize(
    ("text", "bps"),
    [("24k", 24_000), ("1.5M", 1_500_000), ("24000", 24_000), (" 8k ", 8_000), ("0.064M", 64_000)],
)
def test_bitrate_texts(text: str, bps: int) -> None:
    assert parse_bitrate(text) == bps


@pytest.mark.parametrize(
    "text", ["", "k", "-24k", "24K", "24kbps", "1e5", "nan", "999", "101M", "24 k", "²k"]
)
def test_bitrate_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="bit rate"):
        parse_bitrate(text)


@pytest.mark.parametrize(
    "text", ["", "512", "512x", "x512", "512*512", "-2x64", "15x64", "64x15", "4097x17", "5x5x5"]
)
def test_size_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="size"):
        parse_size(text)


def test_size_auto() -> None:
    assert parse_size("auto") == "auto"


@given(sides, sides)
def test_every_possible_size_survives_text(width: int, height: int) -> None:
    assert parse_size(str(Size(width, height))) == Size(width, height)


@given(
    size=st.just("auto") | st.builds(Size, sides, sides),
    bitrate_bps=st.integers(MIN_BITRATE_BPS, MAX_BITRATE_BPS),
    budget_ms=st.none() | st.floats(0.1, 1e6),
    steps=st.sampled_from(["auto", 0, 1, 2, 4]),
)
def test_the_dump_is_plain_json_and_gives_the_same_settings(
    size: Size | str, bitrate_bps: int, budget_ms: float | None, steps: str | int
) -> None:
    config = Config.model_validate(
        {
            "stream": {"size": size, "bitrate_bps": bitrate_bps},
            "receiver": {"budget_ms": budget_ms, "steps": steps},
        }
    )
    assert Config.model_validate(json.loads(json.dumps(config.as_dict()))) == config

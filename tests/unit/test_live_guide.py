"""docs/live.md names what there is, with the defaults that it has, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from channel.webrtc.settings import WebRtcConfig
from cli import app
from common.config import Config, setting_names
from tests.unit.test_deployment import exported

GUIDE = (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8")
OF_EVERY_COMMAND = {"--help", "--seed", "--config", "--set"}


def test_every_metric_that_the_guide_names_is_there() -> None:
    named = {name for name in re.findall(r"`(semcast_[a-z_]+)`", GUIDE) if not name.endswith("_")}
    assert named == {name for name in exported() if "_process_" not in name and not name.endswith("_created")}


@pytest.mark.parametrize("name", sorted(WebRtcConfig.model_fields.keys() - {"ice_servers"}))
def test_what_a_connection_is_set_to_is_in_the_guide(name: str) -> None:
    found = re.search(rf"^\| `{name}` \| (\S+)", GUIDE, re.MULTILINE)
    assert found, f"{name} is not described"
    default = WebRtcConfig.model_fields[name].default
    assert found[1] == ({True: "on", False: "off"}[default] if isinstance(default, bool) else f"{default:g}")


def test_settings_that_the_guide_names_exist() -> None:
    sections = "|".join(Config.model_fields)
    named = set(re.findall(rf"`(?:--set )?((?:{sections})\.[a-z_]+)", GUIDE))
    assert len(named) > 10 and named <= set(setting_names())


@pytest.mark.parametrize("command", ["send", "receive", "signal"])
def test_every_option_is_in_the_guide(command: str) -> None:
    parameters = get_command(app).commands[command].params  # type: ignore[attr-defined]
    options = {option for parameter in parameters for option in parameter.opts if option.startswith("--")}
    assert {option for option in options - OF_EVERY_COMMAND if not re.search(rf"{option}\b", GUIDE)} == set()


def test_environment_variables_are_in_the_guide() -> None:
    example = (Path(__file__).parents[2] / ".env.example").read_text(encoding="utf-8")
    assert {name for name in re.findall(r"^(\w+)=", example, re.MULTILINE) if name not in GUIDE} == set()

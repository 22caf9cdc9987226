"""The containers, as far as they can be checked without Docker: files, names, options and scripts fit together.

`npx dclint docker-compose.yml` checks the compose file against the compose schema; it comes from npm, so not here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from benchmarks.live.metrics import ReceiverMetrics, SenderMetrics, new_registry, serve_metrics
from channel.signalling.ice import load_ice
from channel.signalling.limits import Limits
from channel.signalling.rooms import Rooms
from channel.signalling.stats import Stats, prometheus_text
from channel.udp import Address
from cli import app
from tests.live_figures import LINK, PAGE, STREAM, outlet, wire

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
DASHBOARD = json.loads((ROOT / "docker/grafana/dashboards/semcast.json").read_text(encoding="utf-8"))
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+[\w.-]*")
OF_THE_USER = {"./media"}
"""Mounted where it is there."""
TURN = {"TURN_ADDRESS": "192.0.2.7", "TURN_SECRET": "a secret of its own"}

each_service = pytest.mark.parametrize("name", sorted(SERVICES))


@each_service
def test_services_are_hardened(name: str) -> None:
    service = SERVICES[name]
    assert ("image" in service) != ("build" in service)
    assert PINNED.fullmatch(service.get("image", "built/here:0.1"))
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"] and "privileged" not in service
    assert service["restart"] and service["pids_limit"] and service["logging"]
    assert "user" in service or "build" in service  # what is built has its own, see below
    assert not str(service.get("user", "1")).startswith(("0", "root"))


@each_service
def test_only_coturn_is_on_the_network_of_the_host(name: str) -> None:
    service = SERVICES[name]
    assert ("network_mode" in service) == (name == "coturn")
    assert set(service.get("networks", ())) <= set(COMPOSE["networks"])
    for port in service.get("ports", ()):
        assert port["host_ip"] if isinstance(port, dict) else port.startswith("127.0.0.1:")


@each_service
def test_volumes_and_files_exist(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source, _, rest = volume.partition(":")
        if source.startswith("."):
            assert rest.endswith(":ro")
            assert source in OF_THE_USER or (ROOT / source).exists()
        else:
            assert source in COMPOSE["volumes"]


@each_service
def test_dependencies_are_there_whenever_they_are_needed(name: str) -> None:
    service = SERVICES[name]
    for other, need in service.get("depends_on", {}).items():
        assert need == {"condition": "service_healthy"}
        profiles = SERVICES[other].get("profiles")
        assert profiles is None or set(service.get("profiles", ())) <= set(profiles)


def test_variables_are_explained_and_hold_no_secret() -> None:
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    given = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert used == set(given)
    assert not any(given[name] for name in given if re.search("SECRET|PASSWORD|URL", name))
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


# --- images -------------------------------------------------------------------------------------------------------


def stages() -> dict[str, str]:
    """The Dockerfile's stages, by name."""
    parts = re.split(r"^FROM (\S+) AS (\w+)\n", DOCKERFILE, flags=re.MULTILINE)[1:]
    assert PINNED.fullmatch(parts[0])
    assert all(base in parts[1::3] for base in parts[3::3])
    return dict(zip(parts[1::3], parts[2::3], strict=True))


def instructions(text: str, keyword: str) -> Iterator[list[str]]:
    for line in re.findall(rf"^{keyword} (.*)$", text.replace("\\\n", " "), re.MULTILINE):
        yield shlex.split(line)


def test_what_is_built_does_not_run_as_root() -> None:
    found = stages()
    for name, service in SERVICES.items():
        if "build" in service:
            build = service["build"]
            assert build["dockerfile"] == "docker/Dockerfile" and build["target"] in found, name
            assert list(instructions(found[build["target"]], "USER")) == [["semcast"]]
            arguments = {argument[0].partition("=")[0] for argument in instructions(DOCKERFILE, "ARG")}
            assert set(build.get("args", ())) <= arguments


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    kept = (ROOT / "docker/Dockerfile.dockerignore").read_text(encoding="utf-8").split("\n")
    kept = [line[1:] for line in kept if line.startswith("!")]
    assert all((ROOT / path).exists() for path in kept)
    needed = ["cli.py", "README.md", "LICENSE", *(path.name for path in ROOT.iterdir() if is_package(path))]
    copied = [
        word for words in instructions(DOCKERFILE, "COPY") for word in words[:-1] if word[0] not in "-."
    ]
    for path in (*needed, *copied):
        assert any(path == one or path.startswith(f"{one}/") for one in kept), path


def is_package(path: Path) -> bool:
    included = re.search(r"^include = (\[.*\])$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert included
    return (path / "__init__.py").is_file() and any(
        fnmatch(path.name, pattern) for pattern in json.loads(included[1])
    )


def test_the_small_image_has_all_that_signalling_imports() -> None:
    (words,) = (words for words in instructions(stages()["signalling"], "RUN") if "aiohttp" in words)
    installed = closure(set(words[words.index("aiohttp") :]))
    code = (
        "import sys; before = set(sys.modules)\n"
        "import cli, benchmarks.live.commands, channel.signalling.server, prometheus_client\n"
        "new = {name: module for name, module in sys.modules.items() if name not in before}\n"
        "print(*{name.partition('.')[0] for name in new if getattr(new[name], '__file__', None)})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    homes = packages_distributions()
    loaded = {plain(homes[name][0]) for name in done.stdout.split() if name in homes}
    assert {"aiohttp", "prometheus-client", "typer"} <= loaded
    assert loaded - {"semcast", "setuptools"} <= installed


def closure(names: set[str]) -> set[str]:
    """These distributions and all that they require."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        found.add(name := waiting.pop())
        with suppress(PackageNotFoundError):  # for another system, or another Python
            needs = [need for need in requires(name) or () if "extra ==" not in need]
            waiting |= {plain(re.split(r"[^\w.-]", need)[0]) for need in needs} - found
    return found


def plain(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


# --- commands and scripts -----------------------------------------------------------------------------------------


def command_of(name: str) -> list[str]:
    command = SERVICES[name]["command"]
    words = shlex.split(command) if isinstance(command, str) else list(command)
    return ["signal", *words] if name == "signalling" else words


@pytest.mark.parametrize("name", ["receiver", "receiver-gpu", "sender", "signalling"])
def test_commands_have_options_that_exist(name: str) -> None:
    subcommand, *words = command_of(name)
    known = typer.main.get_command(app).commands[subcommand]  # type: ignore[attr-defined]
    options = {option for parameter in known.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    if name != "signalling":
        variables = {parameter.envvar for parameter in known.params if parameter.envvar}
        assert set(SERVICES[name]["environment"]) <= variables


def stand_in(folder: Path, name: str) -> dict[str, str]:
    """An environment in which the program `name` prints its arguments."""
    program = folder / name
    program.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "TURN_FOLDER": str(folder)}


def script(name: str, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(ROOT / "docker" / name), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_members_get_turn_where_there_is_one(tmp_path: Path) -> None:
    environment = stand_in(tmp_path, "semcast")
    assert script("signalling.sh", environment, "--listen", "x").stdout.split() == ["signal", "--listen", "x"]
    words = script("signalling.sh", environment | TURN, "--listen", "x").stdout.split()
    assert words == ["signal", "--ice-config", f"{tmp_path}/ice.toml", "--listen", "x"]
    stun, turn = load_ice(tmp_path / "ice.toml")
    assert turn.urls == ["turn:192.0.2.7:3478?transport=udp"]
    assert stun.urls == ["stun:192.0.2.7:3478"] and stun.secret is None
    assert turn.secret is not None and turn.secret.get_secret_value() == TURN["TURN_SECRET"]
    refused = script("signalling.sh", environment | {"TURN_ADDRESS": "192.0.2.7"})
    assert refused.returncode != 0 and "TURN_SECRET" in refused.stderr


def test_coturn_knows_the_same_secret_and_denies_private_networks(tmp_path: Path) -> None:
    given = {name: str(value) for name, value in SERVICES["coturn"]["environment"].items() if value[0] != "$"}
    environment = stand_in(tmp_path, "turnserver") | TURN | given
    assert script("coturn.sh", environment).stdout.split() == ["-c", f"{tmp_path}/turnserver.conf"]
    settings = (tmp_path / "turnserver.conf").read_text().splitlines()
    assert (tmp_path / "turnserver.conf").stat().st_mode & 0o077 == 0
    assert f"static-auth-secret={TURN['TURN_SECRET']}" in settings and "use-auth-secret" in settings
    assert "denied-peer-ip=169.254.0.0-169.254.255.255" in settings
    assert "allowed-peer-ip=172.30.77.0-172.30.77.255" in settings
    assert COMPOSE["networks"]["link"]["ipam"]["config"] == [{"subnet": "172.30.77.0/24"}]
    assert "relay-ip=192.0.2.7" in settings and not any(line.startswith("external-ip") for line in settings)
    script("coturn.sh", environment | {"TURN_PRIVATE_ADDRESS": "10.0.0.5"})
    behind_nat = (tmp_path / "turnserver.conf").read_text().splitlines()
    assert {"relay-ip=10.0.0.5", "external-ip=192.0.2.7/10.0.0.5"} <= set(behind_nat)
    assert script("coturn.sh", stand_in(tmp_path, "turnserver")).returncode != 0


def test_health_is_what_is_served() -> None:
    program = [sys.executable, str(ROOT / "docker" / "healthy.py")]
    with serve_metrics(Address("127.0.0.1", 0), new_registry()) as address:
        assert subprocess.run([*program, f"http://{address}/metrics"], check=False).returncode == 0
    gone = subprocess.run([*program, f"http://{address}/metrics"], check=False, capture_output=True)
    assert gone.returncode != 0


# --- Prometheus and Grafana ---------------------------------------------------------------------------------------


def test_prometheus_scrapes_what_is_served() -> None:
    jobs = yaml.safe_load((ROOT / "docker/prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    for job in jobs:
        ((target,),) = [group["targets"] for group in job["static_configs"]]
        host, _, port = target.partition(":")
        words = command_of(host)
        serves = words[words.index("--listen" if host == "signalling" else "--metrics") + 1]
        assert serves.endswith(f":{port}") and set(SERVICES[host]["networks"]) & {"link"}
    assert SERVICES["receiver-gpu"]["networks"]["link"]["aliases"] == ["receiver"]
    assert command_of("receiver-gpu")[:-1] == command_of("receiver")[:-1]


def exported() -> set[str]:
    registry = new_registry()
    SenderMetrics(registry).update([outlet("anna")], STREAM)
    ReceiverMetrics(registry).update(PAGE, wire(), LINK)
    ends = {sample.name for family in registry.collect() for sample in family.samples}
    text = prometheus_text(stats := Stats(), Rooms(Limits(), stats))
    assert text is not None
    return ends | set(re.findall(r"^(semcast_\w+)", text[0].decode(), re.MULTILINE))


def test_the_dashboard_shows_metrics_that_exist() -> None:
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    shown = set(re.findall(r"\bsemcast_\w+", " ".join(expressions)))
    assert len(shown) > 30 and shown <= exported()
    assert set(re.findall(r'job="(\w+)"', " ".join(expressions))) <= {"sender", "receiver", "signalling"}


def test_grafana_finds_source_and_dashboard() -> None:
    provisioning = ROOT / "docker/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    assert set(SERVICES["grafana"]["networks"]) & set(SERVICES["prometheus"]["networks"])
    (provider,) = yaml.safe_load((provisioning / "dashboards/semcast.yml").read_text())["providers"]
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    assert mounts["./docker/grafana/dashboards"] == provider["options"]["path"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/semcast.json"


def test_panels_neither_overlap_nor_share_a_number() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])

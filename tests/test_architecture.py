"""The house rules, held by walking every import and call (README, "The rooms").

The rules are the tables below. The checker itself is tested on small made-up trees: each rule must catch its
offender, otherwise a green result would say nothing.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.trees import parsed

ROOT = Path(__file__).resolve().parents[1]

EVERYTHING = {"common", "sender", "channel", "receiver", "training", "benchmarks", "cli", "tests"}

ARROWS = {
    "common": set(),
    "sender": {"common"},
    "channel": {"common"},
    "receiver": {"common"},
    "training": {"common", "sender", "receiver"},
    "benchmarks": EVERYTHING,
    "cli": EVERYTHING,
    "tests": EVERYTHING,
}
"""Which rooms a room may import besides itself. Its `__main__.py` is an entrance and may import `cli`
and `benchmarks` too, which put the rooms together."""


@dataclass(frozen=True)
class Library:
    """A heavy library.

    homes : the only files that may import it, inside functions or at the top
    eager : the only files that may import it at the top, so that everything else starts quickly without it
    """

    homes: tuple[str, ...]
    eager: tuple[str, ...] = ()


ANYWHERE = ("*",)

LIBRARIES = {
    "aiohttp": Library(
        homes=(
            "receiver/web/app.py",
            "channel/signalling/*",
            "benchmarks/live/browser.py",
            "benchmarks/live/viewer.py",
        ),
        eager=("receiver/web/app.py", "channel/signalling/*", "benchmarks/live/viewer.py"),
    ),
    "aiortc": Library(homes=("channel/webrtc*", "benchmarks/live/faulty.py"), eager=("channel/webrtc*",)),
    "sionna": Library(homes=("channel/radio*",)),
    "diffusers": Library(
        homes=("receiver/decoder*", "training/*"), eager=("receiver/decoder*", "training/*")
    ),
    "av": Library(
        homes=(
            "common/codecs*.py",
            "sender/sources.py",
            "sender/readers.py",
            "sender/planes.py",
            "receiver/encoding.py",
            "receiver/marking.py",
            "benchmarks/peers.py",
            "training/clips.py",
        ),
        eager=("common/codecs*.py", "sender/*", "receiver/encoding.py", "benchmarks/*", "training/*"),
    ),
    "distributed": Library(homes=("benchmarks/cluster.py",)),
    "openvino": Library(homes=("receiver/decoder*",)),
    "kornia": Library(homes=ANYWHERE, eager=("receiver/*", "training/*")),
    "matplotlib": Library(homes=ANYWHERE, eager=("benchmarks/*",)),
}
"""Tests are free to import any of them."""

CLOCK_READERS = ("common/clock.py", "benchmarks/*", "training/*")
"""Everything else takes `now_s`."""

UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
UNSAFE_CALLS = {"eval", "exec"}
QUEUES = {"Queue", "LifoQueue", "PriorityQueue", "SimpleQueue", "JoinableQueue"}
TEXT_FILES = ("*.py", "*.toml", "*.txt", "*.md", "*.json", "*.html", "*.yml", "*.yaml", "Makefile", "run")
MACHINE_PATH = re.compile(
    r"(?<![\w.~])/(?:{})/".format("|".join(["home", "root", "work", "Users", "mnt", "tmp"]))
)


@dataclass(frozen=True)
class Import:
    """One imported module. lazy: inside a function; typing: only for the type checker."""

    module: str
    line: int
    lazy: bool
    typing: bool


@dataclass(frozen=True)
class Source:
    """One Python file: its path from the root with forward slashes, and its tree."""

    path: str
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.path.split("/")[0].removesuffix(".py")

    @property
    def in_tests(self) -> bool:
        return self.room == "tests"


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


def imports_of(node: ast.AST, lazy: bool = False, typing: bool = False) -> Iterator[Import]:
    """Every absolute import below `node`; a relative one cannot leave its room."""
    for child in ast.iter_child_nodes(node):
        inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy, typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.level == 0 and child.module:
            yield Import(child.module, child.lineno, lazy, typing)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from imports_of(ast.Module(child.body, []), inside, True)
            yield from imports_of(ast.Module(child.orelse, []), inside, typing)
        else:
            if (
                isinstance(child, ast.Call)
                and name_of(child.func) in ("import_module", "__import__")
                and child.args
            ):
                yield from (Import(text, child.lineno, lazy, typing) for text in constant(child.args[0]))
            yield from imports_of(child, inside, typing)


def name_of(function: ast.expr) -> str:
    """The last name of a call: `Queue` for `queue.Queue(...)`."""
    return getattr(function, "attr", None) or getattr(function, "id", "")


def constant(node: ast.expr) -> list[str]:
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def check_arrows(source: Source) -> Iterator[str]:
    allowed = ARROWS[source.room] | {source.room}
    if source.path.endswith("/__main__.py"):
        allowed |= {"cli", "benchmarks"}
    for found in imports_of(source.tree):
        target = found.module.split(".")[0]
        if target in EVERYTHING - allowed:
            yield f"{source.path}:{found.line}: {source.room} must not import {target}"


def check_libraries(source: Source) -> Iterator[str]:
    for found in imports_of(source.tree):
        library = LIBRARIES.get(found.module.split(".")[0])
        if library is None or found.typing or source.in_tests:
            continue
        if not matches(source.path, library.homes):
            yield f"{source.path}:{found.line}: {found.module} belongs in {', '.join(library.homes)}"
        elif not found.lazy and not matches(source.path, library.eager):
            yield f"{source.path}:{found.line}: import {found.module} inside the function that uses it"


def check_clock(source: Source) -> Iterator[str]:
    if matches(source.path, CLOCK_READERS):
        return
    for found in imports_of(source.tree):
        if found.module == "time":
            yield f"{source.path}:{found.line}: take now_s or a Clock; only common/clock.py reads the time"


def check_unsafe(source: Source) -> Iterator[str]:
    for found in imports_of(source.tree):
        if found.module.split(".")[0] in UNSAFE_MODULES:
            yield f"{source.path}:{found.line}: {found.module} runs code from data; use safetensors or JSON"
    for call in calls_in(source):
        if isinstance(call.func, ast.Name) and call.func.id in UNSAFE_CALLS:
            yield f"{source.path}:{call.lineno}: {call.func.id}() runs code from text"
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if ast.unparse(call.func) == "torch.load" and keywords.get("weights_only") != "True":
            yield f"{source.path}:{call.lineno}: torch.load needs weights_only=True"
        if keywords.get("allow_pickle") == "True":
            yield f"{source.path}:{call.lineno}: allow_pickle=True runs code from data"


def check_queues(source: Source) -> Iterator[str]:
    for call in calls_in(source):
        if name_of(call.func) not in QUEUES:
            continue
        bounds = call.args[:1] + [keyword.value for keyword in call.keywords if keyword.arg == "maxsize"]
        if name_of(call.func) == "SimpleQueue" or not bounds or ast.unparse(bounds[0]) in ("0", "-1", "None"):
            yield f"{source.path}:{call.lineno}: {name_of(call.func)} without a bound"


def calls_in(source: Source) -> Iterator[ast.Call]:
    return (node for node in ast.walk(source.tree) if isinstance(node, ast.Call))


CHECKS = (check_arrows, check_libraries, check_clock, check_unsafe, check_queues)


def files_below(root: Path) -> list[Path]:
    """Every text file of the project: hidden folders (but .ci), outputs and builds are not part of it."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if is_ours(name)]
        found += [Path(folder, name) for name in names if matches(name, TEXT_FILES)]
    return sorted(found)


def is_ours(folder: str) -> bool:
    return folder == ".ci" or not (folder.startswith(".") or folder in ("out", "build", "runs"))


def violations(root: Path) -> list[str]:
    """Every broken rule below `root`, as "file:line: what is wrong"."""
    found: list[str] = []
    for path in files_below(root):
        name = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        found += [
            f"{name}:{number}: names a folder of one machine: {line.strip()[:60]}"
            for number, line in enumerate(text.splitlines(), 1)
            if MACHINE_PATH.search(line)
        ]
        source = Source(name, parsed(text) if path.suffix == ".py" else ast.Module([], []))
        if source.room in ARROWS:
            found += [message for check in CHECKS for message in check(source)]
    return found


def test_the_project_keeps_its_rules() -> None:
    found = violations(ROOT)
    assert not found, "\n" + "\n".join(found)


def test_the_project_is_looked_at() -> None:
    rooms = {path.relative_to(ROOT).parts[0] for path in files_below(ROOT) if path.suffix == ".py"}
    assert rooms >= EVERYTHING - {"cli"}


OFFENDERS = {
    "room to room": ("sender/a.py", "import receiver.pipeline", "sender must not import receiver"),
    "room to room, lazily": (
        "channel/a.py",
        "def f():\n    from sender.rate import x",
        "channel must not import sender",
    ),
    "room to room, for types": (
        "common/a.py",
        "if TYPE_CHECKING:\n    import sender",
        "common must not import sender",
    ),
    "room to room, by name": (
        "receiver/a.py",
        "import_module('channel.loopback')",
        "receiver must not import channel",
    ),
    "training to channel": ("training/a.py", "import channel", "training must not import channel"),
    "room to command line": ("receiver/a.py", "import cli", "receiver must not import cli"),
    "library away from home": (
        "receiver/a.py",
        "def f():\n    import aiortc",
        "aiortc belongs in channel/webrtc*",
    ),
    "library in the command line": (
        "cli.py",
        "def f():\n    from sionna import phy",
        "sionna belongs in channel/radio*",
    ),
    "library too early": (
        "channel/radio.py",
        "try:\n    import sionna.phy\nexcept ImportError:\n    pass",
        "inside the function",
    ),
    "plots too early": (
        "cli.py",
        "class A:\n    import matplotlib.pyplot",
        "import matplotlib.pyplot inside the function",
    ),
    "clock": ("sender/a.py", "from time import monotonic", "only common/clock.py reads the time"),
    "clock in a test": (
        "tests/unit/test_a.py",
        "def f():\n    import time",
        "only common/clock.py reads the time",
    ),
    "pickle": ("training/a.py", "import pickle", "runs code from data"),
    "eval": ("common/a.py", "x = eval('1')", "eval() runs code from text"),
    "torch.load": ("training/a.py", "torch.load(path)", "weights_only=True"),
    "allow_pickle": ("training/a.py", "np.load(path, allow_pickle=True)", "allow_pickle"),
    "queue": ("channel/a.py", "q = queue.Queue()", "Queue without a bound"),
    "queue of size 0": ("channel/a.py", "q = asyncio.Queue(maxsize=0)", "Queue without a bound"),
    "path in code": ("benchmarks/a.py", "x = '/ho" + "me/someone/clip.mp4'", "names a folder of one machine"),
    "path in a document": ("README.md", "see /wo" + "rk/notes", "names a folder of one machine"),
    "path in the check script": (".ci/run", "cd /ro" + "ot/checkout", "names a folder of one machine"),
}

HARMLESS = {
    "own room": ("sender/a.py", "from sender.rate import x\nfrom common import types\nfrom . import b"),
    "entrance": ("sender/__main__.py", "from cli import main"),
    "command line": ("cli.py", "import sender, channel, receiver, training"),
    "library at home": ("channel/webrtc_peer.py", "import aiortc"),
    "library when used": ("channel/radio_link.py", "def f():\n    import sionna.phy"),
    "library for types": ("sender/a.py", "if TYPE_CHECKING:\n    import av"),
    "library in a test": ("tests/unit/test_a.py", "import av"),
    "clock": ("benchmarks/latency.py", "import time"),
    "evaluation mode": ("receiver/a.py", "model.eval()"),
    "safe load": ("training/a.py", "torch.load(path, weights_only=True)"),
    "bounded queue": ("channel/a.py", "q = queue.Queue(8); r = asyncio.Queue(maxsize=limit)"),
    "relative path": ("README.md", "see ../work/notes and https://example.org/home/page"),
    "somebody else's file": (".venv/lib/a.py", "import pickle, time\nx = '/ho" + "me/them/'"),
}


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


@pytest.mark.parametrize(("name", "text", "message"), OFFENDERS.values(), ids=OFFENDERS.keys())
def test_the_checker_catches(tmp_path: Path, name: str, text: str, message: str) -> None:
    write(tmp_path, name, text)
    (found,) = violations(tmp_path)
    assert found.startswith(f"{name}:")
    assert message in found


@pytest.mark.parametrize(("name", "text"), HARMLESS.values(), ids=HARMLESS.keys())
def test_the_checker_allows(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path, name, text)
    assert violations(tmp_path) == []

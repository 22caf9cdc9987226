"""Options that several commands share, and how a command ends: for `cli.py` and the entrances of the rooms."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from common.config import Config, load_config
from common.errors import SemcastError
from common.memory import keep_freed_memory

Input = Annotated[
    str | None,
    typer.Argument(
        metavar="[INPUT]",
        help="File, folder, camera:0, screen, test-pattern, -, or nothing for the built-in clip.",
    ),
]
Seconds = Annotated[float | None, typer.Option("--seconds", help="Stop after this much of the input.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Settings file, TOML.", metavar="FILE.toml")
]
Overrides = Annotated[
    list[str],
    typer.Option("--set", help="One setting, e.g. --set anchor.max_age_s=6", metavar="SECTION.KEY=VALUE"),
]
Bitrate = Annotated[str | None, typer.Option("--bitrate", help="Target rate, e.g. 24k or 1.5M.")]
SizeOption = Annotated[
    str | None, typer.Option("--size", help="Coded size WxH (the whole picture scaled), or auto.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")]
Threads = Annotated[int | None, typer.Option("--threads", help="Processor threads of each end.")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
Budget = Annotated[
    str | None, typer.Option("--budget-ms", help="Time for one picture at the receiver, or none.")
]
Decoder = Annotated[str | None, typer.Option("--decoder", help="tiny, base, or a .safetensors file.")]
Steps = Annotated[str | None, typer.Option("--steps", help="auto, 0 (base picture), 1, 2 or 4.")]
Digests = Annotated[
    bool, typer.Option("--digests", help="Add the digest of every base picture to the result.")
]
"""For the two live ends, `python -m sender` and `python -m receiver`."""


def settings(config: Path | None, overrides: list[str], **options: object) -> Config:
    """The effective configuration; `options` are command-line flags by section__key, None where not given."""
    flags = [f"{name.replace('__', '.')}={value}" for name, value in options.items() if value is not None]
    return load_config(config, [*overrides, *flags])


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """Expected failures become one line on stderr and an exit code, never a traceback; memory is kept for reuse."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        keep_freed_memory()
        try:
            command(*args, **kwargs)
        except SemcastError as error:
            Console(stderr=True, highlight=False, soft_wrap=True).print(f"semcast: {error}", markup=False)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            Console(stderr=True).print("semcast: interrupted; results written so far, if any, are kept")
            raise typer.Exit(1) from None

    return run

"""What is read, and where results go: looked at before any work, so that nothing is done in vain."""

from __future__ import annotations

import os
from pathlib import Path

from common.errors import SinkError, SourceError, UsageError


def made_folder(path: Path) -> Path:
    """The folder, made if it is missing; SinkError where it cannot be, or takes no files."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise SinkError(f"{path}: is a file, not a folder; choose another folder") from error
    except OSError as error:
        raise SinkError(f"{path}: cannot be made ({error.strerror}); choose another folder") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise SinkError(f"{path}: nothing can be written there; choose another folder")
    return path


def check_there(path: Path) -> None:
    """SourceError for a file that is not there. It is not opened: what a pipe holds can be read only once."""
    try:
        path.stat()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def refuse_overwriting(source: Path, out: Path) -> None:
    """UsageError where the result would take the place of what it is made from."""
    if source.exists() and out.exists() and out.samefile(source):
        raise UsageError(f"{out} is what is read: name another file for the result")

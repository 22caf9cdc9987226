"""Folders for what is written."""

from __future__ import annotations

from pathlib import Path

from common.errors import SinkError


def made_folder(path: Path) -> Path:
    """The folder, made if it is missing; SinkError where it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{path}: cannot be made ({error.strerror}); choose another folder") from error
    return path

"""Model weights: safetensors files only, the shipped ones checked against a manifest before use.

    common/assets/manifest.json     name -> file, sha256, bytes, licence, family, trained
    common/assets/NAME.safetensors  float16 tensors; header: `family`, and `config` as JSON
    common/assets/NAME.md           its card: data, licence, training, what it measures

A safetensors file holds numbers and text, so reading one can never run code (unlike pickle).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from common.errors import SinkError, WeightsError
from common.provenance import WeightsId

ASSETS = Path(__file__).parent / "assets"
SUFFIX = ".safetensors"
CARD_SUFFIX = ".md"


@dataclass(frozen=True, slots=True, eq=False)
class LoadedWeights:
    """What a weights file holds.

    config : arguments to build the model with
    tensors : the state of the model, as stored (float16)
    sha256 : of the file, hexadecimal
    metadata : the whole header
    """

    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    sha256: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Asset:
    """One entry of the manifest.

    file : name in the assets folder
    sha256, bytes : of the file
    licence : SPDX identifier
    family : which model class it fits
    trained : one line on data and training; the card beside the file says more
    """

    name: str
    file: str
    sha256: str
    bytes: int
    licence: str
    family: str
    trained: str


def shipped(assets: Path = ASSETS) -> dict[str, Asset]:
    """The manifest by name, empty where nothing is shipped; raises WeightsError when it is damaged."""
    path = assets / "manifest.json"
    if not path.exists():
        return {}
    try:
        entries = [Asset(**entry) for entry in json.loads(path.read_text("utf-8"))["weights"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} is damaged: reinstall semcast") from error
    return {entry.name: entry for entry in entries}


def load_weights(name_or_path: str, family: str | None = None, assets: Path = ASSETS) -> LoadedWeights:
    """Weights shipped under this name, or those in a safetensors file of the user's own.

    family : which model they are for; None accepts any
    Raises WeightsError when they are missing, damaged or of another family.
    """
    asset, path = _found(name_or_path, assets)
    digest = _sha256(path)
    if asset and (path.stat().st_size, digest) != (asset.bytes, asset.sha256):
        raise WeightsError(f"weights file {path} is damaged (size or hash differs): {_remedy(asset)}")
    return _read(path, family, digest, asset)


def weights_id(name_or_path: str, assets: Path = ASSETS) -> WeightsId:
    """Which weights `load_weights` would load, without loading them. Raises WeightsError as it does."""
    asset, path = _found(name_or_path, assets)
    if asset is not None:
        return WeightsId(name=asset.name, sha256=asset.sha256)
    return WeightsId(name=path.stem[:64], sha256=_sha256(path))


def _found(name_or_path: str, assets: Path) -> tuple[Asset | None, Path]:
    """What is shipped under this name, if anything is, and the file; WeightsError where there is none."""
    asset = shipped(assets).get(name_or_path)
    path = assets / asset.file if asset else Path(name_or_path)
    if not asset and path.suffix != SUFFIX:
        names = ", ".join(sorted(shipped(assets))) or "none"
        raise WeightsError(f"no weights named {name_or_path!r}: shipped are {names}; or give a {SUFFIX} file")
    if not path.is_file():
        raise WeightsError(f"weights file {path} is missing: {_remedy(asset)}")
    return asset, path


def save_weights(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    family: str,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors (floating point ones as float16) that appear under `path` only when complete.

    config : arguments to build the model with, JSON values only
    metadata : more text for the header
    Raises SinkError when the file cannot be written.
    """
    header = {**(metadata or {}), "format": "pt", "family": family, "config": json.dumps(dict(config))}
    partial = path.with_suffix(".partial")
    try:
        save_file({name: _stored(tensor) for name, tensor in tensors.items()}, partial, header)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise SinkError(f"cannot write {path}: {error}; free some space or choose another folder") from error


def register(path: Path, name: str, licence: str, trained: str, assets: Path = ASSETS) -> Asset:
    """Copy a weights file, and the card of that name beside it, into the assets and enter it in the manifest.

    What was shipped under `name` before is replaced.

    Raises WeightsError when the file is damaged or names no family, SinkError when it cannot be copied.
    """
    loaded = load_weights(str(path), assets=assets)
    family = _header(path)["family"]
    file = f"{name}{SUFFIX}"
    asset = Asset(name, file, loaded.sha256, path.stat().st_size, licence, family, trained)
    entries = shipped(assets) | {name: asset}
    manifest = {"weights": [asdict(entry) for _, entry in sorted(entries.items())]}
    try:
        assets.mkdir(parents=True, exist_ok=True)
        for source in (path, path.with_suffix(CARD_SUFFIX)):
            target = assets / f"{name}{source.suffix}"
            if source.exists() and source.resolve() != target.resolve():
                shutil.copyfile(source, target)
        (assets / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise SinkError(f"cannot register {name} in {assets}: {error.strerror}") from error
    return asset


def _read(path: Path, family: str | None, digest: str, asset: Asset | None) -> LoadedWeights:
    header = _header(path)
    if family is not None and header["family"] != family:
        raise WeightsError(f"{path} holds weights of family {header['family']!r}, needed is {family!r}")
    try:
        config = json.loads(header["config"])
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in list(file.keys())}
    except (OSError, SafetensorError, ValueError) as error:
        raise WeightsError(f"weights file {path} cannot be read: {_remedy(asset)}") from error
    if not isinstance(config, dict):
        raise WeightsError(f"weights file {path} has no usable configuration: {_remedy(asset)}")
    return LoadedWeights(config, tensors, digest, header)


def _header(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, "pt") as file:
            header: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a safetensors file: give another one or retrain it") from error
    if not {"family", "config"} <= header.keys():
        raise WeightsError(f"{path} does not say which model it fits: it was not made by `semcast train`")
    return header


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.detach().cpu().contiguous().clone()
    return plain.half() if plain.is_floating_point() else plain


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error


def _remedy(asset: Asset | None) -> str:
    return "reinstall semcast" if asset else "check the path, or retrain it"

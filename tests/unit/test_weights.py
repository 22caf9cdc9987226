"""Weights files: what is written comes back, and nothing else is believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from common.errors import SinkError, WeightsError
from common.weights import ASSETS, load_weights, register, save_weights, shipped

CONFIG = {"channels": [1, 2], "name": "é"}


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {"a.weight": torch.randn(4, 5, generator=generator), "count": torch.tensor(7)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.safetensors"
    save_weights(path, tensors(), CONFIG, "small", {"seed": "3"})
    return path


@pytest.fixture
def assets(tmp_path: Path, file: Path) -> Path:
    folder = tmp_path / "assets"
    register(file, "one", "Apache-2.0", "in a test", folder)
    return folder


def test_what_is_saved_comes_back_in_half_precision(file: Path) -> None:
    loaded = load_weights(str(file), "small")
    assert loaded.config == CONFIG
    assert loaded.tensors["a.weight"].dtype == torch.float16
    torch.testing.assert_close(loaded.tensors["a.weight"], tensors()["a.weight"].half(), rtol=0, atol=0)
    assert loaded.tensors["count"].dtype == torch.int64 and int(loaded.tensors["count"]) == 7


def test_tensors_that_share_memory_or_are_not_contiguous_can_be_saved(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    save_weights(tmp_path / "x.safetensors", {"a": base, "b": base.T}, {}, "small")
    assert load_weights(str(tmp_path / "x.safetensors")).tensors["b"].tolist() == base.T.tolist()


def test_shipped_weights_are_found_by_name(assets: Path, file: Path) -> None:
    loaded = load_weights("one", "small", assets)
    entry = shipped(assets)["one"]
    assert loaded.sha256 == entry.sha256 and entry.bytes == file.stat().st_size
    assert (entry.family, entry.licence, entry.file) == ("small", "Apache-2.0", "one.safetensors")


def test_the_card_beside_the_weights_comes_along(tmp_path: Path, file: Path) -> None:
    file.with_suffix(".md").write_text("# card")
    register(file, "one", "Apache-2.0", "in a test", tmp_path / "assets")
    assert (tmp_path / "assets/one.md").read_text() == "# card"


def test_registering_again_replaces_only_that_entry(assets: Path, tmp_path: Path, file: Path) -> None:
    save_weights(tmp_path / "new.safetensors", {"b": torch.ones(1)}, {}, "other")
    register(tmp_path / "new.safetensors", "two", "Apache-2.0", "again", assets)
    register(tmp_path / "new.safetensors", "one", "Apache-2.0", "again", assets)
    assert {name: entry.family for name, entry in shipped(assets).items()} == {"one": "other", "two": "other"}
    assert list(load_weights("one", "other", assets).tensors) == ["b"]


@pytest.mark.parametrize("change", ["flip", "truncate", "append"])
def test_a_damaged_shipped_file_is_refused(assets: Path, change: str) -> None:
    path = assets / "one.safetensors"
    data = bytearray(path.read_bytes())
    if change == "flip":
        data[-1] ^= 1
    path.write_bytes({"flip": data, "truncate": data[:-4], "append": data + b"\0"}[change])
    with pytest.raises(WeightsError, match=r"damaged.*reinstall"):
        load_weights("one", "small", assets)


def test_a_missing_shipped_file_is_refused(assets: Path) -> None:
    (assets / "one.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"missing: reinstall"):
        load_weights("one", "small", assets)


def test_another_family_is_refused(file: Path) -> None:
    with pytest.raises(WeightsError, match="'small', needed is 'bridge'"):
        load_weights(str(file), "bridge")


def test_an_unknown_name_says_what_is_there(assets: Path) -> None:
    with pytest.raises(WeightsError, match="no weights named 'huge': shipped are one"):
        load_weights("huge", assets=assets)


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 64, b"\x80\x04K\x01."])
def test_a_file_that_is_not_safetensors_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a safetensors file") as caught:
        load_weights(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_own_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="missing: check the path"):
        load_weights(str(tmp_path / "none.safetensors"))


@pytest.mark.parametrize("config", ["{", "[1]", "3"])
def test_a_header_without_a_usable_configuration_is_refused(tmp_path: Path, config: str) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(1)}, path, {"family": "small", "config": config})
    with pytest.raises(WeightsError):
        load_weights(str(path))


def test_a_header_of_a_stranger_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="does not say which model"):
        load_weights(str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("manifest", ["{", "{}", '{"weights": [{"name": "a"}]}', "[]"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(WeightsError, match="reinstall"):
        load_weights("one", assets=tmp_path)


def test_a_folder_that_is_not_there_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot write"):
        save_weights(tmp_path / "none" / "x.safetensors", tensors(), {}, "small")


def test_everything_shipped_is_whole_small_and_documented() -> None:
    entries = shipped()
    assert "labels" in entries
    for name, entry in entries.items():
        loaded = load_weights(name, entry.family)
        assert loaded.tensors and entry.licence == "Apache-2.0" and entry.trained
        assert (ASSETS / entry.file).with_suffix(".md").is_file()
    assert entries["labels"].bytes < 4_000_000
    assert json.loads((ASSETS / "manifest.json").read_text("utf-8"))["weights"]

"""Tests of `trivium.encoders.shared`: less room, and the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from trivium.encoders.shared import share
from trivium.store import room

NAMES = st.sampled_from(["a", "b", "c", "d"])
WEIGHTS = st.sampled_from(
    [
        torch.zeros(3),
        torch.ones(3),
        torch.zeros(2, 2),
        torch.zeros(3, dtype=torch.float16),
        torch.tensor([1.0, float("nan")]),
    ]
)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes() and one.shape == other.shape


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(NAMES, WEIGHTS, min_size=1), min_size=1, max_size=4))
def test_what_a_folder_says_stays_the_same(tmp_path_factory: Any, models: list[dict[str, torch.Tensor]]) -> None:
    root = tmp_path_factory.mktemp("shared")
    folders = [root / str(i) for i in range(len(models))]
    for folder, model in zip(folders, models, strict=True):
        folder.mkdir()
        own = {name: value.clone() for name, value in model.items()}
        save_file(own, folder / "model.safetensors", {"format": "pt"})
    share(folders)
    for folder, model in zip(folders, models, strict=True):
        files = [load_file(file) for file in sorted(folder.glob("*.safetensors"))]
        assert sum(len(file) for file in files) == len(model), "no weight twice"
        found = {name: value for file in files for name, value in file.items()}
        assert found.keys() == model.keys()
        assert all(same(found[name], value) for name, value in model.items())


def models(folder: Path, heads: int) -> list[Path]:
    """Models with a random backbone of 400 kB in common."""
    backbone = torch.rand(100_000)
    for i in range(heads):
        (folder / str(i)).mkdir()
        save_file({"backbone": backbone, "head": torch.rand(10)}, folder / str(i) / "model.safetensors")
    return sorted(folder.iterdir())


def test_a_backbone_takes_the_room_of_one(tmp_path: Path) -> None:
    share(models(tmp_path, 7))
    assert 400_000 < room(tmp_path) < 420_000


def test_where_there_are_no_links_there_are_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_args: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", refused)
    folders = models(tmp_path, 3)
    share(folders)
    assert 1_200_000 < room(tmp_path) < 1_220_000
    assert all("head" in load_file(folder / "model-00002-of-00002.safetensors") for folder in folders)

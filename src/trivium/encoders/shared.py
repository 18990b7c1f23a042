"""What several models have in common, written once.

A large model's folder holds its weights in several files and an index of them, and ``from_pretrained`` loads it as it
loads one with a single file. So the backbone that the heads of an encoder share can be a file of its own that lies in
all of their folders, and takes the room of one: a hard link.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from trivium.store import link

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_COMMON, _OWN = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"  # as transformers calls them


def share(folders: Sequence[Path]) -> None:
    """Take the weights that models have in common, by name and number, out of their folders into one linked file.

    What is loaded from a folder stays the same. A single folder, and folders with nothing in common, stay as they are.

    Args:
        folders: As ``save_pretrained`` wrote them, each with a ``model.safetensors``.
    """
    with ExitStack() as opened:
        models = [opened.enter_context(safe_open(folder / _WHOLE, "pt")) for folder in folders]
        common = _common(models) if len(models) > 1 else []
        if not common:
            return
        _write(folders[0] / _COMMON, models[0], common)
        for folder, model in zip(folders, models, strict=True):
            own = sorted(set(model.keys()) - set(common))
            _write(folder / _OWN, model, own)
            if folder != folders[0]:
                link(folders[0] / _COMMON, folder / _COMMON)
            places = dict.fromkeys(common, _COMMON) | dict.fromkeys(own, _OWN)
            size = sum((folder / name).stat().st_size for name in (_COMMON, _OWN))
            index = {"metadata": {"total_size": size}, "weight_map": places}
            (folder / _INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for folder in folders:
        (folder / _WHOLE).unlink()


def _common(models: Sequence[Any]) -> list[str]:
    """Names of weights that all models have, and that are the same in all."""
    first, *others = models
    names = set(first.keys()).intersection(*(other.keys() for other in others))
    return [name for name in sorted(names) if _same([model.get_tensor(name) for model in models])]


def _same(weights: Sequence[torch.Tensor]) -> bool:
    first, *others = weights
    return all(other.dtype == first.dtype and torch.equal(other, first) for other in others)


def _write(file: Path, model: Any, names: Sequence[str]) -> None:
    save_file({name: model.get_tensor(name) for name in names}, file, {"format": "pt"})

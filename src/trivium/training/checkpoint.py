"""A stage that was interrupted: weights, optimiser and position, so that going on equals never having stopped.

Random draws and data order are functions of seed and update, so neither generators nor loaders need saving.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trivium.core import JSON
from trivium.store import atomic_folder

Weights = dict[str, Tensor]


def weights_of(model: nn.Module) -> Weights:
    """A copy of every weight on the CPU; one that is shared under two names appears once."""
    return {name: value.detach().cpu().clone() for name, value in model.named_parameters()}


def put_weights(model: nn.Module, weights: Weights) -> None:
    """Set every weight to what ``weights_of`` returned."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(weights[name])


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, best: Weights | None, state: JSON) -> None:
    """Write a checkpoint in one rename; the one before it stays until this one is whole."""
    with atomic_folder(folder) as scratch:
        save_file(weights_of(model), scratch / "weights.safetensors")
        if best is not None:
            save_file(best, scratch / "best.safetensors")
        moments = {
            f"{i}.{name}": value.detach().cpu().contiguous()
            for i, slot in optimizer.state_dict()["state"].items()
            for name, value in slot.items()
        }
        save_file(moments, scratch / "optimizer.safetensors")
        (scratch / "state.json").write_text(json.dumps(state))


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Weights | None, JSON] | None:
    """Set model and optimiser to a checkpoint.

    Returns:
        The best weights so far and the state; none where there is no checkpoint.
    """
    if not (folder / "state.json").exists():
        return None
    put_weights(model, load_file(folder / "weights.safetensors"))
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in load_file(folder / "optimizer.safetensors").items():
        index, slot = name.split(".", 1)
        slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    best = folder / "best.safetensors"
    return (load_file(best) if best.exists() else None), json.loads((folder / "state.json").read_text())

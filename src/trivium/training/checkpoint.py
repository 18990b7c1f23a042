"""Checkpoints of a stage that is under way: going on from one equals never having stopped.

A stage's folder holds the last two, each a folder ``update-00001234`` with weights, the best weights so far, the
optimiser's slots, the loop's state, and ``manifest.json``, written last, with size and digest of every file. One
appears in a single rename, and is compared with its manifest before anything is taken from it.

Random draws and data order are functions of seed and update, so neither generators nor loaders need saving; nor do
rates, which the loop computes from the update.
"""

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trivium.core import JSON
from trivium.errors import ArtifactError
from trivium.pretrained import reason
from trivium.store import Content, atomic_folder, contents, damage, link

Weights = dict[str, Tensor]

_WEIGHTS, _BEST, _SLOTS = "weights.safetensors", "best.safetensors", "optimizer.safetensors"
_STATE, _MANIFEST = "state.json", "manifest.json"
_NAME = re.compile(r"update-(\d{8,})")
_LOG = logging.getLogger("trivium")


def weights_of(model: nn.Module) -> Weights:
    """A copy on the CPU, in its own dtype, of every weight and every buffer that belongs to the model's state.

    One that is shared under two names appears once.

    >>> sorted(weights_of(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False))))
    ['0.bias', '0.weight', '1.num_batches_tracked', '1.running_mean', '1.running_var']
    """
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in _tensors(model)
    }


def put_weights(model: nn.Module, weights: Weights) -> None:
    """Set every weight and buffer to what ``weights_of`` returned."""
    with torch.no_grad():
        for name, value in _tensors(model):
            value.copy_(weights[name])


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, best: Weights | None, state: JSON) -> None:
    """Write a checkpoint, and delete all but it and the newest whole one before it.

    Best weights that are those of the one before are not written again: both name the same file (a hard link).

    Args:
        folder: Where the stage's checkpoints are. What is not a checkpoint there is left alone.
        model: What is trained.
        optimizer: An optimiser whose state is tensors, as AdamW's.
        best: The best weights so far, from ``weights_of``.
        state: What else the loop remembers, as JSON; ``state["trace"]["updates"]`` names the checkpoint.
    """

    def fill(scratch: Path, before: Path | None) -> None:
        save_file(weights_of(model), scratch / _WEIGHTS)
        if best is not None:
            _write_best(scratch / _BEST, best, before)
        save_file(slots_of(optimizer), scratch / _SLOTS)
        text = json.dumps({"slots": _slot_names(model, optimizer), "loop": state})
        (scratch / _STATE).write_text(text, encoding="utf-8")

    write(folder, state["trace"]["updates"], fill)


def write(folder: Path, number: int, fill: Callable[[Path, Path | None], None]) -> None:
    """Write a checkpoint of anything, and delete all but it and the newest whole one before it.

    Args:
        folder: Where the checkpoints are. What is not a checkpoint there is left alone.
        number: How far it is: its name.
        fill: Given an empty folder, and the newest whole checkpoint before this one if there is any, writes all files.
    """
    target = folder / f"update-{number:08d}"
    _delete(folder.glob(".tmp-update-*"))  # of writers that were killed; first, since the disk may be full of them
    before = next((one for one in _checkpoints(folder) if _number(one) < number and not _damage(one)), None)
    with atomic_folder(target) as scratch:
        fill(scratch, before)
        _write_manifest(scratch)
    _delete(one for one in _checkpoints(folder) if one not in (target, before))


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that is whole; none where there is none.

    A damaged one is passed over, with a warning of the logger ``trivium`` that says what is wrong with it.
    """
    there = _checkpoints(folder)
    for one in there:
        found = _damage(one)
        if found is None:
            return one
        _LOG.warning("checkpoint %s is damaged and is passed over: %s", one, found)
    if there:
        _LOG.warning("%s: no checkpoint is whole (%d damaged); the stage starts from the beginning", folder, len(there))
    return None


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Weights | None, JSON] | None:
    """Set model and optimiser to the newest checkpoint that is whole.

    A damaged one is passed over, with a warning of the logger ``trivium`` that says what is wrong with it.

    Returns:
        The best weights so far and the state; none where there is no whole checkpoint.

    Raises:
        ArtifactError: the checkpoint is of another model or another optimiser; neither of those given was changed.

    >>> import tempfile
    >>> model = nn.Linear(3, 1)
    >>> optimizer = torch.optim.AdamW(model.parameters())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder), model, optimizer, None, {"trace": {"updates": 7}})
    ...     kept = weights_of(model)
    ...     _ = nn.init.zeros_(model.weight)
    ...     restore(Path(folder), model, optimizer)
    ...     torch.equal(model.weight, kept["weight"])
    (None, {'trace': {'updates': 7}})
    True
    """
    found = newest(folder)
    return None if found is None else _take(found, model, optimizer)


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    kept = model.state_dict(keep_vars=True)
    yield from ((name, value) for name, value in model.named_buffers() if name in kept)


def _checkpoints(folder: Path) -> list[Path]:
    """Every checkpoint, whole or not, the newest first."""
    return sorted((one for one in folder.glob("update-*") if _NAME.fullmatch(one.name)), key=_number, reverse=True)


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("update-"))


def _delete(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _write_best(path: Path, best: Weights, before: Path | None) -> None:
    content = safetensors.torch.save(best)
    if before is not None and _manifest(before).get(_BEST) == (len(content), xxhash.xxh3_128_hexdigest(content)):
        link(before / _BEST, path)
    else:
        path.write_bytes(content)


def _write_manifest(folder: Path) -> None:
    about = {name: {"bytes": size, "xxh3_128": digest} for name, (size, digest) in contents(folder).items()}
    (folder / _MANIFEST).write_text(json.dumps(about, indent=1), encoding="utf-8")


def _manifest(checkpoint: Path) -> dict[str, Content]:
    about = json.loads((checkpoint / _MANIFEST).read_text(encoding="utf-8"))
    return {name: (entry["bytes"], entry["xxh3_128"]) for name, entry in about.items()}


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint; none where every file is what its manifest says."""
    try:
        manifest = _manifest(checkpoint)
    except FileNotFoundError:
        return f"{_MANIFEST} is not there"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # a manifest may be any JSON, or none
        return f"{_MANIFEST}: {reason(error)}"
    files = {str(file.relative_to(checkpoint)) for file in checkpoint.rglob("*") if file.is_file()}
    unlisted = sorted(files - {*manifest, _MANIFEST})
    if unlisted or not manifest:
        return f"{_MANIFEST}: expected an entry for {unlisted[0] if unlisted else 'every file'}, found none"
    return damage(checkpoint, manifest)


def _take(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Weights | None, JSON]:
    weights, slots = load_file(checkpoint / _WEIGHTS), load_file(checkpoint / _SLOTS)
    state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    _demand_same(checkpoint, "weight", _shapes(dict(_tensors(model))), _shapes(weights))
    ours, theirs = (dict(enumerate(names)) for names in (_slot_names(model, optimizer), state["slots"]))
    _demand_same(checkpoint, "optimiser slot", ours, theirs)
    put_weights(model, weights)
    put_slots(optimizer, slots)
    best = None
    if (checkpoint / _BEST).exists():  # cloned: what ``load_file`` returns keeps its file open
        best = {name: value.clone() for name, value in load_file(checkpoint / _BEST).items()}
    return best, state["loop"]


def _shapes(weights: Weights) -> dict[str, str]:
    return {name: f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}" for name, value in weights.items()}


def _demand_same(checkpoint: Path, what: str, ours: Mapping[Any, str], theirs: Mapping[Any, str]) -> None:
    """Refuse a checkpoint of something else.

    Raises:
        ArtifactError: it is.
    """
    other = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    if other:
        expected, found = (layout.get(other[0], "nothing") for layout in (ours, theirs))
        raise ArtifactError(
            f"{checkpoint}: expected a checkpoint of this model and its optimiser, which have {len(ours)} {what}s, "
            f"found one with {len(theirs)}, and {len(other)} that differ: for {what} {other[0]} expected {expected}, "
            f"found {found}. Delete the folder {checkpoint.parent}, and the stage starts from the beginning."
        )


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Parameters in the order by which an optimiser's state numbers them."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _slot_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names.get(id(parameter), "another model") for parameter in _parameters(optimizer)]


def slots_of(optimizer: torch.optim.Optimizer) -> Weights:
    """What an optimiser remembers, on the CPU, as ``number of the parameter.name``."""
    return {
        f"{i}.{name}": value.detach().cpu().contiguous()
        for i, slot in optimizer.state_dict()["state"].items()
        for name, value in slot.items()
    }


def put_slots(optimizer: torch.optim.Optimizer, saved: Weights) -> None:
    """Set an optimiser's state; its groups and rates stay.

    ``load_state_dict`` knows on which device a step count belongs, but casts moments to their parameter's dtype and
    does not know its strides: both are put right after it.
    """
    slots: dict[int, Weights] = {}
    for key, value in saved.items():
        index, name = key.split(".", 1)
        slots.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    parameters = _parameters(optimizer)
    for i, slot in slots.items():
        own = optimizer.state[parameters[i]]
        for name, value in slot.items():
            moment = value.dim() > 0 and value.shape == parameters[i].shape
            like = parameters[i] if moment else own[name]
            own[name] = torch.empty_like(like, dtype=value.dtype, requires_grad=False).copy_(value)

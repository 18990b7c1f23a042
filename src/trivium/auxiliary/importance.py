"""How much each attention head matters to each row of a task; measured in batches, kept in shards.

It is the size of a row's own gradient: rows are never averaged before absolute values are taken, and dropout is off.
How it is computed stands in ``estimators``; how tasks are compared by it, in ``affinity``.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor

from trivium.auxiliary.estimators import ESTIMATORS
from trivium.auxiliary.heads import AttentionHeads
from trivium.core import JSON, Floats, Ints, Split, Task
from trivium.encoders.encoder import Encoder, inputs_of
from trivium.encoders.streams import collate, cut
from trivium.errors import ArtifactError, ConfigError, DataError, TrainingError
from trivium.kinds import Batch, Encoded, kind_of
from trivium.store import atomic_folder, atomic_write, read_array, write_array
from trivium.training.loop import Watch

Estimator = Literal["gate", "kv_weight", "kv_weight_legacy"]
Normalise = Literal["none", "layer_sum", "layer_l2", "global"]

SHARD = 1024  # rows that are written at once
_TOKENS = {"cpu": 1024, "cuda": 16384}  # in a batch, whose activations are held: a CPU gains nothing by more
_BLOCK = 4096  # rows that are normalised at once
_ABOUT = "importance.json"
_Single = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Importance:
    """How much each head matters to a task.

    Attributes:
        name: Of the task.
        estimator: How it was measured, see ``measure``.
        instances: Of each row, in the task's order: absolute values, float32 ``[rows, layers, heads]``.
    """

    name: str
    estimator: str
    instances: _Single

    @property
    def task(self) -> Floats:
        """Of the task as GradTS normalises it, float64 ``[layers, heads]``: ``matrix()``."""
        return self.matrix()

    def matrix(self, normalise: Normalise = "layer_sum") -> Floats:
        """Of the task: the mean over its rows, normalised, float64 ``[layers, heads]``.

        Args:
            normalise: See ``normalised``.

        >>> rows = np.array([[[1, 3], [2, 2]], [[1, 3], [0, 0]]], np.float32)
        >>> Importance("mrpc", "gate", rows).matrix()
        array([[0. , 1. ],
               [0.5, 0.5]])
        """
        return normalised(self.instances.mean(0, dtype=np.float64), normalise)

    def each(self, normalise: Normalise = "layer_sum") -> _Single:
        """Of each row, normalised on its own, float32 ``[rows, layers, heads]``; see ``matrix``."""
        found = np.empty(self.instances.shape, np.float32)
        for start in range(0, len(found), _BLOCK):
            block = self.instances[start : start + _BLOCK].astype(np.float64)
            found[start : start + _BLOCK] = normalised(block, normalise)
        return found

    def save(self, folder: Path) -> None:
        """Write ``importance.json`` and shards of rows, whole or not at all."""
        with atomic_folder(folder) as scratch:
            about = _about(self.name, self.estimator, self.instances.shape)
            (scratch / _ABOUT).write_text(json.dumps(about, indent=1))
            for place, rows in _shards(scratch, len(self.instances), SHARD):
                write_array(place, self.instances[rows])

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` or ``measure`` wrote.

        Raises:
            ArtifactError: there is none, or a part of it is missing.
        """
        about = _read_about(folder)
        shards = list(_shards(folder, about["rows"], about["shard"]))
        parts = [read_array(place, (len(rows), about["layers"], about["heads"]), np.float32) for place, rows in shards]
        there = [part for part in parts if part is not None]
        if len(there) < len(shards):
            raise ArtifactError(
                f"{folder}: expected {len(shards)} shards of a measurement, found {len(there)} that are whole. Call "
                "measure with this folder again: it goes on with the first that is missing."
            )
        return cls(about["task"], about["estimator"], np.concatenate(there))


def measure(
    encoder: Encoder,
    task: Task,
    *,
    estimator: Estimator = "gate",
    split: Split = "train",
    folder: Path | None = None,
    batch_tokens: int | None = None,
    watch: Watch | None = None,
) -> Importance:
    """Measure how much each attention head matters to each row of a task.

    The loss of a row is that of its kind, the mean over what the row is asked: words of a tagged sentence, windows of a
    question. The encoder is left as it was.

    Args:
        encoder: Has a head for the task, and has best learned it.
        task: The task.
        estimator: ``gate``: ∂loss/∂ξ, ξ = 1 being multiplied with what a head says (Michel et al. 2019, equation 2).
            ``kv_weight``: the mean over the rows of a head's key weights, plus that of its value weights, of |∂loss/∂w|
            (GradTS as meant). ``kv_weight_legacy``: the same where GradTS's code cuts the weights along their inputs,
            so that "head" h is the h-th slice of what all heads read; to compare with.
        split: Which of its rows.
        folder: Where to keep it, in shards of 1024 rows. A measurement that was killed goes on with the first shard
            that is missing, to the same bits on a CPU if ``batch_tokens`` is the same. None keeps nothing.
        batch_tokens: Tokens, padding included, that are computed at once; none suits the device.
        watch: Told how many rows are done, and how many there are.

    Returns:
        One matrix for each row. Weights that several layers share count for each layer by its own use of them.

    Raises:
        ConfigError: nobody knows the estimator, or where this architecture has its heads.
        ArtifactError: the encoder has no head for the task, or one with other labels; or the folder holds anything else
            than a part of just this measurement.
        DataError: there are no rows, or they have no labels.
        TrainingError: a gradient is no number.
    """
    if estimator not in ESTIMATORS:
        raise ConfigError(f"estimator: expected one of {', '.join(ESTIMATORS)}, found '{estimator}'.")
    meter = _Meter(encoder, task, estimator, split, batch_tokens or _TOKENS.get(encoder.device.type, 16384), watch)
    shape = (len(meter.encoded), *meter.heads.shape)
    if folder is None:
        parts = [meter(rows) for _, rows in _shards(Path(), shape[0], SHARD)]
        return Importance(task.name, estimator, np.concatenate(parts))
    made_from = {"split": split, "rows": task.fingerprint, **_contents(encoder, meter.encoded)}
    _claim(folder, {**_about(task.name, estimator, shape), "of": made_from})
    for place, rows in _shards(folder, shape[0], SHARD):
        if read_array(place, (len(rows), *shape[1:]), np.float32) is None:
            write_array(place, meter(rows))
    return Importance.load(folder)


class _Meter:
    """Measures rows of a task."""

    def __init__(
        self, encoder: Encoder, task: Task, estimator: str, split: Split, batch_tokens: int, watch: Watch | None
    ) -> None:
        self.encoder, self.task, self.estimate = encoder, task, ESTIMATORS[estimator]
        self.kind, self.batch_tokens, self.watch = kind_of(task), batch_tokens, watch
        self.heads = AttentionHeads.of(encoder.backbone)
        self.max_rows = None if self.heads.apart or estimator == "gate" else 1
        known = encoder.labels(task.name)
        if known != task.labels:
            raise ArtifactError(
                f"task '{task.name}': expected the labels that the encoder's head has, in their order "
                f"({', '.join(known)}), found {', '.join(task.labels)}. Train the encoder on this task."
            )
        rows = task.rows(split)
        self.encoded = self.kind.encode(encoder.tokenizer, rows, task.labels, encoder.cut_of(task.name))
        if len(self.encoded) == 0 or self.encoded.labels is None:
            raise DataError(f"task '{task.name}': expected {split} rows with labels, found {len(self.encoded)} rows.")

    def __call__(self, rows: Ints) -> _Single:
        """How much each head matters to some rows, ``[rows, layers, heads]``: a function of the rows alone."""
        encoder, first = self.encoder, int(rows[0])
        found = np.empty((len(rows), *self.heads.shape), np.float32)
        done, by_length = first, rows[np.argsort(self.encoded.lengths[rows], kind="stable")]
        with _still(encoder):
            for block in cut(by_length, self.encoded, self.max_rows, self.batch_tokens):
                batch = collate(self.encoded, block, encoder.tokenizer.pad_token_id, types=encoder.wants_types)
                found[block - first] = self._of(batch.to(encoder.device)).cpu().numpy()
                done += len(block)
                if self.watch is not None:
                    self.watch(done, len(self.encoded))
        if not np.isfinite(found).all():
            raise TrainingError(
                f"task '{self.task.name}': the gradient of a row among {first} to {rows[-1]} is no number. The encoder "
                "diverged when it learned: lower the rate (lr)."
            )
        return found

    def _of(self, batch: Batch) -> Tensor:
        return self.estimate(self.heads, batch, lambda: self._loss(batch))

    def _loss(self, batch: Batch) -> Tensor:
        """The losses of all rows together: what one adds to it depends on that row alone."""
        encoder = self.encoder
        with encoder.autocast():
            hidden = encoder.backbone(**inputs_of(batch)).last_hidden_state  # padded: packed texts are one text
            logits = encoder.answer(self.task.name, hidden, batch)
        return (self.kind.loss(logits, batch, None) / self.kind.weight(batch).clamp(min=1)).sum()


@contextmanager
def _still(encoder: Encoder) -> Iterator[None]:
    """Neither dropout nor gradients of weights, for a while."""
    training = [(module, module.training) for module in encoder.modules()]
    learned = [(weight, weight.requires_grad) for weight in encoder.parameters()]
    encoder.eval().requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, was in training:
            module.training = was
        for weight, was in learned:
            weight.requires_grad_(was)


def _as_it_is(found: Floats) -> Floats:
    return found


def _layer_sum(found: Floats) -> Floats:
    return _global(_ratio(found, found.sum(-1, keepdims=True)))


def _layer_l2(found: Floats) -> Floats:
    return _ratio(found, np.linalg.norm(found, axis=-1, keepdims=True))


def _global(found: Floats) -> Floats:
    least, most = found.min((-2, -1), keepdims=True), found.max((-2, -1), keepdims=True)
    return _ratio(found - least, most - least)


def _ratio(above: Floats, below: Floats) -> Floats:
    """The ratio, and 0 where there is none."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


NORMALISERS: Mapping[str, Callable[[Floats], Floats]] = {
    "none": _as_it_is,
    "layer_sum": _layer_sum,
    "layer_l2": _layer_l2,
    "global": _global,
}


def normalised(found: Floats, how: Normalise = "layer_sum") -> Floats:
    """Make layers comparable.

    Args:
        found: Importances, none below 0, ``[…, layers, heads]``; each matrix is normalised on its own.
        how: ``none``. ``layer_sum``: each layer sums to 1, then the least of a matrix becomes 0 and the most 1, as in
            GradTS's code. ``layer_l2``: each layer has length 1 (Molchanov et al. 2017). ``global``: the least of a
            matrix becomes 0 and the most 1.

    Returns:
        The same shape; 0 where a layer is all 0, or a matrix that is to reach from 0 to 1 is constant.

    Raises:
        ConfigError: nobody knows how.

    >>> normalised(np.array([[1.0, 3.0], [0.0, 0.0]]))
    array([[0.33333333, 1.        ],
           [0.        , 0.        ]])
    """
    if how not in NORMALISERS:
        raise ConfigError(f"normalise: expected one of {', '.join(NORMALISERS)}, found '{how}'.")
    return NORMALISERS[how](found)


def _about(task: str, estimator: str, shape: tuple[int, ...]) -> dict[str, JSON]:
    sizes = dict(zip(("rows", "layers", "heads"), shape, strict=True))
    return {"task": task, "estimator": estimator, **sizes, "shard": SHARD}


def _contents(encoder: Encoder, encoded: Encoded) -> dict[str, str]:
    """Names for the weights, and for what the encoder reads of the rows."""
    weights, inputs = xxhash.xxh3_128(), xxhash.xxh3_128()
    for name, value in encoder.state_dict().items():
        weights.update(f"\0{name} {value.dtype} {list(value.shape)}\0".encode())
        weights.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    for name, array in ((field.name, getattr(encoded, field.name)) for field in fields(encoded)):
        if isinstance(array, np.ndarray):
            inputs.update(f"\0{name} {array.dtype} {array.shape}\0".encode())
            inputs.update(np.ascontiguousarray(array).tobytes())
    return {"weights": weights.hexdigest(), "inputs": inputs.hexdigest()}


def _claim(folder: Path, about: JSON) -> None:
    """Begin a measurement in an empty folder, or go on with the same.

    Raises:
        ArtifactError: there is something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not any(not path.name.startswith(".tmp-") for path in folder.iterdir()):
        return atomic_write(folder / _ABOUT, json.dumps(about, indent=1))
    found = _read_about(folder)
    if found != about:
        other = sorted(key for key in {**found, **about} if found.get(key) != about.get(key))
        raise ArtifactError(
            f"{folder}: expected nothing, or a part of this measurement, found one that differs in {', '.join(other)}. "
            "Delete the folder, or give another."
        )
    return None


def _read_about(folder: Path) -> Any:
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        if not isinstance(about, dict) or {"task", "estimator", "rows", "layers", "heads", "shard"} - set(about):
            raise ValueError(f"{_ABOUT} of something else")
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{folder}: expected a measurement ({_ABOUT} and shard-….npy), found {error}. Delete the folder and "
            "measure again, or give another."
        ) from error
    return about


def _shards(folder: Path, rows: int, size: int) -> Iterator[tuple[Path, Ints]]:
    """Where each shard lies, and which rows it has."""
    for number, first in enumerate(range(0, rows, size)):
        yield folder / f"shard-{number:05}.npy", np.arange(first, min(first + size, rows))

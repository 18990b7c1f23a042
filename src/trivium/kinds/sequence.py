"""What kinds share whose rows are a text or a pair, answered as a whole: one line of logits for each row."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from trivium.errors import ConfigError
from trivium.kinds.batch import Batch
from trivium.kinds.kind import ClassWeight, Cut, Encoded
from trivium.kinds.text import tokenize_rows

HEADS = ("AutoModelForSequenceClassification",)


def encode_texts(tokenizer: Any, rows: pa.Table, cut: Cut) -> Encoded:
    """Tokens of ``text`` (and ``text_pair``), without labels."""
    pairs = rows["text_pair"].to_pylist() if "text_pair" in rows.column_names else None
    return tokenize_rows(tokenizer, rows["text"].to_pylist(), cut, pairs=pairs)


def per_row(logits: Tensor, batch: Batch) -> Tensor:
    """Logits ``[texts, …]`` averaged over the windows of each row, float32 ``[rows, …]``."""
    logits = logits.float()
    if batch.owners is None:
        return logits
    sums = logits.new_zeros(batch.rows, *logits.shape[1:]).index_add(0, batch.owners, logits)
    counts = torch.bincount(batch.owners, minlength=batch.rows)
    return sums / counts.view(-1, *[1] * (logits.dim() - 1))


def first_labels(batch: Batch) -> Tensor:
    """The labels of each row, ``[rows, …]``: those of its first text."""
    assert batch.labels is not None
    if batch.owners is None:
        return batch.labels
    begins = torch.ones_like(batch.owners, dtype=torch.bool)
    begins[1:] = batch.owners[1:] != batch.owners[:-1]
    return batch.labels[begins]


def no_weights(wish: ClassWeight, kind: str) -> None:
    """Refuse to weigh labels where there are none.

    Raises:
        ConfigError: somebody wants it.
    """
    if wish != "none":
        raise ConfigError(f"class_weight: rows of a task of kind '{kind}' have no classes to weigh; found {wish!r}.")


def class_weights(counts: npt.NDArray[Any], labels: Sequence[str], wish: ClassWeight) -> Tensor | None:
    """How much each label counts.

    Args:
        counts: How often each label occurs among the training rows, ``[labels]``.
        labels: Their names.
        wish: ``balanced``: all labels that occur count the same together, as in scikit-learn, n / (labels · count); or
            a weight by name, 1 for those not named.

    Returns:
        float32 ``[labels]``, 1 in the mean over the training rows; none where all count the same.

    Raises:
        ConfigError: a name is unknown, or a weight is no number from 0.

    >>> class_weights(np.array([3, 1]), ["no", "yes"], "balanced")
    tensor([0.6667, 2.0000])
    """
    if wish == "none":
        return None
    if wish == "balanced":
        present = np.maximum(counts, 1)  # a label that train never shows: no row will ask for its weight
        return torch.tensor(counts.sum() / (np.count_nonzero(counts) * present), dtype=torch.float32)
    weights = named_weights(labels, wish)
    return torch.tensor(weights * counts.sum() / max(float(weights @ counts), 1e-9), dtype=torch.float32)


def named_weights(labels: Sequence[str], wish: Mapping[str, float]) -> npt.NDArray[np.float64]:
    """Weights as somebody wrote them, ``[labels]``, 1 for labels that are not named.

    Raises:
        ConfigError: a name is unknown, or a weight is no number from 0.
    """
    for name, weight in wish.items():
        if name not in labels or not 0 <= weight < float("inf"):
            raise ConfigError(
                f"class_weight: expected labels of the task ({', '.join(labels)}), each with a weight from 0, "
                f"found {name!r}: {weight}."
            )
    return np.array([float(wish.get(name, 1.0)) for name in labels])

"""How well an encoder does on a split. No encoder meets the test split anywhere else."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from trivium.core import Floats, Score, Split, Task
from trivium.errors import ArtifactError
from trivium.kinds import Encoded, kind_of
from trivium.training.encoder import Encoder, torch_device
from trivium.training.streams import collate, padded

_TOKENS = 8192  # in a batch without gradients


def answers(encoder: Encoder, task: Task, encoded: Encoded) -> tuple[Any, Any, Floats]:
    """The encoder's answers to some rows, in their order.

    Returns:
        Answers ``[rows]``, how sure of each label ``[rows, labels]``, and the loss of each row ``[rows]`` (nan where
        rows have no label).
    """
    kind = kind_of(task)
    order = np.argsort(encoded.lengths, kind="stable")
    said, sure, losses = [], [], []
    training = encoder.training
    encoder.eval()
    with torch.inference_mode():
        for rows in _blocks(encoded, order):
            batch = collate(encoded, rows, encoder.tokenizer.pad_token_id, types=encoder.wants_types).to(encoder.device)
            logits = encoder.answer(task.name, encoder.hidden(batch), batch)
            predicted, probabilities = kind.decode(logits)
            said.append(predicted.cpu().numpy())
            sure.append(probabilities.cpu().numpy())
            losses.append(np.full(len(rows), np.nan) if batch.labels is None else kind.loss(logits, batch.labels).cpu())
    encoder.train(training)
    back = np.argsort(order, kind="stable")
    return tuple(np.concatenate(parts)[back] for parts in (said, sure, losses))  # type: ignore[return-value]


def _blocks(encoded: Encoded, order: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Cut rows that are sorted by length into batches of bounded size."""
    blocks, start = [], 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * padded(int(encoded.lengths[order[end]])) > _TOKENS:
            blocks.append(order[start:end])
            start = end
    return blocks


def score(task: Task, split: Split, gold: Any, predicted: Any, probabilities: Any) -> Score:
    """Judge answers by every metric of the task's kind."""
    kind = kind_of(task)
    total = kind.counts(gold, predicted, len(task.labels)).sum(0)
    values = {name: float(metric(total)) for name, metric in kind.metrics.items()}
    return Score(task.name, split, task.metric, values, gold, predicted, probabilities)


def evaluate(model: Encoder | Path | str, task: Task, *, split: Split = "test", max_length: int | None = None) -> Score:
    """Judge a trained model on one split of a task.

    Args:
        model: What ``train`` returned, or a folder that ``Encoder.save`` wrote.
        task: The task, as ``load_task`` returned it.
        split: Which split. Look at ``test`` once, when nothing is left to decide.
        max_length: Longest input in tokens; rows are cut at it. None takes the length it was trained at.

    Returns:
        Every metric of the task's kind, and the answer to every row.

    Raises:
        LeakError: the task has no such split, because it is sealed or never had one.
        ArtifactError: the model was not trained on this task, or with other labels.
    """
    encoder = model if isinstance(model, Encoder) else Encoder.load(Path(model)).to(torch_device())
    known = encoder.labels(task.name)
    if known != task.labels:
        raise ArtifactError(
            f"task '{task.name}': expected the labels that the model was trained with, in their order "
            f"({', '.join(known)}), found {', '.join(task.labels)}. Give load_task labels=[…] in the model's order."
        )
    length = max_length or encoder.tokenizer.model_max_length
    encoded = kind_of(task).encode(encoder.tokenizer, task.rows(split), length)
    predicted, probabilities, _ = answers(encoder, task, encoded)
    return score(task, split, encoded.labels, predicted, probabilities)

"""How well an encoder does on a split. No encoder meets the test split anywhere else."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from trivium.core import Floats, Ints, Score, Split, Task
from trivium.encoders.encoder import Encoder, torch_device
from trivium.encoders.streams import collate, cut
from trivium.errors import ArtifactError
from trivium.kinds import Batch, Encoded, Kind, kind_of
from trivium.kinds.kind import Rows

BATCH_TOKENS = {"cpu": 2048, "cuda": 8192}  # in a batch without gradients: a CPU gains nothing by more, and pads less


def answers(encoder: Encoder, task: Task, encoded: Encoded, rows: pa.Table) -> tuple[Rows, Rows, Floats]:
    """The encoder's answers to some rows, in their order, batch by batch: no logits are held.

    Args:
        encoder: Has a head for the task.
        task: The task.
        encoded: The rows, tokenised.
        rows: The rows.

    Returns:
        What it says of each row, how sure it is, and the loss of each row (nan where rows have no label); what they
        look like is said by the task's kind.
    """
    kind = kind_of(task)
    order = np.argsort(encoded.lengths, kind="stable")
    said, sure, losses = [], [], []
    training = encoder.training
    encoder.eval()
    with torch.inference_mode():
        for block in cut(order, encoded, None, BATCH_TOKENS.get(encoder.device.type, 8192)):
            batch = collate(encoded, block, encoder.tokenizer.pad_token_id, types=encoder.wants_types)
            batch = batch.to(encoder.device)
            logits = encoder.answer(task.name, encoder.hidden(batch), batch)
            one, two = kind.decode(logits, batch)
            said.append(one)
            sure.append(two)
            losses.append(_losses(kind, logits, batch))
    encoder.train(training)
    back = np.argsort(order, kind="stable")
    read = kind.read(_in_order(said, back), rows, encoder.head_config(task.name))
    return read, _in_order(sure, back), np.concatenate(losses)[back]


def _losses(kind: Kind, logits: Tensor, batch: Batch) -> Floats:
    if batch.labels is None:
        return np.full(batch.rows, np.nan)
    each = kind.loss(logits, batch, None) / kind.weight(batch).clamp(min=1)
    return each.double().cpu().numpy()


def _in_order(parts: Sequence[Rows], back: Ints) -> Rows:
    """The values of all batches, in the order of the rows."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)[back]
    flat = [value for part in parts for value in part]
    return [flat[i] for i in back]


def score(task: Task, split: Split, predicted: Rows, probabilities: Rows) -> Score:
    """Judge answers by every metric of the task's kind."""
    kind = kind_of(task)
    gold = kind.gold(task.rows(split), task.labels)
    total = kind.counts(gold, predicted, task.labels).sum(0)
    values = {name: float(metric(total)) for name, metric in kind.metrics.items()}
    values = {name: value for name, value in values.items() if not math.isnan(value)}  # nan: not defined for the task
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
    how = encoder.cut_of(task.name)
    how = how if max_length is None else replace(how, max_length=max_length)
    rows = task.rows(split)
    encoded = kind_of(task).encode(encoder.tokenizer, rows, task.labels, how)
    predicted, probabilities, _ = answers(encoder, task, encoded, rows)
    return score(task, split, predicted, probabilities)

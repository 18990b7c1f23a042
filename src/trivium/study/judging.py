"""Scores: judge a model on a split once, keep every answer, and say it in a line of ``scores.jsonl``.

The answers are ``predictions.parquet``: ``gold``, ``predicted`` and ``probabilities`` of every row, in the order of the
split. Labels and tags are indices into the task's labels, several of a row are a list; a multiple choice has its
choices from the likeliest to the least; a span has its text, and all that are accepted.
"""

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import trivium
from trivium.core import JSON, Score, Split, Task
from trivium.kinds import kind_of
from trivium.kinds.entities import find, marks_entities
from trivium.kinds.kind import Rows
from trivium.store import Artifact, Store
from trivium.study.calibration import confidences, reliability
from trivium.study.linear import LINEAR_MODELS, Linear
from trivium.training import evaluate
from trivium.training.evaluation import score

_INDICES, _TEXTS = pa.list_(pa.int64()), pa.list_(pa.large_string())
_SAVED: Mapping[str, tuple[pa.DataType, pa.DataType]] = {  # kind: how gold and predicted are saved
    "classify": (pa.int64(), pa.int64()),
    "multilabel": (_INDICES, _INDICES),
    "regress": (pa.float64(), pa.float64()),
    "rank": (pa.int64(), _INDICES),
    "tag": (_INDICES, _INDICES),
    "span": (_TEXTS, pa.large_string()),
}
_RAGGED = ("rank", "tag")  # kinds whose rows differ in length


def judge_model(store: Store, stage: Path, task: Task, split: Split) -> tuple[Artifact, Score]:
    """Judge a trained model on a split; the answers are an artifact, so that no split is opened twice."""
    inputs = {"model": stage.name, "task": task.fingerprint, "split": split}

    def write(folder: Path) -> None:
        save_answers(evaluate(stage, task, split=split), task, folder)

    made = store.make("score", inputs, write)
    return made, load_answers(made.folder, task, split)


def judge_linear(store: Store, task: Task, splits: list[Split]) -> tuple[Artifact, dict[Split, Score]]:
    """Fit the linear model on train, choose its settings on dev, and judge it on some splits.

    Args:
        store: Where its answers are kept.
        task: The task, of a kind in ``LINEAR_MODELS``.
        splits: On which splits.
    """
    inputs = {
        "trivium": trivium.__version__,
        "tried": LINEAR_MODELS[task.kind].tried(task.sealed()),
        "task": task.fingerprint,
        "splits": splits,
        "scikit-learn": metadata.version("scikit-learn"),
    }

    def write(folder: Path) -> None:
        linear = Linear(task.sealed())
        (folder / "settings.json").write_text(json.dumps({**linear.settings, "dev": linear.dev}))
        for split in splits:
            (folder / split).mkdir()
            save_answers(score(task, split, *linear.answers(task, split)), task, folder / split)

    made = store.make("linear", inputs, write)
    return made, {split: load_answers(made.folder / split, task, split) for split in splits}


def score_line(arm: str, seed: int, found: Score, task: Task) -> dict[str, JSON]:
    """What ``scores.jsonl`` says of a score.

    Returns:
        Beside who was judged on what: ``values``, every metric that a perfect model could score on (any other is about
        what no row has, such as a question without an answer); ``per_label``, the ``f1``, ``precision``, ``recall`` and
        ``support`` of every label, type of entity or tag; ``counted``, what support counts (``rows``, ``entities`` or
        ``words``); ``confusion``, who is taken for whom, a line for each true label; and ``calibration``, how often
        answers are right beside how sure they are (``calibration.reliability``). Where there are no labels the three
        before the last are empty; ``confusion`` is so for all kinds but classification, ``calibration`` for numbers.
    """
    kind = kind_of(task)
    counts = kind.counts(found.gold, found.predicted, task.labels).sum(0)
    best = kind.counts(found.gold, _perfect(task, found.gold), task.labels).sum(0)
    counted, per_label = _per_label(task, counts)
    return {
        "arm": arm,
        "seed": seed,
        "split": found.split,
        "kind": task.kind,
        "metric": found.metric,
        "values": {
            name: value
            for name, value in found.values.items()
            if name == found.metric or float(kind.metrics[name](best)) > 0
        },
        "rows": len(found.gold),
        "per_label": per_label,
        "counted": counted,
        "confusion": _confusion(found, len(task.labels)) if task.kind == "classify" else [],
        "calibration": reliability(*confidences(task.kind, found)),
    }


def _perfect(task: Task, gold: Rows) -> Rows:
    """The answers of a model that is always right."""
    if task.kind == "rank":
        return [[right] for right in gold]
    if task.kind == "span":
        return [accepted[0] if accepted else "" for accepted in gold]
    return gold


def _per_label(task: Task, counts: Any) -> tuple[str, dict[str, JSON]]:
    """What is counted, and how well every label is told, from summed counts."""
    columns = {label: i for i, label in enumerate(task.labels)}
    many, counted = 3 * len(columns), "rows"
    if task.kind == "tag":
        counted = "entities" if marks_entities(task.labels) else "words"
        counts = counts[:many] if counted == "entities" else counts[many:]
        columns = _types(task.labels) if counted == "entities" else columns
    elif task.kind not in ("classify", "multilabel"):
        return "", {}
    tp, fp, fn = counts[:many].reshape(3, -1)
    return counted, {
        label: {
            "f1": _share(2 * tp[i], 2 * tp[i] + fp[i] + fn[i]),
            "precision": _share(tp[i], tp[i] + fp[i]),
            "recall": _share(tp[i], tp[i] + fn[i]),
            "support": int(tp[i] + fn[i]),
        }
        for label, i in columns.items()
    }


def _types(labels: tuple[str, ...]) -> dict[str, int]:
    """The types of entities that tags name, and the column of ``tagging_counts`` that each has."""
    alone = np.arange(len(labels))
    columns = np.unique(find(alone, alone, labels).types)  # every tag a sentence of its own
    return {labels[i].partition("-")[2] or "entity": int(i) for i in columns}


def _confusion(found: Score, labels: int) -> list[list[int]]:
    confusion = np.zeros((labels, labels), np.int64)
    np.add.at(confusion, (found.gold, found.predicted), 1)
    rows: list[list[int]] = confusion.tolist()
    return rows


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else 0.0


def save_answers(found: Score, task: Task, folder: Path) -> None:
    """Write ``predictions.parquet`` into a folder."""
    gold, predicted = _SAVED[task.kind]
    columns = {
        "gold": _column(found.gold, gold),
        "predicted": _column(found.predicted, predicted),
        "probabilities": _column(found.probabilities, pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), folder / "predictions.parquet")


def load_answers(folder: Path, task: Task, split: Split) -> Score:
    """Read what ``save_answers`` wrote, and judge it again."""
    table = pq.read_table(folder / "predictions.parquet")
    said, sure = table["predicted"], [np.asarray(row, np.float32) for row in table["probabilities"].to_pylist()]
    predicted: Rows
    if task.kind == "multilabel":
        predicted = np.zeros((len(table), len(task.labels)), bool)
        for row, labels in enumerate(said.to_pylist()):
            predicted[row, labels] = True
    elif task.kind in _RAGGED:
        predicted = [np.asarray(row, np.int64) for row in said.to_pylist()]
    else:
        predicted = said.to_pylist() if task.kind == "span" else said.to_numpy()
    return score(task, split, predicted, sure if task.kind in _RAGGED else np.stack(sure))


def _column(values: Rows, form: pa.DataType) -> pa.Array:
    if isinstance(values, np.ndarray) and values.dtype == bool:
        values = [np.flatnonzero(row) for row in values]
    return pa.array(values if isinstance(values, np.ndarray) and values.ndim == 1 else list(values), form)

"""Scores: judge a model on a split once, keep every answer, and say it in a line of ``scores.jsonl``."""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import trivium
from trivium.core import JSON, Score, Split, Task
from trivium.store import Artifact, Store
from trivium.study.linear import GRID, Linear
from trivium.training import evaluate
from trivium.training.evaluation import score


def judge_model(store: Store, stage: Path, task: Task, split: Split) -> tuple[Artifact, Score]:
    """Judge a trained model on a split; the answers are an artifact, so that no split is opened twice."""
    inputs = {"model": stage.name, "task": task.fingerprint, "split": split}

    def write(folder: Path) -> None:
        _save(evaluate(stage, task, split=split), folder)

    made = store.make("score", inputs, write)
    return made, _load(made.folder, task, split)


def judge_linear(store: Store, task: Task, splits: list[Split]) -> tuple[Artifact, dict[Split, Score]]:
    """Fit the linear model on train, choose its settings on dev, and judge it on some splits."""
    inputs = {
        "trivium": trivium.__version__,
        "grid": GRID,
        "task": task.fingerprint,
        "splits": splits,
        "scikit-learn": metadata.version("scikit-learn"),
    }

    def write(folder: Path) -> None:
        linear = Linear(task.sealed())
        (folder / "settings.json").write_text(json.dumps({**linear.settings, "dev": linear.dev}))
        for split in splits:
            (folder / split).mkdir()
            predicted, probabilities = linear.answers(task.texts(split))
            gold = task.rows(split)["label"].to_numpy()
            _save(score(task, split, gold, predicted, probabilities), folder / split)

    made = store.make("linear", inputs, write)
    return made, {split: _load(made.folder / split, task, split) for split in splits}


def score_line(arm: str, seed: int, found: Score, task: Task) -> dict[str, JSON]:
    """What ``scores.jsonl`` says of a score: every metric, every label, and who is taken for whom."""
    labels = len(task.labels)
    confusion = np.zeros((labels, labels), np.int64)
    np.add.at(confusion, (found.gold, found.predicted), 1)
    hit, truth, said = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    per_label = {
        label: {
            "f1": _share(2 * hit[i], truth[i] + said[i]),
            "precision": _share(hit[i], said[i]),
            "recall": _share(hit[i], truth[i]),
            "support": int(truth[i]),
        }
        for i, label in enumerate(task.labels)
    }
    return {
        "arm": arm,
        "seed": seed,
        "split": found.split,
        "metric": found.metric,
        "values": dict(found.values),
        "rows": len(found.gold),
        "per_label": per_label,
        "confusion": confusion.tolist(),
    }


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else 0.0


def _save(found: Score, folder: Path) -> None:
    probabilities = pa.array(list(found.probabilities), pa.list_(pa.float32()))
    table = pa.table({"gold": found.gold, "predicted": found.predicted, "probabilities": probabilities})
    pq.write_table(table, folder / "predictions.parquet")


def _load(folder: Path, task: Task, split: Split) -> Score:
    table = pq.read_table(folder / "predictions.parquet")
    probabilities = np.array(table["probabilities"].to_pylist(), np.float32)
    return score(task, split, table["gold"].to_numpy(), table["predicted"].to_numpy(), probabilities)

"""Every kind of task on real text, with MiniLM: `make minilm`, then `python bench/kinds.py data/tasks`.

One short fine-tuning with one seed for each, judged on rows of dev that steered nothing. It shows that a kind works,
from file to metric, and no more: how good a method is, a study says.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from trivium import load_task
from trivium.core import Task
from trivium.training import Recipe, evaluate, recipes, train

# folder, kind, metric, updates, rows in a batch, longest input
TASKS = [
    ("sciie", "classify", "macro_f1", 120, 32, 96),
    ("stsb", "regress", "pearson", 120, 32, 96),
    ("bc5cdr_ner", "tag", "entity_f1", 120, 32, 96),
    ("ud_ewt_pos", "tag", "accuracy", 120, 32, 64),
    ("squad", "span", "f1", 120, 16, 192),
]
JUDGED = 400


def cut(task: Task) -> Task:
    """Without test rows, and with so many of dev as are judged."""
    return replace(task, tables={"train": task.rows("train"), "dev": task.rows("dev").slice(0, JUDGED)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the tasks")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--only", nargs="+", default=[name for name, *_ in TASKS])
    given = parser.parse_args()
    for name, kind, metric, updates, rows, longest in TASKS:
        if name not in given.only:
            continue
        task = cut(load_task(given.folder / name, kind=kind, metric=metric))
        (tune,) = recipes.finetune(given.encoder).stages
        stage = replace(
            tune, updates=updates, epochs=None, batch_rows=rows, max_length=longest, lr=1e-4, evaluate_every=updates,
            patience=None, keep_best=False,
        )  # fmt: skip
        before = replace(stage, updates=1, lr=0.0)
        untrained = evaluate(train(task, Recipe((before,)), encoder=given.encoder), task, split="dev").value
        begun = time.monotonic()
        trained = evaluate(train(task, Recipe((stage,)), encoder=given.encoder), task, split="dev")
        others = ", ".join(f"{k} {v:.3f}" for k, v in trained.values.items() if k != metric)
        print(f"{name:<11} {kind:<9} {metric}: {untrained:.3f} before, {trained.value:.3f} after {updates} updates "
              f"({time.monotonic() - begun:.0f} s); {others}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

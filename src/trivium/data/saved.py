"""Tasks put aside as they are, for workers and for another day."""

import json
from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq

from trivium.core import SPLITS, Task


def save_task(task: Task, folder: Path) -> None:
    """Write a task as Parquet and JSON."""
    for split, rows in task.tables.items():
        pq.write_table(rows, folder / f"{split}.parquet")
    about = {field.name: getattr(task, field.name) for field in fields(task) if field.name != "tables"}
    (folder / "task.json").write_text(json.dumps(about, ensure_ascii=False))


def load_saved_task(folder: Path) -> Task:
    """Read what ``save_task`` wrote."""
    about = json.loads((folder / "task.json").read_text())
    files = {split: folder / f"{split}.parquet" for split in SPLITS}
    tables = {split: pq.read_table(file) for split, file in files.items() if file.exists()}
    return Task(**about | {"labels": tuple(about["labels"]), "notes": tuple(about["notes"]), "tables": tables})

"""Labelled tasks from files: a folder of splits, one file, a mapping or a hub address becomes a ``core.Task``.

Nothing happens silently: a split that is carved, a row that is dropped, an input that is in train and in test are
notes of the task. Rows are never repaired, only refused with their file, row and column. Corpora without labels are in
``data.corpora``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from trivium.core import Split, Task
from trivium.data.columns import read_text, task_columns
from trivium.data.files import Source
from trivium.data.labels import KINDS, OneLabel
from trivium.data.place import Cell, meant, problem, shortened
from trivium.data.splits import Row, carve, find_splits
from trivium.data.words import fingerprint64
from trivium.errors import ConfigError
from trivium.seeds import numpy_rng

DEV_SHARE, DEV_MOST = 0.1, 2000
TEST_SHARE, TEST_MOST = 0.2, 5000

Rows = dict[Split, list[Row]]


def load_task(
    path: str | Path | Mapping[str, str | Path],
    *,
    kind: str = "classify",
    metric: str | None = None,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str | int | float | bool] | None = None,
    seed: int = 0,
) -> Task:
    """Load a labelled task.

    Args:
        path: A folder with files named train, dev (or validation, valid, val) and test; one file; a mapping
            ``{"train": file, "dev": file, "test": file}``; or ``"hub:owner/name"``, ``"hub:owner/name:config"``.
            Files are csv, tsv, jsonl, ndjson, json, parquet or arrow; text formats also with .gz or .zst. A missing dev
            split is carved out of train, stratified: 10 %, at most 2,000 rows. Where there is nothing but train, so is
            a test split before it: 20 %, at most 5,000 rows.
        kind: What it is, a key of ``data.labels.KINDS``.
        metric: The metric the verdict will be about; none takes the kind's first.
        name: What to call it; none takes the folder's or file's name.
        columns: Our names (``text``, ``text_pair``, ``label``) to the file's; what is not said is recognised if there
            is no doubt.
        labels: The labels in order; none takes those the file declares, else those of the training rows, sorted.
        seed: Decides which rows are carved.

    Returns:
        The task. Its ``notes`` tell of carved splits, dropped rows, and inputs shared between train and dev or test.

    Raises:
        ConfigError: an argument is not what it should be.
        DataError: the data are not; the message says where.
    """
    if kind not in KINDS:
        raise ConfigError(f"task.kind: unknown kind '{kind}'. {meant(kind, KINDS)}Known are {', '.join(KINDS)}.")
    reader = KINDS[kind]
    found = find_splits(path)
    listed = reader.declared(labels) if labels is not None else ()
    chosen, named = _header(found.sources["train"][0], columns)
    notes = list(found.notes)
    splits: Rows = {}
    for split in [split for split in ("train", "dev", "test") if split in found.sources]:
        for source in found.sources[split]:
            splits.setdefault(split, []).extend(_read(source, chosen, reader, notes))
    _demand_rows(splits, found.sources, chosen, notes)
    names, more = reader.order(splits, listed or named, chosen["label"])
    _complete(splits, seed, notes)
    notes += [*more, *_shared(splits)]
    tables = {split: _table(splits[split], names) for split in splits}
    return Task(name or found.name, kind, metric or reader.metric, names, tables, tuple(notes))


def _header(source: Source, columns: Mapping[str, str] | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """Which columns to read, and the label names that the file declares."""
    with source.open() as table:
        chosen = task_columns(table.columns, columns, source.shown)
        return chosen, table.names.get(chosen["label"], ())


def _read(source: Source, columns: Mapping[str, str], reader: OneLabel, notes: list[str]) -> list[Row]:
    """The usable rows of a source; a row without text or label is left out and noted."""
    rows: list[Row] = []
    dropped: dict[str, list[int]] = {}
    with source.open() as table:
        columns = task_columns(table.columns, columns, source.shown)
        names = table.names.get(columns["label"], ())
        count = 0
        for count, values in table.read(list(columns.values())):
            row = _row(values, columns, names, reader, source, count)
            if isinstance(row, str):
                dropped.setdefault(row, []).append(count)
            else:
                rows.append(row)
    if not count:
        raise problem(source.shown, expected="rows", found="none below the header", way_out="Write the file again.")
    for role, numbers in dropped.items():
        notes.append(
            f"{source.shown}: {len(numbers)} of {count} rows dropped because column '{columns[role]}' is empty: "
            f"row {shortened(map(str, numbers), 5)}."
        )
    return rows


def _row(
    values: Sequence[Any],
    columns: Mapping[str, str],
    names: Sequence[str],
    reader: OneLabel,
    source: Source,
    number: int,
) -> Row | str:
    """A row, or which of ``columns`` is empty in it."""
    cells = dict(zip(columns, values, strict=True))
    texts: list[str] = []
    for role in columns:
        if role == "label":
            continue
        text = read_text(cells[role], Cell(source.shown, number, columns[role]))
        if text is None:
            return role
        texts.append(text)
    label = reader.read(cells["label"], names, Cell(source.shown, number, columns["label"]))
    if label is None:
        return "label"
    text, pair = texts[0], texts[1] if len(texts) > 1 else None
    return Row(text, pair, label, (fingerprint64(text), fingerprint64(pair or "")), source, number)


def _demand_rows(
    splits: Rows, sources: Mapping[Split, Sequence[Source]], columns: Mapping[str, str], notes: list[str]
) -> None:
    """Refuse a train split without usable rows; do without a dev or test split that has none."""
    if not splits["train"]:
        raise problem(
            sources["train"][0].shown,
            expected=f"rows with {' and '.join(f'{role} in column {column!r}' for role, column in columns.items())}",
            found="none in which these are filled",
            way_out="Fill them, or name other columns: task.columns: {text: ..., label: ...}.",
        )
    for split in [split for split, rows in splits.items() if not rows]:
        del splits[split]
        notes.append(f"{split}: no row is labelled, so it is done without.")


def _complete(splits: Rows, seed: int, notes: list[str]) -> None:
    """Carve what is missing: dev always, test only where nobody has split anything yet."""
    if set(splits) == {"train"}:
        _carve(splits, "test", TEST_SHARE, TEST_MOST, seed, notes)
    elif "test" not in splits:
        notes.append("test: there is none. The verdict is about dev, which also chooses weights and so flatters.")
    if "dev" not in splits:
        _carve(splits, "dev", DEV_SHARE, DEV_MOST, seed, notes)


def _carve(splits: Rows, split: Split, share: float, most: int, seed: int, notes: list[str]) -> None:
    rows = splits["train"]
    left, taken = carve(rows, share, most, numpy_rng(seed, "carve", split))
    if not taken:
        raise problem(
            rows[0].source.shown,
            expected=f"at least one label with two different texts, to carve a {split} split",
            found=f"{len(rows)} rows without one",
            way_out=f"Add rows, or give the {split} split in a file of its own.",
        )
    splits["train"], splits[split] = left, taken
    notes.append(
        f"{split}: carved out of train, {len(taken)} of {len(rows)} rows, stratified by label, seed {seed}; "
        "rows with the same text stay in the same split."
    )


def _shared(splits: Rows) -> list[str]:
    """Which splits have inputs of the training rows: whoever judges by these judges memory too."""
    train = {row.key for row in splits["train"]}
    shared = {split: sum(row.key in train for row in rows) for split, rows in splits.items() if split != "train"}
    return [
        f"{split}: {count} of {len(splits[split])} rows have a text that is also in train "
        "(the same but for case, spaces and punctuation)."
        for split, count in shared.items()
        if count
    ]


def _table(rows: Sequence[Row], labels: Sequence[str]) -> pa.Table:
    index = {label: i for i, label in enumerate(labels)}
    table = {"text": pa.array([row.text for row in rows], pa.large_string())}
    if rows[0].pair is not None:
        table["text_pair"] = pa.array([row.pair for row in rows], pa.large_string())
    table["label"] = pa.array([index[row.label] for row in rows], pa.int64())
    table["file"] = pa.array([row.source.name for row in rows], pa.string())
    table["row"] = pa.array([row.number for row in rows], pa.int64())
    return pa.table(table)

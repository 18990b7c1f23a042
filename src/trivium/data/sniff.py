"""What somebody's files are: which hold the labelled task, of which kind, which the corpus, what their columns mean.

For ``trivium new``: a first guess that is written into a commented study file and read by a person. Whatever is guessed
by looking at values, and not by the names of files and columns, is a note.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from trivium.core import Split
from trivium.data.columns import Chosen, corpus_columns
from trivium.data.conll import TAGGED
from trivium.data.files import Source, data_files, located, matching, stem_of
from trivium.data.formats import FORMATS
from trivium.data.hub import HUB, hub_splits
from trivium.data.labels import KINDS
from trivium.data.place import problem, shortened
from trivium.data.reading import Cells, TextReader
from trivium.data.splits import split_of
from trivium.data.tasks import by_role, flat, load_task
from trivium.data.words import count_words
from trivium.errors import DataError

_SAMPLE = 1000  # rows looked at to guess what a column is
_MOST_LABELS = 100
_MUCH_LARGER = 10
_MANY_SCORES = 10
_ORDER = ("tag", "span", "rank", "multilabel", "regress", "classify")  # what is easily told from others comes first
_ALL = {**FORMATS, **TAGGED}


@dataclass(frozen=True)
class Sniffed:
    """What was found.

    Attributes:
        task_path: What to write as ``task.path``.
        kind: What to write as ``task.kind``.
        metric: What to write as ``task.metric``: the kind's own.
        columns: What to write as ``task.columns``: our names to the file's.
        rows: Rows of each split, carved ones included.
        labels: The labels in order.
        corpus: What to write as ``corpus``: files and patterns; empty if only a task was given.
        corpus_columns: What to write as ``corpus.columns``; empty if the usual names do.
        notes: What was guessed, and what loading the task says.
    """

    task_path: str
    kind: str
    metric: str
    columns: Chosen
    rows: Mapping[Split, int]
    labels: tuple[str, ...]
    corpus: tuple[str, ...]
    corpus_columns: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """Something that the user gave, or one kind of file in a folder that the user gave.

    Attributes:
        written: What to write into the study file for it as ``task.path``, and how notes call it.
        paths: What to write for it as ``corpus``.
        first: Its first source: it stands for the others.
        size: Bytes of all of it.
        splits: It has a train split by name.
        several: It is several files that are no splits, so it cannot be a task.
    """

    written: str
    paths: tuple[str, ...]
    first: Source
    size: int
    splits: bool = False
    several: bool = False


def sniff(paths: Sequence[str | Path]) -> Sniffed:
    """Tell the task from the corpus among files, folders, patterns and hub addresses.

    The task is what has a column that is plainly a label: a folder with a train file if there is one, else the
    smallest. Where no name of a column says so, values are looked at. What has no label is the corpus.

    Raises:
        DataError: nothing here has labels, or the task's files are not what they should be.
    """
    parts = [part for path in paths for part in _parts(str(path))]
    notes: list[str] = []
    labelled = {part: found for part in parts if not part.several and (found := _by_name(part.first))}
    if not labelled:
        labelled = {part: ("classify", guess) for part in parts if not part.several and (guess := _by_value(part))}
        notes += [f"{part.written}: columns guessed from their values: {dict(labelled[part][1])}." for part in labelled]
    if not labelled:
        raise problem(
            shortened([part.written for part in parts], 5),
            expected="something with a text and a label column",
            found=shortened([f"{part.written} with the columns {_columns(part.first)}" for part in parts], 3),
            way_out="Give labelled rows, or rename the column of the labels to 'label'.",
        )
    task = min(labelled, key=lambda part: (not part.splits, part.size))
    kind, columns = labelled[task]
    if kind != "classify":
        notes.append(f"{task.written}: taken for a task of kind '{kind}' by its columns and their values.")
    corpus = [part for part in parts if part not in labelled]
    for part in labelled.keys() - {task}:
        texts = isinstance(KINDS[labelled[part][0]], TextReader)
        large = texts and part.size > _MUCH_LARGER * task.size
        notes.append(f"{part.written} is labelled too: {'read as corpus' if large else 'left aside'}.")
        corpus += [part] * large
    loaded = load_task(task.written, kind=kind, columns=columns)
    return Sniffed(
        task.written,
        kind,
        loaded.metric,
        columns,
        {split: rows.num_rows for split, rows in loaded.tables.items()},
        loaded.labels,
        tuple(path for part in corpus for path in part.paths),
        _text_of(corpus, notes),
        (*notes, *loaded.notes),
    )


def _parts(path: str) -> list[_Part]:
    """What there is to tell apart in something that the user gave."""
    if path.startswith(HUB):
        splits = hub_splits(path)
        first = splits.get("train") or next(iter(splits.values()))
        return [_Part(path, (path,), first, first.size, splits="train" in splits)]
    folder = located(path)
    files = matching(path, _ALL)[0]
    if not folder.is_dir():
        return [_group(path, files, files)]
    parts, there = [], files
    named = [file for file in files if split_of(file)]
    train = [file for file in named if split_of(file) == "train"]
    if train:
        source = data_files(train, _ALL)[0]
        parts.append(_Part(path, (path,), source, sum(file.stat().st_size for file in named), splits=True))
        files = [file for file in files if file not in named]
    for suffixes, group in groupby(sorted(files, key=_suffixes), _suffixes):
        caught = [file for file in there if _suffixes(file) == suffixes]
        parts.append(_group(str(folder / f"*{suffixes}"), list(group), caught))
    return parts


def _group(pattern: str, files: Sequence[Path], caught: Sequence[Path]) -> _Part:
    """Files of one kind; named one by one if the pattern would catch others too, such as a test split."""
    size = sum(file.stat().st_size for file in files)
    written = pattern if len(files) > 1 else str(files[0])
    paths = tuple(map(str, files)) if len(caught) > len(files) else (written,)
    return _Part(written, paths, data_files(files[:1], _ALL)[0], size, several=len(files) > 1)


def _suffixes(path: Path) -> str:
    return path.name.removeprefix(stem_of(path))


def _columns(source: Source) -> str:
    with source.open() as table:
        return shortened(table.columns)


def _by_name(source: Source) -> tuple[str, Chosen] | None:
    """The kind and the columns of a task, if names leave no doubt that it is one and values are such a kind's."""
    with source.open() as table:
        fitting = {kind: columns for kind in _ORDER if (columns := _columns_of(kind, table.columns, source))}
        if not fitting:
            return None
        found, names = table.columns, table.names
        rows = list(islice(table.read(found), _SAMPLE))
    for kind, columns in fitting.items():
        label = columns["label"]
        known = names.get(label, ()) if isinstance(label, str) else ()
        places = [found.index(name) for name in flat(columns)]
        values = {number: by_role(columns, [row[i] for i in places]) for number, row in rows}
        if _suits(kind, [Cells(source, "train", number, columns, row, known) for number, row in values.items()]):
            return kind, columns
    return None


def _columns_of(kind: str, found: Sequence[str], source: Source) -> Chosen | None:
    try:
        return KINDS[kind].columns(found, None, source.shown)
    except DataError:
        return None


def _suits(kind: str, sample: Sequence[Cells]) -> bool:
    """Whether values are such as this kind has and those after it, in the order they are tried in, have not."""
    labels = [cells.values["label"] for cells in sample]
    if kind == "regress":
        return _like_scores(labels)
    if kind == "rank":
        return any(isinstance(cells.values["choices"], list | dict) for cells in sample)
    if kind == "span":
        return any(isinstance(label, dict) or _like_objects(label) for label in labels)
    return kind == "classify" or any(isinstance(label, list) for label in labels)


def _like_objects(label: Any) -> bool:
    return isinstance(label, list) and bool(label) and isinstance(label[0], dict)


def _like_scores(labels: Sequence[Any]) -> bool:
    """Numbers that are not all whole; of numbers in strings, many different ones, for they may be names."""
    texts = any(isinstance(label, str) for label in labels)
    try:
        numbers = {float(label) for label in labels if label is not None and label != ""}
    except (TypeError, ValueError, OverflowError):
        return False
    whole = all(number.is_integer() for number in numbers if math.isfinite(number))
    return not whole and (not texts or len(numbers) >= _MANY_SCORES)


def _by_value(part: _Part) -> Chosen | None:
    """The columns of a task, if one column looks like text and one like a label."""
    with part.first.open() as table:
        rows = [values for _, values in islice(table.read(table.columns), _SAMPLE)]
        values = dict(zip(table.columns, zip(*rows, strict=True), strict=True)) if rows else {}
    labels = [name for name, column in values.items() if name != "source" and _like_label(column)]
    texts = [name for name, column in values.items() if name not in labels and _like_text(column)]
    return {"text": texts[0], "label": labels[0]} if len(texts) == len(labels) == 1 else None


def _like_label(column: Sequence[Any]) -> bool:
    """Few different values that come again and again."""
    if not all(isinstance(value, str | int | bool | None) for value in column):
        return False
    different = {str(value).strip() for value in column if value is not None}
    return 2 <= len(different) <= min(_MOST_LABELS, len(column) // 2)


def _like_text(column: Sequence[Any]) -> bool:
    """Strings of several words."""
    texts = [value for value in column if value is not None]
    return (
        bool(texts) and all(isinstance(text, str) for text in texts) and sum(map(count_words, texts)) >= 3 * len(texts)
    )


def _text_of(corpus: Sequence[_Part], notes: list[str]) -> dict[str, str]:
    """Which column of the corpus is the text, where its name does not say so."""
    for part in corpus:
        with part.first.open() as table:
            try:
                corpus_columns(table.columns, None, part.first.shown)
                continue
            except DataError:
                rows = [values for _, values in islice(table.read(table.columns), _SAMPLE)]
            texts = [name for i, name in enumerate(table.columns) if _like_text([values[i] for values in rows])]
        if len(texts) == 1:
            notes.append(f"{part.written}: its text is guessed to be the column '{texts[0]}'.")
            return {"text": texts[0]}
        notes.append(f"{part.written}: say which column is the text: corpus.columns: {{text: ...}}.")
    return {}

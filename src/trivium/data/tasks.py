"""Labelled tasks from files: a folder of splits, one file, a mapping or a hub address becomes a ``core.Task``.

Nothing happens silently: a split that is carved, a row that is dropped, an input that is in train and in test are
notes of the task. Rows are never repaired, only refused with their file, row and column. Corpora without labels are in
``data.corpora``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from trivium.config import own_class
from trivium.core import SPLITS, Split, Task
from trivium.data.columns import Chosen, Given
from trivium.data.files import Source
from trivium.data.formats import FORMATS, Table
from trivium.data.labels import KINDS
from trivium.data.place import Cell, meant, problem, shortened
from trivium.data.presets import Preset, preset_of
from trivium.data.reading import Cells, Reader, column_of
from trivium.data.splits import Row, carve, find_splits
from trivium.errors import ConfigError
from trivium.seeds import numpy_rng

DEV_SHARE, DEV_MOST = 0.1, 2000
TEST_SHARE, TEST_MOST = 0.2, 5000

Rows = dict[Split, list[Row]]


def load_task(
    path: str | Path | Mapping[str, str | Path],
    *,
    preset: str | None = None,
    kind: str | None = None,
    metric: str | None = None,
    name: str | None = None,
    columns: Given | None = None,
    labels: Sequence[str | int | float | bool] | None = None,
    rows: int | Mapping[Split, int] | None = None,
    carve: bool = True,
    seed: int = 0,
) -> Task:
    """Load a labelled task.

    What a row may look like, by kind. The columns named are recognised; others can be named by ``columns``, in which a
    number is a position, from 0, and a list means several columns:

    ========== ============================================ =========================================================
    kind       columns                                      label
    ========== ============================================ =========================================================
    classify   text, perhaps text_pair, label               a name or a whole number
    multilabel text, perhaps text_pair, label               a list; one string with ``;``, ``|`` or ``,`` between (one
                                                            of them in the whole file); or ``{label: [toxic, insult]}``:
                                                            columns of 0 and 1
    regress    text, perhaps text_pair, label (or score)    a number
    rank       text (or question), choices, label (or       an index from 0, the text of the choice, or its letter;
               answer): a list; ``{text, label}`` as ARC    with ``{text, label}``, one of its labels
               has it; or ending0, ending1, … (SWAG)
    tag        tokens, label (or tags, ner_tags, …): lists  as many as tokens: names, or numbers that the file names;
               of the same length. Or .conll, .bio, .iob2,  entities in IOB1 become IOB2
               .txt: token first, tag last. Or .conllu
    span       question, context, answers. Or SQuAD's       ``{text: [...], answer_start: [...]}``, or a list of
               .json, or MRQA's .jsonl                      ``{text, answer_start}``; empty: unanswerable
    ========== ============================================ =========================================================

    Args:
        path: A folder with files named train, dev (or validation, valid, val) and test; one file; a mapping
            ``{"train": file, "dev": file, "test": file}``; or ``"hub:owner/name"``, ``"hub:owner/name:config"``.
            Files are csv, tsv, jsonl, ndjson, json, parquet or arrow; text formats also with .gz or .zst. A missing dev
            split is carved out of train, stratified by label, set of labels or score where there are such: 10 %, at
            most 2,000 rows. Where there is nothing but train, so is a test split before it: 20 %, at most 5,000 rows.
            Rows with the same input, and questions about the same context, stay in one split.
        preset: A data set that is known by name, a key of ``data.presets.PRESETS``: it says what is not said here.
        kind: What it is, a key of ``data.labels.KINDS``, or ``"module:Class"`` of a subclass of one of
            ``trivium.kinds``; none takes the preset's, else ``classify``.
        metric: The metric the verdict will be about; none takes the preset's or the kind's.
        name: What to call it; none takes the preset's, the folder's or the file's name.
        columns: Our names to the file's; what is not said is recognised if there is no doubt.
        labels: The labels in order; none takes the preset's, or those the file declares, else those of the training
            rows, sorted.
        rows: About how many rows of a split to keep at most, stratified as a carved split is; a number alone is of
            train. For trials with few labels, and where judging takes long.
        carve: Whether missing splits are carved; a task that is only learned beside another needs none.
        seed: Decides which rows are carved, and which are kept.

    Returns:
        The task; what its tables hold is said in ``core.Task``. Its ``notes`` tell of carved splits, dropped rows,
        and inputs shared between train and dev or test.

    Raises:
        ConfigError: an argument is not what it should be.
        DataError: the data are not; the message says where.
    """
    known = preset_of(preset) if preset is not None else None
    kind, variant = _kind(kind or (known.kind if known else "classify"))
    reader = KINDS[kind]
    own = known if known and known.kind == kind else None  # of another kind, its labels and metric mean nothing
    names = own.labels if own and labels is None else ()
    listed = reader.declared(labels) if labels is not None else names
    found = find_splits(
        path, {**FORMATS, **reader.formats, **(known.formats if known else {})}, known.files if known else None
    )
    loading = _Loading(reader, columns or {}, known, names)
    splits, notes, chosen, named = loading.read(found.sources)
    notes = [*found.notes, *notes]
    _demand_rows(splits, found.sources, chosen, notes)
    labels_found, more = reader.order(splits, listed or named, column_of(chosen, "label"))
    if carve:
        _complete(splits, reader, seed, notes)
    _keep(splits, {"train": rows} if isinstance(rows, int) else rows or {}, reader, seed, notes)
    notes += [*more, *_shared(splits), *([] if variant is None else [f"learned and judged as {variant} says"])]
    tables = {split: _table(splits[split], reader, labels_found) for split in splits}
    metric = metric or (own.metric if own else reader.judged(labels_found))
    return Task(name or preset or found.name, kind, metric, labels_found, tables, tuple(notes), variant)


def _kind(spelled: str) -> tuple[str, str | None]:
    """A kind of ours, and the user's variant of it, if that is what is spelled.

    Raises:
        ConfigError: it is neither.
    """
    if spelled in KINDS:
        return spelled, None
    if ":" not in spelled:
        raise ConfigError(f"task.kind: unknown kind '{spelled}'. {meant(spelled, KINDS)}Known are {', '.join(KINDS)}.")
    family: Any = getattr(own_class(spelled, KINDS, "task.kind"), "family", None)
    if family not in KINDS:
        raise ConfigError(f"task.kind: expected a subclass of a kind in trivium.kinds, found '{spelled}'.")
    return family, spelled


@dataclass(frozen=True)
class _Loading:
    """How the files of a task are read.

    Attributes:
        reader: Its kind's.
        given: What the user says of columns.
        preset: What is known of the data set.
        aliases: The preset's labels, if they count: numbers are indices into them.
    """

    reader: Reader
    given: Given
    preset: Preset | None
    aliases: Sequence[str]

    def read(self, sources: Mapping[Split, Sequence[Source]]) -> tuple[Rows, list[str], Chosen, tuple[str, ...]]:
        """The usable rows of all splits, notes, the columns of the first file, and the labels it declares."""
        first = sources["train"][0]
        with first.open() as table:
            chosen = self._columns(table, first)
            named = self.reader.named(chosen, table.names)
        splits: Rows = {}
        notes: list[str] = []
        for split in [split for split in SPLITS if split in sources]:
            for source in sources[split]:
                if split != "train" and self._unlabelled(source, chosen):
                    label = column_of(chosen, "label")
                    notes.append(f"{source.shown}: it has no column '{label}', so it is done without.")
                else:
                    splits.setdefault(split, []).extend(self._rows(source, split, chosen, notes))
        return splits, notes, chosen, named

    def _columns(self, table: Table, source: Source) -> Chosen:
        usual = self.preset.columns_in(table.columns) if self.preset else {}
        usual = {role: column for role, column in usual.items() if role in self.reader.roles}
        return self.reader.columns(table.columns, {**usual, **self.given}, source.shown)

    def _unlabelled(self, source: Source, chosen: Chosen) -> bool:
        """Whether a data set that is known by name comes with a dev or test file without labels, as GLUE does."""
        label = chosen["label"]
        with source.open() as table:
            return self.preset is not None and isinstance(label, str) and label not in table.columns

    def _rows(self, source: Source, split: Split, chosen: Chosen, notes: list[str]) -> list[Row]:
        """The usable rows of a source; a row without text or label is left out and noted."""
        rows: list[Row] = []
        dropped: dict[str, list[int]] = {}
        with source.open() as table:
            columns = self.reader.columns(table.columns, chosen, source.shown)
            label = columns["label"]
            names = table.names.get(label, ()) if isinstance(label, str) else ()
            count = 0
            for count, values in table.read(flat(columns)):
                cells = Cells(source, split, count, columns, by_role(columns, values), names, self.aliases)
                row = self.reader.read(cells)
                if isinstance(row, str):
                    dropped.setdefault(row, []).append(count)
                else:
                    rows.append(row)
        if not count:
            raise problem(source.shown, expected="rows", found="none below the header", way_out="Write the file again.")
        for why, numbers in dropped.items():
            notes.append(
                f"{source.shown}: {len(numbers)} of {count} rows dropped because {why}: "
                f"row {shortened(map(str, numbers), 5)}."
            )
        shown = column_of(columns, "label")
        rows, more = self.reader.settle(rows, lambda row: Cell(source.shown, row.number, shown))
        notes += more
        return rows


def flat(columns: Chosen) -> list[str]:
    """Every column that is to be read, those meant by one of our names one after another."""
    return [name for column in columns.values() for name in ([column] if isinstance(column, str) else column)]


def by_role(columns: Chosen, values: Sequence[Any]) -> dict[str, Any]:
    """The values of ``flat`` by our names; a list where several columns are meant."""
    rest = iter(values)
    return {
        role: next(rest) if isinstance(column, str) else [next(rest) for _ in column]
        for role, column in columns.items()
    }


def _demand_rows(splits: Rows, sources: Mapping[Split, Sequence[Source]], columns: Chosen, notes: list[str]) -> None:
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


def _complete(splits: Rows, reader: Reader, seed: int, notes: list[str]) -> None:
    """Carve what is missing: dev always, test only where nobody has split anything yet."""
    if set(splits) == {"train"}:
        _carve(splits, "test", TEST_SHARE, TEST_MOST, reader, seed, notes)
    elif "test" not in splits:
        notes.append("test: there is none. The verdict is about dev, which also chooses weights and so flatters.")
    if "dev" not in splits:
        _carve(splits, "dev", DEV_SHARE, DEV_MOST, reader, seed, notes)


def _carve(splits: Rows, split: Split, share: float, most: int, reader: Reader, seed: int, notes: list[str]) -> None:
    rows = splits["train"]
    rng = numpy_rng(seed, "carve", split)
    left, taken = carve(rows, share, most, rng, reader.strata, reader.group)
    if not taken:
        raise problem(
            rows[0].source.shown,
            expected=f"{reader.enough}, to carve a {split} split",
            found=f"{len(rows)} rows without one",
            way_out=f"Add rows, or give the {split} split in a file of its own.",
        )
    splits["train"], splits[split] = left, taken
    notes.append(
        f"{split}: carved out of train, {len(taken)} of {len(rows)} rows, {reader.carved}, seed {seed}; "
        f"rows with the same {reader.together} stay in the same split."
    )


def _keep(splits: Rows, most: Mapping[Split, int], reader: Reader, seed: int, notes: list[str]) -> None:
    """Leave out rows of splits that have more than are wanted."""
    for split, number in most.items():
        if split not in SPLITS or number < 1:
            raise ConfigError(
                f"task.rows: expected train, dev or test and a number of at least 1, found {split}: {number}."
            )
        rows = splits.get(split, [])
        if len(rows) > number:
            rng = numpy_rng(seed, "rows", split)
            _, splits[split] = carve(rows, 1.0, number, rng, reader.strata, lambda row: (row.source.name, row.number))
            notes.append(f"{split}: {len(splits[split])} of {len(rows)} rows kept, {reader.carved}, seed {seed}.")


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


def _table(rows: Sequence[Row], reader: Reader, labels: Sequence[str]) -> pa.Table:
    table = {"text": pa.array([row.text for row in rows], pa.large_string())}
    if rows[0].pair is not None:
        table["text_pair"] = pa.array([row.pair for row in rows], pa.large_string())
    table |= reader.arrays(rows, labels)
    table["file"] = pa.array([row.source.name for row in rows], pa.string())
    table["row"] = pa.array([row.number for row in rows], pa.int64())
    return pa.table(table)

"""What has to be known of a kind of task to load it: its columns, its rows, its labels.

A ``Reader`` for each kind stands in ``data.labels.KINDS``. What is done with labels afterwards is said in the room
``kinds``.
"""

import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import pyarrow as pa

from trivium.core import Split
from trivium.data.columns import Chosen, Given, flow_yaml, read_text, task_columns
from trivium.data.files import Source
from trivium.data.formats import Format
from trivium.data.place import Cell, meant, problem, shortened
from trivium.data.splits import Row
from trivium.data.words import fingerprint64
from trivium.errors import ConfigError

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_LONGEST = 1000  # characters of a label that is written out as YAML: for megabytes that would take minutes
_INDEX = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True)
class Cells:
    """One row of a file, as its kind gets it to read.

    Attributes:
        source: The file.
        split: Which split it is.
        number: Which data row, counted from 1.
        columns: Our names to the file's.
        values: Our names to what the file has; a list where several columns are meant.
        names: What whole numbers in the label column are indices into, if the file says so.
        aliases: What numbers are indices into where the file does not, by a preset.
    """

    source: Source
    split: Split
    number: int
    columns: Chosen
    values: Mapping[str, Any]
    names: Sequence[str] = ()
    aliases: Sequence[str] = ()

    def cell(self, role: str) -> Cell:
        """Where the value of one of our names stands, for messages."""
        return Cell(self.source.shown, self.number, column_of(self.columns, role))

    def text(self, role: str) -> str | None:
        """A text; none where there is none. Raises a DataError where it is something else."""
        return read_text(self.values[role], self.cell(role))

    def label(self, value: Any) -> str | None:
        """The name of a label; none where there is none. Raises a DataError where it is something else."""
        name = label_name(value, self.names, self.cell("label"))
        if name is None or name in self.aliases or not self.aliases or not _INDEX.fullmatch(name):
            return name
        return label_name(int(name), self.aliases, self.cell("label"))

    def empty(self, role: str) -> str:
        """Why a row without a value is left out."""
        return f"column '{column_of(self.columns, role)}' is empty"

    def row(self, text: str, pair: str | None, label: Any, extra: tuple[str, ...] = ()) -> Row:
        """The row that was read; a second text and what stands beside a text are part of its key."""
        key = (fingerprint64(text), fingerprint64(pair or "\n".join(sorted(extra))))
        return Row(text, pair, label, key, self.source, self.number, extra)


class Reader(ABC):
    """How tasks of one kind are loaded. To add a kind, write one and name it in ``data.labels.KINDS``.

    Attributes:
        metric: What tasks of this kind are usually judged by.
        roles: Our names for what its rows have.
        formats: Formats in which its files can come beside ``data.formats.FORMATS``, by suffix.
        carved: How rows are drawn for a split that is missing, for a note.
        together: What rows of the same split have in common, for a note.
        enough: The least that rows can be carved out of, for messages.
    """

    metric: ClassVar[str]
    roles: ClassVar[tuple[str, ...]] = ("text", "text_pair", "label")
    formats: ClassVar[Mapping[str, Format]] = {}
    carved: ClassVar[str] = "at random"
    together: ClassVar[str] = "text"
    enough: ClassVar[str] = "two different inputs"

    @abstractmethod
    def columns(self, found: Sequence[str], given: Given | None, where: str) -> Chosen:
        """Our names to a file's; raises a DataError where they leave a doubt that ``given`` does not lift."""

    @abstractmethod
    def read(self, cells: Cells) -> Row | str:
        """A row, or why it is left out; raises a DataError where a value is not what it should be."""

    def settle(self, rows: list[Row], cell: Callable[[Row], Cell]) -> tuple[list[Row], tuple[str, ...]]:
        """The rows of a whole file, put into one notation, and notes about that.

        Args:
            rows: As ``read`` returned them.
            cell: Where the label of a row stands, for messages.
        """
        return rows, ()

    def judged(self, labels: Sequence[str]) -> str:
        """What a task with these labels is judged by if nobody says otherwise."""
        return self.metric

    def named(self, columns: Chosen, names: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        """The labels that a file declares, if it does."""
        label = columns["label"]
        return names.get(label, ()) if isinstance(label, str) else ()

    def declared(self, labels: Iterable[Any]) -> tuple[str, ...]:
        """The labels that a user lists, as names.

        Raises:
            ConfigError: one is listed twice or is no label, or there are too few, or this kind has none to list.
        """
        raise ConfigError("task.labels: tasks of this kind have no label names; leave them out.")

    @abstractmethod
    def order(
        self, splits: Mapping[Split, Sequence[Row]], declared: Sequence[str], column: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Decide the labels of a task and check every row against them.

        Args:
            splits: The rows; there is a train split.
            declared: Labels that the user or the file lists, in order; perhaps none.
            column: What the file calls the label, for messages.

        Returns:
            The labels and what should be said about them.

        Raises:
            DataError: there is nothing to learn, or a row has a label that is not among them.
        """

    def strata(self, rows: Sequence[Row], share: float) -> Sequence[str]:
        """For every row, which it is a sample of when so large a share is carved out."""
        return [""] * len(rows)

    def group(self, row: Row) -> Hashable:
        """The same for rows that must stay in the same split."""
        return row.key

    @abstractmethod
    def arrays(self, rows: Sequence[Row], labels: Sequence[str]) -> Mapping[str, pa.Array]:
        """The columns of the task's table that are this kind's own."""


class TextReader(Reader):
    """Reads a text, perhaps a second, and something about them; what it is, is for each kind to say."""

    label_names: ClassVar[tuple[str, ...]]
    several: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def label(self, cells: Cells) -> Any:
        """What the label column says; none where it says nothing."""

    def columns(self, found: Sequence[str], given: Given | None, where: str) -> Chosen:
        """By the usual names."""
        return task_columns(found, given, where, self.label_names, self.several)

    def read(self, cells: Cells) -> Row | str:
        """Both texts and the label."""
        texts: list[str] = []
        for role in [role for role in cells.columns if role != "label"]:
            text = cells.text(role)
            if text is None:
                return cells.empty(role)
            texts.append(text)
        label = self.label(cells)
        if label is None:
            return cells.empty("label")
        return cells.row(texts[0], texts[1] if len(texts) > 1 else None, label)


def column_of(columns: Chosen, role: str) -> str:
    """What a file calls one of our names, for messages."""
    column = columns[role]
    return column if isinstance(column, str) else ", ".join(column)


def label_name(value: Any, names: Sequence[str], cell: Cell) -> str | None:
    """The name of a label as a file has it: a string, a bool, or a number that is whole.

    Args:
        value: What the file has.
        names: The names that whole numbers are indices into, if somebody says so; otherwise empty.
        cell: Where, for messages.

    Returns:
        Its name; none where there is no label (nothing, blank, nan, or -1 with ``names``).

    Raises:
        DataError: it is something else.

    >>> [label_name(value, (), Cell("a.csv", 1, "label")) for value in (" pos ", 3, 4.0, True, "")]
    ['pos', '3', '4', 'True', None]
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        return (read_text(value, cell) or "").strip() or None
    if not isinstance(value, int):
        raise cell.error(
            expected="a label: text, a whole number, true or false",
            found=f"{repr(value)[:80]} ({type(value).__name__})",
            way_out="Correct the row, or name another column as the label: task.columns: {label: ...}.",
        )
    if not names:
        return str(value)
    if value >= len(names):
        raise cell.error(
            expected=f"an index into the {len(names)} label names of the file ({shortened(names)})",
            found=str(value),
            way_out="Correct the row, or the names in the file's metadata.",
        )
    return names[value] if value >= 0 else None


def declared_labels(labels: Iterable[Any], least: int) -> tuple[str, ...]:
    """The labels that a user lists, as names.

    Raises:
        ConfigError: one is listed twice or is no label, or there are fewer than ``least``.
    """
    cell = Cell("task.labels", 0, "labels")
    names = [str(label_name(label, (), cell)) for label in labels]
    if len(set(names)) < len(names) or len(names) < least:
        different = f"at least {least} different labels" if least > 1 else "different labels"
        raise ConfigError(f"task.labels: expected {different}, found {flow_yaml(names)}.")
    return tuple(names)


def known_labels(
    splits: Mapping[Split, Sequence[Row]],
    declared: Sequence[str],
    column: str,
    of: Callable[[Row], Iterable[str]],
    completed: Callable[[set[str]], set[str]] = set,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels of a task and what should be said about them, every row being checked against them.

    Args:
        splits: The rows; there is a train split.
        declared: Labels that the user or the file lists, in order; if empty, those of the training rows are taken,
            numbers in order of size, others by alphabet.
        column: What the file calls the label, for messages.
        of: The labels of a row.
        completed: Given the labels seen in train, these and those that go with them.

    Raises:
        DataError: a row has a label that is not among them.
    """
    seen = {label for row in splits["train"] for label in of(row)}
    labels = tuple(declared) or tuple(_sorted(completed(seen)))
    listed = f"the {len(labels)} labels {'listed' if declared else 'seen in train'} ({shortened(labels)})"
    known = set(labels)
    for rows in splits.values():
        for row in rows:
            for label in of(row):
                if label not in known:
                    more = [*labels, label] if len(label) <= _LONGEST else [*labels, "..."]
                    raise Cell(row.source.shown, row.number, column).error(
                        expected=f"one of {listed}",
                        found=f"'{label}'",
                        way_out=f"{meant(label, labels)}Fix the row, or list the labels in the study file: "
                        f"task.labels: {flow_yaml(more)}.",
                    )
    unseen = [label for label in labels if label not in seen]
    notes = [f"labels without a training row: {shortened(unseen)}."] if unseen else []
    if alike := _alike(labels):
        notes.append(
            f"labels that only their spelling tells apart: {shortened(alike)}; if they are the same, correct them."
        )
    return labels, tuple(notes)


def _alike(labels: Sequence[str]) -> list[str]:
    """Labels of which another is the same but for case, or is the same number: true and True, 1 and 1.0."""
    plain = [str(Decimal(label).normalize()) if _NUMBER.fullmatch(label) else label.casefold() for label in labels]
    times = Counter(plain)
    return [label for label, same in zip(labels, plain, strict=True) if times[same] > 1]


def demand_variety(rows: Sequence[Row], column: str, found: Iterable[object], what: str = "labels") -> None:
    """Refuse training rows of which all say the same; raises a DataError."""
    seen = set(found)
    if len(seen) < 2:
        raise problem(
            f"{rows[0].source.shown}, column '{column}'",
            expected=f"at least 2 different {what} to learn",
            found=f"only '{next(iter(seen), 'none')}'",
            way_out=f"Add rows with another {what.removesuffix('s')}, or name another column: "
            "task.columns: {label: ...}.",
        )


def _sorted(labels: Iterable[str]) -> list[str]:
    """By size if all are numbers, by alphabet if not."""
    names = sorted(labels)
    return sorted(names, key=float) if all(map(_NUMBER.fullmatch, names)) else names

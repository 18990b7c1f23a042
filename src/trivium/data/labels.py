"""What may stand in the label column, for every kind of task that can be loaded.

Here: one label, several, or a number for each row. Multiple choice is in ``data.choices``, tagged sentences in
``data.tags``, answers in a passage in ``data.spans``. To load a new kind: one ``Reader`` and a line in ``KINDS``.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from trivium.core import Split
from trivium.data.choices import OneChoice
from trivium.data.columns import LABELS, Chosen
from trivium.data.place import Cell
from trivium.data.reading import (
    Cells,
    Reader,
    TextReader,
    declared_labels,
    demand_variety,
    known_labels,
)
from trivium.data.spans import Answers
from trivium.data.splits import Row
from trivium.data.tags import Tags

_SEPARATORS = ";|,"
_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_TENTHS = 10
_LEAST = 4  # rows that a part of the scale should give, for with fewer, rounding them would change the share


@dataclass(frozen=True)
class OneLabel(TextReader):
    """Kind ``classify``: one label for each row, from a list that is the same for all splits."""

    metric: ClassVar[str] = "macro_f1"
    label_names: ClassVar[tuple[str, ...]] = LABELS
    carved: ClassVar[str] = "stratified by label"
    enough: ClassVar[str] = "at least one label with two different texts"

    def label(self, cells: Cells) -> str | None:
        """Its name."""
        return cells.label(cells.values["label"])

    def declared(self, labels: Iterable[Any]) -> tuple[str, ...]:
        """At least two."""
        return declared_labels(labels, 2)

    def order(
        self, splits: Mapping[Split, Sequence[Row]], declared: Sequence[str], column: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Those declared, or those seen in train."""
        found = known_labels(splits, declared, column, lambda row: (row.label,))
        demand_variety(splits["train"], column, (row.label for row in splits["train"]))
        return found

    def strata(self, rows: Sequence[Row], share: float) -> Sequence[str]:
        """Labels."""
        return [row.label for row in rows]

    def arrays(self, rows: Sequence[Row], labels: Sequence[str]) -> Mapping[str, pa.Array]:
        """``label``: int64, an index into the labels."""
        index = {label: i for i, label in enumerate(labels)}
        return {"label": pa.array([index[row.label] for row in rows], pa.int64())}


@dataclass(frozen=True)
class ManyLabels(TextReader):
    """Kind ``multilabel``: any number of labels for each row, perhaps none.

    They stand in a list, in one string with ``;``, ``|`` or ``,`` between (the same sign in the whole file), or in a
    column of 0 and 1 for each label. An empty list or string is a row without a label; null is a row that nobody has
    labelled, and is left out.
    """

    metric: ClassVar[str] = "micro_f1"
    label_names: ClassVar[tuple[str, ...]] = ("label", "labels", "tags", "categories", "target")
    several: ClassVar[tuple[str, ...]] = ("label",)
    carved: ClassVar[str] = "stratified by set of labels, rare sets together"

    def label(self, cells: Cells) -> tuple[str, ...] | str | None:
        """Names; or, still in one string, what ``settle`` takes apart."""
        value, columns, cell = cells.values["label"], cells.columns["label"], cells.cell("label")
        if isinstance(columns, tuple):
            flags = [_flag(one, Cell(cell.file, cell.row, name)) for one, name in zip(value, columns, strict=True)]
            return None if None in flags else tuple(name for name, flag in zip(columns, flags, strict=True) if flag)
        if isinstance(value, str):
            return value.strip()
        if not isinstance(value, list):
            name = cells.label(value)
            return None if name is None else (name,)
        names = [cells.label(one) for one in value]
        if None in names:
            raise cell.error(
                expected="a list of labels",
                found=f"an empty one among {json.dumps(value, ensure_ascii=False)[:80]}",
                way_out="Take it out; a row without labels has an empty list.",
            )
        return tuple(name for name in dict.fromkeys(names) if name is not None)

    def settle(self, rows: list[Row], cell: Callable[[Row], Cell]) -> tuple[list[Row], tuple[str, ...]]:
        """Take strings apart at the one sign that separates labels in this file."""
        separator, witness = "", rows[0] if rows else None
        for row in [row for row in rows if isinstance(row.label, str)]:
            found = [sign for sign in _SEPARATORS if sign in row.label]
            if found and (len(found) > 1 or found[0] != (separator or found[0])):
                before = f", {separator!r} as in row {witness.number}" if separator and witness else ""
                raise cell(row).error(
                    expected=f"one sign between labels in the whole file{before}",
                    found=f"{' and '.join(map(repr, found))} in {row.label[:80]!r}",
                    way_out=f"Use one of {' '.join(_SEPARATORS)} throughout, or write lists in a .jsonl file.",
                )
            if found and not separator:
                separator, witness = found[0], row
        if not separator or witness is None:
            return [row._replace(label=_apart(row.label, "\n")) for row in rows], ()
        note = f"{witness.source.shown}: labels are taken to have {separator!r} between, as in {witness.label[:80]!r}."
        return [row._replace(label=_apart(row.label, separator)) for row in rows], (note,)

    def named(self, columns: Chosen, names: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        """Columns of 0 and 1 are the labels, in their order."""
        label = columns["label"]
        return label if isinstance(label, tuple) else names.get(label, ())

    def declared(self, labels: Iterable[Any]) -> tuple[str, ...]:
        """At least one: with it or without."""
        return declared_labels(labels, 1)

    def order(
        self, splits: Mapping[Split, Sequence[Row]], declared: Sequence[str], column: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Those declared, or those seen in train."""
        found = known_labels(splits, declared, column, lambda row: row.label)
        demand_variety(splits["train"], column, (", ".join(sorted(row.label)) for row in splits["train"]), "label sets")
        return found

    def strata(self, rows: Sequence[Row], share: float) -> Sequence[str]:
        """Sets of labels; those too rare to give a row of their own share are one stratum."""
        sets = [json.dumps(sorted(row.label)) for row in rows]
        counts = Counter(sets)
        return [labels if counts[labels] * share >= 1 else "" for labels in sets]

    def arrays(self, rows: Sequence[Row], labels: Sequence[str]) -> Mapping[str, pa.Array]:
        """``label``: list<int64>, sorted distinct indices into the labels."""
        index = {label: i for i, label in enumerate(labels)}
        indices = [sorted({index[label] for label in row.label}) for row in rows]
        return {"label": pa.array(indices, pa.list_(pa.int64()))}


@dataclass(frozen=True)
class Number(TextReader):
    """Kind ``regress``: a number for each row."""

    metric: ClassVar[str] = "pearson"
    label_names: ClassVar[tuple[str, ...]] = ("label", "labels", "target", "score", "rating")
    carved: ClassVar[str] = "stratified by score"

    def label(self, cells: Cells) -> float | None:
        """It, finite; none where there is none (nothing, blank, nan)."""
        value = cells.values["label"]
        if isinstance(value, str):
            text = value.strip()
            if not text or text.lower() == "nan":
                return None
            value = float(text) if _DECIMAL.fullmatch(text) else text
        if value is None or value != value:  # nan is not equal to itself
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not _finite(value):
            raise cells.cell("label").error(
                expected="a finite number",
                found=f"{repr(value)[:80]} ({type(value).__name__})",
                way_out="Correct the row, or name another column as the label: task.columns: {label: ...}.",
            )
        return float(value)

    def order(
        self, splits: Mapping[Split, Sequence[Row]], declared: Sequence[str], column: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """One output, the score."""
        demand_variety(splits["train"], column, (row.label for row in splits["train"]), "scores")
        return ("score",), ()

    def strata(self, rows: Sequence[Row], share: float) -> Sequence[str]:
        """Tenths of the rows by score; fewer, larger parts where a tenth would give too few rows."""
        parts = min(_TENTHS, max(1, int(len(rows) * share) // _LEAST))
        scores = np.array([row.label for row in rows])
        edges = np.quantile(scores, np.arange(1, parts) / parts)
        return [str(part) for part in np.searchsorted(edges, scores, side="right")]

    def arrays(self, rows: Sequence[Row], labels: Sequence[str]) -> Mapping[str, pa.Array]:
        """``label``: float64."""
        return {"label": pa.array([row.label for row in rows], pa.float64())}


KINDS: Mapping[str, Reader] = {
    "classify": OneLabel(),
    "multilabel": ManyLabels(),
    "regress": Number(),
    "rank": OneChoice(),
    "tag": Tags(),
    "span": Answers(),
}


def _finite(value: float) -> bool:
    """Whether a float can hold it; a whole number of JSON may have any number of digits."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _flag(value: Any, cell: Cell) -> bool | None:
    """Whether a column of 0 and 1 says yes; none where it says nothing (nothing, blank, nan, -1)."""
    if isinstance(value, str):
        value = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "-1": -1, "": None}.get(
            value.strip().lower(), value
        )
    if value is None or value != value or (not isinstance(value, str) and value == -1):
        return None
    if value not in (0, 1):
        raise cell.error(
            expected="0 or 1",
            found=f"{repr(value)[:80]} ({type(value).__name__})",
            way_out="Correct the row, or name the columns of labels: task.columns: {label: [..., ...]}.",
        )
    return bool(value)


def _apart(label: str | tuple[str, ...], separator: str) -> tuple[str, ...]:
    if not isinstance(label, str):
        return label
    return tuple(dict.fromkeys(name for part in label.split(separator) if (name := part.strip())))

"""What may stand in the label column, for every kind of task that can be loaded.

To load a new kind: one frozen dataclass with ``read`` and ``order`` and a line in ``KINDS``; what is done with its
labels afterwards stands in the room ``kinds``.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trivium.core import Split
from trivium.data.columns import flow_yaml
from trivium.data.place import Cell, meant, problem, shortened
from trivium.data.splits import Row
from trivium.errors import ConfigError

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")


@dataclass(frozen=True)
class OneLabel:
    """One label for each row, from a list that is the same for all splits.

    Attributes:
        metric: What such a task is judged by if nobody says otherwise.
    """

    metric: str = "macro_f1"

    def read(self, value: Any, names: Sequence[str], cell: Cell) -> str | None:
        """The name of a label as a file has it: a string, a bool, or a number that is whole.

        Args:
            value: What the file has.
            names: The names that whole numbers are indices into, if the file says so; otherwise empty.
            cell: Where, for messages.

        Returns:
            Its name; none where there is no label (nothing, blank, nan, or -1 with ``names``).

        Raises:
            DataError: it is something else.

        >>> [OneLabel().read(value, (), Cell("a.csv", 1, "label")) for value in (" pos ", 3, 4.0, True, "")]
        ['pos', '3', '4', 'True', None]
        """
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, str):
            return value.strip() or None
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

    def order(
        self, splits: Mapping[Split, Sequence[Row]], declared: Sequence[str], column: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Decide the labels of a task and check every row against them.

        Args:
            splits: The rows; there is a train split.
            declared: Labels that the user or the file lists, in order; if empty, those of the training rows are taken,
                numbers in order of size, others by alphabet.
            column: What the file calls the label, for messages.

        Returns:
            The labels and what should be said about them.

        Raises:
            DataError: there is only one label, or a row has one that is not among them.
        """
        seen = {row.label for row in splits["train"]}
        labels = tuple(declared) or tuple(_sorted(seen))
        listed = f"the {len(labels)} labels {'listed' if declared else 'seen in train'} ({shortened(labels)})"
        known = set(labels)
        for rows in splits.values():
            for row in rows:
                if row.label not in known:
                    raise Cell(row.source.shown, row.number, column).error(
                        expected=f"one of {listed}",
                        found=f"'{row.label}'",
                        way_out=f"{meant(row.label, labels)}Fix the row, or list the labels in the study file: "
                        f"task.labels: {flow_yaml([*labels, row.label])}.",
                    )
        if len(seen) < 2:
            raise problem(
                f"{splits['train'][0].source.shown}, column '{column}'",
                expected="at least 2 different labels to learn",
                found=f"only '{splits['train'][0].label}'",
                way_out="Add rows with another label, or name another column: task.columns: {label: ...}.",
            )
        unseen = [label for label in labels if label not in seen]
        return labels, (f"labels without a training row: {shortened(unseen)}.",) if unseen else ()

    def declared(self, labels: Iterable[Any]) -> tuple[str, ...]:
        """The labels that a user lists, as names.

        Raises:
            ConfigError: one is listed twice or is no label.
        """
        cell = Cell("task.labels", 0, "labels")
        names = [str(self.read(label, (), cell)) for label in labels]
        if len(set(names)) < len(names) or len(names) < 2:
            raise ConfigError(f"task.labels: expected at least 2 different labels, found {flow_yaml(names)}.")
        return tuple(names)


KINDS: Mapping[str, OneLabel] = {"classify": OneLabel()}


def _sorted(labels: Iterable[str]) -> list[str]:
    """By size if all are numbers, by alphabet if not."""
    names = sorted(labels)
    return sorted(names, key=float) if all(map(_NUMBER.fullmatch, names)) else names

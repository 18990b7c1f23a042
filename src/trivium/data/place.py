"""Where in a user's data something is wrong, and the one way to say so."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from trivium.errors import DataError

WHOLE_CHARACTERS = "Write the file again with a JSON library that escapes whole characters."
_LONGEST = 2000  # characters of a part of a message
_LONGEST_NAME = 200  # that is compared with others: the time for that grows with the square


def problem(where: str, *, expected: str, found: str, way_out: str) -> DataError:
    """The error for a mistake in data: where it is, what was expected, what was found, and what to do.

    >>> print(problem("a.csv row 3", expected="2 fields", found="3", way_out="Quote the text."))
    a.csv row 3: expected 2 fields, found 3. Quote the text.
    """
    return DataError(f"{where}: expected {_cut(expected)}, found {_cut(found)}. {_cut(way_out)}")


def _cut(said: str) -> str:
    """So much that it can be read: a cell may hold megabytes."""
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]} …"


def meant(found: str, known: Iterable[str]) -> str:
    """A sentence that suggests the known name most like what was found; empty if none is like it.

    >>> meant("postive", ["neg", "pos", "positive"])
    "Did you mean 'positive'? "
    """
    close = get_close_matches(found, list(known), 1) if len(found) <= _LONGEST_NAME else []
    return f"Did you mean '{close[0]}'? " if close else ""


def shortened(names: Iterable[str], most: int = 10) -> str:
    """Names with commas between, the first few of them if there are many.

    >>> shortened("abcd", 2)
    'a, b and 2 more'
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class Cell(NamedTuple):
    """One value of a data file.

    Attributes:
        file: The file as the user named it.
        row: Its data row, counted from 1.
        column: Its column, as the file calls it.
    """

    file: str
    row: int
    column: str

    def error(self, *, expected: str, found: str, way_out: str) -> DataError:
        """What to raise when the value is not what it should be."""
        where = f"{self.file} row {self.row}, column '{self.column}'"
        return problem(where, expected=expected, found=found, way_out=way_out)


@dataclass
class Place:
    """How far a reader has come, for the message if it cannot go on. A reader moves it.

    Attributes:
        file: The file as the user named it.
        row: The data row being read, counted from 1; 0 for the header; none where rows cannot be told yet.
        line: The last line read, counted from 1; 0 where the file has none.
    """

    file: str
    row: int | None = None
    line: int = 0

    def error(self, *, expected: str, found: str, way_out: str) -> DataError:
        """What to raise when the file cannot be read on from here."""
        row = "" if self.row is None else " header" if self.row == 0 else f" row {self.row}"
        line = f" (line {self.line})" if self.line else ""
        return problem(f"{self.file}{row}{line}", expected=expected, found=found, way_out=way_out)

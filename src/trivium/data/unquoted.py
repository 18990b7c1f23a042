"""Tab-separated files in which a quotation mark is a character like others, as those of GLUE are."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from trivium.data.formats import Table, unique_columns
from trivium.data.lines import open_lines
from trivium.data.place import Place, shortened


@dataclass(frozen=True)
class Unquoted:
    """A format (see ``data.formats``): no quoting, and a line that ends early has no value in its last columns.

    Attributes:
        header: Where not empty, the first line names columns only if it has one of these; else columns are called by
            their number, from 0 (the train and dev files of CoLA).
    """

    header: Collection[str] = ()

    def __call__(self, path: Path, place: Place) -> AbstractContextManager[Table]:
        """Open a file."""
        return _open(path, place, self.header)


@contextmanager
def _open(path: Path, place: Place, header: Collection[str]) -> Iterator[Table]:
    with open_lines(path, place) as (lines, position):
        rows = (line.rstrip("\r\n").split("\t") for line in lines if not line.isspace())
        place.row = 0
        first = next(rows, None)
        if first is None:
            raise place.error(expected="rows", found="an empty file", way_out="Write it again, or leave it out.")
        named = not header or not set(header).isdisjoint(first)
        columns = unique_columns(first, place) if named else tuple(map(str, range(len(first))))

        def read(wanted: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
            places = [columns.index(name) for name in wanted]
            for row, fields in enumerate(rows if named else chain([first], rows), 1):
                place.row = row
                if len(fields) > len(columns):
                    raise place.error(
                        expected=f"at most {len(columns)} fields ({shortened(columns)})",
                        found=str(len(fields)),
                        way_out="Take the tabs out of its texts.",
                    )
                filled: list[Any] = [*fields, *[None] * (len(columns) - len(fields))]
                yield row, [filled[i] for i in places]

        yield Table(columns, read, position)

"""Data files as rows: csv, tsv, JSON lines, JSON, Parquet, Arrow and plain text.

Every format opens as the same ``Table``, read once from top to bottom in bounded memory (but a ``.json`` list is read
whole), and every way a file can be broken becomes a DataError that names the row. Which columns matter, and what may
stand in them, is the business of those who read. To add a format: one function here and a line in ``FORMATS``.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from trivium.data.lines import open_lines
from trivium.data.place import WHOLE_CHARACTERS, Place, shortened
from trivium.data.squad import questions

_BATCH = 1024  # rows of a binary format turned into Python values at a time
_LONGEST_FIELD = 1 << 26  # characters: more than any text, little enough that an open quote cannot swallow the memory
_LONGEST_PARAGRAPH = 1 << 20


@dataclass(frozen=True)
class Table:
    """An open data file.

    Attributes:
        columns: Names of its columns; for JSON, those of the first object.
        read: Given names of columns, yields the number of each data row, from 1, and its values in that order.
        position: How many bytes of the file have been read so far.
        names: For columns that hold indices of named labels (``ClassLabel`` of Hugging Face), the names.
    """

    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[tuple[int, list[Any]]]]
    position: Callable[[], int]
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


Format = Callable[[Path, Place], AbstractContextManager[Table]]


def class_labels(metadata: Mapping[bytes, bytes] | None) -> Mapping[str, tuple[str, ...]]:
    """The columns that the ``datasets`` library notes as ``ClassLabel`` in an Arrow schema, with their label names.

    A list of them, as tags are, counts too.
    """
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        inner = {column: _of_list(feature) for column, feature in features.items()}
        return {
            column: tuple(map(str, feature["names"]))
            for column, feature in inner.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):  # no note, or not theirs
        return {}


def _of_list(feature: Any) -> Any:
    """What a list holds, in the three ways that ``datasets`` has written it; of no list, itself."""
    if isinstance(feature, list):
        return feature[0]
    of_list = isinstance(feature, dict) and feature.get("_type") in ("List", "LargeList", "Sequence")
    return feature["feature"] if of_list else feature


def unique_columns(columns: Sequence[str], place: Place) -> tuple[str, ...]:
    """These names; raises a DataError where one stands twice, or is no Unicode, as JSON can have it."""
    try:
        "".join(columns).encode()
    except UnicodeEncodeError as error:
        raise place.error(
            expected="names of columns in Unicode",
            found=f"half of a surrogate pair in ({shortened(columns)})",
            way_out=WHOLE_CHARACTERS,
        ) from error
    twice = [name for name, times in Counter(columns).items() if times > 1]
    if twice:
        raise place.error(
            expected="columns with different names",
            found=f"more than one column '{twice[0]}' in ({shortened(columns)})",
            way_out="Rename or remove the others.",
        )
    return tuple(columns)


def _empty(place: Place) -> Exception:
    return place.error(expected="rows", found="an empty file", way_out="Write it again, or leave it out.")


# -- csv and tsv ------------------------------------------------------------------------------------------------------


@contextmanager
def _delimited(path: Path, place: Place, delimiter: str) -> Iterator[Table]:
    csv.field_size_limit(_LONGEST_FIELD)  # of the whole process, and there is no other way to ask for long fields
    place.row = 0
    with open_lines(path, place) as (lines, position):
        rows = _fields(csv.reader(lines, delimiter=delimiter, strict=True), place)
        header = next(rows, None)
        if header is None:
            raise _empty(place)
        if len(header) == 1 and (other := next((c for c in ";\t|," if c != delimiter and c in header[0]), "")):
            raise place.error(
                expected=f"names of columns with {delimiter!r} between",
                found=f"{header[0]!r}",
                way_out=f"It seems to be separated by {other!r}: a .csv is read with commas and a .tsv with tabs.",
            )
        columns = unique_columns(header, place)

        def read(wanted: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
            places = [columns.index(name) for name in wanted]
            for fields in rows:
                if len(fields) != len(columns):
                    raise place.error(
                        expected=f"{len(columns)} fields as in the header ({shortened(columns)})",
                        found=str(len(fields)),
                        way_out="Put texts that contain the separator or a line break in double quotes.",
                    )
                yield place.row or 0, [fields[i] for i in places]

        yield Table(columns, read, position)


def _fields(reader: Iterator[list[str]], place: Place) -> Iterator[list[str]]:
    """Rows as the csv module reads them; a blank line is no row."""
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise place.error(
                expected="fields in the quoting of csv",
                found=str(error),
                way_out='Put such a field in double quotes, and write a double quote in it as "". '
                "Or save the file as JSON lines, which has no such trouble.",
            ) from error
        if fields is None:
            return
        if fields:
            yield fields
            place.row = (place.row or 0) + 1


# -- JSON -------------------------------------------------------------------------------------------------------------


@contextmanager
def _json_lines(path: Path, place: Place) -> Iterator[Table]:
    with open_lines(path, place) as (lines, position):
        values = (_parse(line, place) for line in lines if not line.isspace())
        yield _objects(questions(values, place), place, position)


@contextmanager
def _json(path: Path, place: Place) -> Iterator[Table]:
    """A list of objects; or JSON lines, as many tools write under this suffix; or SQuAD's tree of questions."""
    with open_lines(path, place) as (lines, position):
        filled = (line for line in lines if not line.isspace())
        first = next(filled, "")
        if first.lstrip().startswith("["):
            whole = "".join([first, *lines])
            place.line = 0  # all are read: from here, rows say more
            values = iter(_parse(whole, place))
        elif first.strip() == "{":  # one object over many lines
            values = iter([_parse("".join([first, *lines]), place)])
        else:
            values = (_parse(line, place) for line in chain([first] * bool(first), filled))
        yield _objects(questions(values, place), place, position)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; plain ``json.loads`` would forget the first of two values with the same name."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"'{Counter(name for name, _ in pairs).most_common(1)[0][0]}' stands twice in one object")
    return found


_JSON = json.JSONDecoder(object_pairs_hook=_once)


def _parse(text: str, place: Place) -> Any:
    try:
        return _JSON.decode(text)
    except (ValueError, RecursionError) as error:
        mistake = str(error)
        if isinstance(error, json.JSONDecodeError):
            line = "" if place.line else f"line {error.lineno} "  # of one line, Place knows the number
            mistake = f"{error.msg} at {line}character {error.colno}"
        raise place.error(
            expected="valid JSON, one object on each line (or one list of objects in a .json file)",
            found=f"a mistake ({mistake})",
            way_out="Correct it, or write the file with a JSON library.",
        ) from error


def _objects(values: Iterator[Any], place: Place, position: Callable[[], int]) -> Table:
    place.row = 1
    objects = (_object(value, place) for value in values)
    first = next(objects, None)
    if first is None:
        place.row = None
        raise _empty(place)

    def read(wanted: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
        for row, found in enumerate(chain([first], objects), 1):
            try:
                values = [found[name] for name in wanted]
            except KeyError as error:
                raise place.error(
                    expected=f"a field {error}",
                    found=f"only {shortened(found) or 'an empty object'}",
                    way_out="Add it, as null if there is no value, or delete the row.",
                ) from error
            yield row, values
            place.row = row + 1

    return Table(unique_columns(tuple(first), place), read, position)


def _object(value: Any, place: Place) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise place.error(
            expected='an object such as {"text": "...", "label": "..."}',
            found=f"{json.dumps(value, ensure_ascii=False)[:80]}",
            way_out="Give each value the name of its column.",
        )
    return value


# -- Parquet and Arrow ------------------------------------------------------------------------------------------------


@contextmanager
def _parquet(path: Path, place: Place) -> Iterator[Table]:
    with _explained(place, "Parquet"):
        file = pq.ParquetFile(path)
    with file:
        columns = unique_columns(file.schema_arrow.names, place)
        rows, size = file.metadata.num_rows, path.stat().st_size

        def read(wanted: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
            return _rows(file.iter_batches(batch_size=_BATCH, columns=list(wanted)), wanted, place, "Parquet")

        yield Table(
            columns,
            read,
            lambda: size * min((place.row or 1) - 1, rows) // max(rows, 1),
            class_labels(file.schema_arrow.metadata),
        )


@contextmanager
def _arrow(path: Path, place: Place) -> Iterator[Table]:
    """Arrow's file format, which is also Feather's, or its stream format, which ``datasets`` writes."""
    with pa.memory_map(str(path)) as mapped:
        with _explained(place, "Arrow"):
            try:
                file = ipc.open_file(mapped)
                batches = (file.get_batch(i) for i in range(file.num_record_batches))
            except pa.ArrowInvalid:
                mapped.seek(0)
                file = batches = ipc.open_stream(mapped)
        columns = unique_columns(file.schema.names, place)
        done = 0

        def chosen(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
            nonlocal done
            for batch in batches:
                done += batch.nbytes
                yield batch.select(list(wanted))

        def read(wanted: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
            return _rows(chosen(wanted), wanted, place, "Arrow")

        yield Table(columns, read, lambda: min(done, mapped.size()), class_labels(file.schema.metadata))


def _rows(batches: Iterator[Any], wanted: Sequence[str], place: Place, what: str) -> Iterator[tuple[int, list[Any]]]:
    place.row = 1
    while True:
        with _explained(place, what):
            batch = next(batches, None)
            if batch is None:
                return
            batch.validate(full=True)  # a damaged file must not reach memory that is not its own
            values = [batch.column(name).to_pylist() for name in wanted]
        for row in zip(*values, strict=True):
            yield place.row, list(row)
            place.row += 1


@contextmanager
def _explained(place: Place, what: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError, LookupError) as error:
        # the last two: a time beyond the calendar, or in a time zone that nobody knows
        raise place.error(
            expected=f"a whole {what} file",
            found=f"a damaged one, or another format ({error})",
            way_out="Copy or write it again, or correct its suffix.",
        ) from error


# -- plain text -------------------------------------------------------------------------------------------------------


@contextmanager
def _text(path: Path, place: Place) -> Iterator[Table]:
    """One document for each paragraph; paragraphs are what blank lines separate.

    A file without blank lines is then one document. A paragraph beyond a million characters, as in a file with a
    sentence on each line, ends at the next line end, so that no file has to fit into memory.
    """
    with open_lines(path, place) as (lines, position):

        def read(_: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
            for row, paragraph in enumerate(_paragraphs(lines), 1):
                place.row = row + 1
                yield row, [paragraph]

        place.row = 1
        yield Table(("text",), read, position)


def _paragraphs(lines: Iterator[str]) -> Iterator[str]:
    held: list[str] = []
    size = 0
    for line in lines:
        if not line.isspace():
            held.append(line)
            size += len(line)
        if held and (line.isspace() or size > _LONGEST_PARAGRAPH):
            yield "".join(held)
            held, size = [], 0
    if held:
        yield "".join(held)


def _csv(path: Path, place: Place) -> AbstractContextManager[Table]:
    return _delimited(path, place, ",")


def _tsv(path: Path, place: Place) -> AbstractContextManager[Table]:
    return _delimited(path, place, "\t")


FORMATS: Mapping[str, Format] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".txt": _text,
}
BINARY = frozenset({".parquet", ".arrow"})  # all others may also be .gz or .zst

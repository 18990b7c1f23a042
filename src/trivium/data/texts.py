"""Rows to be answered by a trained model: texts without labels, in the order of the file, none left out.

A corpus may drop what has no word in it; here every row wants an answer, so a row without a text is refused.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NoReturn

from trivium.data.choices import OneChoice
from trivium.data.columns import Chosen, read_text, text_columns
from trivium.data.conll import TAGGED
from trivium.data.files import Source, data_files, located
from trivium.data.formats import FORMATS
from trivium.data.lines import decoded
from trivium.data.place import Cell, Place, meant, problem, shortened
from trivium.data.reading import Cells
from trivium.data.spans import Answers
from trivium.data.splits import Row
from trivium.data.tags import Tags
from trivium.data.tasks import by_role, flat
from trivium.errors import DataError

_LABEL = "label"  # which readers of labelled rows want; here it need not be there


def read_texts(
    file: str | Path, text_column: str | None = None, *, keep: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """Read what a model may be asked about the rows of a file, in bounded memory.

    Args:
        file: A data file; formats as for ``load_task``, and .txt, where paragraphs between blank lines are texts.
        text_column: Which column is the text; none recognises it, or both of a pair, by the usual names.
        keep: Columns that nothing is asked about, such as an id, and what each is to be called.

    Returns:
        For each row a mapping with what the file has of: ``text``; ``text_pair``, or the context of a question;
        ``choices``, a list of texts; ``tokens``, a list of words. A file of tokens alone has no ``text``. With
        ``keep``, also ``kept``: a mapping of names to values as the file has them.

    Raises:
        DataError: at once, if there is no such file or column; while it is read, if a row is not what it should be or
            has nothing in one of these.
    """
    (source,) = data_files([located(file)], {**FORMATS, **TAGGED})
    with source.open() as table:
        columns = _columns(table.columns, text_column, source.shown)
        _demand(keep or {}, table.columns, source.shown)
    return _rows(source, columns, keep or {})


def read_lines(file: IO[bytes], shown: str = "standard input") -> Iterator[dict[str, Any]]:
    """One text a line, in bounded memory, each as soon as its line is there.

    Args:
        file: An open stream of UTF-8.
        shown: How messages call it.

    Raises:
        DataError: while it is read, if a line is empty or not UTF-8; it names the line.
    """
    place = Place(shown)
    for line in decoded(file, place):
        text = line.strip()
        if not text:
            raise place.error(expected="a text", found="an empty line", way_out="Fill it, or leave it out.")
        yield {"text": text}


def _demand(keep: Mapping[str, str], found: Sequence[str], where: str) -> None:
    for name in keep:
        if name not in found:
            raise problem(
                where,
                expected=f"a column '{name}' to keep",
                found=f"the columns {shortened(found, 20)}",
                way_out=f"{meant(name, found)}Correct --keep or the file.",
            )


def _columns(found: tuple[str, ...], text: str | None, where: str) -> Chosen:
    """Our names to the file's, for all that is there."""
    if text is not None and text not in found:
        raise problem(
            where,
            expected=f"a column '{text}' for the text",
            found=f"the columns {shortened(found, 20)}",
            way_out=f"{meant(text, found)}Correct --text or the file.",
        )
    rest = {**_tokens(found, where), **_question(found, text, where)}
    if text is not None:
        return {**rest, "text": text}
    try:
        return {**rest, **text_columns(found, where, "with --text")}
    except DataError:
        if rest:
            return rest
        raise


def _tokens(found: Sequence[str], where: str) -> Chosen:
    """Where the words of a sentence are, if anywhere."""
    try:
        return {"tokens": Tags().columns(found, {"label": 0}, where)["tokens"]}
    except DataError:
        return {}


def _question(found: Sequence[str], text: str | None, where: str) -> Chosen:
    """A question with its choices or, unless it was said what the text is, with its context, if there is one."""
    given = {"label": _LABEL} | ({} if text is None else {"text": text})
    for reader in [OneChoice()] if text is not None else [OneChoice(), Answers()]:
        try:
            columns = reader.columns([*found, _LABEL], given, where)
        except DataError:
            continue
        return {role: column for role, column in columns.items() if role != "label"}
    return {}


def _rows(source: Source, columns: Chosen, keep: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    roles: list[str] | None = None
    wanted = flat(columns)
    names = [*wanted, *(name for name in keep if name not in wanted)]
    with source.open() as table:
        for number, values in table.read(names):
            cells = Cells(source, "test", number, columns, by_role(columns, values))
            roles = roles or [role for role in columns if role != "lead" and not _by_chance(cells, role)]
            asked = {role: _READ.get(role, _text)(cells, role) for role in roles}
            kept = {new: _kept(cells, old, values[names.index(old)]) for old, new in keep.items()}
            yield {**asked, "kept": kept} if keep else asked


def _kept(cells: Cells, column: str, value: Any) -> Any:
    """A value that is handed through; of a text, only what can be written again."""
    if isinstance(value, str):
        read_text(value, Cell(cells.source.shown, cells.number, column))
    return value


def _by_chance(cells: Cells, role: str) -> bool:
    """Whether a column beside a text has the name of a list and is none: a number of words, say."""
    return role in _READ and "text" in cells.columns and not isinstance(cells.values[role], list | dict)


def _text(cells: Cells, role: str) -> str:
    return cells.text(role) or _missing(cells, role, "a text")


def _words(cells: Cells, role: str) -> list[str]:
    value = cells.values[role]
    if not isinstance(value, list) or not value:
        raise cells.cell(role).error(
            expected="a list of words", found=f"{value!r:.80}", way_out="Correct the row, or delete it."
        )
    return [read_text(word, cells.cell(role)) or _missing(cells, role, "words") for word in value]


def _choices(cells: Cells, role: str) -> list[str]:
    """The choices as the reader of labelled rows has them, which is told that the first is right."""
    value = cells.values[role]
    several = value if isinstance(value, list) else []
    names = (
        value.get("label") if isinstance(value, dict) else [c.get("label", 0) for c in several if isinstance(c, dict)]
    )
    told = replace(
        cells,
        columns={**cells.columns, "label": cells.columns[role]},
        values={**cells.values, "label": names[0] if isinstance(names, list) and names else 0},
    )
    row = OneChoice().read(told)
    return list(row.extra) if isinstance(row, Row) else [_missing(cells, "text", "a text")]


def _missing(cells: Cells, role: str, expected: str) -> NoReturn:
    raise cells.cell(role).error(expected=expected, found="nothing", way_out="Fill it, or delete the row.")


_READ: Mapping[str, Callable[[Cells, str], Any]] = {"tokens": _words, "choices": _choices}

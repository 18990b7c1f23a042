"""Rows to be labelled by a trained model: texts without labels, in the order of the file, none left out.

A corpus may drop what has no word in it; here every row wants an answer, so a row without a text is refused.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from trivium.data.columns import read_text, text_columns
from trivium.data.files import Source, data_files
from trivium.data.place import Cell, meant, problem, shortened


def read_texts(file: str | Path, text_column: str | None = None) -> Iterator[dict[str, str]]:
    """Read the texts of a file, in bounded memory.

    Args:
        file: A data file; formats as for ``load_task``, and .txt, where paragraphs between blank lines are texts.
        text_column: Which column is the text; none recognises it, or both of a pair, by the usual names.

    Returns:
        For each row a mapping with ``text``, and with ``text_pair`` if rows are pairs.

    Raises:
        DataError: at once, if there is no such file or column; while it is read, if a row is not what it should be or
            has no text.
    """
    (source,) = data_files([Path(file).expanduser()])
    with source.open() as table:
        columns = _columns(table.columns, text_column, source.shown)
    return _rows(source, columns)


def _columns(found: tuple[str, ...], text: str | None, where: str) -> Mapping[str, str]:
    if text is None:
        return text_columns(found, where, "with --text")
    if text not in found:
        raise problem(
            where,
            expected=f"a column '{text}' for the text",
            found=f"the columns {shortened(found, 20)}",
            way_out=f"{meant(text, found)}Correct --text or the file.",
        )
    return {"text": text}


def _rows(source: Source, columns: Mapping[str, str]) -> Iterator[dict[str, str]]:
    with source.open() as table:
        for number, values in table.read(list(columns.values())):
            row = {}
            for (role, column), value in zip(columns.items(), values, strict=True):
                cell = Cell(source.shown, number, column)
                row[role] = read_text(value, cell) or ""
                if not row[role]:
                    raise cell.error(expected="a text", found="nothing", way_out="Fill it, or delete the row.")
            yield row

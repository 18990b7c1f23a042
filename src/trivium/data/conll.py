"""Tagged sentences in columns: CoNLL files (also called .bio and .iob2) and CoNLL-U.

A token on each line, its tags beside it, a blank line after each sentence. As a ``Table``, a sentence is a row and a
column holds the list of one thing for all its tokens; which is the token and which the tag is decided in ``data.tags``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from trivium.data.formats import Format, Table
from trivium.data.lines import open_lines
from trivium.data.place import Place, shortened

Sentence = list[list[str]]  # the fields of each token
_UNIVERSAL = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")


def _conll(path: Path, place: Place) -> AbstractContextManager[Table]:
    return _tagged(path, place, _fields, ())


def _conllu(path: Path, place: Place) -> AbstractContextManager[Table]:
    return _tagged(path, place, _universal, _UNIVERSAL)


@contextmanager
def _tagged(
    path: Path, place: Place, fields: Callable[[str], list[str] | None], columns: tuple[str, ...]
) -> Iterator[Table]:
    """An open file; columns without names are called by their number, from 0."""
    with open_lines(path, place) as (lines, position):
        place.row = 1
        sentences = _sentences(lines, place, fields, columns)
        first = next(sentences, None)
        if first is None:
            place.row = None
            raise place.error(expected="sentences", found="no token", way_out="Write the file again, or leave it out.")
        columns = columns or tuple(map(str, range(len(first[0]))))

        def read(wanted: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
            places = [columns.index(name) for name in wanted]
            for row, sentence in enumerate(chain([first], sentences), 1):
                yield row, [[token[i] for token in sentence] for i in places]

        yield Table(columns, read, position)


def _sentences(
    lines: Iterator[str], place: Place, fields: Callable[[str], list[str] | None], columns: tuple[str, ...]
) -> Iterator[Sentence]:
    held: Sentence = []
    width = len(columns)
    for line in lines:
        if line.isspace():
            if held:
                yield held
                place.row = (place.row or 0) + 1
            held = []
            continue
        token = fields(line.rstrip("\r\n"))
        if token is None:
            continue
        width = width or max(2, len(token))
        if len(token) != width:
            raise place.error(
                expected=f"{width} columns, a token and what is known of it"
                + (f" ({shortened(columns)})" if columns else ""),
                found=f"{len(token)}: {line.strip()[:80]!r}",
                way_out="Put a tab or spaces between columns, the same number in every line, and an empty line between "
                "sentences; delete lines that are comments.",
            )
        held.append(token)
    if held:
        yield held


def _fields(line: str) -> list[str] | None:
    """What a line says of a token; none if it only marks where a document begins."""
    fields = line.split("\t") if "\t" in line else line.split()
    return None if fields[0] == "-DOCSTART-" else [field.strip() for field in fields]


def _universal(line: str) -> list[str] | None:
    """What a line says of a word; none for a comment, for the whole of a split token, and for a word left unsaid."""
    if line.startswith("#"):
        return None
    fields = line.split("\t")
    return None if "-" in fields[0] or "." in fields[0] else fields


TAGGED: Mapping[str, Format] = {".conll": _conll, ".bio": _conll, ".iob2": _conll, ".conllu": _conllu}
TAGGED_TEXT: Mapping[str, Format] = {**TAGGED, ".txt": _conll}  # where it is known that sentences are tagged

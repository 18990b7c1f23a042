"""Answers that stand in a passage: a question, its context, and where each accepted answer begins."""

import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from trivium.core import Split
from trivium.data.columns import Chosen, Given, given_columns, read_text, recognised
from trivium.data.place import problem
from trivium.data.reading import Cells, Reader
from trivium.data.splits import Row
from trivium.data.squad import detected
from trivium.errors import ConfigError

_QUESTIONS = ("text", "question", "query")
_CONTEXTS = ("text_pair", "context", "passage", "paragraph")
_ANSWERS = ("label", "labels", "detected_answers", "answers", "answer")
_NEAR = 5  # characters that trimming and normalising may have moved an answer by

_TYPE = pa.list_(pa.struct({"text": pa.large_string(), "start": pa.int64()}))


@dataclass(frozen=True)
class Answers(Reader):
    """Kind ``span``: every accepted answer, with the character of the context it begins at; none if there is none.

    An answer that is not where it is said to be is refused. Where it stands within a few characters of there (the file
    was trimmed or normalised after it was annotated), a training row is left out and counted, and a dev or test row
    refused, for a score on fewer questions than others had would not compare with theirs.
    """

    metric: ClassVar[str] = "f1"
    together: ClassVar[str] = "context"
    enough: ClassVar[str] = "two different contexts"

    def columns(self, found: Sequence[str], given: Given | None, where: str) -> Chosen:
        """By the usual names; MRQA's ``detected_answers`` before its ``answers``, which have no places."""
        chosen = given_columns(found, given, self.roles, where, ("label",))
        if isinstance(chosen.get("label"), tuple) and len(chosen["label"]) != 2:
            raise ConfigError("task.columns.label: expected one column, or two: the answer and where it starts.")
        for role, names in (("text", _QUESTIONS), ("text_pair", _CONTEXTS)):
            if role not in chosen:
                chosen[role] = recognised(found, names, where, role)
        if "label" not in chosen:
            known = ("detected_answers",) if "detected_answers" in found else _ANSWERS
            chosen["label"] = recognised(found, known, where, "label")
        return {role: chosen[role] for role in self.roles}

    def read(self, cells: Cells) -> Row | str:
        """A question, its context, and its answers, each found where it is said to be."""
        texts = [cells.text("text"), cells.text("text_pair")]
        if None in texts:
            return cells.empty("text" if texts[0] is None else "text_pair")
        question, context = map(str, texts)
        answers = _answers(cells, context)
        if answers is None:
            return cells.empty("label")
        for text, start in answers:
            if start < 0 or context[start : start + len(text)] != text:
                near = _near(context, text, start)
                if near and cells.split == "train":
                    return f"an answer in column '{cells.cell('label').column}' stands a few characters away"
                raise _misplaced(cells, context, text, start)
        return cells.row(question, context, answers)

    def order(
        self, splits: Mapping[Split, Sequence[Row]], declared: Sequence[str], column: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Two outputs: where an answer starts and where it ends."""
        rows = splits["train"]
        if not any(row.label for row in rows):
            raise problem(
                f"{rows[0].source.shown}, column '{column}'",
                expected="questions with an answer",
                found="none that has one",
                way_out="Add rows with answers, or name another column: task.columns: {label: ...}.",
            )
        return ("start", "end"), ()

    def group(self, row: Row) -> Hashable:
        """The context: a passage known from training gives its facts away."""
        return row.key[1]

    def arrays(self, rows: Sequence[Row], labels: Sequence[str]) -> Mapping[str, pa.Array]:
        """``label``: list<struct<text: large_string, start: int64>>, characters counted as code points."""
        answers = [[{"text": text, "start": start} for text, start in row.label] for row in rows]
        return {"label": pa.array(answers, _TYPE)}


def _answers(cells: Cells, context: str) -> tuple[tuple[str, int], ...] | None:
    """What a file has for answers; none where it has nothing."""
    value = cells.values["label"]
    if isinstance(cells.columns["label"], tuple):
        text, start = value
        value = [] if text == "" else None if text is None else [{"text": text, "answer_start": start}]
    if value is None or value != value:
        return None
    try:
        spans = value if isinstance(value, dict) else next((one for one in value if isinstance(one, dict)), {})
        if "char_spans" in spans:
            value = detected(value, context)
        if isinstance(value, dict):
            starts = value["answer_start"] if "answer_start" in value else value["start"]
            pairs = list(zip(value["text"], starts, strict=True))
        else:
            pairs = [(one["text"], one["answer_start"] if "answer_start" in one else one["start"]) for one in value]
        found = tuple((read_text(text, cells.cell("label")), _whole(start)) for text, start in pairs)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise cells.cell("label").error(
            expected='answers, {"text": [...], "answer_start": [...]} or [{"text": ..., "answer_start": ...}]',
            found=f"{repr(value)[:80]} ({type(error).__name__}: {error})",
            way_out="Correct the row; a question without an answer has an empty list.",
        ) from error
    filled = tuple((text, start) for text, start in found if text is not None)
    if len(filled) < len(found):
        raise cells.cell("label").error(
            expected="answers that are texts",
            found=f"an empty one in {repr(value)[:80]}",
            way_out="Take it out; a question without an answer has an empty list.",
        )
    return filled


def _whole(start: Any) -> int:
    """A place in a text; raises a ValueError where it is none."""
    if isinstance(start, bool) or int(start) != float(start):
        raise ValueError(f"{start!r} is no place in a text")
    return int(start)


def _near(context: str, text: str, start: int) -> bool:
    """Whether an answer stands within a few characters, but for space around it and Unicode's spellings."""
    around = context[max(0, start - _NEAR) : max(0, start) + len(text) + _NEAR]
    return unicodedata.normalize("NFKC", text).strip() in unicodedata.normalize("NFKC", around)


def _misplaced(cells: Cells, context: str, text: str, start: int) -> Exception:
    places = context.count(text)
    there = f"; the context has it at {context.find(text)}" if places else "; it is nowhere in the context"
    several = f" and {places - 1} more places" if places > 1 else ""
    return cells.cell("label").error(
        expected=f"the answer {text[:60]!r} at character {start} of the context",
        found=f"{context[max(0, start) : max(0, start) + len(text)][:60]!r}{there}{several}",
        way_out="Correct answer_start: it counts characters (code points, not bytes) of the context from 0.",
    )

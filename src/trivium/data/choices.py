"""Multiple choice: a question or premise, its choices, and which is right."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from trivium.core import Split
from trivium.data.columns import Chosen, Given, given_columns, in_doubt, read_text, recognised
from trivium.data.place import shortened
from trivium.data.reading import Cells, Reader
from trivium.data.splits import Row

_TEXTS = ("text", "question", "question_stem", "sent1", "premise", "ctx", "query")
_LABELS = ("label", "labels", "answer", "answerkey", "answer_idx", "target")
_LISTS = ("choices", "options", "endings")
_DIGITS = 18  # that an index may have
_NUMBERED = re.compile(r"(ending|choice|option)_?(\d+)")


@dataclass(frozen=True)
class OneChoice(Reader):
    """Kind ``rank``: which of a row's own choices is right.

    Choices stand in a list; in ``{"text": [...], "label": [...]}`` (ARC, CommonsenseQA), where the answer is one of
    these labels; or in a column each, with ``lead`` before every one if there is such a column (``sent2`` of SWAG).
    The answer is an index from 0, the text of a choice, or its letter; what can be read in two ways is refused.
    """

    metric: ClassVar[str] = "accuracy"
    roles: ClassVar[tuple[str, ...]] = ("text", "lead", "choices", "label")
    together: ClassVar[str] = "text and choices"

    def columns(self, found: Sequence[str], given: Given | None, where: str) -> Chosen:
        """By the usual names, and SWAG's."""
        chosen = given_columns(found, given, self.roles, where, ("choices",))
        if "text" not in chosen:
            chosen["text"] = recognised(found, _TEXTS, where, "text")
        if "choices" not in chosen:
            numbered = _numbered(found)
            if len(numbered) > 1:
                chosen["choices"] = numbered
                if "sent2" in found and "lead" not in chosen:
                    chosen["lead"] = "sent2"
            else:
                chosen["choices"] = recognised(found, _LISTS, where, "choices")
        if "label" not in chosen:
            chosen["label"] = recognised(found, _LABELS, where, "label")
        if len(set(map(str, chosen.values()))) < len(chosen):
            raise in_doubt(found, [str(column) for column in chosen.values()], where, "choices")
        return {role: chosen[role] for role in self.roles if role in chosen}

    def read(self, cells: Cells) -> Row | str:
        """A question, its choices, and the index of the right one."""
        text = cells.text("text")
        if text is None:
            return cells.empty("text")
        choices, names = _choices(cells)
        answer = cells.values["label"]
        if answer is None or answer != answer or (isinstance(answer, str) and not answer.strip()):
            return cells.empty("label")
        if str(answer).strip() == "-1":  # as the hub marks rows whose answer is kept secret
            return f"column '{cells.columns['label']}' is -1"
        return cells.row(text, None, _answer(answer, choices, names, cells), choices)

    def order(
        self, splits: Mapping[Split, Sequence[Row]], declared: Sequence[str], column: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """One output, the score of a choice."""
        return ("score",), ()

    def arrays(self, rows: Sequence[Row], labels: Sequence[str]) -> Mapping[str, pa.Array]:
        """``choices``: list<large_string>; ``label``: int64, the index of the right one."""
        return {
            "choices": pa.array([row.extra for row in rows], pa.list_(pa.large_string())),
            "label": pa.array([row.label for row in rows], pa.int64()),
        }


def _numbered(found: Sequence[str]) -> tuple[str, ...]:
    """Columns such as ending0, ending1, …, in the order of their numbers."""
    known = [(int(match[2]), name) for name in found if (match := _NUMBERED.fullmatch(name.strip().lower()))]
    return tuple(name for _, name in sorted(known))


def _choices(cells: Cells) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The choices of a row, and what it calls them, if anything."""
    value, cell = cells.values["choices"], cells.cell("choices")
    names: tuple[str, ...] = ()
    if isinstance(value, dict) and _side_by_side(value.get("text"), value.get("label")):
        value, names = value["text"], tuple(str(name).strip() for name in value["label"])
    elif isinstance(value, list) and value and all(isinstance(one, dict) and "text" in one for one in value):
        names = tuple(str(one["label"]).strip() for one in value if "label" in one)
        value = [one["text"] for one in value]
    if not isinstance(value, list):
        raise cell.error(
            expected='a list of choices, or {"text": [...], "label": [...]}',
            found=f"{repr(value)[:80]} ({type(value).__name__})",
            way_out="Correct the row, or name a column for each choice: task.columns: {choices: [..., ...]}.",
        )
    texts = [read_text(one, cell) for one in value]
    if isinstance(cells.columns["choices"], tuple):
        while texts and texts[-1] is None:  # a question may have fewer choices than the file has columns
            texts.pop()
    if len(texts) < 2 or None in texts:
        raise cell.error(
            expected="at least 2 choices, each a text",
            found=f"{len(texts)}: {repr(value)[:80]}",
            way_out="Correct the row, or delete it.",
        )
    lead = f"{(cells.text('lead') or '').strip()} ".lstrip() if "lead" in cells.columns else ""
    return tuple(lead + text for text in texts if text is not None), names


def _side_by_side(texts: Any, names: Any) -> bool:
    return isinstance(texts, list) and isinstance(names, list) and len(texts) == len(names)


def _answer(answer: Any, choices: Sequence[str], names: Sequence[str], cells: Cells) -> int:
    """Which choice an answer means."""
    said = str(int(answer) if isinstance(answer, float) and answer.is_integer() else answer).strip()
    if names:
        readings = {i for i, name in enumerate(names) if name == said}
        known = f"one of the labels of its choices ({shortened(names)})"
    else:
        readings = _index(said)
        if isinstance(answer, str):
            readings = {i for i, choice in enumerate(choices) if choice.strip() == said} | _position(said)
        readings &= set(range(len(choices)))
        last = chr(ord("A") + min(len(choices), 26) - 1)
        known = f"an index from 0 to {len(choices) - 1}, the text of a choice, or a letter from A to {last}"
    if len(readings) == 1:
        return readings.pop()
    doubt = f", which could be any of the choices {shortened(str(i) for i in sorted(readings))}" if readings else ""
    raise cells.cell("label").error(
        expected=known,
        found=f"{repr(answer)[:80]} beside {len(choices)} choices{doubt}",
        way_out="Correct the row; an index counts from 0, and as a number in a .jsonl file it is in no doubt.",
    )


def _position(said: str) -> set[int]:
    """The index that digits or a letter mean."""
    if len(said) == 1 and said.isascii() and said.isalpha():
        return {ord(said.upper()) - ord("A")}
    return _index(said)


def _index(said: str) -> set[int]:
    """The index that digits mean; more of them than any index has mean none, and Python would not read them."""
    return {int(said)} if said.isdecimal() and len(said) <= _DIGITS else set()

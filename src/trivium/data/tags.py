"""Tagged sentences: a list of tokens and a tag for each, as parts of speech or as entities in BIO notation."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from trivium.core import Split
from trivium.data.columns import Chosen, Given, flow_yaml, given_columns, read_text, recognised
from trivium.data.conll import TAGGED_TEXT
from trivium.data.formats import Format
from trivium.data.place import Cell, problem, shortened
from trivium.data.reading import Cells, Reader, declared_labels, demand_variety, known_labels
from trivium.data.splits import Row

_TOKENS = ("tokens", "words", "form")
_LABELS = ("label", "labels", "tags", "ner_tags", "pos_tags", "chunk_tags", "upos_tags", "upos", "ner", "pos")
_BIO = re.compile("[BI](-.+)?")
_ENTITY = re.compile("[BIMELSU](-.+)?")  # with the marks of BIOES, BILOU and BMES


@dataclass(frozen=True)
class Tags(Reader):
    """Kind ``tag``: a tag for every token.

    Tokens and tags stand in lists, or in the columns of a CoNLL file: the first is the token, the last the tag; of
    CoNLL-U, ``form`` and ``upos``. Entities in IOB1 become IOB2, where each begins with B-; BIOES and the like stay.
    """

    metric: ClassVar[str] = "entity_f1"
    roles: ClassVar[tuple[str, ...]] = ("tokens", "label")
    formats: ClassVar[Mapping[str, Format]] = TAGGED_TEXT

    def columns(self, found: Sequence[str], given: Given | None, where: str) -> Chosen:
        """By the usual names; of columns without names, the first and the last."""
        chosen = given_columns(found, given, self.roles, where)
        if tuple(found) == tuple(map(str, range(len(found)))):
            chosen = {"tokens": found[0], "label": found[-1], **chosen}
        if "tokens" not in chosen:
            chosen["tokens"] = recognised(found, _TOKENS, where, "tokens")
        if "label" not in chosen:
            chosen["label"] = recognised(found, _LABELS, where, "label")
        return {role: chosen[role] for role in self.roles}

    def read(self, cells: Cells) -> Row | str:
        """Tokens and as many tags."""
        tokens, tags = _list(cells, "tokens"), _list(cells, "label")
        if not tokens:
            return cells.empty("tokens")
        if tags is None:
            return cells.empty("label")
        cell = cells.cell("tokens")
        texts = [read_text(token, cell) for token in tokens]
        if None in texts:
            return f"a token in column '{cells.columns['tokens']}' is empty"
        if len(tags) != len(tokens):
            raise cells.cell("label").error(
                expected=f"a tag for each of the {len(tokens)} tokens",
                found=f"{len(tags)} tags",
                way_out="Correct the row.",
            )
        names = [cells.label(tag) for tag in tags]
        if None in names:
            at = names.index(None)
            raise cells.cell("label").error(
                expected="a tag for each token",
                found=f"{tags[at]!r} for the token {tokens[at]!r} (number {at + 1})",
                way_out="Correct the row; a token of no interest has a tag too, usually O.",
            )
        words = tuple(text for text in texts if text is not None)
        row = cells.row(" ".join(words), None, tuple(name for name in names if name is not None))
        return row._replace(extra=words)

    def judged(self, labels: Sequence[str]) -> str:
        """Entities by their F1; tags that mark none, such as parts of speech, by accuracy."""
        return self.metric if _all(_ENTITY, set(labels)) else "accuracy"

    def settle(self, rows: list[Row], cell: Callable[[Row], Cell]) -> tuple[list[Row], tuple[str, ...]]:
        """Entities in IOB2 if they came in IOB1."""
        if not _all(_BIO, {tag for row in rows for tag in row.label}):
            return rows, ()
        changed = [row._replace(label=iob2(row.label)) for row in rows]
        count = sum(old.label != new.label for old, new in zip(rows, changed, strict=True))
        note = (
            f"{rows[0].source.shown}: in {count} of {len(rows)} sentences an entity began with I- (IOB1); it begins "
            "with B- now (IOB2)."
        )
        return changed, (note,) if count else ()

    def declared(self, labels: Iterable[Any]) -> tuple[str, ...]:
        """At least two."""
        return declared_labels(labels, 2)

    def order(
        self, splits: Mapping[Split, Sequence[Row]], declared: Sequence[str], column: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Those declared, or those seen in train; an entity seen there has both its tags, B- and I-."""
        labels, notes = known_labels(splits, declared, column, lambda row: row.label, _with_both)
        where = splits["train"][0].source.shown
        demand_variety(splits["train"], column, (tag for row in splits["train"] for tag in row.label), "tags")
        lacking = sorted(_with_both(set(labels)) - set(labels)) if declared else []
        if any(label[0] == "B" for label in lacking):
            raise problem(
                f"{where}, column '{column}'",
                expected="a tag B- for every tag I- among the labels listed",
                found=f"none of {shortened(lacking)}",
                way_out=f"List them in the study file: task.labels: {flow_yaml([*labels, *lacking])}.",
            )
        return labels, notes

    def arrays(self, rows: Sequence[Row], labels: Sequence[str]) -> Mapping[str, pa.Array]:
        """``tokens``: list<large_string>; ``label``: list<int64>, one for each token."""
        index = {label: i for i, label in enumerate(labels)}
        tags = [[index[tag] for tag in row.label] for row in rows]
        return {
            "tokens": pa.array([row.extra for row in rows], pa.list_(pa.large_string())),
            "label": pa.array(tags, pa.list_(pa.int64())),
        }


def iob2(tags: Sequence[str]) -> tuple[str, ...]:
    """A sentence's tags so that every entity begins with B-.

    Args:
        tags: In IOB1, where B- stands only between two entities of a type that touch, or in IOB2 already.

    Source: Tjong Kim Sang and Veenstra 1999.

    >>> iob2(["I-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    ('B-PER', 'I-PER', 'O', 'B-LOC', 'B-LOC')
    """
    before = ["O", *tags]
    return tuple(
        f"B{tag[1:]}" if tag != "O" and (last == "O" or last[1:] != tag[1:]) else tag
        for last, tag in zip(before, tags, strict=False)
    )


def _all(notation: re.Pattern[str], tags: set[str]) -> bool:
    """Whether there are tags but O, and all of them are of a notation."""
    marks = tags - {"O"}
    return bool(marks) and all(map(notation.fullmatch, marks))


def _with_both(tags: set[str]) -> set[str]:
    """These tags, with I- for every B- and B- for every I-, if they are entities in IOB2."""
    if not _all(_BIO, tags):
        return set(tags)
    return tags | {f"{prefix}{tag[1:]}" for tag in tags if tag != "O" for prefix in "BI"}


def _list(cells: Cells, role: str) -> list[Any] | None:
    value = cells.values[role]
    if value is None or value != value:
        return None
    if not isinstance(value, list):
        raise cells.cell(role).error(
            expected=f"a list of {'tokens' if role == 'tokens' else 'tags'}",
            found=f"{repr(value)[:80]} ({type(value).__name__})",
            way_out='Write lists in a .jsonl file ({"tokens": [...], "labels": [...]}), or columns in a .conll file.',
        )
    return value

"""Tags, the entities that they mark, and how both are judged.

Accepted are IOB1, IOB2, BIOES (with ``E`` and ``S``), BILOU (``L`` and ``U``) and BMES (``M``), with a type behind a
hyphen (``B-PER``) or without one (``B``). Every sequence of tags means something, as models break the rules: a mark
that nothing leads up to, such as an ``I-`` after ``O`` or after another type, begins an entity. For IOB and BIOES this
is how conlleval reads tags (Tjong Kim Sang and Buchholz 2000), and seqeval where it is not told to be strict.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from trivium.kinds.metrics import (
    Bools,
    Counts,
    Ints,
    Metric,
    accuracy,
    macro_f1,
    micro_f1,
    of_part,
    precision,
    recall,
)

_FIRST, _LAST, _ANY = set("BSU"), set("ELSU"), set("BIMELSU")


class Spans(NamedTuple):
    """Entities of many rows of tokens laid end to end, each ``[entities]``.

    Attributes:
        types: The type, as the index of the first tag of that type.
        starts: First token.
        ends: The token after the last one.
    """

    types: Ints
    starts: Ints
    ends: Ints


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """The entities of one row: type, first token, and the token after the last one.

    A tag that marks nothing (``O``, or a plain one such as ``NOUN``) is outside of every entity.

    Args:
        tags: One for each token. A letter alone is a mark without a type; see ``marks_entities`` for whether it is one.

    >>> sorted(entities(["B-PER", "I-PER", "O", "I-LOC", "I-ORG", "B-ORG"]))
    [('LOC', 3, 4), ('ORG', 4, 5), ('ORG', 5, 6), ('PER', 0, 2)]
    """
    names = list(dict.fromkeys(tags))
    places = {name: i for i, name in enumerate(names)}
    found = find(np.array([places[tag] for tag in tags], np.int64), np.zeros(len(tags), np.int64), names)
    return {(_read(names[kind])[1], int(start), int(end)) for kind, start, end in zip(*found, strict=True)}


def marks_entities(labels: Sequence[str]) -> bool:
    """Whether a tag set marks entities, or classifies each token for itself, as parts of speech do.

    It does if a tag is a mark with a type, or if all tags are marks without one, ``B`` or ``I`` among them: in other
    company ``E``, ``O`` and ``S`` may be parts of speech.

    >>> [marks_entities(tags) for tags in (["B-PER", "O"], ["B", "I", "O"], ["NOUN", "VERB"], ["N", "O", "S", "E"])]
    [True, True, False, False]
    """
    return any(_read(name)[1] for name in labels) or ({*labels} <= _ANY | {"O"} and not {*labels}.isdisjoint("BI"))


def find(tags: Ints, rows: Ints, labels: Sequence[str]) -> Spans:
    """The entities of many rows at once.

    Args:
        tags: Index of each token's tag in ``labels``, ``[tokens]``, row after row; -1 is outside of every entity.
        rows: Which row each token belongs to, ``[tokens]``.
        labels: The tag set.
    """
    read = [*map(_read, labels), ("O", "")]  # the last one is what index -1 finds
    kinds = [kind for _, kind in read]
    kind = np.array([kinds.index(name) for name in kinds])[tags]
    inside, first, last = (np.array([mark in marks for mark, _ in read])[tags] for marks in (_ANY, _FIRST, _LAST))
    goes_on = np.zeros(len(tags), np.bool_)
    goes_on[1:] = inside[1:] & ~first[1:] & inside[:-1] & ~last[:-1] & (kind[1:] == kind[:-1]) & (rows[1:] == rows[:-1])
    ending = inside.copy()
    ending[:-1] &= ~goes_on[1:]
    starts = np.flatnonzero(inside & ~goes_on)
    return Spans(kind[starts], starts, np.flatnonzero(ending) + 1)


def tagging_counts(gold: Sequence[Ints], predicted: Sequence[Ints], labels: Sequence[str]) -> Counts:
    """What a row of tagged tokens adds up to: its entities, and its tokens.

    An entity is right if its type and both its ends are. Types are at most as many as tags, so both have a column a
    tag: a type has that of the first tag with this type, the others stay 0. Where the tags mark no entities (see
    ``marks_entities``) that whole half is 0, and so is every metric of entities.

    Args:
        gold: Index of each token's tag, an array for each row.
        predicted: The same. A row may be shorter than the truth, where the encoder cut it: a missing token is said to
            be ``O``, or, in a tag set without it, nothing that could be right.
        labels: The tag set.

    Returns:
        ``[rows, 6 * labels]``: true positives, false positives and false negatives of entities by type, and of tokens
        by tag.

    >>> counts = tagging_counts([np.array([1, 2, 0, 1])], [np.array([1, 2, 0])], ["O", "B-X", "I-X"])
    >>> counts.astype(int).tolist()[0]
    [0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0]
    """
    lengths = np.array([len(row) for row in gold], np.int64)
    rows = np.repeat(np.arange(len(gold)), lengths)
    truth = np.concatenate([np.zeros(0, np.int64), *gold])
    said = _padded(predicted, lengths, labels.index("O") if "O" in labels else -1)

    def tally(these: Ints, columns: Ints) -> Counts:
        cells = np.bincount(these * len(labels) + columns, minlength=len(gold) * len(labels))
        return cells.reshape(len(gold), len(labels)).astype(np.float64)

    right, known = truth == said, said >= 0
    tokens = _judged(tally(rows[right], truth[right]), tally(rows[known], said[known]), tally(rows, truth))
    if not marks_entities(labels):
        return np.concatenate([np.zeros_like(tokens), tokens], axis=1)
    there, found = (find(tags, rows, labels) for tags in (truth, said))
    hit = _same(found, there, len(rows))
    by_type = _judged(
        tally(rows[found.starts[hit]], found.types[hit]),
        tally(rows[found.starts], found.types),
        tally(rows[there.starts], there.types),
    )
    return np.concatenate([by_type, tokens], axis=1)


def _padded(predicted: Sequence[Ints], lengths: Ints, missing: int) -> Ints:
    """Rows end to end, each made as long as it should be."""
    short = np.array([len(row) for row in predicted], np.int64)
    assert short.shape == lengths.shape, f"{len(short)} rows of tags said for {len(lengths)} rows"
    assert (short <= lengths).all(), "a row has more tags said than tokens"
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    said = np.full(lengths.sum(), missing, np.int64)
    said[within < np.repeat(short, lengths)] = np.concatenate([np.zeros(0, np.int64), *predicted])
    return said


def _judged(right: Counts, said: Counts, truth: Counts) -> Counts:
    """True positives, false positives and false negatives, side by side."""
    return np.concatenate([right, said - right, truth - right], axis=1)


def _same(found: Spans, there: Spans, tokens: int) -> Bools:
    """Which of the found entities are there: no two of one tagging begin at the same token."""
    kind, end = np.full(tokens, -1), np.full(tokens, -1)
    kind[there.starts], end[there.starts] = there.types, there.ends
    same: Bools = (kind[found.starts] == found.types) & (end[found.starts] == found.ends)
    return same


def _entities(counts: Counts) -> Counts:
    return counts[..., : counts.shape[-1] // 2]


def _tokens(counts: Counts) -> Counts:
    return counts[..., counts.shape[-1] // 2 :]


def _read(tag: str) -> tuple[str, str]:
    """The mark and the type of a tag; ``O`` and no type where it marks nothing."""
    mark, _, kind = tag.partition("-")
    return (mark, kind) if mark in _ANY else ("O", "")


TAGGING: Mapping[str, Metric] = {
    "entity_f1": of_part(_entities, micro_f1),
    "entity_precision": of_part(_entities, precision),
    "entity_recall": of_part(_entities, recall),
    "entity_macro_f1": of_part(_entities, macro_f1),
    "accuracy": of_part(_tokens, accuracy),
    "token_macro_f1": of_part(_tokens, macro_f1),
}

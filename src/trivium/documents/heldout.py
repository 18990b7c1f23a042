"""Documents that give a dev or test text away: those that equal one, and those that hold a good part of one.

Words are compared, lower-cased and without punctuation, so a script that puts no spaces between words is screened for
equal texts and little more. Paraphrases and translations are not found.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from trivium.core import JSON, Split, Task
from trivium.data import fingerprint64
from trivium.data.analyzer import Tokens, hashed
from trivium.data.words import WORD

HELD_OUT: tuple[Split, ...] = ("dev", "test")
EQUAL = "equal"

_LONG, _SHORT = 13, 8  # words of a run that does not occur twice by chance: in any text, and in one shorter than _LONG
_PIECE = 5  # words of a run that is a part of a text, if a run of _SHORT is another
_ENOUGH = 12  # words in such runs do not come together by chance
_BOILERPLATE = 10  # training texts
_BLOCK = 4096  # training texts looked at together


class Overlap(NamedTuple):
    """What a document has of a held-out text.

    Attributes:
        text: Which, by its number among the held-out texts.
        rule: ``equal``; ``13-gram`` or ``8-gram``: it has one of the text; ``half``: half of the text is left in it.
        shared: How many distinct n-grams both have, 13-grams by that rule, else 8-grams; none if they are equal.
    """

    text: int
    rule: str
    shared: int | None


@dataclass(frozen=True)
class HeldOut:
    """The dev and test texts of a task: of a pair each text, and both together. Their labels are not looked at.

    A document overlaps a held-out text if

    - it has a run of 13 words of it, in a text of 13 words or more;
    - it has a run of 8 words of it, in a text of 8 to 12;
    - it has a run of 8 words of a text of 13 or more, and half of the text's words stand in runs of 5 or more that both
      have, and 12 words at least (of 13 to 15 words, 10 or 11 are enough). So a text of which a few words were changed
      is found where no run of 13 is left. Whoever has half of the 8-grams of a text has half of its words; of a text of
      30 words with three changed, often no third of the 8-grams is left, and most of the words.

    Shorter texts ("what is the capital of france") occur by chance in documents that know nothing of them: only an
    equal document is found. Runs of 13 or 8 that ten different training texts have are boilerplate of the data set,
    such as a copyright line or the question of a form: to share one of them meets no rule.

    Source: runs of 13 words and leaving boilerplate be, Brown et al. 2020 (GPT-3), appendix C.

    Attributes:
        rows: For each different text, the split and the number of the row in its file; the first that has it.
        names: For the name of a text (``fingerprint64``), its number.
        tokens: The words of the texts.
        tables: Their n-grams, the longer first.
    """

    rows: Sequence[tuple[Split, int]]
    names: Mapping[int, int]
    tokens: Tokens
    tables: Sequence["_Table"]

    @classmethod
    def of(cls, task: Task, *, contamination: bool = True) -> Self:
        """Gather the held-out texts of a task.

        Args:
            task: The task; of a sealed one, which has no test split, only dev is held out.
            contamination: Whether to look for more than equality.
        """
        rows: dict[str, tuple[Split, int]] = {}
        for split in [split for split in HELD_OUT if split in task.tables]:
            table = task.rows(split)
            columns = [table[name].to_pylist() for name in ("text", "text_pair") if name in table.column_names]
            numbers = table["row"].to_pylist()
            for texts in (*columns, task.texts(split)):
                for text, number in zip(texts, numbers, strict=True):
                    rows.setdefault(text, (split, number))
        names: dict[int, int] = {}
        for place, text in enumerate(rows):
            names.setdefault(fingerprint64(text), place)
        tokens = words_of(list(rows) if contamination else [])
        if not contamination:
            return cls(tuple(rows.values()), names, tokens, ())
        read = list(dict.fromkeys(task.texts("train")))
        tables = [_Table.of(n, tokens, read) for n in (_LONG, _SHORT)]
        return cls(tuple(rows.values()), names, tokens, tables)

    def look(self, names: Sequence[int], tokens: Tokens) -> Iterator[Overlap | None]:
        """What each of some documents has of a held-out text; of several texts, that of which it has most.

        Args:
            names: Of the documents, by ``fingerprint64``.
            tokens: Their words, by ``words_of``.
        """
        found = [(table.n, *table.most_shared(tokens)) for table in self.tables]
        for document, name in enumerate(names):
            if name in self.names:
                yield Overlap(self.names[name], EQUAL, None)
                continue
            hits = ((n, int(texts[document]), int(shared[document])) for n, texts, shared in found)
            n, text, shared = next((hit for hit in hits if hit[1] >= 0), (0, -1, 0))
            yield Overlap(text, self._rule(n, text), shared) if text >= 0 else None

    def _rule(self, n: int, text: int) -> str:
        size = self.tokens.ends[text + 1] - self.tokens.ends[text]
        return "half" if n == _SHORT and size >= _LONG else f"{n}-gram"

    def evidence(self, document: int, text: str, overlap: Overlap) -> dict[str, JSON]:
        """An overlap as the audit file has it.

        Args:
            document: The document's id.
            text: The document.
            overlap: What ``look`` said of it.

        Returns:
            ``document``; ``split`` and ``row`` of the held-out text; ``rule`` and ``shared`` as in ``Overlap``;
            ``start`` and ``end``, characters of the document between which the longest run of words lies that both
            have; and ``text``, what stands there.
        """
        split, row = self.rows[overlap.text]
        start, end = (0, len(text)) if overlap.rule == EQUAL else self._stretch(text, overlap.text)
        return {
            "document": document,
            "split": split,
            "row": row,
            "rule": overlap.rule,
            "shared": overlap.shared,
            "start": start,
            "end": end,
            "text": text[start:end],
        }

    def _stretch(self, text: str, other: int) -> tuple[int, int]:
        from trivium.documents import overlaps

        theirs = self.tokens.hashes[self.tokens.ends[other] : self.tokens.ends[other + 1]]
        first, length = overlaps.longest(words_of([text]).hashes, theirs)
        places = list(_places(text))
        return places[first][0], places[first + length - 1][1]


@dataclass(frozen=True)
class _Table:
    """The n-grams of the held-out texts, boilerplate left out, and which texts have them.

    Attributes:
        n: Words of an n-gram.
        keys: Hash table: names of the n-grams.
        values: Hash table: their numbers, -1 where a place is free.
        starts: Where the owners of each n-gram start, and the end of the last.
        owners: Texts that have it.
        texts: The words of the texts.
        needed: How many words of each text must stand in runs that it shares with a document.
    """

    n: int
    keys: npt.NDArray[np.uint64]
    values: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int32]
    texts: Tokens
    needed: npt.NDArray[np.int64]

    @classmethod
    def of(cls, n: int, tokens: Tokens, read: Sequence[str]) -> Self:
        """Number the n-grams of texts.

        Args:
            n: Words of an n-gram.
            tokens: The held-out texts.
            read: The training texts, each once.
        """
        from trivium.documents import kernels, overlaps

        grams, ends = overlaps.ngrams(*tokens, n)
        size = 1 << (2 * len(grams) + 1).bit_length()
        keys, values = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
        numbers, used = kernels.number(grams, keys, values, 0)
        terms, _, distinct = kernels.count(numbers, ends, used)
        texts_with = np.zeros(used, np.int64)
        for start in range(0, len(read), _BLOCK):
            some = words_of(read[start : start + _BLOCK])
            overlaps.spread(*overlaps.ngrams(*some, n), keys, values, texts_with)
        telling = texts_with[terms] < _BOILERPLATE
        owners = np.repeat(np.arange(len(distinct), dtype=np.int32), distinct)[telling]
        order = np.argsort(terms[telling], kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(terms[telling], minlength=used))]).astype(np.int64)
        needed = np.array([_needed(size) if n == _SHORT else 0 for size in np.diff(tokens.ends).tolist()], np.int64)
        return cls(n, keys, values, starts, owners[order], tokens, needed)

    def most_shared(self, tokens: Tokens) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """For each document the text that it overlaps, -1 if none, and how many n-grams they share."""
        from trivium.documents import overlaps

        grams, ends = overlaps.ngrams(*tokens, self.n)
        keys, values, starts, owners = self.keys, self.values, self.starts, self.owners
        return overlaps.most_shared(
            *tokens, grams, ends, keys, values, starts, owners, *self.texts, self.needed, _PIECE
        )


def _needed(size: int) -> int:
    """How many words of a text of so many must be left where no run of 13 is; none where a run of 8 is enough.

    >>> [_needed(size) for size in (12, 13, 16, 30)]
    [0, 10, 12, 15]
    """
    if size < _LONG:
        return 0
    half_of_runs = (size - _SHORT + 2) // 2 + _SHORT - 1  # words that half of its 8-grams hold, if they lie together
    return max((size + 1) // 2, min(_ENOUGH, half_of_runs))


def words_of(texts: Sequence[str]) -> Tokens:
    """The words of texts, compatibility characters evened out: a ligature is its letters, a wide letter a letter."""
    return hashed([text if text.isascii() else unicodedata.normalize("NFKC", text) for text in texts])


def _places(text: str) -> Iterator[tuple[int, int]]:
    """Where each word that ``words_of`` finds stands in the text as it was written.

    Evening out does not reach across spaces; where it changed something, the words between two spaces share a place.
    """
    for piece in re.finditer(r"\S+", text):
        even = unicodedata.normalize("NFKC", piece.group())
        for word in WORD.finditer(even):
            first, last = word.span() if even == piece.group() else (0, len(piece.group()))
            yield piece.start() + first, piece.start() + last

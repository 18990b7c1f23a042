"""What a selector is, what it returns, and how much may be read.

A selector ranks; it neither screens nor counts. That is done alike for all of them in ``choose``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self

import numpy as np

from trivium.core import Corpus, Floats, Ints, Queries
from trivium.errors import ConfigError

Progress = Callable[[int, int], None]


def part(progress: Progress | None, begin: int, end: int, of: int) -> Progress | None:
    """A bar for one part of the way: from ``begin`` to ``end`` of ``of`` equal pieces.

    >>> seen = []
    >>> part(lambda done, total: seen.append(done / total), 1, 3, of=4)(5, 10)
    >>> seen
    [0.5]
    """
    if progress is None:
        return None
    return lambda done, total: progress(begin * total + (end - begin) * done, of * total)


@dataclass(frozen=True)
class Budget:
    """How much may be chosen: at most, never more. None is no limit.

    Attributes:
        max_documents: Documents.
        max_tokens: Words, as ``Corpus.words`` counts them. An encoder's tokenizer, which may be trained on what is
            chosen and so cannot be known before, makes more tokens of them than there are words.
        max_bytes: Bytes of the texts in UTF-8.
    """

    max_documents: int | None = None
    max_tokens: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        for key, limit in self._limits().items():
            if limit is not None and limit < 1:
                raise ConfigError(f"documents.{key}: expected at least 1, found {limit}; leave it out for no limit.")

    @classmethod
    def of(cls, selector: "Selector") -> Self:
        """The budget of a selector: those of its keys that are a limit's name."""
        return cls(**{key: getattr(selector, key, None) for key in cls.__dataclass_fields__})

    def broken(self, documents: int, words: int, size: int) -> str | None:
        """The first limit that so many documents, words and bytes would break.

        >>> Budget(max_tokens=100).broken(3, 101, 500)
        'max_tokens'
        """
        spent = (documents, words, size)
        limits = self._limits().items()
        return next((key for (key, most), n in zip(limits, spent, strict=True) if most is not None and n > most), None)

    def _limits(self) -> dict[str, int | None]:
        return {"max_documents": self.max_documents, "max_tokens": self.max_tokens, "max_bytes": self.max_bytes}


def _no_words(place: int, text: str) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Ranking:
    """Every document that a selector would choose if there were no budget, best first.

    Attributes:
        ids: The documents, each once, ``[n]``.
        scores: How good each is, ``[n]``; nan where the selector does not score.
        ranks: Its place (0 is best) in the ranking of the query that asked for it, or in this one if none did, ``[n]``.
        queries: The query that asked for each, ``[n]``; -1 where none did.
        counts: What else the report should say, such as how many hits there were.
        shared: Called with a place in ``ids`` and the document's text, says which words it shares with its query,
            weightiest first. Asked only for what is chosen.
    """

    ids: Ints
    scores: Floats
    ranks: Ints
    queries: Ints
    counts: Mapping[str, float] = field(default_factory=dict)
    shared: Callable[[int, str], tuple[str, ...]] = _no_words

    def __len__(self) -> int:
        return len(self.ids)


class Selector(Protocol):
    """Decides what to read. A frozen dataclass whose fields are its keys in the study file.

    Keys called ``max_documents``, ``max_tokens`` and ``max_bytes`` are its budget, which is kept for it.

    Attributes:
        seeded: Whether the choice depends on the seed. If not, all seeds of a study share one.
    """

    seeded: ClassVar[bool]

    def rank(
        self, corpus: Corpus, queries: Queries, rng: np.random.Generator, progress: Progress | None = None
    ) -> Ranking:
        """Put the documents of a corpus in order.

        Args:
            corpus: The documents.
            queries: The training texts of the task, which is all that a selector sees of it.
            rng: Source of everything random.
            progress: Called now and then with how much is done and how much there is, in the selector's own unit.
        """
        ...

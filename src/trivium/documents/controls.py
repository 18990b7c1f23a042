"""The two controls that an honest comparison needs: documents that nobody chose, and none."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trivium.core import Corpus, Queries
from trivium.documents.protocol import Budget, Progress, Ranking


@dataclass(frozen=True)
class RandomDocuments:
    """Documents drawn evenly from the corpus, without replacement and other ones for every seed.

    The control of every choice: what does reading bring if nobody chooses? Give it the budget of what it stands
    beside. Without a budget it is the whole corpus.

    Attributes:
        max_documents: At most so many documents.
        max_tokens: At most so many words (see ``Budget``: words, because no tokenizer exists yet).
        max_bytes: At most so many bytes of text.
    """

    seeded: ClassVar[bool] = True

    max_documents: int | None = None
    max_tokens: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        Budget.of(self)  # says what is wrong with it

    def rank(
        self, corpus: Corpus, queries: Queries, rng: np.random.Generator, progress: Progress | None = None
    ) -> Ranking:
        """Shuffle the corpus. A greater budget takes what a smaller one took, and more."""
        size = len(corpus)
        return Ranking(rng.permutation(size), np.full(size, np.nan), np.arange(size), np.full(size, -1))


@dataclass(frozen=True)
class NoDocuments:
    """Nothing to read: the task's own text is all there is."""

    seeded: ClassVar[bool] = False

    def rank(
        self, corpus: Corpus, queries: Queries, rng: np.random.Generator, progress: Progress | None = None
    ) -> Ranking:
        """Rank nothing."""
        none = np.zeros(0, np.int64)
        return Ranking(none, np.zeros(0), none, none)

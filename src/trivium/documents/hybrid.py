"""Two ways to choose, one after the other: what the rows ask for, then what is like the task."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trivium.core import Corpus, Queries
from trivium.documents.bm25 import BM25
from trivium.documents.dsir import DSIR, fitting
from trivium.documents.protocol import Budget, Progress, Ranking, part
from trivium.documents.queries import Form
from trivium.errors import ConfigError


@dataclass(frozen=True)
class Hybrid:
    """First the documents that ``bm25`` finds, in its order, then all others in that of ``dsir``.

    BM25 finds what training rows ask for and then ends; DSIR has no end, and fills what the budget has left with
    documents like the task as a whole. Keys are those of the two.

    Attributes:
        share: How much of the budget BM25 may fill, from 0 to 1. What it finds beyond that stands where DSIR has it.
        per_query: As for ``bm25``: how many documents each training text may ask for.
        query: As for ``bm25``: what is asked of each text.
        query_words: As for ``bm25``: how many words ``head`` and ``best`` ask.
        max_df: As for ``bm25``: words of more than this share of the documents are not asked.
        k1: As for ``bm25``: how soon a repeated word stops counting more, from 0 (at once).
        b: As for ``bm25``: how much long documents are held back, from 0 (not) to 1.
        buckets: As for ``dsir``: how many n-grams are told apart.
        smoothing: As for ``dsir``: pseudo-counts, so many for each bucket on average.
        temperature: As for ``dsir``: how much chance there is, in standard deviations of the documents' weights.
        noise: As for ``dsir``: whether there is chance at all.
        min_words: As for ``dsir``, which does not rank documents of fewer words; BM25 does.
        max_documents: At most so many documents.
        max_tokens: At most so many words (see ``Budget``: words, because no tokenizer exists yet).
        max_bytes: At most so many bytes of text.
    """

    seeded: ClassVar[bool] = True

    share: float = 1.0
    per_query: int = 50
    query: Form = "full"
    query_words: int = 64
    max_df: float = 1.0
    k1: float = 1.2
    b: float = 0.75
    buckets: int = 10_000
    smoothing: float = 1.0
    temperature: float = 0.25
    noise: bool = True
    min_words: int = 10
    max_documents: int | None = None
    max_tokens: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"documents.share: expected a share from 0 to 1, found {self.share}.")
        self._parts()  # they say what is wrong with their keys

    def rank(
        self, corpus: Corpus, queries: Queries, rng: np.random.Generator, progress: Progress | None = None
    ) -> Ranking:
        """Let both rank the corpus, and put one ranking behind the other.

        Returns:
            A document that BM25 brought has BM25's score, rank and query; one that DSIR brought has DSIR's weight, its
            place here, and no query. ``counts`` are those of both, and ``by_bm25``, how many come first; of
            ``overlap_with_top``, see ``DSIR.rank``: it is about all that DSIR ranks.

        Raises:
            DataError: either of them finds nothing.
        """
        bm25, dsir = self._parts()
        first = bm25.rank(corpus, queries, rng, part(progress, 0, 1, of=2))
        then = dsir.rank(corpus, queries, rng, part(progress, 1, 2, of=2))
        many = fitting(corpus, first.ids, Budget.of(self), self.share)
        rest = np.flatnonzero(~np.isin(then.ids, first.ids[:many]))

        def shared(place: int, text: str) -> tuple[str, ...]:
            return first.shared(place, text) if place < many else then.shared(int(rest[place - many]), text)

        return Ranking(
            np.concatenate([first.ids[:many], then.ids[rest]]),
            np.concatenate([first.scores[:many], then.scores[rest]]),
            np.concatenate([first.ranks[:many], np.arange(many, many + len(rest))]),
            np.concatenate([first.queries[:many], then.queries[rest]]),
            {**first.counts, "by_bm25": many, **then.counts},
            shared,
        )

    def _parts(self) -> tuple[BM25, DSIR]:
        limits = {key: getattr(self, key) for key in Budget.__dataclass_fields__}
        asked = {key: getattr(self, key) for key in ("per_query", "query", "query_words", "max_df", "k1", "b")}
        return BM25(**asked), DSIR(
            buckets=self.buckets,
            smoothing=self.smoothing,
            temperature=self.temperature,
            noise=self.noise,
            min_words=self.min_words,
            **limits,
        )

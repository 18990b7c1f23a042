"""The selectors: BM25, and the two controls that an honest comparison needs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trivium.core import Corpus, Queries
from trivium.documents.index import Index
from trivium.documents.protocol import Budget, Progress, Ranking, Selector
from trivium.errors import ConfigError, DataError

_INDEXED = 12_000  # so many queries take about as long as indexing the corpus, whatever its size


@dataclass(frozen=True)
class BM25:
    """The documents that are most like the training texts, by BM25 (TLM, Yao et al. 2022).

    Every training text is a query, in full. The best documents of all queries are taken together, each once, and come
    in the order of their best rank: first what is somebody's best hit, then what is somebody's second, and so on; of
    equal rank the higher score first, then the lower id. So a small budget is spent on all training rows alike.

    Attributes:
        per_query: How many documents each training text may ask for. The paper takes 5000 below 5,000 training rows,
            50 above 100,000, and 500 between; the budget decides how many of them are read.
        k1: How soon a repeated word stops counting more, from 0 (at once).
        b: How much long documents are held back, from 0 (not) to 1.
        max_documents: At most so many documents.
        max_tokens: At most so many words (see ``Budget``: words, because no tokenizer exists yet).
        max_bytes: At most so many bytes of text.
    """

    seeded: ClassVar[bool] = False

    per_query: int = 50
    k1: float = 1.2
    b: float = 0.75
    max_documents: int | None = None
    max_tokens: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.per_query < 1:
            raise ConfigError(f"documents.per_query: expected at least 1, found {self.per_query}.")
        if not (0 <= self.k1 < float("inf") and 0 <= self.b <= 1):
            raise ConfigError(f"documents: expected k1 from 0 and b from 0 to 1, found k1={self.k1}, b={self.b}.")
        Budget.of(self)  # says what is wrong with it

    def rank(
        self, corpus: Corpus, queries: Queries, rng: np.random.Generator, progress: Progress | None = None
    ) -> Ranking:
        """Index the corpus, ask it every training text, and put the hits in order.

        Raises:
            DataError: no document shares a word with any training text.
        """
        from trivium.documents import kernels

        size, cost = len(corpus), 1 + len(corpus) // _INDEXED
        total = size + cost * len(queries.texts)
        index = Index.build(_texts(corpus, progress, total), self.k1, self.b)
        rank, score = np.full(size, self.per_query, np.int32), np.zeros(size)
        query = np.full(size, -1, np.int32)
        asked = hits = 0
        for found in index.search(queries.texts, self.per_query):
            kernels.merge(*found, asked, rank, score, query)
            asked, hits = asked + len(found.ids), hits + int((found.ids >= 0).sum())
            if progress:
                progress(size + cost * asked, total)
        ids = np.flatnonzero(query >= 0)
        if not len(ids):
            raise DataError(
                f"corpus '{corpus.name}': expected documents that share a word with the training texts of task "
                f"'{queries.task}', found none among {size:,}. Are both in the same language and script?"
            )
        ids = ids[np.lexsort((ids, -score[ids], rank[ids]))]

        def shared(place: int, text: str) -> tuple[str, ...]:
            document = int(ids[place])
            return index.shared(queries.texts[query[document]], document, text)

        counts = {"queries": asked, "hits": hits}
        return Ranking(ids, score[ids], rank[ids].astype(np.int64), query[ids].astype(np.int64), counts, shared)


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


SELECTORS: Mapping[str, type[Selector]] = {"bm25": BM25, "random": RandomDocuments, "none": NoDocuments}


def _texts(corpus: Corpus, progress: Progress | None, total: int) -> Iterator[str]:
    """All documents in order, a chunk of the file in memory at a time."""
    done = 0
    for chunk in corpus.table["text"].iterchunks():
        yield from chunk.to_pylist()
        done += len(chunk)
        if progress:
            progress(done, total)

"""BM25: documents that share telling words with the training texts."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import trivium
from trivium.core import Corpus, Queries, digest
from trivium.documents.index import Hits, Index
from trivium.documents.protocol import Budget, Progress, Ranking, part
from trivium.documents.queries import Form
from trivium.documents.union import Union
from trivium.errors import ConfigError, DataError
from trivium.store import cache_folder

_VERSION = 1  # of the scores; a new one begins interrupted searches anew
_SECONDS = 30.0  # between two times that an unfinished search is written down
_SEARCH = ("per_query", "query", "query_words", "max_df", "k1", "b")  # what the hits depend on
_JUDGED = 100  # queries that are searched exactly too, where the search is pruned


@dataclass(frozen=True)
class BM25:
    """The documents that are most like the training texts, by BM25 (TLM, Yao et al. 2022).

    Every training text is a query. The best documents of all queries are taken together, each once, and come
    in the order of their best rank: first what is somebody's best hit, then what is somebody's second, and so on; of
    equal rank the higher score first, then the lower id. So a small budget is spent on all training rows alike.

    Attributes:
        per_query: How many documents each training text may ask for. The paper takes 5000 below 5,000 training rows,
            50 above 100,000, and 500 between; the budget decides how many of them are read.
        query: What is asked of each text: all of it (``full``), its first words (``head``), its key phrases (``rake``,
            the twenty best by RAKE, English only), or its weightiest words by tf·idf (``best``).
        query_words: How many words ``head`` and ``best`` ask.
        max_df: Words that occur in more than this share of the documents are not asked. Below 1 the search is no longer
            exact; ``counts["recall"]`` tells which share of what it should find is found, for a hundred of the texts.
        k1: How soon a repeated word stops counting more, from 0 (at once).
        b: How much long documents are held back, from 0 (not) to 1.
        max_documents: At most so many documents.
        max_tokens: At most so many words (see ``Budget``: words, because no tokenizer exists yet).
        max_bytes: At most so many bytes of text.
    """

    seeded: ClassVar[bool] = False

    per_query: int = 50
    query: Form = "full"
    query_words: int = 64
    max_df: float = 1.0
    k1: float = 1.2
    b: float = 0.75
    max_documents: int | None = None
    max_tokens: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        for key in ("per_query", "query_words"):
            if getattr(self, key) < 1:
                raise ConfigError(f"documents.{key}: expected at least 1, found {getattr(self, key)}.")
        if not 0 < self.max_df <= 1:
            raise ConfigError(f"documents.max_df: expected a share above 0 and up to 1, found {self.max_df}.")
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
        index = Index.of(corpus, self.k1, self.b, part(progress, 0, 1, of=4))
        settings = {key: getattr(self, key) for key in _SEARCH}
        key = digest([trivium.__version__, _VERSION, corpus.fingerprint, digest(queries.texts), settings])
        partial, saved = cache_folder() / "searches" / f"{key}.npz", time.monotonic()
        union = Union.load(partial, len(corpus))
        rest = queries.texts[union.counts["queries"] :]
        for found in self._search(index.pruned(self.max_df), rest, part(progress, 1, 4, of=4)):
            union.take(*found)
            if time.monotonic() - saved > _SECONDS:
                union.save(partial)
                saved = time.monotonic()
        for done in (partial, *partial.parent.glob(f"{key}.*.tmp")):  # what a crash left, too
            done.unlink(missing_ok=True)
        if not union.counts["hits"]:
            raise DataError(
                f"corpus '{corpus.name}': expected documents that share a word with the training texts of task "
                f"'{queries.task}', found none among {len(corpus):,}. Are both in the same language and script?"
            )
        counts = {} if self.max_df == 1 else {"recall": self._recall(index, queries.texts)}
        return union.ranking(counts, lambda query, text: index.shared(queries.texts[query], text))

    def _search(self, index: Index, texts: Sequence[str], progress: Progress | None = None) -> Iterator[Hits]:
        return index.search(texts, self.per_query, form=self.query, length=self.query_words, progress=progress)

    def _recall(self, index: Index, texts: Sequence[str]) -> float:
        """Share of what an exact search for some of the texts finds that the pruned one finds too."""
        some = [texts[i] for i in np.unique(np.linspace(0, len(texts) - 1, _JUDGED).astype(int))]
        exact, pruned = (
            np.unique(np.concatenate([found.ids.ravel() for found in self._search(searched, some)]))
            for searched in (index, index.pruned(self.max_df))
        )
        exact = exact[exact >= 0]
        return round(float(np.isin(exact, pruned).mean()), 4) if len(exact) else 1.0

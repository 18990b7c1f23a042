"""Importance resampling: documents whose words and word pairs are as frequent in them as in the task."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from heapq import nsmallest
from itertools import chain
from typing import ClassVar

import numpy as np
import pyarrow.compute as pc

from trivium.core import Corpus, Floats, Ints, Queries
from trivium.data.analyzer import hashed
from trivium.data.words import words
from trivium.documents.features import corpus_counts, counted, documents, each, share
from trivium.documents.protocol import Budget, Progress, Ranking, part
from trivium.errors import ConfigError, DataError

_UNLIMITED = 1000  # documents that the share of chance is looked at, where there is no budget
_TERMS = 8  # words named as the reason for a document


@dataclass(frozen=True)
class DSIR:
    """Documents made of the task's words and word pairs, drawn with chance (DSIR, Xie et al. 2023).

    Words, runs of signs and pairs of neighbours are hashed into buckets. A bucket weighs log p_task − log p_corpus, a
    document the mean of its n-grams; documents are drawn without replacement, the heavier the likelier (Gumbel top-k).
    One pass over the corpus counts, another weighs; its features are never held.

    Three things differ from the paper, because there a document's weight is a *sum*: it then says mainly how long the
    document is, and spans so much that chance changes nothing. Here the mean is taken; chance is measured against
    the spread of the means; and p_task is smoothed towards p_corpus, not towards evenness. A task of a few thousand
    n-grams says nothing about most of ten thousand buckets: what it does not show then weighs the same everywhere,
    where evenness would favour documents of rare words.

    Attributes:
        buckets: How many n-grams are told apart. The paper takes 10,000.
        smoothing: Pseudo-counts, so many for each bucket on average, added to the task's counts in the shares that the
            corpus has, and evenly to the corpus' own.
        length_norm: Whether a document weighs the mean of its n-grams; if not, their sum, as in the paper.
        temperature: How much chance there is. With ``length_norm`` in standard deviations of the documents' weights: at
            0.25 about two thirds of a top hundredth stay, at 1 an eighth. Without it in nats; the paper's is 1.
        noise: Whether there is chance at all; without, every seed takes the heaviest.
        min_words: Documents of fewer words are not ranked: so few say nothing sure. The paper asks for 100 tokens.
        max_documents: At most so many documents.
        max_tokens: At most so many words (see ``Budget``: words, because no tokenizer exists yet).
        max_bytes: At most so many bytes of text.
    """

    seeded: ClassVar[bool] = True

    buckets: int = 10_000
    smoothing: float = 1.0
    length_norm: bool = True
    temperature: float = 0.25
    noise: bool = True
    min_words: int = 10
    max_documents: int | None = None
    max_tokens: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.buckets <= 1 << 30:
            raise ConfigError(f"documents.buckets: expected at least 1 and at most 2**30, found {self.buckets}.")
        for key in ("smoothing", "temperature"):
            if not 0 < getattr(self, key) < float("inf"):
                raise ConfigError(f"documents.{key}: expected a number above 0, found {getattr(self, key)}.")
        if self.min_words < 1:
            raise ConfigError(f"documents.min_words: expected at least 1, found {self.min_words}.")
        Budget.of(self)  # says what is wrong with it

    def rank(
        self, corpus: Corpus, queries: Queries, rng: np.random.Generator, progress: Progress | None = None
    ) -> Ranking:
        """Weigh all documents and draw them one after another.

        Returns:
            Scores are weights without chance: nats for each n-gram, or for the document without ``length_norm``. Of
            ``counts``, ``too_short`` are the documents left out, and ``overlap_with_top`` says how many in a hundred of
            those that the budget takes (of the first 1,000 if there is none) would be taken without chance, too: near
            100, all seeds read the same.

        Raises:
            DataError: no training text has a word, or no document has ``min_words``.
        """
        weights = self._weights(corpus, queries, part(progress, 0, 1, of=2))
        scores = self._scores(corpus, weights, part(progress, 1, 2, of=2))
        ids = np.flatnonzero(corpus.words >= self.min_words)
        if not len(ids):
            raise DataError(
                f"corpus '{corpus.name}': expected documents of at least {self.min_words} words (documents.min_words), "
                f"found none among {len(corpus):,}. Lower it."
            )
        plain = ids[np.argsort(-scores[ids], kind="stable")]
        order = ids[np.argsort(-self._drawn(scores[ids], rng.gumbel(size=len(corpus))[ids]), kind="stable")]
        order = order if self.noise else plain
        some = max(1, min(fitting(corpus, order, Budget.of(self), unlimited=_UNLIMITED), len(order)))
        same = len(np.intersect1d(order[:some], plain[:some], assume_unique=True))
        counts = {"too_short": len(corpus) - len(ids), "overlap_with_top": 100 * same // some}
        none = np.full(len(order), -1)
        return Ranking(order, scores[order], np.arange(len(order)), none, counts, _speaking(queries, weights))

    def _weights(self, corpus: Corpus, queries: Queries, progress: Progress | None) -> Floats:
        """What an n-gram of each bucket weighs: log p_task − log p_corpus."""
        wanted = counted(queries.texts, self.buckets)
        if not wanted.any():
            raise DataError(
                f"task '{queries.task}': expected training texts with words, found {len(queries.texts):,} without."
            )
        usual = share(corpus_counts(corpus, self.buckets, progress=progress), self.smoothing)
        return np.asarray(np.log(share(wanted, self.smoothing, prior=usual)) - np.log(usual))

    def _scores(self, corpus: Corpus, weights: Floats, progress: Progress | None) -> Floats:
        """What every document weighs; 0 where it has no n-gram."""
        from trivium.documents import grams

        scores, done = np.zeros(len(corpus)), 0
        for sums, sizes in each(documents(corpus), lambda tokens: grams.weigh(*tokens, weights)):
            scores[done : done + len(sums)] = sums / np.maximum(sizes, 1) if self.length_norm else sums
            done += len(sums)
            if progress:
                progress(done, len(corpus))
        return scores

    def _drawn(self, scores: Floats, gumbel: Floats) -> Floats:
        """Keys whose order is that of a draw without replacement by exp(score / temperature)."""
        spread = float(scores.std()) or 1.0 if self.length_norm else 1.0
        return np.asarray((scores - scores.mean()) / (self.temperature * spread) + gumbel)


def fitting(corpus: Corpus, ids: Ints, budget: Budget, portion: float = 1.0, unlimited: int | None = None) -> int:
    """How many documents fit a portion of a budget, taken in this order and not screened.

    Args:
        corpus: The corpus.
        ids: The documents.
        budget: What may be taken.
        portion: How much of it, up to 1.
        unlimited: What to say where there is no limit; all, if not given.
    """
    fits = [len(ids)]
    if budget.max_documents is not None:
        fits.append(int(portion * budget.max_documents))
    if budget.max_tokens is not None:
        spent = np.cumsum(corpus.words[ids], dtype=np.int64)
        fits.append(int(np.searchsorted(spent, portion * budget.max_tokens, side="right")))
    if budget.max_bytes is not None:
        sizes = np.concatenate([pc.binary_length(chunk).to_numpy() for chunk in corpus.table["text"].iterchunks()])
        fits.append(int(np.searchsorted(np.cumsum(sizes[ids]), portion * budget.max_bytes, side="right")))
    return min(fits) if len(fits) > 1 or unlimited is None else min(unlimited, len(ids))


def _speaking(queries: Queries, weights: Floats) -> Callable[[int, str], tuple[str, ...]]:
    """Names the words of a document that the task has and that speak most for the document, best first."""
    from trivium.documents import grams

    said = chain.from_iterable(map(words, queries.texts))
    heavy = dict(zip(said, grams.single(hashed(queries.texts).hashes, weights).tolist(), strict=True))

    def shared(place: int, text: str) -> tuple[str, ...]:
        found = (word for word in set(words(text)) if heavy.get(word, 0.0) > 0)
        return tuple(map(sys.intern, nsmallest(_TERMS, found, key=lambda word: (-heavy[word], word))))

    return shared

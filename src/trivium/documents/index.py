"""An inverted index in memory, scored by BM25.

Exact: every document that holds a word of the query is scored, with the formula of Lucene 8 and later (no factor
k1 + 1) and unrounded document lengths. Pruning, stop words and stemming are left out.
"""

import sys
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from trivium.data.words import words
from trivium.engine import cores

_BLOCK = 8192  # documents counted at a time
_BATCH = 16  # queries that a thread takes at a time
_TERMS = 8  # shared words named as the reason for a hit


class Hits(NamedTuple):
    """The best documents of a run of queries, best first.

    Attributes:
        ids: Documents, int32 ``[queries, k]``; -1 after the last hit.
        scores: Their scores, float64 ``[queries, k]``; 0 after the last hit.
    """

    ids: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Index:
    """Postings of every word, each with what it adds to the score of its document.

    Attributes:
        vocabulary: Number of each word, in the order the corpus first uses them.
        starts: Where the postings of each word start, and the end of the last, int64 ``[words + 1]``.
        documents: Postings: document, ascending within a word, int32.
        weights: Postings: idf·tf/(tf + k1·(1 − b + b·|d|/avgdl)), float32.
        size: How many documents there are, empty ones included.
    """

    vocabulary: Mapping[str, int]
    starts: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    size: int

    @classmethod
    def build(cls, texts: Iterable[str], k1: float = 1.2, b: float = 0.75) -> Self:
        """Index texts; text i becomes document i.

        Holds 16 bytes for each distinct word of each document while building, 8 after it, and never the texts.

        Args:
            texts: The documents, read once.
            k1: How soon a repeated word stops counting more, from 0 (at once).
            b: How much long documents are held back, from 0 (not) to 1.

        Source: Robertson and Zaragoza 2009, in the form of Lucene 8.

        >>> index = Index.build(["a cat", "the dog", "a cat and a dog"])
        >>> next(index.search(["cat!"], k=2)).ids.tolist()
        [[0, 2]]
        """
        from trivium.documents import kernels

        vocabulary, lengths, blocks = _counted(iter(texts))
        frequency = np.zeros(len(vocabulary), np.int64)
        for terms, _, _ in blocks:
            frequency += np.bincount(terms, minlength=len(vocabulary))
        idf = np.log1p((len(lengths) - frequency + 0.5) / (frequency + 0.5))
        saturation = k1 * (1 - b + b * lengths / max(lengths.mean() if len(lengths) else 0.0, 1e-9))
        starts = np.concatenate([[0], np.cumsum(frequency)]).astype(np.int64)
        documents, weights = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
        ends, first = starts[:-1].copy(), 0
        while blocks:
            terms, counts, distinct = blocks.popleft()  # let go of as soon as it is written
            last = first + len(distinct)
            kernels.weigh(terms, counts, distinct, saturation[first:last], idf, first, ends, documents, weights)
            first = last
        return cls(vocabulary, starts, documents, weights, len(lengths))

    def search(self, queries: Sequence[str], k: int, threads: int | None = None) -> Iterator[Hits]:
        """The best documents of each query: score descending, then id ascending.

        Args:
            queries: Texts. A word that a query repeats counts as often as it is repeated.
            k: How many documents to find for each, at least 1; fewer where fewer share a word with it.
            threads: How many to use; none uses every core this process may use. The result is the same.

        Yields:
            The hits of the next few queries, in the order of ``queries``. No more than a few runs are held at a time.
        """
        assert k > 0, "the heap of a query holds at least one hit"
        threads = threads or cores()
        ahead: deque[Future[Hits]] = deque()
        pool = ThreadPoolExecutor(threads)
        try:
            for start in range(0, len(queries), _BATCH):
                ahead.append(pool.submit(self._search, queries[start : start + _BATCH], min(k, self.size)))
                if len(ahead) > 2 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def shared(self, query: str, document: int, text: str) -> tuple[str, ...]:
        """The words that a query and a document of the index share, weightiest first, at most eight.

        Args:
            query: The query.
            document: Id of the document.
            text: Its text.
        """
        known, weight = set(words(text)), {}
        for word, repeat in Counter(words(query)).items():
            if word in known:
                weight[word] = repeat * self._weight(word, document)
        weightiest = sorted(weight, key=lambda word: (-weight[word], word))[:_TERMS]
        return tuple(map(sys.intern, weightiest))  # millions of documents share some thousand words

    def _weight(self, word: str, document: int) -> float:
        number = self.vocabulary[word]
        first, last = self.starts[number], self.starts[number + 1]
        wanted = np.int32(document)  # of the postings' type, or all of them would be converted for every look
        return float(self.weights[first + self.documents[first:last].searchsorted(wanted)])

    def _search(self, queries: Sequence[str], k: int) -> Hits:
        from trivium.documents import kernels

        counted = [Counter(w for w in words(query) if w in self.vocabulary) for query in queries]
        begins = np.cumsum([0, *map(len, counted)])
        terms = np.fromiter((self.vocabulary[word] for word in chain(*counted)), np.int32, begins[-1])
        repeats = np.fromiter(chain(*(count.values() for count in counted)), np.int32, begins[-1])
        hits = Hits(np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.float64))
        kernels.search(self.starts, self.documents, self.weights, self.size, begins, terms, repeats, *hits)
        return hits


Counts = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]


def _counted(texts: Iterator[str]) -> tuple[dict[str, int], npt.NDArray[np.int64], deque[Counts]]:
    """Vocabulary, length of every document, and word counts of each block of documents."""
    from trivium.documents import kernels

    vocabulary: defaultdict[str, int] = defaultdict()
    vocabulary.default_factory = vocabulary.__len__  # a new word gets the next number
    lengths: list[npt.NDArray[np.int32]] = [np.zeros(0, np.int32)]
    blocks: deque[Counts] = deque()
    while block := list(islice(texts, _BLOCK)):
        numbers, sizes = array("i"), array("i")
        for text in block:
            found = words(text)
            numbers.extend(map(vocabulary.__getitem__, found))
            sizes.append(len(found))
        lengths.append(np.array(sizes, np.int32))
        blocks.append(kernels.count(np.array(numbers, np.int32), lengths[-1], len(vocabulary)))
    return dict(vocabulary), np.concatenate(lengths).astype(np.int64), blocks

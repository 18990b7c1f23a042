"""BM25 over the shards of a corpus.

Exact: every document that holds a word of the query is scored, with the formula of Lucene 8 and later (no factor
k1 + 1) and unrounded document lengths. How often a word occurs, and how long a document is on average, is counted over
the whole corpus, so that scores do not depend on how it is cut.

A long text is mostly made of words that occur everywhere. For those, going from posting to posting costs more than
adding up a whole row of documents, so ``kernels.search`` does the latter for words that are frequent in the corpus.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trivium import engine
from trivium.core import Corpus
from trivium.data.analyzer import Tokens, hashed
from trivium.data.words import words
from trivium.documents.queries import Form, rephrased
from trivium.documents.shards import Progress, Shard, shards_of
from trivium.engine import cores

_BATCH = 256  # queries that a thread takes at a time
_SECONDS = 10.0  # that a group of queries should take, because between groups a search can be interrupted
_MOST = 8192  # queries of a group
_HITS = 1 << 24  # hits held at a time, 128 MB
_CHARACTERS = 1 << 24  # of the queries of a group: their words take some 70 bytes each
_ROOM = 256  # least room for hits that wait to be told from the best
_FREQUENT = 0.05  # share of documents from which a word is laid out as a row (docs/design-notes.md)
_TERMS = 8  # shared words named as the reason for a hit

Names = npt.NDArray[np.uint64]


class Hits(NamedTuple):
    """The best documents of a run of queries, best first.

    Attributes:
        ids: Documents, int32 ``[queries, k]``; -1 after the last hit.
        scores: Their scores, float32 ``[queries, k]``; 0 after the last hit.
    """

    ids: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Asked:
    """Queries in numbers, as they are sent to every shard.

    Attributes:
        vocabulary: Names of all their words, ascending.
        idf: Of each.
        frequent: Whether each is frequent.
        begins: Where the words of each query start, and the end of the last, ``[queries + 1]``.
        words: Words of the queries, places in the vocabulary, ascending within rare and within frequent ones.
        repeats: How often each query has the word.
        average: Words of a document of the corpus, on average.
        k1: BM25's.
        b: BM25's.
    """

    vocabulary: Names
    idf: npt.NDArray[np.float64]
    frequent: npt.NDArray[np.bool_]
    begins: npt.NDArray[np.int64]
    words: npt.NDArray[np.int32]
    repeats: npt.NDArray[np.int64]
    average: float
    k1: float
    b: float

    def __len__(self) -> int:
        """How many queries there are."""
        return len(self.begins) - 1


class Found:
    """Hits on their way: the best so far of every query, and some that may be."""

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self.hits = np.zeros((queries, max(2 * k, k + _ROOM)), np.uint64)
        self.held = np.zeros(queries, np.int64)

    def absorb(self, hits: npt.NDArray[np.uint64], held: npt.NDArray[np.int64]) -> None:
        """Take the hits of another one."""
        from trivium.documents import kernels

        kernels.absorb(hits, held, self.k, self.hits, self.held)

    def best(self, threads: int) -> Hits:
        """The best, in order."""
        from trivium.documents import kernels

        shape = len(self.held), self.k
        found = Hits(np.empty(shape, np.int32), np.empty(shape, np.float32))

        def sort(rows: slice) -> None:
            kernels.best(self.hits[rows], self.held[rows], found.ids[rows], found.scores[rows])

        _share_out(sort, len(self.held), threads)
        return found


def search_shard(shard: Shard, base: int, asked: Asked, found: Found, threads: int) -> None:
    """Ask one shard everything, and take what it has into ``found``.

    Args:
        shard: The shard.
        base: Id of its first document.
        asked: The queries.
        found: Changed.
        threads: How many to use.
    """
    from trivium.documents import kernels

    firsts, lasts = shard.find(asked.vocabulary)
    lengths = shard.lengths.astype(np.float64)
    saturation = asked.k1 * (1 - asked.b + asked.b * lengths / max(asked.average, 1e-9))
    weights = kernels.weigh(firsts, lasts, shard.documents, shard.amounts, saturation)
    shift = np.cumsum(lasts - firsts) - lasts  # a weight lies at its posting's place plus this

    def batch(queries: slice) -> None:
        start, stop = queries.start, queries.stop
        mine = asked.words[asked.begins[start] : asked.begins[stop]]
        if not len(mine):
            return
        vocabulary, inverse = np.unique(mine, return_inverse=True)
        places = inverse.astype(np.int32)
        frequent = asked.frequent[vocabulary]
        rows = np.where(frequent, np.cumsum(frequent) - 1, -1).astype(np.int32)
        begins = asked.begins[start : stop + 1] - asked.begins[start]
        rare = np.concatenate([[0], np.cumsum(~frequent[places])])  # rare words stand before frequent ones
        kernels.search(
            firsts[vocabulary],
            lasts[vocabulary],
            shift[vocabulary],
            rows,
            shard.documents,
            weights,
            len(shard),
            base,
            begins,
            places,
            (asked.idf[mine] * asked.repeats[asked.begins[start] : asked.begins[stop]]).astype(np.float32),
            begins[:-1] + np.diff(rare[begins]),
            found.k,
            found.hits[queries],
            found.held[queries],
        )

    _share_out(batch, len(asked), threads)


def _share_out(work: Callable[[slice], None], queries: int, threads: int) -> None:
    """Give every thread some of the queries, and then some more."""
    size = max(1, min(_BATCH, -(-queries // threads)))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, (slice(start, min(start + size, queries)) for start in range(0, queries, size))))


def search_alone(
    asked: Asked, shard: Path | Shard, base: int, k: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Ask one shard on one core of a cluster, and send its hits: the best of each query, and how many they are."""
    from trivium.documents import kernels

    here = Shard.open(shard) if isinstance(shard, Path) else shard
    found = Found(len(asked), min(k, len(here)))
    search_shard(here, base, asked, found, threads=1)
    kernels.trim(found.hits, found.held, found.k)
    return found.hits[:, : found.k].copy(), found.held


@dataclass(frozen=True)
class Index:
    """A searchable corpus.

    Attributes:
        shards: Its shards, in the order of its documents.
        k1: How soon a repeated word stops counting more, from 0 (at once).
        b: How much long documents are held back, from 0 (not) to 1.
        most: Words that occur in more than this share of the documents are not asked; 1 asks all.
    """

    shards: Sequence[Shard]
    k1: float = 1.2
    b: float = 0.75
    most: float = 1.0

    @classmethod
    def build(cls, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> Self:
        """Index texts in memory; text i becomes document i.

        Source: Robertson and Zaragoza 2009, in the form of Lucene 8.

        >>> index = Index.build(["a cat", "the dog", "a cat and a dog"])
        >>> next(index.search(["cat!"], k=2)).ids.tolist()
        [[0, 2]]
        """
        return cls([Shard.make(iter([pa.array(texts, pa.large_string())]))], k1, b)

    @classmethod
    def of(cls, corpus: Corpus, k1: float = 1.2, b: float = 0.75, progress: Progress | None = None) -> Self:
        """The index of a corpus; shards that are not in the cache yet are made."""
        return cls([Shard.open(folder) for folder in shards_of(corpus, progress)], k1, b)

    def pruned(self, most: float) -> Self:
        """The same, but words that occur in more than this share of the documents are not asked."""
        return replace(self, most=most)

    @cached_property
    def _counted(self) -> tuple[list[int], float]:
        """Where each shard begins, with the end of the last, and the average length."""
        begins = np.cumsum([0, *map(len, self.shards)]).tolist()
        return begins, sum(int(shard.lengths.sum(dtype=np.int64)) for shard in self.shards) / max(begins[-1], 1)

    @property
    def size(self) -> int:
        """How many documents there are, empty ones included."""
        return self._counted[0][-1]

    def search(
        self,
        queries: Sequence[str],
        k: int,
        *,
        form: Form = "full",
        length: int = 64,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[Hits]:
        """The best documents of each query: score descending, then id ascending.

        Args:
            queries: Texts. A word that a query repeats counts as often as it is repeated.
            k: How many documents to find for each, at least 1; fewer where fewer share a word with it.
            form: What of each text is asked.
            length: How many words ``head`` and ``best`` ask.
            threads: How many to use; none uses every core this process may use. The result is the same.
            progress: Told how many documents were asked how many queries, and how many times that there are.

        Yields:
            The hits of the next few queries, in the order of ``queries``: as many as take some ten seconds, as far as
            their hits and words can be held (some hundred MB).
        """
        assert k > 0, "a query asks for at least one document"
        k = min(k, self.size)
        if k == 0:
            yield Hits(np.zeros((len(queries), 0), np.int32), np.zeros((len(queries), 0), np.float32))
            return
        most, start = max(1, min(_MOST, _HITS // max(2 * k, k + _ROOM))), 0
        together = min(most, _BATCH * (threads or cores()))
        while start < len(queries):
            begun, some = time.monotonic(), _up_to(queries[start : start + together], _CHARACTERS)
            asked = self.ask(some, form, length)
            found = Found(len(asked), k)
            for done in self._search(asked, found, threads or cores()):
                if progress:
                    progress(self.size * start + done * len(asked), self.size * len(queries))
            yield found.best(threads or cores())
            start += len(some)
            together = min(most, max(together, int(_SECONDS / (time.monotonic() - begun) * len(some))))

    def _search(self, asked: Asked, found: Found, threads: int) -> Iterator[int]:
        """Ask all shards, here or on a cluster; yields how many documents were asked."""
        begins = self._counted[0]
        cluster = engine.ray()
        if cluster is None:
            for shard, base, done in zip(self.shards, begins, begins[1:], strict=False):
                search_shard(shard, base, asked, found, threads)
                yield done
        else:
            places = (shard.folder or shard for shard in self.shards)
            elsewhere = cluster.map(search_alone, asked, zip(places, begins, repeat(found.k), strict=False))
            for (hits, held), done in zip(elsewhere, begins[1:], strict=True):
                found.absorb(hits, held)
                yield done

    def ask(self, queries: Sequence[str], form: Form = "full", length: int = 64) -> Asked:
        """Queries in numbers: their words, and what each weighs in this corpus."""
        tokens = hashed(rephrased(queries, form))
        if form == "head":
            tokens = _heads(tokens, length)
        query = np.repeat(np.arange(len(queries)), np.diff(tokens.ends))
        vocabulary, places = np.unique(tokens.hashes, return_inverse=True)
        holders = self._holders(vocabulary)
        idf = np.log1p((self.size - holders + 0.5) / (holders + 0.5))
        frequent = holders > _FREQUENT * self.size
        known = ((holders > 0) & (holders <= self.most * self.size))[places]
        # one number for a query and a word in it, so that sorting brings rare words before frequent ones
        pair = (query * 2 + frequent[places]) * len(vocabulary) + places
        pair, repeats = np.unique(pair[known], return_counts=True)
        query, places = pair // (2 * max(len(vocabulary), 1)), (pair % max(len(vocabulary), 1)).astype(np.int32)
        if form == "best":
            kept = _weightiest(query, repeats * idf[places], length)
            query, places, repeats = query[kept], places[kept], repeats[kept]
        begins = np.searchsorted(query, np.arange(len(queries) + 1))
        return Asked(vocabulary, idf, frequent, begins, places, repeats, self._counted[1], self.k1, self.b)

    def _holders(self, names: Names) -> npt.NDArray[np.int64]:
        """How many documents hold each word."""
        holders = np.zeros(len(names), np.int64)
        for shard in self.shards:
            firsts, lasts = shard.find(names)
            holders += lasts - firsts
        return holders

    def shared(self, query: str, text: str) -> tuple[str, ...]:
        """The words that a query and a document of the corpus share, weightiest first, at most eight.

        Args:
            query: The query.
            text: The document.
        """
        asked, found = Counter(words(query)), Counter(words(text))
        saturation = self.k1 * (1 - self.b + self.b * found.total() / max(self._counted[1], 1e-9))
        both = [word for word in asked if word in found]
        weights = zip(both, self._idf(both), strict=True)
        adds = {word: asked[word] * idf * found[word] / (found[word] + saturation) for word, idf in weights}
        weightiest = sorted(both, key=lambda word: (-adds[word], word))[:_TERMS]
        return tuple(map(sys.intern, weightiest))  # millions of documents share some thousand words

    def _idf(self, wanted: Sequence[str]) -> list[float]:
        if new := [word for word in wanted if word not in self._known]:
            holders = self._holders(hashed(new).hashes)
            self._known.update(zip(new, np.log1p((self.size - holders + 0.5) / (holders + 0.5)).tolist(), strict=True))
        return [self._known[word] for word in wanted]

    @cached_property
    def _known(self) -> dict[str, float]:
        """Idf of the words that were looked up."""
        return {}


def _up_to(texts: Sequence[str], characters: int) -> Sequence[str]:
    """The first texts, as many as have so many characters together, but one at least."""
    spent = np.cumsum([len(text) for text in texts])
    return texts[: max(1, int(np.searchsorted(spent, characters, side="right")))]


def _heads(tokens: Tokens, length: int) -> Tokens:
    """The first so many words of each text."""
    sizes = np.minimum(np.diff(tokens.ends), length)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    kept = np.arange(ends[-1]) + np.repeat(tokens.ends[:-1] - ends[:-1], sizes)
    return Tokens(tokens.hashes[kept], ends)


def _weightiest(query: npt.NDArray[np.int64], weight: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.bool_]:
    """Of each query the words that weigh most; of equal weight the first."""
    order = np.lexsort((-weight, query))
    begins = np.searchsorted(query, query)  # queries come in order
    kept = np.zeros(len(query), np.bool_)
    kept[order] = np.arange(len(query)) - begins < most
    return kept

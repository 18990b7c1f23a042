"""Texts as counts of hashed words and pairs of words: what DSIR and the KL reduction look at.

Tokens are words and runs of signs, lower-cased, as in DSIR (Xie et al. 2023, section 4). The features of a corpus are
never held: its documents pass by, a few thousand at a time, on all cores.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pyarrow as pa

from trivium.core import Corpus, Floats, Ints
from trivium.data.analyzer import Tokens, hashed
from trivium.documents.protocol import Progress
from trivium.engine import cores

T = TypeVar("T")

_BLOCK = 4096  # documents looked at together


def counted(texts: Sequence[str], buckets: int) -> Ints:
    """How many n-grams of the texts fall into each bucket, int64 ``[buckets]``.

    >>> int(counted(["a cat sat.", "a cat"], buckets=100).sum())  # a, cat, sat, ., a cat, cat sat, sat .; a, cat, a cat
    10
    """
    from trivium.documents import grams

    return grams.count(*hashed(texts, signs=True), buckets)


def corpus_counts(corpus: Corpus, buckets: int, ids: Ints | None = None, progress: Progress | None = None) -> Ints:
    """The same of documents of a corpus.

    Args:
        corpus: The corpus.
        buckets: How many there are.
        ids: Which documents, ascending; all if not given.
        progress: Called after each block with how many documents are done and how many there are.
    """
    from trivium.documents import grams

    counts, done = np.zeros(buckets, np.int64), 0
    for some, size in each(
        documents(corpus, ids), lambda tokens: (grams.count(*tokens, buckets), len(tokens.ends) - 1)
    ):
        counts += some
        done += size
        if progress:
            progress(done, len(corpus) if ids is None else len(ids))
    return counts


def share(counts: Ints, smoothing: float, prior: Floats | None = None) -> Floats:
    """The share that each bucket has of all n-grams, never 0.

    Args:
        counts: N-grams in each bucket.
        smoothing: Pseudo-counts, so many for each bucket on average, above 0.
        prior: How they are shared out, adding up to 1; evenly if not given.

    >>> share(np.array([3, 0]), smoothing=0.5).tolist()
    [0.875, 0.125]
    >>> share(np.array([0, 0]), smoothing=0.5, prior=np.array([0.25, 0.75])).tolist()
    [0.25, 0.75]
    """
    total = smoothing * len(counts)
    pseudo = smoothing if prior is None else total * prior
    return np.asarray((counts + pseudo) / (counts.sum() + total), np.float64)


def documents(corpus: Corpus, ids: Ints | None = None) -> Iterator[pa.LargeStringArray]:
    """The documents of a corpus block by block, in order, as they lie in its file.

    Args:
        corpus: The corpus.
        ids: Which documents, ascending; all if not given.
    """
    first = 0
    for chunk in corpus.table["text"].iterchunks():
        if ids is not None:
            low, high = np.searchsorted(ids, [first, first + len(chunk)])
            first += len(chunk)
            chunk = chunk.take(pa.array(ids[low:high] - (first - len(chunk))))
        for start in range(0, len(chunk), _BLOCK):
            yield chunk.slice(start, _BLOCK)


def each(blocks: Iterable[pa.LargeStringArray], work: Callable[[Tokens], T]) -> Iterator[T]:
    """What ``work`` makes of the tokens of each block, in order; some blocks ahead, one on each core."""
    threads = cores()
    ahead: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for block in blocks:
            ahead.append(pool.submit(lambda texts: work(hashed(texts, signs=True)), block))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

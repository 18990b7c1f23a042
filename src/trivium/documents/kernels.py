"""The loops of retrieval, compiled by numba: count, weigh, search, merge.

Import it inside functions: numba takes a moment to load. The machine code is not kept on disk, because a package may
be installed where nobody can write; compiling takes two to three seconds once in a process. All kernels let go of the
interpreter lock, so that threads share the work.

A weight is a float32 and a score their sum in float64, always taken in the order of the query's words: equal documents
tie exactly, whatever the threads and however the corpus is cut.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
F = TypeVar("F", bound=Callable[..., object])

_SPAN = 16384  # documents scored together: their running sums, 128 KiB, stay in the cache of a core


def _compiled(function: F) -> F:
    return cast("F", njit(nogil=True)(function))


@_compiled
def count(words: Int32s, lengths: Int32s, vocabulary: int) -> tuple[Int32s, Int32s, Int32s]:
    """Count the words of each document.

    Args:
        words: Words of a block of documents, end to end.
        lengths: How many words each document has, ``[documents]``.
        vocabulary: One more than the greatest word.

    Returns:
        Distinct words of each document, in the order they come, and how often each occurs, both end to end; and how
        many distinct words each document has.
    """
    place = np.full(vocabulary, -1, np.int64)  # where a word was last counted
    terms, counts = np.empty_like(words), np.empty_like(words)
    distinct = np.empty_like(lengths)
    read = written = 0
    for document in range(len(lengths)):
        first = written
        for word in words[read : read + lengths[document]]:
            if place[word] < first:  # not in this document yet
                place[word] = written
                terms[written] = word
                counts[written] = 1
                written += 1
            else:
                counts[place[word]] += 1
        read += lengths[document]
        distinct[document] = written - first
    return terms[:written].copy(), counts[:written].copy(), distinct


@_compiled
def weigh(
    terms: Int32s,
    counts: Int32s,
    distinct: Int32s,
    saturation: Float64s,
    idf: Float64s,
    first: int,
    ends: Int64s,
    documents: Int32s,
    weights: Float32s,
) -> None:
    """Write a block's postings into the index, in place.

    Args:
        terms: Distinct words, as ``count`` returned them.
        counts: How often each occurs.
        distinct: Distinct words of each document.
        saturation: BM25's k1·(1 − b + b·|d|/avgdl) of each document of the block.
        idf: Of every word of the vocabulary.
        first: Id of the block's first document.
        ends: Where the next posting of each word goes; moved on.
        documents: Postings by word: document, filled.
        weights: Postings by word: idf·tf/(tf + saturation), filled.
    """
    read = 0
    for document in range(len(distinct)):
        for _ in range(distinct[document]):
            term, tf = terms[read], counts[read]
            place = ends[term]
            documents[place] = first + document
            weights[place] = idf[term] * tf / (tf + saturation[document])
            ends[term] = place + 1
            read += 1


@_compiled
def _sink(ids: Int32s, scores: Float64s, size: int) -> None:
    """Put the root of a heap in its place; the worst hit, lowest score and then highest id, belongs on top."""
    place = 0
    while True:
        worst = place
        for child in (2 * place + 1, 2 * place + 2):
            if child < size and (
                scores[child] < scores[worst] or (scores[child] == scores[worst] and ids[child] > ids[worst])
            ):
                worst = child
        if worst == place:
            return
        ids[place], ids[worst] = ids[worst], ids[place]
        scores[place], scores[worst] = scores[worst], scores[place]
        place = worst


@_compiled
def _rise(ids: Int32s, scores: Float64s, place: int) -> None:
    """Put the last hit of a heap in its place. Ids come in ascending order, so among equals the later is the worse."""
    while place > 0:
        parent = (place - 1) // 2
        if scores[parent] < scores[place]:
            return
        ids[place], ids[parent] = ids[parent], ids[place]
        scores[place], scores[parent] = scores[parent], scores[place]
        place = parent


@_compiled
def search(
    starts: Int64s,
    documents: Int32s,
    weights: Float32s,
    size: int,
    begins: Int64s,
    terms: Int32s,
    repeats: Int32s,
    ids: Int32s,
    scores: Float64s,
) -> None:
    """Find the best documents of each query, span of documents by span.

    Args:
        starts: Where the postings of each word start, and the end of the last, ``[vocabulary + 1]``.
        documents: Postings: document, ascending within a word.
        weights: Postings: what the word adds to the document's score.
        size: Documents of the corpus.
        begins: Where each query starts in ``terms``, and the end of the last, ``[queries + 1]``.
        terms: Distinct known words of the queries.
        repeats: How often each occurs in its query.
        ids: Filled: best documents first, -1 after the last hit, ``[queries, k]``.
        scores: Filled: their scores, ``[queries, k]``.
    """
    sums = np.zeros(_SPAN)
    for query in range(len(begins) - 1):
        mine = terms[begins[query] : begins[query + 1]]
        times = repeats[begins[query] : begins[query + 1]]
        at = starts[mine]
        heap_ids, heap_scores, held, floor = ids[query], scores[query], 0, 0.0
        for low in range(0, size, _SPAN):
            high = min(low + _SPAN, size)
            for n in range(len(mine)):
                place, repeat = at[n], times[n]
                ahead = documents[place : starts[mine[n] + 1]]
                here = np.searchsorted(ahead, np.int32(high))
                found, adds = ahead[:here], weights[place : place + here]
                for i in range(here):  # of known length, so that it runs twice as fast as one that looks for its end
                    sums[found[i] - low] += repeat * np.float64(adds[i])
                at[n] = place + here
            for offset in range(high - low):
                score = sums[offset]
                sums[offset] = 0.0
                if score <= floor:
                    continue
                if held < len(heap_ids):
                    heap_ids[held], heap_scores[held] = low + offset, score
                    _rise(heap_ids, heap_scores, held)
                    held += 1
                else:
                    heap_ids[0], heap_scores[0] = low + offset, score
                    _sink(heap_ids, heap_scores, held)
                if held == len(heap_ids):
                    floor = heap_scores[0]
        heap_ids[held:] = -1
        heap_scores[held:] = 0.0
        for last in range(held - 1, 0, -1):  # the worst goes to the end, then the worst of the rest
            heap_ids[0], heap_ids[last] = heap_ids[last], heap_ids[0]
            heap_scores[0], heap_scores[last] = heap_scores[last], heap_scores[0]
            _sink(heap_ids, heap_scores, last)


@_compiled
def merge(
    ids: Int32s,
    scores: Float64s,
    first: int,
    best_rank: Int32s,
    best_score: Float64s,
    best_query: Int32s,
) -> None:
    """Take a block of hits into the union, in place: of each document its lowest rank, then highest score.

    Args:
        ids: As ``search`` filled them, ``[queries, k]``.
        scores: The same, ``[queries, k]``.
        first: Number of the block's first query; blocks come in order, so that among equals the first query stays.
        best_rank: Of every document of the corpus.
        best_score: The same.
        best_query: The same.
    """
    for row in range(ids.shape[0]):
        for rank in range(ids.shape[1]):
            document, score = ids[row, rank], scores[row, rank]
            if document < 0:
                break
            better = rank < best_rank[document]
            if better or (rank == best_rank[document] and score > best_score[document]):
                best_rank[document], best_score[document], best_query[document] = rank, score, first + row

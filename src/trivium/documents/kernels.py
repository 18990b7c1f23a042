"""The loops of retrieval, compiled by numba: number, count, place, weigh, search, merge.

Import it inside functions: numba takes a moment to load. All kernels let go of the interpreter lock, so that threads
share the work.

A hit is one 64-bit number: above, the bits of its score, a positive float32, whose order is that of the scores; below,
the document's id, turned round. So one comparison says which of two hits is better, ties included: the lower id wins.

What a word adds to a score is a float32, and so is the sum, always taken in the same order: first the rare words in the
order of the query's vocabulary, then the frequent ones. Equal documents tie exactly, whatever the threads and however
the corpus is cut.
"""

import numpy as np
import numpy.typing as npt

from trivium.engine import compiled

UInt16s = npt.NDArray[np.uint16]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

_SPAN = 8192  # documents scored together for every query of a batch: a query's sums stay in the innermost cache
_PART = 512  # documents of a span whose frequent words are laid out at once: the layout stays in the cache of a core
_MOST_COUNT = 65535  # of a word in a document; more adds less than one part in 50,000 to its score
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


@compiled
def number(names: UInt64s, keys: UInt64s, values: Int32s, used: int) -> tuple[Int32s, int]:
    """Give each name a number, new ones the next, by open addressing.

    Args:
        names: Well mixed 64-bit names.
        keys: The table: names, in a power of two of places of which no more than half will be taken.
        values: The table: their numbers, -1 where a place is free.
        used: How many places are taken.

    Returns:
        The numbers, and how many places are taken now.
    """
    numbers = np.empty(len(names), np.int32)
    mask = np.uint64(len(keys) - 1)
    for i in range(len(names)):
        name = names[i]
        place = name & mask
        while values[place] >= 0 and keys[place] != name:
            place = (place + np.uint64(1)) & mask
        if values[place] < 0:
            keys[place], values[place] = name, used
            used += 1
        numbers[i] = values[place]
    return numbers, used


@compiled
def count(numbers: Int32s, ends: Int64s, vocabulary: int) -> tuple[Int32s, UInt16s, Int32s]:
    """Count the words of each document.

    Args:
        numbers: Words of a block of documents, end to end.
        ends: Document i has the words from ``ends[i]`` up to ``ends[i + 1]``.
        vocabulary: One more than the greatest number.

    Returns:
        Distinct words of each document, in the order they come, and how often each occurs, both end to end; and how
        many distinct words each document has.
    """
    place = np.full(vocabulary, -1, np.int64)  # where a word was last counted
    terms, counts = np.empty_like(numbers), np.empty(len(numbers), np.uint16)
    distinct = np.empty(len(ends) - 1, np.int32)
    written = 0
    for document in range(len(ends) - 1):
        first = written
        for word in numbers[ends[document] : ends[document + 1]]:
            if place[word] < first:  # not in this document yet
                place[word] = written
                terms[written] = word
                counts[written] = 1
                written += 1
            elif counts[place[word]] < _MOST_COUNT:
                counts[place[word]] += np.uint16(1)
        distinct[document] = written - first
    return terms[:written].copy(), counts[:written].copy(), distinct


@compiled
def place(
    terms: Int32s, counts: UInt16s, distinct: Int32s, first: int, ends: Int64s, documents: Int32s, amounts: UInt16s
) -> None:
    """Write a block's postings where they belong, in place.

    Args:
        terms: Distinct words, as ``count`` returned them.
        counts: How often each occurs.
        distinct: Distinct words of each document.
        first: The block's first document.
        ends: Where the next posting of each word goes; moved on.
        documents: Postings by word: document, filled.
        amounts: Postings by word: how often it occurs there, filled.
    """
    read = 0
    for document in range(len(distinct)):
        for _ in range(distinct[document]):
            to = ends[terms[read]]
            documents[to] = first + document
            amounts[to] = counts[read]
            ends[terms[read]] = to + 1
            read += 1


@compiled
def weigh(firsts: Int64s, lasts: Int64s, documents: Int32s, amounts: UInt16s, saturation: Float64s) -> Float32s:
    """BM25's tf/(tf + k1·(1 − b + b·|d|/avgdl)) of the postings of some words, end to end.

    Args:
        firsts: Where the postings of each word start.
        lasts: Where they end.
        documents: Postings: document.
        amounts: Postings: tf.
        saturation: What is added to tf, of every document.
    """
    weights = np.empty((lasts - firsts).sum(), np.float32)
    written = 0
    for word in range(len(firsts)):
        for i in range(firsts[word], lasts[word]):
            tf = np.float64(amounts[i])
            weights[written] = tf / (tf + saturation[documents[i]])
            written += 1
    return weights


@compiled
def _better_half(hits: UInt64s, keep: int) -> None:
    """Bring the ``keep`` greatest of some different numbers to the front, in no order (Hoare's quickselect)."""
    low, high = 0, len(hits) - 1
    while low < high:
        pivot = hits[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while hits[i] > pivot:
                i += 1
            while hits[j] < pivot:
                j -= 1
            if i <= j:
                hits[i], hits[j] = hits[j], hits[i]
                i += 1
                j -= 1
        if keep - 1 <= j:
            high = j
        elif keep - 1 >= i:
            low = i
        else:
            return


@compiled
def _add_rare(
    sums: Float32s, words: Int32s, factors: Float32s, here: Int64s, ends: Int64s, shift: Int64s,
    documents: Int32s, weights: Float32s, low: int,
) -> None:  # fmt: skip
    """Add a query's rare words to the sums of a span, word by word, posting by posting."""
    for n in range(len(words)):
        word, factor = words[n], factors[n]
        first, last = here[word], ends[word]
        found, adds = documents[first:last], weights[first + shift[word] : last + shift[word]]
        for i in range(len(found)):
            sums[found[i] - low] += factor * adds[i]


@compiled
def _add_frequent(sums: Float32s, layout: npt.NDArray[np.float32], rows: Int32s, factors: Float32s) -> None:
    """Add a query's frequent words to the sums of a part of a span, four words at a time, every document."""
    n, size = 0, len(sums)
    while n + 4 <= len(rows):
        a, b, c, d = layout[rows[n]], layout[rows[n + 1]], layout[rows[n + 2]], layout[rows[n + 3]]
        fa, fb, fc, fd = factors[n], factors[n + 1], factors[n + 2], factors[n + 3]
        for i in range(size):
            sums[i] += (fa * a[i] + fb * b[i]) + (fc * c[i] + fd * d[i])
        n += 4
    while n < len(rows):
        a, fa = layout[rows[n]], factors[n]
        for i in range(size):
            sums[i] += fa * a[i]
        n += 1


@compiled
def _gather(
    sums: Float32s, first: int, keep: int, hits: UInt64s, held: int, floor: np.float32
) -> tuple[int, np.float32]:
    """Take the documents of a part that score above the floor, raise the floor when there is no more room."""
    for i in range(len(sums)):
        score = sums[i]
        sums[i] = 0.0
        if score > floor:
            hits[held] = (np.uint64(np.float32(score).view(np.uint32)) << _HALF) | (_LOW - np.uint64(first + i))
            held += 1
            if held == len(hits):
                _better_half(hits, keep)
                held = keep
                floor = np.uint32(hits[:keep].min() >> _HALF).view(np.float32)
    return held, floor


@compiled
def search(
    firsts: Int64s,
    lasts: Int64s,
    shift: Int64s,
    rows: Int32s,
    documents: Int32s,
    weights: Float32s,
    size: int,
    base: int,
    begins: Int64s,
    words: Int32s,
    factors: Float32s,
    frequent: Int64s,
    keep: int,
    hits: UInt64s,
    held: Int64s,
) -> None:
    """Find the best documents of a shard for each query of a batch, beside those found in other shards before.

    Args:
        firsts: Where the postings of each word of the batch's vocabulary start; moved on.
        lasts: Where they end.
        shift: What to add to the place of a word's posting to find its weight.
        rows: Of each word: its row in the layout of frequent words, or -1.
        documents: Postings: document, ascending within a word.
        weights: Weights of postings, as ``weigh`` returned them.
        size: Documents of the shard.
        base: Id of the shard's first document.
        begins: Where each query's words start, and the end of the last, ``[queries + 1]``.
        words: Words of the queries, numbers in the vocabulary; the rare before the frequent.
        factors: What their weights are multiplied by: idf, times how often the query has the word.
        frequent: Where the frequent words of each query start.
        keep: How many hits each query keeps, at least 1.
        hits: The hits so far, ``[queries, room]``, room more than ``keep``; filled.
        held: How many each query has; changed.
    """
    queries, laid = len(begins) - 1, rows[words]
    sums = np.zeros((queries, _SPAN), np.float32)
    layout = np.zeros((rows.max() + 1, _PART), np.float32)
    ends, floors = firsts.copy(), np.zeros(queries, np.float32)
    for query in range(queries):
        if held[query] >= keep:
            _better_half(hits[query, : held[query]], keep)
            held[query] = keep
            floors[query] = np.uint32(hits[query, :keep].min() >> _HALF).view(np.float32)
    for low in range(0, size, _SPAN):
        high = min(low + _SPAN, size)
        for word in range(len(firsts)):
            if rows[word] < 0:
                place = ends[word]
                firsts[word] = place
                stop = lasts[word]
                step = 1
                while place + step < stop and documents[place + step] < high:  # gallop, then halve
                    place += step
                    step *= 2
                ends[word] = place + np.searchsorted(documents[place : min(place + step, stop)], np.int32(high))
        for query in range(queries):
            mine = slice(begins[query], frequent[query])
            _add_rare(sums[query], words[mine], factors[mine], firsts, ends, shift, documents, weights, low)
        for part in range(low, high, _PART):
            over = min(part + _PART, high)
            layout[:] = 0.0
            for word in range(len(firsts)):
                if rows[word] >= 0:
                    place, row = firsts[word], layout[rows[word]]
                    while place < lasts[word] and documents[place] < over:
                        row[documents[place] - part] = weights[place + shift[word]]
                        place += 1
                    firsts[word] = place
            for query in range(queries):
                mine = slice(frequent[query], begins[query + 1])
                scores = sums[query, part - low : over - low]
                _add_frequent(scores, layout, laid[mine], factors[mine])
                held[query], floors[query] = _gather(scores, base + part, keep, hits[query], held[query], floors[query])


@compiled
def trim(hits: UInt64s, held: Int64s, keep: int) -> None:
    """Bring the best ``keep`` hits of each query to the front, and forget the others; as ``search`` left them."""
    for query in range(len(held)):
        if held[query] > keep:
            _better_half(hits[query, : held[query]], keep)
            held[query] = keep


@compiled
def absorb(more: UInt64s, amounts: Int64s, keep: int, hits: UInt64s, held: Int64s) -> None:
    """Take hits that were found elsewhere.

    Args:
        more: Hits, ``[queries, any]``.
        amounts: How many of them each query has.
        keep: How many hits each query keeps, at least 1.
        hits: The hits so far, ``[queries, room]``, room more than ``keep``; filled.
        held: How many each query has; changed.
    """
    for query in range(len(held)):
        for i in range(amounts[query]):
            if held[query] == hits.shape[1]:
                _better_half(hits[query], keep)
                held[query] = keep
            hits[query, held[query]] = more[query, i]
            held[query] += 1


@compiled
def best(hits: UInt64s, held: Int64s, ids: Int32s, scores: Float32s) -> None:
    """Take hits apart: the best first.

    Args:
        hits: As ``search`` left them, ``[queries, room]``.
        held: How many each query has.
        ids: Filled: documents, -1 after the last hit, ``[queries, k]``.
        scores: Filled: their scores, 0 after the last hit, ``[queries, k]``.
    """
    for query in range(len(held)):
        keep = min(held[query], ids.shape[1])
        _better_half(hits[query, : held[query]], keep)
        order = np.sort(hits[query, :keep])[::-1]
        for i in range(keep):
            ids[query, i] = np.int64(_LOW - (order[i] & _LOW))
            scores[query, i] = np.uint32(order[i] >> _HALF).view(np.float32)
        ids[query, keep:] = -1
        scores[query, keep:] = 0.0


@compiled
def merge(
    ids: Int32s, scores: Float32s, first: int, best_rank: Int32s, best_score: Float32s, best_query: Int32s
) -> None:
    """Take a block of hits into the union, in place: of each document its lowest rank, then highest score.

    Args:
        ids: Documents found for each query, best first, -1 after the last, ``[queries, k]``.
        scores: Their scores.
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

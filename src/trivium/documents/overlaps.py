"""The loops of the screens, compiled by numba: n-grams, who shares them, and sketches that are alike.

Import it inside functions: numba takes a moment to load.
"""

import numpy as np
import numpy.typing as npt

from trivium.data.scanning import mixed
from trivium.engine import compiled

UInt16s = npt.NDArray[np.uint16]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

_GRAM = np.uint64(0x8CB92BA72F3D8DD7)
_BAND = np.uint64(0xA0761D6478BD642F)


@compiled
def ngrams(words: UInt64s, ends: Int64s, n: int) -> tuple[UInt64s, Int64s]:
    """Name every run of n words of every text.

    Args:
        words: Names of the words of some texts, end to end.
        ends: Text i has the words from ``ends[i]`` up to ``ends[i + 1]``.
        n: How many words a run has; a text of fewer has none.

    Returns:
        Names end to end, in the order of the text and as often as they occur, and where those of each text end.
    """
    grams, edges, written = np.empty(len(words), np.uint64), np.zeros(len(ends), np.int64), 0
    for text in range(len(ends) - 1):
        for first in range(ends[text], ends[text + 1] - n + 1):
            name = _GRAM
            for at in range(first, first + n):
                name = mixed(name, words[at])
            grams[written] = name
            written += 1
        edges[text + 1] = written
    return grams[:written].copy(), edges


@compiled
def find(name: np.uint64, keys: UInt64s, values: Int32s) -> int:
    """The number of a name in a table that ``kernels.number`` filled; -1 if it is not there."""
    mask = np.uint64(len(keys) - 1)
    place = name & mask
    while values[place] >= 0:
        if keys[place] == name:
            return int(values[place])
        place = (place + np.uint64(1)) & mask
    return -1


@compiled
def spread(grams: UInt64s, ends: Int64s, keys: UInt64s, values: Int32s, texts_with: Int64s) -> None:
    """Count in how many texts each n-gram of a table occurs; adds to ``texts_with``, ``[n-grams of the table]``."""
    last = np.full(len(texts_with), -1, np.int64)
    for text in range(len(ends) - 1):
        for at in range(ends[text], ends[text + 1]):
            number = find(grams[at], keys, values)
            if number >= 0 and last[number] != text:
                last[number] = text
                texts_with[number] += 1


@compiled
def covered(words: UInt64s, others: UInt64s, shortest: int) -> int:
    """How many words of the second text stand in a run of ``shortest`` or more words that the first has too."""
    before, now = np.zeros(len(others) + 1, np.int32), np.zeros(len(others) + 1, np.int32)
    runs = np.zeros(len(others), np.int32)  # the longest that ends with each word
    for i in range(len(words)):
        for j in range(len(others)):
            now[j + 1] = before[j] + 1 if words[i] == others[j] else 0
            runs[j] = max(runs[j], now[j + 1])
        before, now = now, before
    count, begins = 0, len(others)  # where the runs begin that end with this word or a later one
    for j in range(len(others) - 1, -1, -1):
        if runs[j] >= shortest:
            begins = min(begins, j + 1 - runs[j])
        count += begins <= j
    return count


@compiled
def most_shared(
    words: UInt64s, word_ends: Int64s, grams: UInt64s, ends: Int64s,
    keys: UInt64s, values: Int32s, starts: Int64s, owners: Int32s,
    texts: UInt64s, text_ends: Int64s, needed: Int64s, shortest: int,
) -> tuple[Int32s, Int32s]:  # fmt: skip
    """Of the texts that a document overlaps, the one with which it shares most n-grams.

    It overlaps a text with which it shares an n-gram and enough words.

    Args:
        words: Words of some documents, end to end.
        word_ends: Document i has those from ``word_ends[i]`` up to ``word_ends[i + 1]``.
        grams: N-grams of the documents, end to end.
        ends: Document i has those from ``ends[i]`` up to ``ends[i + 1]``.
        keys: Table of the texts' n-grams: names.
        values: The table: their numbers.
        starts: Where the owners of each n-gram start, and the end of the last.
        owners: Texts that have it.
        texts: Words of the texts, end to end.
        text_ends: Text i has those from ``text_ends[i]`` up to ``text_ends[i + 1]``.
        needed: How many words of each text must stand in common runs.
        shortest: Words of such a run.

    Returns:
        For each document the text, the first where several tie, or -1; and how many distinct n-grams they share.
    """
    best, shared = np.full(len(ends) - 1, -1, np.int32), np.zeros(len(ends) - 1, np.int32)
    last = np.full(len(starts) - 1, -1, np.int64)  # the last document in which an n-gram was met
    counts, met = np.zeros(len(needed), np.int32), np.empty(len(needed), np.int32)
    for document in range(len(ends) - 1):
        many = 0
        for at in range(ends[document], ends[document + 1]):
            number = find(grams[at], keys, values)
            if number < 0 or last[number] == document:
                continue
            last[number] = document
            for i in range(starts[number], starts[number + 1]):
                text = owners[i]
                if counts[text] == 0:
                    met[many] = text
                    many += 1
                counts[text] += 1
        own = words[word_ends[document] : word_ends[document + 1]]
        for text in met[:many]:
            count, counts[text] = counts[text], 0
            if count < shared[document] or (count == shared[document] and text > best[document]):
                continue
            theirs = texts[text_ends[text] : text_ends[text + 1]]
            if needed[text] == 0 or covered(own, theirs, shortest) >= needed[text]:
                best[document], shared[document] = text, count
    return best, shared


@compiled
def longest(words: UInt64s, others: UInt64s) -> tuple[int, int]:
    """The longest run of words that a text shares with another: its first word, and how many; the first of equals."""
    before, now = np.zeros(len(others) + 1, np.int32), np.zeros(len(others) + 1, np.int32)
    first = length = 0
    for i in range(len(words)):
        for j in range(len(others)):
            now[j + 1] = before[j] + 1 if words[i] == others[j] else 0
            if now[j + 1] > length:
                length = int(now[j + 1])
                first = i + 1 - length
        before, now = now, before
    return first, length


@compiled
def _bucket(sketch: UInt16s, band: int, rows: int, buckets: int) -> int:
    """Where the values of one band of a sketch belong."""
    name = _BAND
    for value in sketch[band * rows : (band + 1) * rows]:
        name = mixed(name, np.uint64(value))
    return int(name & np.uint64(buckets - 1))


@compiled
def hang(sketches: UInt16s, first: int, last: int, rows: int, newest: Int32s, older: Int32s) -> None:
    """Enter sketches, so that ``alike`` finds them.

    Args:
        sketches: ``[sketches, values]``; those from ``first`` up to ``last`` are entered.
        first: The first to enter.
        last: The one after the last to enter.
        rows: Values of a band.
        newest: The sketch that was last entered into each bucket of each band, -1 if none, ``[bands, buckets]``; the
            number of buckets is a power of two.
        older: For each sketch and band the one that was entered into the same bucket before, ``[sketches, bands]``.
    """
    for sketch in range(first, last):
        for band in range(len(newest)):
            bucket = _bucket(sketches[sketch], band, rows, newest.shape[1])
            older[sketch, band] = newest[band, bucket]
            newest[band, bucket] = sketch


@compiled
def alike(sketch: UInt16s, needed: int, sketches: UInt16s, rows: int, newest: Int32s, older: Int32s) -> bool:
    """Whether a sketch has ``needed`` values in common with one that was entered and shares a bucket with it.

    Args:
        sketch: ``[values]``.
        needed: How many values must be the same.
        sketches: As for ``hang``, like all that follow.
        rows: Values of a band.
        newest: The last sketch of each bucket.
        older: The one before.
    """
    for band in range(len(newest)):
        other = newest[band, _bucket(sketch, band, rows, newest.shape[1])]
        while other >= 0:
            same = 0
            for i in range(len(sketch)):
                same += sketch[i] == sketches[other, i]
            if same >= needed:
                return True
            other = older[other, band]
    return False

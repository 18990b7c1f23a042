"""The loops over hashed n-grams, compiled by numba. Import it inside functions.

A text's n-grams are its tokens and its pairs of neighbouring tokens; each belongs to one of some thousand buckets.
"""

import numpy as np
import numpy.typing as npt

from trivium.data.scanning import mixed
from trivium.engine import compiled

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]

_PAIR = np.uint64(0x2545F4914F6CDD1D)  # so that a pair's name depends on its order, and is no single token's
_HALF = np.uint64(32)


@compiled
def _bucket(name: np.uint64, buckets: np.uint64) -> np.int64:
    return np.int64(((name >> _HALF) * buckets) >> _HALF)  # as even as a remainder, without the slow division


@compiled
def _pair(first: np.uint64, second: np.uint64) -> np.uint64:
    return mixed(mixed(_PAIR, first), second)


@compiled
def count(names: UInt64s, ends: Int64s, buckets: int) -> Int64s:
    """How many n-grams of some texts fall into each bucket.

    Args:
        names: Tokens of the texts, end to end.
        ends: Text i has the tokens from ``ends[i]`` up to ``ends[i + 1]``.
        buckets: How many there are.
    """
    counts = np.zeros(buckets, np.int64)
    many = np.uint64(buckets)
    for text in range(len(ends) - 1):
        for at in range(ends[text], ends[text + 1]):
            counts[_bucket(names[at], many)] += 1
            if at + 1 < ends[text + 1]:
                counts[_bucket(_pair(names[at], names[at + 1]), many)] += 1
    return counts


@compiled
def weigh(names: UInt64s, ends: Int64s, weights: Float64s) -> tuple[Float64s, Int64s]:
    """The weights of each text's n-grams, summed in the order they stand, and how many n-grams it has.

    Args:
        names: Tokens of the texts, end to end.
        ends: Text i has the tokens from ``ends[i]`` up to ``ends[i + 1]``.
        weights: What an n-gram of each bucket weighs.
    """
    sums, sizes = np.zeros(len(ends) - 1), np.zeros(len(ends) - 1, np.int64)
    many = np.uint64(len(weights))
    for text in range(len(ends) - 1):
        tokens = ends[text + 1] - ends[text]
        sizes[text] = max(2 * tokens - 1, 0)
        for at in range(ends[text], ends[text + 1]):
            sums[text] += weights[_bucket(names[at], many)]
            if at + 1 < ends[text + 1]:
                sums[text] += weights[_bucket(_pair(names[at], names[at + 1]), many)]
    return sums, sizes


@compiled
def single(names: UInt64s, weights: Float64s) -> Float64s:
    """What each token weighs by itself, ``[tokens]``."""
    found = np.empty(len(names))
    for at in range(len(names)):
        found[at] = weights[_bucket(names[at], np.uint64(len(weights)))]
    return found

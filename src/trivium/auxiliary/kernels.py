"""The loops of Kendall's tau, compiled by numba: on how many pairs two orders agree.

Import it inside functions: numba takes a moment to load. The inner loops compare one number with a stretch of others,
which the processor does for several of them at a time. For some hundred heads that is faster than counting inversions
in a sorted list, and than products of vectors of signs, which must be written down first. It depends on how a
comparison is counted: ``1 if … else 0`` becomes such an instruction, ``int(…)`` a loop several times slower. The
kernels let go of the interpreter lock, so that threads share the work.
"""

import numpy as np

from trivium.core import Floats, Ints
from trivium.engine import compiled


@compiled
def untied(rows: Floats) -> Ints:
    """Count the pairs of entries that differ, of each row."""
    found = np.zeros(len(rows), np.int64)
    for r in range(len(rows)):
        pairs = 0
        for i in range(rows.shape[1]):
            here, later = rows[r, i], rows[r, i + 1 :]
            for j in range(len(later)):
                pairs += 1 if later[j] != here else 0
        found[r] = pairs
    return found


@compiled
def agreements(orders: Ints, ends: Ints, rows: Floats) -> Ints:
    """Concordant pairs less discordant ones, of some orders with some rows.

    Args:
        orders: Entries from the least to the greatest, of each order, ``[n, entries]``.
        ends: How many entries are not greater than the one in this place, ``[n, entries]``.
        rows: What is compared with the orders, ``[m, entries]``.

    Returns:
        ``[n, m]``.
    """
    found = np.empty((len(orders), len(rows)), np.int64)
    row = np.empty(rows.shape[1])
    for r in range(len(rows)):
        for k in range(len(orders)):
            for i in range(len(row)):
                row[i] = rows[r, orders[k, i]]
            pairs = 0
            for i in range(len(row)):
                here, greater = row[i], row[ends[k, i] :]
                for j in range(len(greater)):
                    pairs += 1 if greater[j] > here else 0
                    pairs -= 1 if greater[j] < here else 0
            found[k, r] = pairs
    return found

"""Words as numbers, in bulk: what ``words`` says, compiled, straight from Arrow's bytes.

A word is named by 64 bits of hash. Among ten million different words two share a name with a chance of three in a
million, so nothing beside keeps the words themselves. Numba takes a moment to load: import it inside functions.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]

_SPACE, _WORD, _SIGN = 0, 1, 2


class Tokens(NamedTuple):
    """The tokens of some texts, end to end.

    Attributes:
        hashes: A name for each token, uint64; equal tokens have equal names.
        ends: Text i has the tokens from ``ends[i]`` up to ``ends[i + 1]``, int64 ``[texts + 1]``.
    """

    hashes: UInt64s
    ends: Int64s


def hashed(texts: Sequence[str] | pa.LargeStringArray, *, signs: bool = False) -> Tokens:
    r"""Name every token of every text; lets go of the interpreter lock while it reads.

    Args:
        texts: The texts. An Arrow array is read where it lies, without copying.
        signs: Whether a run of signs (``[^\w\s]+``) is a token too; else tokens are what ``words`` finds.

    >>> tokens = hashed(["The cell.", "the CELL"])
    >>> (tokens.hashes[:2] == tokens.hashes[2:]).all(), tokens.ends.tolist()
    (np.True_, [0, 2, 4])
    """
    from trivium.data import scanning

    array = texts if isinstance(texts, pa.LargeStringArray) else pa.array(texts, pa.large_string())
    _, offsets, data = array.buffers()
    if len(array) == 0 or data is None:
        return Tokens(np.zeros(0, np.uint64), np.zeros(len(array) + 1, np.int64))
    places = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return Tokens(*scanning.scan(np.frombuffer(data, np.uint8), places, signs, *_alphabet()))


@cache
def _alphabet() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Of every code point, whether it is space, letter or sign, and its lower case; beyond the table all are signs.

    The last two planes of Unicode, and the private ones before them, hold no letter.
    """
    codes = range(0x40000)
    kinds = (_WORD if c.isalnum() or c == "_" else _SPACE if c.isspace() else _SIGN for c in map(chr, codes))
    lower = np.fromiter((ord(chr(code).lower()[0]) for code in codes), np.int32, len(codes))
    lower[[ord("Σ"), ord("ς")]] = ord("σ")  # in words, too
    return np.fromiter(kinds, np.uint8, len(codes)), lower

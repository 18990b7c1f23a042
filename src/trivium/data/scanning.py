"""The loop that finds words in UTF-8, compiled by numba. Import it inside functions."""

import numpy as np
import numpy.typing as npt

from trivium.engine import compiled

_START = np.uint64(0x9E3779B97F4A7C15)
_FACTOR = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_DOTTED, _DOT = 0x130, 0x307  # the one letter whose lower case is two: a capital I with a dot, and the dot


@compiled
def mixed(name: np.uint64, code: np.uint64) -> np.uint64:
    """The name of a sequence that has one more code."""
    name = (name ^ code) * _FACTOR
    return name ^ (name >> _HALF)


@compiled
def scan(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    signs: bool,
    kinds: npt.NDArray[np.uint8],
    lower: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Name the tokens of each text.

    Args:
        data: Valid UTF-8.
        offsets: Text i lies from ``offsets[i]`` up to ``offsets[i + 1]``.
        signs: Whether runs of signs are tokens.
        kinds: Of a code point: 0 space, 1 letter, 2 sign.
        lower: Of a code point: its lower case.

    Returns:
        Names end to end, and where those of each text end.
    """
    texts, known = len(offsets) - 1, len(kinds)
    size = offsets[texts] - offsets[0]
    hashes = np.empty(size + 1 if signs else size // 2 + texts, np.uint64)  # a token of one byte, and a gap
    ends = np.zeros(texts + 1, np.int64)
    written = 0
    for text in range(texts):
        place, stop = offsets[text], offsets[text + 1]
        before, name = 0, _START
        while place < stop:
            code = np.int64(data[place])
            place += 1
            if code >= 0x80:
                more = 1 if code < 0xE0 else 2 if code < 0xF0 else 3
                code &= 0x3F >> more
                for _ in range(more):
                    code = (code << 6) | (np.int64(data[place]) & 0x3F)
                    place += 1
            kind = kinds[code] if code < known else 2
            if kind == 2 and not signs:
                kind = 0
            if before != kind and before != 0:
                hashes[written] = name
                written += 1
                name = _START
            if kind != 0:
                name = mixed(name, np.uint64(lower[code] if code < known else code))
                if code == _DOTTED:
                    name = mixed(name, np.uint64(_DOT))
            before = kind
        if before != 0:
            hashes[written] = name
            written += 1
        ends[text + 1] = written
    return hashes[:written].copy(), ends

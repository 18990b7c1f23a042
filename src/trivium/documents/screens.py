"""The screens: which documents may not be read, whoever ranked them.

They are the same for all arms of a study. What a document is worth is the selector's business, not theirs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Strict

from trivium.core import JSON, Ints, Task
from trivium.data import fingerprint64
from trivium.data.analyzer import Tokens
from trivium.documents.heldout import EQUAL, HeldOut, words_of
from trivium.errors import ConfigError

Reason = Literal["heldout_equal", "contaminated", "duplicates", "near_duplicates"]
REASONS: tuple[Reason, ...] = ("heldout_equal", "contaminated", "duplicates", "near_duplicates")

_SHINGLE = 5  # words
_VALUES = 128  # of a sketch
_SURE = 0.99  # of finding a pair that is as alike as the threshold asks


@dataclass(frozen=True)
class Screens:
    """What is left out of every selection. A document that equals a dev or test text always is.

    Attributes:
        duplicates: Leave out a document that equals a better ranked one but for case, spaces and punctuation.
        near_duplicates: Leave out a document whose runs of five words have, with those of a better ranked one, this
            Jaccard similarity or a higher one, as MinHash estimates it with 128 permutations (standard error 0.035 at
            0.8). Null is off. With ``duplicates`` off, an equal document of five words or more is still one of these.
        contamination: Leave out a document that holds a good part of a dev or test text: 13 words in a row, 8 of a text
            that has fewer than 13, or half of its words in shorter runs (``HeldOut`` says it exactly).
    """

    duplicates: bool = True
    near_duplicates: Annotated[float, Strict()] | None = 0.8  # strict: true is not 1.0
    contamination: bool = True

    def __post_init__(self) -> None:
        if self.near_duplicates is not None and not 0 < self.near_duplicates <= 1:
            raise ConfigError(
                f"near_duplicates: expected a similarity above 0 and up to 1, or null for none, found "
                f"{self.near_duplicates}."
            )


class Screening:
    """The screens at work on a ranking, from its best document down.

    Attributes:
        left_out: How many documents were left out so far, by the first reason that holds, in the order of ``REASONS``.
        audit: Each document that was left out for a dev or test text, with the evidence (``HeldOut.evidence``).
    """

    def __init__(self, task: Task, screens: Screens) -> None:
        self.left_out: dict[Reason, int] = dict.fromkeys(REASONS, 0)
        self.audit: list[dict[str, JSON]] = []
        self._held_out = HeldOut.of(task, contamination=screens.contamination)
        self._read: set[int] | None = set() if screens.duplicates else None
        self._sketches = Sketches(screens.near_duplicates) if screens.near_duplicates is not None else None
        self._words = screens.contamination or self._sketches is not None

    def may_read(self, ids: Ints, texts: Sequence[str]) -> Iterator[bool]:
        """Whether each of the next documents of the ranking may be read; to be asked for no more than are needed.

        Args:
            ids: Of the documents.
            texts: The documents.
        """
        names = [fingerprint64(text) for text in texts]
        tokens = words_of(texts if self._words else [""] * len(texts))
        sketches = self._sketches.of(tokens) if self._sketches is not None else [None] * len(texts)
        overlaps = self._held_out.look(names, tokens)
        for i, (name, sketch, overlap) in enumerate(zip(names, sketches, overlaps, strict=True)):
            reason: Reason | None = None
            if overlap is not None:
                reason = "heldout_equal" if overlap.rule == EQUAL else "contaminated"
                self.audit.append(self._held_out.evidence(int(ids[i]), texts[i], overlap))
            else:
                reason = self._repeats(name, sketch)
            if reason is not None:
                self.left_out[reason] += 1
            yield reason is None

    def _repeats(self, name: int, sketch: npt.NDArray[np.uint16] | None) -> Reason | None:
        """Why a document is nothing new; if it is, it is remembered."""
        if self._read is not None and name in self._read:
            return "duplicates"
        if self._sketches is not None and sketch is not None and not self._sketches.add(sketch):
            return "near_duplicates"
        if self._read is not None:
            self._read.add(name)
        return None


class Sketches:
    """MinHash sketches of documents, no two of them alike (Broder 1997), about 500 bytes each.

    Of every value of a sketch 16 bits are kept: two different ones are taken for the same once in 65,536 times, which
    moves no estimate (b-bit minwise hashing, Li and König 2010). Alike documents are found by locality-sensitive
    hashing: sketches are cut into bands, and only those that agree in a whole band are compared. Bands are so short
    that a pair just at the threshold is found 99 times in 100.

    Args:
        threshold: Estimated Jaccard similarity from which two documents are alike.
    """

    def __init__(self, threshold: float) -> None:
        self._needed = math.ceil(threshold * _VALUES - 1e-9)
        self._rows = max((r for r in range(1, _VALUES + 1) if _chance(threshold, r) >= _SURE), default=1)
        self._used = 0
        self._kept = np.empty((0, _VALUES), np.uint16)
        self._make_room(1024)

    def of(self, tokens: Tokens) -> list[npt.NDArray[np.uint16] | None]:
        """The sketches of documents, uint16 ``[128]`` each; none of a document of fewer than five words."""
        from rensa import RMinHash

        from trivium.documents import overlaps

        grams, ends = overlaps.ngrams(*tokens, _SHINGLE)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(grams, ends.astype(np.uint64), _VALUES, 0)
        values = np.array(matrix.to_rows(), np.uint32).reshape(-1, _VALUES)
        sketches = ((values * np.uint32(0x9E3779B1)) >> 16).astype(np.uint16)  # Fibonacci hashing: all bits play a part
        return [sketch if many else None for sketch, many in zip(sketches, np.diff(ends), strict=True)]

    def add(self, sketch: npt.NDArray[np.uint16]) -> bool:
        """Keep a sketch, unless one is kept that is like it; say which."""
        from trivium.documents import overlaps

        if overlaps.alike(sketch, self._needed, self._kept, self._rows, self._newest, self._older):
            return False
        if self._used == len(self._kept):
            self._make_room(2 * self._used)
        self._kept[self._used] = sketch
        overlaps.hang(self._kept, self._used, self._used + 1, self._rows, self._newest, self._older)
        self._used += 1
        return True

    def _make_room(self, size: int) -> None:
        """Room for so many, a power of two."""
        from trivium.documents import overlaps

        bands = _VALUES // self._rows
        kept = np.empty((size, _VALUES), np.uint16)
        kept[: self._used] = self._kept
        self._kept = kept
        self._newest, self._older = np.full((bands, size), -1, np.int32), np.empty((size, bands), np.int32)
        overlaps.hang(self._kept, 0, self._used, self._rows, self._newest, self._older)


def _chance(similarity: float, rows: int) -> float:
    """Of two documents that are so similar, that they agree in all values of at least one band."""
    return 1 - float(1 - similarity**rows) ** (_VALUES // rows)

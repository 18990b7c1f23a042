"""Streams of batches: the n-th batch is a function of the seed and n, so that a resumed run reads what it would have.

Texts of similar length go into one batch, up to a budget of tokens, and every batch is padded to a multiple of 16: on a
CPU, attention over arbitrary lengths is many times slower, and fewer shapes suit a compiler.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from trivium.core import Ints
from trivium.kinds import Encoded
from trivium.masking import Batch
from trivium.seeds import numpy_rng

MULTIPLE = 16
_POOL = 32  # batches whose texts are sorted by length together: less padding with more, less shuffling too


def padded(length: int) -> int:
    """The next multiple of 16.

    >>> [padded(n) for n in (1, 16, 17)]
    [16, 16, 32]
    """
    return -(-length // MULTIPLE) * MULTIPLE


def padded_tokens(encoded: Encoded) -> int:
    """Tokens of some texts when each is padded on its own: what one pass over them computes, nearly."""
    return int((-(-encoded.lengths // MULTIPLE) * MULTIPLE).sum())


def plan(lengths: Ints, rng: np.random.Generator, max_rows: int | None, max_tokens: int | None) -> list[Ints]:
    """Cut one pass over some texts into batches.

    Args:
        lengths: Tokens of each text, ``[texts]``.
        rng: Source of the order.
        max_rows: Most texts in a batch.
        max_tokens: Most tokens in a batch, padding included; a text longer than that makes a batch of its own.

    Returns:
        Indices of the texts of each batch; every text is in exactly one.
    """
    order = rng.permutation(len(lengths))
    typical = max_rows or max(1, (max_tokens or 0) // padded(int(np.median(lengths))))
    batches: list[Ints] = []
    for start in range(0, len(order), typical * _POOL):
        pool = order[start : start + typical * _POOL]
        by_length = pool[np.argsort(lengths[pool], kind="stable")]
        batches.extend(_cut(by_length, lengths, max_rows, max_tokens))
    return [batches[i] for i in rng.permutation(len(batches))]


def _cut(by_length: Ints, lengths: Ints, max_rows: int | None, max_tokens: int | None) -> list[Ints]:
    batches, start = [], 0
    for end in range(1, len(by_length) + 1):
        if end < len(by_length):
            rows = end + 1 - start
            fits_rows = max_rows is None or rows <= max_rows
            fits_tokens = max_tokens is None or rows * padded(int(lengths[by_length[end]])) <= max_tokens
            if fits_rows and fits_tokens:
                continue
        batches.append(by_length[start:end])
        start = end
    return batches


def collate(encoded: Encoded, rows: Ints, pad_id: int, *, types: bool) -> Batch:
    """Lay some texts out as a padded rectangle."""
    lengths = encoded.lengths[rows]
    shape = (len(rows), padded(int(lengths.max())))
    place = np.arange(shape[1])[None] < lengths[:, None]
    source = np.concatenate([np.arange(encoded.offsets[r], encoded.offsets[r + 1]) for r in rows])

    def lay(values: npt.NDArray[np.integer], padding: int) -> torch.Tensor:
        laid = np.full(shape, padding, np.int64)
        laid[place] = values[source]
        return torch.from_numpy(laid)

    return Batch(
        lay(encoded.ids, pad_id),
        torch.from_numpy(place),
        lay(encoded.words, -1),
        lay(encoded.types, 0) if types else None,
        None if encoded.labels is None else torch.from_numpy(encoded.labels[rows]),
    )


@dataclass
class BatchStream:
    """An endless stream of batches over some texts, in a fresh order every pass.

    Attributes:
        encoded: The texts.
        name: What the stream is called: part of its randomness.
        seed: The rest of its randomness.
        pad_id: The tokenizer's padding.
        max_rows: Most texts in a batch.
        max_tokens: Most tokens in a batch, padding included.
        types: Whether the encoder asks which of two texts a token belongs to.
    """

    encoded: Encoded
    name: str
    seed: int
    pad_id: int
    max_rows: int | None = None
    max_tokens: int | None = None
    types: bool = False
    _epoch: int = field(default=-1, init=False)
    _first: int = field(default=0, init=False)
    _plan: list[Ints] = field(default_factory=list, init=False)

    def batch(self, n: int) -> Batch:
        """The n-th batch, counted from 0."""
        if n < self._first:
            self._epoch, self._first, self._plan = -1, 0, []
        while n >= self._first + len(self._plan):
            self._first += len(self._plan)
            self._epoch += 1
            self._plan = self._epoch_plan(self._epoch)
        return collate(self.encoded, self._plan[n - self._first], self.pad_id, types=self.types)

    def _epoch_plan(self, epoch: int) -> list[Ints]:
        rng = numpy_rng(self.seed, "order", self.name, epoch)
        return plan(self.encoded.lengths, rng, self.max_rows, self.max_tokens)

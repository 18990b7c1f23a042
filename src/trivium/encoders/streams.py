"""Streams of batches: the n-th batch is a function of the seed and n, so that a resumed run reads what it would have.

Texts of similar length go into one batch, up to a budget of tokens, and every batch is padded to a multiple of 16: few
shapes suit GPUs and compilers (docs/design-notes.md).
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trivium.core import Ints
from trivium.kinds import Batch, Encoded
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
    """Tokens of some rows when each is padded on its own: what one pass over them computes, nearly."""
    return int((-(-encoded.lengths // MULTIPLE) * MULTIPLE * encoded.widths).sum())


def plan(encoded: Encoded, rng: np.random.Generator, max_rows: int | None, max_tokens: int | None) -> list[Ints]:
    """Cut one pass over some rows into batches.

    Args:
        encoded: The rows.
        rng: Source of the order.
        max_rows: Most rows in a batch.
        max_tokens: Most tokens in a batch, padding included; a row longer than that makes a batch of its own.

    Returns:
        Indices of the rows of each batch; every row is in exactly one.
    """
    order = rng.permutation(len(encoded))
    typical = max_rows or max(1, (max_tokens or 0) // padded(int(np.median(encoded.lengths))))
    batches: list[Ints] = []
    for start in range(0, len(order), typical * _POOL):
        pool = order[start : start + typical * _POOL]
        by_length = pool[np.argsort(encoded.lengths[pool], kind="stable")]
        batches.extend(cut(by_length, encoded, max_rows, max_tokens))
    return [batches[i] for i in rng.permutation(len(batches))]


def cut(by_length: Ints, encoded: Encoded, max_rows: int | None, max_tokens: int | None) -> list[Ints]:
    """Cut rows that are sorted by length into batches that keep to both limits, or are a single row."""
    batches, start, texts = [], 0, 0
    shapes = zip(encoded.lengths[by_length].tolist(), encoded.widths[by_length].tolist(), strict=True)
    for end, (length, width) in enumerate(shapes):
        texts += width
        too_many = max_rows is not None and end + 1 - start > max_rows
        too_long = max_tokens is not None and texts * padded(length) > max_tokens
        if end > start and (too_many or too_long):
            batches.append(by_length[start:end])
            start, texts = end, width
    return [*batches, by_length[start:]] if start < len(by_length) else batches


def collate(encoded: Encoded, rows: Ints, pad_id: int, *, types: bool) -> Batch:
    """Lay some rows out as a padded rectangle."""
    owners, texts = None, rows
    if encoded.firsts is not None:
        owners = np.repeat(np.arange(len(rows)), encoded.widths[rows])
        texts = between(encoded.firsts[rows], encoded.firsts[rows + 1])
    begins, ends = encoded.offsets[texts], encoded.offsets[texts + 1]
    place = np.arange(padded(int((ends - begins).max())))[None] < (ends - begins)[:, None]
    source = between(begins, ends)

    def lay(values: npt.NDArray[Any], padding: int) -> torch.Tensor:
        laid = np.full((*place.shape, *values.shape[1:]), padding, np.int64)
        laid[place] = values[source]
        return torch.from_numpy(laid)

    labels = None
    if encoded.labels is not None:
        labels = lay(encoded.labels, -100) if encoded.per_token else torch.from_numpy(encoded.labels[texts])
    return Batch(
        lay(encoded.ids, pad_id),
        torch.from_numpy(place),
        lay(encoded.words, -1),
        lay(encoded.types, 0) if types else None,
        labels,
        None if owners is None else torch.from_numpy(owners),
        None if encoded.chars is None else lay(encoded.chars, -1),
    )


@dataclass
class BatchStream:
    """An endless stream of batches over some rows, in a fresh order every pass.

    Attributes:
        encoded: The rows.
        name: What the stream is called: part of its randomness.
        seed: The rest of its randomness.
        pad_id: The tokenizer's padding.
        max_rows: Most rows in a batch.
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
        return collate(self.encoded, self.rows(n), self.pad_id, types=self.types)

    def rows(self, n: int) -> Ints:
        """Which rows the n-th batch has, in its order."""
        if n < self._first:
            self._epoch, self._first, self._plan = -1, 0, []
        while n >= self._first + len(self._plan):
            self._first += len(self._plan)
            self._epoch += 1
            self._plan = self._epoch_plan(self._epoch)
        return self._plan[n - self._first]

    def _epoch_plan(self, epoch: int) -> list[Ints]:
        rng = numpy_rng(self.seed, "order", self.name, epoch)
        return plan(self.encoded, rng, self.max_rows, self.max_tokens)


def subset(encoded: Encoded, rows: Ints) -> Encoded:
    """Some rows, in the order given."""
    firsts = np.arange(len(encoded) + 1) if encoded.firsts is None else encoded.firsts
    texts = between(firsts[rows], firsts[rows + 1])
    tokens = between(encoded.offsets[texts], encoded.offsets[texts + 1])
    lengths = encoded.offsets[texts + 1] - encoded.offsets[texts]
    labels = encoded.labels
    return replace(
        encoded,
        ids=encoded.ids[tokens],
        words=encoded.words[tokens],
        types=encoded.types[tokens],
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        labels=None if labels is None else labels[tokens if encoded.per_token else texts],
        firsts=None if encoded.firsts is None else np.concatenate([[0], np.cumsum(encoded.widths[rows])]),
        chars=None if encoded.chars is None else encoded.chars[tokens],
        origins=None if encoded.origins is None else encoded.origins[rows],
    )


def between(begins: Ints, ends: Ints) -> Ints:
    """All numbers from each beginning to its end, the end left out.

    >>> between(np.array([3, 10]), np.array([5, 11])).tolist()
    [3, 4, 10]
    """
    lengths = ends - begins
    return np.repeat(begins - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())

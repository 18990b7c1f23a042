"""Scores of texts that were seen before: a model is asked once about a text, however often it is hidden in."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor

from trivium.kinds import Batch
from trivium.masking.units import Unit, Units

_MOST = 50_000_000  # scores that are kept, 4 bytes each


@dataclass
class Memory:
    """What a scorer said of texts, by their tokens.

    Attributes:
        ask: Scores of the units of a batch, float32 ``[texts, width]``; of a text the same in whatever batch.
    """

    ask: Callable[[Batch, Units], Tensor]
    _kept: dict[tuple[int, Unit], npt.NDArray[np.float32]] = field(default_factory=dict)
    _size: int = 0

    def scores(self, batch: Batch, units: Units) -> Tensor:
        """What ``ask`` says of the units, asked about new texts alone."""
        names = self._names(batch, units)
        if self._size > _MOST:  # rather ask again than fill the memory
            self._kept.clear()
            self._size = 0
        new = [i for i, name in enumerate(names) if name not in self._kept]
        if new:
            self._learn(batch, units, new, names)
        scores = torch.zeros(units.there.shape)
        for row, (name, many) in enumerate(zip(names, units.count.tolist(), strict=True)):
            scores[row, :many] = torch.from_numpy(self._kept[name])
        return scores

    def _names(self, batch: Batch, units: Units) -> list[tuple[int, Unit]]:
        ids, there, count = batch.ids.numpy(), batch.attention.numpy(), units.count.tolist()
        pieces = units.pieces.sum(1).tolist()
        return [
            (xxhash.xxh3_64_intdigest(row[here].tobytes()), "token" if n == many else "word")
            for row, here, n, many in zip(ids, there, count, pieces, strict=True)
        ]

    def _learn(self, batch: Batch, units: Units, new: list[int], names: list[tuple[int, Unit]]) -> None:
        rows = torch.tensor(new)
        told = self.ask(_rows(batch, rows), replace(units, of=units.of[rows], count=units.count[rows])).cpu()
        for row, scores in zip(new, told, strict=True):
            many = int(units.count[row])
            self._kept[names[row]] = scores[:many].float().numpy().copy()
            self._size += many


def _rows(batch: Batch, rows: Tensor) -> Batch:
    """Some texts of a batch, in the rectangle that they had."""
    types = None if batch.types is None else batch.types[rows]
    return Batch(batch.ids[rows], batch.attention[rows], batch.words[rows], types)

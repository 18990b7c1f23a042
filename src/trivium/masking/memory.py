"""Scores of texts that were seen before: a model is asked once about a text, however often it is hidden in."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor

from trivium.kinds import Batch
from trivium.masking.units import Units

_MOST = 50_000_000  # scores that are kept, 4 bytes each


@dataclass
class Memory:
    """What a scorer said of texts, by their tokens.

    Attributes:
        ask: Scores of the units of a batch, float32 ``[texts, width]``; of a text the same in whatever batch.
    """

    ask: Callable[[Batch, Units], Tensor]
    _kept: dict[tuple[int, int], npt.NDArray[np.float32]] = field(default_factory=dict)
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

    def _names(self, batch: Batch, units: Units) -> list[tuple[int, int]]:
        """Of each text: its tokens, and how they are parted into units."""
        parted = (xxhash.xxh3_64_intdigest(row.tobytes()) for row in _trimmed(units.of, batch.attention))
        return list(zip(batch.names(), parted, strict=True))

    def _learn(self, batch: Batch, units: Units, new: list[int], names: list[tuple[int, int]]) -> None:
        rows = torch.tensor(new)
        told = self.ask(batch.pick(rows), replace(units, of=units.of[rows], count=units.count[rows])).cpu()
        for row, scores in zip(new, told, strict=True):
            many = int(units.count[row])
            self._kept[names[row]] = scores[:many].float().numpy().copy()
            self._size += many


def _trimmed(values: Tensor, there: Tensor) -> list[npt.NDArray[Any]]:
    return [row[here] for row, here in zip(values.numpy(), there.numpy(), strict=True)]

"""What the policy looks at, worked out once for all texts and kept on disk."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trivium.core import Ints
from trivium.encoders.streams import between, collate, cut
from trivium.kinds import Encoded
from trivium.masking.policy import Features
from trivium.masking.units import Unit, Units

_TOKENS = 8192  # in a batch that is looked at


@dataclass(frozen=True)
class Bank:
    """Features of every unit of some windows, end to end, in a memory-mapped file of half precision.

    Attributes:
        rows: ``[units, features]``.
        begins: Where each window's units begin, and the end of the last's, int64 ``[windows + 1]``.
        mean: Of each feature, float32 ``[features]``.
        spread: Standard deviation likewise.
    """

    rows: npt.NDArray[np.float16]
    begins: Ints
    mean: Tensor
    spread: Tensor

    @classmethod
    def fill(cls, file: Path, features: Features, encoded: Encoded, pad_id: int, unit: Unit, *, types: bool) -> "Bank":
        """Look at every window.

        Args:
            file: Where to keep what is seen (``.npy``).
            features: What looks.
            encoded: The windows.
            pad_id: The tokenizer's padding.
            unit: What is hidden or shown as a whole.
            types: Whether the encoder asks which of two texts a token belongs to.
        """
        windows = single(encoded)
        order = np.argsort(windows.lengths, kind="stable")
        batches = [
            (block, collate(windows, block, pad_id, types=types)) for block in cut(order, windows, None, _TOKENS)
        ]
        many = np.zeros(len(windows), np.int64)
        for block, batch in batches:
            many[block] = Units.in_batch(batch, unit).count.numpy()
        begins = np.concatenate([[0], np.cumsum(many)])
        shape = (int(begins[-1]), len(features.names))
        rows = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)
        for block, batch in batches:
            units = Units.in_batch(batch, unit)
            seen = features.of(batch, units).numpy()
            for i, window in enumerate(block):
                rows[begins[window] : begins[window + 1]] = seen[i, : many[window]]
        rows.flush()
        return cls.of_rows(rows, begins)

    @classmethod
    def of_rows(cls, rows: npt.NDArray[np.float16], begins: Ints) -> "Bank":
        """Of features that are there."""
        sample = torch.from_numpy(np.asarray(rows[:1_000_000], np.float32))
        if len(sample) == 0:
            sample = torch.zeros(1, rows.shape[1])
        return cls(rows, begins, sample.mean(0), sample.std(0, correction=0).clamp(min=1e-6))

    def look(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Features of some windows, float32 ``[n, width, features]``, and where units are, bool ``[n, width]``."""
        chosen = windows.numpy()
        many = self.begins[chosen + 1] - self.begins[chosen]
        there = np.arange(max(1, int(many.max(initial=1)))) < many[:, None]
        laid = np.zeros((*there.shape, self.rows.shape[1]), np.float32)
        laid[there] = self.rows[between(self.begins[chosen], self.begins[chosen + 1])]
        return torch.from_numpy(laid), torch.from_numpy(there)


def single(encoded: Encoded) -> Encoded:
    """The same texts, each a row of its own."""
    return replace(encoded, firsts=None)

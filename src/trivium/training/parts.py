"""A batch in parts whose gradients add up to the whole batch's: for memory, and for several processes.

Order and gaps are drawn for the whole batch, and every loss is divided by what the whole batch sums to, before it is
cut. So the parts of one process, or of several, make the same update as one pass would; but for dropout, which each
part draws for itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from trivium.kinds import Batch
from trivium.masking.gaps import Corrupted


@dataclass(frozen=True)
class Work:
    """A batch, or a part of one, ready to be learned from.

    Attributes:
        batch: The texts.
        gaps: The texts with gaps and what was there; none where nothing is hidden.
        fill: What the sum of the gaps' losses is multiplied by, so that the parts' sums make the whole batch's mean.
        task: Whose rows these are; none for documents.
        answer: What the sum of the rows' losses is multiplied by, likewise.
    """

    batch: Batch
    gaps: Corrupted | None = None
    fill: float = 0.0
    task: str | None = None
    answer: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens to compute, padding included."""
        return self.batch.ids.numel()

    def texts(self, start: int, end: int) -> "Work":
        """Some of the texts, whole rows, with the gaps that are in them."""
        gaps, length = self.gaps, self.batch.ids.shape[1]
        if gaps is not None:
            low, high = torch.searchsorted(gaps.positions, torch.tensor([start * length, end * length])).tolist()
            positions = gaps.positions[low:high] - start * length
            gaps = Corrupted(gaps.ids[start:end], positions, gaps.targets[low:high])
        return Work(self.batch.texts(start, end), gaps, self.fill, self.task, self.answer)

    def to(self, device: torch.device) -> "Work":
        """The same on another device."""
        if device.type == "cpu":
            return self
        gaps = None if self.gaps is None else Corrupted(*(t.to(device, non_blocking=True) for t in self.gaps))
        return Work(self.batch.to(device), gaps, self.fill, self.task, self.answer)


def parts(work: Work, limit: int, rank: int = 0, size: int = 1) -> Iterator[Work]:
    """Cut a batch: what one of several processes does of it, in pieces that fit into memory.

    Args:
        work: The whole batch.
        limit: Most tokens in a piece, padding included; a row that has more is a piece of its own.
        rank: Which process this is.
        size: How many there are. One without rows gets the first row with no weight, so that all have gradients.

    Yields:
        The pieces, in order.
    """
    begins = _begins(work.batch)
    rows = len(begins) - 1
    first, last = rank * rows // size, (rank + 1) * rows // size
    if first == last:
        yield _weightless(work.texts(0, begins[1]))
        return
    length = work.batch.ids.shape[1]
    start = first
    for row in range(first + 1, last + 1):
        if row == last or (begins[row + 1] - begins[start]) * length > limit:
            yield work if row - start == rows else work.texts(begins[start], begins[row])
            start = row


def _begins(batch: Batch) -> list[int]:
    """The first text of each row, and the end of the last row's."""
    if batch.owners is None:
        return list(range(len(batch.ids) + 1))
    return torch.searchsorted(batch.owners, torch.arange(batch.rows + 1)).tolist()


def _weightless(work: Work) -> Work:
    return Work(work.batch, work.gaps, 0.0, work.task, 0.0)

"""The rectangle of tokens that maskers look at and encoders read."""

from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Token ids and what is known of each position.

    Attributes:
        ids: Token ids, int64 ``[rows, length]``.
        attention: True where there is a token and not padding, bool ``[rows, length]``.
        words: Which word of its row a token belongs to, int64 ``[rows, length]``; -1 for padding and special tokens.
        types: Which of two texts a token belongs to, int64 ``[rows, length]``; none where the encoder does not ask.
        labels: What the rows are labelled with; none for documents.
    """

    ids: Tensor
    attention: Tensor
    words: Tensor
    types: Tensor | None = None
    labels: Tensor | None = None

    @property
    def maskable(self) -> Tensor:
        """True where a token may be hidden: everywhere but on padding and special tokens."""
        return self.words >= 0

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        tensors: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {k: v if v is None else v.to(device, non_blocking=True) for k, v in tensors.items()}
        return type(self)(**moved)

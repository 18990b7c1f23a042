"""The rectangle of tokens that maskers look at and encoders read."""

from dataclasses import dataclass, fields
from typing import Any, Self

import torch
import xxhash
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Token ids and what is known of each position.

    A *text* is one input of the encoder. Most rows of a task are one text; a multiple choice is one for each choice,
    and a long row may be several windows.

    Attributes:
        ids: Token ids, int64 ``[texts, length]``.
        attention: True where there is a token and not padding, bool ``[texts, length]``.
        words: Which word of its row a token belongs to, int64 ``[texts, length]``; -1 for padding and special tokens.
        types: Which of two texts a token belongs to, int64 ``[texts, length]``; none where the encoder does not ask.
        labels: What the texts are labelled with, ``[texts, …]``, or their tokens, ``[texts, length]``; none for
            documents.
        owners: Which row of the batch a text belongs to, int64 ``[texts]``, in order; none where each is its own.
        chars: Where each token begins and ends in the text that answers are sought in, int64 ``[texts, length, 2]``;
            -1 elsewhere; none where nothing is sought.
        there: Where the tokens are that are no padding, indices into ``ids.flatten()``; found on the CPU, since a GPU
            would make everybody wait for it. None until the batch is moved.
    """

    ids: Tensor
    attention: Tensor
    words: Tensor
    types: Tensor | None = None
    labels: Tensor | None = None
    owners: Tensor | None = None
    chars: Tensor | None = None
    there: Tensor | None = None

    @property
    def maskable(self) -> Tensor:
        """True where a token may be hidden: everywhere but on padding and special tokens."""
        return self.words >= 0

    @property
    def rows(self) -> int:
        """How many rows of the task these are."""
        return len(self.ids) if self.owners is None else int(self.owners[-1]) + 1

    def tokens(self) -> Tensor:
        """Where the tokens are that are no padding, as indices into ``ids.flatten()``, int64 ``[tokens]``."""
        return self.attention.flatten().nonzero().squeeze(1) if self.there is None else self.there

    def pick(self, which: Tensor) -> "Batch":
        """Some of the texts, each on its own, in the rectangle that they had; without labels."""
        types = None if self.types is None else self.types[which]
        return Batch(self.ids[which], self.attention[which], self.words[which], types)

    def names(self) -> list[int]:
        """A number for each text that its tokens, and nothing else, decide; int64 ``[texts]``."""
        ids, there = self.ids.cpu().numpy(), self.attention.cpu().numpy()
        return [xxhash.xxh3_64_intdigest(row[here].tobytes()) for row, here in zip(ids, there, strict=True)]

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        if device.type == "cpu":
            return self
        tensors: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors["there"] = self.tokens()
        moved: dict[str, Any] = {k: v if v is None else v.to(device, non_blocking=True) for k, v in tensors.items()}
        return type(self)(**moved)

    def texts(self, start: int, end: int) -> Self:
        """Some of the texts, whole rows, as a batch of their own."""
        cut: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "there"}
        cut = {name: value if value is None else value[start:end] for name, value in cut.items()}
        if cut["owners"] is not None:
            cut["owners"] = cut["owners"] - cut["owners"][0]
        return type(self)(**cut)

"""Maskers that follow a rule. Each hides the same share of a text; they differ in which part."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from trivium.errors import ConfigError
from trivium.kinds import Batch


class Masker(Protocol):
    """Decides where. A frozen dataclass whose fields are its keys in the study file."""

    def choose(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Return bool ``[rows, length]``, true where a token is to be predicted; a subset of ``batch.maskable``."""
        ...


def budget(units: Tensor, rate: float, rng: torch.Generator) -> Tensor:
    """How many units to hide in each row: ``rate`` of them, rounded up or down by chance so that the mean is exact.

    Args:
        units: Units that may be hidden, int64 ``[rows]``.
        rate: Share to hide.
        rng: Source of the rounding.

    Returns:
        int64 ``[rows]``.
    """
    wanted = units * rate
    return (wanted + torch.rand(wanted.shape, generator=rng)).floor().long()


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise ConfigError(f"masker.rate: expected a share between 0 and 1, found {rate}. BERT hides 0.15 of a text.")


@dataclass(frozen=True)
class RandomTokens:
    """Hide tokens at random (BERT, Devlin et al. 2019, section 3.1), an exact share of every row.

    Attributes:
        rate: Share of the tokens to hide. 0.15 is BERT's; ModernBERT and other recent encoders take 0.3.
    """

    rate: float = 0.15

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def choose(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Return bool ``[rows, length]``: the tokens with the smallest random draws of their row."""
        draws = torch.rand(batch.ids.shape, generator=rng).masked_fill(~batch.maskable, 2.0)
        place = draws.argsort(dim=1).argsort(dim=1)
        count = budget(batch.maskable.sum(1), self.rate, rng)
        return (place < count[:, None]) & batch.maskable


@dataclass(frozen=True)
class WholeWord:
    """Hide whole words (BERT's whole-word release), an exact share of every row's words.

    A word is hidden with all its pieces, so that no piece gives its neighbours away.

    Attributes:
        rate: Share of the words to hide.
    """

    rate: float = 0.15

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def choose(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Return bool ``[rows, length]``: all pieces of the words with the smallest random draws of their row."""
        rows, length = batch.ids.shape
        word = batch.words.clamp(min=0)  # a masked-out position borrows word 0, and is taken out again at the end
        present = torch.zeros(rows, max(length, int(word.max()) + 1), dtype=torch.bool)
        present.scatter_reduce_(1, word, batch.maskable, reduce="amax")
        draws = torch.rand(present.shape, generator=rng).masked_fill(~present, 2.0)
        place = draws.argsort(dim=1).argsort(dim=1)
        hidden = (place < budget(present.sum(1), self.rate, rng)[:, None]) & present
        return hidden.gather(1, word) & batch.maskable


MASKERS: Mapping[str, type[Masker]] = {"random": RandomTokens, "whole_word": WholeWord}

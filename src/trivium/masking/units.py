"""What is hidden or shown as a whole, how much of it, and which: common to all maskers.

A masker puts the *units* of a text, its words or its tokens, in an order; the first of them are hidden, as many as the
budget says. So all maskers hide equally many of the same text, and differ in nothing but the order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import torch
from torch import Tensor

from trivium.errors import ConfigError
from trivium.kinds import Batch

Unit = Literal["word", "token"]


@dataclass(frozen=True)
class Units:
    """The units of each text of a batch, counted from 0 in each.

    Attributes:
        of: Which unit a token is part of, int64 ``[texts, length]``; -1 where nothing may be hidden.
        count: How many units each text has, int64 ``[texts]``.
    """

    of: Tensor
    count: Tensor

    @classmethod
    def in_batch(cls, batch: Batch, unit: Unit = "word") -> Self:
        """The words of a batch, each with all its pieces, or its tokens; never padding or special tokens.

        >>> words = torch.tensor([[-1, 7, 7, 8, -1]])
        >>> Units.in_batch(Batch(words, words >= -1, words)).of.tolist()
        [[-1, 0, 0, 1, -1]]
        """
        begins = batch.maskable.clone()
        if unit == "word":
            begins[:, 1:] &= batch.words[:, 1:] != batch.words[:, :-1]
        number = begins.cumsum(1)
        return cls(torch.where(batch.maskable, number - 1, -1), number[:, -1])

    @cached_property
    def width(self) -> int:
        """Units of the text that has most, at least 1."""
        return max(1, int(self.count.max()))

    @cached_property
    def there(self) -> Tensor:
        """Where a text has a unit, bool ``[texts, width]``."""
        return torch.arange(self.width, device=self.count.device) < self.count[:, None]

    def spread(self, values: Tensor) -> Tensor:
        """Values of units given to their tokens: ``[texts, width, …]`` to ``[texts, length, …]``; 0 at the others."""
        text = torch.arange(len(self.of), device=self.of.device)[:, None]
        inside = (self.of >= 0).view(*self.of.shape, *[1] * (values.dim() - 2))
        return torch.where(inside, values[text, self.of.clamp(min=0)], values.new_zeros(()))

    def total(self, values: Tensor) -> Tensor:
        """Values of tokens summed over each unit: ``[texts, length, …]`` to ``[texts, width, …]``."""
        sums = values.new_zeros(len(self.of) * self.width + 1, *values.shape[2:])
        place = torch.where(self.of >= 0, self.of + self.width * torch.arange(len(self.of))[:, None].to(self.of), -1)
        sums.index_add_(0, place.flatten() % len(sums), values.flatten(0, 1))  # -1: the last, which is thrown away
        return sums[:-1].view(len(self.of), self.width, *values.shape[2:])

    @cached_property
    def pieces(self) -> Tensor:
        """Tokens of each unit, int64 ``[texts, width]``."""
        return self.total((self.of >= 0).long())

    def mean(self, values: Tensor) -> Tensor:
        """Values of tokens averaged over each unit: ``[texts, length, …]`` to ``[texts, width, …]``."""
        pieces = self.pieces.clamp(min=1)
        return self.total(values) / pieces.view(*pieces.shape, *[1] * (values.dim() - 2))


def budget(count: Tensor, rate: float, rng: torch.Generator) -> Tensor:
    """How many units to hide in each text: ``rate`` of them, rounded up or down by chance so that the mean is exact.

    Args:
        count: Units that may be hidden, int64 ``[texts]``.
        rate: Share to hide.
        rng: Source of the rounding.

    Returns:
        int64 ``[texts]``.
    """
    wanted = count * rate
    return (wanted + torch.rand(wanted.shape, generator=rng)).floor().long()


def hide(
    batch: Batch,
    rate: float,
    unit: Unit,
    rng: torch.Generator,
    order: Callable[[Units, torch.Generator], Tensor],
    groups: Callable[[Units], Tensor] | None = None,
) -> Tensor:
    """Choose the first units of each text, as many as the budget says. Every masker chooses through this.

    The budget is drawn before the order, and equals, wherever they stand, are put in order by chance: two maskers that
    are given the same batch and the same generator hide equally many units of each text.

    Args:
        batch: The texts, on the CPU.
        rate: Share of the units to hide.
        unit: What is hidden or shown as a whole.
        rng: Source of all chance.
        order: Gives every unit a number, float ``[texts, width]``; the highest are hidden.
        groups: Which units stand together where numbers are equal, int64 ``[texts, width]``, from 0 and below
            ``width``; none: each is alone.

    Returns:
        True where a token is to be predicted, bool ``[texts, length]``.
    """
    units = Units.in_batch(batch, unit)
    count = budget(units.count, rate, rng)
    chance = torch.rand(units.there.shape, generator=rng)
    if groups is not None:
        chance = chance.gather(1, groups(units))
    shuffled = chance.argsort(dim=1, stable=True)
    numbers = order(units, rng).masked_fill(~units.there, -torch.inf).gather(1, shuffled)
    best = shuffled.gather(1, numbers.argsort(dim=1, descending=True, stable=True))
    chosen = torch.zeros_like(units.there)
    chosen.scatter_(1, best, torch.arange(units.width) < count[:, None])
    return units.spread(chosen & units.there)


def gumbel(shape: torch.Size, rng: torch.Generator) -> Tensor:
    """Noise that turns an order by log-weights into draws without replacement by weight (Plackett and Luce).

    Source: Kool et al. 2019, Stochastic Beams and Where to Find Them, section 2.3.
    """
    return -torch.log(-torch.log(torch.rand(shape, generator=rng).clamp(min=1e-20)))


def check_rate(rate: float) -> None:
    """Refuse what is no share.

    Raises:
        ConfigError: it is not between 0 and 1.
    """
    if not 0 < rate < 1:
        raise ConfigError(f"masker.rate: expected a share between 0 and 1, found {rate}. BERT hides 0.15 of a text.")

"""Maskers that follow a rule. Each hides the same share of a text; they differ in which part."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trivium.errors import ConfigError
from trivium.kinds import Batch
from trivium.masking.units import Unit, Units, check_rate, from_the_left, hide


@dataclass(frozen=True)
class RandomTokens:
    """Hide tokens at random (BERT, Devlin et al. 2019, section 3.1), an exact share of every text.

    Attributes:
        rate: Share of the tokens to hide. 0.15 is BERT's; ModernBERT and other recent encoders take 0.3.
    """

    rate: float = 0.15

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def choose(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Return bool ``[texts, length]``."""
        return hide(batch, self.rate, "token", rng, _any_order)


@dataclass(frozen=True)
class WholeWord:
    """Hide whole words (BERT's whole-word release), an exact share of every text's words.

    A word is hidden with all its pieces, so that no piece gives its neighbours away.

    Attributes:
        rate: Share of the words to hide.
    """

    rate: float = 0.15

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def choose(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Return bool ``[texts, length]``: all pieces of the chosen words."""
        return hide(batch, self.rate, "word", rng, _any_order)


@dataclass(frozen=True)
class Spans:
    """Hide words that stand together (SpanBERT, Joshi et al. 2020, section 3.1).

    Spans begin anywhere, are as long as a geometric distribution says, and are taken until the budget is spent; the
    last is cut to fit. One that reaches into another adds what the other left.

    Attributes:
        rate: Share of the units to hide.
        unit: What spans are made of: ``word`` or ``token``.
        stop: Chance that a span ends after each unit; 0.2 makes spans of 3.8 words in the mean, clipped at ``longest``.
        longest: Most units of a span.
    """

    rate: float = 0.15
    unit: Unit = "word"
    stop: float = 0.2
    longest: int = 10

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if not 0 < self.stop <= 1 or self.longest < 1:
            raise ConfigError(
                f"masker: expected 'stop' above 0 and up to 1, and 'longest' from 1, found {self.stop} and "
                f"{self.longest}. SpanBERT has 0.2 and 10."
            )

    def choose(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Return bool ``[texts, length]``."""
        return hide(batch, self.rate, self.unit, rng, self._order)

    def _order(self, units: Units, rng: torch.Generator) -> Tensor:
        """Spans that begin at every unit, or before the first, get a random number; a unit has the highest of its."""
        texts, width = units.there.shape
        number = torch.rand(texts, width + self.longest - 1, generator=rng)
        length = torch.empty(number.shape).geometric_(self.stop, generator=rng)
        best = torch.zeros(texts, width)
        for back in range(self.longest):
            begin = self.longest - 1 - back
            reaches = torch.where(length > back, number, 0.0)[:, begin : begin + width]
            best = torch.maximum(best, reaches)
        return from_the_left(best)


def _any_order(units: Units, _rng: torch.Generator) -> Tensor:
    """All alike: chance decides."""
    return torch.zeros(units.there.shape)

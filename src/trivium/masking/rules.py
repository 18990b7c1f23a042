"""Maskers that follow a rule. Each hides the same share of a text; they differ in which part."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trivium.errors import ConfigError
from trivium.kinds import Batch
from trivium.masking.units import Unit, Units, check_rate, hide


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
    last is cut to fit. One that reaches into another adds what the other left. One that reaches over the end of the
    text goes on at its beginning, so that no place is favoured, however short the text.

    Attributes:
        rate: Share of the units to hide.
        unit: What spans are made of: ``word`` or ``token``.
        stop: Chance that a span ends after each unit, if it is not as long as it may be; 0.2 and ``longest`` 10 make
            spans of 3.8 units in the mean.
        longest: Most units of a span; longer ones are drawn again.
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
        """The span that begins at a unit gets a random number; a unit has the best of its spans', the first in front.

        ``[texts, width]``, float64.
        """
        number = torch.rand(units.there.shape, generator=rng).double()
        length = self._lengths(units.there.shape, rng)
        place, ring = torch.arange(units.width), units.count.clamp(min=1)[:, None]
        best = torch.zeros_like(number)
        for back in range(min(self.longest, units.width)):
            begin = (place - back) % ring
            reaches = length.gather(1, begin) > back
            best = torch.where(reaches, torch.maximum(best, number.gather(1, begin) - 1e-10 * back), best)
        return best

    def _lengths(self, shape: torch.Size, rng: torch.Generator) -> Tensor:
        """Lengths from 1 to ``longest``, a geometric distribution that is drawn again where it says more.

        It forgets: what is left of a draw after whole multiples of ``longest`` is distributed as such a redraw.
        """
        if self.stop == 1:
            return torch.ones(shape, dtype=torch.float64)
        drawn = torch.empty(shape, dtype=torch.float64).geometric_(self.stop, generator=rng)
        return (drawn - 1) % self.longest + 1


def _any_order(units: Units, _rng: torch.Generator) -> Tensor:
    """All alike: chance decides."""
    return torch.zeros(units.there.shape)

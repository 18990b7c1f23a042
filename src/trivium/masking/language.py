"""Maskers that ask a language model what it finds hard, or what there is for it to learn."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from trivium.encoders import Encoder
from trivium.kinds import Batch
from trivium.masking.asking import Asks, Gaps, InRounds, guesses, states, told
from trivium.masking.protocol import Known
from trivium.masking.scored import ScoredMasker
from trivium.masking.units import Units

_loss = partial(F.cross_entropy, reduction="none")


@dataclass(frozen=True)
class Entropy(InRounds):
    """Hide what a language model is least sure of: where the entropy of its guess is largest.

    The model guesses while the unit is hidden, so that it cannot read the answer off. Every unit is hidden once, in one
    of several rounds that a text is read in; a unit of several pieces is worth their mean.

    Source: entropy-aware masking (2026), which scores each token by the entropy of the model's own prediction.
    """

    seeded: ClassVar[bool] = True

    def fit(self, known: Known) -> ScoredMasker:
        """Ask the encoder that will be trained, as it is before."""
        return self.by(Unsure(known.models.language(), self.rounds))


@dataclass(frozen=True)
class ExcessLoss(InRounds):
    """Hide what a model could still learn: where its loss exceeds most that of a model which read the texts before.

    What is easy for both, and what is noise to both, has no excess.

    Source: Rho-1 (Lin et al. 2024, section 2.2), L_θ(x_i) - L_ref(x_i), which selects tokens of a causal model's loss;
    here with the loss of hidden units, and with the same model after filling random gaps in the texts as reference.
    """

    seeded: ClassVar[bool] = True

    def fit(self, known: Known) -> ScoredMasker:
        """Ask the encoder that will be trained, and the one that read the texts."""
        return self.by(Excess(known.models.language(), known.models.adapted(), self.rounds))


@dataclass(frozen=True, eq=False)
class Unsure(Asks):
    """The entropy of an encoder's guess at each unit, in nats.

    Attributes:
        encoder: Who guesses.
        rounds: Rounds in which the units of a text are hidden.
    """

    encoder: Encoder
    rounds: int

    def ask(self, batch: Batch, units: Units) -> Tensor:
        """Entropies, float32 ``[texts, width]``."""
        return _guessed(self.encoder, batch, units, self.rounds, _entropy)


@dataclass(frozen=True, eq=False)
class Excess(Asks):
    """By how much an encoder's loss at each unit exceeds that of another, in nats.

    Attributes:
        encoder: Whose loss.
        reference: What it is compared with.
        rounds: Rounds in which the units of a text are hidden; the same for both.
    """

    encoder: Encoder
    reference: Encoder
    rounds: int

    def ask(self, batch: Batch, units: Units) -> Tensor:
        """Differences of losses, float32 ``[texts, width]``."""
        own, other = (_guessed(one, batch, units, self.rounds, _loss) for one in (self.encoder, self.reference))
        return own - other


def _guessed(
    encoder: Encoder, batch: Batch, units: Units, rounds: int, of: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """What ``of`` says of logits and targets while a unit is hidden, the mean over its pieces, ``[texts, width]``."""

    def guess(gaps: Gaps) -> Tensor:
        return guesses(encoder, states(encoder, gaps.batch, gaps.ids), gaps, of)

    with torch.no_grad():
        return units.mean(told(encoder, batch, units, rounds, guess))


def _entropy(logits: Tensor, _targets: Tensor) -> Tensor:
    logs = logits.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)

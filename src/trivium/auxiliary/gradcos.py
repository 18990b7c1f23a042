"""Tasks whose gradients point where the task's does."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trivium import seeds
from trivium.auxiliary.choosers import Chooser
from trivium.auxiliary.projections import Projection, rated
from trivium.auxiliary.protocol import Bank, Rating
from trivium.core import Floats, Ints, Task
from trivium.encoders import Encoder
from trivium.encoders.streams import subset
from trivium.errors import ConfigError
from trivium.kinds import Encoded, kind_of
from trivium.masking.asking import at_rest, batches, encode, states

_DRAWS = 1000  # of the bootstrap
_FEW = Projection(2**14, seed=0)  # only spreads are computed in it, so one for everybody will do
_PIECE = 2**20
_WIDTH = 1.96  # standard errors to each end of an interval of 95 %


@dataclass(frozen=True)
class GradCos(Chooser):
    """A candidate is rated by the cosine of the gradient of its mean loss with that of the task.

    Gradients are with respect to all weights of the backbone that are learned, without dropout, at a checkpoint that
    learned the task and all candidates together. The cosine is the mean over seeds, with a t interval. With one seed,
    blocks of rows of both tasks are drawn with replacement: the interval reaches 1.96 standard deviations of the cosine
    to both sides.

    The interval says how far other rows, as many, would move the cosine, and not where that of all rows there could be
    lies. Where the gradients of rows nearly cancel, as after long training, their mean is mostly noise, and the cosine
    nearer to 0 than more rows would have it.

    Attributes:
        blocks: How many blocks rows are dealt to, with one seed. With few, the interval itself is left to chance.

    Source: the cosine of task gradients (Du et al. 2018, arXiv 1812.02224) at one checkpoint; to first order, what TAG
    (Fifty et al. 2021, section 4) finds by a step.
    """

    blocks: int = 16

    def __post_init__(self) -> None:
        """Refuse blocks that tell no spread."""
        super().__post_init__()
        if self.blocks < 2:
            raise ConfigError(f"blocks: expected at least 2, found {self.blocks}.")

    def rank(self, bank: Bank) -> list[Rating]:
        """The cosine of each candidate's gradient with the task's."""
        if len(bank.seeds) == 1:
            return self._compared(bank, bank.seeds[0], self.blocks)
        found = [self._compared(bank, seed, 1) for seed in bank.seeds]
        return [rated(one[0].name, [rating.score for rating in one]) for one in zip(*found, strict=True)]

    def _compared(self, bank: Bank, seed: int, blocks: int) -> list[Rating]:
        encoder, rng = bank.joint(seed), seeds.numpy_rng(bank.seed, "gradcos")
        own = Gradient.of(encoder, bank.sample(bank.task), blocks, rng)
        ratings = []
        for candidate in bank.candidates:
            other = Gradient.of(encoder, bank.sample(candidate), blocks, rng)
            cosine = own.cosine(other)
            reach = _WIDTH * float(own.resampled(other, rng).std())
            ratings.append(Rating(candidate.name, cosine, max(-1.0, cosine - reach), min(1.0, cosine + reach)))
        return ratings


@dataclass(frozen=True, eq=False)
class Gradient:
    """The gradient of the sum of a task's losses with respect to the backbone.

    Attributes:
        weights: For each tensor of weights.
        blocks: Those of blocks of rows, projected, float64 ``[blocks, dimensions]``; they add up to the whole.
    """

    weights: Sequence[Tensor]
    blocks: Floats

    @classmethod
    def of(cls, encoder: Encoder, task: Task, blocks: int, rng: np.random.Generator) -> "Gradient":
        """Over the training rows of a task, dealt to so many blocks; to fewer where there are fewer rows.

        Args:
            encoder: Has a head for the task.
            task: The task.
            blocks: How many.
            rng: Deals.
        """
        encoded = encode(encoder, task)
        named = learned(encoder)
        total = [torch.zeros_like(weight) for weight in named.values()]
        few = []
        for rows in np.array_split(rng.permutation(len(encoded)), min(blocks, len(encoded))):
            block = summed(encoder, task, subset(encoded, rows))
            total = [one + other for one, other in zip(total, block, strict=True)]
            images = [
                _FEW.of(name, torch.split(part.view(1, -1), _PIECE, 1)) for name, part in zip(named, block, strict=True)
            ]
            few.append(torch.cat(images).sum(0))
        return cls(total, torch.stack(few).double().cpu().numpy())

    def cosine(self, other: "Gradient") -> float:
        """With another, exact; 0 where there is no gradient."""
        length = (_inner(self.weights, self.weights) * _inner(other.weights, other.weights)) ** 0.5
        return _inner(self.weights, other.weights) / length if length > 0 else 0.0

    def resampled(self, other: "Gradient", rng: np.random.Generator) -> Floats:
        """Cosines of projected gradients where blocks of both are drawn with replacement, ``[draws]``."""
        mine, its = (rng.multinomial(n, np.full(n, 1 / n), _DRAWS) for n in (len(self.blocks), len(other.blocks)))

        def inner(one: Floats, a: Ints, two: Floats, b: Ints) -> Floats:
            products: Floats = ((a @ (one @ two.T)) * b).sum(1)
            return products

        lengths = inner(self.blocks, mine, self.blocks, mine) * inner(other.blocks, its, other.blocks, its)
        return inner(self.blocks, mine, other.blocks, its) / np.sqrt(np.maximum(lengths, np.finfo(float).tiny))


def learned(encoder: Encoder) -> dict[str, Tensor]:
    """The shared weights that training changes, by name."""
    return {name: weight for name, weight in encoder.backbone.named_parameters() if weight.requires_grad}


def summed(encoder: Encoder, task: Task, encoded: Encoded) -> list[Tensor]:
    """The gradient of the sum of some rows' losses, for each tensor of ``learned``."""
    kind, weights = kind_of(task), list(learned(encoder).values())
    total = [torch.zeros_like(weight) for weight in weights]
    with at_rest(encoder), torch.enable_grad():
        for _, batch in batches(encoder, encoded):
            logits = encoder.answer(task.name, states(encoder, batch), batch)
            loss = kind.loss(logits, batch, None).sum()
            for sum_, part in zip(total, torch.autograd.grad(loss, weights, materialize_grads=True), strict=True):
                sum_ += part
    return total


def _inner(one: Sequence[Tensor], two: Sequence[Tensor]) -> float:
    return sum(float((a * b).sum(dtype=torch.float64)) for a, b in zip(one, two, strict=True))

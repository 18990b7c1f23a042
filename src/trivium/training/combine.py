"""What becomes of an auxiliary task's gradient where it conflicts with that of the primary task.

Tasks take turns, a batch of one in each update (MT-DNN), so a conflict shows only if the primary task is asked as well:
in an auxiliary turn the loop computes the gradient of a batch of each. The rules are not symmetric as those of the
papers are, because one task is primary: its gradient is looked at, and not followed in that update. What is shared is
the backbone and the head that fills gaps; heads of tasks learn in their own turns, whatever the rule.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trivium.core import JSON
from trivium.encoders.encoder import Encoder
from trivium.training.parallel import World

Gradients = Sequence[Tensor | None]


@dataclass
class Meetings:
    """How the gradients of an auxiliary task met those of the primary task.

    Attributes:
        turns: In how many updates.
        conflicts: In how many of them their cosine was below 0.
        cosines: Sum of the cosines.
    """

    turns: int = 0
    conflicts: int = 0
    cosines: float = 0.0

    def add(self, cosine: float) -> None:
        """Count one more."""
        self.turns += 1
        self.conflicts += cosine < 0
        self.cosines += cosine

    def told(self) -> JSON:
        """How many, the share that conflicted, and the mean cosine; none of which is known before the first.

        >>> met = Meetings()
        >>> met.add(0.5), met.add(-0.25)
        (None, None)
        >>> met.told()
        {'turns': 2, 'share': 0.5, 'cosine': 0.125}
        """
        known = self.turns > 0
        return {
            "turns": self.turns,
            "share": self.conflicts / self.turns if known else None,
            "cosine": self.cosines / self.turns if known else None,
        }


def shared_weights(encoder: Encoder) -> list[nn.Parameter]:
    """The weights that tasks have in common, each once: all but those of the tasks' heads."""
    return [weight for name, weight in encoder.named_parameters() if not name.startswith("heads.")]


def combine(rule: str, weights: Sequence[nn.Parameter], primary: Gradients, world: World) -> float:
    """Change the gradients of an auxiliary task, in place, if they conflict with those of the primary task.

    Args:
        rule: A key of ``RULES``.
        weights: What the tasks share, with the gradients of the auxiliary task's whole batch.
        primary: The gradients of the primary task's, weight by weight; none is 0.
        world: The processes that train together: what the first finds is decided in all of them.

    Returns:
        The cosine of the two, over all weights together; 0 where one of them is 0.

    >>> weight = nn.Parameter(torch.zeros(2))
    >>> weight.grad = torch.tensor([-1.0, 1.0])
    >>> round(combine("pcgrad", [weight], [torch.tensor([2.0, 0.0])], World()), 4), weight.grad
    (-0.7071, tensor([0., 1.]))
    """
    own = [weight.grad for weight in weights]
    zero = torch.zeros((), dtype=torch.float64, device=weights[0].device)
    products = torch.stack([_dot(own, primary, zero), _dot(own, own, zero), _dot(primary, primary, zero)])
    both, ours, theirs = world.told(products).tolist()
    size = math.sqrt(ours * theirs)
    cosine = both / size if size > 0 else 0.0
    if cosine < 0:
        RULES[rule](weights, primary, both / theirs)
    return cosine


def _dot(one: Gradients, other: Gradients, zero: Tensor) -> Tensor:
    pairs = zip(one, other, strict=True)
    return sum(((a * b).sum(dtype=torch.float64) for a, b in pairs if a is not None and b is not None), zero)


def _rest(weights: Sequence[nn.Parameter], _primary: Gradients, _along: float) -> None:
    """Leave the shared weights as they are: without a gradient, neither momentum nor decay moves them.

    Source: Du et al. 2018, *Adapting Auxiliary Losses Using Gradient Similarity*, the unweighted version.
    """
    for weight in weights:
        weight.grad = None


def _project(weights: Sequence[nn.Parameter], primary: Gradients, along: float) -> None:
    """Take off what lies along the primary task's gradient, ``along`` times that gradient; the rest is orthogonal.

    Source: Yu et al. 2020, *Gradient Surgery for Multi-Task Learning*, algorithm 1, for the auxiliary task alone.
    """
    for weight, gradient in zip(weights, primary, strict=True):
        if gradient is not None:
            own = torch.zeros_like(gradient) if weight.grad is None else weight.grad
            weight.grad = own.sub_(gradient, alpha=along)


RULES: Mapping[str, Callable[[Sequence[nn.Parameter], Gradients, float], None]] = {"cosine": _rest, "pcgrad": _project}

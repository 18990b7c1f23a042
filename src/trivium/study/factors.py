"""What a grid of arms says of each of its factors: main effects, and whether they depend on each other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

Levels = Mapping[str, str]  # of a cell, by factor


@dataclass(frozen=True)
class Question:
    """A weighted sum of the scores of a grid's arms.

    Attributes:
        change: Of each factor that is asked about, its first level and the one that is looked at.
        weights: Of each arm; they add up to 0.
    """

    change: Mapping[str, tuple[str, str]]
    weights: Mapping[str, float]

    @property
    def name(self) -> str:
        """In short: one change, or several that may depend on each other."""
        return " × ".join(in_words(self.change))


def in_words(change: Mapping[str, Sequence[str]]) -> list[str]:
    """What is changed of each factor.

    >>> in_words({"masker": ("random", "nmg")})
    ['masker nmg instead of random']
    """
    return [f"{factor} {there} instead of {here}" for factor, (here, there) in change.items()]


def factor_questions(factors: Mapping[str, Sequence[str]], cells: Mapping[str, Levels]) -> list[Question]:
    """Every question that a full grid answers: main effects, then interactions of two factors, then of three.

    A main effect is what a level does in place of its factor's first, the mean over all combinations of the others. An
    interaction of two is by how much what one does differs where the other is changed too; of three, by how much that
    differs.

    Args:
        factors: The levels of each.
        cells: The level of each factor, by arm; all combinations.

    Source: Fisher 1935, "The Design of Experiments", chapter VI; levels beyond two are each measured against the first.

    >>> cells = {a + b: {"A": a, "B": b} for a in "ax" for b in "by"}
    >>> for question in factor_questions({"A": "ax", "B": "by"}, cells):
    ...     print(question.name, dict(question.weights))
    A x instead of a {'ab': -0.5, 'ay': -0.5, 'xb': 0.5, 'xy': 0.5}
    B y instead of b {'ab': -0.5, 'ay': 0.5, 'xb': -0.5, 'xy': 0.5}
    A x instead of a × B y instead of b {'ab': 1.0, 'ay': -1.0, 'xb': -1.0, 'xy': 1.0}
    """
    return [
        Question(change, _weights(change, cells))
        for many in range(1, len(factors) + 1)
        for some in combinations(factors, many)
        for change in _changes({name: factors[name] for name in some})
    ]


def _changes(factors: Mapping[str, Sequence[str]]) -> Iterator[dict[str, tuple[str, str]]]:
    """Every way to leave the first level of each factor."""
    firsts = {name: levels[0] for name, levels in factors.items()}
    for there in product(*(levels[1:] for levels in factors.values())):
        yield {name: (firsts[name], level) for name, level in zip(factors, there, strict=True)}


def _weights(change: Mapping[str, tuple[str, str]], cells: Mapping[str, Levels]) -> dict[str, float]:
    """The product of signs over the factors that change, shared among the combinations of those that do not."""
    signs = {}
    for arm, levels in cells.items():
        if all(levels[factor] in ends for factor, ends in change.items()):
            away = sum(levels[factor] == there for factor, (_, there) in change.items())
            signs[arm] = (-1) ** (len(change) - away)
    share = 2 ** len(change) / len(signs)
    return {arm: sign * share for arm, sign in signs.items()}

"""Choices that look at no gradient: what every method must beat."""

import math
from dataclasses import dataclass
from typing import ClassVar

from trivium import seeds
from trivium.auxiliary.choosers import Chooser, Decide
from trivium.auxiliary.protocol import Bank, Choice, Rating


@dataclass(frozen=True)
class AllTasks:
    """Learn all of them beside the task."""

    seeded: ClassVar[bool] = False

    def choose(self, bank: Bank) -> Choice:
        """Every candidate, in their order."""
        return Choice(bank.candidates, tuple(Rating(task.name, math.nan) for task in bank.candidates))


@dataclass(frozen=True)
class NoTasks:
    """Learn none of them: the task alone."""

    seeded: ClassVar[bool] = False

    def choose(self, bank: Bank) -> Choice:
        """Nothing."""
        return Choice((), tuple(Rating(task.name, math.nan) for task in bank.candidates))


@dataclass(frozen=True)
class RandomTasks(Chooser):
    """Learn some of them, drawn by chance; other ones with every seed."""

    seeded: ClassVar[bool] = True

    decide: Decide = "top"

    def rank(self, bank: Bank) -> list[Rating]:
        """Rate by chance."""
        rng = seeds.numpy_rng(bank.seed, "auxiliary", "random")
        return [Rating(task.name, float(rng.random())) for task in bank.candidates]


@dataclass(frozen=True)
class LargestTasks(Chooser):
    """Learn those with the most training rows."""

    decide: Decide = "top"

    def rank(self, bank: Bank) -> list[Rating]:
        """Rate by size."""
        return [Rating(task.name, float(len(task.rows("train")))) for task in bank.candidates]


@dataclass(frozen=True)
class Pairwise(Chooser):
    """Learn those beside which, one at a time, the task did at least as well as alone, on rows that were kept back.

    The dearest way, a training for every candidate and seed; what the others are estimates of. It also says which
    candidates do harm.
    """

    decide: Decide = "threshold"

    def rank(self, bank: Bank) -> list[Rating]:
        """Rate by the difference in the task's metric."""
        alone, *beside = bank.trials([{}, *({task.name: None} for task in bank.candidates)])
        return [Rating(task.name, one.value - alone.value) for task, one in zip(bank.candidates, beside, strict=True)]

"""A bandit over tasks: learn a little of one, and see whether the task got better."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.stats import beta

from trivium import seeds
from trivium.auxiliary.choosers import Chooser, Decide
from trivium.auxiliary.protocol import Bank, Rating
from trivium.core import Floats, Stage, Task
from trivium.encoders import Encoder
from trivium.encoders.encoder import torch_device
from trivium.errors import ConfigError
from trivium.kinds import Cut, kind_of
from trivium.masking import RandomTokens
from trivium.training.evaluation import answers, score
from trivium.training.loop import run_stage

_PRIOR = 1.0  # α and β of an arm of which nothing is known


@dataclass(frozen=True)
class AutoSem(Chooser):
    """Rate by what a bandit learned to expect of each candidate (AutoSeM, its first stage).

    The task and all candidates are arms. In a round one is drawn by Thompson sampling, a few updates are made on its
    rows, and it is rewarded if the task's metric on the rows that were kept back is no worse than a round before. One
    encoder goes on from round to round; only the optimiser starts afresh. A score is the utility, α / (α + β), of the
    posterior that the bandits of all seeds make together, with its interval.

    Candidates of high utility are chosen: those of at least ``threshold``. One half is what is expected of an arm that
    nothing is known of, so a candidate that is hardly ever drawn is chosen, too.

    Learning a candidate alone for a while makes the task's head forget, whatever the candidate: rewards tell more where
    ``updates`` are few. A metric that stands still is a reward, too.

    Source: Guo et al. 2019 (arXiv 1904.04153), stage 1; the mixing ratios of stage 2 are not learned.

    Attributes:
        rounds: How often an arm is drawn, by each seed.
        updates: Updates in a round.
        decay: γ, how much of what was learned fades in a round: rewards change while the encoder learns.
    """

    decide: Decide = "threshold"
    threshold: float = 0.5
    rounds: int = 40
    updates: int = 20
    decay: float = 0.3

    def __post_init__(self) -> None:
        """Refuse what cannot be played."""
        super().__post_init__()
        for name in ("rounds", "updates"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, found {getattr(self, name)}.")
        if not 0 <= self.decay < 1:
            raise ConfigError(f"decay: expected a share from 0 and below 1, found {self.decay}.")

    def rank(self, bank: Bank) -> list[Rating]:
        """The utility of each candidate."""
        bandits = [self._played(bank, seed) for seed in bank.seeds]
        wins, losses = (
            _PRIOR + np.sum([counts - _PRIOR for counts in told], axis=0)
            for told in ([one.wins for one in bandits], [one.losses for one in bandits])
        )
        utility = Bandit(wins, losses).utility
        low, high = beta.interval(0.95, wins, losses)
        return [
            Rating(one.name, float(utility[i]), float(low[i]), float(high[i]))
            for i, one in enumerate(bank.candidates, start=1)
        ]

    def _played(self, bank: Bank, seed: int) -> "Bandit":
        """The bandit after all rounds of one seed; its first arm is the task."""
        encoder = bank.language(seed).to(torch_device())
        stage = bank.stage(
            "finetune", updates=self.updates, warmup=0.0, patience=None, keep_best=False, reset_head=False
        )
        own = seeds.child(seed, "autosem")
        with seeds.torch_scope(own, "head"):
            encoder.add_head(bank.task)
        judged = judge(encoder, bank.task, stage)
        arms = [bank.sample(one) for one in (bank.task, *bank.candidates)]
        arms = [replace(one, tables={"train": one.rows("train")}) for one in arms]
        value, number = judged(), 0

        def reward(arm: int) -> bool:
            nonlocal value, number
            run_stage(encoder, stage, arms[arm], masker=RandomTokens(), seed=seeds.child(own, number))
            before, value, number = value, judged(), number + 1
            return value >= before

        rng = seeds.numpy_rng(own, "arms")
        return play(Bandit.fresh(len(arms)), self.rounds, self.decay, rng, reward)[0]


@dataclass(frozen=True)
class Bandit:
    """A Beta-Bernoulli bandit.

    Attributes:
        wins: α of each arm, ``[arms]``.
        losses: β of each arm, ``[arms]``.
    """

    wins: Floats
    losses: Floats

    @classmethod
    def fresh(cls, arms: int) -> Self:
        """One that knows nothing: every chance of a reward is as likely as any other."""
        return cls(np.full(arms, _PRIOR), np.full(arms, _PRIOR))

    @property
    def utility(self) -> Floats:
        """The chance of a reward that is expected of each arm, ``[arms]``."""
        return self.wins / (self.wins + self.losses)

    def draw(self, rng: np.random.Generator) -> int:
        """An arm, as often as it is likely to be the best (Thompson 1933)."""
        return int(np.argmax(rng.beta(self.wins, self.losses)))

    def told(self, arm: int, reward: bool, decay: float) -> Self:
        """What it knows after a round: all arms fade towards the prior, and then the one that was drawn learns.

        >>> after = Bandit.fresh(2).told(0, True, 0.5).told(1, False, 0.5)
        >>> after.wins.tolist(), after.losses.tolist()
        ([1.5, 1.0], [1.0, 2.0])
        """
        wins, losses = ((1 - decay) * counts + decay * _PRIOR for counts in (self.wins, self.losses))
        wins[arm] += reward
        losses[arm] += not reward
        return type(self)(wins, losses)


def play(
    bandit: Bandit, rounds: int, decay: float, rng: np.random.Generator, reward: Callable[[int], bool]
) -> tuple[Bandit, list[int]]:
    """Draw arms and learn from their rewards.

    Args:
        bandit: What is known before.
        rounds: How often.
        decay: How much of it fades in a round.
        rng: Of the draws.
        reward: Whether the arm that was drawn is rewarded.

    Returns:
        What is known after, and the arms in the order in which they were drawn.
    """
    arms = []
    for _ in range(rounds):
        arms.append(bandit.draw(rng))
        bandit = bandit.told(arms[-1], reward(arms[-1]), decay)
    return bandit, arms


def judge(encoder: Encoder, task: Task, stage: Stage) -> Callable[[], float]:
    """Something that says how well an encoder, as it is just then, does on the rows that were kept back.

    Where the metric is not defined, as a correlation of answers that are all the same, it says -inf.
    """
    rows, cut = task.rows("dev"), Cut(stage.max_length, stage.long_text, stage.stride)
    encoded = kind_of(task).encode(encoder.tokenizer, rows, task.labels, cut)

    def value() -> float:
        predicted, sure, _ = answers(encoder, task, encoded, rows)
        return score(task, "dev", predicted, sure).values.get(task.metric, -math.inf)

    return value

"""How a policy gets better from what its draws were credited with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trivium import seeds
from trivium.errors import TrainingError
from trivium.masking.policy import entropy, fresh_policy, log_probabilities
from trivium.nmg.replay import Draws, chances, remember
from trivium.nmg.settings import NMG

_FURTHEST = 10.0  # of a log-ratio: what is further off is infinite for float32 soon
Look = Callable[[Tensor], tuple[Tensor, Tensor]]  # windows [n] to features [n, width, features] and where units are


@dataclass
class Learner:
    """A policy on its way.

    Attributes:
        settings: How it learns.
        policy: What learns.
        optimizer: Its optimiser.
        memory: Draws that are kept.
        name: Which of several learners it is.
    """

    settings: NMG
    policy: torch.nn.Module
    optimizer: torch.optim.Optimizer
    memory: Draws | None
    name: str

    @classmethod
    def fresh(cls, settings: NMG, features: int, seed: int, name: str) -> "Learner":
        """One that knows nothing."""
        policy = fresh_policy(settings.policy, features, seed, "nmg", "policy", name)
        optimizer = torch.optim.AdamW(policy.parameters(), settings.lr, eps=1e-8, weight_decay=0.0)
        return cls(settings, policy, optimizer, None, name)

    def learn(self, new: Sequence[Draws], look: Look, seed: int, episode: str) -> dict[str, float]:
        """Take the draws of an episode into memory, and make some steps.

        Returns:
            Means over the steps of ``loss``, ``entropy`` and ``ratio``; nothing while there are too few draws.

        Raises:
            TrainingError: the loss is no number any more.
        """
        own = self.settings
        self.memory = remember(self.memory, Draws.together(list(new)), own.memory, own.memory_contexts)
        if len(self.memory) < max(1, own.memory_start):
            return {}
        told = []
        for step in range(own.steps):
            lines, weights = self._batch(self.memory, seeds.torch_rng(seed, "nmg", "replay", self.name, episode, step))
            told.append(self._step(self.memory, lines, weights, look, f"episode {episode}, step {step + 1}"))
        return {name: sum(one[name] for one in told) / len(told) for name in told[0]}

    def _batch(self, draws: Draws, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Lines to learn from, and how much each of their draws counts, ``[lines, most]``."""
        likely = chances(draws, self.settings.priority)
        if self.settings.batch is None:
            weights = (likely > 0).float()
        else:
            many = min(self.settings.batch, int((likely > 0).sum()))
            picked = torch.multinomial(likely.flatten().double(), many, generator=rng)
            weights = torch.zeros(likely.numel()).index_fill(0, picked, 1.0).view_as(likely)
        lines = weights.any(1).nonzero().squeeze(1)
        return lines, weights[lines]

    def _step(self, memory: Draws, lines: Tensor, weights: Tensor, look: Look, when: str) -> dict[str, float]:
        own, draws = self.settings, memory.lines(lines)
        logits, values = self.policy(*look(draws.windows))
        logs = log_probabilities(logits, draws.picks, sequential=own.sequential)
        expected = values.detach()[:, None] if own.critic else 0.0
        advantage = (draws.rewards - expected).nan_to_num()
        ratio = (logs - draws.logs).clamp(max=_FURTHEST).exp()
        weights = weights * draws.trust
        gain = ratio * advantage
        if own.clip is not None:
            gain = torch.minimum(gain, ratio.clamp(1 - own.clip, 1 + own.clip) * advantage)
        undecided = entropy(logits).mean()
        loss = -_mean(gain, weights) - own.entropy * undecided
        if own.critic:
            loss = loss + 0.25 * _mean((draws.rewards.nan_to_num() - values[:, None]) ** 2, weights)
        if not loss.isfinite():
            raise TrainingError(
                f"nmg: the loss of the {self.name} policy is no number any more in {when} (learning rate "
                f"{own.lr:g}). Lower 'lr', or set 'clip'."
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
        self.optimizer.step()
        memory.values[lines] = values.detach()
        return {"loss": loss.item(), "entropy": undecided.item(), "ratio": _mean(ratio.detach(), weights).item()}


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)

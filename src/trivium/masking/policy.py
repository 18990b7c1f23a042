"""A policy: a small network that says, from features of a text's units, how much each is worth hiding.

Two are here: the network of NMG, an attention block over an encoder's states, and a linear one over a few features of
words that can be read. Both also estimate what a text is worth on the whole (the critic). How they learn stands in
``nmg``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trivium import seeds
from trivium.core import JSON
from trivium.kinds import Batch
from trivium.masking.memory import Memory
from trivium.masking.scored import ScoredMasker, class_name, class_named
from trivium.masking.units import Units

PolicyKind = Literal["linear", "neural"]
_HIDDEN = 128  # width of the paper's heads


class Policy(Protocol):
    """What learns. A torch module."""

    def __call__(self, features: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Worth of units and of texts.

        Args:
            features: ``[texts, width, features]``, any number where there is no unit.
            there: Where a text has a unit, bool ``[texts, width]``.

        Returns:
            Logits of hiding each unit, ``[texts, width]``, -inf where there is none; value of each text, ``[texts]``.
        """
        ...


class LinearPolicy(nn.Module):
    """A weight for each feature: few enough to be learned from few episodes, and to be read.

    All weights begin at 0: it begins as random masking.
    """

    def __init__(self, features: int, rng: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features))
        self.critic = nn.Linear(features, 1)
        nn.init.zeros_(self.critic.weight), nn.init.zeros_(self.critic.bias)

    def forward(self, features: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Worth of units and of texts; see ``Policy``."""
        return _logits(features @ self.weight, there), self.critic(_mean(features, there)).squeeze(-1)


class NeuralPolicy(nn.Module):
    """NMG's network (Kang et al. 2020): attention over an encoder's states, then a head of 128 GELU units.

    The attention block is BERT's, with residual and layer norm and no dropout; the critic has a head of its own over
    the mean state. Weights are drawn from N(0, 0.02). An attention head is 64 wide, as in BERT.
    """

    def __init__(self, features: int, rng: torch.Generator) -> None:
        super().__init__()
        heads = max(n for n in range(1, max(1, features // 64) + 1) if features % n == 0)
        self.attention = nn.MultiheadAttention(features, heads, batch_first=True)
        self.norm = nn.LayerNorm(features)
        self.actor = nn.Sequential(nn.Linear(features, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, 1))
        self.critic = nn.Sequential(nn.Linear(features, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, 1))
        for name, weight in self.named_parameters():
            if not name.startswith("norm"):
                nn.init.normal_(weight, std=0.02, generator=rng) if weight.dim() > 1 else nn.init.zeros_(weight)

    def forward(self, features: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Worth of units and of texts; see ``Policy``."""
        safe = torch.where(there[..., None], features, 0.0)
        alone = there.clone()
        alone[:, 0] = True  # a text without a unit attends to nothing rather than to none
        mixed, _ = self.attention(safe, safe, safe, key_padding_mask=~alone, need_weights=False)
        states = self.norm(safe + mixed)
        return _logits(self.actor(states).squeeze(-1), there), self.critic(_mean(features, there)).squeeze(-1)


POLICIES: dict[str, Any] = {"linear": LinearPolicy, "neural": NeuralPolicy}


def fresh_policy(kind: PolicyKind, features: int, seed: int, *names: str) -> Any:
    """A policy that knows nothing; its weights are a function of the seed and the names."""
    with seeds.torch_scope(seed, *names):
        return POLICIES[kind](features, seeds.torch_rng(seed, *names, "weights"))


def _logits(values: Tensor, there: Tensor) -> Tensor:
    return values.masked_fill(~there, -torch.inf)


def _mean(features: Tensor, there: Tensor) -> Tensor:
    inside = there[..., None]
    return torch.where(inside, features, 0.0).sum(1) / there.sum(1, keepdim=True).clamp(min=1)


def take(logits: Tensor, count: Tensor, noise: Tensor | None = None) -> Tensor:
    """Draw units without replacement, by the exponential of their logits; without noise, take the highest.

    Args:
        logits: ``[texts, width]``, -inf where there is no unit.
        count: How many to take of each text, int64 ``[texts]``, at most as many as there are.
        noise: Gumbel noise, ``[texts, width]``; the same noise and the same logits give the same units.

    Returns:
        The units in the order in which they were drawn, int64 ``[texts, most]``, -1 where a text has no more.

    >>> take(torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([2])).tolist()
    [[1, 2]]
    """
    order = (logits if noise is None else logits + noise).argsort(dim=1, descending=True, stable=True)
    most = max(1, int(count.max())) if len(count) else 1
    return torch.where(torch.arange(most) < count[:, None], order[:, :most], -1)


def log_probabilities(logits: Tensor, picks: Tensor, *, sequential: bool = True) -> Tensor:
    """Log-probability of each draw.

    Args:
        logits: ``[texts, width]``, -inf where there is no unit.
        picks: What was drawn, in order, int64 ``[texts, most]``; -1 where there is no more.
        sequential: Given those that were drawn before (Plackett and Luce), so that their sum is the log-probability of
            the whole draw; otherwise each as if it were the first, as NMG's code has it.

    Returns:
        float32 ``[texts, most]``; 0 where there is no draw.

    >>> log_probabilities(torch.zeros(1, 4), torch.tensor([[2, 0]])).exp().tolist()  # doctest: +ELLIPSIS
    [[0.25, 0.333...]]
    """
    drawn = picks >= 0
    place = picks.clamp(min=0)
    chosen = logits.gather(1, place)
    if sequential:
        gone = torch.zeros(*picks.shape, logits.shape[1], dtype=torch.bool, device=logits.device)
        gone[:, 1:].scatter_(2, place[:, :-1, None], drawn[:, :-1, None])
        left = logits[:, None, :].masked_fill(gone.cumsum(1) > 0, -torch.inf)
        total = torch.where(drawn[..., None], left, 0.0).logsumexp(-1)  # 0: no nan where nothing is left to draw
    else:
        total = torch.where(drawn.any(1, keepdim=True), logits, 0.0).logsumexp(-1, keepdim=True)
    return torch.where(drawn, torch.where(drawn, chosen, 0.0) - total, 0.0)


def entropy(logits: Tensor) -> Tensor:
    """How undecided a policy is about each text: 1 where all units are alike, 0 where one is certain; ``[texts]``."""
    logs = F.log_softmax(torch.where(logits.isneginf().all(1, keepdim=True), 0.0, logits), -1)
    spread = -(logs.exp() * torch.where(logs.isneginf(), 0.0, logs)).sum(-1)  # 0 · -inf would have no gradient
    return spread / (~logits.isneginf()).sum(-1).clamp(min=2).log()


class Features(Protocol):
    """What a policy looks at."""

    @property
    def names(self) -> Sequence[str]:
        """What the features are called."""
        ...

    def of(self, batch: Batch, units: Units) -> Tensor:
        """Features of each unit, float32 ``[texts, width, features]``; of a text the same in whatever batch."""
        ...

    def save(self, folder: Path) -> JSON:
        """Write what is large into the folder; return the rest."""
        ...

    @classmethod
    def load(cls, folder: Path, about: JSON) -> Self:
        """Read what ``save`` wrote and returned."""
        ...


@dataclass(frozen=True)
class PolicyScorer:
    """A policy that has learned, with what it looks at.

    Attributes:
        kind: ``linear``, over features of words, or ``neural``, over an encoder's states.
        policy: The network.
        features: What it looks at.
    """

    kind: PolicyKind
    policy: Any
    features: Features
    memory: Memory = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", Memory(self._ask))

    def scores(self, batch: Batch, units: Units) -> Tensor:
        """The policy's logits, float32 ``[texts, width]``."""
        return self.memory.scores(batch, units)

    def _ask(self, batch: Batch, units: Units) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.policy(self.features.of(batch, units), units.there)[0]
        return logits

    def save(self, folder: Path) -> JSON:
        """Write ``policy.safetensors`` and ``features/``."""
        weights = {name: value.detach().cpu().contiguous() for name, value in self.policy.state_dict().items()}
        save_file(weights, folder / "policy.safetensors")
        (folder / "features").mkdir()
        return {
            "kind": self.kind,
            "width": len(self.features.names),
            "features": class_name(self.features),
            "settings": self.features.save(folder / "features"),
        }

    @classmethod
    def load(cls, folder: Path, about: JSON) -> Self:
        """Read what ``save`` wrote and returned."""
        policy = fresh_policy(about["kind"], about["width"], 0)
        policy.load_state_dict(load_file(folder / "policy.safetensors"))
        features = class_named(about["features"]).load(folder / "features", about["settings"])
        return cls(about["kind"], policy.eval(), features)

    @property
    def weights(self) -> dict[str, float]:
        """What a linear policy holds of each feature, the largest first; empty of another."""
        if not isinstance(self.policy, LinearPolicy):
            return {}
        values = dict(zip(self.features.names, self.policy.weight.tolist(), strict=True))
        return dict(sorted(values.items(), key=lambda item: -abs(item[1])))


@dataclass(frozen=True)
class PolicyMasker(ScoredMasker):
    """A masker that has learned what to hide.

    ``choose`` draws by the policy, or takes its favourites at ``temperature=0``; ``drawn`` gives the other.
    """

    scorer: PolicyScorer

    def drawn(self, temperature: float) -> Self:
        """The same policy, with units drawn at another temperature; 0 takes its favourites."""
        return replace(self, draw=replace(self.draw, temperature=temperature))

    @property
    def verdict(self) -> JSON:
        """What fresh episodes said of the policy beside random masking; see ``trivium.nmg.learn_masker``."""
        return self.about["verdict"]

    @property
    def weights(self) -> dict[str, float]:
        """What a linear policy holds of each feature: logits per standard deviation, the largest first; else empty."""
        return self.scorer.weights

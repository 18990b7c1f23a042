"""Draws that a policy learns from, of this episode or of earlier ones too."""

from dataclasses import dataclass, fields
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """What was hidden in some texts, and what it was credited with. A line is one text, hidden in one way.

    Attributes:
        windows: Which text, int64 ``[lines]``.
        picks: The units in the order in which they were drawn, int64 ``[lines, most]``; -1 where there is no more.
        logs: Log-probability of each draw when it was made, float32 likewise.
        rewards: What it is credited with, float32 likewise; nan where nothing.
        values: What the critic expected of the text, float32 ``[lines]``.
        seldom: 1 / √(how often the text has the unit's token), float32 ``[lines, most]``.
        trust: How much a draw counts, float32 likewise: 1 if the policy itself made it; of one that was made in another
            way, how likely it is by the policy over how likely it was, at most 1. What the policy would not do teaches
            it little, and pushing it further down would know no end.
    """

    windows: Tensor
    picks: Tensor
    logs: Tensor
    rewards: Tensor
    values: Tensor
    seldom: Tensor
    trust: Tensor

    @property
    def credited(self) -> Tensor:
        """Which draws are learned from, bool ``[lines, most]``."""
        return ~self.rewards.isnan()

    def __len__(self) -> int:
        """How many draws are learned from."""
        return int(self.credited.sum())

    def lines(self, which: Tensor) -> Self:
        """Some of the lines."""
        return type(self)(*(getattr(self, f.name)[which] for f in fields(self)))

    @classmethod
    def together(cls, parts: "list[Draws]") -> "Draws":
        """Several, one after the other."""
        most = max(part.picks.shape[1] for part in parts)
        gap = {"picks": -1.0, "rewards": torch.nan}

        def wide(part: "Draws", name: str) -> Tensor:
            value: Tensor = getattr(part, name)
            return value if value.dim() == 1 else F.pad(value, (0, most - value.shape[1]), value=gap.get(name, 0.0))

        return cls(*(torch.cat([wide(part, f.name) for part in parts]) for f in fields(cls)))

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def remember(memory: Draws | None, new: Draws, most: int, contexts: int) -> Draws:
    """Add draws to memory, and let the oldest lines go until both limits hold.

    Args:
        memory: What is remembered, the oldest first.
        new: What is added.
        most: Most draws; 0 remembers nothing but what is new.
        contexts: Most different texts.
    """
    if memory is None or most == 0:
        return new
    both = Draws.together([memory, new])
    newest = both.credited.sum(1).flip(0).cumsum(0).flip(0)  # draws from this line on
    distinct = _distinct_from_the_end(both.windows)
    return both.lines((newest <= most) & (distinct <= contexts))


def _distinct_from_the_end(windows: Tensor) -> Tensor:
    """How many different texts there are from each line to the last, int64 ``[lines]``."""
    seen: set[int] = set()
    counts = []
    for window in reversed(windows.tolist()):
        seen.add(window)
        counts.append(len(seen))
    return torch.tensor(counts[::-1], dtype=torch.long)


def chances(draws: Draws, priority: str) -> Tensor:
    """How likely each draw is to be learned from next, not normalised, float32 ``[lines, most]``; 0 where it is not.

    ``advantage`` is the strategy A of NMG's code: the exponential of how far off the critic was, times how seldom the
    token is in its text.
    """
    if priority == "none":
        return draws.credited.float()
    off = (draws.rewards - draws.values[:, None]).abs().nan_to_num(nan=-torch.inf)
    weights = (off - off.max()).exp()
    return weights * draws.seldom * draws.credited

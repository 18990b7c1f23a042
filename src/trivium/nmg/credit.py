"""What each hidden unit is credited with: two ways to turn the outcomes of an episode into rewards.

``others`` measures each way to hide against the mean of the others of its episode (leave one out). ``rivals`` is NMG's
self-play: only what a rival did not hide is credited, with how the episode went against that rival.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trivium.nmg.episodes import Outcome
from trivium.nmg.settings import NMG


def compare(one: Outcome, other: Outcome, settings: NMG) -> float:
    """How much better the one did: the difference in log-likelihood, or the sign of that in the metric.

    Swapping the two flips the sign; equals give exactly 0.
    """
    if settings.reward == "sign":
        return float((one.value > other.value) - (one.value < other.value))
    return one.likelihood - other.likelihood


def against_others(outcomes: Sequence[Outcome], settings: NMG) -> list[float]:
    """Of each way, the mean of how it compares with every other way. They sum to 0."""
    many = len(outcomes)
    return [
        sum(compare(one, other, settings) for j, other in enumerate(outcomes) if j != i) / (many - 1)
        for i, one in enumerate(outcomes)
    ]


def against_rivals(picks: Tensor, hidden: Sequence[Tensor], rewards: Sequence[float]) -> Tensor:
    """What each draw of a player is credited with beside its rivals (NMG's code; section 1.5 of the specification).

    A unit that no rival hid gets the least of the rewards; one that some hid, the least of those against the others;
    one that all hid, none.

    Args:
        picks: The player's draws, int64 ``[texts, most]``; -1 where there is no more.
        hidden: What each rival hid, bool ``[texts, width]``.
        rewards: How the player did against each.

    Returns:
        float32 ``[texts, most]``; nan where nothing is credited.

    >>> picks = torch.tensor([[0, 1, 2, 3]])
    >>> opponent, chance = torch.tensor([[False, False, True, True]]), torch.tensor([[False, True, False, True]])
    >>> against_rivals(picks, [opponent, chance], [1.0, -1.0]).tolist()
    [[-1.0, 1.0, -1.0, nan]]
    """
    place = picks.clamp(min=0)
    each = [
        torch.where(theirs.gather(1, place), torch.inf, torch.tensor(reward))
        for theirs, reward in zip(hidden, rewards, strict=True)
    ]
    least = torch.stack(each).amin(0)
    return torch.where((picks >= 0) & least.isfinite(), least, torch.nan)

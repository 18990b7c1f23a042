"""When enough has been seen: intervals of how much better the policy did than chance."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from trivium.core import JSON

_LEVEL = 0.05
_FEWEST = 6  # differences that an interval may rest on


def interval(differences: Sequence[float], level: float = _LEVEL) -> tuple[float, float, float]:
    """Mean of paired differences, and the ends of its t interval.

    >>> [round(x, 2) for x in interval([1.0, 2.0, 3.0])]
    [2.0, -0.48, 4.48]
    """
    values = np.asarray(differences, np.float64)
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    reach = float(stats.t.ppf(1 - level / 2, len(values) - 1)) * error
    return mean, mean - reach, mean + reach


def settled(differences: Sequence[float], episodes: int, every: int) -> str | None:
    """Whether more episodes could still change the answer.

    The policy changes as it learns, so the later half of the episodes speaks. There is a look every so many episodes,
    and the level is shared among them (Bonferroni), since who looks often sees something by chance.

    Args:
        differences: Policy minus random, episode by episode.
        episodes: How many there are to be.
        every: Episodes between two looks.

    Returns:
        ``better`` or ``worse`` where the interval excludes 0; ``open`` where it does not, and not even a true
        difference at its further end would make it do so with the episodes that are left; none where it is worth going
        on.
    """
    half = differences[len(differences) // 2 :]
    left = episodes - len(differences)
    if len(half) < _FEWEST:
        return None
    level = _LEVEL / max(1, episodes // every)
    mean, low, high = interval(half, level)
    if low > 0 or high < 0:
        return "better" if mean > 0 else "worse"
    spread = float(np.std(half, ddof=1))
    later = max(1, (episodes + 1) // 2)  # episodes that the last look would rest on
    needed = float(stats.norm.ppf(1 - level / 2)) * spread / later**0.5
    best = (mean * len(half) + max(abs(low), abs(high)) * left) / (len(half) + left)
    return "open" if left > 0 and abs(best) < needed else None


def verdict_on(differences: Sequence[float]) -> JSON:
    """What fresh episodes say of the policy beside chance.

    Returns:
        ``delta``, ``low`` and ``high`` of the difference in log-likelihood, nats a row, with an interval of 95 %;
        ``verdict``: ``helped``, ``hurt`` or ``no evidence``; ``smallest_detectable``, the effect that so many episodes
        see in 80 of 100 cases; ``signal``, the mean over the standard deviation.
    """
    mean, low, high = interval(differences)
    spread = float(np.std(differences, ddof=1))
    many = len(differences)
    reach = stats.t.ppf(1 - _LEVEL / 2, many - 1) + stats.t.ppf(0.8, many - 1)
    return {
        "delta": mean,
        "low": low,
        "high": high,
        "verdict": "helped" if low > 0 else "hurt" if high < 0 else "no evidence",
        "smallest_detectable": float(reach) * spread / many**0.5,
        "signal": mean / spread if spread > 0 else 0.0,
        "episodes": many,
    }

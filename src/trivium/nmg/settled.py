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
    furthest = max(abs(mean * len(half) + end * left) / (len(half) + left) for end in (low, high))
    return "open" if left > 0 and furthest < needed else None


def verdict_on(differences: Sequence[float], rows: Sequence[Sequence[float]] = ()) -> JSON:
    """What fresh episodes say of the policy beside chance.

    The interval holds two kinds of chance: other episodes, and other rows to judge by. Their variances are added, so
    that what is both an episode's and a row's counts twice: the interval is rather too wide.

    Args:
        differences: Policy minus random in log-likelihood, of each episode.
        rows: The same of each row, ``[episodes, rows]``; the rows are the same for all episodes.

    Returns:
        ``delta``, ``low`` and ``high`` of the difference, nats a row, with an interval of 95 %; ``verdict``:
        ``helped``, ``hurt`` or ``no evidence``; ``smallest_detectable``, the effect that so many episodes and rows see
        in 80 of 100 cases; ``signal``, the mean over the standard deviation of episodes.
    """
    values = np.asarray(differences, np.float64)
    many, mean, spread = len(values), float(values.mean()), float(values.std(ddof=1))
    of_rows = np.asarray(rows, np.float64).mean(0) if len(rows) and len(rows[0]) > 1 else np.zeros(2)
    error = float(np.sqrt(spread**2 / many + of_rows.var(ddof=1) / len(of_rows)))
    reach, power = (float(stats.t.ppf(share, many - 1)) for share in (1 - _LEVEL / 2, 0.8))
    low, high = mean - reach * error, mean + reach * error
    return {
        "delta": mean,
        "low": low,
        "high": high,
        "verdict": "helped" if low > 0 else "hurt" if high < 0 else "no evidence",
        "smallest_detectable": (reach + power) * error,
        "signal": mean / spread if spread > 0 else 0.0,
        "episodes": many,
    }

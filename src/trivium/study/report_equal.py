"""Learning curves at equal tokens: what an arm had on dev by the time it had read as much as the others.

Equal updates are not equal reading. Here arms stand side by side where all of them had read the same number of tokens:
the fewest that any of them read in all. An arm is as good as its best look at dev so far, since that is whose weights
training would have kept.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean

from trivium.study.report_run import Run
from trivium.study.report_text import NOTHING, count, interval, number, points

STEPS = 60  # of a drawn curve

Looks = tuple[tuple[int, ...], tuple[float, ...]]  # tokens read at each look, and the best value by then


@dataclass(frozen=True)
class Point:
    """An arm's mean over seeds by some number of tokens, and its lowest and highest seed; fractions."""

    tokens: float
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class EqualTokens:
    """Arms by tokens read.

    Attributes:
        tokens: The most tokens that every arm and seed had read by a look at dev.
        rows: Of each arm: its name, mean and range there, and mean and tokens at its end.
        lines: Of each arm, its curve.
    """

    tokens: int
    rows: tuple[tuple[str, str, str, str, str], ...]
    lines: Mapping[str, tuple[Point, ...]]


def equal_tokens(run: Run) -> EqualTokens | None:
    """The arms by tokens read; none where fewer than two were looked at."""
    found = looks(run)
    if len(found) < 2:
        return None
    shared = min(tokens[-1] for seeds in found.values() for tokens, _ in seeds.values())
    return EqualTokens(
        tokens=shared,
        rows=tuple(_row(arm, seeds, shared) for arm, seeds in found.items()),
        lines={arm: tuple(_line(seeds)) for arm, seeds in found.items()},
    )


def looks(run: Run) -> dict[str, dict[int, Looks]]:
    """Of each arm and seed, its looks at dev."""
    seen: dict[str, dict[int, list[tuple[int, float]]]] = {}
    for event in run.events:
        tokens, value = number(event.get("tokens")), number(event.get("value"))
        if event.get("event") == "look" and tokens is not None and value is not None:
            seen.setdefault(event["arm"], {}).setdefault(event["seed"], []).append((int(tokens), value))
    return {
        arm: {seed: _best(sorted(mine)) for seed, mine in sorted(seeds.items())}
        for arm in run.verdict["arms"]
        if (seeds := seen.get(arm))
    }


def _best(mine: list[tuple[int, float]]) -> Looks:
    tokens, values = zip(*mine, strict=True)
    return tokens, tuple(accumulate(values, max))


def at(seeds: Mapping[int, Looks], tokens: float) -> Point | None:
    """An arm by so many tokens; none where one of its seeds had not been looked at.

    >>> at({0: ((10, 20), (0.5, 0.7)), 1: ((12,), (0.6,))}, 15)
    Point(tokens=15, mean=0.55, low=0.5, high=0.6)
    """
    places = [bisect_right(read, tokens) - 1 for read, _ in seeds.values()]
    if min(places) < 0:
        return None
    values = [best[place] for place, (_, best) in zip(places, seeds.values(), strict=True)]
    return Point(tokens, fmean(values), min(values), max(values))


def _row(arm: str, seeds: Mapping[int, Looks], tokens: int) -> tuple[str, str, str, str, str]:
    there, end = at(seeds, tokens), max(read[-1] for read, _ in seeds.values())
    last = at(seeds, end)
    assert last is not None  # every seed has a look by the last of all
    said = (points(there.mean), interval(there.low, there.high)) if there else (NOTHING, NOTHING)
    return arm, *said, points(last.mean), count(end)


def _line(seeds: Mapping[int, Looks]) -> list[Point]:
    """From where all seeds were looked at to the last look of all, in points of 100."""
    first, last = max(read[0] for read, _ in seeds.values()), max(read[-1] for read, _ in seeds.values())
    steps = [first + (last - first) * i / STEPS for i in range(STEPS + 1)] if last > first else [float(first)]
    return [point for point in (at(seeds, tokens) for tokens in steps) if point is not None]

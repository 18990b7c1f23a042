"""How often the verdict's interval is right: simulated studies whose truth is known.

Run ``python bench/verdict.py`` (minutes on two cores); it prints the tables of docs/design-notes.md.

A simulated test row has a label (four, from one row in two to one in twenty) and a difficulty that all models share.
Each arm has a taste in rows of its own, each trained model an ability that differs from seed to seed, in all and by
label. Two arms that are drawn alike have no true difference: an interval covers when it holds 0. Power is measured by
giving one of them an advantage of the size that the studies without it named as the smallest detectable.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import NamedTuple

import numpy as np

from trivium.kinds.metrics import Counts, Metric, accuracy, classification_counts, macro_f1
from trivium.seeds import numpy_rng
from trivium.study.statistics import ALPHA, bootstrap, resampled

SEEDS, ROWS = (1, 3, 5), (300, 2000)
NOISE = (0.0, 0.1, 0.3)  # sd of a seed's ability, in logits
METRICS: tuple[Metric, ...] = (accuracy, macro_f1)
SHARES = np.array([0.5, 0.3, 0.15, 0.05])  # of the labels
ABILITY, DIFFICULTY, TASTE = 1.0, 1.5, 0.5  # logits: mean of all models; sd over rows; sd over rows of an arm
REPLICATES = 150  # enough for an average over hundreds of studies


def chance(logits: Counts) -> Counts:
    return 1 / (1 + np.exp(-logits))


def abilities(rng: np.random.Generator, models: int, mean: float, noise: float) -> Counts:
    """Of each model with each label, ``[models, labels]``: most of the noise is common to all labels."""
    return mean + noise * (0.8 * rng.normal(size=(models, 1)) + 0.6 * rng.normal(size=(models, len(SHARES))))


def study(
    rng: np.random.Generator, seeds: int, rows: int, noise: float, advantage: float = 0.0
) -> tuple[Counts, Counts]:
    """The outcomes of two arms, each ``[seeds, rows, counts]``; the first is better by ``advantage`` logits."""
    better, worse = outcomes(rng, seeds, rows, noise, (ABILITY + advantage / 2, ABILITY - advantage / 2))
    return better, worse


def outcomes(
    rng: np.random.Generator, seeds: int, rows: int, noise: float, means: Sequence[float]
) -> tuple[Counts, ...]:
    """The outcomes of arms that are so able, on the same rows, each ``[seeds, rows, counts]``."""
    gold = rng.choice(len(SHARES), rows, p=SHARES)
    difficulty = DIFFICULTY * rng.normal(size=rows)
    arms = []
    for mean in means:
        logits = abilities(rng, seeds, mean, noise)[:, gold] - difficulty + TASTE * rng.normal(size=rows)
        right = rng.random((seeds, rows)) < chance(logits)
        said = np.where(right, gold, (gold + rng.integers(1, len(SHARES), (seeds, rows))) % len(SHARES))
        arms.append(np.stack([classification_counts(gold, model, len(SHARES)) for model in said]))
    return tuple(arms)


def expected(rng: np.random.Generator, metric: Metric, mean: float, noise: float) -> Counts:
    """The metric of models of a mean ability on endlessly many rows, ``[models]``."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    logits = abilities(rng, 2000, mean, noise)[..., None] + np.hypot(DIFFICULTY, TASTE) * nodes
    right = SHARES * (chance(logits) @ weights / weights.sum())
    wrong = SHARES - right
    said = (wrong.sum(-1, keepdims=True) - wrong) / (len(SHARES) - 1)
    return metric(np.concatenate([right, said, wrong], axis=-1))


def advantage_for(rng: np.random.Generator, metric: Metric, noise: float, difference: float) -> float:
    """How many logits of advantage make a difference in the metric."""
    grid = np.linspace(0, 6, 31)
    gained = [
        expected(rng, metric, ABILITY + a / 2, noise).mean() - expected(rng, metric, ABILITY - a / 2, noise).mean()
        for a in grid
    ]
    return float(np.interp(difference, gained, grid))


def covers_plainly(arms: tuple[Counts, Counts], metric: Metric, rng: np.random.Generator) -> bool:
    """Whether the plain percentile bootstrap over seeds and rows holds 0."""
    moved = resampled(arms, (1.0, -1.0), metric, rng, REPLICATES)
    drawn = rng.integers(len(moved), size=moved.shape)
    low, high = np.quantile(np.take_along_axis(moved, drawn, 0).mean(0), [ALPHA / 2, 1 - ALPHA / 2])
    return bool(low <= 0 <= high)


class Cell(NamedTuple):
    """Shares of studies, and medians over them in the metric's own unit."""

    plain: float  # the percentile bootstrap covers
    covered: float  # the verdict's interval covers
    half_width: float
    smallest: float
    called: float  # where the true difference is ``smallest``

    def coverage(self) -> str:
        """Both coverages in %."""
        return f"{100 * self.plain:.0f} → {100 * self.covered:.0f}"

    def power(self) -> str:
        """Sizes in points, and power in %."""
        return f"± {100 * self.half_width:.1f}; {100 * self.smallest:.1f}, {100 * self.called:.0f} %"


def cell(seeds: int, rows: int, noise: float, metric: Metric, repeats: int) -> Cell:
    rng = numpy_rng(0, "bench verdict", seeds, rows, int(1000 * noise), metric.__name__)
    plain, ours = [], []
    for _ in range(repeats):
        arms = study(rng, seeds, rows, noise)
        plain.append(covers_plainly(arms, metric, rng))
        ours.append(bootstrap(*arms, metric, rng, REPLICATES))
    smallest = float(np.median([effect.smallest_detectable() or 0 for effect in ours]))
    advantage = advantage_for(rng, metric, noise, smallest)
    planted = (study(rng, seeds, rows, noise, advantage) for _ in range(repeats))
    return Cell(
        plain=float(np.mean(plain)),
        covered=float(np.mean([effect.low <= 0 <= effect.high for effect in ours])),
        half_width=float(np.median([effect.half_width(ALPHA) for effect in ours])),
        smallest=smallest,
        called=float(np.mean([bootstrap(*arms, metric, rng, REPLICATES).low > 0 for arms in planted])),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=600, help="simulated studies for each number")
    repeats = parser.parse_args().repeats
    rows = list(product(METRICS, SEEDS, ROWS))
    with ProcessPoolExecutor(2) as pool:
        asked = {(r, noise): pool.submit(cell, r[1], r[2], noise, r[0], repeats) for r in rows for noise in NOISE}
    spreads = [expected(numpy_rng(0, "bench spread"), accuracy, ABILITY, noise).std() for noise in NOISE]
    heads = " | ".join(f"sd of a seed {100 * spread:.1f}" for spread in spreads)
    for title, say in (
        ("Coverage in %: plain percentile bootstrap → the verdict's interval", Cell.coverage),
        ("Half the interval; smallest detectable difference, in points, and how often it is called", Cell.power),
    ):
        print(f"\n{title} ({repeats} studies each)\n")
        print(f"| metric | seeds | rows | {heads} |\n|---|---|---|{'---|' * len(NOISE)}")
        for row in rows:
            cells = " | ".join(say(asked[row, noise].result()) for noise in NOISE)
            print(f"| {row[0].__name__} | {row[1]} | {row[2]} | {cells} |")


if __name__ == "__main__":
    main()

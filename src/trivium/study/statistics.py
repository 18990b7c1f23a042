"""How large the difference between arms is, and how sure one can be of it.

Two arms are trained with the same seeds and scored on the same test rows, so both kinds of chance are paired. Their
difference would come out otherwise for two reasons: other seeds train other models, and other test rows ask other
questions. With three or five seeds a plain bootstrap over seeds is much too sure of itself; here each kind of chance
has a standard error and a t-quantile of its own. ``bench/verdict.py`` makes the table of simulations behind that
choice, and docs/design-notes.md shows it. Which pairs are compared, and in what words the outcome is told, stands in
``verdict``.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtri, nctdtrinc, stdtrit

from trivium.core import Floats

if TYPE_CHECKING:  # a report needs no kinds, and with them torch
    from trivium.kinds.metrics import Counts, Metric

ALPHA = 0.05  # a difference is called when its p-value is below this
POWER = 0.8
MOST_SEEDS, MOST_TIMES = 1000, 100  # seeds, and times the rows, that anybody would be told of
SMALLEST_P = 1e-12  # below this a p-value is about the tail of a distribution, not about the arms
BLOCK = 2_000_000  # resampled rows drawn at a time: 16 MB, three times over


@dataclass(frozen=True)
class Effect:
    """A difference between two arms in one metric, with the two kinds of chance kept apart.

    The interval at level α reaches ``hypot(t_a · seed_se, t_b · row_se)`` to both sides, t_a and t_b being Student's
    quantiles at ``seeds - 1`` and ``differing - 1`` degrees of freedom. Banerjee (1960) showed that it covers at least
    often as it says, whatever the two variances are; where one of them is 0 it is the usual t-interval. Three seeds
    may agree by luck, so it never reaches less far than ``t_b · fixed_se``: one cannot know more about all models
    that the seeds might have made than about those they did make. The p-value is the level at which the interval
    touches 0, so the two cannot contradict each other.

    Attributes:
        delta: Mean over seeds of metric(arm) - metric(baseline), in the metric's own unit.
        seed_se: Standard error of ``delta`` over seeds, the rows being as they are; 0 if there is one seed.
        row_se: Standard error of ``delta`` over test rows, beyond what ``seed_se`` holds.
        fixed_se: Standard error of ``delta`` over test rows, the trained models being as they are.
        seeds: How many seeds were compared.
        differing: Test rows on which the arms differ with any seed. The others cannot tell them apart, and a handful
            of them is a handful of observations, however large the test set.
        deltas: What ``delta`` is the mean of, seed by seed.

    Source: Banerjee 1960, "Approximate confidence interval for linear functions of means of k populations when the
    population variances are not equal", Sankhyā 22.

    >>> effect = Effect(delta=0.05, seed_se=0.01, row_se=0.005, fixed_se=0.008, seeds=3, differing=200)
    >>> round(effect.low, 3), round(effect.high, 3), round(effect.p, 3)
    (0.006, 0.094, 0.039)
    """

    delta: float
    seed_se: float
    row_se: float
    fixed_se: float
    seeds: int
    differing: int
    deltas: tuple[float, ...] = ()

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.delta - self.half_width(ALPHA)

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.delta + self.half_width(ALPHA)

    @cached_property
    def p(self) -> float:
        """Two-sided p-value of there being no difference, not below 1e-12."""
        from scipy.optimize import brentq

        size = abs(self.delta)
        if size <= self.half_width(1.0):  # which is 0, or what rounding leaves of it
            return 1.0
        if size >= self.half_width(SMALLEST_P):
            return SMALLEST_P
        log_p = brentq(lambda at: self.half_width(float(np.exp(at))) - size, np.log(SMALLEST_P), 0.0, xtol=1e-12)
        return float(np.exp(log_p))

    def half_width(self, alpha: float) -> float:
        """How far the two-sided interval at level ``alpha`` reaches to either side."""
        return self._combined(*(-float(stdtrit(df, alpha / 2)) for df in self._df))

    def smallest_detectable(self, questions: int = 1, level: float = ALPHA) -> float | None:
        """The smallest true difference that such a study would have called in four of five cases.

        A standard error over few seeds is more often too small than too large; here its median is put right, so that
        this number is as often too large as too small.

        Args:
            questions: How many pairs the study compares. The level is divided by it (Bonferroni): a difference this
                large is then called under Holm's procedure too, however the other pairs turn out.
            level: Below which p-value a difference is called.

        Returns:
            In the metric's own unit; none if no row tells the arms apart, since nothing then tells how others would.
        """
        each = level / questions

        def reach(df: int) -> float:
            return float(nctdtrinc(df, 1 - POWER, -stdtrit(df, each / 2)) * np.sqrt(df / chdtri(df, 0.5)))

        smallest = self._combined(*map(reach, self._df))
        return smallest if smallest > 0 else None

    def at(self, seeds: int, rows: float = 1.0) -> "Effect":
        """What is to be expected of so many seeds in place of these, and of so many times the rows.

        More seeds shrink what is about seeds, more rows what is about rows.

        >>> effect = Effect(delta=0.05, seed_se=0.02, row_se=0.005, fixed_se=0.013, seeds=3, differing=200)
        >>> more = effect.at(12)
        >>> round(more.seed_se, 3), more.row_se, round(more.fixed_se, 3)
        (0.01, 0.005, 0.008)
        """
        share, row_se = self.seeds / seeds, min(self.row_se, self.fixed_se)
        own = self.fixed_se**2 - row_se**2  # of rows that one seed gets right and another wrong; in seed_se, too
        spread = max(self.seed_se**2 - own, 0.0) + min(self.seed_se**2, own) / rows
        return replace(
            self,
            seed_se=float(np.sqrt(spread * share)),
            row_se=float(self.row_se / np.sqrt(rows)),
            fixed_se=float(np.sqrt((row_se**2 + own * share) / rows)),
            seeds=seeds,
            differing=round(self.differing * rows),
            deltas=(),
        )

    def seeds_for(self, difference: float, questions: int = 1) -> int | None:
        """How many seeds a study like this one needs to call a true difference in four of five cases.

        Args:
            difference: The true difference, in the metric's own unit.
            questions: As in ``smallest_detectable``.

        Returns:
            None if it cannot be told from one seed, or if no number of seeds up to 1,000 is enough: the test rows are
            too few.
        """
        if self.seeds < 2:
            return None
        choices = range(2, MOST_SEEDS + 1)
        found = bisect_left(choices, True, key=lambda seeds: self.at(seeds)._sees(difference, questions))
        return choices[found] if found < len(choices) else None

    def rows_for(self, difference: float, questions: int = 1) -> float | None:
        """How many times the rows a study like this one needs instead, with the seeds that it has.

        Returns:
            To a tenth; none if not even 100 times as many are enough: seeds differ too much.
        """
        choices = range(1, 10 * MOST_TIMES + 1)
        found = bisect_left(
            choices, True, key=lambda tenths: self.at(self.seeds, tenths / 10)._sees(difference, questions)
        )
        return choices[found] / 10 if found < len(choices) else None

    def _sees(self, difference: float, questions: int) -> bool:
        smallest = self.smallest_detectable(questions)
        return smallest is not None and smallest <= difference

    @property
    def p_seeds(self) -> float | None:
        """Exact two-sided p-value over seeds alone: the sign of each seed's difference flipped in all ways.

        It assumes nothing of how differences are spread, and pays for it: of n seeds it is never below 2 / 2ⁿ, 0.25
        for three, 0.06 for five. None with one seed, and above 16, where t-quantiles need no help.

        >>> Effect(0.02, 0.006, 0.0, 0.0, 3, 100, deltas=(0.01, 0.02, 0.03)).p_seeds
        0.25
        """
        if not 1 < len(self.deltas) <= 16:
            return None
        sizes = np.array(self.deltas)
        signs = 1 - 2 * (np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes)) & 1)
        sums = np.abs(signs @ sizes)
        rounding = 1e-9 * np.abs(sizes).sum()
        return float(np.mean(sums >= np.abs(sizes.sum()) - rounding))

    def _combined(self, per_seed_se: float, per_row_se: float) -> float:
        reach = np.hypot(per_seed_se * self.seed_se, per_row_se * self.row_se)
        return float(max(reach, per_row_se * self.fixed_se))

    @property
    def _df(self) -> tuple[int, int]:
        return max(self.seeds - 1, 1), max(self.differing - 1, 1)


def bootstrap(
    arm: "Counts", baseline: "Counts", metric: "Metric", rng: np.random.Generator, replicates: int = 2000
) -> Effect:
    """Compare two arms that share seeds and test rows: the ``contrast`` of one minus the other.

    >>> from trivium.kinds.metrics import accuracy, classification_counts
    >>> from trivium.seeds import numpy_rng
    >>> gold = np.arange(200) % 2
    >>> wrong_on_20 = np.where(np.arange(200) < 20, 1 - gold, gold)
    >>> right, worse = (classification_counts(gold, said, 2)[None] for said in (gold, wrong_on_20))
    >>> effect = bootstrap(right, worse, accuracy, numpy_rng(0, "example"))
    >>> round(effect.delta, 2), effect.p < 0.001, effect.differing
    (0.1, True, 20)
    """
    return contrast((arm, baseline), (1.0, -1.0), metric, rng, replicates)


def contrast(
    arms: Sequence["Counts"],
    weights: Sequence[float],
    metric: "Metric",
    rng: np.random.Generator,
    replicates: int = 2000,
) -> Effect:
    """A weighted sum of the scores of arms that share seeds and test rows.

    Rows are resampled, the same for all arms and seeds. What the seeds' sums then do *together* is the chance of the
    rows. What each does on its own (a row that one seed gets wrong and another right) shows in their spread over seeds,
    and is counted there once. Seeds are not resampled: for a mean that has a closed form, which for three seeds is a
    third too small, so the unbiased variance stands in its place.

    Args:
        arms: Outcomes of each, ``[seeds, rows, counts]``. One may have one seed where others have several, if it is
            deterministic: it then stands beside every seed.
        weights: Of each; 1 and -1 compare two arms.
        metric: Function of counts that are summed over rows.
        rng: Draws the resamples. From the same state, swapped sides give exactly the opposite effect.
        replicates: How many resamples; 2000 know a standard error to about 1.6 %.

    Source: rows crossed with seeds as in Sellam et al. 2022, "The MultiBERTs", section 4; see ``Effect`` for what is
    done about few seeds.
    """
    seeds = max(map(len, arms))
    assert {len(arm) for arm in arms} <= {1, seeds}, f"seeds cannot be paired: {[len(arm) for arm in arms]}"
    assert len({arm.shape[1:] for arm in arms}) == 1, f"not the same rows: {[arm.shape for arm in arms]}"
    deltas = np.zeros(seeds)
    for arm, weight in zip(arms, weights, strict=True):
        deltas = deltas + weight * metric(arm.sum(1))
    covariance = np.atleast_2d(np.cov(resampled(arms, weights, metric, rng, replicates)))
    together = (covariance.sum() - covariance.trace()) / max(seeds * (seeds - 1), 1)  # by chance, it may be below 0
    fixed_se = float(np.sqrt(max(covariance.mean(), 0.0)))
    first, *others = arms
    return Effect(
        delta=float(deltas.mean()),
        seed_se=float(deltas.std(ddof=1) / np.sqrt(seeds)) if seeds > 1 else 0.0,
        row_se=float(np.sqrt(max(together, 0.0))) if seeds > 1 else fixed_se,
        fixed_se=fixed_se,
        seeds=seeds,
        differing=int(np.any([(first != arm).any(axis=(0, 2)) for arm in others], axis=0).sum()),
        deltas=tuple(deltas.tolist()),
    )


def resampled(
    arms: Sequence["Counts"],
    weights: Sequence[float],
    metric: "Metric",
    rng: np.random.Generator,
    replicates: int,
) -> Floats:
    """The weighted sum with every seed under every resample of the rows, ``[seeds, replicates]``."""
    models = np.concatenate(list(arms))
    rows = models.shape[1]
    counts = models.transpose(1, 0, 2).reshape(rows, -1)  # side by side, for one product of matrices
    block = max(1, BLOCK // rows)
    ends = np.cumsum([len(arm) for arm in arms])
    parts = []
    for begin in range(0, replicates, block):
        many = min(block, replicates - begin)
        drawn = rng.integers(rows, size=(many, rows)) + rows * np.arange(many)[:, None]
        shares = np.bincount(drawn.ravel(), minlength=many * rows).reshape(many, rows).astype(np.float64)
        values = metric((shares @ counts).reshape(many, len(models), -1)).T
        sums: Floats = np.zeros((1, many))
        for end, arm, weight in zip(ends, arms, weights, strict=True):
            sums = sums + weight * values[end - len(arm) : end]
        parts.append(sums)
    return np.concatenate(parts, axis=1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number (Holm 1979): the smallest times m, the next times m - 1, never decreasing.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted

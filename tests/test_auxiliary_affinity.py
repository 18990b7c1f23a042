"""Kendall's tau is scipy's, and intervals hold the truth about as often as they say."""

import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from trivium.auxiliary import affinity
from trivium.auxiliary.affinity import (
    AFFINITIES,
    Interval,
    Measure,
    bootstrap,
    combined,
    cosine,
    kendall,
    spearman,
    stability,
)
from trivium.core import Floats
from trivium.errors import DataError
from trivium.seeds import numpy_rng

every = pytest.mark.parametrize("measure", AFFINITIES.values(), ids=AFFINITIES)
of_order = pytest.mark.parametrize("measure", [kendall, spearman])

REFERENCES: dict[str, Callable[[Floats, Floats], float]] = {
    "kendall": lambda x, y: stats.kendalltau(x, y).statistic,
    "spearman": lambda x, y: stats.spearmanr(x, y).statistic,
    "cosine": lambda x, y: x @ y / np.sqrt((x @ x) * (y @ y)),
}

few_values = st.sampled_from([0.0, 1.0, 1.0, 2.0, -3.0])  # many ties, and rows that are constant
many_values = st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6)
whole = st.integers(-20, 20).map(float)


@st.composite
def pairs_of_matrices(draw: st.DrawFn, entries: st.SearchStrategy[float] | None = None) -> tuple[Floats, Floats]:
    """Two matrices with equally many columns."""
    columns = draw(st.integers(1, 12))
    entries = draw(st.sampled_from([few_values, many_values])) if entries is None else entries
    a, b = (draw(arrays(np.float64, (draw(st.integers(1, 4)), columns), elements=entries)) for _ in range(2))
    return a, b


def one_by_one(name: str, a: Floats, b: Floats) -> Floats:
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore")  # scipy warns of constant and of very short rows
        return np.array([[REFERENCES[name](x, y) for y in b] for x in a], np.float64)


@pytest.mark.parametrize("name", AFFINITIES)
@given(pairs_of_matrices())
@settings(max_examples=60, deadline=None)
def test_equals_scipy_one_by_one(name: str, matrices: tuple[Floats, Floats]) -> None:
    found = AFFINITIES[name](*matrices)  # type: ignore[index]
    assert_allclose(found, one_by_one(name, *matrices), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", AFFINITIES)
@pytest.mark.parametrize("heads", [16, 144, 384])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_scipy_on_as_many_heads_as_there_are(
    name: str, heads: int, dtype: type, rng: np.random.Generator
) -> None:
    a, b = rng.exponential(size=(3, heads)).astype(dtype), rng.exponential(size=(9, heads)).astype(dtype)
    a[1], b[2:4, : heads // 2], b[5] = a[1].round(), b[2:4, : heads // 2].round(1), 0
    expected = one_by_one(name, a.astype(np.float64), b.astype(np.float64))
    assert np.isnan(expected[:, 5]).all()
    assert np.isfinite(np.delete(expected, 5, axis=1)).all()
    assert_allclose(AFFINITIES[name](a, b), expected, rtol=0, atol=1e-12)  # type: ignore[index]


@every
def test_how_many_rows_are_compared_at_once_does_not_matter(
    measure: Measure, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = rng.integers(0, 9, (5, 20)).astype(np.float64), rng.integers(0, 9, (23, 20)).astype(np.float64)
    at_once = measure(a, b)
    for block in (1, 7, 22, 23):
        monkeypatch.setattr(affinity, "BLOCK", block)
        assert_allclose(measure(a, b), at_once, rtol=0, atol=1e-15)
        assert_allclose(measure(b, a), at_once.T, rtol=0, atol=1e-15)


@every
def test_as_many_rows_as_you_like_may_lie_on_disk(
    measure: Measure, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(affinity, "cores", lambda: 2)
    monkeypatch.setattr(affinity, "BLOCK", 256)
    kept = np.memmap(tmp_path / "rows", np.float32, "w+", shape=(16_384, 64))
    kept[:] = rng.random(kept.shape, np.float32)
    measure(kept[:2], kept[:2])  # what is loaded once does not count
    tracemalloc.start()
    found = measure(kept[:1], kept)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (1, 16_384)
    assert most < kept.size * 8 / 2  # not even half of what a copy of all would take


@every
@given(matrices=pairs_of_matrices(), data=st.data())
@settings(max_examples=30, deadline=None)
def test_neither_sides_nor_the_numbering_of_heads_matter(
    measure: Measure, matrices: tuple[Floats, Floats], data: st.DataObject
) -> None:
    a, b = matrices
    found = measure(a, b)
    moved = np.array(data.draw(st.permutations(range(a.shape[1]))))
    assert_allclose(measure(b, a), found.T, rtol=0, atol=1e-15)
    assert_allclose(measure(a[:, moved], b[:, moved]), found, rtol=0, atol=1e-14)
    assert np.nanmax(np.abs(found), initial=0) <= 1


@of_order
@given(matrices=pairs_of_matrices(whole))
@settings(max_examples=30, deadline=None)
def test_only_the_order_of_heads_matters(measure: Measure, matrices: tuple[Floats, Floats]) -> None:
    a, b = matrices
    found = measure(a, b)
    assert_array_equal(measure(a**3, 7 * b + 2), found)
    assert_allclose(measure(-a, b), -found, rtol=0, atol=1e-15)


def test_the_tau_of_a_row_with_itself_is_exactly_one(rng: np.random.Generator) -> None:
    rows = rng.integers(0, 30, (40, 144)).astype(np.float64)
    assert_array_equal(np.diag(kendall(rows, rows)), 1.0)
    assert_array_equal(np.diag(kendall(rows, -rows)), -1.0)


def test_the_cosine_does_not_depend_on_the_scale() -> None:
    row = np.array([[3.0, 4.0, 0.0]])
    for scale in (1e-300, 1e-160, 1.0, 1e160, 1e300):
        assert_allclose(cosine(scale * row, np.array([[1.0, 0, 0]])), 0.6, rtol=1e-15)


@every
def test_no_rows_give_no_affinities(measure: Measure) -> None:
    assert measure(np.zeros((0, 4)), np.ones((3, 4))).shape == (0, 3)
    assert measure(np.ones((3, 4)), np.zeros((0, 4))).shape == (3, 0)
    assert measure(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0, 0)


@every
def test_what_cannot_be_compared_is_refused(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = np.arange(12.0).reshape(3, 4)
    for a, b in ((fine, fine[:, :3]), (fine[0], fine), (fine, fine.reshape(3, 2, 2))):
        with pytest.raises(DataError, match="equally many heads"):
            measure(a, b)
    monkeypatch.setattr(affinity, "BLOCK", 2)
    for wrong in (np.nan, np.inf, -np.inf):
        broken = np.concatenate([fine, fine])
        broken[4, 1] = wrong
        for a, b in ((fine, broken), (broken, fine)):
            with pytest.raises(DataError, match="row 4 of 6: expected finite numbers"):
                measure(a, b)


# --- how sure one can be ---

LAYERS, HEADS = 4, 12


def layer_sum(matrix: Floats) -> Floats:
    return matrix / matrix.sum(-1, keepdims=True)


def rows_of(means: Floats, count: int, noise: float, rng: np.random.Generator) -> Floats:
    """Importance that is never negative, has such means up to a factor, and is larger for some rows than for others."""
    sizes = np.exp(0.5 * rng.standard_normal((count, 1, 1)))
    return means * sizes * np.exp(noise * rng.standard_normal((count, *means.shape)))


def tau_of(one: Floats, other: Floats) -> float:
    return float(kendall(layer_sum(one).reshape(1, -1), layer_sum(other).reshape(1, -1))[0, 0])


def related(like: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    one, own = rng.standard_normal((2, LAYERS, HEADS))
    return np.exp(0.5 * one), np.exp(0.5 * (like * one + np.sqrt(1 - like**2) * own))


def unrelated(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Two matrices of one layer whose tau is exactly 0: neighbours change places until as many pairs agree as not."""
    order = rng.permutation(LAYERS * HEADS).astype(np.float64)
    straight = np.arange(len(order), dtype=np.float64)
    tau = kendall(straight[None], order[None])[0, 0]
    pairs = len(order) * (len(order) - 1) // 2
    for _ in range(round(abs(tau) * pairs / 2)):
        at = rng.choice(np.flatnonzero((np.diff(order) < 0) == (tau < 0)))
        order[[at, at + 1]] = order[[at + 1, at]]
    assert kendall(straight[None], order[None])[0, 0] == 0
    return np.exp(straight[None] / 20), np.exp(order[None] / 20)


def covered(means: Callable[[np.random.Generator], tuple[Floats, Floats]], times: int, noise: float) -> Floats:
    """Of many pairs of tasks: how far the true tau lies from the measured one, in lengths of the interval's arm."""
    rng = numpy_rng(0, "coverage", means.__name__)
    found = []
    for _ in range(times):
        one, other = means(rng)
        rows = (rows_of(matrix, 150, noise, rng) for matrix in (one, other))
        interval = bootstrap(*rows, kendall, layer_sum, rng=rng, samples=60)
        found.append((tau_of(one, other) - interval.value) / (interval.high - interval.value))
    return np.abs(found)


def alike(rng: np.random.Generator) -> tuple[Floats, Floats]:
    return related(0.6, rng)


@pytest.mark.parametrize("means", [alike, unrelated])
def test_intervals_hold_the_true_tau_about_as_often_as_they_say(
    means: Callable[[np.random.Generator], tuple[Floats, Floats]],
) -> None:
    """Of 200 a binomial bound at 99.9 % around shares of 0.93 to 0.98; arms of half the length would not do."""
    times = 200
    off = covered(means, times, noise=0.5)
    assert stats.binom.ppf(0.001, times, 0.93) <= (off <= 1).sum() <= stats.binom.ppf(0.999, times, 0.98)
    assert (off <= 0.5).mean() < 0.85


def test_noise_alone_is_not_taken_for_affinity() -> None:
    """All heads matter alike, so whatever order the means of rows have is chance."""
    rng = numpy_rng(0, "noise")
    same = np.ones((LAYERS, HEADS))
    holds = 0
    for _ in range(100):
        rows = (rows_of(same, 100, 0.5, rng) for _ in range(2))
        low, high = bootstrap(*rows, kendall, layer_sum, rng=rng, samples=40)[1:]
        holds += low <= 0 <= high
    assert holds >= 95


def test_where_noise_pulls_tau_down_the_interval_reaches_up() -> None:
    """Percentiles of the resamples alone would lie below the measured value, which lies below the true one."""
    rng = numpy_rng(0, "pulled")
    one, _ = related(0.0, rng)
    interval = bootstrap(*(rows_of(one, 100, 0.7, rng) for _ in range(2)), kendall, layer_sum, rng=rng)
    assert interval.value < interval.high - 0.05
    assert interval.high == 1.0
    assert tau_of(one, one) == 1.0


@every
def test_the_value_is_that_of_the_normalised_means(measure: Measure, rng: np.random.Generator) -> None:
    one, other = (rows_of(matrix, 40, 0.5, rng) for matrix in related(0.5, rng))
    found = bootstrap(one.astype(np.float32), other, measure, layer_sum, rng=numpy_rng(0), samples=20)
    means = (layer_sum(rows.mean(0)).reshape(1, -1) for rows in (one.astype(np.float32), other))
    assert_allclose(found.value, measure(*means)[0, 0], atol=1e-6)
    assert found.low < found.value < found.high
    assert found == bootstrap(one.astype(np.float32), other, measure, layer_sum, rng=numpy_rng(0), samples=20)


def test_the_interval_shrinks_with_the_root_of_the_rows(rng: np.random.Generator) -> None:
    one, other = alike(rng)

    def width(count: int) -> float:
        rows = (rows_of(matrix, count, 0.5, rng) for matrix in (one, other))
        interval = bootstrap(*rows, spearman, layer_sum, rng=rng)
        return interval.high - interval.low

    assert 2.5 < width(200) / width(3200) < 6.5  # sixteen times as many rows: four times narrower


def test_how_many_weights_are_drawn_at_once_does_not_matter(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (rows_of(matrix, 30, 0.5, rng) for matrix in alike(rng))
    at_once = bootstrap(one, other, kendall, layer_sum, rng=numpy_rng(1), samples=21)
    monkeypatch.setattr(affinity, "DRAWN", 100)
    assert bootstrap(one, other, kendall, layer_sum, rng=numpy_rng(1), samples=21) == at_once


def test_there_is_no_interval_where_nothing_is_known(rng: np.random.Generator) -> None:
    rows, same = rows_of(alike(rng)[0], 9, 0.5, rng), np.ones((9, LAYERS, HEADS))
    assert np.isnan(bootstrap(rows, same, kendall, layer_sum, rng=rng)).all()
    alone = bootstrap(rows, rows[:1], kendall, layer_sum, rng=rng)
    assert np.isfinite(alone.value)
    assert np.isnan([alone.low, alone.high]).all()
    with pytest.raises(DataError, match="at least one row"):
        bootstrap(rows, rows[:0], kendall, layer_sum, rng=rng)
    with pytest.raises(DataError, match="equally many heads"):
        bootstrap(rows, rows[..., 1:], kendall, layer_sum, rng=rng)


def test_one_seed_has_the_interval_of_the_rows_alone() -> None:
    assert_allclose(combined([Interval(0.5, 0.4, 0.65)]), (0.5, 0.4, 0.65), rtol=1e-15)


def test_seeds_and_rows_add_their_variances() -> None:
    found = combined([Interval(0.10, 0.05, 0.20), Interval(0.20, 0.15, 0.30), Interval(0.30, 0.25, 0.40)])
    seeds_alone = 4.302653 * 0.1 / np.sqrt(3)  # Student's t with two degrees of freedom
    assert_allclose(found.value, 0.2)
    assert_allclose(found.low, 0.2 - np.hypot(seeds_alone, 0.05), rtol=1e-6)
    assert_allclose(found.high, 0.2 + np.hypot(seeds_alone, 0.10), rtol=1e-6)


def test_seeds_that_agree_leave_the_chance_of_rows() -> None:
    assert_allclose(combined([Interval(0.3, 0.2, 0.45)] * 5), (0.3, 0.2, 0.45))


def test_an_undefined_seed_leaves_nothing_to_say() -> None:
    assert np.isnan(combined([Interval(0.3, 0.2, 0.4), Interval(np.nan, np.nan, np.nan)])).all()


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("of_seeds", [0.0, 0.02, 0.1])
def test_the_combined_interval_holds_both_kinds_of_chance(count: int, of_seeds: float) -> None:
    """All seeds see the same rows, so that chance is shared; 600 times."""
    rng, times, of_rows = numpy_rng(0, "combined"), 600, 0.03
    holds = 0
    for _ in range(times):
        values = 0.3 + of_rows * rng.standard_normal() + of_seeds * rng.standard_normal(count)
        found = combined([Interval(v, v - 1.96 * of_rows, v + 1.96 * of_rows) for v in values])
        holds += found.low <= 0.3 <= found.high
    assert holds >= stats.binom.ppf(0.001, times, 0.95)


def test_seeds_that_agree_are_stable_and_chance_is_not(rng: np.random.Generator) -> None:
    scores = rng.random((1, 8)).repeat(4, axis=0) + np.arange(4.0)[:, None]
    agree = stability(scores)
    assert (agree.tau, agree.overlap) == (1.0, {1: 1.0, 2: 1.0, 3: 1.0})
    chance = stability(rng.random((200, 8)))
    assert abs(chance.tau) < 0.02
    assert_allclose(list(chance.overlap.values()), [1 / 8, 2 / 8, 3 / 8], atol=0.02)


def test_stability_by_hand() -> None:
    """Orders abc, acb, bac: of three pairs of places 1, 1 and 3 are exchanged between two of them."""
    found = stability(np.array([[3.0, 2, 1], [3, 1, 2], [2, 3, 1]]))
    assert_allclose(found.tau, (1 / 3 + 1 / 3 - 1 / 3) / 3)
    assert_allclose([found.overlap[1], found.overlap[2]], [1 / 3, (1 / 2 + 1 + 1 / 2) / 3])
    assert set(found.overlap) == {1, 2}  # the best three of three are always the same


def test_of_equal_candidates_the_earlier_is_better() -> None:
    assert stability(np.array([[1.0, 1.0, 0.0], [1.0, 0.5, 0.0]])).overlap == {1: 1.0, 2: 1.0}


def test_one_seed_has_nothing_to_agree_with() -> None:
    found = stability(np.array([[0.1, 0.2, 0.3]]))
    assert np.isnan([found.tau, *found.overlap.values()]).all()

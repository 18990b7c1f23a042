"""The difference of two arms: exact where theory is exact, and right as often as it says where it is not."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from trivium.kinds.metrics import CLASSIFICATION, Counts, accuracy, classification_counts, macro_f1
from trivium.study.statistics import ALPHA, Effect, bootstrap, contrast, holm

LABELS = 3


def answers(rng: np.random.Generator, seeds: int, rows: int, right: float, spread: float = 0.0) -> Counts:
    """The counts of models that are right about so often, ``[seeds, rows, counts]``; the truth is ``row % LABELS``."""
    gold = np.arange(rows) % LABELS
    share = np.clip(right + spread * rng.normal(size=(seeds, 1)), 0, 1)
    wrong = (gold + rng.integers(1, LABELS, (seeds, rows))) % LABELS
    said = np.where(rng.random((seeds, rows)) < share, gold, wrong)
    return np.stack([classification_counts(gold, model, LABELS) for model in said])


def marks(*models: str) -> Counts:
    """Counts of models whose answers are written as rows of ``+`` and ``-``."""
    gold = np.zeros(len(models[0]), np.int64)
    return np.stack([classification_counts(gold, np.array([sign == "-" for sign in m]) + 0, 2) for m in models])


effects = st.builds(
    Effect,
    delta=st.floats(-0.3, 0.3),
    seed_se=st.floats(0, 0.05),
    row_se=st.floats(0, 0.05),
    fixed_se=st.floats(0.001, 0.05),
    seeds=st.integers(1, 10),
    differing=st.integers(1, 5000),
)


@given(st.integers(0, 1000), st.integers(1, 4), st.sampled_from(sorted(CLASSIFICATION.keys() - {"f1"})))
@settings(max_examples=15, deadline=None)
def test_swapped_sides_give_exactly_the_opposite(seed: int, seeds: int, metric: str) -> None:
    rng = np.random.default_rng(seed)
    one, other = answers(rng, seeds, 60, 0.7), answers(rng, seeds, 60, 0.5)
    there = bootstrap(one, other, CLASSIFICATION[metric], np.random.default_rng(1), 200)
    back = bootstrap(other, one, CLASSIFICATION[metric], np.random.default_rng(1), 200)
    assert (there.delta, there.low, there.high, there.p) == (-back.delta, -back.high, -back.low, back.p)
    assert there.smallest_detectable() == back.smallest_detectable()


def test_the_same_stream_gives_the_same_effect(rng: np.random.Generator) -> None:
    one, other = answers(rng, 3, 60, 0.7), answers(rng, 3, 60, 0.5)
    first, again, elsewhere = (
        bootstrap(one, other, macro_f1, np.random.default_rng(stream), 200) for stream in (1, 1, 2)
    )
    assert first == again
    assert first.row_se != elsewhere.row_se or first.fixed_se != elsewhere.fixed_se


@pytest.mark.parametrize("seeds", [1, 3])
def test_an_arm_against_itself_is_no_difference(rng: np.random.Generator, seeds: int) -> None:
    arm = answers(rng, seeds, 80, 0.6)
    effect = bootstrap(arm, arm, macro_f1, rng, 100)
    assert (effect.delta, effect.low, effect.high, effect.p, effect.differing) == (0, 0, 0, 1, 0)
    assert effect.smallest_detectable() is None


def test_answers_that_are_wrong_in_different_ways_say_nothing_about_accuracy(rng: np.random.Generator) -> None:
    gold = np.zeros(50, np.int64)
    one, other = (classification_counts(gold, np.full(50, label), LABELS)[None] for label in (1, 2))
    effect = bootstrap(one, other, accuracy, rng, 100)
    assert (effect.p, effect.smallest_detectable()) == (1, None)


def test_over_rows_the_standard_error_is_that_of_a_mean(rng: np.random.Generator) -> None:
    one, other = answers(rng, 1, 500, 0.8), answers(rng, 1, 500, 0.7)
    moved = (one - other)[0, :, :LABELS].sum(1)  # true positives: 1, 0 or -1 a row
    effect = bootstrap(one, other, accuracy, rng)
    assert effect.delta == pytest.approx(moved.mean())
    assert effect.row_se == effect.fixed_se == pytest.approx(moved.std() / np.sqrt(500), rel=0.05)
    assert effect.seed_se == 0
    assert effect.p == pytest.approx(2 * stats.t.sf(abs(effect.delta) / effect.row_se, effect.differing - 1))


def test_over_seeds_it_is_the_t_test() -> None:
    differences = np.array([0.01, 0.03, 0.04, 0.02])
    effect = Effect(differences.mean(), differences.std(ddof=1) / 2, 0.0, 0.0, 4, 100)
    expected = stats.ttest_1samp(differences, 0)
    assert effect.p == pytest.approx(expected.pvalue)
    assert (effect.low, effect.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_delta_and_its_error_over_seeds_come_from_each_seed(rng: np.random.Generator) -> None:
    one, other = answers(rng, 4, 90, 0.7, 0.1), answers(rng, 4, 90, 0.6, 0.1)
    apart = [macro_f1(a.sum(0)) - macro_f1(b.sum(0)) for a, b in zip(one, other, strict=True)]
    effect = bootstrap(one, other, macro_f1, rng, 100)
    assert effect.delta == pytest.approx(np.mean(apart))
    assert effect.seed_se == pytest.approx(stats.sem(apart))


def test_copies_of_a_model_are_one_model(rng: np.random.Generator) -> None:
    one, other = answers(rng, 1, 200, 0.8), answers(rng, 1, 200, 0.7)
    alone = bootstrap(one, other, accuracy, np.random.default_rng(0))
    copies = bootstrap(one.repeat(3, 0), other.repeat(3, 0), accuracy, np.random.default_rng(0))
    assert copies.delta == pytest.approx(alone.delta)
    assert copies.seed_se == pytest.approx(0, abs=1e-12)
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high))


def test_a_deterministic_side_stands_beside_every_seed(rng: np.random.Generator) -> None:
    arm, fixed = answers(rng, 3, 80, 0.8, 0.1), answers(rng, 1, 80, 0.7)
    beside = bootstrap(arm, fixed, macro_f1, np.random.default_rng(0), 200)
    repeated = bootstrap(arm, fixed.repeat(3, 0), macro_f1, np.random.default_rng(0), 200)
    assert (beside.delta, beside.low, beside.high) == pytest.approx((repeated.delta, repeated.low, repeated.high))
    assert beside.seeds == 3


@pytest.mark.parametrize("wrong", [lambda a: a[:2], lambda a: a[:, :40]])
def test_what_cannot_be_paired_is_refused(rng: np.random.Generator, wrong: Callable[[Counts], Counts]) -> None:
    arm = answers(rng, 3, 80, 0.8)
    with pytest.raises(AssertionError, match=r"not the same rows|cannot be paired"):
        bootstrap(arm, wrong(arm), accuracy, rng)


def test_seeds_that_agree_by_luck_are_no_proof(rng: np.random.Generator) -> None:
    """Three seeds, each better by one row, but each by another row: their scores differ from one another by nothing."""
    effect = bootstrap(
        marks("+--" + "+" * 97, "-+-" + "+" * 97, "--+" + "+" * 97), marks("-" * 3 + "+" * 97), accuracy, rng
    )
    assert effect.seed_se == pytest.approx(0, abs=1e-12)
    assert effect.delta == pytest.approx(0.01)
    assert effect.p > ALPHA


def test_a_handful_of_rows_is_no_proof_however_large_the_test_set(rng: np.random.Generator) -> None:
    few = bootstrap(marks("+" * 5000), marks("-" * 4 + "+" * 4996), accuracy, rng, 500)
    more = bootstrap(marks("+" * 5000), marks("-" * 12 + "+" * 4988), accuracy, rng, 500)
    assert few.p > ALPHA > more.p


@given(effects)
@example(Effect(delta=2.0**-60, seed_se=0.0, row_se=2.0**-5, fixed_se=2.0**-5, seeds=1, differing=1))
@settings(max_examples=100, deadline=None)
def test_interval_and_p_cannot_contradict_each_other(effect: Effect) -> None:
    assert 0 < effect.p <= 1
    assert effect.low <= effect.delta <= effect.high
    if abs(effect.p - ALPHA) > 1e-9:
        assert (effect.p < ALPHA) == (effect.low > 0 or effect.high < 0)


@given(effects, st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_a_difference_that_would_have_been_seen_was_seen(effect: Effect, questions: int) -> None:
    """No sentence can say that there is no evidence, and that less than was measured would have been enough."""
    smallest = effect.smallest_detectable(questions)
    assert smallest is not None
    assert smallest >= effect.half_width(ALPHA / questions)
    assert (effect.smallest_detectable(questions + 1) or 0) > smallest
    if abs(effect.delta) > smallest:
        assert effect.p * questions < ALPHA


@pytest.mark.parametrize(("seeds", "questions"), [(3, 1), (5, 1), (5, 4), (10, 1)])
def test_the_smallest_detectable_is_seen_four_times_in_five(
    rng: np.random.Generator, seeds: int, questions: int
) -> None:
    def studies(difference: float) -> list[Effect]:
        drawn = difference + rng.normal(size=(1500, seeds))
        return [Effect(d.mean(), d.std(ddof=1) / np.sqrt(seeds), 0.0, 0.0, seeds, 1000) for d in drawn]

    smallest = float(np.median([effect.smallest_detectable(questions) for effect in studies(0.0)]))
    seen = np.mean([effect.delta > effect.half_width(ALPHA / questions) for effect in studies(smallest)])
    assert 0.75 < seen < 0.85


@given(st.lists(st.integers(-100, 100), min_size=2, max_size=8))
@example([71, -5, -31, -35])  # nothing in sum, but for rounding
@settings(max_examples=40, deadline=None)
def test_signs_are_flipped_as_scipy_does(points: list[int]) -> None:
    deltas = [each / 1000 for each in points]
    effect = Effect(float(np.mean(deltas)), 0.0, 0.0, 0.0, len(deltas), 10, deltas=tuple(deltas))
    exact = stats.permutation_test((np.array(deltas),), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert effect.p_seeds == pytest.approx(exact.pvalue)
    assert effect.p_seeds >= 2 / 2 ** len(deltas)


def test_few_seeds_and_very_many_have_no_flipped_signs() -> None:
    assert Effect(0.1, 0.0, 0.0, 0.0, 1, 10, deltas=(0.1,)).p_seeds is None
    assert Effect(0.1, 0.0, 0.0, 0.0, 17, 10, deltas=(0.1,) * 17).p_seeds is None


def test_a_contrast_is_the_sum_of_its_parts(rng: np.random.Generator) -> None:
    a, b, c = (answers(rng, 3, 90, right) for right in (0.5, 0.6, 0.8))
    whole = contrast((a, b, c), (0.5, 0.5, -1.0), macro_f1, np.random.default_rng(0), 100)
    parts = [bootstrap(one, c, macro_f1, np.random.default_rng(0), 100) for one in (a, b)]
    assert whole.delta == pytest.approx(np.mean([part.delta for part in parts]))
    assert whole.deltas == pytest.approx(np.mean([part.deltas for part in parts], axis=0))
    assert whole.differing >= max(part.differing for part in parts)
    assert whole.row_se <= max(part.row_se for part in parts) + 1e-9


def test_a_contrast_of_an_arm_with_itself_counts_for_nothing(rng: np.random.Generator) -> None:
    a, b = answers(rng, 3, 90, 0.5), answers(rng, 3, 90, 0.7)
    plain = bootstrap(a, b, accuracy, np.random.default_rng(0), 100)
    more = contrast((a, b, a, a), (1.0, -1.0, 1.0, -1.0), accuracy, np.random.default_rng(0), 100)
    assert (more.delta, more.seed_se, more.fixed_se) == pytest.approx((plain.delta, plain.seed_se, plain.fixed_se))


@given(effects, st.integers(2, 40), st.floats(0.001, 0.2), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_as_many_seeds_as_needed_are_enough_and_one_fewer_is_not(
    effect: Effect, seeds: int, difference: float, questions: int
) -> None:
    needed = effect.seeds_for(difference, questions)
    if needed is None:
        assert effect.seeds < 2 or (effect.at(1000).smallest_detectable(questions) or 1) > difference
        return
    assert (effect.at(needed).smallest_detectable(questions) or 0) <= difference
    if needed > 2:
        assert (effect.at(needed - 1).smallest_detectable(questions) or 0) > difference
    assert effect.at(effect.seeds).half_width(0.05) == pytest.approx(effect.half_width(0.05))


def test_rows_that_are_needed_worked_out_by_hand() -> None:
    """All chance is the rows': 2.8 standard errors are seen in four of five cases, so 9 times the rows see a third."""
    effect = Effect(0.02, 0.0, 0.02, 0.02, 3, 100_000)
    smallest = effect.smallest_detectable() or 0.0
    assert smallest == pytest.approx(2.8 * 0.02, rel=0.01)
    assert effect.rows_for(smallest / 3 * 1.001) == pytest.approx(9.0, abs=0.1)
    assert effect.rows_for(0.0) is None
    assert Effect(0.02, 0.05, 0.001, 0.001, 3, 1000).rows_for(0.02) is None, "no rows mend what seeds do"


def test_what_more_rows_would_give_is_what_they_give(rng: np.random.Generator) -> None:
    """Standard errors that 150 rows foresee for 600, against those of 600."""
    foreseen, found = [], []
    for _ in range(80):
        one, other = answers(rng, 5, 600, 0.7, 0.03), answers(rng, 5, 600, 0.7, 0.03)
        few = bootstrap(one[:, :150], other[:, :150], accuracy, rng, 300).at(5, rows=4)
        many = bootstrap(one, other, accuracy, rng, 300)
        foreseen.append((few.seed_se**2, few.fixed_se**2))
        found.append((many.seed_se**2, many.fixed_se**2))
    assert np.mean(foreseen, axis=0) == pytest.approx(np.mean(found, axis=0), rel=0.3)


def test_what_more_seeds_would_give_is_what_they_give(rng: np.random.Generator) -> None:
    """Standard errors that three seeds foresee for twelve, against those of twelve."""
    foreseen, found = [], []
    for _ in range(60):
        one, other = answers(rng, 12, 300, 0.7, 0.03), answers(rng, 12, 300, 0.7, 0.03)
        few = bootstrap(one[:3], other[:3], accuracy, rng, 400).at(12)
        many = bootstrap(one, other, accuracy, rng, 400)
        foreseen.append((few.seed_se**2, few.fixed_se**2))
        found.append((many.seed_se**2, many.fixed_se**2))
    assert np.mean(foreseen, axis=0) == pytest.approx(np.mean(found, axis=0), rel=0.25)


@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_a_null_is_seldom_called_and_an_effect_usually(rng: np.random.Generator, spread: float) -> None:
    def called(gain: float) -> float:
        pairs = ((answers(rng, 3, 150, 0.6 + gain, spread), answers(rng, 3, 150, 0.6, spread)) for _ in range(200))
        return float(np.mean([bootstrap(*pair, macro_f1, rng, 150).p < ALPHA for pair in pairs]))

    assert called(0.0) < 0.08
    assert called(0.35) > 0.7


def test_holm_by_hand() -> None:
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    assert holm([0.01, 0.02, 0.03]) == pytest.approx([0.03, 0.04, 0.04])  # the third is not below the second
    assert holm([0.5, 0.01, 0.9]) == pytest.approx([1.0, 0.03, 1.0])


@given(st.lists(st.floats(1e-12, 1), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_holm_does_not_mind_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert min(adjusted) == min(1, len(p_values) * min(p_values))
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    for order in permutations(range(len(p_values))):
        assert holm([p_values[i] for i in order]) == [adjusted[i] for i in order]

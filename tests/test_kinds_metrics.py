"""Metrics of every kind: what scikit-learn, scipy, conlleval and SQuAD's scripts say, as functions of sums."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.kinds.entities import TAGGING, entities, marks_entities, tagging_counts
from trivium.kinds.metrics import (
    CLASSIFICATION,
    MULTILABEL,
    RANKING,
    REGRESSION,
    Counts,
    Metric,
    classification_counts,
    multilabel_counts,
    pearson,
    places,
    r2,
    ranking_counts,
    regression_counts,
    spearman,
)
from trivium.kinds.squad import SPAN, exact_match, f1, normalise, span_counts

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
BIOES = ["O", *(f"{mark}-{kind}" for mark in "BIES" for kind in ("PER", "LOC"))]
POS = ["DET", "NOUN", "VERB"]
SEEDS = st.integers(0, 100_000)
CLOSE = 1e-9


def value(metric: Metric, counts: Counts) -> float:
    """The metric of all rows."""
    found = metric(counts.sum(0))
    assert found.shape == ()
    return float(found)


class Made(NamedTuple):
    """A kind as these tests need it: rows of truth and answer, the truth as an answer, counts and metrics."""

    make: Callable[[np.random.Generator], tuple[Any, Any]]
    perfect: Callable[[Any], Any]
    counts: Callable[[Sequence[Any], Sequence[Any]], Counts]
    metrics: Mapping[str, Metric]


def some_number(rng: np.random.Generator) -> tuple[float, float]:
    gold = round(rng.normal(), 1)
    return gold, gold + round(rng.normal(), 1)


def some_choice(rng: np.random.Generator) -> tuple[int, npt.NDArray[np.float64]]:
    choices = int(rng.integers(2, 5))
    return int(rng.integers(2)), rng.integers(4, size=choices) / 4


def some_tags(rng: np.random.Generator, tags: Sequence[str] = TAGS) -> tuple[Any, Any]:
    gold = rng.integers(len(tags), size=int(rng.integers(0, 9)))
    said = np.where(rng.random(len(gold)) < 0.5, gold, rng.integers(len(tags), size=len(gold)))
    return gold, said[: len(gold) - int(rng.integers(0, 3))]


def some_answer(rng: np.random.Generator) -> tuple[list[str], str]:
    said = ["", "the river", "river Rhine", "Rhine", "a river!"]
    return list(rng.choice(said[1:], size=int(rng.integers(0, 3)))), str(rng.choice(said))


def count_choices(gold: Sequence[int], scores: Sequence[npt.NDArray[np.float64]]) -> Counts:
    predicted = np.array([row.argmax() for row in scores], np.int64)
    return ranking_counts(np.array(gold, np.int64), predicted, places(np.array(gold, np.int64), scores))


KINDS = {
    "classify": Made(
        lambda rng: (rng.integers(2), rng.integers(2)),
        lambda gold: gold,
        lambda gold, said: classification_counts(np.array(gold), np.array(said), 2),
        CLASSIFICATION,
    ),
    "multilabel": Made(
        lambda rng: (rng.random(4) < 0.4, rng.random(4) < 0.4),
        lambda gold: gold,
        lambda gold, said: multilabel_counts(np.array(gold), np.array(said)),
        MULTILABEL,
    ),
    "regress": Made(
        some_number,
        lambda gold: gold,
        lambda gold, said: regression_counts(np.array(gold), np.array(said)),
        REGRESSION,
    ),
    "rank": Made(some_choice, lambda gold: np.arange(3) == gold, count_choices, RANKING),
    "tag": Made(some_tags, lambda gold: gold, lambda gold, said: tagging_counts(gold, said, TAGS), TAGGING),
    "span": Made(some_answer, lambda gold: gold[-1] if gold else "", span_counts, SPAN),
}
EVERY = pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in KINDS[kind].metrics])
RANKS_ARE_FIXED = ("spearman", "pearson_spearman")  # see the test of how near that is


@EVERY
@given(SEEDS, st.integers(2, 20))
@settings(max_examples=12, deadline=None)
def test_weighing_rows_is_repeating_them(kind: str, name: str, seed: int, rows: int) -> None:
    made, rng = KINDS[kind], np.random.default_rng(seed)
    metric = made.metrics[name]
    judged = [made.make(rng) for _ in range(rows)]
    times = rng.multinomial(rows, np.full(rows, 1 / rows), size=(2, 3))
    found = metric(times @ made.counts(*zip(*judged, strict=True)))
    assert found.shape == (2, 3)
    if name in RANKS_ARE_FIXED:
        return
    for at in np.ndindex(2, 3):
        repeated = [row for row, n in zip(judged, times[at], strict=True) for _ in range(n)]
        assert found[at] == pytest.approx(value(metric, made.counts(*zip(*repeated, strict=True))), abs=CLOSE)


@EVERY
@given(SEEDS, st.integers(1, 20))
@settings(max_examples=8, deadline=None)
def test_the_order_of_rows_is_of_no_account(kind: str, name: str, seed: int, rows: int) -> None:
    made, rng = KINDS[kind], np.random.default_rng(seed)
    judged = [made.make(rng) for _ in range(rows)]
    shuffled = [judged[i] for i in rng.permutation(rows)]
    there, here = (value(made.metrics[name], made.counts(*zip(*these, strict=True))) for these in (judged, shuffled))
    assert here == pytest.approx(there, abs=CLOSE)


@EVERY
def test_no_answer_is_better_than_the_truth(kind: str, name: str, rng: np.random.Generator) -> None:
    made = KINDS[kind]
    gold, said = zip(*[made.make(rng) for _ in range(60)], strict=True)
    if name == "samples_f1":
        gold = tuple(labels | (np.arange(4) == 0) for labels in gold)  # without labels there is no F1
    best = value(made.metrics[name], made.counts(gold, [made.perfect(row) for row in gold]))
    assert best == pytest.approx(1.0)
    assert value(made.metrics[name], made.counts(gold, said)) < 0.95


@EVERY
def test_no_rows_are_no_division_by_zero(kind: str, name: str, rng: np.random.Generator) -> None:
    made = KINDS[kind]
    width = made.counts(*zip(made.make(rng), strict=True)).shape[1]
    assert made.metrics[name](np.zeros((2, width))).tolist() == [0, 0]


# ---- one or several labels


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=20).map(np.array))
@settings(max_examples=60, deadline=None)
def test_f1_is_that_of_the_second_of_two_labels(judged: npt.NDArray[np.int64]) -> None:
    from sklearn.metrics import f1_score

    found = value(CLASSIFICATION["f1"], classification_counts(judged[:, 0], judged[:, 1], 2))
    assert found == pytest.approx(float(f1_score(*judged.T, average="binary", zero_division=0)))


@pytest.mark.parametrize("labels", [1, 3, 4])
def test_f1_of_more_or_fewer_than_two_labels_is_not_defined(labels: int) -> None:
    counts = classification_counts(np.zeros(4, np.int64), np.zeros(4, np.int64), labels)
    assert np.isnan(CLASSIFICATION["f1"](counts)).tolist() == [True] * 4


@pytest.mark.parametrize("name", MULTILABEL)
@given(seed=SEEDS, rows=st.integers(1, 12), labels=st.integers(2, 5), often=st.sampled_from([0.1, 0.4, 0.8]))
@settings(max_examples=40, deadline=None)
def test_several_labels_are_judged_as_by_scikit_learn(
    name: str, seed: int, rows: int, labels: int, often: float
) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    gold, said = np.random.default_rng(seed).random((2, rows, labels)) < often
    found = value(MULTILABEL[name], multilabel_counts(gold, said))
    present = np.flatnonzero((gold | said).any(0))
    if name == "exact_match":
        assert found == pytest.approx(float(accuracy_score(gold, said)))
    elif len(present) == 0:
        assert found == 0
    else:
        only = {"labels": present} if name == "macro_f1" else {}
        average = name.removesuffix("_f1")
        assert found == pytest.approx(float(f1_score(gold, said, average=average, zero_division=0, **only)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("micro_f1", 2 * 2 / (3 + 3)),
        ("macro_f1", (1 + 2 / 3 + 0) / 3),  # the last label is never heard of
        ("weighted_f1", (1 * 1 + 2 * 2 / 3) / 3),
        ("samples_f1", (1 + 2 / 3 + 0 + 0) / 4),  # nothing said of nothing has no F1 ...
        ("exact_match", 2 / 4),  # ... but is right
    ],
)
def test_several_labels_by_hand(name: str, expected: float) -> None:
    gold = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    said = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    assert value(MULTILABEL[name], multilabel_counts(gold, said)) == pytest.approx(expected)


# ---- numbers


@given(
    seed=SEEDS,
    rows=st.integers(3, 40),
    offset=st.sampled_from([0.0, 1e6, -1e-6]),
    unit=st.sampled_from([1e-30, 1e-3, 1.0, 1e12]),
)
@settings(max_examples=80, deadline=None)
def test_numbers_are_judged_as_by_scipy_and_scikit_learn(seed: int, rows: int, offset: float, unit: float) -> None:
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import r2_score

    rng = np.random.default_rng(seed)
    gold = np.append(rng.integers(-5, 6, size=rows), [-6, 6]) * 0.25
    said = np.append((gold[:-2] + rng.normal(size=rows)).round(1), [1, 2])
    gold, said = (gold + offset) * unit, (said + offset) * unit
    counts = regression_counts(gold, said)
    assert value(pearson, counts) == pytest.approx(pearsonr(gold, said)[0], abs=CLOSE)
    assert value(spearman, counts) == pytest.approx(spearmanr(gold, said)[0], abs=CLOSE)
    assert value(r2, counts) == pytest.approx(r2_score(gold, said), rel=1e-7, abs=1e-7)
    both = (pearsonr(gold, said)[0] + spearmanr(gold, said)[0]) / 2
    assert value(REGRESSION["pearson_spearman"], counts) == pytest.approx(both, abs=CLOSE)


def test_numbers_by_hand() -> None:
    counts = regression_counts(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4]))
    assert [value(metric, counts) for metric in REGRESSION.values()] == pytest.approx([0.8, 0.8, 0.8, 1 - 2 / 5])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9 / 3])
def test_a_constant_answer_is_not_correlated(constant: float, rng: np.random.Generator) -> None:
    gold = rng.normal(size=1000)
    for counts in (regression_counts(gold, np.full(1000, constant)), regression_counts(np.full(1000, constant), gold)):
        assert [value(metric, counts) for metric in REGRESSION.values()][:3] == [0, 0, 0]
        drawn = rng.multinomial(1000, np.full(1000, 1e-3), size=20) @ counts
        assert (pearson(drawn) == 0).all()
        assert (spearman(drawn) == 0).all()
    assert value(r2, regression_counts(gold, np.full(1000, gold.mean()))) == pytest.approx(0, abs=1e-12)


def test_no_numbers_are_no_trouble() -> None:
    assert regression_counts(np.zeros(0), np.zeros(0)).shape == (0, 12)


def test_a_resample_of_one_row_is_not_correlated(rng: np.random.Generator) -> None:
    gold, said = rng.normal(size=(2, 50))
    once = 7 * regression_counts(gold, said)
    assert (pearson(once) == 0).all()
    assert (spearman(once) == 0).all()
    assert (r2(once) == 0).all()
    assert (r2(7 * regression_counts(gold, gold)) == 1).all()


@given(SEEDS, st.floats(0.1, 50), st.floats(-50, 50))
@settings(max_examples=30, deadline=None)
def test_another_scale_is_as_much_correlated(seed: int, factor: float, offset: float) -> None:
    gold, said = np.random.default_rng(seed).normal(size=(2, 20))
    plain, scaled = regression_counts(gold, said), regression_counts(gold, factor * said + offset)
    turned = regression_counts(gold, -said)
    for metric in (pearson, spearman):
        assert value(metric, scaled) == pytest.approx(value(metric, plain), abs=1e-8)
        assert value(metric, turned) == pytest.approx(-value(metric, plain), abs=CLOSE)


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_fixed_ranks_are_near_those_of_each_resample(noise: float) -> None:
    from scipy.stats import rankdata

    rng = np.random.default_rng(3)
    rows = 400
    gold = rng.normal(size=rows)
    models = [gold + noise * rng.normal(size=rows), gold + 1.3 * noise * rng.normal(size=rows)]
    drawn = rng.integers(rows, size=(300, rows))
    weights = np.stack([np.bincount(row, minlength=rows) for row in drawn])

    def anew(said: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        pairs = zip(rankdata(gold[drawn], axis=1), rankdata(said[drawn], axis=1), strict=True)
        return np.array([np.corrcoef(x, y)[0, 1] for x, y in pairs])

    fixed = [spearman(weights @ regression_counts(gold, said)) for said in models]
    again = [anew(said) for said in models]
    assert np.abs(np.array(fixed) - np.array(again)).max() < 0.025
    assert (fixed[0] - fixed[1]).std() == pytest.approx((again[0] - again[1]).std(), rel=0.1)


# ---- choices


def test_equal_scores_count_against_the_model() -> None:
    scores = [np.array(row) for row in ([0.9, 0.1], [0.5, 0.5], [1.0, 2, 3, 4], [np.nan, 1.0], [1.0, np.nan])]
    gold = np.array([0, 0, 1, 0, 0])
    assert places(gold, scores).tolist() == [1, 2, 3, 2, 2]
    assert places(gold[:0], []).tolist() == []
    counts = ranking_counts(gold, np.array([0, 0, 3, 1, 0]), places(gold, scores))
    assert value(RANKING["mrr"], counts) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 2 + 1 / 2) / 5)
    assert value(RANKING["accuracy"], counts) == pytest.approx(3 / 5)


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=8), SEEDS)
def test_places_are_counted_one_by_one(rows: list[list[int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    gold = [int(rng.integers(len(row))) for row in rows]
    slow = [
        1 + sum(score >= row[right] for i, score in enumerate(row) if i != right)
        for row, right in zip(rows, gold, strict=True)
    ]
    assert places(np.array(gold), [np.array(row, np.float32) for row in rows]).tolist() == slow


def test_without_places_only_the_accuracy_can_be_told() -> None:
    counts = ranking_counts(np.array([0, 1, 1]), np.array([0, 1, 0]))
    assert value(RANKING["accuracy"], counts) == pytest.approx(2 / 3)
    assert np.isnan(RANKING["mrr"](counts)).tolist() == [True] * 3


# ---- tags


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", set()),
        ("O O", set()),
        ("B-PER", {("PER", 0, 1)}),
        ("B-PER I-PER O B-LOC", {("PER", 0, 2), ("LOC", 3, 4)}),
        ("B-PER B-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("I-PER I-PER O I-LOC", {("PER", 0, 2), ("LOC", 3, 4)}),  # IOB1, or a model that forgets the beginning
        ("I-PER B-PER I-PER", {("PER", 0, 1), ("PER", 1, 3)}),
        ("B-PER I-LOC I-LOC", {("PER", 0, 1), ("LOC", 1, 3)}),
        ("B-PER O I-PER", {("PER", 0, 1), ("PER", 2, 3)}),
        ("B-PER I-PER E-PER S-LOC", {("PER", 0, 3), ("LOC", 3, 4)}),
        ("B-PER E-PER I-PER", {("PER", 0, 2), ("PER", 2, 3)}),
        ("E-PER E-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("S-PER I-PER E-PER", {("PER", 0, 1), ("PER", 1, 3)}),
        ("B-PER E-LOC", {("PER", 0, 1), ("LOC", 1, 2)}),
        ("B-PER I-PER L-PER U-LOC L-LOC", {("PER", 0, 3), ("LOC", 3, 4), ("LOC", 4, 5)}),
        ("B M M E S", {("", 0, 4), ("", 4, 5)}),
        ("B I O I", {("", 0, 2), ("", 3, 4)}),
        ("B-a-b I-a-b I-a", {("a-b", 0, 2), ("a", 2, 3)}),
        ("DET NOUN -LRB- IN-HL", set()),
    ],
)
def test_entities_by_hand(tags: str, expected: set[tuple[str, int, int]]) -> None:
    assert entities(tags.split()) == expected


def slow_entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Token by token, with the questions that conlleval asks: does an entity end before here, does one begin here?"""
    found, begun = set(), 0
    mark, kind = "O", ""
    for i, tag in enumerate([*tags, "O"]):
        before, kind_before = mark, kind
        mark, kind = (tag[0], tag[2:]) if tag != "O" else ("O", "")
        new_type = kind != kind_before
        if before != "O" and (before in "ES" or mark in "BSO" or new_type):
            found.add((kind_before, begun, i))
        if mark != "O" and (mark in "BS" or before in "OES" or new_type):
            begun = i
    return found


@given(st.lists(st.sampled_from(BIOES), max_size=14))
@settings(max_examples=300, deadline=None)
def test_entities_are_those_found_token_by_token(tags: list[str]) -> None:
    assert entities(tags) == slow_entities(tags)


def test_a_tag_set_marks_entities_or_does_not() -> None:
    assert all(map(marks_entities, (TAGS, BIOES, ["O", "I-PER"], ["B", "I", "O"], ["B", "M", "E", "S"])))
    assert not any(map(marks_entities, (POS, ["O"], ["N", "O", "S", "E", "L"], ["S", "O"], [])))


def slow_tagging(gold: Sequence[Any], said: Sequence[Any], tags: Sequence[str]) -> dict[str, float]:
    """Metrics of tags, with sets and loops, and scikit-learn for tokens."""
    from sklearn.metrics import f1_score

    named = [[[tags[i] for i in row] for row in side] for side in (gold, said)]
    there, found = ({(i, *entity) for i, row in enumerate(side) for entity in slow_entities(row)} for side in named)
    kinds = {entity[1] for entity in there | found}

    def of(kind: set[str]) -> tuple[float, float, float]:
        t, f = ({entity for entity in side if entity[1] in kind} for side in (there, found))
        return (
            len(t & f) / len(f) if f else 0.0,
            len(t & f) / len(t) if t else 0.0,
            2 * len(t & f) / (len(t) + len(f)) if t or f else 0.0,
        )

    truth, answer = (np.concatenate([np.zeros(0, np.int64), *side]) for side in (gold, said))
    precision, recall, micro = of(kinds)
    return {
        "entity_f1": micro,
        "entity_precision": precision,
        "entity_recall": recall,
        "entity_macro_f1": float(np.mean([of({kind})[2] for kind in kinds])) if kinds else 0.0,
        "accuracy": float((truth == answer).mean()) if len(truth) else 0.0,
        "token_macro_f1": float(f1_score(truth, answer, average="macro", zero_division=0)) if len(truth) else 0.0,
    }


@pytest.mark.parametrize("tags", [TAGS, BIOES], ids=["BIO", "BIOES"])
@given(seed=SEEDS, rows=st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_tags_are_judged_as_one_by_one(tags: list[str], seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    gold, said = [], []
    for _ in range(rows):
        right, cut = some_tags(rng, tags)
        gold.append(right)
        said.append(cut)
    padded = [np.append(row, np.zeros(len(right) - len(row), np.int64)) for row, right in zip(said, gold, strict=True)]
    counts = tagging_counts(gold, said, tags)
    assert counts.shape == (rows, 6 * len(tags))
    assert {name: value(TAGGING[name], counts) for name in TAGGING} == pytest.approx(slow_tagging(gold, padded, tags))


def test_tags_by_hand() -> None:
    gold = [np.array([1, 2, 0, 3]), np.array([3, 4])]  # PER PER O LOC | LOC LOC
    said = [np.array([1, 2, 0, 1]), np.array([3])]  # PER PER O PER | LOC, and the last token is cut off
    counts = tagging_counts(gold, said, TAGS)
    of_entities = counts[:, :15].reshape(2, 3, 5).astype(int).tolist()  # PER stands at B-PER, LOC at B-LOC
    assert of_entities[0] == [[0, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]
    assert of_entities[1] == [[0, 0, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 0]]
    expected = {
        "entity_f1": 2 / (3 + 3),
        "entity_precision": 1 / 3,
        "entity_recall": 1 / 3,
        "entity_macro_f1": (2 / 3 + 0) / 2,
        "accuracy": 4 / 6,
        "token_macro_f1": (2 / 3 + 2 / 3 + 1 + 2 / 3 + 0) / 5,
    }
    assert {name: value(TAGGING[name], counts) for name in TAGGING} == pytest.approx(expected)


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_precision_is_recall_the_other_way_round(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = ([rng.integers(len(TAGS), size=n) for n in (3, 0, 7, 5)] for _ in range(2))
    there, back = tagging_counts(one, other, TAGS), tagging_counts(other, one, TAGS)
    assert value(TAGGING["entity_precision"], there) == value(TAGGING["entity_recall"], back)
    assert value(TAGGING["entity_f1"], there) == value(TAGGING["entity_f1"], back)
    assert value(TAGGING["token_macro_f1"], there) == pytest.approx(value(TAGGING["token_macro_f1"], back))


def test_plain_tags_have_tokens_and_no_entities() -> None:
    tags = ["N", "S", "E"]  # parts of speech, though two of them could be marks
    counts = tagging_counts([np.array([0, 1]), np.array([0, 1, 2])], [np.array([0]), np.array([0, 1, 1])], tags)
    assert not counts[:, :9].any()
    cut, whole = counts[:, 9:].reshape(2, 3, 3).astype(int).tolist()
    assert cut == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]  # a tag cut off is missed, and no other is said in its place
    assert whole == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert value(TAGGING["entity_f1"], counts) == value(TAGGING["entity_macro_f1"], counts) == 0
    assert value(TAGGING["accuracy"], counts) == pytest.approx(3 / 5)
    assert value(TAGGING["token_macro_f1"], counts) == pytest.approx((1 + 1 / 2 + 0) / 3)


def test_entities_do_not_reach_from_row_to_row() -> None:
    apart = tagging_counts([np.array([1]), np.array([2])], [np.array([1]), np.array([2])], TAGS)
    assert apart[:, 1].tolist() == [1, 1]


# ---- answers in a text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Rhine", "rhine"),
        ("  a  cat,  an ox\tand\nthe dog. ", "cat ox and dog"),
        ("U.S.A.", "usa"),
        ("anthem of Theodor", "anthem of theodor"),
        ("the-end", "theend"),  # punctuation goes before articles are looked for
        ("$1,000.50", "100050"),
        ("“The” café", "“ ” café"),  # only ASCII punctuation goes
        ("A", ""),
        ("THE AN A the", ""),
        ("'a'", ""),
        ("a\u00a0b", "b"),
    ],
)
def test_normalised_by_hand(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text("aAnthe .,-'xé“\t", max_size=20), st.text("aAnthe .,-'xé“\t", max_size=20))
def test_normalising_twice_is_normalising_once(one: str, other: str) -> None:
    assert normalise(normalise(one)) == normalise(one)
    assert exact_match(one, [other]) == exact_match(other, [one]) == float(normalise(one) == normalise(other))
    assert f1(one, [other]) == f1(other, [one])
    if normalise(one):
        assert exact_match(one, [other, one]) == f1(one, [other, one]) == 1


@pytest.mark.parametrize(
    ("said", "accepted", "exact", "overlap"),
    [
        ("the Eiffel Tower", ["Eiffel tower."], 1, 1),
        ("Eiffel", ["Eiffel Tower"], 0, 2 / 3),
        ("Eiffel", ["Eiffel Tower", "eiffel"], 1, 1),
        ("to be or not to be", ["to be to be to be"], 0, 2 * 4 / (6 + 6)),  # words count as often as both say them
        ("Paris", ["London"], 0, 0),
        ("", ["London"], 0, 0),
        ("", [], 1, 1),
        ("the", [], 1, 1),  # nothing is left of it
        ("London", [], 0, 0),
        ("", ["the"], 1, 1),  # nor of this: version 2.0 then accepts no answer
        ("London", ["a", "London"], 1, 1),
        ("", ["a", "London"], 0, 0),
    ],
)
def test_answers_by_hand(said: str, accepted: list[str], exact: float, overlap: float) -> None:
    assert exact_match(said, accepted) == exact
    assert f1(said, accepted) == pytest.approx(overlap)


def slow_f1(said: list[str], right: list[str]) -> float:
    """Words crossed out one by one."""
    left, shared = list(right), 0
    for word in said:
        if word in left:
            left.remove(word)
            shared += 1
    precision, recall = shared / max(len(said), 1), shared / max(len(right), 1)
    return 2 * precision * recall / (precision + recall) if shared else float(said == right)


WORDS = st.lists(st.sampled_from(["rhine", "river", "long"]), max_size=5)


@given(WORDS, st.lists(WORDS.filter(bool), min_size=1, max_size=3))
def test_f1_is_that_of_the_answer_most_alike(said: list[str], accepted: list[list[str]]) -> None:
    found = f1(" ".join(said), [" ".join(answer) for answer in accepted])
    assert found == pytest.approx(max(slow_f1(said, answer) for answer in accepted))
    assert exact_match(" ".join(said), [" ".join(answer) for answer in accepted]) <= found


def test_questions_with_and_without_an_answer_by_hand() -> None:
    gold = [["the Rhine"], ["Eiffel Tower", "tower"], ["Paris"], [], []]
    said = ["Rhine!", "Eiffel", "", "", "Rome"]
    counts = span_counts(gold, said)
    expected = {
        "f1": (1 + 2 / 3 + 0 + 1 + 0) / 5,
        "exact_match": (1 + 0 + 0 + 1 + 0) / 5,
        "f1_answerable": (1 + 2 / 3 + 0) / 3,
        "recall_unanswerable": 1 / 2,
    }
    assert {name: value(SPAN[name], counts) for name in SPAN} == pytest.approx(expected)
    assert value(SPAN["recall_unanswerable"], counts[:3]) == 0  # there is none to be found


@pytest.mark.parametrize(
    ("metrics", "default"),
    [
        (CLASSIFICATION, "macro_f1"),
        (MULTILABEL, "micro_f1"),
        (REGRESSION, "pearson"),
        (RANKING, "accuracy"),
        (TAGGING, "entity_f1"),
        (SPAN, "f1"),
    ],
)
def test_the_first_metric_is_the_default(metrics: Mapping[str, Metric], default: str) -> None:
    assert next(iter(metrics)) == default

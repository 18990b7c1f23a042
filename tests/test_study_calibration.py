"""Calibration: worked out by hand, the same in whatever order, and none where nothing is said of confidence."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.core import Score
from trivium.study.calibration import BINS, confidences, reliability


def answered(gold: Any, said: Any, sure: Any) -> Score:
    return Score("t", "test", "m", {"m": 0.0}, gold, said, sure)


def test_the_error_worked_out_by_hand() -> None:
    """0.9: three of four right, a gap of 0.15; 0.55: one of two, 0.05; together (4 · 0.15 + 2 · 0.05) / 6."""
    found = reliability(np.array([0.9, 0.9, 0.9, 0.9, 0.55, 0.55]), np.array([1.0, 1, 1, 0, 1, 0]))
    assert found["ece"] == pytest.approx(0.7 / 6, abs=1e-6)
    assert found["answers"] == 6
    assert found["bins"][9] == [4, 0.9, 0.75]
    assert found["bins"][5] == [2, 0.55, 0.5]
    assert sum(n for n, _, _ in found["bins"]) == 6


ANSWERS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


@given(ANSWERS, st.randoms(use_true_random=False))
def test_order_is_nothing_and_the_error_is_at_most_one(answers: Any, shuffle: Any) -> None:
    mixed = list(answers)
    shuffle.shuffle(mixed)
    one, other = (reliability(*np.array(each, np.float64).T) for each in (answers, mixed))
    assert 0 <= one["ece"] <= 1
    assert one["ece"] == pytest.approx(other["ece"], abs=2e-6)
    assert len(one["bins"]) == BINS


def test_a_calibrated_model_shows_what_chance_alone_would(rng: np.random.Generator) -> None:
    sure = rng.uniform(0.5, 1, 20_000)
    honest = reliability(sure, (rng.random(20_000) < sure).astype(float))
    boastful = reliability(sure, (rng.random(20_000) < sure - 0.2).astype(float))
    assert honest["ece"] < 2.5 * honest["by_chance"] < 0.02
    assert boastful["ece"] == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "gold", "said", "sure", "confidence", "right"),
    [
        ("classify", np.array([0, 1]), np.array([0, 0]), np.array([[0.7, 0.3], [0.6, 0.4]]), [0.7, 0.6], [1, 0]),
        (
            "multilabel",
            np.array([[True, False]]),
            np.array([[False, False]]),
            np.array([[0.2, 0.1]]),
            [0.8, 0.9],
            [0, 1],
        ),
        ("rank", np.array([2, 0]), [np.array([2, 0, 1]), np.array([1, 0])], [[0.5, 0.3, 0.2], [0.9, 0.1]],
         [0.5, 0.9], [1, 0]),
        ("span", [["the Rhine"], []], ["Rhine", ""], np.array([[0.4], [0.9]]), [0.4], [1]),
        ("tag", [np.array([1, -100, 2, 0])], [np.array([1, 1, -1])], [[0.9, 0.8, 0.7]], [0.9], [1]),
        ("regress", np.array([1.0]), np.array([2.0]), np.zeros((1, 0)), [], []),
    ],
)  # fmt: skip
def test_what_an_answer_is(kind: str, gold: Any, said: Any, sure: Any, confidence: Any, right: Any) -> None:
    found = confidences(kind, answered(gold, said, sure))
    assert found[0].tolist() == pytest.approx(confidence)
    assert found[1].tolist() == right


def test_numbers_have_no_confidence() -> None:
    assert reliability(*confidences("regress", answered([1.0], [2.0], np.zeros((1, 0))))) == {}

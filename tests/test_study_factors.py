"""Effects of factors: what is planted in a grid comes out, and nothing else."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.study.factors import factor_questions


def grid(*sizes: int) -> tuple[dict[str, tuple[str, ...]], dict[str, dict[str, str]]]:
    factors = {f"f{i}": tuple(f"l{j}" for j in range(size)) for i, size in enumerate(sizes)}
    cells = {"+".join(names): dict(zip(factors, names, strict=True)) for names in product(*factors.values())}
    return factors, cells


@given(st.lists(st.integers(2, 3), min_size=1, max_size=3), st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_a_grid_without_interactions_has_its_main_effects_and_no_other(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    factors, cells = grid(*sizes)
    worth = {(name, level): rng.normal() for name, levels in factors.items() for level in levels}
    score = {arm: sum(worth[one] for one in levels.items()) for arm, levels in cells.items()}
    for question in factor_questions(factors, cells):
        found = sum(weight * score[arm] for arm, weight in question.weights.items())
        ((name, (here, there)), *others) = question.change.items()
        expected = 0.0 if others else worth[name, there] - worth[name, here]
        assert found == pytest.approx(expected, abs=1e-9)


def test_a_planted_interaction_is_found_whole() -> None:
    factors, cells = grid(2, 2, 2)
    score = {arm: 0.25 * (levels["f0"] == levels["f1"] == "l1") for arm, levels in cells.items()}
    found = {
        tuple(q.change): sum(w * score[arm] for arm, w in q.weights.items()) for q in factor_questions(factors, cells)
    }
    assert found[("f0", "f1")] == pytest.approx(0.25)
    assert found[("f0",)] == found[("f1",)] == pytest.approx(0.125), "the mean over the other's levels"
    assert found[("f2",)] == found[("f0", "f2")] == found[("f0", "f1", "f2")] == pytest.approx(0)


@given(st.lists(st.integers(2, 4), min_size=1, max_size=3))
@settings(max_examples=20, deadline=None)
def test_there_are_as_many_questions_as_the_grid_has_degrees_of_freedom(sizes: list[int]) -> None:
    factors, cells = grid(*sizes)
    asked = factor_questions(factors, cells)
    assert len(asked) == len(cells) - 1
    assert len({question.name for question in asked}) == len(asked)
    for question in asked:
        assert sum(question.weights.values()) == pytest.approx(0)

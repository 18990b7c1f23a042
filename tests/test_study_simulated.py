"""The verdict on simulated studies whose truth is known: how often it errs, covers, and finds what it said it would."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trivium.kinds.metrics import accuracy
from trivium.study.statistics import ALPHA, Effect, bootstrap
from trivium.study.verdict import ArmResult, decide

STUDIES = 1000
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "bench"))
        yield import_module("verdict")
    del sys.modules["verdict"]


def beyond(share: float, of: int = STUDIES) -> float:
    """How far by chance a share is off the true one, in fewer than one case in a hundred."""
    return 2.58 * float(np.sqrt(share * (1 - share) / of))


def measured(bench: Any, many: int, seeds: int, rows: int, noise: float, advantage: float = 0.0) -> list[Effect]:
    rng = np.random.default_rng(seeds * rows)
    return [bootstrap(*bench.study(rng, seeds, rows, noise, advantage), accuracy, rng, 150) for _ in range(many)]


@pytest.mark.parametrize(("seeds", "noise"), [(3, 0.1), (5, 0.3)])
def test_of_studies_with_nothing_to_find_few_call_anything(bench: Any, seeds: int, noise: float) -> None:
    """Four arms that are alike: a study errs if it calls any of them, whatever Holm has to do with it."""
    rng = np.random.default_rng(seeds)
    names, wrong = ("base", "a", "b", "c"), 0
    asked = [(name, "base") for name in names[1:]]
    for _ in range(STUDIES):
        alike = bench.outcomes(rng, seeds, 300, noise, [bench.ABILITY] * len(names))
        arms = [ArmResult(name, counts, 1, 1, 1.0, None) for name, counts in zip(names, alike, strict=True)]
        verdict = decide("s", "t", "accuracy", accuracy, "test", "base", range(seeds), arms, asked, rng)
        wrong += any(comparison.verdict != "no evidence" for comparison in verdict.comparisons)
    assert wrong / STUDIES <= ALPHA + beyond(ALPHA)


@pytest.mark.parametrize(
    ("seeds", "rows", "noise", "most"), [(5, 2000, 0.3, 0.97), (3, 2000, 0.3, 0.97), (5, 300, 0.1, 0.99)]
)
def test_the_interval_covers_as_often_as_it_says(bench: Any, seeds: int, rows: int, noise: float, most: float) -> None:
    """Where seeds make the chance, exactly; where rows do too, it is on the safe side."""
    found = measured(bench, STUDIES, seeds, rows, noise)
    covered = np.mean([effect.low <= 0 <= effect.high for effect in found])
    assert 0.93 <= covered <= most


@pytest.mark.parametrize(("seeds", "rows", "noise"), [(3, 2000, 0.3), (5, 300, 0.1)])
def test_what_a_pilot_calls_detectable_is_detected_four_times_in_five(
    bench: Any, seeds: int, rows: int, noise: float
) -> None:
    pilots = measured(bench, 200, seeds, rows, noise)
    smallest = float(np.median([effect.smallest_detectable() or 0 for effect in pilots]))
    advantage = bench.advantage_for(np.random.default_rng(0), accuracy, noise, smallest)
    called = np.mean([effect.low > 0 for effect in measured(bench, 400, seeds, rows, noise, advantage)])
    assert called == pytest.approx(0.8, abs=0.03 + beyond(0.8, 400))


def test_as_many_seeds_as_a_pilot_asks_for_are_enough(bench: Any) -> None:
    rows, noise, difference = 1000, 0.2, 0.04
    pilots = measured(bench, 200, 4, rows, noise)
    needed = round(float(np.median([effect.seeds_for(difference) or 1000 for effect in pilots])))
    assert 4 < needed < 40
    advantage = bench.advantage_for(np.random.default_rng(0), accuracy, noise, difference)
    called = np.mean([effect.low > 0 for effect in measured(bench, 300, needed, rows, noise, advantage)])
    assert called == pytest.approx(0.8, abs=0.05 + beyond(0.8, 300))

"""The verdict: its words follow its numbers, and its numbers do not depend on who else was asked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trivium.errors import ArtifactError
from trivium.kinds.metrics import Counts, classification_counts, macro_f1
from trivium.study.factors import factor_questions
from trivium.study.looks import plan_looks
from trivium.study.statistics import ALPHA, Effect, bootstrap
from trivium.study.verdict import ArmResult, Comparison, Verdict, _compare, _Reading, decide

LABELS = 3
ROWS = 120
KEYS = ["arm", "baseline", "delta", "low", "high", "p_holm", "verdict", "smallest_detectable", "sentence"]


def outcomes(rng: np.random.Generator, right: float, seeds: int = 3, rows: int = ROWS, spread: float = 0.0) -> Counts:
    """The counts of models that are right about so often, ``[seeds, rows, counts]``."""
    gold = np.arange(rows) % LABELS
    share = right + spread * rng.normal(size=(seeds, 1))
    wrong = (gold + rng.integers(1, LABELS, (seeds, rows))) % LABELS
    said = np.where(rng.random((seeds, rows)) < share, gold, wrong)
    return np.stack([classification_counts(gold, model, LABELS) for model in said])


def arm(name: str, counts: Counts | None) -> ArmResult:
    if counts is None:
        return ArmResult(name, None, 0, 0, 0.0, "update 12: the loss is nan\nuse a smaller rate")
    trained = name != "linear"
    return ArmResult(name, counts, 1200 * trained, 2_100_000 * trained, 310.2 * trained, None)


def judged(
    arms: Sequence[ArmResult], pairs: Sequence[tuple[str, str]], seeds: int = 3, stream: int = 0, **more: Any
) -> Verdict:
    rng = np.random.default_rng(stream)
    return decide("study", "topics", "macro_f1", macro_f1, "test", "finetune", range(seeds), arms, pairs, rng, **more)


def of(verdict: Verdict, name: str, other: str) -> Comparison:
    return next(c for c in verdict.comparisons if (c.arm, c.baseline) == (name, other))


@pytest.fixture
def arms(rng: np.random.Generator) -> list[ArmResult]:
    return [
        arm("finetune", outcomes(rng, 0.55)),
        arm("random", outcomes(rng, 0.56)),
        arm("tlm", outcomes(rng, 0.9)),
        arm("linear", outcomes(rng, 0.7, seeds=1)),
    ]


PAIRS = [("random", "finetune"), ("tlm", "finetune"), ("tlm", "random")]
LINEAR_PAIRS = [("finetune", "linear"), ("random", "linear"), ("tlm", "linear")]


def test_scores_are_the_metric_of_each_seed(arms: list[ArmResult]) -> None:
    verdict = judged(arms, PAIRS)
    for result in arms:
        assert result.outcomes is not None
        expected = [float(macro_f1(seed.sum(0))) for seed in result.outcomes]
        score = verdict.arms[result.name]
        assert score.per_seed == pytest.approx(expected)
        assert score.mean == pytest.approx(np.mean(expected))
        assert score.sd == (pytest.approx(np.std(expected, ddof=1)) if len(expected) > 1 else None)
        assert (score.updates, score.tokens, score.seconds) == (result.updates, result.tokens, result.seconds)
    for c in verdict.comparisons:
        assert c.delta == pytest.approx(verdict.arms[c.arm].mean - verdict.arms[c.baseline].mean)  # type: ignore[operator]


def test_a_planted_effect_is_found_and_its_opposite_is_harm(arms: list[ArmResult]) -> None:
    verdict = judged(arms, [*PAIRS, ("finetune", "tlm")])
    assert of(verdict, "tlm", "finetune").verdict == "helped"
    assert of(verdict, "finetune", "tlm").verdict == "hurt"
    assert of(verdict, "random", "finetune").verdict == "no evidence"


def test_swapped_rivals_flip_the_sign_exactly(arms: list[ArmResult]) -> None:
    verdict = judged(arms, [("tlm", "random"), ("random", "tlm")])
    there, back = verdict.comparisons
    assert (there.delta, there.low, there.high) == (-back.delta, -back.high, -back.low)
    assert (there.p_holm, there.smallest_detectable) == (back.p_holm, back.smallest_detectable)


def test_identical_arms_are_no_evidence(arms: list[ArmResult]) -> None:
    twin = arm("twin", arms[0].outcomes)
    (c,) = judged([*arms, twin], [("twin", "finetune")]).comparisons
    assert (c.delta, c.low, c.high, c.p_holm, c.verdict, c.smallest_detectable) == (0, 0, 0, 1, "no evidence", None)
    assert c.sentence == "no evidence that twin differs from finetune: no row tells them apart"


def test_the_numbers_of_a_pair_depend_on_nobody_else(arms: list[ArmResult]) -> None:
    whole, alone = judged(arms, PAIRS), judged(arms[:1:-1] + arms[:2], PAIRS[::-1][1:2])
    one, other = of(whole, "tlm", "finetune"), of(alone, "tlm", "finetune")
    assert (one.delta, one.low, one.high) == (other.delta, other.low, other.high)
    turned = judged(arms[::-1], PAIRS[::-1])
    assert list(turned.arms) == [a.name for a in arms[::-1]]
    assert {c.arm + c.baseline: c for c in turned.comparisons} == {c.arm + c.baseline: c for c in whole.comparisons}


def test_a_verdict_is_a_function_of_the_generators_state(arms: list[ArmResult]) -> None:
    assert judged(arms, PAIRS) == judged(arms, PAIRS)
    assert judged(arms, PAIRS) != judged(arms, PAIRS, stream=1)


def test_the_linear_model_costs_the_others_no_power(arms: list[ArmResult]) -> None:
    without, with_it = judged(arms[:3], PAIRS), judged(arms, PAIRS + LINEAR_PAIRS)
    assert with_it.comparisons[:3] == without.comparisons
    assert [(c.arm, c.baseline) for c in with_it.comparisons] == PAIRS + LINEAR_PAIRS
    alone = judged(arms, LINEAR_PAIRS)
    assert with_it.comparisons[3:] == alone.comparisons


def test_p_values_know_how_many_questions_were_asked(rng: np.random.Generator) -> None:
    several = [
        arm(name, outcomes(rng, right)) for name, right in (("finetune", 0.6), ("a", 0.75), ("b", 0.6), ("c", 0.62))
    ]
    pairs = [(name, "finetune") for name in "abc"]
    together = judged(several, pairs)
    alone = [judged(several, [pair]).comparisons[0] for pair in pairs]
    assert together.comparisons[0].p_holm == pytest.approx(3 * alone[0].p_holm)
    for one, among in zip(alone, together.comparisons, strict=True):
        assert among.p_holm >= one.p_holm
        assert among.smallest_detectable > one.smallest_detectable  # type: ignore[operator]


def test_one_seed_is_judged_and_said(rng: np.random.Generator) -> None:
    arms = [arm("finetune", outcomes(rng, 0.5, seeds=1)), arm("tlm", outcomes(rng, 0.9, seeds=1))]
    verdict = judged(arms, [("tlm", "finetune")], seeds=1)
    (c,) = verdict.comparisons
    assert c.verdict == "helped"
    assert c.sentence.endswith("], with one seed")
    assert verdict.arms["tlm"].sd is None
    assert "1 seed" in verdict.lines()[0]


def test_an_arm_that_failed_is_left_out_and_said(arms: list[ArmResult]) -> None:
    broken = [arms[0], arm("random", None), *arms[2:]]
    verdict = judged(broken, PAIRS + LINEAR_PAIRS)
    assert [(c.arm, c.baseline) for c in verdict.comparisons] == [
        ("tlm", "finetune"),
        ("finetune", "linear"),
        ("tlm", "linear"),
    ]
    about = verdict.to_json()["arms"]["random"]
    assert (about["mean"], about["sd"], about["per_seed"]) == (None, None, [])
    assert about["failed"].startswith("update 12")
    assert "random    failed: update 12: the loss is nan use a smaller rate" in verdict.lines()
    assert of(verdict, "tlm", "finetune") == judged(arms[::2], [("tlm", "finetune")]).comparisons[0]


def test_headlines(arms: list[ArmResult]) -> None:
    assert judged(arms, PAIRS).headline == (
        f"Against finetune: tlm (+{100 * of(judged(arms, PAIRS), 'tlm', 'finetune').delta:.1f}) helped; "
        "no evidence for random."
    )
    many = [replace(arms[1], name=f"random-{n}") for n in range(6)]
    none = judged([arms[0], *many], [(one.name, "finetune") for one in many])
    assert none.headline == "Against finetune: no evidence for any of 6."
    some = judged([*arms, *many], [PAIRS[1], *((one.name, "finetune") for one in many)])
    assert some.headline.endswith(" helped; no evidence for the other 6.")
    only = judged(arms, [("tlm", "finetune"), ("tlm", "random")])
    assert only.headline == only.comparisons[0].sentence
    assert judged(arms[::3], [("finetune", "linear")]).headline.startswith("finetune is worse than linear: −")
    broken = judged([arm("finetune", None), *arms[1:]], PAIRS)
    assert broken.headline == "The baseline, finetune, could not be trained, so nothing can be compared with it."
    lonely = judged([arms[0], arm("tlm", None)], [("tlm", "finetune")])
    assert lonely.headline == "None of the other arms could be trained, so nothing can be compared with finetune."
    assert lonely.lines()[-1] == lonely.headline
    assert judged(arms[:1], []).headline == "There is nothing to compare: the study has one arm."


def test_json_has_the_fixed_shape_and_comes_back(arms: list[ArmResult]) -> None:
    verdict = judged([*arms, arm("broken", None)], [*PAIRS, *LINEAR_PAIRS, ("broken", "finetune")])
    value = verdict.to_json()
    fixed = ["study", "task", "metric", "split", "baseline", "seeds", "arms", "comparisons"]
    assert list(value) == [*fixed, "effects", "looks", "settled"]
    assert {tuple(about) for about in value["arms"].values()} == {
        ("mean", "sd", "per_seed", "updates", "tokens", "seconds", "failed", "flops")
    }
    assert {tuple(c) for c in value["comparisons"]} == {(*KEYS, "p_seeds", "seeds_needed", "rows_needed")}
    text = json.dumps(value, allow_nan=False)
    assert json.loads(text) == value
    assert Verdict.from_json(json.loads(text)) == verdict
    assert Verdict.from_json({**value, "later": 1}) == verdict


def test_a_verdict_from_before_there_were_grids_is_read(arms: list[ArmResult]) -> None:
    verdict = judged(arms, PAIRS)
    older = {name: value for name, value in verdict.to_json().items() if name not in ("effects", "looks", "settled")}
    older["comparisons"] = [{key: each[key] for key in KEYS} for each in older["comparisons"]]
    again = Verdict.from_json(older)
    assert [c.sentence for c in again.comparisons] == [c.sentence for c in verdict.comparisons]
    assert (again.effects, again.looks, again.settled) == ((), (), True)


# -- grids and looks ---------------------------------------------------------------------------------------------------


def grid_of(rng: np.random.Generator, gains: Mapping[str, float]) -> Verdict:
    """Four arms, of documents and masker; each is right so much more often than the first."""
    factors = {"documents": ("none", "bm25"), "masker": ("random", "nmg")}
    cells = {f"{d}+{m}": {"documents": d, "masker": m} for d in factors["documents"] for m in factors["masker"]}
    results = [arm(name, outcomes(rng, 0.4 + gains.get(name, 0.0), rows=600)) for name in cells]
    return decide(
        "study",
        "topics",
        "macro_f1",
        macro_f1,
        "test",
        "none+random",
        range(3),
        results,
        [],
        np.random.default_rng(0),
        questions=factor_questions(factors, cells),
    )


def test_a_factor_that_helps_wherever_it_is_has_a_main_effect_alone(rng: np.random.Generator) -> None:
    verdict = grid_of(rng, {"bm25+random": 0.3, "bm25+nmg": 0.3})
    reading, hiding, both = verdict.effects
    assert verdict.headline == (
        f"Over the whole grid: documents bm25 instead of none (+{100 * reading.delta:.1f}) helped; "
        "no evidence for masker nmg instead of random."
    )
    assert reading.verdict == "helped"
    assert reading.delta == pytest.approx(0.3, abs=0.06)
    assert reading.sentence.startswith("documents bm25 instead of none helped: +")
    assert (hiding.verdict, both.verdict) == ("no evidence", "no evidence")
    assert list(hiding.seeds_needed) == ["1", "2", "5", "seen"]
    needed = [hiding.seeds_needed[size] for size in ("2", "5")]
    assert needed[0] is None or needed[1] is not None
    assert needed[0] is None or needed[0] >= (needed[1] or 0)
    assert both.sentence.startswith(
        "no evidence that documents bm25 instead of none and masker nmg instead of random depend on each"
    )


def test_factors_that_help_together_alone_have_an_interaction(rng: np.random.Generator) -> None:
    verdict = grid_of(rng, {"bm25+nmg": 0.45})
    both = verdict.effects[-1]
    assert both.verdict == "helped"
    assert "do more together than by themselves: +" in both.sentence
    assert verdict.headline.endswith(
        "; documents bm25 instead of none and masker nmg instead of random depend on each other."
    )
    assert verdict.lines()[-1] == both.sentence
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))).effects[-1].sentence == both.sentence


def test_a_grid_with_a_failed_arm_answers_no_question_that_needs_it(rng: np.random.Generator) -> None:
    factors = {"documents": ("none", "bm25")}
    cells = {name: {"documents": name} for name in factors["documents"]}
    results = [arm("none", outcomes(rng, 0.5)), arm("bm25", None)]
    asked = factor_questions(factors, cells)
    base = ("study", "topics", "macro_f1", macro_f1, "test", "none", range(3), results, [], rng)
    assert decide(*base, questions=asked).effects == ()


def test_a_look_among_several_is_held_against_its_own_level(arms: list[ArmResult]) -> None:
    looks = plan_looks(3, 3, 9)
    plain = judged(arms, PAIRS)
    early = judged(arms, PAIRS, looks=looks[:1], last=looks[-1])
    for once, often in zip(plain.comparisons, early.comparisons, strict=True):
        assert often.delta == once.delta
        assert often.low < once.low < once.high < often.high
        assert often.p_holm >= once.p_holm
        assert (often.p_holm < ALPHA) == (often.verdict != "no evidence")
        assert (often.smallest_detectable or 1) > (once.smallest_detectable or 0)
    assert not early.settled
    assert plain.settled
    assert judged(arms, PAIRS, looks=looks, last=looks[-1]).settled, "there is no later look"
    assert "after 3 looks" in judged(arms, PAIRS, looks=looks, last=looks[-1]).lines()[0]


@pytest.mark.parametrize(
    "spoil", [{"comparisons": [{"arm": "tlm"}]}, {"arms": None}, {"seeds": 3}, {"arms": {"tlm": 1}}]
)
def test_a_damaged_verdict_is_explained(arms: list[ArmResult], spoil: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="Run the study again"):
        Verdict.from_json({**judged(arms, PAIRS).to_json(), **spoil})


def rows_alone(delta: float, half_width: float, seeds: int = 3) -> Effect:
    """An effect whose interval is so wide, with endlessly many rows."""
    return Effect(delta, 0.0, half_width / 1.95996, half_width / 1.95996, seeds, 10**6)


@pytest.mark.parametrize(
    ("pair", "effect", "p_holm", "sentence"),
    [
        (("tlm", "finetune"), rows_alone(0.05, 0.03), 0.004, "tlm helped: +5.0 points of macro-F1 [2.0, 8.0]"),
        (("tlm", "finetune"), rows_alone(-0.05, 0.03), 0.004, "tlm hurt: −5.0 points of macro-F1 [−8.0, −2.0]"),
        (
            ("tlm", "finetune"),
            rows_alone(0.008, 0.027),
            1.0,
            "no evidence that tlm differs from finetune: +0.8 points of macro-F1 [−1.9, 3.5]; "
            "this design would have seen 4.5 or more",
        ),
        (
            ("tlm", "finetune"),
            rows_alone(0.02, 0.018),
            0.06,
            "no evidence that tlm differs from finetune: +2.0 points of macro-F1 [0.2, 3.8]; among 3 comparisons that "
            "may be luck (Holm's p = 0.060); this design would have seen 3.0 or more",
        ),
        (
            ("tlm", "finetune"),
            rows_alone(0.1, 0.9),
            1.0,
            "no evidence that tlm differs from finetune: +10.0 points of macro-F1 [−80.0, 100.0]; "
            "this design would have seen hardly any difference",
        ),
        (
            ("tlm", "random"),
            rows_alone(0.05, 0.03),
            0.01,
            "tlm is better than random: +5.0 points of macro-F1 [2.0, 8.0]",
        ),
        (
            ("tlm", "linear"),
            rows_alone(-0.05, 0.03, seeds=1),
            0.01,
            "tlm is worse than linear: −5.0 points of macro-F1 [−8.0, −2.0], with one seed",
        ),
    ],
)
def test_sentences(pair: tuple[str, str], effect: Effect, p_holm: float, sentence: str) -> None:
    reading = _Reading(effect, p_holm, 3, ALPHA, "macro_f1", 500)
    assert _compare(pair, reading, "finetune").sentence == sentence


def test_lines_are_a_table_and_the_sentences() -> None:
    def score(*values: float, trained: bool = True, failed: str | None = None) -> dict[str, Any]:
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        cost = {"updates": 1200 * trained, "tokens": 2_100_000 * trained, "seconds": 310.2 * trained}
        return {
            "mean": float(np.mean(values)) if values else None,
            "sd": sd,
            "per_seed": values,
            **cost,
            "failed": failed,
        }

    verdict = Verdict.from_json(
        {
            "study": "chemprot", "task": "chemprot", "metric": "micro_f1", "split": "test", "baseline": "finetune",
            "seeds": [0, 1, 2],
            "arms": {
                "finetune": score(0.55, 0.56, 0.57),
                "tlm": score(0.60, 0.61, 0.62),
                "broken": score(trained=False, failed="the loss is nan"),
                "linear": score(0.5, trained=False),
            },
            "comparisons": [dict.fromkeys(KEYS, 0) | {"sentence": "tlm helped: +5.0 points of micro-F1 [2.0, 8.0]"}],
        }
    )  # fmt: skip
    assert verdict.lines() == [
        "chemprot: micro-F1 on test, 3 seeds, baseline finetune",
        "",
        "arm         micro-F1  updates  tokens        time",
        "finetune  56.0 ± 1.0    1,200   2.1 M  5 min 10 s",
        "tlm       61.0 ± 1.0    1,200   2.1 M  5 min 10 s",
        "broken    failed: the loss is nan",
        "linear          50.0        –       –           –",
        "",
        "tlm helped: +5.0 points of micro-F1 [2.0, 8.0]",
    ]


def test_a_study_of_nothing_seldom_calls_anything(rng: np.random.Generator) -> None:
    """Family-wise: of 200 studies with three arms that do not differ, few call any of two pairs."""
    called = 0
    for stream in range(200):
        arms = [arm(name, outcomes(rng, 0.6, rows=60, spread=0.03)) for name in ("finetune", "random", "tlm")]
        called += any(c.verdict != "no evidence" for c in judged(arms, PAIRS[:2], stream=stream).comparisons)
    assert called <= 0.08 * 200


def test_the_verdict_is_that_of_the_statistics(arms: list[ArmResult]) -> None:
    c = of(judged(arms, PAIRS), "tlm", "random")
    assert arms[2].outcomes is not None
    assert arms[1].outcomes is not None
    effect = bootstrap(arms[2].outcomes, arms[1].outcomes, macro_f1, np.random.default_rng(5))
    assert c.delta == effect.delta
    assert (c.low, c.high) == pytest.approx((effect.low, effect.high), abs=0.01)  # another stream, the same interval

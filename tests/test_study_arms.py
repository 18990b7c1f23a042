"""From the study file to arms: what is refused, what equal means, and which questions are asked."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.config import build, choose, parse_config
from trivium.core import Stage
from trivium.documents import BM25, SELECTORS, NoDocuments, RandomDocuments
from trivium.errors import ConfigError
from trivium.masking import MASKERS, RandomTokens, WholeWord
from trivium.study.arms import (
    Arm,
    equalise,
    questions,
    resolve,
    spelled,
    spelled_masker,
    spelled_stage,
)
from trivium.training.recipes import Recipe
from trivium.training.turns import planned_updates

JOINT, TUNE = {"preset": "tlm-joint"}, {"preset": "finetune"}
BEST = {"kind": "bm25", "max_tokens": 9000}
CHANCE = {"kind": "random", "max_tokens": 9000}


def arms_of(arms: Mapping[str, Any], **changes: Any) -> dict[str, Arm]:
    raw = {"name": "s", "task": {"path": "t"}, "corpus": "c", "baseline": next(iter(arms)), "arms": arms, **changes}
    return resolve(parse_config(raw, "study.yaml"))


def test_what_a_study_leaves_out_is_filled_in() -> None:
    arms = arms_of(
        {
            "finetune": {"stages": [TUNE]},
            "tlm": {"documents": BEST, "masker": {"kind": "whole_word", "rate": 0.3}, "stages": [JOINT, TUNE]},
        },
        encoder={"scratch": "tiny"},
    )
    assert list(arms) == ["finetune", "tlm"]
    assert arms["finetune"].selector == NoDocuments()
    assert arms["finetune"].recipe.masker == RandomTokens()
    assert arms["tlm"].selector == BM25(max_tokens=9000)
    assert arms["tlm"].recipe.masker == WholeWord(0.3)
    joint, tune = arms["tlm"].recipe.stages
    assert (joint.name, joint.mix, joint.lr) == ("tlm-joint", {"documents": 4, "task": 1}, 3e-3)
    assert tune == arms["finetune"].recipe.stages[0]


def test_a_preset_gives_way_to_what_is_said() -> None:
    stage = {**TUNE, "updates": 7, "name": "short"}
    (short,) = arms_of({"finetune": {"stages": [stage]}})["finetune"].recipe.stages
    assert (short.name, short.updates, short.epochs) == ("short", 7, None)


@pytest.mark.parametrize(
    ("arm", "told"),
    [
        ({"stages": [JOINT, TUNE]}, "arms.a: stage 'tlm-joint' reads documents, but the arm chooses none. Give doc"),
        ({"documents": BEST, "stages": [TUNE]}, "arms.a: it chooses documents, but no stage reads them; add {preset:"),
        (
            {"documents": BEST, "stages": [TUNE, {"preset": "adapt"}]},
            "arms.a.stages: the last stage, 'adapt', does not",
        ),
        ({"stages": [TUNE, TUNE]}, "arms.a.stages: two stages are called 'finetune'; give a 'name'."),
        ({"stages": [{"preset": "finetun"}]}, "arms.a.stages.0: unknown preset 'finetun'; known are finetune, adapt"),
        ({"stages": [{}]}, "arms.a.stages.0, name: this key is missing\narms.a.stages.0, mix: this key is missing"),
        ({"stages": [{**TUNE, "lrr": 1}]}, "arms.a.stages.0: unknown key 'lrr'; did you mean 'lr'?"),
        ({"stages": [{**TUNE, "updates": 1, "epochs": 1}]}, "arms.a.stages.0: stage 'finetune': give exactly one of"),
        (
            {"stages": [TUNE, {**TUNE, "name": "b", "lr": -1}]},
            "arms.a.stages.1: stage 'b', lr: expected a number from 0",
        ),
        ({"stages": [{"preset": "multitask"}, TUNE]}, "arms.a: stage 'multitask' learns auxiliary tasks"),
        (
            {"stages": [{**TUNE, "mix": {"tsak": 1}}]},
            "arms.a.stages.0, mix.tsak: expected 'task', 'documents', 'texts' or 'auxiliary'",
        ),
        ({"masker": {"kind": "wholeword"}, "stages": [TUNE]}, "arms.a.masker: unknown kind 'wholeword'; did you mean"),
        ({"masker": {"kind": "random", "rate": 15}, "stages": [TUNE]}, "arms.a.masker: masker.rate: expected a share"),
        (
            {"documents": {"kind": "bm52"}, "stages": [JOINT, TUNE]},
            "arms.a.documents: unknown kind 'bm52'; did you mean",
        ),
        ({"documents": {"max_tokens": 1}, "stages": [JOINT, TUNE]}, "arms.a.documents: expected 'kind', one of bm25"),
    ],
)
def test_an_arm_that_cannot_be_trained_is_refused(arm: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        arms_of({"a": arm})
    assert str(error.value).startswith(told)


def test_reading_needs_a_corpus_and_an_encoder_one_kind() -> None:
    with pytest.raises(ConfigError, match="a: it reads documents, but the study has no 'corpus'"):
        arms_of({"a": {"documents": BEST, "stages": [JOINT, TUNE]}}, corpus=None)
    for encoder in ({}, {"scratch": "tiny", "pretrained": "x"}):
        with pytest.raises(ConfigError, match=r"encoder: expected one of 'scratch' .* and 'pretrained'"):
            arms_of({"a": {"stages": [TUNE]}}, encoder=encoder)
    with pytest.raises(ConfigError, match=r"encoder, scratch: expected 'tiny', 'mini'.*found 'huge'"):
        arms_of({"a": {"stages": [TUNE]}}, encoder={"scratch": "huge"})


LENGTH = st.fixed_dictionaries({"updates": st.integers(1, 50)}) | st.fixed_dictionaries({"epochs": st.floats(0.1, 5)})
MIX = st.sampled_from(
    [{"task": 1}, {"documents": 1}, {"texts": 1}, {"documents": 3, "task": 2}, {"documents": 2, "texts": 1}]
)
STAGES = st.lists(st.builds(lambda length, mix: Stage("s", mix, **length), LENGTH, MIX), min_size=1, max_size=3)


@given(st.lists(STAGES, min_size=1, max_size=4), st.integers(1, 200), st.integers(1, 9000))
@settings(max_examples=60, deadline=None)
def test_equal_arms_spend_alike_and_only_last_stages_grow(recipes: list[list[Stage]], rows: int, tokens: int) -> None:
    arms = {str(i): Arm(str(i), NoDocuments(), Recipe(tuple(stages))) for i, stages in enumerate(recipes)}
    read: dict[str, dict[Any, int]] = {n: {"documents": tokens + i, "texts": tokens // 2} for i, n in enumerate(arms)}
    planned = {n: [planned_updates(s, rows, read[n]) for s in arm.recipe.stages] for n, arm in arms.items()}
    longest = max(map(sum, planned.values()))

    def lengths(made: dict[str, Arm]) -> dict[str, list[int | None]]:
        return {name: [stage.updates for stage in arm.recipe.stages] for name, arm in made.items()}

    assert lengths(equalise(arms, rows, read, equal="nothing")) == planned
    made = equalise(arms, rows, read, equal="updates")
    for name, updates in lengths(made).items():
        assert sum(n or 0 for n in updates) == longest
        assert updates[:-1] == planned[name][:-1]
    for name, arm in made.items():
        for before, after in zip(arms[name].recipe.stages, arm.recipe.stages, strict=True):
            assert replace(after, updates=before.updates, epochs=before.epochs) == before
    assert equalise(made, rows, read, equal="updates") == made


def test_fine_tuning_alone_may_go_on_for_as_long_as_others_read() -> None:
    arms = arms_of(
        {
            "finetune": {"stages": [{**TUNE, "epochs": 2, "batch_rows": 10}]},
            "tlm": {"documents": BEST, "stages": [{**JOINT, "updates": 30}, {**TUNE, "epochs": 1, "batch_rows": 10}]},
        }
    )
    made = equalise(arms, 45, {"tlm": {"documents": 9000}}, equal="updates")
    assert [stage.updates for stage in made["finetune"].recipe.stages] == [35]
    assert [stage.updates for stage in made["tlm"].recipe.stages] == [30, 5]


def test_every_arm_is_asked_against_the_baseline_and_against_its_random_twin() -> None:
    arms = arms_of(
        {
            "finetune": {"stages": [TUNE]},
            "random": {"documents": CHANCE, "stages": [JOINT, TUNE]},
            "tlm": {"documents": BEST, "stages": [JOINT, TUNE]},
            "wide": {"documents": {**BEST, "per_query": 500}, "stages": [JOINT, TUNE]},
            "masked": {"documents": BEST, "masker": {"kind": "whole_word"}, "stages": [JOINT, TUNE]},
            "longer": {"documents": BEST, "stages": [{**JOINT, "updates": 9}, TUNE]},
        }
    )
    against = [(name, "finetune") for name in arms if name != "finetune"]
    assert questions(arms, "finetune") == [*against, ("tlm", "random"), ("wide", "random")]
    against = [(name, "random") for name in arms if name != "random"]
    assert questions(arms, "random") == against, "the baseline is asked about once"


def test_arms_that_read_nothing_have_no_twin() -> None:
    arms = arms_of({"a": {"stages": [TUNE]}, "b": {"stages": [{**TUNE, "lr": 0.1}]}})
    assert questions(arms, "a") == [("b", "a")]


@pytest.mark.parametrize("strategy", [BM25(per_query=3, max_tokens=5), RandomDocuments(max_bytes=7), NoDocuments()])
def test_a_selector_is_spelled_as_the_study_file_would(strategy: Any) -> None:
    told = spelled(strategy, SELECTORS)
    assert choose(SELECTORS, told, "here") == strategy
    assert SELECTORS[spelled(strategy, SELECTORS)["kind"]] is type(strategy)
    assert set(told) == {"kind", *asdict(strategy)}


def test_a_masker_and_a_stage_are_spelled_as_the_study_file_would() -> None:
    for masker in (WholeWord(0.2), RandomTokens(0.4)):
        assert choose(MASKERS, spelled_masker(masker), "here") == masker
    assert spelled_masker(RandomTokens()) == {"kind": "random", "rate": 0.15}
    for options in (JOINT, TUNE):
        (*_, stage) = arms_of({"a": {"documents": BEST, "stages": [JOINT, {**options, "name": "s"}]}})[
            "a"
        ].recipe.stages
        assert build(Stage, spelled_stage(stage), "here") == stage


def test_a_class_of_the_users_is_spelled_by_where_it_is(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_own_rule.py").write_text(
        "from trivium.masking import RandomTokens\n\n\nclass Mine(RandomTokens):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = {"kind": "users_own_rule:Mine", "rate": 0.2}
    masker = arms_of({"a": {"masker": mine, "stages": [{"preset": "tapt"}, TUNE]}})["a"].recipe.masker
    assert spelled_masker(masker) == {"kind": "users_own_rule:Mine", "rate": 0.2}
    assert choose(MASKERS, spelled_masker(masker), "here") == masker

"""Grids of arms, arms with encoders of their own, and studies that add seeds: from the study file to the verdict."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from conftest import tiny_study
from trivium.config import parse_config
from trivium.encoders import Scratch
from trivium.errors import ConfigError
from trivium.study.arms import resolve
from trivium.study.looks import plan_looks
from trivium.study.runner import run
from trivium.study.statistics import Effect

TUNE = {"preset": "finetune", "updates": 2, "batch_rows": 8}
JOINT = {"preset": "tlm-joint", "updates": 3, "batch_tokens": 256, "batch_rows": 8}
BEST = {"kind": "bm25", "per_query": 1, "max_tokens": 500}


def raw(data: Path, **changes: Any) -> dict[str, Any]:
    study = {key: value for key, value in tiny_study(data).items() if key not in ("arms", "baseline")}
    return {**study, **changes}


GRID: dict[str, Any] = {
    "documents": {"none": None, "bm25": BEST},
    "masker": {"random": {"kind": "random"}, "words": {"kind": "whole_word"}},
    "stages": [JOINT, TUNE],
}


def test_a_grid_is_an_arm_for_every_combination(data: Path) -> None:
    config = parse_config(raw(data, grid=GRID), "tiny.yaml")
    assert list(config.arms) == ["none+random", "none+words", "bm25+random", "bm25+words"]
    assert config.baseline == "none+random"
    arms = resolve(config)
    assert [arm.recipe.stages[0].mix for arm in arms.values()] == [{"task": 1}] * 2 + [{"documents": 4, "task": 1}] * 2


def test_a_stage_that_only_reads_is_left_out_where_nothing_is_read(data: Path) -> None:
    grid = {"documents": GRID["documents"], "stages": [{"preset": "adapt", "updates": 3}, TUNE]}
    arms = resolve(parse_config(raw(data, grid=grid), "tiny.yaml"))
    assert [[stage.name for stage in arm.recipe.stages] for arm in arms.values()] == [
        ["finetune"],
        ["adapt", "finetune"],
    ]
    alone = {"documents": GRID["documents"], "stages": [{"preset": "adapt", "updates": 3}]}
    with pytest.raises(ConfigError, match=r"arms.none.stages: nothing is left without documents; add finetune"):
        resolve(parse_config(raw(data, grid=alone), "tiny.yaml"))


def test_an_arm_that_is_written_out_wins_over_its_cell(data: Path) -> None:
    given = {"none+random": {"stages": [TUNE]}, "finetune": {"stages": [TUNE]}}
    config = parse_config(raw(data, grid=GRID, arms=given), "tiny.yaml")
    assert len(config.arms) == 5
    assert config.baseline == "finetune"
    assert len(config.arms["none+random"].stages) == 1


def test_stages_and_encoders_are_factors_too(data: Path) -> None:
    grid = {"stages": {"short": [TUNE], "long": [{**TUNE, "updates": 4}]}, "encoder": {"a": "tiny", "b": "mini"}}
    config = parse_config(raw(data, grid=grid), "tiny.yaml")
    assert config.grid is not None
    assert config.grid.factors == {"encoder": ("a", "b"), "stages": ("short", "long")}
    assert {name: arm.spec for name, arm in resolve(config).items()} == {
        "a+short": Scratch("tiny"),
        "a+long": Scratch("tiny"),
        "b+short": Scratch("mini"),
        "b+long": Scratch("mini"),
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "arms: expected one or more arms, or a grid; found neither"),
        ({"grid": {"documents": {}}}, "grid.stages: this key is missing"),
        ({"grid": {**GRID, "texts": {}}}, "unknown key"),
        ({"grid": GRID, "adaptive": True, "seeds": 2}, "adaptive: expected at least 3 seeds to begin with, found 2"),
    ],
)
def test_what_cannot_be(data: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_config(raw(data, **changes), "tiny.yaml")


def test_a_grid_is_run_and_answers_for_its_factors(data: Path, tmp_path: Path) -> None:
    study = run(parse_config(raw(data, grid=GRID, seeds=1, linear=False), "tiny.yaml"), runs=tmp_path)
    effects = study.verdict.effects
    assert [tuple(effect.change) for effect in effects] == [("documents",), ("masker",), ("documents", "masker")]
    means = {name: arm.mean or 0.0 for name, arm in study.verdict.arms.items()}
    expected = np.mean([means["bm25+random"], means["bm25+words"]]) - np.mean(
        [means["none+random"], means["none+words"]]
    )
    assert effects[0].delta == pytest.approx(expected)
    assert "documents bm25 instead of none" in study.report.read_text(encoding="utf-8")
    again = parse_config(yaml.safe_load((study.folder / "config.yaml").read_text()), "config.yaml")
    assert list(again.arms) == list(study.verdict.arms)
    assert run(again, runs=tmp_path).verdict == study.verdict
    made = json.loads((study.folder / "manifest.json").read_text())["artifacts"]
    assert {one["status"] for one in made} == {"reused"}, "what config.yaml says is what was run"


def test_seeds_are_added_until_the_question_is_settled(data: Path, tmp_path: Path) -> None:
    arms = {"finetune": {"stages": [TUNE]}, "slow": {"stages": [{**TUNE, "lr": 1e-5}]}}
    base = {**raw(data, arms=arms, linear=False), "seeds": 3}
    adaptive = parse_config({**base, "adaptive": {"step": 1, "most": 5}}, "tiny.yaml")
    study = run(adaptive, runs=tmp_path / "adaptive")
    verdict = study.verdict
    assert verdict.looks == plan_looks(3, 1, 5)[: len(verdict.looks)]
    assert len(verdict.seeds) == verdict.looks[-1].seeds
    assert verdict.settled
    fixed = run(parse_config({**base, "seeds": len(verdict.seeds)}, "tiny.yaml"), runs=tmp_path / "fixed").verdict
    assert {n: a.per_seed for n, a in fixed.arms.items()} == {n: a.per_seed for n, a in verdict.arms.items()}
    before = (study.folder / "verdict.json").read_bytes()
    run(adaptive, runs=tmp_path / "adaptive")
    assert (study.folder / "verdict.json").read_bytes() == before
    notes = json.loads((study.folder / "manifest.json").read_text())["notes"]
    assert not any("looked at before" in note for note in notes)


# -- looking more than once --------------------------------------------------------------------------------------------


def sequential(rng: np.random.Generator, difference: float, sd: float = 1.0) -> tuple[bool, int]:
    """Whether a study that adds seeds calls a difference over seeds, and with how many."""
    from trivium.study.looks import settled

    looks = plan_looks(3, 2, 11)
    drawn = difference + sd * rng.normal(size=looks[-1].seeds)
    for look in looks:
        some = drawn[: look.seeds]
        effect = Effect(float(some.mean()), float(some.std(ddof=1) / np.sqrt(look.seeds)), 0.0, 0.0, look.seeds, 1000)
        if settled(effect, effect.p, 1, look, looks[-1]):
            return effect.p < look.level, look.seeds
    raise AssertionError("the last look settles everything")


def test_looking_often_does_not_call_what_is_not_there(rng: np.random.Generator) -> None:
    called = np.mean([sequential(rng, 0.0)[0] for _ in range(1000)])
    assert called <= 0.05 + 2.33 * np.sqrt(0.05 * 0.95 / 1000)  # a binomial bound of one in a hundred


def test_a_large_effect_takes_few_seeds_and_a_small_one_more(rng: np.random.Generator) -> None:
    large, small = ([sequential(rng, d) for _ in range(300)] for d in (6.0, 1.2))
    assert np.mean([found for found, _ in large]) > 0.99
    assert np.mean([found for found, _ in small]) > 0.6
    assert np.mean([seeds for _, seeds in large]) < 7 < np.mean([seeds for _, seeds in small])


@pytest.mark.parametrize(("first", "step", "most"), [(3, 2, 12), (3, 1, 4), (5, 5, 20), (7, 2, 5), (3, 5, 6)])
def test_levels_add_up_and_grow(first: int, step: int, most: int) -> None:
    looks = plan_looks(first, step, most)
    assert sum(look.level for look in looks) == pytest.approx(0.05)
    assert looks[0].seeds == first
    assert looks[-1].seeds == max(first, most)
    assert all(a.seeds < b.seeds for a, b in pairwise(looks))

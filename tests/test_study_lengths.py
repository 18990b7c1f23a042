"""What arms spend alike: updates, tokens, or floating-point operations."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import make_task, tiny_study
from trivium.config import parse_config
from trivium.core import Stage, Task
from trivium.documents import NoDocuments
from trivium.encoders import Encoder
from trivium.kinds import Encoded
from trivium.masking import RandomTokens
from trivium.study.arms import Arm, equalise
from trivium.study.runner import run
from trivium.training import Scratch
from trivium.training.loop import StageRun
from trivium.training.recipes import Recipe
from trivium.training.spending import flops_per_token, rate_of, shares

Fresh = Callable[[Scratch], Encoder]
TINY = Scratch("tiny", vocabulary=512)


def arm_of(name: str, *stages: Stage) -> Arm:
    return Arm(name, NoDocuments(), Recipe(stages))


def test_the_last_stage_is_lengthened_until_arms_cost_alike() -> None:
    read, tune = Stage("read", {"documents": 1}, updates=10), Stage("tune", {"task": 1}, updates=6)
    arms = {"short": arm_of("short", tune), "long": arm_of("long", read, tune)}
    costs = {"short": [40.0], "long": [100.0, 30.0]}  # 240 and 1180: 23 updates more of 40 leave 20 of them over
    made = equalise(arms, 60, {}, None, costs, equal="tokens")
    assert [stage.updates for stage in made["short"].recipe.stages] == [29]
    assert made["long"] == arms["long"]
    assert equalise(made, 60, {}, None, costs, equal="tokens") == made
    assert equalise(arms, 60, {}, None, costs, equal="nothing") == arms


def test_operations_of_a_token_are_six_for_a_weight_that_learns_and_two_for_one_that_does_not(fresh: Fresh) -> None:
    encoder = fresh(TINY)
    whole = encoder.parameter_count
    assert flops_per_token(encoder) == 6 * whole
    frozen = sum(
        weight.numel()
        for name, weight in encoder.backbone.named_parameters()
        if name.startswith(("embeddings.", "layers.0."))
    )
    assert 0 < frozen < whole
    assert flops_per_token(encoder, freeze=1) == 6 * whole - 4 * frozen
    encoder.add_head(make_task(6))
    assert flops_per_token(encoder) == 6 * whole  # heads of tasks are not counted


@pytest.fixture
def begun(fresh: Fresh, task: Task, documents: Encoded) -> Callable[..., StageRun]:
    def begin(mix: dict[Any, int], **keys: Any) -> StageRun:
        stage = Stage("s", mix, updates=40, batch_rows=8, batch_tokens=256, max_length=32, dropout=0.0, **keys)
        other = replace(make_task(24, seed=3), name="other")
        beside = [replace(other, tables={"train": other.rows("train")})]
        return StageRun(fresh(TINY), stage, task, documents, RandomTokens(), 0, beside)

    return begin


@pytest.mark.parametrize(
    ("mix", "keys"),
    [
        ({"task": 1}, {}),
        ({"documents": 3, "task": 1}, {}),
        ({"task": 1, "auxiliary": 1}, {"sampling": "proportional"}),
        ({"task": 1, "auxiliary": 1}, {"combine": "pcgrad"}),
    ],
)
def test_the_rate_is_what_updates_are_found_to_read(
    begun: Callable[..., StageRun], mix: dict[str, int], keys: dict[str, str]
) -> None:
    run = begun(mix, **keys)
    rate = rate_of(run)
    for update in range(40):
        run.step(update)
    assert rate.read == pytest.approx(run.trace.tokens / 40, rel=0.05)
    assert rate.computed == pytest.approx(run.trace.padded / 40, rel=0.05)
    assert sum(shares(run).values()) == pytest.approx(1)


@pytest.mark.parametrize("equal", ["tokens", "flops"])
def test_arms_of_a_study_spend_alike(equal: str, data: Path, tmp_path: Path) -> None:
    raw = tiny_study(data)
    raw["arms"] = {name: arm for name, arm in raw["arms"].items() if name != "random"}
    for arm in raw["arms"].values():
        arm["stages"][-1] |= {"patience": None}
    raw["arms"]["tlm"]["stages"][-1] |= {"freeze": 1}
    study = run(parse_config({**raw, "equal": equal, "seeds": 1, "linear": False}, "s.yaml"), runs=tmp_path)
    arms = study.verdict.arms
    assert arms["finetune"].updates > 8
    spent = {name: getattr(arm, equal) for name, arm in arms.items()}
    assert spent["finetune"] == pytest.approx(spent["tlm"], rel=0.1)
    traces = [json.loads(file.read_text()) for file in study.folder.glob("artifacts/stage-*/trace.json")]
    assert sum(trace["flops"] for trace in traces) == pytest.approx(sum(arm.flops for arm in arms.values()))
    assert "FLOPs" in (study.folder / "report.md").read_text()

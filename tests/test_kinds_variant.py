"""Tests of kinds of a user's own: ones of ours that learn, or are judged, in another way."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from trivium import load_task
from trivium.cli import app
from trivium.config import parse_config
from trivium.core import Stage, Task
from trivium.data.saved import load_saved_task, save_task
from trivium.errors import ConfigError
from trivium.kinds import KINDS, Batch, Classify, kind_of
from trivium.kinds.metrics import Counts, Metric
from trivium.study.runner import run
from trivium.training import Recipe, Scratch, evaluate, train
from trivium.training.checkpoint import weights_of

TUNE = Recipe((Stage("tune", {"task": 1}, updates=6, lr=1e-3, batch_rows=8, max_length=32),))
TINY = Scratch("tiny", vocabulary=512)


@dataclass(frozen=True)
class Same(Classify):
    """Classification by another name."""


def hits(counts: Counts) -> Counts:
    """How many rows are right."""
    return np.asarray(counts.reshape(*counts.shape[:-1], 3, -1)[..., 0, :].sum(-1))


@dataclass(frozen=True)
class Focal(Classify):
    """Rows that are right already count for little."""

    gamma: float = 2.0

    @property
    def metrics(self) -> Mapping[str, Metric]:
        return {**super().metrics, "hits": hits}

    def loss(self, logits: Tensor, batch: Batch, weights: Tensor | None) -> Tensor:
        right = torch.exp(-super().loss(logits, batch, None))
        return (1 - right) ** self.gamma * super().loss(logits, batch, weights)


@dataclass(frozen=True)
class Stubborn(Classify):
    """Always the first label."""

    def decode(self, logits: Tensor, batch: Batch) -> tuple[Any, Any]:
        said, sure = super().decode(logits, batch)
        return np.zeros_like(said), sure


class Alone:
    """No kind of ours."""


def of(task: Task, name: str) -> Task:
    return replace(task, variant=f"{__name__}:{name}")


def test_a_variant_that_changes_nothing_makes_the_same_weights(task: Task) -> None:
    plain = weights_of(train(task, TUNE, encoder=TINY))
    same = weights_of(train(of(task, "Same"), TUNE, encoder=TINY))
    assert all(torch.equal(value, plain[name]) for name, value in same.items())
    other = weights_of(train(of(task, "Focal"), TUNE, encoder=TINY))
    assert not all(torch.equal(value, plain[name]) for name, value in other.items())


def test_it_is_judged_by_its_own_metric(task: Task) -> None:
    focal = replace(of(task, "Focal"), metric="hits")
    score = evaluate(train(focal, TUNE, encoder=TINY), focal)
    assert score.value == (np.asarray(score.gold) == np.asarray(score.predicted)).sum()
    with pytest.raises(ConfigError, match="cannot be judged by 'hits'"):
        kind_of(replace(task, metric="hits"))


def test_it_is_kept_and_told_apart(task: Task, tmp_path: Path) -> None:
    focal = of(task, "Focal")
    assert len({task.fingerprint, focal.fingerprint, of(task, "Same").fingerprint}) == 3
    save_task(focal, tmp_path)
    found = load_saved_task(tmp_path)
    assert found.variant == focal.variant
    assert found.fingerprint == focal.fingerprint


@pytest.mark.parametrize("name", KINDS)
def test_a_subclass_belongs_to_the_family_of_ours(name: str, task: Task) -> None:
    ours = KINDS[name]
    assert ours.family == name
    module = sys.modules[__name__]
    vars(module)["Mine"] = type("Mine", (type(ours),), {})
    mine = kind_of(Task("t", name, next(iter(ours.metrics)), ("a", "b"), {}, variant=f"{__name__}:Mine"))
    assert isinstance(mine, type(ours))
    assert mine.family == name


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (f"{__name__}:Alone", r"task\.kind: expected a subclass of a kind in trivium\.kinds, found '.*:Alone'"),
        (f"{__name__}:Nobody", r"task\.kind: cannot load '.*:Nobody': .* Is the module on PYTHONPATH\?"),
        ("no.such.module:X", r"task\.kind: cannot load 'no\.such\.module:X'"),
        ("clasify", r"task\.kind: unknown kind 'clasify'\. Did you mean 'classify'\?"),
        (":X", r"task\.kind: unknown kind ':X'"),
    ],
)
def test_what_is_no_kind_is_told(kind: str, message: str, data: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task(data / "reviews", kind=kind)


def test_what_others_need_to_use_its_models_stays_ours(task: Task) -> None:
    with pytest.raises(ConfigError, match=r"to leave decode to Classify.* may change loss, weight, weights, start"):
        kind_of(of(task, "Stubborn"))
    with pytest.raises(ConfigError, match=r"expected a subclass of Tag, found '.*:Same'"):
        kind_of(replace(of(task, "Same"), kind="tag", metric="accuracy"))


def test_a_study_in_workers_ends_in_models_that_answer_without_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune = {"preset": "finetune", "updates": 4, "max_length": 32}
    study = {
        "name": "focal",
        "task": {"path": str(data / "reviews"), "kind": f"{__name__}:Focal", "metric": "hits"},
        "encoder": {"scratch": "tiny", "vocabulary": 512},
        "arms": {"finetune": {"stages": [tune]}},
        "seeds": 2,
        "engine": {"workers": 2},
    }
    result = run(parse_config(study, "here"), runs=tmp_path)
    assert result.verdict.arms["finetune"].mean > 0
    assert f"learned and judged as {__name__}:Focal says" in (tmp_path / "focal" / "report.html").read_text()

    def nobody(*_args: Any) -> None:
        raise AssertionError("a model's folder names no code")

    monkeypatch.setattr("trivium.kinds.own_class", nobody)
    model = tmp_path / "focal" / "models" / "finetune" / "seed-0"
    answer = CliRunner().invoke(app, ["predict", str(model)], input="the rook takes the bishop\n")
    assert answer.exit_code == 0, answer.output
    assert set(json.loads(answer.stdout)["probabilities"]) == {"chess", "cooking", "sailing"}

"""How far two losses agree about the backbone: what is told is right, and asking changes no weight."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trivium.core import Stage, Task
from trivium.errors import ConfigError
from trivium.kinds import Encoded
from trivium.masking import RandomTokens
from trivium.study.job import _decisive
from trivium.training import Encoder, Scratch, loop, run_stage
from trivium.training.agreement import backbone_layers, cosines
from trivium.training.checkpoint import weights_of
from trivium.training.loop import StageRun, Trace

Fresh = Callable[[Scratch], Encoder]
JOINT = Stage(
    "joint", {"documents": 2, "task": 1}, updates=9, lr=1e-3, mlm_weight=2.0, batch_tokens=256, batch_rows=8,
    max_length=32, dropout=0.1, evaluate_every=4,
)  # fmt: skip
HIDING = replace(JOINT, name="hiding", mix={"task": 1})
TAPT = replace(JOINT, name="tapt", mix={"texts": 1, "task": 1}, mlm_weight=0.0)


def run(encoder: Encoder, stage: Stage, task: Task, documents: Encoded, **more: Any) -> Trace:
    return run_stage(encoder, stage, task, documents=documents, masker=RandomTokens(), seed=0, **more)


def agreements(trace: Trace) -> list[dict[str, Any]]:
    return [event for event in trace.events if event["event"] == "gradients"]


def others(trace: Trace) -> list[dict[str, Any]]:
    return [event for event in trace.events if event["event"] != "gradients"]


@pytest.mark.parametrize("stage", [JOINT, HIDING, TAPT], ids=lambda stage: stage.name)
def test_asking_changes_nothing_else(spec: Scratch, fresh: Fresh, task: Task, documents: Encoded, stage: Stage) -> None:
    """Weights, losses, looks and counts are the same to the bit, dropout and gaps included."""
    silent, asked = fresh(spec), fresh(spec)
    without, told = run(silent, stage, task, documents), run(asked, replace(stage, gradients_every=2), task, documents)
    before, after = weights_of(silent), weights_of(asked)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert others(told) == others(without)
    for counted in ("updates", "tokens", "padded", "maskable", "hidden", "best"):
        assert getattr(told, counted) == getattr(without, counted)
    assert not agreements(without)
    assert [event["update"] for event in agreements(told)] == [0, 2, 4, 6, 8]
    for event in agreements(told):
        assert {"embeddings", "1", "2"} <= set(event["layers"])
        assert all(-1 <= value <= 1 for value in [event["cosine"], *event["layers"].values()])


def test_going_on_asks_what_would_have_been_asked(
    fresh: Fresh, task: Task, documents: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)  # a checkpoint after every update
    spec, stage = Scratch("tiny", vocabulary=512), replace(JOINT, gradients_every=3)
    whole = run(fresh(spec), stage, task, documents)

    class KilledError(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 6:
            raise KilledError

    with pytest.raises(KilledError):
        run(fresh(spec), stage, task, documents, resume=tmp_path / "checkpoint", watch=kill)
    again = run(fresh(spec), stage, task, documents, resume=tmp_path / "checkpoint")
    assert agreements(again) == agreements(whole)


def test_the_cosine_is_that_of_the_two_losses(fresh: Fresh, task: Task, documents: Encoded) -> None:
    """Without dropout the gradients of a batch are what one pass over it gives, and their cosine is the one told."""
    stage = replace(HIDING, dropout=0.0, gradients_every=1)
    encoder = fresh(Scratch("tiny", vocabulary=512)).train()
    for layer in (m for m in encoder.modules() if isinstance(m, torch.nn.Dropout)):
        layer.p = 0.0
    one = StageRun(encoder, stage, task.sealed(), documents, RandomTokens(), 0)
    one._compare_gradients(0)
    told = one.trace.events[-1]
    work = one._work(task.name, one.compared["task"][1].batch(0), 0, "compared")
    hidden = encoder.hidden(work.batch, work.gaps.ids if work.gaps else None)
    losses = one._fill_loss(hidden, work), one._answer_loss(hidden, work, task.name)
    layers = backbone_layers(encoder)
    weights = [weight for layer in layers.values() for weight in layer]
    both = [torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True) for loss in losses]

    def cosine(mine: set[int]) -> Tensor:
        pairs = [(a, b) for w, a, b in zip(weights, *both, strict=True) if id(w) in mine]
        known = [(a.flatten(), b.flatten()) for a, b in pairs if a is not None and b is not None]
        lone = [[g.flatten() for g in side if g is not None] for side in zip(*pairs, strict=True)]
        dot = sum(a @ b for a, b in known)
        return dot / (torch.cat(lone[0]).norm() * torch.cat(lone[1]).norm())

    assert told["cosine"] == pytest.approx(float(cosine(set(map(id, weights)))), abs=2e-4)
    for layer, value in told["layers"].items():
        assert value == pytest.approx(float(cosine(set(map(id, layers[layer])))), abs=2e-4)


def test_gradients_worked_out_by_hand() -> None:
    """⟨(3, 4), (4, 3)⟩ = 24 of 25 in the first layer; opposite in the second; together (24 − 4) / √(29·29)."""
    mlm = {"1": [torch.tensor([3.0, 4.0])], "2": [torch.tensor([2.0]), None], "top": [torch.tensor([0.0])]}
    task = {"1": [torch.tensor([4.0, 3.0])], "2": [torch.tensor([-2.0]), None], "top": [torch.tensor([0.0])]}
    assert cosines(mlm, task) == {"cosine": round(20 / 29, 4), "layers": {"1": 0.96, "2": -1.0}}
    assert cosines({"1": [None]}, {"1": [torch.ones(2)]}) == {"cosine": None, "layers": {}}


def test_layers_hold_the_backbone_once_and_nothing_that_is_frozen(spec: Scratch, fresh: Fresh, task: Task) -> None:
    encoder = fresh(spec)
    encoder.add_head(task)
    layers = backbone_layers(encoder)
    assert list(layers)[:3] == ["embeddings", "1", "2"]
    found = [id(weight) for layer in layers.values() for weight in layer]
    assert sorted(found) == sorted({id(weight) for weight in encoder.backbone.parameters()})
    for weight in layers["1"]:
        weight.requires_grad_(False)
    assert "1" not in backbone_layers(encoder)


@pytest.mark.parametrize("mix", [{"task": 1}, {"documents": 1}])
def test_one_loss_alone_agrees_with_nobody(mix: Any) -> None:
    with pytest.raises(ConfigError, match="stage 's': 'gradients_every' compares"):
        Stage("s", mix, updates=1, gradients_every=1)


def test_a_stage_that_does_not_ask_is_named_as_it_ever_was() -> None:
    assert _decisive({"lr": 1.0, "gradients_every": None}) == {"lr": 1.0}
    assert _decisive({"lr": 1.0, "gradients_every": 5}) == {"lr": 1.0, "gradients_every": 5}

"""Auxiliary gradients that conflict with the primary task's: what each rule makes of them, and what is told."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

import test_training_parts
from conftest import sentence
from trivium.core import Stage, Task
from trivium.encoders.encoder import inputs_of
from trivium.errors import ConfigError
from trivium.kinds import Batch
from trivium.masking import RandomTokens
from trivium.training import Encoder, Scratch, loop, run_stage
from trivium.training.checkpoint import put_weights, weights_of
from trivium.training.combine import Meetings, combine, shared_weights
from trivium.training.evaluation import answers
from trivium.training.loop import StageRun, Trace
from trivium.training.parallel import World

SPEC = Scratch("tiny", vocabulary=512)
STAGE = Stage(
    "mixed", {"task": 1, "auxiliary": 2}, updates=9, lr=1e-3, warmup=0.0, batch_rows=16, max_length=16, dropout=0.0,
    evaluate_every=100, keep_best=False,
)  # fmt: skip
COMBINED = replace(test_training_parts.MIXED, combine="pcgrad")
RULES = pytest.mark.parametrize("rule", ["pcgrad", "cosine"])
Fresh = Callable[[Scratch], Encoder]


def two_topics(name: str, rows: int = 16, *, rare: int = 8, seed: int = 0, flipped: bool = False) -> Task:
    """Two topics that words give away, one of them rare; flipped, each is called the other."""
    rng = np.random.default_rng(seed)

    def table(many: int) -> pa.Table:
        gold = (np.arange(many) % rare == 0).astype(np.int64)
        texts = [sentence(rng, ["chess", "sailing"][g], 6) for g in gold]
        label = 1 - gold if flipped else gold
        return pa.table({"text": texts, "label": label, "file": ["f"] * many, "row": np.arange(many) + 1})

    tables: dict[Any, pa.Table] = {"train": table(rows), "dev": table(32), "test": table(2)}
    return Task(name, "classify", "accuracy", ("chess", "sailing"), tables)


PRIMARY = two_topics("primary")
FRIEND, FOE = two_topics("friend"), two_topics("foe", flipped=True)


def same_heads(encoder: Encoder, *others: Task) -> Encoder:
    """The others' heads begin as the primary's: what is called otherwise then pulls the backbone the other way."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for one in (PRIMARY, *others):
            if not encoder.has_head(one.name):
                encoder.add_head(one)
            encoder.heads[f"task-{one.name}"].load_state_dict(encoder.heads["task-primary"].state_dict())
    return encoder


def started(encoder: Encoder, stage: Stage, *others: Task) -> StageRun:
    run = StageRun(encoder.train(), stage, PRIMARY.sealed(), None, RandomTokens(), 0, others)
    for layer in (m for m in encoder.modules() if isinstance(m, nn.Dropout)):
        layer.p = 0.0
    return run


def trained(encoder: Encoder, stage: Stage, *others: Task, **how: Any) -> Trace:
    return run_stage(encoder, stage, PRIMARY, auxiliary=others, masker=RandomTokens(), seed=0, **how)


def told(trace: Trace) -> dict[str, Any]:
    """What a stage said last of its conflicts."""
    found: dict[str, Any] = [event["tasks"] for event in trace.events if event["event"] == "conflicts"][-1]
    return found


def gradients(encoder: Encoder, task: str, batch: Batch) -> dict[str, torch.Tensor]:
    """Of the mean loss of a batch, on every weight, worked out without the loop; 0 where it is none."""
    encoder.zero_grad()
    hidden = encoder.backbone(**inputs_of(batch)).last_hidden_state
    F.cross_entropy(encoder.answer(task, hidden, batch), batch.labels).backward()  # type: ignore[arg-type]
    found = {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad
        for name, weight in encoder.named_parameters()
    }
    encoder.zero_grad()
    return found


def update(run: StageRun, number: int) -> dict[str, torch.Tensor]:
    """Make an update; the gradients that the optimiser was given, before they were clipped."""
    given: dict[str, torch.Tensor] = {}

    def look(*_: Any) -> None:
        given.update({n: p.grad.clone() for n, p in run.encoder.named_parameters() if p.grad is not None})

    handle = run.optimizer.register_step_pre_hook(look)
    run.step(number)
    handle.remove()
    return given


def flat(found: dict[str, torch.Tensor], names: list[str]) -> torch.Tensor:
    return torch.cat([found[name].double().flatten() for name in names])


def auxiliary_turn(run: StageRun) -> tuple[int, str]:
    turns = ((number, run.turns.turn(number)[0]) for number in range(run.updates))
    return next((number, name) for number, name in turns if name != PRIMARY.name)


def weight(*gradient: float) -> nn.Parameter:
    made = nn.Parameter(torch.zeros(len(gradient)))
    made.grad = torch.tensor(gradient, dtype=torch.float32)
    return made


def test_a_projection_worked_out_by_hand() -> None:
    """⟨a, p⟩ = -3 and |p|² = 5, so 3/5 of p is added; weights that one of them lacks count as 0."""
    one, two, lone, idle, apart = weight(-1, 2), weight(1), weight(7), weight(0), weight(0)
    idle.grad = apart.grad = None
    weights, primary = [one, two, lone, idle, apart], [torch.tensor([2.0, 0]), torch.tensor([-1.0]), None, None, None]
    size = math.sqrt((1 + 4 + 1 + 49) * 5)
    assert combine("pcgrad", weights, primary, World()) == pytest.approx(-3 / size)
    assert_close(torch.cat([w.grad for w in (one, two, lone)]), torch.tensor([0.2, 2.0, 0.4, 7.0]))  # type: ignore[misc]
    assert idle.grad is None
    other = weight(-1)
    assert combine("pcgrad", [other, apart], [torch.tensor([1.0]), torch.tensor([1.0])], World()) < 0
    assert_close(torch.cat([other.grad, apart.grad]), torch.tensor([-0.5, 0.5]))  # type: ignore[list-item]


@RULES
def test_no_gradient_is_no_conflict(rule: str) -> None:
    for ours, theirs in (([0.0, 0.0], [1.0, 2.0]), ([1.0, -2.0], [0.0, 0.0]), ([1.0, 0.0], [0.0, 3.0])):
        one = weight(*ours)
        assert combine(rule, [one], [torch.tensor(theirs)], World()) == 0
        assert_close(one.grad, torch.tensor(ours), rtol=0, atol=0)
    frozen = weight(0)
    frozen.grad = None
    assert combine(rule, [frozen], [None], World()) == 0
    assert frozen.grad is None


NUMBERS = st.lists(st.integers(-1000, 1000).map(lambda n: n / 100), min_size=5, max_size=5)


@given(NUMBERS, NUMBERS)
def test_only_what_conflicts_is_changed(ours: list[float], theirs: list[float]) -> None:
    before, primary = torch.tensor(ours), torch.tensor(theirs)
    for rule in ("pcgrad", "cosine"):
        weights = [weight(*ours[:2]), weight(*ours[2:])]
        cosine = combine(rule, weights, [primary[:2], primary[2:]], World())
        assert abs(cosine) <= 1 + 1e-6
        if cosine >= 0:
            assert before.double() @ primary.double() >= -1e-6
            assert torch.equal(torch.cat([w.grad for w in weights]), before)  # type: ignore[misc]
        elif rule == "cosine":
            assert all(w.grad is None for w in weights)
        else:
            after = torch.cat([w.grad for w in weights])  # type: ignore[misc]
            assert abs(after @ primary) <= 1e-5 * (1 + before.norm() * primary.norm())
            assert after.norm() <= before.norm() * (1 + 1e-6)
            along = (before - after) / primary.norm()  # what was taken off lies along the primary's
            assert_close(along, (along @ primary / primary.norm() ** 2) * primary, atol=1e-4, rtol=1e-3)


@RULES
def test_all_processes_decide_what_the_first_does(rule: str) -> None:
    class Follower(World):
        def told(self, values: torch.Tensor) -> torch.Tensor:
            return torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)

    one = weight(1.0, 0.0)
    assert combine(rule, [one], [torch.tensor([1.0, 0.0])], Follower(1, 2)) == -1
    assert one.grad is None if rule == "cosine" else torch.equal(one.grad, torch.tensor([2.0, 0.0]))  # type: ignore[arg-type]


def test_what_is_shared_is_all_but_the_heads(fresh: Fresh) -> None:
    encoder = same_heads(fresh(SPEC), FOE)
    shared = {id(one) for one in shared_weights(encoder)}
    assert shared == {id(one) for part in (encoder.backbone, encoder.mlm) for one in part.parameters()}
    assert not shared & {id(one) for one in encoder.heads.parameters()}


def loss_after(encoder: Encoder, batch: Batch, step: dict[str, torch.Tensor]) -> float:
    """The primary task's on a batch, after a plain step of descent on the shared weights; which is taken back."""
    kept = weights_of(encoder)
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            if name in step and not name.startswith("heads."):
                value.sub_(step[name])
        hidden = encoder.backbone(**inputs_of(batch)).last_hidden_state
        loss = F.cross_entropy(encoder.answer(PRIMARY.name, hidden, batch), batch.labels)  # type: ignore[arg-type]
    put_weights(encoder, kept)
    return float(loss)


def test_a_small_step_of_what_is_left_does_the_primary_task_no_harm(fresh: Fresh) -> None:
    run = started(same_heads(fresh(SPEC), FOE), replace(STAGE, combine="pcgrad", clip=1e9, lr=0.0), FOE)
    number, name = auxiliary_turn(run)
    batch = run.primary.batch(number)
    own = gradients(run.encoder, name, run.streams[name].batch(run.turns.turn(number)[1]))
    given = update(run, number)
    size = 0.01 / float(flat(own, list(own)).norm())
    before, followed, left = (
        loss_after(run.encoder, batch, {n: size * value for n, value in step.items()}) for step in ({}, own, given)
    )
    assert followed > before
    assert abs(left - before) < 0.1 * (followed - before)


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_a_conflicting_gradient_is_made_orthogonal(architecture: Any, fresh: Fresh) -> None:
    """Both gradients are worked out apart from the loop; the optimiser gets the difference of Yu et al."""
    spec = replace(SPEC, architecture=architecture)
    run = started(same_heads(fresh(spec), FOE), replace(STAGE, combine="pcgrad", clip=1e9), FOE)
    number, name = auxiliary_turn(run)
    own = gradients(run.encoder, name, run.streams[name].batch(run.turns.turn(number)[1]))
    primary = gradients(run.encoder, PRIMARY.name, run.primary.batch(number))
    given = update(run, number)
    names = [n for n in given if not n.startswith("heads.")]
    a, p, g = (flat(found, names) for found in (own, primary, given))
    cosine = a @ p / (a.norm() * p.norm())
    assert cosine < -0.2
    assert run.meetings[name].cosines == pytest.approx(float(cosine), abs=1e-5)
    assert abs(g @ p) < 1e-5 * a.norm() * p.norm()
    assert_close(g, a - (a @ p) / (p @ p) * p, atol=1e-6, rtol=1e-4)
    head = [n for n in given if n.startswith("heads.")]
    assert head
    assert all(n.startswith("heads.task-foe.") for n in head)
    assert_close(flat(given, head), flat(own, head), atol=1e-7, rtol=1e-4)


def test_the_gate_leaves_shared_weights_untouched_and_lets_the_head_learn(fresh: Fresh) -> None:
    """Also where momentum of earlier updates, and decay, would move them."""
    stage = replace(STAGE, combine="cosine", weight_decay=0.1, lr=1e-5)  # so low that gradients still conflict after it
    run = started(same_heads(fresh(SPEC), FOE), stage, FOE)
    place = next(n for n in range(9) if run.turns.turn(n)[0] == PRIMARY.name)
    run.step(place)
    same_heads(run.encoder, FOE)
    before = weights_of(run.encoder)
    number, _ = auxiliary_turn(run)
    run.step(number)
    assert run.meetings["foe"] == Meetings(1, 1, run.meetings["foe"].cosines)
    moved = {name for name, value in weights_of(run.encoder).items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("heads.task-foe.") for name in moved)


@RULES
def test_without_a_conflict_nothing_changes(rule: Any, fresh: Fresh) -> None:
    plain, combined = (same_heads(fresh(SPEC), FRIEND) for _ in range(2))
    without = trained(plain, replace(STAGE, updates=6, lr=1e-4), FRIEND)
    trace = trained(combined, replace(STAGE, updates=6, lr=1e-4, combine=rule), FRIEND)
    assert told(trace)["friend"]["share"] == 0
    assert told(trace)["friend"]["turns"] == 4
    assert not any(event["event"] == "conflicts" for event in without.events)
    for name, value in weights_of(plain).items():
        assert torch.equal(value, weights_of(combined)[name]), name


def test_batches_of_turns_stay_and_what_is_read_beside_is_counted(fresh: Fresh, monkeypatch: Any) -> None:
    made = StageRun._work
    seen: list[tuple[str, int, tuple[str, ...], Any]] = []

    def work(self: StageRun, name: str, batch: Batch, number: int, *child: str) -> Any:
        seen.append((name, number, child, made(self, name, batch, number, *child)))
        return seen[-1][3]

    monkeypatch.setattr(StageRun, "_work", work)
    stage = replace(STAGE, mlm_weight=1.0, batch_rows=4)
    trained(same_heads(fresh(SPEC), FRIEND, FOE), stage, FRIEND, FOE)
    plain, seen[:] = list(seen), []
    trace = trained(same_heads(fresh(SPEC), FRIEND, FOE), replace(stage, combine="pcgrad"), FRIEND, FOE)
    turns = [one for one in seen if not one[2]]
    assert [one[:3] for one in turns] == [one[:3] for one in plain]
    for one, other in zip(turns, plain, strict=True):
        assert torch.equal(one[3].batch.ids, other[3].batch.ids)
        assert torch.equal(one[3].gaps.positions, other[3].gaps.positions)
    beside = [one for one in seen if one[2]]
    assert [number for _, number, _, _ in beside] == [number for name, number, _, _ in plain if name != PRIMARY.name]
    assert {name for name, *_ in beside} == {PRIMARY.name}
    assert len({tuple(one[3].batch.ids[0].tolist()) for one in beside}) > 2
    assert trace.tokens == sum(int(one[3].batch.attention.sum()) for one in seen)
    assert trace.padded == sum(one[3].tokens for one in seen)
    assert trace.hidden == sum(len(one[3].gaps.targets) for one in seen)


@RULES
def test_what_is_told_is_what_was_met(rule: Any, fresh: Fresh, monkeypatch: Any) -> None:
    met: list[float] = []

    def spied(*arguments: Any) -> float:
        met.append(combine(*arguments))
        return met[-1]

    monkeypatch.setattr(loop, "combine", spied)
    stage = replace(STAGE, combine=rule, sampling={"primary": 1, "friend": 2, "foe": 1})
    encoder = same_heads(fresh(SPEC), FRIEND, FOE)
    trace = trained(encoder, stage, FRIEND, FOE)
    names = [started(encoder, stage, FRIEND, FOE).turns.turn(number)[0] for number in range(9)]
    names = [name for name in names if name != PRIMARY.name]
    assert len(names) == len(met) > 3
    for name, said in told(trace).items():
        own = [cosine for one, cosine in zip(names, met, strict=True) if one == name]
        assert said["turns"] == len(own)
        assert said["cosine"] == pytest.approx(np.mean(own))
        assert said["share"] == pytest.approx(np.mean(np.array(own) < 0))
    assert min(met) < 0 < max(met)
    assert Meetings().told() == {"turns": 0, "share": None, "cosine": None}


@RULES
def test_going_on_equals_never_stopping(rule: Any, fresh: Fresh, tmp_path: Path, monkeypatch: Any) -> None:
    class KilledError(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 4:
            raise KilledError

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    stage = replace(STAGE, combine=rule, updates=6, dropout=0.1, mlm_weight=0.5, micro_tokens=100)
    whole, killed, again = (same_heads(fresh(SPEC), FRIEND, FOE) for _ in range(3))
    one = trained(whole, stage, FRIEND, FOE)
    with pytest.raises(KilledError):
        trained(killed, stage, FRIEND, FOE, resume=tmp_path / "kept", watch=kill)
    two = trained(again, stage, FRIEND, FOE, resume=tmp_path / "kept")
    assert two.events == one.events
    assert (two.tokens, two.padded) == (one.tokens, one.padded)
    assert json.loads(json.dumps(two.events)) == two.events
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(again)[name]), name


@RULES
@pytest.mark.parametrize("other", [FRIEND, FOE], ids=["friend", "foe"])
def test_parts_equal_the_whole_batch(rule: Any, other: Task, fresh: Fresh) -> None:
    found = []
    for limit in (10**9, 100, 1):
        stage = replace(STAGE, combine=rule, micro_tokens=limit, clip=1e9)
        run = started(same_heads(fresh(SPEC), other), stage, other)
        found.append((update(run, auxiliary_turn(run)[0]), run.meetings[other.name]))
    whole, met = found[0]
    assert met.conflicts == (other is FOE)
    for parted, also in found[1:]:
        assert (also.turns, also.conflicts) == (met.turns, met.conflicts)
        assert also.cosines == pytest.approx(met.cosines, abs=1e-5)
        assert parted.keys() == whole.keys()
        for name, value in whole.items():
            assert_close(parted[name], value, atol=2e-6, rtol=1e-4, msg=name)


@RULES
def test_short_memory_changes_no_decision(rule: Any, fresh: Fresh, monkeypatch: Any) -> None:
    """The device holds 70 tokens, and runs out of memory in both gradients of an update."""
    stage = replace(STAGE, combine=rule, updates=6, lr=1e-4)
    roomy, tight = (same_heads(fresh(SPEC), FRIEND, FOE) for _ in range(2))
    one = trained(roomy, stage, FRIEND, FOE)
    enough, short = Encoder.hidden, iter([True, False, True, True])

    def hidden(self: Encoder, batch: Batch, ids: Any = None) -> Any:
        if self.training and batch.ids.numel() > 70 and batch.rows > 1:
            raise torch.OutOfMemoryError("no more")
        return enough(self, batch, ids)

    def reset(self: StageRun, work: Any, number: int, *child: str) -> None:
        self.micro_tokens = 10**6 if next(short, False) else self.micro_tokens
        first(self, work, number, *child)

    first = StageRun._add_gradients
    monkeypatch.setattr(Encoder, "hidden", hidden)
    monkeypatch.setattr(StageRun, "_add_gradients", reset)
    two = trained(tight, stage, FRIEND, FOE)
    assert sum(event["event"] == "memory" for event in two.events) > 3
    for name, said in told(one).items():
        assert told(two)[name] == pytest.approx(said, abs=1e-3)
    for name, value in weights_of(roomy).items():
        assert_close(value, weights_of(tight)[name], atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.slow
def test_two_processes_make_the_updates_of_one(tmp_path: Path, monkeypatch: Any) -> None:
    from safetensors.torch import load_file

    script = test_training_parts.SCRIPT.replace("encoder, MIXED,", "encoder, COMBINED,")
    script = script.replace("import MIXED, SPEC", "import SPEC").replace(
        "from trivium.masking", "from test_training_combine import COMBINED\nfrom trivium.masking"
    )
    monkeypatch.setattr(test_training_parts, "SCRIPT", script)
    assert test_training_parts.launched(tmp_path / "one", 1) == 0
    assert test_training_parts.launched(tmp_path / "two", 2, stop=10) != 0
    assert test_training_parts.launched(tmp_path / "two", 2) == 0
    one, two = (json.loads((tmp_path / name / "trace.json").read_text()) for name in ("one", "two"))
    first, second = ([event["tasks"] for event in events if event["event"] == "conflicts"] for events in (one, two))
    assert len(first) == len(second) == 14
    assert sum(said["turns"] for said in first[-1].values()) > 5
    for name, said in first[-1].items():
        assert second[-1][name] == pytest.approx(said, abs=1e-4)
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    for name in set(one) - {f"heads.task-{kind}.classifier.bias" for kind in ("rank", "span")}:
        assert (two[name] - one[name]).abs().max() <= 1e-6, name


def test_an_auxiliary_task_that_pulls_the_other_way_does_less_harm_behind_the_gate(fresh: Fresh) -> None:
    """An encoder that knows the primary task meets one with the same words, the same head, and flipped labels.

    Nothing of the kind can be promised of ``pcgrad``: AdamW makes a large step of what is left, and not orthogonal.
    """
    encoder = same_heads(fresh(SPEC))
    trained(encoder, replace(STAGE, mix={"task": 1}, updates=8))
    knows = weights_of(same_heads(encoder, FOE))
    stage = replace(STAGE, mix={"task": 1, "auxiliary": 3}, updates=6, lr=3e-4)
    run = started(encoder, stage, FOE)

    def loss() -> float:
        assert run.dev is not None
        return float(answers(encoder, PRIMARY, run.dev, PRIMARY.rows("dev"))[2].mean())

    before = loss()
    for seed in range(3):
        harm = {}
        for rule in ("alternate", "cosine"):
            put_weights(encoder, knows)
            trained(encoder, replace(stage, combine=rule), two_topics("foe", seed=seed, flipped=True))  # type: ignore[arg-type]
            harm[rule] = loss() - before
        assert harm["alternate"] > 0.05
        assert harm["cosine"] < 0.2 * harm["alternate"]


@pytest.mark.parametrize("mix", [{"task": 1}, {"auxiliary": 1}, {"documents": 1, "task": 1}])
@RULES
def test_rules_need_both_sides(mix: Any, rule: Any) -> None:
    with pytest.raises(ConfigError, match=f"combine: {rule}.*needs both in 'mix'"):
        Stage("s", mix, updates=3, combine=rule)
    assert Stage("s", mix, updates=3).combine == "alternate"
    with pytest.raises(ConfigError, match="expected one of alternate, pcgrad, cosine"):
        Stage("s", {"task": 1, "auxiliary": 1}, updates=3, combine="average")  # type: ignore[arg-type]

"""Selectors by texts and by gradients: exact where they say so, right on planted tasks, silent on planted nulls."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch.testing import assert_close

from conftest import sentence
from test_training import SHAPES, pretrained
from test_training_kinds import make
from trivium import seeds
from trivium.auxiliary import gradcos, textemb
from trivium.auxiliary.choosers import Chooser
from trivium.auxiliary.gradcos import GradCos, Gradient
from trivium.auxiliary.projected import Projected, directions
from trivium.auxiliary.projections import Projection, key_value_layers, rated, row_gradients
from trivium.auxiliary.protocol import Beside, Trial
from trivium.auxiliary.textemb import TextEmb, embeddings
from trivium.core import Floats, Stage, Task
from trivium.encoders import Encoder, Pretrained, Scratch, from_pretrained
from trivium.encoders.encoder import inputs_of
from trivium.encoders.streams import subset
from trivium.errors import ConfigError, DataError
from trivium.kinds import KINDS, Cut, kind_of
from trivium.masking import RandomTokens
from trivium.masking.asking import at_rest, batches, encode, states
from trivium.training import new_encoder, run_stage

SPEC = Scratch("tiny", vocabulary=512)
TUNE = Stage("tune", {"task": 1}, updates=1, lr=1e-3, batch_rows=16, max_length=32, keep_best=False)
CUT = Cut(TUNE.max_length)
TOPICS = ("cooking", "sailing")
SELECTORS: Mapping[str, Chooser] = {"textemb": TextEmb(), "gradcos": GradCos(blocks=4), "projected": Projected()}


@dataclass(frozen=True)
class MemoryBank:
    """A bank whose encoders are there already: those of a seed differ by what a test made of them."""

    task: Task
    candidates: tuple[Task, ...]
    start: Encoder
    learned: Mapping[int, Encoder] = field(default_factory=dict)
    seed: int = 0

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.learned) or (0,)

    def language(self, seed: int) -> Encoder:
        return copy.deepcopy(self.start)

    def finetuned(self, task: Task, seed: int) -> Encoder:
        raise AssertionError("no selector here looks at tasks learned alone")

    def joint(self, seed: int) -> Encoder:
        return copy.deepcopy(self.learned[seed])

    def stage(self, preset: str, **changes: Any) -> Stage:
        return replace(TUNE, **changes)

    def sample(self, task: Task) -> Task:
        return replace(task, tables={"train": task.rows("train").slice(0, 60)})

    def importance(self, task: Task, estimator: Any) -> Any:
        raise AssertionError("no selector here looks at heads")

    def trials(self, sets: Sequence[Beside]) -> list[Trial]:
        raise AssertionError("ranking tries nothing")


def topic_task(name: str, seed: int, *, rows: int = 60, topics: tuple[str, str] = TOPICS, flipped: float = 0.0) -> Task:
    """Which of two topics a text is of; a share of the labels, drawn by chance, say the other."""
    rng = np.random.default_rng(seed)
    gold = np.arange(rows) % 2
    texts = [sentence(rng, topics[g], 10) for g in gold]
    wrong = rng.permutation(rows) < flipped * rows
    columns = {"text": texts, "label": np.where(wrong, 1 - gold, gold), "file": ["f"] * rows, "row": list(range(rows))}
    return Task(name, "classify", "accuracy", topics, {"train": pa.table({**columns, "wrong": wrong})})


def joint(start: Encoder, task: Task, others: Sequence[Task], seed: int, updates: int = 4) -> Encoder:
    """The task and others learned beside each other: so few updates of each that gradients do not cancel yet."""
    encoder = copy.deepcopy(start)
    stage = replace(TUNE, updates=updates * (1 + len(others)))
    if others:
        stage = replace(stage, mix={"task": 1, "auxiliary": 1}, sampling="uniform")
    run_stage(encoder, stage, task, auxiliary=others, masker=RandomTokens(), seed=seed)
    return encoder


def untrained(encoder: Encoder, tasks: Sequence[Task]) -> Encoder:
    """With a fresh head for each task."""
    with seeds.torch_scope(0, "heads"):
        for task in tasks:
            encoder.add_head(task)
            encoder.keep_cut(task, CUT)
    return encoder


@pytest.fixture(scope="module")
def start(tokenizer: Any) -> Encoder:
    return new_encoder(SPEC, tokenizer, 64, seed=0)


@pytest.fixture(scope="module")
def planted(start: Encoder) -> MemoryBank:
    """Beside the task: its rule on other texts, twice, made alike; and labels that are chance."""
    task = topic_task("task", 0)
    others = topic_task("same", 1), topic_task("alike", 2), topic_task("chance", 3, flipped=0.5)
    return MemoryBank(task, others, start, {seed: joint(start, task, others, seed) for seed in (0, 1)})


@pytest.fixture(scope="module")
def one_head(start: Encoder) -> MemoryBank:
    """Candidates that answer through a copy of the task's head: what their labels want, their gradients say.

    With a head of its own, a candidate whose labels are all exchanged is the same task under other names.
    """
    task = topic_task("task", 0)
    encoder = joint(start, task, [], seed=0)
    others = topic_task("same", 1), topic_task("flipped", 1, flipped=1.0), topic_task("half", 3, flipped=0.5)
    for other in others:
        encoder.heads[f"task-{other.name}"] = encoder.heads["task-task"]
    return MemoryBank(task, others, start, {0: encoder})


# --- projections


@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 300), min_size=1, max_size=8))
@settings(max_examples=10, deadline=None)
def test_a_projection_is_the_same_whatever_the_pieces(seed: int, sizes: list[int]) -> None:
    vectors = torch.from_numpy(np.random.default_rng(seed).normal(size=(3, sum(sizes))))
    projection = Projection(128, seed)
    assert_close(projection.of("w", torch.split(vectors, sizes, 1)), projection.of("w", [vectors]))


def test_a_projection_is_linear_signed_and_of_its_seed_and_name() -> None:
    every = Projection(64, 0).of("w", [torch.eye(500)])
    assert (every.abs().sum(1) == 1).all()  # one ±1 for each coordinate
    assert set(every.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert (every.abs().sum(0) > 0).all()
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 500))).float()
    assert_close(Projection(64, 0).of("w", [vectors]), vectors @ every)
    others = [Projection(64, 1).of("w", [vectors]), Projection(64, 0).of("v", [vectors])]
    assert not any(torch.allclose(other, vectors @ every) for other in others)


def test_a_projection_keeps_inner_products_as_well_as_it_says() -> None:
    """Unbiased, and with the variance of the docstring, over many seeds; for even and for uneven vectors."""
    rng, few = np.random.default_rng(0), 32
    x, y = rng.normal(size=(2, 200)) * np.exp(rng.normal(size=200))
    images = [Projection(few, seed).of("w", [torch.from_numpy(np.stack([x, y]))]).numpy() for seed in range(1500)]
    found = np.array([one @ two for one, two in images])
    variance = ((x @ x) * (y @ y) + (x @ y) ** 2 - 2 * (x * x * y * y).sum()) / few
    assert abs(found.mean() - x @ y) < 4 * (variance / len(found)) ** 0.5
    assert found.var() == pytest.approx(variance, rel=0.15)


# --- gradients of rows


def whole(encoder: Encoder, task: Task, batch: Any) -> dict[str, torch.Tensor]:
    return {name: torch.cat(list(pieces), 1) for name, pieces in row_gradients(encoder, task, batch, block=2**14)}


def one_by_one(encoder: Encoder, task: Task) -> dict[str, torch.Tensor]:
    """Gradients of each row's loss, by a loop over rows that knows nothing of hooks."""
    encoded, found = encode(encoder, task), []
    weights = {name: layer.weight for name, layer in key_value_layers(encoder).items()}
    for row in range(len(encoded)):
        ((_, batch),) = batches(encoder, subset(encoded, np.array([row])))
        logits = encoder.answer(task.name, encoder.backbone(**inputs_of(batch)).last_hidden_state, batch)
        loss = kind_of(task).loss(logits, batch, None).sum()
        found.append([slope.flatten() for slope in torch.autograd.grad(loss, list(weights.values()))])
    return {name: torch.stack(of) for name, of in zip(weights, zip(*found, strict=True), strict=True)}


def assert_batched_is_loop(encoder: Encoder, task: Task) -> None:
    with at_rest(encoder):
        ((rows, batch),) = batches(encoder, encode(encoder, task))
        batched, loop = whole(encoder, task, batch), one_by_one(encoder, task)
    assert batched.keys() == loop.keys()
    for name, gradients in batched.items():
        scale = loop[name].abs().max()
        assert scale > 0
        assert_close(gradients / scale, loop[name][rows] / scale, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_rows_are_those_of_a_loop_for_every_kind(kind: str, start: Encoder) -> None:
    task = make(kind, 6)
    assert_batched_is_loop(untrained(copy.deepcopy(start), [task]), task)


def test_windows_of_a_row_are_added_up(start: Encoder) -> None:
    task = topic_task("task", 0, rows=4)
    encoder = untrained(copy.deepcopy(start), [task])
    encoder.keep_cut(task, Cut(8, "windows", 2))
    assert encode(encoder, task).widths.max() > 1
    assert_batched_is_loop(encoder, task)


BOTH = {"relative_attention": True, "share_att_key": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8}


@pytest.mark.parametrize("name", [*SHAPES, "shared"])
def test_gradients_of_rows_are_those_of_a_loop_for_every_architecture(
    name: str, tokenizer: Any, tmp_path: Path
) -> None:
    kind, shape = ("deberta-v2", {**SHAPES["deberta-v2"], **BOTH}) if name == "shared" else (name, SHAPES[name])
    with seeds.torch_scope(0, name):
        encoder = from_pretrained(Pretrained(str(pretrained(kind, shape, tokenizer, tmp_path))))
    task = make("rank", 4)
    assert_batched_is_loop(untrained(encoder, [task]), task)


def test_frozen_layers_have_gradients_too(start: Encoder) -> None:
    task = topic_task("task", 0, rows=4)
    encoder = untrained(copy.deepcopy(start), [task])
    with at_rest(encoder):
        ((_, batch),) = batches(encoder, encode(encoder, task))
        expected = whole(encoder, task, batch)
        encoder.backbone.requires_grad_(False)
        assert_close(whole(encoder, task, batch), expected)


def test_an_encoder_without_known_layers_is_refused(start: Encoder) -> None:
    encoder = copy.deepcopy(start)
    encoder.backbone.config.model_type = "modernbart"
    with pytest.raises(ConfigError, match=r"whose attention heads are known \(bert, .*found 'modernbart'"):
        key_value_layers(encoder)


# --- what each says


@pytest.mark.parametrize("name", SELECTORS)
def test_every_kind_runs_beside_every_other(name: str, start: Encoder) -> None:
    task, *others = tasks = [make(kind, 12) for kind in KINDS]
    bank = MemoryBank(task, tuple(others), start, {0: untrained(copy.deepcopy(start), tasks)})
    ratings = SELECTORS[name].rank(bank)
    assert [one.name for one in ratings] == [other.name for other in others]
    for one in ratings:
        assert -1 <= one.low <= one.score <= one.high <= 1
        assert one.low < one.high


@pytest.mark.parametrize("name", SELECTORS)
def test_ratings_are_a_function_of_the_seed(name: str, planted: MemoryBank) -> None:
    bank = replace(planted, learned={0: planted.learned[0]}, candidates=planted.candidates[:1])
    once, again, other = (SELECTORS[name].rank(replace(bank, seed=seed)) for seed in (5, 5, 6))
    assert once == again
    assert once != other
    assert [one.score for one in once] == pytest.approx([one.score for one in other], abs=0.05)


@pytest.mark.parametrize("name", ["gradcos", "projected"])
def test_the_same_rule_is_above_labels_that_are_chance(name: str, planted: MemoryBank) -> None:
    same, alike, chance = SELECTORS[name].rank(planted)
    assert min(same.score, alike.score) > chance.score + 0.05


@pytest.mark.parametrize("selector", [TextEmb(), GradCos(), Projected()], ids=lambda one: type(one).__name__)
def test_candidates_made_alike_are_rated_alike(selector: Chooser, planted: MemoryBank) -> None:
    """Of all pairs of twelve, answered by one head, at least nine in ten have intervals that overlap."""
    encoder = planted.joint(0)
    alike = tuple(topic_task(f"alike{i}", 100 + i) for i in range(12))
    for task in alike:
        encoder.heads[f"task-{task.name}"] = encoder.heads["task-same"]
    ratings = selector.rank(replace(planted, candidates=alike, learned={0: encoder}))
    overlap = [one.low <= two.high and two.low <= one.high for one, two in combinations(ratings, 2)]
    assert np.mean(overlap) >= 0.9


@pytest.mark.parametrize("name", ["gradcos", "projected"])
def test_labels_that_are_exchanged_point_the_other_way(name: str, one_head: MemoryBank) -> None:
    same, flipped, half = SELECTORS[name].rank(one_head)
    assert same.low > 0 > flipped.high
    assert same.score > half.score > flipped.score


def test_rows_whose_labels_are_right_score_higher(one_head: MemoryBank) -> None:
    half = one_head.candidates[-1]
    scores = Projected().rate_rows(one_head, half)
    wrong = half.rows("train")["wrong"].to_numpy()
    assert scores.shape == (60,)
    assert roc_auc_score(~wrong, scores) > 0.9


def test_rows_are_told_apart_by_a_head_of_their_own(start: Encoder) -> None:
    """Learned jointly, with a head of its own, a candidate of which a quarter is wrong."""
    task, other = topic_task("task", 0), topic_task("noisy", 4, flipped=0.25, rows=80)
    bank = MemoryBank(task, (other,), start, {0: joint(start, task, [other], seed=0, updates=16)})
    scores = Projected().rate_rows(bank, other)
    assert scores.shape == (80,)
    assert roc_auc_score(~other.rows("train")["wrong"].to_numpy(), scores) > 0.7


# --- gradients


def test_the_gradient_of_a_task_is_that_of_its_loss(planted: MemoryBank) -> None:
    """However its rows are dealt; and blocks, projected, add up to it."""
    encoder, task = planted.joint(0), planted.task
    with at_rest(encoder):
        ((_, batch),) = batches(encoder, encode(encoder, task))
        loss = kind_of(task).loss(encoder.answer(task.name, states(encoder, batch), batch), batch, None).sum()
    names, weights = zip(*encoder.backbone.named_parameters(), strict=True)
    expected = torch.autograd.grad(loss, weights, materialize_grads=True)
    few = torch.cat([gradcos._FEW.of(n, [e.view(1, -1)]) for n, e in zip(names, expected, strict=True)]).sum(0)
    for blocks in (1, 7):
        found = Gradient.of(encoder, task, blocks, np.random.default_rng(0))
        assert_close(list(found.weights), list(expected), atol=1e-4, rtol=1e-3)
        assert found.blocks.shape[0] == blocks
        assert_close(torch.from_numpy(found.blocks.sum(0)).float(), few, atol=1e-3, rtol=1e-3)


def test_a_gradient_has_cosine_1_with_itself_and_minus_1_with_its_opposite() -> None:
    weights = [torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([12.0])]
    one = Gradient(weights, np.ones((2, 3)))
    assert one.cosine(one) == pytest.approx(1)
    assert one.cosine(Gradient([-part for part in weights], one.blocks)) == pytest.approx(-1)
    assert one.cosine(Gradient([torch.zeros(2, 2), torch.tensor([1.0])], one.blocks)) == pytest.approx(12 / 13)
    assert one.cosine(Gradient([torch.zeros(2, 2), torch.zeros(1)], one.blocks)) == 0


def test_blocks_that_agree_leave_no_doubt_and_blocks_that_do_not_leave_much() -> None:
    rng = np.random.default_rng(0)
    agree = Gradient([torch.ones(1)], np.tile([1.0, 2.0], (8, 1)))
    noise = Gradient([torch.ones(1)], rng.normal(size=(8, 2)))
    assert agree.resampled(agree, rng) == pytest.approx(np.ones(1000))
    assert noise.resampled(agree, rng).std() > 0.2


def test_the_interval_of_gradients_says_how_far_other_rows_would_move_them() -> None:
    """Blocks drawn from known populations: the spread that is said is the spread that is there."""
    rng, means = np.random.default_rng(0), np.array([[2.0, 1, 0], [2.0, 0, 1]])
    found, said = [], []
    for _ in range(150):
        one, two = (Gradient([torch.from_numpy(b.sum(0))], b) for b in means[:, None] + rng.normal(size=(2, 16, 3)))
        found.append(one.cosine(two))
        said.append(one.resampled(two, rng).std())
    assert np.mean(said) == pytest.approx(np.std(found), rel=0.2)


def test_a_projected_score_is_the_cosine_of_whole_gradients(planted: MemoryBank) -> None:
    """Within the error that the number of dimensions promises, for each row."""
    encoder, other = planted.joint(0), planted.candidates[0]
    bank = replace(planted, learned={0: encoder})

    def exact(task: Task) -> torch.Tensor:
        with at_rest(encoder):
            ((rows, batch),) = batches(encoder, encode(encoder, task))
            gradients = torch.cat(list(whole(encoder, task, batch).values()), 1)
        return torch.nn.functional.normalize(gradients[np.argsort(rows)], dim=1)

    aim = torch.nn.functional.normalize(exact(bank.task).mean(0), dim=0)
    error = Projected(dimensions=2**15).rate_rows(bank, other) - (exact(other) @ aim).numpy()
    assert np.abs(error).max() < 5 / 2**7.5
    for _, part in directions(encoder, other, Projection(256, 0)):
        assert_close(part.norm(dim=1), torch.ones(len(part)))


# --- texts


def test_an_embedding_is_the_mean_over_words_whatever_else_is_in_the_batch(start: Encoder) -> None:
    texts = ["the old rook", "a very new board of some tempo on it then"]
    table = pa.table({"text": texts, "label": [0, 1], "file": ["f"] * 2, "row": [1, 2]})
    found = embeddings(start, Task("t", "classify", "accuracy", ("a", "b"), {"train": table}), CUT)
    for text, row in zip(texts, found, strict=True):
        ids = start.tokenizer(text, return_tensors="pt")["input_ids"]
        with at_rest(start), torch.inference_mode():
            hidden = start.backbone(input_ids=ids).last_hidden_state[0, 1:-1]
        assert row == pytest.approx(hidden.mean(0).numpy(), abs=1e-5)


def test_rows_without_words_are_left_out_and_a_task_without_any_is_refused(start: Encoder) -> None:
    def of(texts: list[str]) -> Floats:
        many = len(texts)
        table = pa.table({"text": texts, "label": [0] * many, "file": ["f"] * many, "row": list(range(many))})
        return embeddings(start, Task("t", "classify", "accuracy", ("a", "b"), {"train": table}), CUT)

    assert of(["rook", "", "board"]) == pytest.approx(of(["rook", "board"]), abs=1e-6)
    with pytest.raises(DataError, match="rows with text"):
        of([""])


@pytest.mark.parametrize("centre", [False, True])
def test_texts_of_the_same_topics_are_above_texts_of_others(centre: bool, start: Encoder) -> None:
    others = topic_task("same", 1), topic_task("other", 2, topics=("chess", "chess")), topic_task("alike", 3)
    same, other, alike = TextEmb(centre=centre).rank(MemoryBank(topic_task("task", 0), others, start))
    assert min(same.low, alike.low) > other.high


def test_labels_do_not_matter_to_texts(start: Encoder) -> None:
    one, two = (topic_task("other", 1, flipped=share) for share in (0.0, 0.5))
    rated_ = [TextEmb().rank(MemoryBank(topic_task("task", 0), (task,), start)) for task in (one, two)]
    assert rated_[0] == rated_[1]


def test_the_interval_of_texts_covers_what_more_rows_say() -> None:
    """Rows drawn from known populations: the interval holds the cosine of the true means about as often as it says."""
    rng, hits = np.random.default_rng(0), 0
    means = np.array([[2.0, 1, 0], [2.0, 0, 1]])
    for _ in range(100):
        rows = means[:, None] + rng.normal(size=(2, 50, 3))
        score = TextEmb()._cosines(rows.mean(1))
        spread = TextEmb()._cosines(np.stack([textemb._resampled(one, rng) for one in rows], 1)).std()
        hits += abs(score[0] - 0.8) < 1.96 * spread
    assert 0.88 <= hits / 100 <= 1


def test_what_cannot_be_is_refused(start: Encoder) -> None:
    with pytest.raises(ConfigError, match="at least 2 candidates"):
        TextEmb(centre=True).rank(MemoryBank(topic_task("task", 0), (topic_task("other", 1),), start))
    with pytest.raises(ConfigError, match="blocks"):
        GradCos(blocks=1)
    with pytest.raises(ConfigError, match="dimensions"):
        Projected(dimensions=0)


def test_a_rating_of_one_value_has_no_interval_and_none_leaves_what_cosines_can_be() -> None:
    assert np.isnan(rated("one", [0.3]).low)
    three = rated("three", [0.1, 0.2, 0.3])
    assert (three.score, three.high) == (pytest.approx(0.2), pytest.approx(0.2 + 4.303 * 0.1 / 3**0.5, abs=1e-4))
    assert (rated("two", [-0.5, 0.5]).low, rated("two", [-0.5, 0.5]).high) == (-1, 1)

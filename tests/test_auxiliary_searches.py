"""Ways to choose auxiliary tasks that train on the way: TAG, AutoSeM's bandit, Grad-TAG. Planted tasks and goldens."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch.testing import assert_close
from transformers import BertConfig, BertForMaskedLM

from conftest import sentence
from test_training_kinds import make
from trivium import seeds
from trivium.auxiliary import autosem
from trivium.auxiliary.autosem import AutoSem, Bandit, judge, play
from trivium.auxiliary.gradtag import GradTag, Linearised, Surroundings, complements, fitted, linearised
from trivium.auxiliary.projections import Projection, key_value_layers
from trivium.auxiliary.protocol import Beside, Rating, Trial
from trivium.auxiliary.tag import Tag, affinities, learn_looking
from trivium.core import Stage, Task
from trivium.encoders.streams import collate
from trivium.errors import ConfigError
from trivium.kinds import KINDS, kind_of
from trivium.masking import RandomTokens
from trivium.training import Encoder, Scratch, evaluate, run_stage
from trivium.training.loop import StageRun
from trivium.training.recipes import make_stage

SPEC = Scratch("tiny", architecture="bert", vocabulary=512)
RATES = {"lr": 1e-2, "max_length": 48, "patience": None, "keep_best": False}
NAMES = ("cooking", "sailing")


@dataclass
class TinyBank:
    """Trains in memory, an encoder of one layer."""

    task: Task
    candidates: tuple[Task, ...]
    tokenizer: Any
    seed: int = 0
    seeds: tuple[int, ...] = (0,)
    epochs: float = 3
    made: dict[int, Encoder] = field(default_factory=dict)
    tried: list[Beside] = field(default_factory=list)

    def language(self, seed: int) -> Encoder:
        config = BertConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=0.1,
        )
        with seeds.torch_scope(seed, "encoder"):
            return Encoder(BertForMaskedLM(config), self.tokenizer)

    def finetuned(self, task: Task, seed: int) -> Encoder:
        raise AssertionError("nobody here asks for it")

    def joint(self, seed: int) -> Encoder:
        if seed not in self.made:
            encoder, stage = self.language(seed), self.stage("multitask", epochs=self.epochs)
            alone = replace(self.task, tables={"train": self.task.rows("train")})
            run_stage(encoder, stage, alone, auxiliary=self.candidates, masker=RandomTokens(), seed=seed)
            self.made[seed] = encoder
        return copy.deepcopy(self.made[seed])

    def stage(self, preset: str, **changes: Any) -> Stage:
        return make_stage({"preset": preset, **RATES, **changes}, SPEC, preset)

    def sample(self, task: Task) -> Task:
        return replace(task, tables={"train": task.rows("train")})

    def importance(self, tasks: Sequence[Task], estimator: Any) -> Any:
        raise AssertionError("nobody here asks for it")

    def trials(self, sets: Sequence[Beside]) -> list[Trial]:
        self.tried += sets
        return [Trial({}, (1.0 / (1 + len(beside)),), (1.0,), 0.0, 1, np.zeros((1, 1, 1))) for beside in sets]


def planted(name: str, rows: int, how: str, seed: int, dev: int = 0) -> Task:
    """Which of two topics a text is of; or the other one; or labels that have nothing to do with the texts."""
    rng = np.random.default_rng(seed)

    def table(many: int) -> pa.Table:
        gold = np.arange(many) % 2
        texts = [sentence(rng, NAMES[label], 8, 0.4) for label in gold]
        label = {"same": gold, "flipped": 1 - gold, "random": rng.permutation(gold)}[how]
        return pa.table({"text": texts, "label": label, "file": ["f"] * many, "row": range(1, many + 1)})

    tables: dict[Any, pa.Table] = {"train": table(rows)}
    return Task(name, "classify", "accuracy", ("no", "yes"), {**tables, "dev": table(dev)} if dev else tables)


def planted_bank(tokenizer: Any, number: int) -> TinyBank:
    """A task with few rows, and candidates with more."""
    ways = ("random", "same", "flipped")
    candidates = tuple(planted(how, 80, how, 100 * number + i) for i, how in enumerate(ways, start=1))
    return TinyBank(planted("task", 32, "same", 100 * number, dev=64), candidates, tokenizer, number, (number,))


@pytest.fixture(scope="module")
def banks(tokenizer: Any) -> list[TinyBank]:
    return [planted_bank(tokenizer, number) for number in range(3)]


def scores_of(ratings: Sequence[Rating]) -> dict[str, float]:
    return {one.name: one.score for one in ratings}


def demand_planted(found: Sequence[dict[str, float]]) -> None:
    """The rule is found, whichever label is called which: a head of its own undoes the exchange."""
    mean = {name: float(np.mean([scores[name] for scores in found])) for name in found[0]}
    assert min(mean["same"], mean["flipped"]) > max(0, 1.5 * mean["random"]), mean


# -- TAG --------------------------------------------------------------------------------------------------------------


def test_tag_rates_the_same_rule_above_random_labels(banks: list[TinyBank]) -> None:
    demand_planted([scores_of(Tag(every=5, trial_epochs=3).rank(bank)) for bank in banks])


def test_tag_rates_the_same_with_the_same_seed(banks: list[TinyBank]) -> None:
    bank, tag = banks[0], Tag(every=2, trial_epochs=0.5, look_rows=8)
    once, again, other = tag.rank(bank), tag.rank(bank), tag.rank(replace(bank, seed=5))
    assert once == again
    assert once != other
    assert [one.name for one in once] == ["random", "same", "flipped"]
    assert all(one.low < one.score < one.high for one in once)


def weights_after(bank: TinyBank, train: Callable[[Encoder, Stage], Any]) -> dict[str, torch.Tensor]:
    encoder = bank.language(0)
    train(encoder, bank.stage("multitask", epochs=1, dropout=0.3))
    return {name: value.detach().clone() for name, value in encoder.named_parameters()}


def test_looks_change_nothing(banks: list[TinyBank]) -> None:
    bank = banks[0]
    seen = []

    def look(run: StageRun) -> None:
        batch = run.streams["same"].batch(0)
        seen.append(affinities(run, batch, {"same": batch, "random": run.streams["random"].batch(0)}, 0.1))

    def looking(encoder: Encoder, stage: Stage) -> None:
        learn_looking(encoder, stage, bank.task, bank.candidates, 3, 4, look)

    def plainly(encoder: Encoder, stage: Stage) -> None:
        alone = bank.sample(bank.task)
        run_stage(encoder, stage, alone, auxiliary=bank.candidates, masker=RandomTokens(), seed=3)

    once, other = weights_after(bank, looking), weights_after(bank, plainly)
    assert len(seen) > 2
    assert all(torch.equal(once[name], other[name]) for name in other)


def test_a_look_is_a_step_taken_and_taken_back(banks: list[TinyBank]) -> None:
    bank = banks[0]
    encoder, step = bank.joint(0), 0.05
    run = StageRun(
        encoder, bank.stage("multitask", epochs=1), bank.sample(bank.task), None, RandomTokens(), 0, bank.candidates
    )
    own, other = run.streams["task"].batch(0), run.streams["random"].batch(0)
    encoder.train()
    (found,) = affinities(run, own, {"random": other}, step)
    (still,) = affinities(run, own, {"random": other}, 0.0)
    assert encoder.training
    assert all(weight.grad is None for weight in encoder.parameters())

    def loss(name: str, batch: Any) -> torch.Tensor:
        return kind_of(bank.task).loss(encoder.answer(name, encoder.hidden(batch), batch), batch, None).mean()

    encoder.eval()
    before = loss("task", own).item()
    loss("random", other).backward()
    with torch.no_grad():
        for weight in encoder.backbone.parameters():
            weight -= 0 if weight.grad is None else step * weight.grad
    assert found == pytest.approx(1 - loss("task", own).item() / before, abs=1e-6)
    assert still == 0
    assert abs(found) > 1e-4


def test_a_short_stage_is_looked_at_when_it_ends(banks: list[TinyBank]) -> None:
    bank, seen = banks[0], list[int]()
    stage = bank.stage("multitask", updates=3)
    learn_looking(
        bank.language(0), stage, bank.task, bank.candidates, 0, 10, lambda run: seen.append(run.trace.updates)
    )
    assert seen == [3]


# -- AutoSeM ----------------------------------------------------------------------------------------------------------


def test_the_bandit_by_hand() -> None:
    bandit = Bandit.fresh(3)
    for arm, reward in [(0, True), (2, True), (0, False)]:
        bandit = bandit.told(arm, reward, 0.5)
    # arm 0: α 1 → 2 → 1.5 → 1.25, β 1 → 1 → 1 → 2; arm 2: α 1 → 1 → 2 → 1.5
    assert bandit.wins.tolist() == [1.25, 1.0, 1.5]
    assert bandit.losses.tolist() == [2.0, 1.0, 1.0]
    assert bandit.utility.tolist() == pytest.approx([1.25 / 3.25, 0.5, 0.6])


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60), st.sampled_from([0.0, 0.1, 0.3, 0.9]))
def test_what_fades_goes_to_the_prior(rounds: list[tuple[int, bool]], decay: float) -> None:
    bandit = Bandit.fresh(4)
    for arm, reward in rounds:
        bandit = bandit.told(arm, reward, decay)
    assert (bandit.wins >= 1).all()
    assert (bandit.losses >= 1).all()
    if decay == 0:
        assert bandit.wins.tolist() == [1 + sum(r for a, r in rounds if a == arm) for arm in range(4)]
        assert (bandit.wins + bandit.losses).sum() == 8 + len(rounds)
    else:
        assert (bandit.wins + bandit.losses).sum() <= 8 + 1 / decay + 1e-9


def test_a_seed_gives_the_same_arms_and_the_best_is_drawn_most() -> None:
    chances = [0.2, 0.9, 0.5]

    def told(seed: int) -> tuple[Bandit, list[int]]:
        luck = np.random.default_rng(seed)
        return play(Bandit.fresh(3), 300, 0.0, seeds.numpy_rng(seed), lambda arm: bool(luck.random() < chances[arm]))

    (bandit, arms), (_, again), (_, other) = told(0), told(0), told(1)
    assert arms == again != other
    assert np.bincount(arms).argmax() == bandit.utility.argmax() == 1
    assert bandit.utility[1] == pytest.approx(0.9, abs=0.08)


def test_arms_that_are_alike_are_rated_alike() -> None:
    luck = np.random.default_rng(0)
    found = [
        play(Bandit.fresh(3), 60, 0.0, seeds.numpy_rng(i), lambda arm: bool(luck.random() < 0.5))[0].utility
        for i in range(60)
    ]
    assert np.ptp(np.mean(found, axis=0)) < 0.1


def test_autosem_adds_up_what_all_seeds_saw(banks: list[TinyBank], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [Bandit(np.array([9.0, 3, 1, 1]), np.array([1.0, 1, 4, 1])), Bandit(np.array([1.0, 2, 2, 1]), np.ones(4))]
    monkeypatch.setattr(AutoSem, "_played", lambda self, bank, seed: seen[seed])
    choice = AutoSem().choose(replace(banks[0], seeds=(0, 1)))
    found = {one.name: one for one in choice.ratings}
    assert found["random"].score == pytest.approx(4 / 5)  # α 1 + 2 + 1, β 1
    assert found["same"].score == pytest.approx(2 / 6)  # α 1 + 0 + 1, β 1 + 3
    assert (found["flipped"].score, found["flipped"].low) == pytest.approx((0.5, 0.025))  # uniform on [0, 1]
    assert choice.names == ("random", "flipped")


def test_autosem_rewards_what_does_no_harm(banks: list[TinyBank], monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([0.5, 0.5, 0.4, 0.6])
    monkeypatch.setattr(autosem, "judge", lambda *_: lambda: next(values))
    told = []
    monkeypatch.setattr(
        autosem, "play", lambda bandit, rounds, decay, rng, reward: (told.extend(map(reward, (1, 2, 0))),)
    )
    AutoSem(updates=1)._played(banks[0], 0)
    assert told == [True, False, True]


def test_autosem_rates_the_same_with_the_same_seed(banks: list[TinyBank]) -> None:
    bank, way = banks[0], AutoSem(rounds=6, updates=2)
    once, again = way.rank(bank), way.rank(bank)
    assert once == again
    assert [one.name for one in once] == ["random", "same", "flipped"]
    assert all(0 <= one.low <= one.score <= one.high <= 1 for one in once)


def test_autosem_judges_by_the_kept_rows(banks: list[TinyBank]) -> None:
    bank = banks[0]
    encoder = bank.joint(0)
    told = judge(encoder, bank.task, bank.stage("finetune"))()
    assert told == evaluate(encoder, bank.task, split="dev").value


# -- Grad-TAG ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(1e-4, 20), min_size=1, max_size=6), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_margin_gives_back_its_loss_and_gradient(losses: list[float], squares: bool, seed: int) -> None:
    slopes, each = np.random.default_rng(seed).normal(size=(len(losses), 3)), np.array(losses)
    rows = Linearised.of(each, slopes, squares)
    found, by_margin = rows.losses(np.zeros(3))
    np.testing.assert_allclose(found, each, rtol=1e-9)
    np.testing.assert_allclose(by_margin[:, None] * rows.slopes, slopes, rtol=1e-7, atol=1e-12)


def test_squares_are_fitted_by_ridge_regression(rng: np.random.Generator) -> None:
    parts = [Linearised(rng.normal(size=n), rng.normal(size=(n, 4)), squares=True) for n in (20, 30)]
    x, y = np.concatenate([one.slopes for one in parts]), np.concatenate([one.margins for one in parts])
    exact = -np.linalg.solve(2 * x.T @ x + 3.0 * np.eye(4), 2 * x.T @ y)
    np.testing.assert_allclose(fitted(parts, 3.0), exact, atol=1e-4)


def test_from_margins_of_0_it_is_the_logistic_regression_of_the_paper(rng: np.random.Generator) -> None:
    """The paper's code turns gradients of randomly chosen rows round and asks for the label 0 there."""
    slopes = rng.normal(size=(200, 5)) + np.array([0.5, 0, 0, -0.3, 0])
    label = rng.random(200) < 0.7
    model = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-8)
    model.fit(np.where(label[:, None], slopes, -slopes), label)
    np.testing.assert_allclose(fitted([Linearised(np.zeros(200), slopes, False)], 2.0), model.coef_[0], atol=1e-3)


def test_rows_are_linearised_as_one_by_one(banks: list[TinyBank]) -> None:
    bank = banks[0]
    encoder, task, projection = bank.joint(0), bank.task, Projection(16, 0)
    rows = task.rows("dev").slice(0, 5)
    found = linearised(encoder, task, rows, projection)
    encoder.eval()
    kind, layers = kind_of(task), key_value_layers(encoder)
    encoded = kind.encode(encoder.tokenizer, rows, task.labels, encoder.cut_of("task"))
    for i, label in enumerate(rows["label"].to_pylist()):
        batch = collate(encoded, np.array([i]), encoder.tokenizer.pad_token_id, types=encoder.wants_types)
        chance = encoder.answer("task", encoder.hidden(batch), batch).softmax(-1)[0, label]
        margin = (chance / (1 - chance)).log()
        slopes = torch.autograd.grad(margin, [layer.weight for layer in layers.values()])
        image = sum(projection.of(name, [slope.reshape(1, -1)]) for name, slope in zip(layers, slopes, strict=True))
        assert found.margins[i] == pytest.approx(margin.item(), abs=1e-4)
        assert_close(torch.tensor(found.slopes[i]).float(), image[0], rtol=1e-3, atol=1e-4)


@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 1000))
def test_all_sets_where_they_are_few(many: int, pairs: int, seed: int) -> None:
    sets = complements(many, pairs, np.random.default_rng(seed))
    assert sets.shape[1] == many
    assert len(sets) == min(pairs, 2 ** (many - 1))
    both = {tuple(row) for row in np.concatenate([sets, ~sets]).tolist()}
    if len(sets) == 2 ** (many - 1):
        assert len(both) == 2**many


def test_what_adds_up_is_found_exactly(banks: list[TinyBank], monkeypatch: pytest.MonkeyPatch) -> None:
    """If the value of a set is a sum over its members, a score is what its member adds."""
    worth = {"random": -0.5, "same": 2.0, "flipped": 0.25}
    monkeypatch.setattr(Surroundings, "value", lambda self, beside: sum(worth[name] for name in beside))
    monkeypatch.setattr(GradTag, "_surroundings", lambda self, bank: [Surroundings("task", {}, None, 1.0)])
    choice = GradTag().choose(banks[0])
    assert scores_of(choice.ratings) == pytest.approx(worth)
    assert choice.names == ("same", "flipped")
    assert choice.how == {"estimates": [0, 2.0, 2.25, 1.75]}
    worth["same"] = worth["flipped"] = -1.0
    assert GradTag().choose(banks[0]).names == ()


def test_gradtag_rates_the_same_rule_above_random_labels_and_tries_nothing(banks: list[TinyBank]) -> None:
    choices = [GradTag(dimensions=64).choose(bank) for bank in banks]
    demand_planted([scores_of(choice.ratings) for choice in choices])
    assert all(choice.trials == () for choice in choices)
    assert all(bank.tried == [] for bank in banks)
    assert sum("random" in choice.names for choice in choices) < sum("same" in choice.names for choice in choices)


def test_gradtag_may_be_told_to_try(banks: list[TinyBank]) -> None:
    bank = replace(banks[0], tried=[])
    choice = GradTag(dimensions=64, decide="trial", patience=None).choose(bank)
    assert [len(beside) for beside in bank.tried] == [0, 1, 2, 3]
    assert choice.names == ()  # this bank says that every task does harm


def test_gradtag_rates_the_same_with_the_same_seed(banks: list[TinyBank]) -> None:
    way, bank = GradTag(dimensions=32, pairs=3), banks[0]
    assert way.rank(bank) == way.rank(bank)
    assert way.rank(bank) != way.rank(replace(bank, seed=9))


# -- all of them ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kinds_bank(tokenizer: Any) -> TinyBank:
    tasks = [make(kind, 24) for kind in KINDS]
    tasks = [replace(one, tables={"train": one.rows("train"), "dev": one.rows("dev").slice(0, 12)}) for one in tasks]
    bank = TinyBank(tasks[0], tuple(tasks[1:]), tokenizer, epochs=1)
    bank.joint(0)
    return bank


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "way",
    [Tag(every=1, trial_epochs=0.2, look_rows=4), AutoSem(rounds=4, updates=1), GradTag(dimensions=16, pairs=4)],
    ids=lambda way: type(way).__name__,
)
def test_every_kind_can_be_rated_beside_every_other(way: Any, kind: str, kinds_bank: TinyBank) -> None:
    everyone = (kinds_bank.task, *kinds_bank.candidates)
    (task,) = (one for one in everyone if one.name == kind)
    others = tuple(replace(one, tables={"train": one.rows("train")}) for one in everyone if one.name != kind)
    found = way.rank(replace(kinds_bank, task=task, candidates=others))
    assert [one.name for one in found] == [one.name for one in others]
    assert all(np.isfinite(one.score) for one in found)
    assert len({one.score for one in found}) > 1


@pytest.mark.parametrize(
    ("way", "keys"),
    [(Tag, {"every": 0}), (Tag, {"look_rows": 0}), (AutoSem, {"rounds": 0}), (AutoSem, {"updates": 0}),
     (AutoSem, {"decay": 1.0}), (GradTag, {"dimensions": 0}), (GradTag, {"pairs": 0}), (GradTag, {"ridge": 0.0}),
     (GradTag, {"top": 0})],
)  # fmt: skip
def test_keys_that_make_no_sense_are_refused(way: Any, keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(keys))}: expected"):
        way(**keys)

"""Learning what to hide: what is the same for all ways of an episode, what is credited, and that learning works."""

import itertools
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Spy, make_task
from trivium import engine, nmg, seeds
from trivium.core import Task
from trivium.encoders import Encoder, Scratch, train_tokenizer
from trivium.errors import ConfigError, DataError, TrainingError
from trivium.masking import Known, ScoredMasker
from trivium.masking.features import WordFeatures
from trivium.masking.gradalign import GradAlign
from trivium.masking.policy import (
    LinearPolicy,
    NeuralPolicy,
    PolicyMasker,
    entropy,
    log_probabilities,
    take,
)
from trivium.masking.units import Units, gumbel
from trivium.nmg import MASKERS, NMG, PRESETS, learn_masker, make_masker
from trivium.nmg import actor as acting
from trivium.nmg.actor import Actor
from trivium.nmg.credit import against_others, against_rivals, compare
from trivium.nmg.episodes import Arena, Chosen, Outcome, Snapshot, split
from trivium.nmg.learn import Learning, learn
from trivium.nmg.learner import Learner
from trivium.nmg.parallel import play_there
from trivium.nmg.replay import Draws, chances, remember
from trivium.nmg.settled import interval, settled, verdict_on
from trivium.training.models import what_is_known

BENCH = Path(__file__).parents[1] / "bench"
QUICK = NMG(
    rate=0.2, contexts=24, rows=12, max_length=16, batch_rows=8, validation_rows=20,
    fill_epochs=1, fill_rate=0.01, finetune_epochs=1, finetune_rate=0.003,
    episodes=4, patience=False, assess=3, lr=0.05,
)  # fmt: skip
OUTCOMES = st.builds(Outcome, st.floats(-5, 0), st.floats(0, 1))


@pytest.fixture(scope="module")
def planted() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCH))
    import planted

    yield planted
    sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def known(planted: ModuleType) -> Known:
    found: Known = planted.known(planted.planted(120))
    return found


@pytest.fixture(scope="module")
def arena(known: Known) -> Arena:
    return Arena(known, QUICK)


def some_places(arena: Arena, episode: str = "0", seed: int = 0) -> tuple[Any, torch.Tensor]:
    texts = arena.deal(episode)
    units = Units.in_batch(texts.batch)
    count = torch.full((len(units.of),), 2).minimum(units.count)
    numbers = torch.zeros(units.there.shape).masked_fill(~units.there, -torch.inf)
    picks = take(numbers, count, gumbel(numbers.shape, seeds.torch_rng(seed)))
    return texts, units.spread(Actor._hidden(units, picks))


def weights(encoder: Encoder) -> list[torch.Tensor]:
    return [p.detach().clone() for m in (encoder.backbone, encoder.mlm) for p in m.parameters()]


@given(st.lists(st.integers(0, 30), min_size=40, max_size=80), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_texts_are_in_one_part_with_all_their_rows(more: list[int], seed: int) -> None:
    texts = [*range(10), *more]
    _, of_row = np.unique(texts, return_inverse=True)
    parts = split(of_row.astype(np.int64), replace(QUICK, validation=0.3, validation_rows=1000), seed)
    rewarding, judging = (set(of_row[rows].tolist()) for rows in (parts.reward, parts.verdict))
    learned = set(parts.learn.tolist())
    assert len(rewarding | judging | learned) == len(rewarding) + len(judging) + len(learned)
    assert rewarding | judging | learned == set(of_row.tolist())
    assert len(parts.reward) == np.isin(of_row, list(rewarding)).sum()


def test_few_rows_are_kept_where_few_are_wanted_and_too_few_texts_are_refused() -> None:
    parts = split(np.arange(100), replace(QUICK, validation=0.2, validation_rows=7), 0)
    assert (len(parts.reward), len(parts.verdict), len(parts.learn)) == (7, 7, 60)
    with pytest.raises(DataError, match="at least 5 different training texts"):
        split(np.arange(2), QUICK, 0)


def test_an_episode_knows_rows_of_its_texts_alone(arena: Arena) -> None:
    texts = arena.deal("3")
    train = {arena.texts[i] for i in arena.parts.learn}
    rows = texts.task.rows("train")["text"].to_pylist()
    assert 0 < len(rows) <= QUICK.rows
    assert set(rows) <= train
    assert set(texts.task.tables) == {"train"}
    held = {arena.task.rows("train")["text"].to_pylist()[i] for i in (*arena.parts.reward, *arena.parts.verdict)}
    assert held.isdisjoint(train)
    assert torch.equal(texts.batch.ids, arena.deal("3").batch.ids)
    assert not torch.equal(texts.batch.ids, arena.deal("4").batch.ids)


def test_what_is_told_is_hidden_whatever_the_batch(arena: Arena) -> None:
    texts, hidden = some_places(arena)
    masker = Chosen.of(texts.batch, hidden)
    assert torch.equal(masker.choose(texts.batch, seeds.torch_rng(0)), hidden)
    part = texts.batch.texts(3, 9)
    assert torch.equal(masker.choose(part, seeds.torch_rng(1)), hidden[3:9])


def test_a_snapshot_brings_every_weight_back(arena: Arena) -> None:
    encoder = arena.encoder
    before, kept = weights(encoder), Snapshot(encoder.backbone, encoder.mlm)
    with torch.no_grad():
        for weight in encoder.backbone.parameters():
            weight.mul_(1.5).add_(0.1)
    kept.restore()
    assert all(torch.equal(a, b) for a, b in zip(before, weights(encoder), strict=True))


def test_playing_leaves_no_trace_and_the_same_gaps_come_out_the_same(arena: Arena) -> None:
    texts, hidden = some_places(arena)
    before = weights(arena.encoder)
    first = arena.play(texts, hidden)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(arena.encoder), strict=True))
    other = arena.play(texts, some_places(arena, seed=1)[1])
    assert arena.play(texts, hidden) == first
    assert len(first.rows) == len(arena.parts.reward)
    assert np.mean(first.rows) == pytest.approx(first.likelihood)
    assert other.likelihood != first.likelihood
    assert arena.play(texts, hidden, on="verdict") != first


def test_what_is_kept_goes_on_from_the_filled_gaps(known: Known) -> None:
    arena = Arena(known, QUICK)
    texts, hidden = some_places(arena)
    before = weights(arena.encoder)
    arena.play(texts, hidden, keep=True)
    after = weights(arena.encoder)
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    arena.play(texts, hidden)
    assert all(torch.equal(a, b) for a, b in zip(after, weights(arena.encoder), strict=True))


@given(OUTCOMES, OUTCOMES, st.sampled_from(["likelihood", "sign"]))
def test_swapping_two_ways_flips_the_sign_and_equals_are_zero(one: Outcome, other: Outcome, reward: Any) -> None:
    how = replace(QUICK, reward=reward)
    assert compare(one, other, how) == -compare(other, one, how)
    assert compare(one, one, how) == 0.0
    first, second = against_others([one, other], how)
    assert first == -second


@given(st.lists(OUTCOMES, min_size=3, max_size=6), st.randoms())
def test_rewards_among_others_sum_to_zero_and_go_with_their_way(outcomes: list[Outcome], random: Any) -> None:
    rewards = against_others(outcomes, QUICK)
    assert sum(rewards) == pytest.approx(0, abs=1e-9)
    order = list(range(len(outcomes)))
    random.shuffle(order)
    shuffled = against_others([outcomes[i] for i in order], QUICK)
    assert shuffled == pytest.approx([rewards[i] for i in order])
    mean = sum(o.likelihood for o in outcomes[1:]) / (len(outcomes) - 1)
    assert rewards[0] == pytest.approx(outcomes[0].likelihood - mean)


@pytest.mark.parametrize(("opponent", "chance"), [(a, b) for a in (-1.0, 0.0, 1.0) for b in (-1.0, 0.0, 1.0)])
def test_what_rivals_did_not_hide_is_credited_as_the_paper_says(opponent: float, chance: float) -> None:
    picks = torch.tensor([[0, 1, 2, 3, -1]])
    theirs = [torch.tensor([[False, False, True, True]]), torch.tensor([[False, True, False, True]])]
    got = against_rivals(picks, theirs, [opponent, chance])[0].tolist()
    assert got[:3] == [min(opponent, chance), opponent, chance]
    assert all(math.isnan(x) for x in got[3:])


def test_the_chances_of_all_draws_sum_to_one() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.0]])
    orders = torch.tensor(list(itertools.permutations(range(4), 2)))
    logs = log_probabilities(logits.expand(len(orders), -1), orders)
    assert float(logs.sum(1).exp().sum()) == pytest.approx(1.0, abs=1e-5)
    by_hand = logits.softmax(1)[0]
    assert float(logs.sum(1).exp()[0]) == pytest.approx(float(by_hand[0] * by_hand[1] / (1 - by_hand[0])), rel=1e-5)
    alone = log_probabilities(logits.expand(len(orders), -1), orders, sequential=False)
    assert torch.allclose(alone, logits.log_softmax(1)[0][orders], atol=1e-6)


def test_draws_are_as_likely_as_they_are_said_to_be() -> None:
    logits, many = torch.tensor([[0.0, 1.0, -torch.inf, 2.0]]), 20_000
    drawn = take(logits.expand(many, -1), torch.full((many,), 2), gumbel(torch.Size((many, 4)), seeds.torch_rng(0)))
    assert not (drawn == 2).any()
    for order in ([3, 1], [1, 3], [0, 1]):
        said = float(log_probabilities(logits, torch.tensor([order])).sum().exp())
        assert float((drawn == torch.tensor(order)).all(1).float().mean()) == pytest.approx(said, abs=0.012)


def test_what_is_not_drawn_is_certain_and_bears_no_gradient() -> None:
    logits = torch.tensor([[0.0, 1.0], [0.0, -torch.inf], [-torch.inf, -torch.inf]], requires_grad=True)
    picks = torch.tensor([[1, 0], [0, -1], [-1, -1]])
    logs = log_probabilities(logits, picks)
    assert logs[0, 1].item() == pytest.approx(0.0, abs=1e-6), "the last that is left is drawn for sure"
    assert logs[1:].tolist() == [[0.0, 0.0], [0.0, 0.0]]
    logs.sum().backward()
    assert logits.grad is not None
    assert not logits.grad.isnan().any()


def test_entropy_is_one_where_all_are_alike_and_zero_where_one_is_certain() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, -torch.inf], [50.0, 0.0, 0.0, 0.0]])
    assert entropy(logits).tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    assert not entropy(torch.full((1, 3), -torch.inf)).isnan().any()


@pytest.mark.parametrize("kind", [LinearPolicy, NeuralPolicy])
def test_texts_of_different_lengths_give_no_nan(kind: Any) -> None:
    """Where there is no unit the logit is -inf, and 0 · -inf must not reach a weight."""
    policy, features = kind(6, seeds.torch_rng(0)), torch.ones(3, 5, 6)
    there = torch.arange(5) < torch.tensor([[2], [5], [0]])
    logits, values = policy(features, there)
    logs = log_probabilities(logits, torch.tensor([[1, 0], [4, 2], [-1, -1]]))
    (logs.sum() + entropy(logits).sum() + values.sum()).backward()
    for weight in policy.parameters():
        assert weight.grad is not None
        assert weight.grad.isfinite().all()


@pytest.mark.parametrize("kind", [LinearPolicy, NeuralPolicy])
def test_padding_and_neighbours_change_nothing_for_a_policy(kind: Any) -> None:
    with seeds.torch_scope(0):
        policy = kind(12, seeds.torch_rng(0))
        for weight in policy.parameters():
            torch.nn.init.normal_(weight, std=0.3)
        features = torch.randn(3, 7, 12)
    there = torch.arange(7) < torch.tensor([[4], [7], [0]])
    logits, values = policy(features, there)
    alone, value = policy(features[:1, :4], there[:1, :4])
    assert torch.allclose(logits[0, :4], alone[0], atol=1e-5)
    assert torch.allclose(values[0], value[0], atol=1e-5)
    assert logits[~there].isneginf().all()
    assert not values.isnan().any()


def test_the_papers_network_is_as_large_as_the_papers() -> None:
    assert sum(p.numel() for p in NeuralPolicy(768, seeds.torch_rng(0)).parameters()) == 2_561_026


def draws(windows: list[int], rewards: list[list[float]], values: float = 0.0) -> Draws:
    count = torch.tensor(rewards)
    picks = torch.arange(count.shape[1]).expand_as(count).clone()
    return Draws(
        torch.tensor(windows), picks, torch.full_like(count, -1.0), count,
        torch.full((len(windows),), values), torch.full_like(count, 0.5), torch.ones_like(count),
    )  # fmt: skip


def test_memory_lets_the_oldest_go() -> None:
    nan = math.nan
    old, new = draws([0, 1], [[1.0, nan], [1.0, 1.0]]), draws([1, 2], [[1.0, 1.0, 1.0], [nan, nan, 1.0]])
    assert remember(None, new, 100, 100) is new
    assert remember(old, new, 0, 100) is new
    both = remember(old, new, 100, 100)
    assert (len(both), both.windows.tolist()) == (7, [0, 1, 1, 2])
    assert both.picks[:2, 2].tolist() == [-1, -1]
    assert remember(old, new, 6, 100).windows.tolist() == [1, 1, 2]
    assert remember(old, new, 5, 100).windows.tolist() == [1, 2]
    assert remember(old, new, 100, 2).windows.tolist() == [1, 1, 2]


def test_draws_of_which_the_critic_was_far_off_are_likelier() -> None:
    some = draws([0, 1], [[1.0, -1.0], [0.0, math.nan]], values=1.0)
    likely = chances(some, "advantage")
    assert (likely[0, 1] / likely[0, 0]).item() == pytest.approx(math.exp(2), rel=1e-4)
    assert (likely[1, 0] / likely[0, 0]).item() == pytest.approx(math.exp(1), rel=1e-4)
    assert likely[1, 1] == 0
    assert chances(some, "none").tolist() == [[1.0, 1.0], [1.0, 0.0]]


def look(features: torch.Tensor) -> Any:
    return lambda windows: (features[windows], torch.ones(len(windows), features.shape[1], dtype=torch.bool))


@pytest.mark.parametrize("policy", ["linear", "neural"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_is_rewarded_becomes_likelier_and_the_reverse(policy: Any, sign: float) -> None:
    features = torch.zeros(1, 4, 8)
    features[0, :2, 0], features[0, 2:, 1] = 1.0, 1.0
    learner = Learner.fresh(replace(QUICK, policy=policy, lr=0.01, clip=None, entropy=0.0), 8, 0, "player")
    start = learner.policy(*look(features)(torch.tensor([0])))[0]
    picks = torch.tensor([[0, 1], [2, 3]])
    logs = log_probabilities(start.expand(2, -1), picks).detach()
    some = Draws(
        torch.tensor([0, 0]), picks, logs, sign * torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.zeros(2),
        torch.ones(2, 2), torch.ones(2, 2),
    )  # fmt: skip
    for _ in range(5):
        learner.learn([some], look(features), 0, "0")
    after = learner.policy(*look(features)(torch.tensor([0])))[0]
    moved = (after - start)[0]
    assert sign * (moved[:2].mean() - moved[2:].mean()).item() > 0.01


def test_a_step_that_goes_far_is_clipped() -> None:
    features = torch.zeros(1, 4, 2)
    features[0, 0, 0] = 1.0
    some = Draws(
        torch.tensor([0]), torch.tensor([[0]]), torch.tensor([[math.log(0.25)]]), torch.tensor([[1.0]]),
        torch.zeros(1), torch.ones(1, 1), torch.ones(1, 1),
    )  # fmt: skip

    def chance_after(clip: float | None) -> float:
        learner = Learner.fresh(replace(QUICK, lr=0.02, steps=200, clip=clip, entropy=0.0), 2, 0, "player")
        learner.learn([some], look(features), 0, "0")
        return learner.policy(*look(features)(torch.tensor([0])))[0].detach().softmax(1)[0, 0].item()

    assert chance_after(None) > 0.9
    assert chance_after(0.2) < 0.25 * 1.2 * 1.4, "no gradient beyond a fifth more; momentum carries it a little further"


def test_a_loss_that_is_no_number_is_told() -> None:
    learner = Learner.fresh(replace(QUICK, lr=0.01), 2, 0, "player")
    with pytest.raises(TrainingError, match="player policy is no number any more in episode 0, step 1 "):
        learner.learn([draws([0], [[1.0, 1.0]])], look(torch.full((1, 2, 2), math.nan)), 0, "0")


def test_what_the_policy_would_not_do_teaches_it_little(known: Known, tmp_path: Path) -> None:
    actor = Actor(known, QUICK, tmp_path)
    hand = actor.deal("0")
    chance = torch.zeros(hand.units.there.shape).masked_fill(~hand.units.there, -torch.inf)
    sure = torch.where(torch.arange(chance.shape[1]) < 2, chance + 9, chance)
    by_chance, by_policy = (take(way, hand.count, gumbel(way.shape, seeds.torch_rng(0))) for way in (chance, sure))
    values, rewards = torch.zeros(len(chance)), torch.ones(by_chance.shape)
    own = actor._draws(hand, by_policy, sure, values, rewards)
    assert (own.trust == 1).all()
    other = actor._draws(hand, by_chance, sure, values, rewards, chance)
    first = by_chance[:, 0] < 2
    assert (other.trust[first, 0] == 1).all(), "more likely by the policy than by chance"
    assert (other.trust[~first & (by_chance[:, 0] >= 0), 0] < 0.01).all()


def test_nothing_is_learned_before_there_is_enough() -> None:
    learner = Learner.fresh(replace(QUICK, memory=100, memory_start=3, critic=True), 2, 0, "player")
    before = [p.clone() for p in learner.policy.parameters()]
    features = torch.ones(2, 2, 2)
    assert learner.learn([draws([0], [[1.0, 1.0]])], look(features), 0, "0") == {}
    assert all(torch.equal(a, b) for a, b in zip(before, learner.policy.parameters(), strict=True))
    told = learner.learn([draws([1], [[1.0, 1.0]])], look(features), 0, "1")
    assert set(told) == {"loss", "entropy", "ratio"}
    assert learner.memory is not None
    assert len(learner.memory) == 4


def test_intervals_settle_what_is_clear_and_give_up_what_cannot_be() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 100)
    assert interval([0.0, 2.0])[0] == 1.0
    assert settled(list(2 + noise), 200, 10) == "better"
    assert settled(list(-2 + noise), 200, 10) == "worse"
    assert settled(list(noise - noise[50:].mean()), 104, 10) == "open"
    assert settled(list(noise[:20] - noise[10:20].mean()), 2000, 10) is None
    assert settled([0.1] * 4, 100, 10) is None
    said = verdict_on(list(0.5 + 0.1 * noise[:12]))
    assert said["verdict"] == "helped"
    assert said["low"] < said["delta"] < said["high"]
    assert verdict_on([-x for x in (0.5 + 0.1 * noise[:12])])["verdict"] == "hurt"
    assert verdict_on([0.0, 0.0, 0.0])["verdict"] == "no evidence"


@given(st.lists(st.floats(-3, 3), min_size=20, max_size=60), st.integers(60, 120))
@settings(max_examples=60, deadline=None)
def test_what_is_settled_does_not_depend_on_the_sign(differences: list[float], episodes: int) -> None:
    mirrored = {"better": "worse", "worse": "better", "open": "open", None: None}
    assert settled([-x for x in differences], episodes, 10) == mirrored[settled(differences, episodes, 10)]


def test_a_verdict_knows_that_other_rows_might_say_otherwise() -> None:
    """Episodes that agree about few rows, which do not agree among themselves, are no evidence."""
    rng = np.random.default_rng(0)
    of_rows = rng.normal(0.1, 1.0, 40)
    rows = [(of_rows + rng.normal(0, 0.01, 40)).tolist() for _ in range(8)]
    means = [float(np.mean(row)) for row in rows]
    assert verdict_on(means)["verdict"] != "no evidence"
    with_rows = verdict_on(means, rows)
    assert with_rows["verdict"] == "no evidence"
    assert with_rows["delta"] == pytest.approx(np.mean(means))
    by_hand = np.sqrt(np.var(means, ddof=1) / 8 + np.var(np.mean(rows, 0), ddof=1) / 40)
    assert (with_rows["high"] - with_rows["low"]) / 2 == pytest.approx(2.3646 * by_hand, rel=1e-3)
    agreed = [[0.1 + 0.001 * i] * 40 for i in range(8)]
    assert verdict_on([row[0] for row in agreed], agreed)["verdict"] == "helped"


def test_noise_alone_seldom_settles_anything() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        noise = rng.normal(0, 1, 100)
        said = [settled(list(noise[:n]), 100, 10) for n in range(10, 101, 10)]
        wrong += next((s for s in said if s is not None), None) in ("better", "worse")
    assert wrong / 200 < 0.06


def test_settings_that_cannot_be_played_are_refused() -> None:
    for wrong, said in (
        ({"episodes": 0}, "episodes: expected at least 1"),
        ({"validation": 0.5}, "below 0.5"),
        ({"sets": 2}, "at least 3 sets"),
        ({"versus": "rivals"}, "needs an opponent"),
        ({"assess": 2}, "at least 3 episodes"),
        ({"rate": 1.5}, "between 0 and 1"),
        ({"continual": True, "actors": 2}, "actors: 1"),
    ):
        with pytest.raises(ConfigError, match=said):
            NMG(**wrong)
    assert NMG.paper(episodes=3).episodes == 3
    assert set(PRESETS) == {"modern", "paper", "paper-qa"}
    assert MASKERS["nmg"] is NMG


RIVALS = replace(
    NMG.paper(), rate=0.2, contexts=16, rows=12, max_length=16, validation=0.2, validation_rows=20, episodes=5,
    fill_epochs=1, fill_rate=0.01, finetune_epochs=1, finetune_rate=0.003, memory=200, memory_start=40, steps=2,
    batch=16, assess=3,
)  # fmt: skip


@pytest.mark.parametrize(
    "how",
    [QUICK, replace(QUICK, actors=2), replace(QUICK, policy="neural"), RIVALS, replace(RIVALS, opponent="frozen")],
    ids=["linear", "two actors", "neural", "paper", "frozen"],
)
def test_going_on_equals_never_having_stopped(how: NMG, known: Known, tmp_path: Path) -> None:
    whole = learn(known, how)
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir()
    first = Learning(known, how, tmp_path / "one")
    first.round(), first.round()
    first.save(tmp_path / "kept", 1.0)
    second = Learning(known, how, tmp_path / "two")
    assert second.restore(tmp_path / "kept") == 1.0
    second.save(tmp_path / "again", 1.0)
    rest = learn(known, how, resume=tmp_path / "again")
    assert rest.about["history"] == whole.about["history"]
    assert rest.about["verdict"] == whole.about["verdict"]
    one, two = (m.scorer.policy.state_dict() for m in (whole, rest))  # type: ignore[attr-defined]
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(bool((value != 0).any()) for value in one.values())


def test_another_setting_or_seed_does_not_go_on_from_there(known: Known, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    first = Learning(known, QUICK, tmp_path / "one")
    first.round()
    first.save(tmp_path / "kept", 1.0)
    (tmp_path / "two").mkdir()
    assert Learning(known, QUICK, tmp_path / "two").restore(tmp_path / "kept") == 1.0
    assert Learning(known, replace(QUICK, lr=0.01), tmp_path / "two").restore(tmp_path / "kept") == 0.0
    assert Learning(replace(known, seed=1), QUICK, tmp_path / "two").restore(tmp_path / "kept") == 0.0


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it_or_the_beginning(
    known: Known, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learning = Learning(known, QUICK, tmp_path)
    learning.round()
    learning.save(tmp_path / "kept", 1.0)
    learning.round()
    learning.save(tmp_path / "kept", 2.0)
    for seconds, file in ((1.0, "learning.safetensors"), (0.0, "learning.json")):
        victim = sorted((tmp_path / "kept").iterdir())[int(seconds)] / file
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
        again = Learning(known, QUICK, tmp_path)
        assert again.restore(tmp_path / "kept") == seconds
        assert len(again.history) == seconds * QUICK.actors
        assert file in caplog.text
    assert "starts from the beginning" in caplog.text


def test_a_policy_that_begins_as_chance_plays_as_chance(known: Known, tmp_path: Path) -> None:
    learning = Learning(known, QUICK, tmp_path)
    learning.round()
    assert learning.history[0]["difference"] == 0.0, "the same noise and equal logits hide the same words"
    assert learning.history[0]["policy"] == learning.history[0]["random"]


def test_what_was_learned_is_kept(known: Known, tmp_path: Path) -> None:
    for how in (QUICK, replace(QUICK, policy="neural", episodes=1)):
        masker = learn(known, how)
        place = tmp_path / how.policy
        masker.save_pretrained(place)
        again = PolicyMasker.from_pretrained(place)
        arena = Arena(known, how)
        batch = arena.deal("0").batch
        chosen = masker.choose(batch, seeds.torch_rng(0))
        assert torch.equal(chosen, again.choose(batch, seeds.torch_rng(0)))
        assert torch.equal(chosen, ScoredMasker.from_pretrained(place).choose(batch, seeds.torch_rng(0)))
        assert again.verdict == masker.verdict
        assert again.weights == masker.weights
        assert bool(masker.weights) == (how.policy == "linear")
        favourites = masker.drawn(0.0)
        scores = masker.scorer.scores(batch, Units.in_batch(batch))
        hidden = Units.in_batch(batch).total(favourites.choose(batch, seeds.torch_rng(1)).float()) > 0
        for row, mine in zip(scores, hidden, strict=True):
            if mine.any() and not mine.all():
                assert row[mine].min() >= row[~mine].max() - 1e-6


def test_dev_and_test_are_never_opened(planted: ModuleType) -> None:
    task = make_task(90)
    spy = Spy.on(task)
    texts, _ = task.passages()
    tokenizer = train_tokenizer(texts, 1024)
    about = Known.of(spy, texts, tokenizer, planted.Toy(tokenizer))
    learn(about, replace(QUICK, episodes=1))
    assert set(spy.opened) == {"train"}
    assert set(about.task.tables) == {"train"}


def task_of(kind: str) -> Task:
    rng = np.random.default_rng(0)
    words = [f"w{a}{b}" for a in "abcde" for b in "fghij"]
    texts = [" ".join(rng.choice(words, 8)) for _ in range(30)]
    common: dict[str, Any] = {"file": ["f"] * 60, "row": list(range(60))}
    if kind == "span":
        contexts = [texts[i // 2] for i in range(60)]
        asked = [context.split()[i % 3] for i, context in enumerate(contexts)]
        label = [[{"text": a, "start": c.index(a)}] for a, c in zip(asked, contexts, strict=True)]
        table = pa.table(
            {"text": [f"which is {i % 3}" for i in range(60)], "text_pair": contexts, "label": label, **common}
        )
        return Task("spans", "span", "f1", ("start", "end"), {"train": table})
    rows = [texts[i % 30] + f" x{i}" for i in range(60)]
    tokens = [row.split() for row in rows]
    tags = [[int(w[1] in "ab") for w in row] for row in tokens]
    tables: Any = {"train": pa.table({"text": rows, "tokens": tokens, "label": tags, **common})}
    return Task("tags", "tag", "accuracy", ("O", "B-a"), tables)


@pytest.mark.parametrize("kind", ["span", "tag"])
def test_answers_and_tags_are_learned_from_too(kind: str, planted: ModuleType) -> None:
    task = task_of(kind)
    texts, _ = task.passages()
    tokenizer = train_tokenizer([*texts, *task.texts("train")], 1024)
    about = Known.of(task, texts, tokenizer, planted.Toy(tokenizer))
    masker = learn(about, replace(QUICK, episodes=2, max_length=32))
    assert len(masker.about["history"]) == 2
    assert all(math.isfinite(one["policy"]) for one in masker.about["history"])
    if kind == "span":
        assert len(texts) == 30, "a context serves several questions"
        arena = Arena(about, QUICK)
        assert len(arena.deal("0").task.rows("train")) <= QUICK.rows


def test_learning_from_a_task_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The public door: a tokenizer and an encoder of its own are made for the task."""
    monkeypatch.setattr(nmg, "what_is_known", lambda *about, **how: _brief(what_is_known(*about, **how)))
    masker = learn_masker(make_task(40), replace(QUICK, episodes=1), encoder="tiny", seed=1)
    assert masker.verdict["verdict"] in ("helped", "hurt", "no evidence")


@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_learning_with_an_encoder_from_a_folder(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM, BertConfig, DistilBertConfig

    task = make_task(40)
    tokenizer = train_tokenizer(task.texts("train"), 512)
    own: Any = BertConfig if name == "bert" else DistilBertConfig
    config = own(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    if name == "bert":
        config.intermediate_size = 48
    with seeds.torch_scope(0):
        AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    masker = learn_masker(task, replace(QUICK, episodes=2, freeze=1, policy="neural"), encoder=str(tmp_path))
    assert all(math.isfinite(one["policy"]) for one in masker.about["history"])


def _brief(known: Known) -> Known:
    return replace(known, models=replace(known.models, updates=2))  # type: ignore[type-var]


def played_by_formula(planted: ModuleType, worth: float, noise: float) -> Any:
    """In place of trainings: hiding signal words is worth something, chance is the rest; the same gaps, the same."""

    def play(arena: Arena, texts: Any, hidden: torch.Tensor, *, on: str = "reward", keep: bool = False) -> Outcome:
        units = Units.in_batch(texts.batch)
        vocabulary = arena.encoder.tokenizer.get_vocab().items()
        beginnings = torch.tensor([number for token, number in vocabulary if token.startswith(planted.SIGNAL)])
        chosen = units.total(hidden.float()) > 0
        signals = units.total(torch.isin(texts.batch.ids, beginnings).float()) > 0
        share = float((signals & chosen).sum() / chosen.sum())
        luck = float(seeds.numpy_rng(0, texts.episode, on, *hidden.nonzero().flatten().tolist()).normal())
        return Outcome(worth * share + noise * luck, share)

    return play


SIMULATED = replace(QUICK, rate=1 / 6, contexts=40, rows=40, episodes=30, assess=6, lr=0.02)


@pytest.mark.parametrize("policy", ["linear", "neural"])
def test_what_is_worth_hiding_is_found_by_every_seed(
    policy: Any, planted: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Arena, "play", played_by_formula(planted, worth=1.0, noise=0.05))
    for seed in range(5 if policy == "linear" else 2):
        about = planted.known(planted.planted(300, seed=seed), seed)
        how = SIMULATED if policy == "linear" else replace(SIMULATED, policy="neural", lr=0.003, episodes=40)
        masker = learn(about, how)
        assert planted.lift(masker, about) > (2 if policy == "linear" else 1.5)
        assert masker.verdict["verdict"] == "helped"


def test_from_rewards_that_mean_nothing_nothing_is_learned(
    planted: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Arena, "play", played_by_formula(planted, worth=1.0, noise=0.05))
    lifts = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        shuffled = lambda outcomes, how, rng=rng: rng.permutation(against_others(outcomes, how)).tolist()  # noqa: E731
        monkeypatch.setattr(acting, "against_others", shuffled)
        about = planted.known(planted.planted(300, seed=seed), seed)
        lifts.append(planted.lift(learn(about, SIMULATED), about))
    assert np.mean(lifts) < 1.5
    assert max(lifts) < 2


def test_where_no_word_helps_there_is_no_evidence(planted: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arena, "play", played_by_formula(planted, worth=0.0, noise=0.05))
    verdicts = []
    for seed in range(5):
        about = planted.known(planted.planted(300, seed=seed), seed)
        verdicts.append(learn(about, SIMULATED).verdict["verdict"])
    assert verdicts.count("no evidence") >= 4, "one in twenty may err"


def test_a_policy_that_is_settled_stops_early(planted: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arena, "play", played_by_formula(planted, worth=1.0, noise=0.01))
    about = planted.known(planted.planted(300))
    for actors in (1, 3):  # rounds of three pass every tenth episode, and hardly ever end with it
        masker = learn(about, replace(SIMULATED, episodes=200, patience=True, actors=actors))
        assert masker.about["settled"] == "better"
        assert 10 < len(masker.about["history"]) < 60


@pytest.mark.parametrize("policy", ["linear", "neural"])
def test_a_policy_may_begin_with_first_order_credit(policy: Any, known: Known, tmp_path: Path) -> None:
    how = replace(QUICK, policy=policy, lr=1e-3)
    warm = Learning(known, replace(how, warm_start="gradalign"), tmp_path)
    arena = warm.actor.arena
    rows = np.flatnonzero(np.isin(arena.of_row, arena.parts.learn))
    credit = GradAlign(how.rate).fit(replace(known, task=arena.rows(rows))).scorer
    texts = arena.deal("0")
    units = Units.in_batch(texts.batch)
    wanted = credit.scores(texts.batch, units)
    with torch.no_grad():
        got, _ = warm.learners["player"].policy(*warm.actor.look(torch.from_numpy(texts.windows)))
    agree = [np.corrcoef(a[there], b[there])[0, 1] for a, b, there in zip(wanted, got, units.there, strict=True)]
    assert np.mean(agree) > 0.15
    cold = Learning(known, how, tmp_path).learners["player"].policy
    assert (sum(float(p.detach().abs().sum()) for p in cold.parameters()) == 0) == (policy == "linear")


@pytest.mark.ray
def test_episodes_on_a_cluster_are_those_played_here() -> None:
    task, how = make_task(40), replace(QUICK, actors=2)
    tokenizer = train_tokenizer(task.texts("train"), 512)
    about = _brief(what_is_known(Scratch("tiny"), tokenizer, task, [], max_length=16))
    here = learn(about, how)
    with engine.using(engine.Ray(None)):
        there = learn(about, how)
    assert there.about["history"] == here.about["history"]
    assert there.weights == here.weights


def test_a_worker_plays_what_would_be_played_here(known: Known, tmp_path: Path) -> None:
    """Without a cluster: what it would call, called here, twice, as two episodes of a round."""
    actor = Actor(known, QUICK, tmp_path)
    policy = Learner.fresh(QUICK, len(actor.features.names), 0, "player").policy
    for episode in (3, 4):
        mine = actor.play(episode, {"player": policy}, "random")
        theirs = play_there(("a", known, QUICK), episode, {"player": policy.state_dict()}, "random")
        assert mine.record == theirs.record
        for one, other in zip(mine.draws["player"], theirs.draws["player"], strict=True):
            torch.testing.assert_close(one.tensors(), other.tensors(), rtol=0, atol=0, equal_nan=True)


def test_a_study_file_may_name_a_preset() -> None:
    masker = make_masker({"kind": "nmg", "preset": "paper", "episodes": 7})
    assert masker == NMG.paper(episodes=7)
    assert make_masker({"kind": "nmg"}) == NMG()
    assert make_masker({"kind": "random", "rate": 0.3}).rate == 0.3
    with pytest.raises(ConfigError, match="unknown preset 'papers'"):
        make_masker({"kind": "nmg", "preset": "papers"})


@pytest.mark.slow
def test_with_real_trainings_too(planted: ModuleType) -> None:
    """One seed of what ``make bench-nmg`` does with five."""
    about = planted.known(planted.planted())
    masker = learn(about, planted.FAST)
    assert planted.lift(masker, about) > 2
    assert masker.verdict["verdict"] == "helped"


@pytest.mark.slow
def test_with_real_trainings_where_no_word_helps(planted: ModuleType) -> None:
    about = planted.known(planted.planted(null=True))
    assert learn(about, planted.FAST).verdict["verdict"] == "no evidence"


def test_what_hardly_a_word_has_is_no_giant(planted: ModuleType) -> None:
    """A feature of one word in a hundred, fully standardised, would be ten times as loud as the others."""
    task = planted.planted(200)
    rows = task.tables["train"]
    texts = [f"{text} 7x" if i % 20 == 0 else text for i, text in enumerate(rows["text"].to_pylist())]
    rare = replace(task, tables={"train": rows.set_column(0, "text", pa.array(texts))})
    about = planted.known(rare)
    features = WordFeatures.of_texts(about)
    arena = Arena(about, QUICK)
    batch = arena.deal("0").batch
    seen = features.of(batch, Units.in_batch(batch))[Units.in_batch(batch).there]
    digits = seen[:, list(features.names).index("digits")]
    assert 0 < digits.max() <= 4
    common = seen[:, list(features.names).index("frequency")]
    assert common.std().item() == pytest.approx(1.0, abs=0.25)
    assert features.names[0] == "frequency"
    assert not seen.isnan().any()

"""Where to hide: an exact share, whole words whole, nothing else. How to hide: 80/10/10, and nothing else changes."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trivium import seeds
from trivium.errors import ConfigError
from trivium.masking import MASKERS, Batch, Masker, RandomTokens, WholeWord, corrupt
from trivium.masking.units import budget

RATES = st.floats(0.01, 0.99)
PIECES, FIRST = st.lists(st.integers(1, 4), max_size=12), st.sampled_from([0, 37])  # of each word; number of the first


def batch_of(rows: list[tuple[list[int], int]]) -> Batch:
    """Rows of special token, words in pieces, special token, padding; a window of a text starts at a later word."""
    words = [[-1, *(first + i for i, n in enumerate(pieces) for _ in range(n)), -1] for pieces, first in rows]
    length = max(map(len, words))
    attention = torch.tensor([[i < len(row) for i in range(length)] for row in words])
    filled = torch.tensor([row + [-1] * (length - len(row)) for row in words])
    return Batch(torch.arange(filled.numel()).view_as(filled), attention, filled)


BATCHES = st.lists(st.tuples(PIECES, FIRST), min_size=1, max_size=5).map(batch_of)


def units(masker: Masker, chosen: Tensor, batch: Batch) -> list[int]:
    """How many of what a masker counts are chosen in each row."""
    if isinstance(masker, RandomTokens):
        return chosen.sum(1).tolist()
    return [len(words[picked].unique()) for words, picked in zip(batch.words, chosen, strict=True)]


@pytest.mark.parametrize("kind", MASKERS.values())
@given(batch=BATCHES, rate=RATES, seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_masker_hides_its_share_of_every_row_and_only_what_may_be_hidden(
    kind: Any, batch: Batch, rate: float, seed: int
) -> None:
    masker = kind(rate)
    chosen = masker.choose(batch, seeds.torch_rng(seed))
    assert (chosen.dtype, chosen.shape) == (torch.bool, batch.ids.shape)
    assert not (chosen & ~batch.maskable).any()
    for hidden, there in zip(units(masker, chosen, batch), units(masker, batch.maskable, batch), strict=True):
        assert math.floor(there * rate - 1e-5) <= hidden <= math.ceil(there * rate + 1e-5)
    assert torch.equal(chosen, masker.choose(batch, seeds.torch_rng(seed)))


@given(batch=BATCHES, rate=RATES, seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_word_is_hidden_with_all_its_pieces(batch: Batch, rate: float, seed: int) -> None:
    chosen = WholeWord(rate).choose(batch, seeds.torch_rng(seed))
    for words, picked in zip(batch.words, chosen, strict=True):
        assert set(words[picked].tolist()).isdisjoint(words[~picked].tolist())


@pytest.mark.parametrize("kind", MASKERS.values())
def test_over_many_rows_the_share_is_exact_and_no_place_is_favoured(kind: Any) -> None:
    """Seven words at 0.3 are 2.1 of them: now two, now three."""
    many = 4000
    batch = batch_of([([1] * 7, 3)] * many)
    chosen = kind(0.3).choose(batch, seeds.torch_rng(0))[:, 1:8]
    assert set(chosen.sum(1).tolist()) == {2, 3}
    assert chosen.sum().item() / many == pytest.approx(2.1, abs=0.03)
    assert chosen.float().mean(0).tolist() == pytest.approx([0.3] * 7, abs=0.04)
    assert chosen[0::2].logical_xor(chosen[1::2]).any(), "each row has draws of its own"


def test_long_words_are_no_likelier_to_be_hidden() -> None:
    batch = batch_of([([1, 4, 1, 2], 0)] * 4000)
    chosen = WholeWord(0.25).choose(batch, seeds.torch_rng(0))[:, [1, 2, 6, 7]]
    assert chosen.float().mean(0).tolist() == pytest.approx([0.25] * 4, abs=0.04)
    assert (chosen.sum(1) == 1).all()


@pytest.mark.parametrize("kind", MASKERS.values())
def test_a_row_with_nothing_to_hide_is_left_alone(kind: Any) -> None:
    batch = batch_of([([], 0), ([2, 2, 1], 0)])
    chosen = kind(0.9).choose(batch, seeds.torch_rng(0))
    assert not chosen[0].any()
    assert chosen[1].any()
    assert not kind(0.9).choose(batch_of([([], 0)]), seeds.torch_rng(0)).any()


@pytest.mark.parametrize("kind", MASKERS.values())
def test_another_generator_hides_something_else(kind: Any) -> None:
    batch = batch_of([([1] * 30, 0)] * 4)
    rng = seeds.torch_rng(0)
    first, second = (kind(0.3).choose(batch, rng) for _ in range(2))
    assert not torch.equal(first, second)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=20), RATES)
@settings(max_examples=40, deadline=None)
def test_a_budget_is_rounded_up_as_often_as_the_mean_needs(there: list[int], rate: float) -> None:
    drawn = budget(torch.tensor([there] * 3000), rate, seeds.torch_rng(0))
    assert drawn.dtype == torch.int64
    assert drawn.double().mean(0).tolist() == pytest.approx([n * rate for n in there], abs=0.06)
    assert (drawn.amax(0) - drawn.amin(0) <= 1).all()


@pytest.mark.parametrize("kind", MASKERS.values())
@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 15, float("nan")])
def test_a_rate_that_is_no_share_is_refused(kind: Any, rate: float) -> None:
    with pytest.raises(ConfigError, match=r"masker\.rate: expected a share between 0 and 1, found"):
        kind(rate)


def test_a_batch_moves_with_all_it_has() -> None:
    batch = Batch(*(torch.ones(1, 2, dtype=torch.long) for _ in range(3)), labels=torch.tensor([4]))
    moved = batch.to(torch.device("meta"))
    assert {moved.ids.device.type, moved.words.device.type, moved.attention.device.type} == {"meta"}
    assert moved.types is None
    assert moved.labels is not None
    assert moved.labels.device.type == "meta"


@given(
    st.integers(1, 4).flatmap(
        lambda rows: st.integers(1, 20).flatmap(
            lambda length: st.tuples(
                st.just((rows, length)),
                st.lists(st.integers(0, 30), min_size=rows * length, max_size=rows * length),
                st.lists(st.booleans(), min_size=rows * length, max_size=rows * length),
            )
        )
    ),
    st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_corrupting_changes_only_what_was_chosen_and_remembers_it(
    drawn: tuple[tuple[int, int], list[int], list[bool]], seed: int
) -> None:
    shape, tokens, picked = drawn
    ids, chosen = torch.tensor(tokens).view(shape), torch.tensor(picked).view(shape)
    before = ids.clone()
    gaps = corrupt(ids, chosen, 1, 31, seeds.torch_rng(seed))
    assert torch.equal(ids, before)
    assert torch.equal(gaps.ids[~chosen], ids[~chosen])
    assert gaps.ids.shape == ids.shape
    assert ((gaps.ids >= 0) & (gaps.ids < 31)).all()
    assert torch.equal(gaps.positions, chosen.flatten().nonzero().flatten())
    assert torch.equal(gaps.targets, ids[chosen])
    assert torch.equal(gaps.labels(), ids.masked_fill(~chosen, -100))
    again = corrupt(ids, chosen, 1, 31, seeds.torch_rng(seed))
    assert all(torch.equal(a, b) for a, b in zip(gaps, again, strict=True))


def test_of_the_chosen_80_are_masked_10_replaced_and_10_left() -> None:
    """A stranger is any token, so one in a vocabulary's worth is the token itself or the mask."""
    many, vocabulary, mask = 40_000, 1000, 4
    ids = torch.randint(5, vocabulary, (8, many // 4), generator=seeds.torch_rng(1))
    chosen = torch.zeros_like(ids, dtype=torch.bool)
    chosen[:, ::2] = True
    now, was = corrupt(ids, chosen, mask, vocabulary, seeds.torch_rng(0)).ids[chosen], ids[chosen]
    assert len(was) == many
    stranger = (now != mask) & (now != was)
    shares = [x.float().mean().item() for x in (now == mask, stranger, now == was)]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    counts = torch.bincount(now[stranger] * 10 // vocabulary, minlength=10) / stranger.sum()
    assert counts.tolist() == pytest.approx([0.1] * 10, abs=0.03)

"""Maskers that count words: as computed by hand, finding what was planted, and nothing where there is nothing."""

import itertools
import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import poisson
from torch import nn

from conftest import COMMON, TOPICS, make_task, sentence
from test_kinds_alignment import tokenizer as tokenizer_of
from trivium import seeds
from trivium.encoders import Scratch, collate, train_tokenizer
from trivium.errors import ConfigError
from trivium.kinds import Batch
from trivium.kinds.text import tokenize
from trivium.masking import Known, ScoredMasker
from trivium.masking.ngrams import PMI, Collocations, _keys, collocations
from trivium.masking.protocol import Fits
from trivium.masking.statistics import TFICF, Difference, InforMask, Vocabulary, _PairScores, tficf
from trivium.masking.units import Units
from trivium.masking.words import WordTable, keys_in

TASK = make_task(3)
FILLER = [f"{a}{b}" for a in ("ba", "do", "ki", "mu") for b in ("rt", "ns", "ll", "mp", "sk")]
BACKGROUND = [" ".join(["so", *COMMON[i:], *COMMON[:i]]) for i in range(len(COMMON))] * 3


def lines(many: int, seed: int = 0) -> list[str]:
    """Lines about cooking; a byte-level tokenizer tells a line's first word from others, so all begin alike."""
    rng = np.random.default_rng(seed)
    return ["so " + sentence(rng, "cooking", 14) for _ in range(many)]


TEXTS = [*lines(300), "so", "", "so salt"]
TOKENIZERS = {"wordpiece": train_tokenizer(TEXTS + BACKGROUND, 512), "bpe": tokenizer_of("bpe")}


class Asked:
    """Stands for the models: one encoder, the same whenever it is asked for."""

    def __init__(self, table: nn.Embedding) -> None:
        self.encoder: Any = SimpleNamespace(backbone=SimpleNamespace(get_input_embeddings=lambda: table))

    def language(self) -> Any:
        return self.encoder


def embeddings(tokenizer: Any, width: int = 16) -> Asked:
    return Asked(
        nn.Embedding(len(tokenizer), width, _weight=torch.randn(len(tokenizer), width, generator=seeds.torch_rng(0)))
    )


def known(texts: list[str], background: list[str] | None = None, pieces: str = "wordpiece", **more: Any) -> Known:
    tokenizer = more.pop("tokenizer", TOKENIZERS[pieces])
    models = more.pop("models", None) or embeddings(tokenizer)
    return Known.of(TASK, texts, tokenizer, models, background=BACKGROUND if background is None else background, **more)


def words_tokenizer(texts: list[str]) -> Any:
    """One that keeps all the words of some texts whole."""
    return train_tokenizer(texts * 3, 2000)


def batch_of(tokenizer: Any, texts: list[str]) -> Batch:
    encoded = tokenize(tokenizer, texts, 128)
    return collate(encoded, np.arange(len(encoded)), tokenizer.pad_token_id, types=False)


def scores(masker: Any, tokenizer: Any, word: str) -> float:
    """What a word is worth where it stands after another."""
    batch = batch_of(tokenizer, [f"so {word}"])
    units = Units.in_batch(batch, masker.draw.unit)
    return float(masker.scorer.scores(batch, units)[0, 1])


MASKERS = [
    PMI(entries=0.2),
    InforMask(),
    TFICF(),
    Difference(),
    PMI(unit="token"),
    InforMask(unit="token"),
    TFICF(unit="token"),
    Difference(unit="token", mix=0.5),
]
EVERY = pytest.mark.parametrize("masker", MASKERS, ids=lambda m: f"{type(m).__name__}-{m.unit}")
PIECES = pytest.mark.parametrize("pieces", list(TOKENIZERS))


@EVERY
@PIECES
def test_a_fitted_masker_hides_its_share_is_saved_whole_and_depends_on_the_seed_alone(
    masker: Any, pieces: str, tmp_path: Path
) -> None:
    assert isinstance(masker, Fits)
    fitted = masker.fit(known(TEXTS, pieces=pieces))
    batch = batch_of(
        TOKENIZERS[pieces], ["so salt bread of the ovens", "", "so", "never seen zebras : 12 !", *TEXTS[:20]]
    )
    units = Units.in_batch(batch, masker.unit)
    chosen = fitted.choose(batch, seeds.torch_rng(3))
    assert not (chosen & ~batch.maskable).any()
    hidden = (units.total(chosen.float()) > 0).sum(1)
    assert ((hidden - units.count * masker.rate).abs() < 1).all()
    assert not chosen[1].any()
    fitted.save_pretrained(tmp_path / "masker")
    again = ScoredMasker.from_pretrained(tmp_path / "masker")
    assert again.about == fitted.about == json.loads(json.dumps(fitted.about))
    assert torch.equal(again.choose(batch, seeds.torch_rng(3)), chosen)
    assert torch.equal(masker.fit(known(TEXTS, pieces=pieces)).choose(batch, seeds.torch_rng(3)), chosen)


@EVERY
def test_a_text_gets_the_same_scores_in_any_batch(masker: Any) -> None:
    fitted = masker.fit(known(TEXTS))
    texts = TEXTS[:6]
    whole = batch_of(TOKENIZERS["wordpiece"], texts)
    units = Units.in_batch(whole, masker.unit)
    together = fitted.scorer.scores(whole, units)
    for i, text in enumerate(texts):
        alone = batch_of(TOKENIZERS["wordpiece"], [text])
        own = Units.in_batch(alone, masker.unit)
        assert torch.equal(fitted.scorer.scores(alone, own)[0], together[i, : own.width])
        if isinstance(fitted.scorer, Collocations):
            assert torch.equal(fitted.scorer.groups(alone, own)[0], fitted.scorer.groups(whole, units)[i, : own.width])


@pytest.mark.parametrize("texts", [[], [""], ["so"], ["so", "", "so"]])
@pytest.mark.parametrize("masker", [PMI(), InforMask(), PMI(unit="token"), InforMask(unit="token")])
def test_little_or_nothing_to_learn_from_leaves_chance(masker: Any, texts: list[str]) -> None:
    fitted = masker.fit(known(texts))
    batch = batch_of(TOKENIZERS["wordpiece"], ["salt oven bread butter"] * 400)
    chosen = fitted.choose(batch, seeds.torch_rng(0))
    assert chosen.float().mean(0)[1:5].tolist() == pytest.approx([0.15] * 4, abs=0.06)


@pytest.mark.parametrize("masker", [TFICF(), Difference()])
def test_keywords_need_a_corpus_and_something_that_tells_from_it(masker: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected general text to compare .* Give the study a 'corpus:'"):
        masker.fit(known(TEXTS, background=[]))
    with pytest.raises(
        ConfigError, match="expected words of the texts that not every text of the corpus has, found none"
    ):
        masker.fit(known(["so salt", "12 !"], background=["so salt"] * 3))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: PMI(entries=0), r"masker\.entries: expected a share between 0 and 1, or a whole number .*, found 0"),
        (lambda: PMI(min_count=-1), r"masker\.min_count: expected a number from 0, found -1"),
        (lambda: InforMask(sets=0), r"masker\.sets: expected a whole number from 1, found 0"),
        (lambda: TFICF(keywords=1.5), r"masker\.keywords: expected .* found 1\.5"),
        (lambda: TFICF(keywords=math.nan), r"masker\.keywords: expected .* found nan"),
        (lambda: Difference(anchors=0.5), r"masker\.anchors: expected a whole number from 1, found 0\.5"),  # type: ignore[arg-type]
        (lambda: Difference(mix=1.2), r"masker\.mix: expected a share from 0 to 1, found 1\.2"),
        (lambda: Difference(rate=2), r"masker\.rate"),
    ],
)  # fmt: skip
def test_keys_that_make_no_sense_are_refused(make: Any, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        make()


# TF-ICF


def test_tficf_is_what_it_is_by_hand() -> None:
    """Of four general texts, three have "a", two "dog", none "cat"; 42 and ! have no letter."""
    texts = ["a cat a cat dog", "42 ! cat h2o"]
    tokenizer = words_tokenizer(texts)
    given_ = known(texts, ["a a", "a dog", "a", "dog"], tokenizer=tokenizer)
    vocabulary = Vocabulary.of(given_, "word")
    found = dict(zip(vocabulary.written, tficf(given_, vocabulary, "word").tolist(), strict=True))
    assert found == pytest.approx({
        "a": math.log(3) * math.log(5 / 4),
        "cat": math.log(4) * math.log(5),
        "dog": math.log(2) * math.log(5 / 3),
        "42": 0,
        "!": 0,
        "h2o": math.log(2) * math.log(5),
    })  # fmt: skip
    fitted = TFICF(keywords=2).fit(given_)
    assert [word for word, _ in fitted.about["top"]] == ["cat", "h2o"]
    assert scores(fitted, tokenizer, "cat") == pytest.approx(math.log(math.log(4) * math.log(5)))
    rest = {scores(fitted, tokenizer, word) for word in ("a", "dog", "42", "!", "zebra")}
    assert len(rest) == 1
    assert rest.pop() == pytest.approx(math.log(math.log(2) * math.log(5)) - 20)


@PIECES
def test_the_keywords_of_texts_on_a_topic_are_its_words(pieces: str) -> None:
    fitted = TFICF(keywords=10).fit(known(TEXTS, pieces=pieces))
    assert {word for word, _ in fitted.about["top"]} == set(TOPICS["cooking"])


def test_keywords_are_hidden_first_the_best_before_others_and_then_chance_decides() -> None:
    tokenizer = TOKENIZERS["wordpiece"]
    fitted = TFICF(rate=0.5, keywords=10).fit(known(TEXTS))
    batch = batch_of(tokenizer, ["salt the of oven and a it was"] * 1000)
    chosen = fitted.choose(batch, seeds.torch_rng(0))[:, 1:9].float().mean(0).tolist()
    assert chosen == pytest.approx([1, 1 / 3, 1 / 3, 1, 1 / 3, 1 / 3, 1 / 3, 1 / 3], abs=0.05)
    best = fitted.about["top"][0][0]
    worst = fitted.about["top"][-1][0]
    pair = batch_of(tokenizer, [f"{worst} {best}"] * 20)
    assert fitted.choose(pair, seeds.torch_rng(0))[:, 1:3].all(0).tolist() == [False, True]


# Difference


def test_difference_ranks_by_the_nearest_anchor_and_averages_pieces() -> None:
    """Anchors are "salt" (east) and "oven" (north): "bread" is 30° from one, "the" 45° from both, "zap" opposite."""
    texts = ["salt salt salt oven oven bread the zap"]
    tokenizer = words_tokenizer(["salt oven bread the z ap ap z"])
    angles = {"salt": 0, "oven": 90, "bread": -30, "the": 45}
    weight = torch.zeros(len(tokenizer), 2)
    for word, angle in angles.items():
        (id_,) = tokenizer(word, add_special_tokens=False)["input_ids"]
        weight[id_] = 3 * torch.tensor([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    pieces = tokenizer("zap", add_special_tokens=False)["input_ids"]
    assert len(pieces) > 1
    weight[pieces] = torch.tensor([-1.0, -2.0])
    weight[pieces[0]] = torch.tensor([-1.0, 2.0])  # the mean is west, more or less
    mean = weight[pieces].mean(0)
    models = Asked(nn.Embedding(len(tokenizer), 2, _weight=weight))
    given_ = known(texts, ["bread", "the", "zap", "bread the zap"], tokenizer=tokenizer, models=models)
    fitted = Difference(anchors=2).fit(given_)
    assert fitted.about["anchors"] == ["salt", "oven"]
    near = {word: max(math.cos(math.radians(a - anchor)) for anchor in (0, 90)) for word, a in angles.items()}
    near["zap"] = max(float(mean[0]), float(mean[1])) / float(mean.norm())
    assert sorted(near, key=near.__getitem__)[:3] == ["zap", "the", "bread"]
    weights = {"bread": 3, "the": 2, "zap": 1}
    for word, rank in weights.items():
        assert scores(fitted, tokenizer, word) == pytest.approx(math.log(rank / 3), abs=1e-6)
    assert {round(math.exp(scores(fitted, tokenizer, word)) * 3) for word in ("salt", "oven")} == {4, 5}
    assert scores(fitted, tokenizer, "never") == pytest.approx(math.log(3 / 3), abs=1e-6)
    half = Difference(anchors=2, mix=0.5).fit(given_)
    assert scores(half, tokenizer, "zap") == pytest.approx(math.log(0.5 / 3 + 0.5), abs=1e-6)
    none = Difference(anchors=2, mix=0).fit(given_)
    assert scores(none, tokenizer, "zap") == scores(none, tokenizer, "salt") == 0


def test_the_papers_squashing_of_cosines_changes_no_rank() -> None:
    cosines = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    assert (torch.diff(cosines * cosines.sigmoid()) > 0).all()


def test_difference_asks_a_real_encoder(fresh: Any, tokenizer: Any, texts: list[str]) -> None:
    encoder = fresh(Scratch("tiny", vocabulary=512))
    models: Any = SimpleNamespace(language=lambda: encoder)
    fitted = Difference(anchors=5).fit(known(texts, tokenizer=tokenizer, models=models, background=BACKGROUND))
    assert {word for word, _ in fitted.about["top"][:5]} == set(fitted.about["anchors"])
    assert not encoder.backbone.get_input_embeddings().weight.grad


# InforMask


def test_pmi_of_pairs_is_what_it_is_by_hand() -> None:
    pairs = _PairScores.of(np.array([[0, 1, -1], [1, 0, 2], [0, 2, -1], [3, 3, 3], [3, -1, -1]]), 5)
    one, other = np.array([0, 1, 0, 2, 3, 1]), np.array([1, 0, 2, 0, 3, 2])
    by_hand = [
        *[math.log((2 + 1) / (3 * 2 / 5 + 1))] * 4,
        math.log((1 + 1) / (2 * 2 / 5 + 1)),  # two passages have it, one of them twice
        math.log((1 + 1) / (2 * 2 / 5 + 1)),
    ]
    assert pairs.of_pairs(one, other).tolist() == pytest.approx(by_hand, rel=1e-6)


@given(st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=6), min_size=3, max_size=8), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_of_many_random_sets_the_best_is_the_most_relevant_of_all(texts: list[list[int]], seed: int) -> None:
    words = np.array([text + [-1] * (6 - len(text)) for text in texts])
    pairs = _PairScores.of(words, 6)
    masker = InforMask(rate=0.4, sets=400)
    for text, picked in zip(texts, masker._most_relevant(words, pairs, seeds.numpy_rng(seed)), strict=True):
        hidden = np.flatnonzero(picked)
        assert math.floor(len(text) * 0.4) <= len(hidden) <= math.ceil(len(text) * 0.4)
        assert (hidden < len(text)).all()
        one, other = np.triu_indices(len(text), 1)
        told = pairs.of_pairs(np.array(text)[one], np.array(text)[other]).astype(np.float64)
        relevance = {
            some: told[np.isin(one, some) != np.isin(other, some)].sum()
            for some in itertools.combinations(range(len(text)), len(hidden))
        }
        assert relevance[tuple(hidden.tolist())] == pytest.approx(max(relevance.values()), abs=1e-4)


def test_rates_count_how_often_a_word_was_hidden_and_start_from_the_rate() -> None:
    """Of two words one is hidden each time, so the two were hidden as often as there are texts."""
    texts = ["left right"] * 50
    tokenizer = words_tokenizer(texts)
    fitted = InforMask(rate=0.5).fit(known(texts, tokenizer=tokenizer))
    rates = [1 / (1 + math.exp(-scores(fitted, tokenizer, word))) for word in ("left", "right")]
    hidden = [rate * (50 + 2) - 1 for rate in rates]
    assert hidden == pytest.approx([round(n) for n in hidden], abs=1e-3)
    assert sum(hidden) == pytest.approx(50, abs=1e-3)
    assert scores(fitted, tokenizer, "never") == 0
    assert scores(InforMask(rate=0.15).fit(known(texts, tokenizer=tokenizer)), tokenizer, "never") == pytest.approx(
        math.log(0.15 / 0.85), rel=1e-6
    )


@PIECES
def test_words_that_tell_of_each_other_are_hidden_more_often_than_words_that_are_everywhere(pieces: str) -> None:
    rng = np.random.default_rng(0)
    texts = ["so " + sentence(rng, list(TOPICS)[i % 3], 16) for i in range(600)]
    fitted = InforMask().fit(known(texts, pieces=pieces))
    told = {word: scores(fitted, TOKENIZERS[pieces], word) for word in [*TOPICS["chess"], *TOPICS["sailing"], *COMMON]}
    topical = [told[word] for word in told if word not in COMMON]
    assert min(topical) > np.mean([told[word] for word in COMMON])
    assert np.mean(topical) > np.mean([told[word] for word in COMMON]) + 0.3


def test_what_is_said_of_words_that_are_exchangeable_is_accident_and_of_others_is_not() -> None:
    """Two corpora of the same kind agree about words that tell something, and about no others."""
    words = [
        f"{a}{b}" for a in ("ba", "do", "ki", "mu", "pe", "sa", "tu", "vo") for b in ("rt", "ns", "ll", "mp", "sk")
    ]
    tokenizer = words_tokenizer([*words, *COMMON, *itertools.chain(*TOPICS.values())])

    def told(seed: int, some: list[str], *, topics: bool) -> Any:
        rng = np.random.default_rng(seed)
        texts = [
            sentence(rng, list(TOPICS)[i % 3], 12) if topics else " ".join(rng.choice(some, 12)) for i in range(1000)
        ]
        fitted = InforMask().fit(known(texts, tokenizer=tokenizer))
        return np.array([scores(fitted, tokenizer, word) for word in some])

    assert abs(np.corrcoef([told(seed, words, topics=False) for seed in (0, 1)])[0, 1]) < 0.4
    topical = [*TOPICS["cooking"], *TOPICS["chess"], *TOPICS["sailing"], *COMMON]
    assert np.corrcoef([told(seed, topical, topics=True) for seed in (0, 1)])[0, 1] > 0.8


def test_a_corpus_is_counted_in_passages_and_no_more_than_asked() -> None:
    texts = [" ".join(FILLER)] * 30
    fitted = InforMask(window=8).fit(known(texts, tokenizer=words_tokenizer(FILLER)))
    assert fitted.about["passages"] == 30 * 3
    assert InforMask(window=8, passages=40).fit(known(texts)).about["passages"] == 40
    other = InforMask(window=8, passages=40).fit(known(texts, seed=1))
    assert other.scorer.values.tolist() != InforMask(window=8, passages=40).fit(known(texts)).scorer.values.tolist()


# PMI masking


def test_pmi_of_three_words_is_what_it_is_by_hand() -> None:
    """Thirty texts "0 1 2" and a word of its own: p = 1/4 of a word, 1/3 of "0 1", 1/2 of all three."""
    codes = np.concatenate([[0, 1, 2, other] for other in range(3, 33)])
    found = {n: (codes[begins].tolist(), pmi) for n, begins, pmi in collocations(codes, np.arange(120) // 4, 10)}
    assert found[2][0] == [0, 1]
    assert found[2][1] == pytest.approx([math.log((1 / 9) / (1 / 16))] * 2)
    assert found[3][0] == [0]
    assert found[3][1] == pytest.approx([math.log((1 / 4) / (1 / 3 * 1 / 4))])  # less than with three parts: log 16
    assert found[4][0] == found[5][0] == []


def test_pmi_of_three_words_may_be_least_in_three_parts() -> None:
    """Each word has p = 1/3, "0 1" and "1 2" only 40/440, all three 40/280."""
    texts = [[0, 1, 2]] * 40 + [[word] * 4 for word in range(3)] * 40
    owners = np.repeat(np.arange(160), [len(text) for text in texts])
    codes = np.array([code for text in texts for code in text])
    pmi = {
        tuple(codes[b : b + 3].tolist()): v
        for n, bs, vs in collocations(codes, owners, 10)
        if n == 3
        for b, v in zip(bs, vs, strict=True)
    }
    assert pmi[0, 1, 2] == pytest.approx(math.log((40 / 280) ** 2 / (1 / 3) ** 3))


def segmentations(gram: tuple[int, ...]) -> list[list[tuple[int, ...]]]:
    if not gram:
        return [[]]
    return [[gram[:k], *rest] for k in range(1, len(gram) + 1) for rest in segmentations(gram[k:])]


@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c", "ab", "abc", "cabab"]), max_size=12), max_size=14),
    st.integers(0, 3),
)
@settings(max_examples=80, deadline=None)
def test_pmi_is_the_least_over_all_segmentations(drawn: list[list[str]], min_count: int) -> None:
    texts = [["abc".index(letter) for part in text for letter in part] for text in drawn]
    counts = {n: Counter(tuple(t[i : i + n]) for t in texts for i in range(len(t) - n + 1)) for n in range(1, 6)}
    total = {n: sum(counts[n].values()) for n in counts}

    def p(gram: tuple[int, ...]) -> float:
        return counts[len(gram)][gram] / total[len(gram)]

    codes = np.array([code for text in texts for code in text], np.int64)
    owners = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    seen = []
    for n, begins, pmi in collocations(codes, owners, min_count):
        seen.append(n)
        frequent = [gram for gram in counts[n] if counts[n][gram] > min_count]
        candidates = [g for g in counts[n] if all(counts[n - 1][part] > min_count for part in (g[:-1], g[1:]))]
        expected = {}
        for gram in frequent:
            split = max(math.prod(map(p, parts)) for parts in segmentations(gram) if len(parts) > 1)
            by_chance = poisson.sf(counts[n][gram] - 1, total[n] * split)
            if by_chance * len(candidates) < 0.01:
                expected[gram] = math.log(p(gram) ** 2 / split)
        assert {tuple(codes[b : b + n].tolist()): v for b, v in zip(begins, pmi, strict=True)} == pytest.approx(
            expected
        )
        assert (np.diff(pmi) <= 0).all()
    assert seen == [2, 3, 4, 5]


@PIECES
def test_a_planted_collocation_is_found_and_hidden_as_one(pieces: str) -> None:
    rng = np.random.default_rng(0)
    texts = []
    for i in range(600):
        words = rng.choice(FILLER, 12).tolist()
        if i % 3 == 0:
            words[4:4] = ["kung", "fu"]
        if i % 5 == 0:
            words[9:9] = ["lord", "of", "the", "rings"]
        texts.append(" ".join(["so", *words]))
    tokenizer = TOKENIZERS[pieces]
    fitted = PMI(rate=0.3, entries=40).fit(known(texts, pieces=pieces))
    assert fitted.about["top"]["2"][0][0].split() in (["kung", "fu"], ["lord", "of"], ["of", "the"], ["the", "rings"])
    assert "kung fu" in [gram for gram, _ in fitted.about["top"]["2"]]
    assert fitted.about["top"]["4"][0][0] == "lord of the rings"
    assert fitted.about["covered"] == pytest.approx((200 * 2 + 120 * 4) / (600 * 13 + 200 * 2 + 120 * 4), abs=0.01)
    batch = batch_of(tokenizer, ["so bart lord of the rings dons kung fu mump musk kins"] * 500)
    units = Units.in_batch(batch)
    assert fitted.scorer.groups(batch, units)[0].tolist() == [0, 1, 2, 2, 2, 2, 6, 7, 7, 9, 10, 11]
    chosen = units.total(fitted.choose(batch, seeds.torch_rng(0)).float()) > 0
    parts = chosen[:, 2:6].sum(1)
    assert set(parts.tolist()) == {0, 1, 2, 3, 4}, "the last group is cut to fit"
    cut = ((parts > 0) & (parts < 4)).long() + (chosen[:, 7] ^ chosen[:, 8]).long()
    assert cut.max() == 1
    assert chosen.float().sum(1).mean().item() == pytest.approx(0.3 * 12, abs=0.06)


def test_pmi_finds_nothing_in_words_that_are_exchangeable() -> None:
    """Each pair of twenty words is met 68 times: often enough, but no oftener than chance has it."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        texts = [" ".join(rng.choice(FILLER, 12)) for _ in range(2500)]
        about = PMI().fit(known(texts, tokenizer=words_tokenizer(FILLER))).about
        assert about["entries"] == {"2": 0, "3": 0, "4": 0, "5": 0}
        assert about["covered"] == 0


def test_entries_are_a_number_or_a_share_of_the_corpus_split_by_length() -> None:
    texts = ["a b c d e f g h"] * 200 + [" ".join(FILLER)] * 40
    tokenizer = words_tokenizer(texts)
    about = PMI(entries=8).fit(known(texts, tokenizer=tokenizer)).about
    assert about["entries"] == {"2": 4, "3": 2, "4": 1, "5": 1}
    words = 200 * 8 + 40 * len(FILLER)
    share = PMI(entries=16 / words).fit(known(texts, tokenizer=tokenizer)).about
    assert share["entries"] == {"2": 8, "3": 4, "4": 2, "5": 2}


GRAMS = st.lists(st.integers(0, 2), min_size=2, max_size=5).map(tuple)


@given(
    st.dictionaries(GRAMS, st.integers(-3, 0), max_size=8),
    st.lists(st.lists(st.integers(0, 2), max_size=14), min_size=1, max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_where_entries_overlap_the_longest_stands_then_the_best_then_the_first(
    entries: dict[tuple[int, ...], int], texts: list[list[int]]
) -> None:
    key = np.array([11, 222, 3333], np.uint64)
    named = {int(_keys(key[list(gram)][None])[0]): float(pmi) for gram, pmi in entries.items()}
    scorer = Collocations(WordTable.of(named, dict.fromkeys(named, ""), -math.inf))
    width = max(1, *map(len, texts))
    keys = np.zeros((len(texts), width), np.uint64)
    for row, text in zip(keys, texts, strict=True):
        row[: len(text)] = key[text]
    for text, first in zip(texts, scorer.together(keys), strict=True):
        met = [
            (-n, -entries[tuple(text[i : i + n])], i)
            for n in range(2, 6)
            for i in range(len(text) - n + 1)
            if tuple(text[i : i + n]) in entries
        ]
        expected = np.arange(width)
        taken: set[int] = set()
        for minus, _, i in sorted(met):
            place = range(i, i - minus)
            if taken.isdisjoint(place):
                taken.update(place)
                expected[i : i - minus] = i
        assert first.tolist() == expected.tolist()


def test_no_entry_is_in_two_texts() -> None:
    texts, tokenizer = ["so hong", "kong so"] * 100, words_tokenizer(["so hong kong"])
    assert "hong kong" not in str(PMI().fit(known(texts, tokenizer=tokenizer)).about["top"])
    about = PMI(entries=2).fit(known([*texts, *["hong kong"] * 300], tokenizer=tokenizer)).about
    assert about["top"]["2"][0][0] == "hong kong"
    assert about["covered"] == 0.6


def test_keys_of_the_same_words_are_the_same_in_a_batch_and_in_the_corpus() -> None:
    vocabulary = Vocabulary.of(known(TEXTS), "word")
    batch = batch_of(TOKENIZERS["wordpiece"], TEXTS[:50])
    keys = keys_in(batch, Units.in_batch(batch))
    assert set(keys[keys > 0].tolist()) <= set(vocabulary.keys.tolist())
    assert sorted(vocabulary.written) == sorted(set(" ".join(TEXTS).split()))
    assert dict(zip(vocabulary.written, vocabulary.counts.tolist(), strict=True)) == Counter(" ".join(TEXTS).split())

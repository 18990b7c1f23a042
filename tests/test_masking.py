"""The contract of all maskers: one budget, only what may be hidden, whole units, one result for one seed.

And how tokens are hidden: 80/10/10, and nothing else changes.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import COMMON, TOPICS, make_task, sentence
from trivium import seeds
from trivium.config import choose
from trivium.core import Stage, Task
from trivium.encoders import Encoder, Scratch, collate, from_scratch, train_tokenizer
from trivium.errors import ArtifactError, ConfigError
from trivium.kinds.text import tokenize
from trivium.masking import (
    Batch,
    Fits,
    Known,
    Masker,
    RandomTokens,
    ScoredMasker,
    Spans,
    WholeWord,
    corrupt,
)
from trivium.masking.units import Unit, Units, budget
from trivium.nmg import MASKERS as ALL
from trivium.training import make_ready
from trivium.training.loop import run_stage
from trivium.training.recipes import make_stage

RATES = st.floats(0.01, 0.99)
MASKERS = {kind: cls for kind, cls in ALL.items() if kind != "saved"}  # that one is whatever was kept
RULES = {kind: cls for kind, cls in MASKERS.items() if not issubclass(cls, Fits)}
FITTED = [kind for kind in MASKERS if kind not in RULES]

SPACY = "<a spaCy pipeline>"
BRIEF = {"episodes": 2, "contexts": 8, "rows": 8, "fill_epochs": 1, "finetune_epochs": 1, "max_length": 64, "assess": 3}
SPECIAL: dict[str, dict[str, Any]] = {  # keys that have no default, or one that takes long
    "entity": {"model": SPACY}, "pos": {"model": SPACY}, "nmg": BRIEF,
}  # fmt: skip
QUESTIONS = ("answerlike",)  # maskers that are for questions over contexts
ONE_UNIT: tuple[str, ...] = ()  # maskers that have a key ``unit`` and take only its default

RNG = np.random.default_rng(0)
TEXTS = [f"Ada Lovelace said: {sentence(RNG, topic, 9)}, and left." for topic in TOPICS for _ in range(12)]
GENERAL = [sentence(RNG, "sailing", 12, purity=0.1) for _ in range(30)]
POOL = [
    "", "rook", ".", "Ada Lovelace", "the the the the", "zzyzx rook", "rookbishopcastlegambit!", "...?! -- (...)",
    *TEXTS[::9], " ".join(TEXTS[:3]),
]  # fmt: skip


def _classify() -> Task:
    task = make_task(24, dev=3, test=3)
    rows = task.tables["train"]
    texts = [f"Ada Lovelace said: {text}." for text in rows["text"].to_pylist()]
    train = rows.set_column(rows.column_names.index("text"), "text", pa.array(texts))
    return replace(task, tables={**task.tables, "train": train})


def _questions() -> Task:
    rows = []
    for i in range(40):
        words = [str(word) for word in RNG.choice(COMMON, 12)]
        words[i % 12] = str(RNG.choice(TOPICS["chess"]))
        label = [{"text": words[i % 12], "start": len(" ".join([*words[: i % 12], ""]))}]
        rows.append({"text": "what is of chess", "text_pair": " ".join(words), "label": label, "file": "f", "row": i})
    return Task("questions", "span", "f1", ("start", "end"), {"train": pa.Table.from_pylist(rows)})


@dataclass
class Tiny:
    """Encoders of two layers, trained for a moment."""

    tokenizer: Any
    kept: dict[str, Encoder] = field(default_factory=dict)

    def _once(self, name: str, make: Callable[[], Encoder]) -> Encoder:
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def language(self) -> Encoder:
        with seeds.torch_scope(0, "language"):
            return self._once("", lambda: from_scratch(Scratch("tiny", vocabulary=512), self.tokenizer, 128).eval())

    def adapted(self) -> Encoder:
        stage = Stage("adapt", {"documents": 1}, updates=10, lr=2e-3, batch_tokens=512, max_length=64)
        read = tokenize(self.tokenizer, TEXTS, 64)
        return self._once("adapted", lambda: self._trained(stage, _classify(), documents=read))

    def finetuned(self, task: Task) -> Encoder:
        stage = Stage("tune", {"task": 1}, updates=25, lr=2e-3, batch_rows=16, max_length=64, keep_best=False)
        return self._once(f"task {task.name}", lambda: self._trained(stage, task))

    def stage(self, preset: str, **changes: Any) -> Stage:
        return make_stage({"preset": preset, **changes}, Scratch("tiny"), "stage")

    def _trained(self, stage: Stage, task: Task, **more: Any) -> Encoder:
        encoder = deepcopy(self.language())
        run_stage(encoder, stage, task, masker=RandomTokens(), seed=0, **more)
        return encoder


@pytest.fixture(scope="module")
def known() -> Known:
    tokenizer = train_tokenizer([*TEXTS, *GENERAL, *POOL, *(sentence(RNG, topic) for topic in TOPICS)], 512)
    return Known.of(_classify(), TEXTS, tokenizer, Tiny(tokenizer), background=GENERAL)


@pytest.fixture(scope="module")
def pool(known: Known) -> Batch:
    """Texts of every shape: none at all, one word, unknown words, only signs, long and short."""
    return batch_of_texts(known, POOL)


def batch_of_texts(known: Known, texts: list[str]) -> Batch:
    encoded = tokenize(known.tokenizer, texts, 128)
    return collate(encoded, np.arange(len(texts)), known.tokenizer.pad_token_id, types=True)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """The folder of a spaCy pipeline that knows one name and a few words."""
    made: list[str] = []

    def make() -> str:
        spacy = pytest.importorskip("spacy")
        if not made:
            nlp = spacy.blank("en")
            name = [{"TEXT": "Ada"}, {"TEXT": "Lovelace"}]
            nlp.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": name}])
            nouns = [[{"LOWER": word}] for words in TOPICS.values() for word in words]
            nlp.add_pipe("attribute_ruler").add(nouns, {"POS": "NOUN"})
            made.append(str(tmp_path_factory.mktemp("spacy") / "pipeline"))
            nlp.to_disk(made[0])
        return made[0]

    return make


Make = Callable[..., Any]


@pytest.fixture(scope="module")
def masker_of(known: Known, pipeline: Callable[[], str]) -> Make:
    """A masker of a kind, ready to choose; each is fitted once."""
    kept: dict[tuple[str, Unit | None], Masker] = {}

    def make(kind: str, rate: float = 0.3, unit: Unit | None = None) -> Masker:
        if (kind, unit) not in kept:
            keys = {key: pipeline() if value == SPACY else value for key, value in SPECIAL.get(kind, {}).items()}
            unfitted = choose(MASKERS, {"kind": kind, **keys, **({} if unit is None else {"unit": unit})}, "masker")
            mine = replace(known, task=_questions()) if kind in QUESTIONS else known
            kept[kind, unit] = make_ready(unfitted, mine)
        return at(kept[kind, unit], rate)

    return make


def at(masker: Any, rate: float) -> Any:
    """The same masker at another rate."""
    if hasattr(masker, "draw"):
        return replace(masker, draw=replace(masker.draw, rate=rate))
    return replace(masker, rate=rate)


def unit_of(masker: Any) -> Unit:
    """What a masker hides as a whole."""
    if isinstance(masker, RandomTokens):
        return "token"
    found: Unit = getattr(getattr(masker, "draw", masker), "unit", "word")
    return found


def _both_units(kind: str) -> tuple[Unit | None, ...]:
    has_unit = "unit" in {each.name for each in fields(MASKERS[kind])} and kind not in ONE_UNIT
    return ("word", "token") if has_unit else (None,)


EVERY_KIND = pytest.mark.parametrize("kind", MASKERS)
EVERY_RULE = pytest.mark.parametrize("kind", RULES)
EVERY_FITTED = pytest.mark.parametrize("kind", FITTED)
EVERY_UNIT = pytest.mark.parametrize(("kind", "unit"), [(kind, unit) for kind in MASKERS for unit in _both_units(kind)])


@EVERY_UNIT
@given(rows=st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=6), rate=RATES, seed=st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_every_masker_spends_the_same_budget_on_whole_units_that_may_be_hidden(
    kind: str, unit: Unit | None, rows: list[int], rate: float, seed: int, masker_of: Make, pool: Batch
) -> None:
    """The budget is a function of the units, the rate and the generator, so no two maskers can differ in it."""
    masker = masker_of(kind, rate, unit)
    batch = Batch(pool.ids[rows], pool.attention[rows], pool.words[rows], pool.types[rows])
    before = batch.ids.clone()
    chosen = masker.choose(batch, seeds.torch_rng(seed))
    assert (chosen.dtype, chosen.shape) == (torch.bool, batch.ids.shape)
    assert not (chosen & ~batch.maskable).any()
    units = Units.in_batch(batch, unit_of(masker))
    pieces = units.total(chosen.long())
    assert ((pieces == 0) | (pieces == units.pieces)).all(), "a unit is hidden with all its pieces"
    assert torch.equal((pieces > 0).sum(1), budget(units.count, rate, seeds.torch_rng(seed)))
    assert torch.equal(chosen, masker.choose(batch, seeds.torch_rng(seed)))
    assert torch.equal(batch.ids, before)
    gaps = corrupt(batch.ids, chosen, 4, 512, seeds.torch_rng(seed))
    assert torch.equal(gaps.labels() != -100, chosen), "labels only where something is hidden"


@EVERY_KIND
def test_a_text_with_nothing_to_hide_is_left_alone_and_one_word_can_be_hidden(
    kind: str, masker_of: Make, known: Known
) -> None:
    chosen = masker_of(kind, 0.99).choose(batch_of_texts(known, ["", *["rook"] * 40, ""]), seeds.torch_rng(0))
    assert not chosen[[0, -1]].any()
    assert chosen[1:-1].any(1).sum() > 30
    assert not masker_of(kind, 0.99).choose(batch_of_texts(known, [""]), seeds.torch_rng(0)).any()


@EVERY_KIND
def test_another_generator_hides_something_else(kind: str, masker_of: Make, known: Known) -> None:
    """Even where scores decide all, chance decides between words that are alike."""
    batch = batch_of_texts(known, ["the " * 40, *TEXTS[:5]])
    rng, masker = seeds.torch_rng(0), masker_of(kind)
    assert not torch.equal(masker.choose(batch, rng), masker.choose(batch, rng))


@EVERY_KIND
def test_a_masker_is_a_frozen_dataclass_whose_rate_is_checked(kind: str) -> None:
    assert is_dataclass(MASKERS[kind])
    assert MASKERS[kind].__dataclass_params__.frozen
    assert MASKERS[kind].__doc__
    for rate in (0.0, 1.0, -0.1, 15, float("nan")):
        with pytest.raises(ConfigError, match=r"masker\.rate: expected a share between 0 and 1, found"):
            MASKERS[kind](rate=rate)


@EVERY_FITTED
def test_a_fitted_masker_comes_back_as_it_was(kind: str, masker_of: Make, pool: Batch, tmp_path: Path) -> None:
    masker = masker_of(kind)
    masker.save_pretrained(tmp_path / "masker")
    again = type(masker).from_pretrained(tmp_path / "masker")
    for seed in range(3):
        assert torch.equal(masker.choose(pool, seeds.torch_rng(seed)), again.choose(pool, seeds.torch_rng(seed)))
    assert again.about == masker.about
    with pytest.raises(ArtifactError, match="expected a masker"):
        type(masker).from_pretrained(tmp_path / "nothing")


@EVERY_FITTED
def test_scores_of_a_text_do_not_depend_on_its_neighbours(
    kind: str, masker_of: Make, pool: Batch, tmp_path: Path
) -> None:
    masker = masker_of(kind)
    if not isinstance(masker, ScoredMasker):
        pytest.skip("it has no scores")
    masker.save_pretrained(tmp_path / "masker")
    together, alone = (ScoredMasker.from_pretrained(tmp_path / "masker").scorer for _ in range(2))  # they remember
    units = Units.in_batch(pool, masker.draw.unit)
    scores = together.scores(pool, units)
    assert scores.shape == units.there.shape
    assert not scores[units.there].isnan().any()
    for row, many in enumerate(units.count.tolist()):
        one = pool.texts(row, row + 1)
        torch.testing.assert_close(
            alone.scores(one, Units.in_batch(one, masker.draw.unit))[0, :many], scores[row, :many], rtol=1e-3, atol=1e-4
        )


PIECES, FIRST = st.lists(st.integers(1, 4), max_size=12), st.sampled_from([0, 37])  # of each word; number of the first


def batch_of(rows: list[tuple[list[int], int]]) -> Batch:
    """Rows of special token, words in pieces, special token, padding; a window of a text starts at a later word."""
    words = [[-1, *(first + i for i, n in enumerate(pieces) for _ in range(n)), -1] for pieces, first in rows]
    length = max(map(len, words))
    attention = torch.tensor([[i < len(row) for i in range(length)] for row in words])
    filled = torch.tensor([row + [-1] * (length - len(row)) for row in words])
    return Batch(torch.arange(filled.numel()).view_as(filled), attention, filled)


@EVERY_RULE
@given(
    batch=st.lists(st.tuples(PIECES, FIRST), min_size=1, max_size=5).map(batch_of), rate=RATES, seed=st.integers(0, 9)
)
@settings(max_examples=60, deadline=None)
def test_a_rule_hides_its_share_of_every_text(kind: str, batch: Batch, rate: float, seed: int) -> None:
    masker = RULES[kind](rate)
    chosen = masker.choose(batch, seeds.torch_rng(seed))
    units = Units.in_batch(batch, unit_of(masker))
    hidden = (units.total(chosen.long()) > 0).sum(1)
    for many, there in zip(hidden.tolist(), units.count.tolist(), strict=True):
        assert math.floor(there * rate - 1e-5) <= many <= math.ceil(there * rate + 1e-5)


@EVERY_RULE
@pytest.mark.parametrize("words", [3, 7, 25])
def test_over_many_texts_a_rule_hides_an_exact_share_and_favours_no_place(kind: str, words: int) -> None:
    """Seven words at 0.3 are 2.1 of them: now two, now three."""
    many = 8000
    chosen = RULES[kind](0.3).choose(batch_of([([1] * words, 3)] * many), seeds.torch_rng(0))[:, 1:-1]
    assert len(set(chosen.sum(1).tolist())) == 2
    assert chosen.sum().item() / many == pytest.approx(0.3 * words, abs=0.03)
    assert chosen.float().mean(0).tolist() == pytest.approx([0.3] * words, abs=0.02)
    assert chosen[0::2].logical_xor(chosen[1::2]).any(), "each text has draws of its own"


@pytest.mark.parametrize("stop", [0.2, 0.5, 1.0])
def test_spans_are_as_long_as_a_geometric_distribution_up_to_the_longest(stop: float) -> None:
    """One unit is as likely as any to begin a span of k units: stop (1 - stop)^(k-1), of those up to ten."""
    lengths = Spans(stop=stop)._lengths(torch.Size([100_000]), seeds.torch_rng(0)).long()
    wanted = np.array([stop * (1 - stop) ** (k - 1) for k in range(1, 11)])
    assert (torch.bincount(lengths, minlength=11)[1:] / len(lengths)).tolist() == pytest.approx(
        (wanted / wanted.sum()).tolist(), abs=0.006
    )
    if stop == 0.2:
        assert lengths.double().mean().item() == pytest.approx(3.8, abs=0.03)  # SpanBERT, section 3.1


@given(words=st.integers(1, 30), rate=RATES, seed=st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_one_span_that_is_long_enough_is_all_there_is(words: int, rate: float, seed: int) -> None:
    """It may run over the end of the text and go on at its beginning."""
    masker = Spans(rate, stop=1e-9, longest=10_000)  # as good as never ends
    chosen = masker.choose(batch_of([([1] * words, 0)]), seeds.torch_rng(seed))[0, 1:-1]
    begins = chosen & ~chosen.roll(1)
    assert begins.sum() == (0 if chosen.all() or not chosen.any() else 1)


def test_long_words_are_no_likelier_to_be_hidden() -> None:
    batch = batch_of([([1, 4, 1, 2], 0)] * 4000)
    chosen = WholeWord(0.25).choose(batch, seeds.torch_rng(0))[:, [1, 2, 6, 7]]
    assert chosen.float().mean(0).tolist() == pytest.approx([0.25] * 4, abs=0.04)
    assert (chosen.sum(1) == 1).all()


@given(st.lists(st.integers(0, 500), min_size=1, max_size=20), RATES)
@settings(max_examples=40, deadline=None)
def test_a_budget_is_rounded_up_as_often_as_the_mean_needs(there: list[int], rate: float) -> None:
    drawn = budget(torch.tensor([there] * 3000), rate, seeds.torch_rng(0))
    assert drawn.dtype == torch.int64
    assert drawn.double().mean(0).tolist() == pytest.approx([n * rate for n in there], abs=0.06)
    assert (drawn.amax(0) - drawn.amin(0) <= 1).all()


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


def test_what_was_kept_can_be_named(known: Known, pool: Batch, tmp_path: Path) -> None:
    kept = ALL["tficf"](rate=0.3).fit(known)
    kept.save_pretrained(tmp_path / "kept")
    again = choose(ALL, {"kind": "saved", "path": str(tmp_path / "kept")}, "masker").fit(known)
    assert torch.equal(kept.choose(pool, seeds.torch_rng(0)), again.choose(pool, seeds.torch_rng(0)))
    other = ALL["saved"](tmp_path / "kept", rate=0.6, temperature=2.0).fit(known)
    assert (other.draw.rate, other.draw.temperature, other.draw.unit) == (0.6, 2.0, "word")
    with pytest.raises(ArtifactError, match="expected a masker that was saved"):
        ALL["saved"](tmp_path).fit(known)

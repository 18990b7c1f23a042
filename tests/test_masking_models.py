"""Maskers that ask a model: of a text they say the same in any batch, as defined, and they find what was planted."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from conftest import TOPICS
from test_training import SHAPES
from test_training_kinds import make
from trivium import seeds
from trivium.core import Stage, Task
from trivium.encoders import Encoder, collate
from trivium.encoders.encoder import inputs_of
from trivium.errors import ConfigError
from trivium.kinds import Batch, Cut, kind_of
from trivium.kinds.text import tokenize
from trivium.masking import Known, RandomTokens, ScoredMasker
from trivium.masking import asking as asking_module
from trivium.masking.asking import Asks, encode, in_rounds, states
from trivium.masking.gradalign import Aligned, GradAlign, alignments, halves, last_linear, task_gradient
from trivium.masking.language import Entropy, Excess, ExcessLoss, Unsure
from trivium.masking.protocol import Fits
from trivium.masking.scored import Draw
from trivium.masking.selective import Marked, Selective, chances, important
from trivium.masking.tasks import AnswerLike, Inside, Saliency, gradient_norms
from trivium.masking.units import Unit, Units
from trivium.masking.words import Occurrences, WordTable, spelled
from trivium.training import encode_documents, run_stage

ARCHITECTURES = ("bert", "modernbert", "distilbert")
EVERY_ARCHITECTURE = pytest.mark.parametrize("architecture", ARCHITECTURES)
KEYS = ("salt", "mast", "rook")  # each gives its label away
FILLER = [*TOPICS["cooking"][1:], *TOPICS["sailing"][1:6]]
TUNE = Stage("tune", {"task": 1}, updates=160, lr=4e-3, batch_rows=16, max_length=48, keep_best=False)
FILL = replace(TUNE, name="fill", mix={"documents": 1}, updates=70, lr=8e-3, batch_tokens=512)
TEXTS = [
    "salt oven bread butter sugar flour onion garlic simmer knife",
    "",
    "rook",
    "the saltoven castles a queenish mastrook and it was very old in the harbour of the deck",
    "check the board , pawn !",
]


def tiny(architecture: str, tokenizer: Any, seed: int = 0) -> Encoder:
    from transformers import AutoConfig, AutoModelForMaskedLM

    config = AutoConfig.for_model(architecture, vocab_size=len(tokenizer), **SHAPES[architecture])
    with seeds.torch_scope(seed, "tiny", architecture):
        return Encoder(AutoModelForMaskedLM.from_config(config), tokenizer)


@dataclass
class Trained:
    """Encoders that really learn, quickly; each is made once."""

    tokenizer: Any
    general: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    architecture: str = "modernbert"
    tune: Stage = TUNE
    fill: Stage = FILL
    tasks: list[Task] = field(default_factory=list)
    made: dict[str, Encoder] = field(default_factory=dict)

    def language(self) -> Encoder:
        return self._once("language", lambda: self._filled(tiny(self.architecture, self.tokenizer), self.general))

    def adapted(self) -> Encoder:
        return self._once("adapted", lambda: self._filled(deepcopy(self.language()), self.texts))

    def finetuned(self, task: Task) -> Encoder:
        self.tasks.append(task)
        return self._once(task.fingerprint, lambda: self._tuned(tiny(self.architecture, self.tokenizer), task))

    def stage(self, _preset: str, **changes: Any) -> Stage:
        return replace(self.tune, **changes)

    def _once(self, name: str, make_one: Callable[[], Encoder]) -> Encoder:
        if name not in self.made:
            self.made[name] = make_one()
        return self.made[name]

    def _tuned(self, encoder: Encoder, task: Task) -> Encoder:
        run_stage(encoder, self.tune, task, masker=RandomTokens(), seed=0)
        return encoder

    def _filled(self, encoder: Encoder, texts: list[str]) -> Encoder:
        documents = encode_documents(self.tokenizer, texts, 48)
        run_stage(encoder, self.fill, make("classify", 2), documents=documents, masker=RandomTokens(0.3), seed=0)
        return encoder


def batch_of(tokenizer: Any, texts: list[str], *, types: bool = True) -> Batch:
    encoded = tokenize(tokenizer, texts, 48)
    return collate(encoded, np.arange(len(encoded)), tokenizer.pad_token_id, types=types)


def keyed(rows: int = 120, *, signal: bool = True, unknowable: int = 0, seed: int = 0) -> Task:
    """Nine words that mean nothing and, somewhere, one that gives the label away; without a signal it does not.

    After them, as many texts as are unknowable, without such a word, each once with every label: a classifier that has
    seen them does not guess the same label whenever it knows nothing.
    """
    rng = np.random.default_rng(seed)
    key = rng.integers(3, size=rows)
    label = key if signal else rng.integers(3, size=rows)
    texts = []
    for k in key:
        words = [str(word) for word in rng.choice(FILLER, 9)]
        words.insert(int(rng.integers(10)), KEYS[k])
        texts.append(" ".join(words))
    for length in rng.integers(1, 11, unknowable):
        texts += [" ".join(map(str, rng.choice(FILLER, length)))] * 3
    label = np.append(label, np.tile(np.arange(3), unknowable))
    return Task("keyed", "classify", "accuracy", KEYS, {"train": pa.table({"text": texts, "label": label})})


def located(rows: int = 120, *, signal: bool = True, seed: int = 0) -> Task:
    """Questions whose answer is always one of three words; without a signal, any word."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(rows):
        words = [str(word) for word in rng.choice(FILLER, 11)]
        place = int(rng.integers(12))
        words.insert(place, str(rng.choice(KEYS)))
        told = place if signal else int(rng.integers(12))
        labels.append([{"text": words[told], "start": len(" ".join(words[:told])) + (told > 0)}])
        texts.append(" ".join(words))
    table = pa.table({"text": ["which"] * rows, "text_pair": texts, "label": labels})
    return Task("located", "span", "f1", ("start", "end"), {"train": table})


def known_of(task: Task, models: Trained, texts: list[str] | None = None) -> Known:
    return Known.of(task, texts or task.texts("train"), models.tokenizer, models)


def share_of_keys(masker: Any, tokenizer: Any) -> float:
    """How much of what a masker hides are words that give the label away; one in ten of the words is one."""
    batch = batch_of(tokenizer, keyed(60, seed=5).texts("train"), types=False)
    hidden = batch.ids[masker.choose(batch, seeds.torch_rng(0))]
    return torch.isin(hidden, torch.tensor(tokenizer.convert_tokens_to_ids(list(KEYS)))).float().mean().item()


@pytest.fixture(scope="module")
def models(tokenizer: Any) -> Trained:
    return Trained(tokenizer)


@pytest.fixture(scope="module")
def classifier(models: Trained) -> Encoder:
    return models.finetuned(keyed())


SCORERS = ("unsure", "excess", "marked", "inside", "aligned")
EVERY_SCORER = pytest.mark.parametrize("scorer", SCORERS)


def scorer_of(name: str, architecture: str, tokenizer: Any, rounds: int = 3) -> Asks:
    """A scorer with random weights."""
    encoder = tiny(architecture, tokenizer)
    with seeds.torch_scope(0, "heads"):
        for kind in ("tag", "span"):
            task = make(kind, 2)
            encoder.add_head(replace(task, labels=("O", "M")) if kind == "tag" else task)
    gradient = torch.randn(last_linear(encoder).weight.shape, generator=seeds.torch_rng(0))
    return {
        "unsure": lambda: Unsure(encoder, rounds),
        "excess": lambda: Excess(encoder, tiny(architecture, tokenizer, seed=1), rounds),
        "marked": lambda: Marked(encoder, "tag"),
        "inside": lambda: Inside(encoder, "span"),
        "aligned": lambda: Aligned(encoder, rounds, gradient),
    }[name]()


# ---- all of them


@EVERY_ARCHITECTURE
@EVERY_SCORER
@pytest.mark.parametrize("unit", ["word", "token"])
def test_a_text_gets_the_same_scores_in_whatever_batch(
    scorer: str, architecture: str, unit: Unit, tokenizer: Any
) -> None:
    asked = scorer_of(scorer, architecture, tokenizer)
    types = architecture == "bert"
    batch = batch_of(tokenizer, TEXTS, types=types)
    units = Units.in_batch(batch, unit)
    together = asked.ask(batch, units)
    assert together.shape == units.there.shape
    assert together.dtype == torch.float32
    for text, row in zip(TEXTS, together, strict=True):
        alone = batch_of(tokenizer, [text], types=types)
        many = Units.in_batch(alone, unit)
        assert_close(asked.ask(alone, many)[0], row[: many.width], atol=2e-5, rtol=1e-4)
    assert len(row[units.there[-1]].unique()) > 1, "and they are not all alike"


@EVERY_SCORER
def test_a_large_batch_is_computed_in_pieces(scorer: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, batch = scorer_of(scorer, "bert", tokenizer), batch_of(tokenizer, TEXTS)
    units = Units.in_batch(batch)
    whole = asked.ask(batch, units)
    monkeypatch.setattr(asking_module, "TOKENS", 2 * batch.ids.shape[1])
    monkeypatch.setattr(asking_module, "_LOGITS", 3)
    assert_close(asked.ask(batch, units), whole, atol=2e-5, rtol=1e-4)


@EVERY_SCORER
def test_asking_leaves_the_encoder_and_chance_as_they_were(scorer: str, tokenizer: Any) -> None:
    asked, batch = scorer_of(scorer, "bert", tokenizer), batch_of(tokenizer, TEXTS)
    encoder: Encoder = asked.encoder  # type: ignore[attr-defined]
    encoder.train()
    encoder.mlm.eval()
    before = [module.training for module in encoder.modules()]
    weights = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    chance = torch.random.get_rng_state()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        first = asked.ask(batch, Units.in_batch(batch))
    assert_close(asked.ask(batch, Units.in_batch(batch)), first, rtol=0, atol=0)
    assert torch.equal(torch.random.get_rng_state(), chance)
    assert [module.training for module in encoder.modules()] == before
    assert all(torch.equal(weights[name], weight) for name, weight in encoder.state_dict().items())
    assert all(weight.grad is None for weight in encoder.parameters())
    assert not any(module._forward_hooks for module in encoder.modules())


@EVERY_SCORER
def test_a_saved_masker_chooses_the_same(scorer: str, tokenizer: Any, tmp_path: Path) -> None:
    architecture = dict(zip(SCORERS, [*ARCHITECTURES, *ARCHITECTURES], strict=False))[scorer]
    masker = ScoredMasker(Draw(0.3, temperature=1.0), scorer_of(scorer, architecture, tokenizer), {"found": 1})
    masker.save_pretrained(tmp_path / "masker")
    again = ScoredMasker.from_pretrained(tmp_path / "masker")
    batch = batch_of(tokenizer, TEXTS, types=architecture == "bert")
    units = Units.in_batch(batch)
    assert_close(again.scorer.scores(batch, units), masker.scorer.scores(batch, units), atol=1e-5, rtol=1e-5)
    for seed in range(5):
        one, other = (each.choose(batch, seeds.torch_rng(seed)) for each in (masker, again))
        assert torch.equal(one, other)
    assert (again.draw, again.about) == (masker.draw, masker.about)


@EVERY_SCORER
def test_texts_with_nothing_and_with_one_word(scorer: str, tokenizer: Any) -> None:
    asked = scorer_of(scorer, "modernbert", tokenizer)
    batch = batch_of(tokenizer, ["", ""], types=False)
    assert asked.ask(batch, Units.in_batch(batch)).shape == (2, 1)
    masker = ScoredMasker(Draw(0.9), asked)
    assert not masker.choose(batch, seeds.torch_rng(0)).any()
    one = batch_of(tokenizer, ["rook", ""], types=False)
    assert torch.isfinite(asked.ask(one, Units.in_batch(one))[0]).all()
    assert masker.choose(one, seeds.torch_rng(0))[0].any()


@given(st.lists(st.lists(st.integers(1, 3), max_size=9), min_size=1, max_size=4), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_every_unit_is_hidden_in_exactly_one_round(texts: list[list[int]], rounds: int) -> None:
    length = max(sum(pieces) for pieces in texts) + 1
    of = torch.tensor(
        [
            [*(unit for unit, n in enumerate(pieces) for _ in range(n)), *[-1] * (length - sum(pieces))]
            for pieces in texts
        ]
    )
    text, hidden = in_rounds(Units(of, torch.tensor([len(pieces) for pieces in texts])), rounds)
    times = torch.zeros_like(of).index_add(0, text, hidden.long())
    assert torch.equal(times, (of >= 0).long())
    for asked, here in zip(text.tolist(), hidden, strict=True):
        units = of[asked][here].unique()
        assert len(units) > 0
        assert set(units.diff().tolist()) <= {rounds}
        assert torch.equal(here, torch.isin(of[asked], units)), "with all its pieces"


# ---- language


def plain_logits(encoder: Encoder, ids: Tensor) -> Tensor:
    """Of the whole model, one text at a time."""
    with encoder._whole(encoder.mlm), torch.no_grad():
        logits: Tensor = encoder.mlm.eval()(input_ids=ids[None]).logits[0]
    return logits


@EVERY_ARCHITECTURE
def test_entropy_and_loss_are_those_of_the_hidden_unit(architecture: str, tokenizer: Any) -> None:
    """Hidden alone where there are as many rounds as units, with every third where there are three."""
    encoder, other = tiny(architecture, tokenizer), tiny(architecture, tokenizer, 1)
    encoder.eval(), other.eval()
    batch = batch_of(tokenizer, TEXTS, types=architecture == "bert")
    units = Units.in_batch(batch)
    for rounds in (3, 99):
        entropy = Unsure(encoder, rounds).ask(batch, units)
        excess = Excess(encoder, other, rounds).ask(batch, units)
        for text in range(len(TEXTS)):
            ids, of = batch.ids[text][batch.attention[text]], units.of[text][batch.attention[text]]
            for unit in range(int(units.count[text])):
                here = of == unit
                gaps = ids.masked_fill((of >= 0) & (of % rounds == unit % rounds), tokenizer.mask_token_id)
                own, theirs = (plain_logits(one, gaps)[here] for one in (encoder, other))
                assert_close(entropy[text, unit], torch.distributions.Categorical(logits=own).entropy().mean())
                losses = [F.cross_entropy(logits, ids[here]) for logits in (own, theirs)]
                assert_close(excess[text, unit], losses[0] - losses[1], atol=1e-5, rtol=1e-4)


def test_a_model_has_no_excess_over_itself(tokenizer: Any) -> None:
    encoder, batch = tiny("bert", tokenizer), batch_of(tokenizer, TEXTS)
    assert not Excess(encoder, encoder, 6).ask(batch, Units.in_batch(batch)).any()


def placed(many: int, *, told: bool, seed: int) -> list[str]:
    """Four times a word that all texts have, four words of eight (or always the first, if told), four of eight."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(many):
        picks = rng.choice(TOPICS["chess"][:8], 8)
        texts.append(
            " ".join(["then"] * 4 + [TOPICS["chess"][0] if told else str(word) for word in picks[:4]] + [*picks[4:]])
        )
    return texts


def test_entropy_hides_what_cannot_be_guessed_and_excess_what_can_be_learned(tokenizer: Any) -> None:
    general, texts = placed(80, told=False, seed=0), placed(80, told=True, seed=1)
    models = Trained(tokenizer, general, texts, "bert", fill=replace(FILL, updates=50))
    known = known_of(keyed(2), models, texts)
    batch = batch_of(tokenizer, general[:40])
    hidden = Entropy(rate=8 / 12).fit(known).choose(batch, seeds.torch_rng(0))
    assert not hidden[:, 1:5].any(), "the word that is always there can be guessed"
    assert hidden[:, 5:13].all()
    batch = batch_of(tokenizer, placed(40, told=True, seed=2))
    masker = ExcessLoss(rate=4 / 12).fit(known)
    assert masker.choose(batch, seeds.torch_rng(0))[:, 5:9].float().mean() > 0.9
    excess = masker.scorer.scores(batch, Units.in_batch(batch)).view(40, 3, 4).mean((0, 2))
    assert excess[1] > 1.0, "it was one of eight"
    assert abs(excess[0]) < 0.2, "it was known before"
    assert abs(excess[2]) < 0.3, "it cannot be known"


# ---- saliency


@pytest.mark.parametrize("kind", ["classify", "multilabel", "regress", "rank", "tag", "span"])
@EVERY_ARCHITECTURE
def test_gradients_are_those_of_each_row_alone(kind: str, architecture: str, tokenizer: Any) -> None:
    task = make(kind, 5)
    encoder = tiny(architecture, tokenizer)
    with seeds.torch_scope(0, "heads"):
        encoder.add_head(task)
    encoded = encode(encoder, task)
    norms = gradient_norms(encoder, task, encoded)
    table = encoder.backbone.get_input_embeddings()
    encoder.eval()
    firsts = encoded.firsts if encoded.firsts is not None else np.arange(len(encoded) + 1)
    for row in range(3):
        batch = collate(encoded, np.array([row]), tokenizer.pad_token_id, types=encoder.wants_types)
        vectors = table(batch.ids).detach().requires_grad_()
        given = {**inputs_of(batch), "inputs_embeds": vectors}
        del given["input_ids"]
        logits = encoder.answer(task.name, encoder.backbone(**given).last_hidden_state, batch)
        kind_of(task).loss(logits, batch, None).sum().backward()  # type: ignore[no-untyped-call]
        assert vectors.grad is not None
        here = slice(encoded.offsets[firsts[row]], encoded.offsets[firsts[row + 1]])
        assert_close(
            torch.from_numpy(norms[here]).float(), vectors.grad.norm(dim=-1)[batch.attention], atol=1e-6, rtol=1e-3
        )


@pytest.mark.parametrize("unit", ["word", "token"])
def test_a_word_is_worth_its_mean_gradient(unit: Unit, tokenizer: Any) -> None:
    texts = ["queenish salt , queenish", "salt mastrook", "salt salt salt"]
    task = Task("t", "classify", "accuracy", ("a", "b"), {"train": pa.table({"text": texts, "label": [0, 1, 0]})})
    models = Trained(tokenizer, tune=replace(TUNE, updates=2))
    masker = Saliency(unit=unit).fit(known_of(task, models))
    encoder = Trained(tokenizer, tune=replace(TUNE, updates=2)).finetuned(task)
    encoded = encode(encoder, task)
    norms = gradient_norms(encoder, task, encoded)
    sums: dict[str, list[float]] = {}
    found = Occurrences.of(encoded, unit)
    for begin, end in zip(found.begins, found.ends, strict=True):
        sums.setdefault(spelled(tokenizer, encoded.ids[begin:end]), []).append(norms[begin:end].mean())
    table = masker.scorer
    assert isinstance(table, WordTable)
    means = {word: np.mean(each) for word, each in sums.items()}
    assert dict(table.top(99)) == pytest.approx({word: np.log(mean) for word, mean in means.items()}, abs=1e-4)
    assert table.default == pytest.approx(np.log(np.mean(list(means.values()))), abs=1e-4)
    assert (masker.draw.temperature, masker.draw.unit) == (1.0, unit)


def test_saliency_finds_the_words_that_give_the_label_away_where_there_are_any(tokenizer: Any) -> None:
    models = Trained(tokenizer, architecture="bert")
    masker = Saliency(rate=0.1).fit(known_of(keyed(240), models))
    assert isinstance(masker.scorer, WordTable)
    assert {word for word, _ in masker.scorer.top(3)} == set(KEYS)
    assert share_of_keys(masker, tokenizer) > 0.35
    null = Saliency(rate=0.1).fit(known_of(keyed(240, signal=False), models))
    assert share_of_keys(null, tokenizer) < 0.25


# ---- selective


def test_words_are_marked_as_if_rows_were_built_up_one_by_one(classifier: Encoder) -> None:
    task = keyed(14, seed=3)
    encoded = encode(classifier, task)
    words = Occurrences.of(encoded)
    rng = np.random.default_rng(0)
    asked = rng.random(len(words.keys)) < 0.8
    enough = chances(classifier, task, encoded)[0] - 0.3
    found = important(classifier, task, encoded, words, asked, enough)
    expected = np.zeros(len(asked), bool)
    classifier.eval()
    for row in range(14):
        buffer: list[int] = []
        for i in np.flatnonzero(words.texts == row):
            if asked[i]:
                pieces = encoded.ids[words.begins[i] : words.ends[i]].tolist()
                ids = torch.tensor([[encoded.ids[0], *buffer, *pieces, encoded.ids[encoded.offsets[1] - 1]]])
                batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool), ids)
                with torch.no_grad():
                    logits = classifier.answer("keyed", states(classifier, batch), batch)
                chance = logits.softmax(-1)[0, task.rows("train")["label"][row].as_py()].item()
                expected[i] = chance > enough[row]
                buffer += [] if expected[i] else pieces
    assert (found == expected).all()
    assert found[asked].any()
    assert not found[asked].all()
    assert not found[~asked].any()


def test_selective_finds_the_words_that_give_the_label_away_where_there_are_any(models: Trained) -> None:
    task = keyed(unknowable=12)
    masker = Selective(rate=0.1).fit(known_of(task, models))
    assert share_of_keys(masker, models.tokenizer) > 0.9
    tags = models.tasks[-1]
    assert (tags.kind, tags.labels) == ("tag", ("O", "M"))
    assert set(tags.tables) == {"train"}
    told = tags.rows("train").slice(0, 120)
    assert told["text"].to_pylist() == task.texts("train")[:120], "all that can be known are got right"
    marks: dict[bool, list[int]] = {True: [], False: []}
    for row in told.to_pylist():
        for word, mark in zip(row["tokens"], row["label"], strict=True):
            marks[word in KEYS].append(mark)
    assert np.mean(marks[True]) > 0.95
    assert np.mean(marks[False]) < 0.05
    null = Selective(rate=0.1).fit(known_of(keyed(signal=False, unknowable=12), models))
    assert share_of_keys(null, models.tokenizer) < 0.6


def test_stop_words_are_never_marked_and_other_rows_not_looked_at(tokenizer: Any) -> None:
    texts = ["the salt of it", "the mast of it", "it was", ""] * 8
    labels = [0, 1, 2, 2] * 8
    models = Trained(tokenizer)
    task = Task("t", "classify", "accuracy", KEYS, {"train": pa.table({"text": texts, "label": labels})})
    masker = Selective(rows=12).fit(known_of(task, models))
    rows = models.tasks[1].rows("train").to_pylist()
    assert len(rows) <= 12
    assert {tuple(row["tokens"]) for row in rows} <= {tuple(text.split()) for text in texts}
    for row in rows:
        assert [mark for word, mark in zip(row["tokens"], row["label"], strict=True) if word not in KEYS] == [0] * sum(
            word not in KEYS for word in row["tokens"]
        )
    assert masker.about["rows"] <= 12


def test_several_labels_are_right_together(tokenizer: Any) -> None:
    task = make("multilabel", 12)
    encoder = tiny("modernbert", tokenizer)
    encoder.add_head(task)
    chance, right = chances(encoder, task, encode(encoder, task))
    gold = kind_of(task).gold(task.rows("train"), task.labels)
    for row in range(12):
        batch = batch_of(tokenizer, [task.texts("train")[row]], types=False)
        with torch.no_grad():
            encoder.eval()
            yes = encoder.answer(task.name, states(encoder, batch), batch)[0].sigmoid().numpy()
        assert chance[row] == pytest.approx(np.where(gold[row], yes, 1 - yes).prod(), rel=1e-3)
        assert right[row] == ((yes >= 0.5) == gold[row]).all()


@pytest.mark.parametrize(
    ("masker", "kind", "expected"),
    [
        (Selective(), "span", "classify or multilabel"),
        (Selective(), "tag", "classify"),
        (AnswerLike(), "classify", "span"),
    ],
)
def test_a_task_that_does_not_suit_is_refused(masker: Fits, kind: str, expected: str, tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match=f"expected a task of kind {expected}.*found '{kind}' of kind {kind}"):
        masker.fit(known_of(make(kind, 4), Trained(tokenizer)))


def test_a_classifier_that_is_never_right_is_refused(tokenizer: Any) -> None:
    texts = ["the of", "it was"]
    task = Task("t", "classify", "accuracy", ("a", "b"), {"train": pa.table({"text": texts, "label": [0, 1]})})
    with pytest.raises(ConfigError, match="found none among 2"):
        Selective().fit(known_of(task, Trained(tokenizer, tune=replace(TUNE, updates=1))))


@pytest.mark.parametrize(
    "make_one",
    [
        lambda: Entropy(rounds=0),
        lambda: Selective(delta=1.0),
        lambda: Selective(rows=0),
        lambda: GradAlign(held_out=0.0),
    ],
)
def test_values_out_of_range_are_refused(make_one: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        make_one()


# ---- answerlike


@EVERY_ARCHITECTURE
def test_the_chance_to_lie_inside_is_that_of_all_answers_around_it(architecture: str, tokenizer: Any) -> None:
    inside = scorer_of("inside", architecture, tokenizer)
    assert isinstance(inside, Inside)
    encoder = inside.encoder.eval()
    batch = batch_of(tokenizer, TEXTS, types=architecture == "bert")
    units = Units.in_batch(batch)
    scores = inside.ask(batch, units)
    task = make("span", 1)
    for text, written in enumerate(TEXTS):
        rows = pa.table({"text": [""], "text_pair": [written]})
        encoded = kind_of(task).encode(tokenizer, rows, task.labels, Cut(max_length=64))
        asked = collate(encoded, np.array([0]), tokenizer.pad_token_id, types=encoder.wants_types)
        assert asked.chars is not None
        with torch.no_grad():
            logits = encoder.answer("span", states(encoder, asked), asked)[0]
        context = (asked.chars[0, :, 0] >= 0).nonzero().flatten().tolist()
        start, end = (logits[[0, *context], side].softmax(0)[1:] for side in (0, 1))
        of = units.of[text][batch.maskable[text]].tolist()
        assert len(of) == len(context)
        for unit in range(int(units.count[text])):
            mine = [i for i, u in enumerate(of) if u == unit]
            chance = sum(
                start[s] * end[e] for s in range(len(of)) for e in range(s, len(of)) if s <= mine[0] and mine[-1] <= e
            )
            assert scores[text, unit].exp().item() == pytest.approx(float(chance), rel=1e-3)


def test_a_text_too_long_for_the_encoder_is_read_in_windows(tokenizer: Any) -> None:
    inside = scorer_of("inside", "bert", tokenizer)
    assert isinstance(inside, Inside)
    most = inside.encoder.backbone.config.max_position_embeddings
    words = np.random.default_rng(0).choice(FILLER, most - 2)
    encoded = tokenize(tokenizer, [" ".join(words)], most)
    batch = collate(encoded, np.array([0]), tokenizer.pad_token_id, types=True)
    assert batch.ids.shape[1] == most
    scores = inside.ask(batch, Units.in_batch(batch))
    assert torch.isfinite(scores).all()
    half = Batch(batch.ids[:, : most // 2], batch.attention[:, : most // 2], batch.words[:, : most // 2])
    first = inside.ask(half, Units.in_batch(half))
    assert_close(scores[:, : first.shape[1]], first, atol=1e-4, rtol=1e-4)


def test_what_looks_like_an_answer_is_hidden_where_answers_look_alike(tokenizer: Any) -> None:
    models = Trained(tokenizer, tune=replace(TUNE, updates=80))
    masker = AnswerLike(rate=0.1).fit(known_of(located(), models))
    assert share_of_keys(masker, tokenizer) > 0.9
    blind = models.tasks[0]
    assert set(blind.rows("train")["text"].to_pylist()) == {""}
    null = AnswerLike(rate=0.1).fit(known_of(located(signal=False), models))
    assert share_of_keys(null, tokenizer) < 0.3


# ---- gradalign


@EVERY_ARCHITECTURE
@pytest.mark.parametrize("unit", ["word", "token"])
def test_products_are_those_of_explicit_gradients(architecture: str, unit: Unit, tokenizer: Any) -> None:
    encoder = tiny(architecture, tokenizer).eval()
    weight = last_linear(encoder).weight
    gradient = torch.randn(weight.shape, generator=seeds.torch_rng(1))
    batch = batch_of(tokenizer, TEXTS[3:], types=architecture == "bert")
    units = Units.in_batch(batch, unit)
    found = alignments(encoder, gradient, batch, units, 4)
    assert not found[units.of < 0].any()
    for text in range(2):
        ids, of = batch.ids[text][batch.attention[text]], units.of[text][batch.attention[text]]
        for place in (of >= 0).nonzero().flatten().tolist():
            gaps = ids.masked_fill((of >= 0) & (of % 4 == of[place] % 4), tokenizer.mask_token_id)
            with encoder._whole(encoder.mlm):
                logits = encoder.mlm(input_ids=gaps[None]).logits[0, place]
                (own,) = torch.autograd.grad(F.cross_entropy(logits, ids[place]), weight)
            assert_close(found[text, place], (own * gradient).sum(), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("kind", ["classify", "tag", "span"])
@EVERY_ARCHITECTURE
def test_the_gradient_is_that_of_the_mean_loss(kind: str, architecture: str, tokenizer: Any) -> None:
    task, encoder = make(kind, 7), tiny(architecture, tokenizer)
    with seeds.torch_scope(0, "heads"):
        encoder.add_head(task)
    encoder.eval().backbone.requires_grad_(False)
    found = task_gradient(encoder, task)
    weight = last_linear(encoder).weight.requires_grad_()
    encoded = encode(encoder, task)
    batch = collate(encoded, np.arange(7), tokenizer.pad_token_id, types=encoder.wants_types)
    kinds = kind_of(task)
    loss = kinds.loss(encoder.answer(task.name, states(encoder, batch), batch), batch, None).sum()
    (expected,) = torch.autograd.grad(loss / kinds.weight(batch).sum(), weight)
    assert_close(found, expected, atol=1e-6, rtol=1e-3)


def test_a_step_on_a_gap_moves_the_loss_of_the_task_by_the_product(classifier: Encoder) -> None:
    """To first order, and in double precision, where that can be seen."""
    encoder, task = classifier.double().eval(), keyed(40, seed=9)
    try:
        _compare_steps(encoder, task)
    finally:
        encoder.float()


def _compare_steps(encoder: Encoder, task: Task) -> None:
    layer, encoded = last_linear(encoder), encode(encoder, task)
    batch = batch_of(encoder.tokenizer, TEXTS[:1], types=False)
    units = Units.in_batch(batch)

    def loss() -> float:
        rows = collate(encoded, np.arange(40), encoder.tokenizer.pad_token_id, types=False)
        with torch.no_grad():
            logits = encoder.answer(task.name, states(encoder, rows), rows)
        return F.cross_entropy(logits, rows.labels).item()  # type: ignore[arg-type]

    gradient = _double_gradient(encoder, task)
    products = alignments(encoder, gradient, batch, units, 99)
    before = loss()
    for place in (1, 4, 7):
        gaps = batch.ids.clone()
        gaps[0, place] = encoder.tokenizer.mask_token_id
        logits = encoder.fill(states(encoder, batch, gaps), torch.tensor([place]))
        (slope,) = torch.autograd.grad(F.cross_entropy(logits, batch.ids[0, place : place + 1]), layer.weight)
        with torch.no_grad():
            layer.weight -= 1e-4 * slope
            moved = (before - loss()) / 1e-4
            layer.weight += 1e-4 * slope
        assert moved == pytest.approx(products[0, place].item(), rel=0.05)


def _double_gradient(encoder: Encoder, task: Task) -> Tensor:
    encoded = encode(encoder, task)
    rows = collate(encoded, np.arange(40), encoder.tokenizer.pad_token_id, types=False)
    logits = encoder.answer(task.name, states(encoder, rows), rows)
    loss = F.cross_entropy(logits, rows.labels)  # type: ignore[arg-type]
    return torch.autograd.grad(loss, last_linear(encoder).weight)[0]


def test_credit_is_taken_on_rows_that_the_model_did_not_learn(tokenizer: Any) -> None:
    task, models = keyed(50), Trained(tokenizer, tune=replace(TUNE, updates=20))
    masker = GradAlign(held_out=0.3).fit(known_of(task, models))
    learned, held = halves(task, 0.3, 0)
    assert models.tasks[0].fingerprint == learned.fingerprint
    assert masker.about == {"learned": 35, "held_out": 15}
    texts = [one.texts("train") for one in (learned, held)]
    assert sorted(texts[0] + texts[1]) == sorted(task.texts("train"))
    aligned = masker.scorer
    assert isinstance(aligned, Aligned)
    assert_close(aligned.gradient, task_gradient(aligned.encoder, held))
    assert not torch.allclose(aligned.gradient, task_gradient(aligned.encoder, learned))


def test_no_gradient_no_credit_and_the_opposite_task_the_opposite_credit(tokenizer: Any) -> None:
    aligned = scorer_of("aligned", "distilbert", tokenizer)
    assert isinstance(aligned, Aligned)
    batch = batch_of(tokenizer, TEXTS, types=False)
    units = Units.in_batch(batch)
    scores = [replace(aligned, gradient=aligned.gradient * sign).ask(batch, units) for sign in (1, 0, -1)]
    assert not scores[1].any()
    assert_close(scores[0], -scores[2])


def test_one_row_cannot_be_shared_out() -> None:
    with pytest.raises(ConfigError, match="at least 2 training rows"):
        halves(keyed(1), 0.3, 0)
    assert [len(part.rows("train")) for part in halves(keyed(2), 0.9, 0)] == [1, 1]

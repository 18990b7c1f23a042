"""Our maskers in a plain DataLoader and in transformers' Trainer, with each family of tokenizers."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast, Trainer, TrainingArguments

from conftest import TOPICS, sentence
from trivium import seeds
from trivium.encoders import train_tokenizer
from trivium.errors import ConfigError, DataError
from trivium.masking import MASKERS, Batch, Fits, RandomTokens, WholeWord
from trivium.masking.collator import MaskingCollator
from trivium.masking.linguistic import Punctuation

RNG = seeds.numpy_rng(0, "tests")
TEXTS = [
    sentence(RNG, topic, int(RNG.integers(1, 20))).capitalize() + ", (e.g.) done."
    for topic in TOPICS
    for _ in range(20)
]
NAMES = {"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>", "cls_token": "<s>", "sep_token": "</s>"}
RULES = {kind: cls for kind, cls in MASKERS.items() if not issubclass(cls, Fits)}


def _wrapped(backend: Tokenizer) -> Any:
    ends = [(name, backend.token_to_id(name)) for name in ("</s>", "<s>")]
    backend.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=False, trim_offsets=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=["input_ids", "attention_mask"], **NAMES)


@lru_cache
def tokenizer_of(family: str) -> Any:
    """Tokenizers of so few entries that most words are several pieces."""
    if family == "wordpiece":
        return train_tokenizer([*TEXTS, *"().,"], 90)
    special = list(NAMES.values())
    if family == "bpe":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        backend = Tokenizer(models.Unigram())
        backend.normalizer = normalizers.NFKC()
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    return _wrapped(backend)


FAMILIES = ["wordpiece", "bpe", "unigram"]
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)


class Spy:
    """Hides nothing, and keeps what it was asked about."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def choose(self, batch: Batch, _rng: torch.Generator) -> torch.Tensor:
        self.batches.append(batch)
        return torch.zeros_like(batch.maskable)


def seen_by(tokenizer: Any, features: list[Any]) -> Batch:
    spy = Spy()
    MaskingCollator(tokenizer, spy, seed=0)(features)
    return spy.batches[0]


def numbered(words: list[int | None]) -> list[int]:
    """Words counted from 0 without gaps, over both texts of a pair."""
    count, last, found = -1, None, []
    for word in words:
        count += word is not None and word != last
        found.append(-1 if word is None else count)
        last = word
    return found


@EVERY_FAMILY
@given(st.lists(st.text("abc ABC.,!'-é3\n", max_size=25), min_size=1, max_size=3), st.booleans())
@settings(max_examples=100, deadline=None)
def test_words_are_found_again_as_the_tokenizer_had_them(family: str, texts: list[str], pairs: bool) -> None:
    tokenizer = tokenizer_of(family)
    encoded = [tokenizer(text, texts[0] if pairs else None) for text in texts]
    features = [{**one, "word_ids": one.word_ids()} for one in encoded]
    told = seen_by(tokenizer, features)
    for row, one in enumerate(encoded):
        assert told.words[row, : len(one["input_ids"])].tolist() == numbered(one.word_ids())
    assert torch.equal(seen_by(tokenizer, encoded).words, told.words)


@EVERY_FAMILY
def test_real_texts_need_no_word_ids(family: str) -> None:
    tokenizer = tokenizer_of(family)
    encoded = [tokenizer(text) for text in TEXTS]
    told = seen_by(tokenizer, [{**one, "word_ids": one.word_ids()} for one in encoded])
    assert (told.words[:, 1:] == told.words[:, :-1]).logical_and(told.maskable[:, 1:]).any(), "words of several pieces"
    assert torch.equal(seen_by(tokenizer, encoded).words, told.words)
    as_tensors = [{name: torch.tensor(value) for name, value in one.items()} for one in encoded]
    assert torch.equal(seen_by(tokenizer, as_tensors).words, told.words)


@EVERY_FAMILY
def test_where_tokens_cannot_be_tokenised_again_the_marks_of_pieces_count(family: str) -> None:
    """A window that begins inside a word: no text gives such tokens."""
    tokenizer = tokenizer_of(family)
    one = tokenizer("the harbour and the rudder", add_special_tokens=False)
    words = one.word_ids()
    cut = next(i for i in range(1, len(words)) if words[i] == words[i - 1])
    ids = one["input_ids"][cut:]
    found = seen_by(tokenizer, [{"input_ids": ids}]).words[0].tolist()
    assert found == [word - words[cut] for word in words[cut:]]
    again = tokenizer(tokenizer.decode(ids), add_special_tokens=False)["input_ids"]
    assert again != ids or family == "bpe", "byte-level BPE can"


@EVERY_FAMILY
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("given_words", [False, True])
def test_labels_are_what_was_hidden_and_special_tokens_and_padding_never_are(
    family: str, side: str, given_words: bool
) -> None:
    tokenizer = tokenizer_of(family)
    tokenizer.padding_side = side
    encoded = [tokenizer(text, return_special_tokens_mask=True) for text in ["", *TEXTS[::6]]]
    more = [{"word_ids": one.word_ids()} if given_words else {} for one in encoded]
    features = [{**one, **two, "text": "left out", "label": 1} for one, two in zip(encoded, more, strict=True)]
    batch = MaskingCollator(tokenizer, WholeWord(0.5), seed=0, pad_to_multiple_of=8)(features)
    tokenizer.padding_side = "right"
    expected = {"input_ids", "attention_mask", "labels"} | ({"token_type_ids"} if family == "wordpiece" else set())
    assert set(batch) == expected
    assert {value.dtype for value in batch.values()} == {torch.int64}
    assert batch["input_ids"].shape[1] % 8 == 0
    assert (batch["attention_mask"].sum(1)).tolist() == [len(one["input_ids"]) for one in encoded]
    for row, one in enumerate(encoded):
        there = batch["attention_mask"][row].bool()
        original, now, labels = torch.tensor(one["input_ids"]), batch["input_ids"][row], batch["labels"][row]
        asked = labels[there] != -100
        assert torch.equal(labels[there][asked], original[asked])
        assert torch.equal(now[there][~asked], original[~asked])
        assert (now[~there] == tokenizer.pad_token_id).all()
        assert (labels[~there] == -100).all()
        assert not asked[torch.tensor(one["special_tokens_mask"]).bool()].any()
        words = torch.tensor(numbered(one.word_ids()))
        assert set(words[asked].tolist()).isdisjoint(words[~asked].tolist())
        assert abs(len(words[asked].unique()) - (int(words.max()) + 1) / 2) < 1
    assert (batch["input_ids"] == tokenizer.mask_token_id).any()


def test_special_tokens_that_a_text_spells_out_are_not_hidden() -> None:
    tokenizer = tokenizer_of("wordpiece")
    feature = tokenizer("the [SEP] rook [MASK] (")
    for one in (feature, {**feature, "word_ids": feature.word_ids()}, {"input_ids": feature["input_ids"]}):
        batch = MaskingCollator(tokenizer, RandomTokens(0.99), seed=0)([one] * 30)
        hidden = batch["labels"][batch["labels"] != -100]
        assert not set(hidden.tolist()) & set(tokenizer.all_special_ids)
        assert len(hidden) > 100


def test_every_batch_is_another_and_a_seed_gives_the_same_ones() -> None:
    tokenizer = tokenizer_of("wordpiece")
    features = [tokenizer(text) for text in TEXTS[:8]]

    def three(seed: int) -> list[torch.Tensor]:
        collate = MaskingCollator(tokenizer, RandomTokens(0.3), seed=seed)
        return [collate(features)["labels"] for _ in range(3)]

    first, again, other = three(0), three(0), three(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a in first for b in (*other, *(c for c in first if c is not a)))


def test_chance_touches_no_global_generator_but_torchs_where_there_is_no_seed() -> None:
    tokenizer = tokenizer_of("wordpiece")
    features = [tokenizer(text) for text in TEXTS[:8]]
    before = torch.get_rng_state()
    MaskingCollator(tokenizer, RandomTokens(0.3), seed=0)(features)
    assert torch.equal(torch.get_rng_state(), before)
    drawn = []
    for seed in (0, 0, 1):
        with seeds.torch_scope(seed):
            drawn.append(MaskingCollator(tokenizer, RandomTokens(0.3))(features)["labels"])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("seed", [0, None])
def test_each_worker_has_chance_of_its_own_and_every_epoch_another(seed: int | None) -> None:
    tokenizer = tokenizer_of("wordpiece")
    features = [dict(tokenizer(TEXTS[0] * 3))] * 8

    def two_epochs(order: int) -> list[torch.Tensor]:
        loader = DataLoader(
            features,  # type: ignore[arg-type]
            batch_size=2,
            num_workers=2,
            collate_fn=MaskingCollator(tokenizer, RandomTokens(0.3), seed=seed),
            generator=seeds.torch_rng(order),
        )
        return [batch["labels"] for _ in range(2) for batch in loader]

    first, again, other = two_epochs(0), two_epochs(0), two_epochs(1)
    assert len(first) == 8
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for i, a in enumerate(first) for b in (*first[i + 1 :], *other))


def test_what_cannot_work_is_refused() -> None:
    tokenizer = tokenizer_of("wordpiece")
    with pytest.raises(ConfigError, match=r"expected a masker that can choose, found Punctuation.*fit\(known\)"):
        MaskingCollator(tokenizer, Punctuation())  # type: ignore[arg-type]
    backend = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    with pytest.raises(ConfigError, match="expected a fast tokenizer with a mask token and a padding token"):
        MaskingCollator(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"), RandomTokens())
    with pytest.raises(DataError, match="expected 'word_ids' for each of 3 'input_ids', found 1"):
        MaskingCollator(tokenizer, RandomTokens())([{"input_ids": [2, 9, 3], "word_ids": [0]}])


@pytest.mark.parametrize("kind", RULES)
@EVERY_FAMILY
def test_a_trainer_learns_to_fill_the_gaps(kind: str, family: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(family)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    with seeds.torch_scope(0):
        model = BertForMaskedLM(config)
    settings = TrainingArguments(
        str(tmp_path), max_steps=30, per_device_train_batch_size=8, learning_rate=1e-2, report_to=[], disable_tqdm=True,
        logging_steps=10, save_strategy="no", use_cpu=True,
    )  # fmt: skip
    collate = MaskingCollator(tokenizer, RULES[kind](0.3), seed=0)
    rows: Any = [dict(tokenizer(text)) for text in TEXTS]
    trainer = Trainer(model, settings, train_dataset=rows, data_collator=collate)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    assert collate.batches >= 30

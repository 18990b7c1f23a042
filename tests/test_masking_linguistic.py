"""Punctuation, names and parts of speech: what is planted comes first, as a whole, and only then anything else."""

import json
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import make_task
from trivium import seeds
from trivium.config import build
from trivium.encoders import collate, train_tokenizer
from trivium.errors import ConfigError
from trivium.kinds import Batch
from trivium.kinds.text import tokenize
from trivium.masking import Known
from trivium.masking.linguistic import (
    CONTENT,
    TAGS,
    Entity,
    PartOfSpeech,
    Punctuation,
    is_punctuation,
    load_pipeline,
    spellings,
)
from trivium.masking.units import Units
from trivium.masking.words import spelled

TEXTS = [
    "Ada Lovelace met the cat in New York City, and the cat slept.",
    "The cat of Ada Lovelace was old; the dog ran to New York City!",
    "old cat, old dog... and a dog ran",
    "ADA LOVELACE",
] * 3
NAMES = {"ada lovelace": "PERSON", "new york city": "GPE"}
POS = {"NOUN": ["cat", "dog"], "VERB": ["met", "slept", "ran"], "DET": ["the", "a"], "ADJ": ["old"]}
BOTH = pytest.mark.parametrize("unit", ["word", "token"])


def known_of(texts: list[str] = TEXTS, *, lower: bool = True) -> Known:
    """Texts and a tokenizer that knows every letter and few words: others are several pieces."""
    letters = string.ascii_letters
    small = train_tokenizer([letters, letters[::-1], *letters, *string.punctuation, *TEXTS], 180, lower=lower)
    return Known(make_task(6), texts, small, models=None)  # type: ignore[arg-type]  # no model is asked


def batch_of(known: Known, texts: list[str]) -> Batch:
    encoded = tokenize(known.tokenizer, texts, 128)
    return collate(encoded, np.arange(len(texts)), known.tokenizer.pad_token_id, types=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A spaCy pipeline that knows two names, if they are written with capitals, and some words."""
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("en")
    patterns = [{"label": label, "pattern": [{"TEXT": w.title()} for w in n.split()]} for n, label in NAMES.items()]
    nlp.add_pipe("entity_ruler").add_patterns(patterns)
    rules = nlp.add_pipe("attribute_ruler")
    for tag, words in POS.items():
        rules.add([[{"LOWER": word}] for word in words], {"POS": tag})
    place = tmp_path_factory.mktemp("spacy") / "rules"
    nlp.to_disk(place)
    return str(place)


def words_hidden(known: Known, batch: Batch, chosen: torch.Tensor, row: int = 0) -> list[str]:
    """The words that are hidden whole, as they stand."""
    words = batch.words[row]
    hidden = dict.fromkeys(words[chosen[row]].tolist())
    return [spelled(known.tokenizer, batch.ids[row][words == word].tolist()) for word in hidden]


def draws(masker: Any, batch: Batch, many: int = 30) -> list[torch.Tensor]:
    rng = seeds.torch_rng(0)
    return [masker.choose(batch, rng) for _ in range(many)]


@BOTH
def test_punctuation_comes_first_and_then_anything(unit: Any) -> None:
    known = known_of()
    masker = Punctuation(0.1, unit).fit(known)
    batch = batch_of(known, ["cat , dog . the met ; the cat ! met ... dog (old) cat"])
    signs = torch.tensor([[is_punctuation(spelled(known.tokenizer, [i])) for i in batch.ids[0].tolist()]])
    signs &= batch.maskable
    assert signs.sum() == 9
    for chosen in draws(masker, batch):
        assert chosen.any()
        assert not (chosen & ~signs).any()
    assert torch.stack(draws(masker, batch)).any(0).equal(signs), "all signs have their turn"
    for chosen in draws(Punctuation(0.9, unit).fit(known), batch):
        assert (chosen & signs).equal(signs)
        assert (chosen & ~signs).any()


def test_signs_of_several_pieces_are_found_in_the_texts() -> None:
    """A byte-level tokenizer keeps signs that stand together as one word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<unk>", "<pad>", "<mask>", *letters])}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", mask_token="<mask>"
    )
    known = Known(make_task(6), ["well?! yes", "so..."], tokenizer, models=None)  # type: ignore[arg-type]
    masker = Punctuation(0.4).fit(known)
    assert {"?!", "..."} <= set(masker.scorer.words)  # type: ignore[attr-defined]
    batch = batch_of(known, ["well?! yes"])
    units = Units.in_batch(batch)
    assert masker.scorer.scores(batch, units).tolist() == [[0.0, 1.0, 0.0]]
    assert not any("<" in word and ">" in word and len(word) > 2 for word in masker.scorer.words)  # type: ignore[attr-defined]


@BOTH
def test_names_come_first_and_whole(folder: str, unit: Any) -> None:
    """Three of eleven words are a name: with room for them, they are always all hidden; with room for two, two."""
    known = known_of()
    batch = batch_of(known, ["the cat met New York City and a dog ran home"])
    units = Units.in_batch(batch, unit)
    name = torch.isin(batch.words, torch.tensor([3, 4, 5]))
    many = int((units.total(name.long()) > 0).sum())
    for chosen in draws(Entity((many + 0.5) / int(units.count), unit, model=folder).fit(known), batch):
        assert (chosen & name).equal(name)
    for chosen in draws(Entity(1 / int(units.count) / 2, unit, model=folder).fit(known), batch):
        assert not (chosen & ~name).any()


def test_one_name_is_hidden_before_the_next_begins(folder: str) -> None:
    known = known_of()
    batch = batch_of(known, ["Ada Lovelace and New York City and Ada Lovelace met a cat"])
    masker = Entity(3 / 12, model=folder).fit(known)
    names = [{0, 1}, {3, 4, 5}, {7, 8}]
    seen = set()
    for chosen in draws(masker, batch):
        hidden = set(batch.words[chosen].tolist())
        assert len(hidden) == 3
        whole = [i for i, name in enumerate(names) if name <= hidden]
        assert len(whole) == 1
        assert hidden <= set().union(*names)
        seen.add(whole[0])
    assert seen == {0, 1, 2}, "in random order"


def test_with_a_temperature_a_name_still_stands_together(folder: str) -> None:
    known = known_of()
    batch = batch_of(known, ["Ada Lovelace and a cat met and a dog ran"])
    masker = Entity(0.2, temperature=1.0, model=folder).fit(known)
    hidden = [tuple(sorted({0, 1} & set(batch.words[chosen].tolist()))) for chosen in draws(masker, batch, 200)]
    assert set(hidden) == {(), (0,), (0, 1)}, "whole, or its beginning where the budget ends"


def test_case_that_was_folded_is_put_back(folder: str) -> None:
    """Names are known by their capitals; the shouted one is written as it is written most often."""
    known = known_of()
    assert known.tokenizer.tokenize("Cat") == ["cat"]
    usual = spellings(known.tokenizer, TEXTS)
    assert (usual["ada"], usual["york"]) == ("Ada", "York")
    assert "the" not in usual
    assert "cat" not in usual
    for lower in (True, False):
        known = known_of(lower=lower)
        batch = batch_of(known, ["cat dog Ada Lovelace dog", "CAT ADA LOVELACE"])
        masker = Entity(0.4, model=folder).fit(known)
        assert masker.about["folded"] == (0 if not lower else len(spellings(known.tokenizer, TEXTS)))
        scores = masker.scorer.scores(batch, Units.in_batch(batch))
        assert scores.tolist() == [[0, 0, 1, 1, 0], [0, 1, 1, 0, 0] if lower else [0] * 5]


def test_words_that_a_tokenizer_does_not_know_have_no_usual_spelling() -> None:
    known = known_of(["cat Dog"] * 3)
    assert spellings(known.tokenizer, ["Ωmega Ωmega", "Dog", "Žofia"]) == {"dog": "Dog", "zofia": "Žofia"}
    assert spellings(known.tokenizer, []) == {}


@BOTH
def test_content_words_come_first(folder: str, unit: Any) -> None:
    known = known_of()
    batch = batch_of(known, ["the cat met a dog and the old dog ran"])
    content = torch.isin(batch.words, torch.tensor([1, 2, 4, 7, 8, 9]))
    for chosen in draws(PartOfSpeech(0.3, unit, model=folder).fit(known), batch):
        assert chosen.any()
        assert not (chosen & ~content).any()
    for chosen in draws(PartOfSpeech(0.97, unit, model=folder).fit(known), batch):
        assert (chosen & content).equal(content)
    verbs = PartOfSpeech(0.1, unit, tags=("VERB",), model=folder).fit(known)
    assert {word for chosen in draws(verbs, batch) for word in words_hidden(known, batch, chosen)} == {"met", "ran"}


def test_weights_say_how_likely_a_tag_is(folder: str) -> None:
    """One word of two is hidden: a noun that weighs 3 in three of four texts, a verb that weighs 1 in the fourth."""
    known = known_of()
    masker = PartOfSpeech(0.5, tags={"NOUN": 3.0, "VERB": 1.0}, model=folder).fit(known)
    masker.choose(batch_of(known, ["cat ran"]), seeds.torch_rng(0))  # it remembers the text
    chosen = masker.choose(batch_of(known, ["cat ran"] * 4000), seeds.torch_rng(0))
    assert chosen[:, 1].float().mean().item() == pytest.approx(0.75, abs=0.02)
    strict = PartOfSpeech(0.5, temperature=0.0, tags={"NOUN": 3.0, "VERB": 1.0}, model=folder).fit(known)
    assert strict.choose(batch_of(known, ["ran cat"] * 50), seeds.torch_rng(0))[:, 2].all()


def test_tags_are_checked() -> None:
    assert set(CONTENT) < set(TAGS)
    assert len(set(TAGS)) == 17
    assert build(PartOfSpeech, {"tags": ["NOUN"]}, "masker").weights == {"NOUN": 1.0}
    assert build(PartOfSpeech, {"tags": {"NOUN": 2, "ADJ": 0.5}}, "masker").weights == {"NOUN": 2.0, "ADJ": 0.5}
    for wrong, message in (
        (("NN",), "found NN"),
        ((), "found none"),
        ({"NOUN": 0.0}, "weights above 0"),
        ({"NOUN": float("nan")}, "weights above 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            PartOfSpeech(tags=wrong)  # type: ignore[arg-type]


def test_a_pipeline_that_cannot_do_it_is_refused(folder: str, tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    spacy.blank("en").to_disk(tmp_path / "empty")
    for masker, what in ((Entity, "named entities"), (PartOfSpeech, "parts of speech")):
        with pytest.raises(ConfigError, match=f"finds {what}, found .* with no components"):
            masker(model=str(tmp_path / "empty")).fit(known_of())
    Entity(model=folder).fit(known_of(["no name stands here"] * 3))  # it looks for them, which is enough


@pytest.mark.parametrize("make", [lambda tmp: "en_no_such_model", lambda tmp: str(tmp)])
def test_a_missing_pipeline_says_how_to_get_one(make: Callable[[Path], str], tmp_path: Path) -> None:
    pytest.importorskip("spacy")
    with pytest.raises(ConfigError, match=r"python -m spacy download"):
        load_pipeline(make(tmp_path))


def test_missing_spacy_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ConfigError, match=r"pip install 'trivium\[spacy\]'"):
        Entity().fit(known_of())


def test_what_is_saved_names_the_pipeline_and_keeps_the_spellings(folder: str, tmp_path: Path) -> None:
    known = known_of()
    masker = Entity(0.3, model=folder).fit(known)
    masker.save_pretrained(tmp_path / "masker")
    saved = json.loads((tmp_path / "masker" / "masker.json").read_text())
    assert Path(saved["settings"]["model"]) == Path(folder)
    assert saved["about"]["pipeline"] == "en_pipeline"
    assert not list((tmp_path / "masker").glob("**/*.pkl"))
    again = type(masker).from_pretrained(tmp_path / "masker")
    batch = batch_of(known, TEXTS[:4])
    assert torch.equal(again.choose(batch, seeds.torch_rng(1)), masker.choose(batch, seeds.torch_rng(1)))
    assert again.scorer.reader.usual == masker.scorer.reader.usual  # type: ignore[attr-defined]
    assert again == masker


def test_a_text_is_read_once(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = known_of()
    masker = PartOfSpeech(0.3, model=folder).fit(known)
    reader = masker.scorer.reader  # type: ignore[attr-defined]
    read: list[int] = []
    pipe = reader.nlp.pipe

    def spy(docs: Any) -> Any:
        docs = list(docs)
        read.append(len(docs))
        return pipe(docs)

    monkeypatch.setattr(reader.nlp, "pipe", spy)
    batch = batch_of(known, TEXTS[:3])
    draws(masker, batch, 3)
    masker.choose(batch_of(known, ["a cat", *TEXTS[:3]]), seeds.torch_rng(0))
    assert read == [3, 1]

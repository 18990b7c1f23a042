"""Maskers that know language: punctuation, the names of things, and parts of speech.

The last two ask a spaCy pipeline (``pip install 'trivium[spacy]'``), which is given the words that the tokenizer sees.
"""

import json
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import inf, log
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from trivium.core import JSON
from trivium.errors import ConfigError
from trivium.kinds import Batch
from trivium.masking.memory import Memory
from trivium.masking.protocol import Known
from trivium.masking.scored import Draw, ScoredMasker
from trivium.masking.units import Units
from trivium.masking.words import Occurrences, WordTable, keys_of, spelled
from trivium.pretrained import reason, safely

CONTENT = ("NOUN", "PROPN", "VERB", "ADJ", "ADV", "NUM")
TAGS = (*CONTENT, "ADP", "AUX", "CCONJ", "DET", "INTJ", "PART", "PRON", "PUNCT", "SCONJ", "SYM", "X")
_NEVER = -100.0  # log-weight of a tag that is not wanted: last of all, but finite, so that chance still has a say
_WORD = re.compile(r"[^\W_]+")
_PROBE = 100  # texts that show whether a pipeline does what is wanted of it


@dataclass(frozen=True)
class Punctuation(Draw):
    """Hide punctuation first, in random order, then everything else: a control that teaches little.

    A unit is punctuation if every character is (ASCII signs, and what Unicode calls punctuation). Where a tokenizer
    leaves marks on the word before them, as SentencePiece does, only ``unit: token`` finds them.

    Source: the baseline ``punctuation`` of Neural Mask Generator (Kang et al. 2020).
    """

    temperature: float = 0.0

    def fit(self, known: Known) -> ScoredMasker:
        """Find the punctuation of the vocabulary and of the texts."""
        vocabulary = set(known.tokenizer.get_vocab().values()) - set(known.tokenizer.all_special_ids)
        pieces = np.array(sorted(vocabulary), np.int64)
        found = dict(zip(keys_of(pieces, np.arange(len(pieces))).tolist(), pieces[:, None], strict=True))
        units = Occurrences.of(known.encoded, self.unit)
        for key, first in zip(*(them.tolist() for them in np.unique(units.keys, return_index=True)), strict=True):
            found.setdefault(key, known.encoded.ids[units.begins[first] : units.ends[first]])
        written = {key: spelled(known.tokenizer, ids) for key, ids in found.items()}
        marks = {key: text for key, text in written.items() if is_punctuation(text)}
        return self.by(WordTable.of(dict.fromkeys(marks, 1.0), marks, default=0.0), {"marks": len(marks)})


@dataclass(frozen=True)
class Entity(Draw):
    """Hide named entities first, one after the other in random order, then other units at random.

    An entity is hidden as a whole, but for the last, of which the budget may leave the end. What counts as one, dates
    and numbers included, is for the spaCy pipeline to say. Case that the tokenizer folds is put back for it: each word
    is written as the texts most often write it.

    Attributes:
        model: The spaCy pipeline: a package such as ``en_core_web_sm``, or a folder.

    Source: REALM (Guu et al. 2020, section 3.4, salient span masking), also used for T5 by Roberts et al. 2020; the
    baseline ``entity`` of Neural Mask Generator (Kang et al. 2020).
    """

    temperature: float = 0.0
    model: str = "en_core_web_sm"

    def fit(self, known: Known) -> ScoredMasker:
        """Load the pipeline, and learn how words are written.

        Raises:
            ConfigError: spaCy or the pipeline is missing, or it finds no named entities.
        """
        reader = Reader.of(self.model, known, "ENT_IOB", "named entities")
        return self.by(Entities(reader), reader.about)


@dataclass(frozen=True)
class PartOfSpeech(Draw):
    """Hide words of some parts of speech first: content words, unless others are named.

    Attributes:
        tags: Universal tags whose words come first, in random order. Or weights by tag: words are then drawn in
            proportion to the weight of their tag. Words of other tags come last.
        model: The spaCy pipeline: a package such as ``en_core_web_sm``, or a folder.

    Source: the tags are those of Universal Dependencies (de Marneffe et al. 2021).
    """

    tags: tuple[str, ...] | Mapping[str, float] = CONTENT
    model: str = "en_core_web_sm"

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = sorted(set(self.tags) - set(TAGS))
        if unknown or not self.tags:
            raise ConfigError(
                f"masker.tags: expected some of the universal tags ({', '.join(TAGS)}), found "
                f"{', '.join(unknown) or 'none'}."
            )
        if not all(0 < weight < inf for weight in self.weights.values()):
            raise ConfigError(f"masker.tags: expected weights above 0, found {dict(self.weights)}.")

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of each tag that is named."""
        return self.tags if isinstance(self.tags, Mapping) else dict.fromkeys(self.tags, 1.0)

    def fit(self, known: Known) -> ScoredMasker:
        """Load the pipeline, and learn how words are written.

        Raises:
            ConfigError: spaCy or the pipeline is missing, or it finds no parts of speech.
        """
        reader = Reader.of(self.model, known, "POS", "parts of speech")
        return self.by(Tags(reader, self.weights), reader.about)


def is_punctuation(text: str) -> bool:
    """Whether a text is signs and nothing else, by BERT's definition of a sign.

    >>> [is_punctuation(text) for text in ("...", "$", "»", "a.", "")]
    [True, True, True, False, False]
    """
    signs = (letter in string.punctuation or unicodedata.category(letter).startswith("P") for letter in text)
    return bool(text) and all(signs)


def spellings(tokenizer: Any, texts: Sequence[str]) -> dict[str, str]:
    """How words that a tokenizer folds are most often written: truecasing by the most frequent form.

    Args:
        tokenizer: A fast transformers tokenizer.
        texts: Where the words are looked for.

    Returns:
        The usual writing of a word by what the tokenizer leaves of it, where they differ.

    Source: the baseline of Lita et al. 2003, tRuEcasIng.

    >>> from trivium.encoders import train_tokenizer
    >>> texts = ["Ada met the queen", "then Ada met Bob", "The queen met ada"]
    >>> spellings(train_tokenizer(texts, 512), texts)
    {'ada': 'Ada', 'bob': 'Bob'}
    """
    forms = [form for form, _ in Counter(form for text in texts for form in _WORD.findall(text)).most_common()]
    usual: dict[str, str] = {}
    for form, ids in zip(forms, tokenizer(forms, add_special_tokens=False)["input_ids"] if forms else [], strict=True):
        if tokenizer.unk_token_id not in ids:
            usual.setdefault(spelled(tokenizer, ids), form)
    return {left: form for left, form in usual.items() if left != form}


def load_pipeline(model: str) -> Any:
    """A spaCy pipeline.

    Raises:
        ConfigError: spaCy or the pipeline is missing.
    """
    try:
        import spacy
    except ImportError as error:
        raise ConfigError(
            f"masker.model: expected spaCy, which reads '{model}', found that it is not installed. Install it: "
            "pip install 'trivium[spacy]'."
        ) from error
    try:
        return spacy.load(model)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"masker.model: expected a spaCy pipeline called '{model}', or a folder that holds one, found: "
            f"{reason(error)} Install it: python -m spacy download {model}. Or name another."
        ) from error


@dataclass(frozen=True)
class Reader:
    """A spaCy pipeline that reads the words of batches as people write them.

    Attributes:
        model: The package or folder that it was loaded from.
        nlp: The pipeline.
        tokenizer: How texts were cut into tokens.
        usual: How words that the tokenizer folds are written.
    """

    model: str
    nlp: Any = field(compare=False)
    tokenizer: Any = field(compare=False)
    usual: Mapping[str, str]

    @classmethod
    def of(cls, model: str, known: Known, attribute: str, what: str) -> Self:
        """A reader of the texts that are known, with a pipeline that sets an attribute of their words.

        Raises:
            ConfigError: spaCy or the pipeline is missing, or it never sets the attribute.
        """
        nlp = load_pipeline(model)
        probe = [text[:1000] for text in known.texts[:_PROBE] if text.strip()]
        if probe and not any(doc.has_annotation(attribute) for doc in nlp.pipe(probe)):
            raise ConfigError(
                f"masker.model: expected a spaCy pipeline that finds {what}, found '{model}' with "
                f"{', '.join(nlp.pipe_names) or 'no components'}, which found none in {len(probe)} texts. "
                "en_core_web_sm finds them."
            )
        place = Path(model)
        return cls(
            str(place.resolve()) if place.is_dir() else model,
            nlp,
            known.tokenizer,
            spellings(known.tokenizer, known.texts),
        )

    @property
    def about(self) -> JSON:
        """Which pipeline this is."""
        meta = self.nlp.meta
        return {"pipeline": f"{meta['lang']}_{meta['name']}", "version": meta["version"], "folded": len(self.usual)}

    def memory(self, number: Callable[[Any], Sequence[int]]) -> Memory:
        """What a function says of the words of a spaCy ``Doc``; each text is read once."""
        return Memory(partial(self._numbers, number))

    def _numbers(self, number: Callable[[Any], Sequence[int]], batch: Batch, units: Units) -> Tensor:
        words = Units.in_batch(batch)
        numbers = torch.zeros(words.there.shape)
        for row, doc in enumerate(self.nlp.pipe(self._docs(batch, words))):
            numbers[row, : len(doc)] = torch.tensor(number(doc), dtype=torch.float32)
        return units.mean(words.spread(numbers))  # exact: pieces of a word are alike, and the numbers whole

    def _docs(self, batch: Batch, words: Units) -> Iterator[Any]:
        from spacy.tokens import Doc

        for ids, of in zip(batch.ids.numpy(), words.of.numpy(), strict=True):
            inside = of >= 0
            pieces = np.split(ids[inside], np.flatnonzero(np.diff(of[inside])) + 1) if inside.any() else []
            seen = [spelled(self.tokenizer, each) or "_" for each in pieces]  # spaCy refuses a word of no letters
            yield Doc(self.nlp.vocab, words=[self.usual.get(word, word) for word in seen])

    def save(self, folder: Path) -> JSON:
        """Write the tokenizer and ``spellings.json``; the pipeline is named, not copied."""
        self.tokenizer.save_pretrained(folder)
        (folder / "spellings.json").write_text(json.dumps(self.usual, ensure_ascii=False, indent=0), encoding="utf-8")
        return {"model": self.model}

    @classmethod
    def load(cls, folder: Path, about: JSON) -> Self:
        """Read what ``save`` wrote, and load the pipeline that it names."""
        from transformers import AutoTokenizer

        usual = json.loads((folder / "spellings.json").read_text(encoding="utf-8"))
        tokenizer = AutoTokenizer.from_pretrained(str(folder), **safely(str(folder)))  # nosec B615  # a folder
        return cls(about["model"], load_pipeline(about["model"]), tokenizer, usual)


@dataclass(frozen=True)
class Entities:
    """Scores 1 for what a reader finds to be a named entity, 0 for the rest; the words of one stand together."""

    reader: Reader

    @cached_property
    def _memory(self) -> Memory:
        return self.reader.memory(_entity_numbers)

    def scores(self, batch: Batch, units: Units) -> Tensor:
        """Float32 ``[texts, width]``."""
        return (self._memory.scores(batch, units) > 0).float()

    def groups(self, batch: Batch, units: Units) -> Tensor:
        """The first unit of the entity that a unit is part of, or the unit itself, int64 ``[texts, width]``."""
        entity = self._memory.scores(batch, units)
        goes_on = torch.zeros_like(entity, dtype=torch.bool)
        goes_on[:, 1:] = (entity[:, 1:] == entity[:, :-1]) & (entity[:, 1:] > 0)
        return torch.arange(units.width).expand(entity.shape).masked_fill(goes_on, 0).cummax(1).values

    def save(self, folder: Path) -> JSON:
        """Write what the reader needs."""
        return self.reader.save(folder)

    @classmethod
    def load(cls, folder: Path, about: JSON) -> Self:
        """Read what ``save`` wrote."""
        return cls(Reader.load(folder, about))


@dataclass(frozen=True)
class Tags:
    """Scores words by the weights of their parts of speech, as a reader finds them."""

    reader: Reader
    weights: Mapping[str, float]

    @cached_property
    def _memory(self) -> Memory:
        return self.reader.memory(_tag_numbers)

    def scores(self, batch: Batch, units: Units) -> Tensor:
        """Logarithms of weights, float32 ``[texts, width]``."""
        logs = [log(self.weights[tag]) if tag in self.weights else _NEVER for tag in TAGS]
        return torch.tensor([_NEVER, *logs])[self._memory.scores(batch, units).long()]

    def save(self, folder: Path) -> JSON:
        """Write what the reader needs."""
        return {"reader": self.reader.save(folder), "weights": dict(self.weights)}

    @classmethod
    def load(cls, folder: Path, about: JSON) -> Self:
        """Read what ``save`` wrote."""
        return cls(Reader.load(folder, about["reader"]), about["weights"])


def _entity_numbers(doc: Any) -> list[int]:
    """The entity of each word, from 1; 0 where there is none."""
    numbers = [0] * len(doc)
    for number, entity in enumerate(doc.ents, 1):
        numbers[entity.start : entity.end] = [number] * len(entity)
    return numbers


def _tag_numbers(doc: Any) -> list[int]:
    """The place of each word's tag in ``TAGS``, from 1; 0 where it has none."""
    return [TAGS.index(token.pos_) + 1 if token.pos_ in TAGS else 0 for token in doc]

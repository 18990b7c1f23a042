"""What a policy looks at: a few features of words, or the states of an encoder that stays as it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from trivium.core import JSON, Task
from trivium.encoders import Encoder, load_tokenizer
from trivium.kinds import Batch
from trivium.masking.protocol import Known
from trivium.masking.units import Unit, Units
from trivium.masking.words import Keys, Occurrences, keys_in, spelled

Table = npt.NDArray[np.float32]

_SUFFIXES = ("s", "ed", "ing", "ly", "er", "al", "ive", "ous", "ic", "able", "ion", "ment", "ness", "ity", "ine", "ase")
_OF_WORDS = (
    "frequency", "rarity", "once", "seldom", "frequent", "pieces", "letters", "punctuation", "digits", "capital",
    "capitals", "stop word", "hyphen", "says the label", *(f"-{suffix}" for suffix in _SUFFIXES),
)  # fmt: skip
_LEAST = 0.25  # of a standard deviation: that of what one word in fifteen has
_OF_PLACES = ("place", "first", "last", "times in the text")


@dataclass(frozen=True)
class WordFeatures:
    """Some thirty features of words that people know: how frequent a word is, how it is written, where it stands.

    Each has mean 0 over the texts that it was made from, and standard deviation 1, so that weights can be compared; a
    smaller one where hardly a word has it, or chance in a few rewards would decide about those words.

    ==================  ==============================================================================================
    frequency           log of how often the texts have the word
    rarity              log of how few texts have it (inverse document frequency)
    once, seldom        whether it occurs once; up to five times
    frequent            whether it is among the hundred most frequent
    pieces, letters     log of how many tokens it is cut into; of how many letters it has
    punctuation, digits whether it is all signs; whether it has a digit
    capital, capitals   whether it begins with a capital letter; whether it has only such (0 of an uncased tokenizer)
    stop word, hyphen   whether it is in scikit-learn's list of English stop words; whether it has a hyphen
    says the label      how far its presence changes the odds of a label: largest absolute smoothed log-odds, of single
                        labels; 0 for other kinds of tasks
    -s, -ed, -ing, …    whether a word of more than four letters ends so
    place               where in the text it stands, from 0 to 1
    first, last         whether nothing stands before it; behind it
    times in the text   log of how often the text has it
    ==================  ==============================================================================================

    Attributes:
        tokenizer: Spells words that the texts did not have.
        keys: The words of the texts, uint64 ``[words]``, in increasing order.
        table: Their features, not standardised, float32 ``[words, features of words]``.
        mean: Of each feature over the texts.
        spread: What it is divided by: the standard deviation likewise, at least a quarter.
    """

    tokenizer: Any
    keys: Keys
    table: Table
    mean: Table
    spread: Table
    _strangers: dict[int, Table] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of_texts(cls, known: Known, unit: Unit = "word") -> Self:
        """Features of the words of the texts that will be hidden in."""
        found = Occurrences.of(known.encoded, unit)
        keys, first, word, counts = np.unique(found.keys, return_index=True, return_inverse=True, return_counts=True)
        pairs = np.unique(np.stack([found.texts, word]), axis=1)
        texts = np.bincount(pairs[1], minlength=len(keys))
        ids = [known.encoded.ids[found.begins[i] : found.ends[i]] for i in first]
        says = _says(known)
        frequent = set(np.argsort(-counts, kind="stable")[:100].tolist())
        rows = [
            _of_word(spelled(known.tokenizer, pieces), len(pieces), int(counts[i]), _rarity(texts[i], len(known.texts)),
                     i in frequent, says)
            for i, pieces in enumerate(ids)
        ]  # fmt: skip
        table = np.array(rows, np.float32).reshape(len(keys), len(_OF_WORDS))
        all_of_them = np.concatenate([table[word], _places(found)], 1)
        spread = all_of_them.std(0)
        return cls(known.tokenizer, keys, table, all_of_them.mean(0), np.maximum(spread, _LEAST))

    @property
    def names(self) -> Sequence[str]:
        """What the features are called."""
        return (*_OF_WORDS, *_OF_PLACES)

    def of(self, batch: Batch, units: Units) -> Tensor:
        """Features of each unit, float32 ``[texts, width, features]``."""
        keys = keys_in(batch, units)
        place = np.minimum(np.searchsorted(self.keys, keys), max(0, len(self.keys) - 1))
        known = self.keys[place] == keys if len(self.keys) else np.zeros(keys.shape, bool)
        words = self.table[place] if len(self.keys) else np.zeros((*keys.shape, len(_OF_WORDS)), np.float32)
        there = units.there.numpy()
        for text, unit in zip(*np.nonzero(there & ~known), strict=True):
            words[text, unit] = self._stranger(batch, units, int(text), int(unit), int(keys[text, unit]))
        text, unit = np.nonzero(there)
        found = Occurrences(keys[there], text, unit, unit)
        laid = np.zeros((*keys.shape, len(_OF_PLACES)), np.float32)
        laid[there] = _places(found)
        both = (np.concatenate([words, laid], 2) - self.mean) / self.spread
        return torch.from_numpy(both.astype(np.float32))

    def _stranger(self, batch: Batch, units: Units, text: int, unit: int, key: int) -> Table:
        """Features of a word that the texts did not have."""
        if key not in self._strangers:
            pieces = batch.ids[text][units.of[text] == unit].tolist()
            rarest = float(self.table[:, 1].max(initial=0.0))
            row = _of_word(spelled(self.tokenizer, pieces), len(pieces), 0, rarest, False, {})
            self._strangers[key] = np.array(row, np.float32)
        return self._strangers[key]

    def save(self, folder: Path) -> JSON:
        """Write ``words.safetensors`` and the tokenizer."""
        kept = {"keys": self.keys.view(np.int64), "table": self.table, "mean": self.mean, "spread": self.spread}
        save_file({name: np.ascontiguousarray(value) for name, value in kept.items()}, folder / "words.safetensors")
        self.tokenizer.save_pretrained(folder / "tokenizer")
        return {}

    @classmethod
    def load(cls, folder: Path, about: JSON) -> Self:
        """Read what ``save`` wrote."""
        kept = load_file(folder / "words.safetensors")
        keys = kept.pop("keys").view(np.uint64)
        return cls(load_tokenizer(str(folder / "tokenizer")), keys, kept["table"], kept["mean"], kept["spread"])


def _of_word(word: str, pieces: int, count: int, rarity: float, frequent: bool, says: dict[str, float]) -> list[float]:
    """What is known of a word wherever it stands, in the order of the names."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    lower, letters = word.lower(), any(letter.isalpha() for letter in word)
    return [
        math.log1p(count), rarity, count == 1, 1 < count <= 5, frequent, math.log(max(1, pieces)),
        math.log1p(len(word)), not any(letter.isalnum() for letter in word), any(letter.isdigit() for letter in word),
        word[:1].isupper(), letters and word.isupper(), lower in ENGLISH_STOP_WORDS, "-" in word,
        says.get(lower, 0.0), *(len(lower) > 4 and lower.endswith(suffix) for suffix in _SUFFIXES),
    ]  # fmt: skip


def _rarity(texts: int, of: int) -> float:
    return math.log(max(1, of) / max(1, int(texts)))


def _places(found: Occurrences) -> Table:
    """What is known of units by where they stand, float32 ``[units, 4]``."""
    if len(found.keys) == 0:
        return np.zeros((0, len(_OF_PLACES)), np.float32)
    begins = np.flatnonzero(np.diff(found.texts, prepend=-1))
    lengths = np.diff(begins, append=len(found.texts))
    place = np.arange(len(found.texts)) - np.repeat(begins, lengths)
    length = np.repeat(lengths, lengths)
    both = np.stack([found.texts.astype(np.uint64), found.keys], 1)
    _, which, times = np.unique(both, axis=0, return_inverse=True, return_counts=True)
    columns = [place / np.maximum(length - 1, 1), place == 0, place == length - 1, np.log(times[which.reshape(-1)])]
    return np.stack(columns, 1).astype(np.float32)


def _says(known: Known) -> dict[str, float]:
    """How far each word's presence changes the odds of a label; empty unless rows have a single label."""
    task: Task = known.task
    if task.kind != "classify":
        return {}
    labels = task.rows("train")["label"].to_numpy()
    rows = [set(_words(text)) for text in task.texts("train")]
    total = np.bincount(labels, minlength=len(task.labels)).astype(np.float64)
    having: dict[str, npt.NDArray[np.float64]] = {}
    for words, label in zip(rows, labels, strict=True):
        for word in words:
            having.setdefault(word, np.zeros(len(total)))[label] += 1
    all_rows = total.sum()
    return {word: float(np.abs(_log_odds(n, total, all_rows)).max()) for word, n in having.items() if n.sum() > 1}


def _log_odds(having: npt.NDArray[np.float64], total: npt.NDArray[np.float64], rows: float) -> npt.NDArray[np.float64]:
    """Of a word in rows with each label and in the others, with half a row added to each count."""
    others = having.sum() - having
    inside = np.log((having + 0.5) / (total - having + 0.5))
    outside = np.log((others + 0.5) / (rows - total - others + 0.5))
    result: npt.NDArray[np.float64] = inside - outside
    return result


def _words(text: str) -> list[str]:
    import re

    return re.findall(r"\w+", text.lower())


@dataclass(frozen=True)
class StateFeatures:
    """The last hidden states of an encoder that stays as it is, averaged over the pieces of each unit (NMG's state).

    Attributes:
        encoder: Read in evaluation mode, on the texts as they are.
    """

    encoder: Encoder

    @cached_property
    def names(self) -> Sequence[str]:
        """What the features are called."""
        return tuple(f"state {i}" for i in range(self.encoder.backbone.config.hidden_size))

    def of(self, batch: Batch, units: Units) -> Tensor:
        """States of each unit, float32 ``[texts, width, hidden size]``, on the CPU."""
        training = self.encoder.training
        self.encoder.eval()
        with torch.no_grad():
            states = self.encoder.hidden(batch.to(self.encoder.device)).float().cpu()
        self.encoder.train(training)
        return units.mean(states)

    def save(self, folder: Path) -> JSON:
        """Write the encoder as plain transformers folders."""
        self.encoder.save(folder)
        return {}

    @classmethod
    def load(cls, folder: Path, about: JSON) -> Self:
        """Read what ``save`` wrote."""
        return cls(Encoder.load(folder).eval())

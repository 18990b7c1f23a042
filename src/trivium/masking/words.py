"""Words as numbers: what is known of a word is looked up by a key that its pieces give it, with any tokenizer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from trivium.core import JSON
from trivium.kinds import Batch, Encoded
from trivium.masking.units import Unit, Units

Keys = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

_LONGEST = 256  # pieces of a word that tell it from others
_POWERS = np.cumprod(np.full(_LONGEST, 0x9E3779B97F4A7C15, np.uint64))


def keys_of(ids: npt.NDArray[Any], begins: Ints) -> Keys:
    """A number for each word that its pieces, and nothing else, decide.

    Args:
        ids: Token ids, ``[tokens]``, the words one after the other.
        begins: Where each word begins, ``[words]``, the first at 0.

    Returns:
        uint64 ``[words]``. Different words have different numbers, but for one chance in 10¹⁹ for each two.

    >>> keys = keys_of(np.array([5, 6, 5, 6, 6, 5]), np.array([0, 2, 4]))
    >>> bool(keys[0] == keys[1]), bool(keys[0] == keys[2])
    (True, False)
    """
    if len(begins) == 0:
        return np.zeros(0, np.uint64)
    lengths = np.diff(begins, append=len(ids))
    place = np.minimum(np.arange(len(ids)) - np.repeat(begins, lengths), _LONGEST - 1)
    mixed = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(31)
    return np.add.reduceat(mixed * _POWERS[place], begins)


@dataclass(frozen=True)
class Occurrences:
    """Every unit of some texts, in order.

    Attributes:
        keys: Which word it is, uint64 ``[units]``.
        texts: Which text it is in, int64 ``[units]``.
        begins: Its first token, an index into the tokens of the texts, int64 ``[units]``.
        ends: The token after its last, likewise.
    """

    keys: Keys
    texts: Ints
    begins: Ints
    ends: Ints

    @classmethod
    def of(cls, encoded: Encoded, unit: Unit = "word") -> Self:
        """The units of tokenised texts."""
        text = np.repeat(np.arange(len(encoded.offsets) - 1), np.diff(encoded.offsets))
        inside = np.flatnonzero(encoded.words >= 0)
        words, texts = encoded.words[inside], text[inside]
        new = np.ones(len(inside), bool)
        if unit == "word":
            new[1:] = (words[1:] != words[:-1]) | (texts[1:] != texts[:-1])
        begins = np.flatnonzero(new)
        ends = np.append(begins[1:], len(inside))[: len(begins)].astype(np.int64)
        keys = keys_of(encoded.ids[inside], begins)
        last = inside[ends - 1] + 1 if len(ends) else ends
        return cls(keys, texts[begins], inside[begins].astype(np.int64), last.astype(np.int64))


def keys_in(batch: Batch, units: Units) -> Keys:
    """The key of each unit of a batch, uint64 ``[texts, width]``; 0 where there is none."""
    inside = (units.of >= 0).flatten()
    place = (units.of + units.width * torch.arange(len(units.of))[:, None]).flatten()[inside].numpy()
    new = np.ones(len(place), bool)
    new[1:] = place[1:] != place[:-1]
    begins = np.flatnonzero(new)
    keys = np.zeros(len(units.of) * units.width, np.uint64)
    keys[place[begins]] = keys_of(batch.ids.flatten()[inside].numpy(), begins)
    return keys.reshape(len(units.of), units.width)


def spelled(tokenizer: Any, ids: Sequence[int] | npt.NDArray[Any]) -> str:
    """A word as people write it, from its pieces."""
    text: str = tokenizer.backend_tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)
    return text.strip()


@dataclass(frozen=True)
class WordTable:
    """A score for each word; a scorer that looks words up.

    Attributes:
        keys: The words, uint64 ``[words]``, in increasing order.
        scores: What each is worth, float32 ``[words]``.
        words: How each is written, for people.
        default: What other words are worth.
    """

    keys: Keys
    values: npt.NDArray[np.float32]
    words: tuple[str, ...]
    default: float

    @classmethod
    def of(cls, scores: Mapping[int, float], words: Mapping[int, str], default: float) -> Self:
        """A table of scores by key, with how the words are written."""
        keys = np.array(sorted(scores), np.uint64)
        values = np.array([scores[int(key)] for key in keys], np.float32)
        return cls(keys, values, tuple(words[int(key)] for key in keys), default)

    def scores(self, batch: Batch, units: Units) -> Tensor:
        """What each unit is worth, float32 ``[texts, width]``."""
        return torch.from_numpy(self.look_up(keys_in(batch, units)))

    def look_up(self, keys: Keys) -> npt.NDArray[np.float32]:
        """What the words with these keys are worth, float32 of the same shape."""
        if len(self.keys) == 0:
            return np.full(keys.shape, self.default, np.float32)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[place] == keys, self.values[place], np.float32(self.default)).astype(np.float32)

    def top(self, many: int) -> list[tuple[str, float]]:
        """The words that are worth most, and how much."""
        best = np.argsort(-self.values, kind="stable")[:many]
        return [(self.words[i], float(self.values[i])) for i in best]

    def save(self, folder: Path) -> JSON:
        """Write ``words.safetensors`` and ``words.json``."""
        save_file({"keys": self.keys.view(np.int64), "scores": self.values}, folder / "words.safetensors")
        (folder / "words.json").write_text(json.dumps(self.words, ensure_ascii=False, indent=0), encoding="utf-8")
        return {"default": self.default}

    @classmethod
    def load(cls, folder: Path, about: JSON) -> Self:
        """Read what ``save`` wrote."""
        kept = load_file(folder / "words.safetensors")
        words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
        return cls(kept["keys"].view(np.uint64), kept["scores"], tuple(words), about["default"])

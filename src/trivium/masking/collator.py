"""Our maskers in anybody's training loop: a data collator for ``transformers.Trainer`` or a plain ``DataLoader``."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from trivium import seeds
from trivium.core import Ints
from trivium.errors import ConfigError, DataError
from trivium.kinds import Batch
from trivium.masking.gaps import corrupt
from trivium.masking.protocol import Masker

_PADDED = ("input_ids", "attention_mask", "token_type_ids", "special_tokens_mask")
_INSIDE, _BEGINS = "##", ("Ġ", "▁")  # marks of pieces inside words (WordPiece), of pieces that begin one (BPE, Unigram)


class MaskingCollator:
    """Pads features, hides what a masker chooses, and labels it: in place of ``DataCollatorForLanguageModeling``.

    Features are what a tokenizer returns: ``input_ids``, and if they are there ``attention_mask``, ``token_type_ids``,
    ``special_tokens_mask`` and ``word_ids``; anything else is left out. Where ``word_ids`` are missing (a ``Trainer``
    drops them unless ``remove_unused_columns=False``), words are recovered from the tokens: decoded and tokenised again
    or, where that gives other tokens, by the marks of the pieces (``##``, ``Ġ``, ``▁``).

    The masker must be ready: a rule, one that was fitted, or one that was loaded.

    Every batch is hidden in differently. With a seed, the n-th batch that a process collates is a function of the seed,
    n and the features. In workers of a ``DataLoader`` also of the seed that the loader gives each of them, afresh every
    epoch: it comes from the loader's generator, as the order does, and differs between workers. Without a seed chance
    comes from torch's global generator, as in the collators of transformers. A batch of so few words that none is
    hidden has no labels, and no mean loss.

    Args:
        tokenizer: A fast transformers tokenizer with a mask token and a padding token.
        masker: Where to hide.
        seed: Of all chance.
        pad_to_multiple_of: Pad to a multiple of so many tokens; 8 suits GPUs.

    Raises:
        ConfigError: the tokenizer is not of that kind, or the masker has to be fitted first.

    >>> from trivium.encoders import train_tokenizer
    >>> from trivium.masking import WholeWord
    >>> tokenizer = train_tokenizer(["one two three four", "one two three four"], 512)
    >>> collate = MaskingCollator(tokenizer, WholeWord(0.5), seed=0)
    >>> collate([tokenizer("one two three four"), tokenizer("one two")])["labels"].ge(0).sum(1).tolist()
    [2, 1]
    """

    def __init__(
        self, tokenizer: Any, masker: Masker, seed: int | None = None, pad_to_multiple_of: int | None = None
    ) -> None:
        if not tokenizer.is_fast or tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
            raise ConfigError(
                f"MaskingCollator: expected a fast tokenizer with a mask token and a padding token, found "
                f"{type(tokenizer).__name__} with mask token {tokenizer.mask_token} and padding token "
                f"{tokenizer.pad_token}. Tokenizers of BERT, RoBERTa, DeBERTa and ModernBERT have them."
            )
        if not callable(getattr(masker, "choose", None)):
            raise ConfigError(
                f"MaskingCollator: expected a masker that can choose, found {masker!r}. If it learns from texts first, "
                "give what its fit(known) returns."
            )
        self.tokenizer, self.masker, self.seed, self.pad_to_multiple_of = tokenizer, masker, seed, pad_to_multiple_of
        self.batches = 0
        self._special = torch.tensor(sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}))
        self._mark = _mark(tokenizer.get_vocab())

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Make a batch.

        Args:
            features: What the tokenizer returned for each text.

        Returns:
            ``input_ids`` with gaps, ``attention_mask``, ``token_type_ids`` if the features have them, and ``labels``:
            the hidden tokens, -100 elsewhere; all int64 ``[texts, length]``.

        Raises:
            DataError: ``word_ids`` are not one for each token.
        """
        padded = self._padded(features)
        ids, attention, types = padded["input_ids"], padded["attention_mask"].bool(), padded.get("token_type_ids")
        maskable = attention & ~torch.isin(ids, self._special)
        if "special_tokens_mask" in padded:
            maskable &= padded["special_tokens_mask"] == 0
        batch = Batch(ids, attention, self._words(features, ids, maskable), types)
        where, how = self._chances()
        chosen = self.masker.choose(batch, where) & batch.maskable
        gaps = corrupt(ids, chosen, self.tokenizer.mask_token_id, len(self.tokenizer), how)
        made = {"input_ids": gaps.ids, "attention_mask": padded["attention_mask"], "labels": gaps.labels()}
        return made if types is None else {**made, "token_type_ids": types}

    def _padded(self, features: Sequence[Mapping[str, Any]]) -> Mapping[str, Tensor]:
        from transformers.data.data_collator import pad_without_fast_tokenizer_warning

        known = [{name: feature[name] for name in _PADDED if name in feature} for feature in features]
        padded: Mapping[str, Tensor] = pad_without_fast_tokenizer_warning(  # type: ignore[no-untyped-call]
            self.tokenizer,
            known,
            pad_to_multiple_of=self.pad_to_multiple_of,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return padded

    def _chances(self) -> tuple[torch.Generator, torch.Generator]:
        """Of where to hide, and of how."""
        if self.seed is None:
            return torch.default_generator, torch.default_generator
        worker = get_worker_info()
        names = [self.batches] if worker is None else [worker.seed, self.batches]
        self.batches += 1
        return seeds.torch_rng(self.seed, "mask", *names), seeds.torch_rng(self.seed, "corrupt", *names)

    def _words(self, features: Sequence[Mapping[str, Any]], ids: Tensor, maskable: Tensor) -> Tensor:
        """Which word of its text each token belongs to, int64 ``[texts, length]``; -1 where nothing may be hidden."""
        numbers, sought = np.full(ids.shape, -1), []
        for row, feature in enumerate(features):
            if feature.get("word_ids") is None:
                edges = np.flatnonzero(np.diff(maskable[row].numpy(), prepend=False, append=False))
                sought += [(row, slice(start, end)) for start, end in edges.reshape(-1, 2).tolist()]
            else:
                numbers[row] = self._laid(feature, ids.shape[1])
        for place, words in zip(sought, self._recovered([ids[place].tolist() for place in sought]), strict=True):
            numbers[place] = words
        inside = maskable & torch.from_numpy(numbers >= 0)
        begins = inside.clone()
        begins[:, 1:] &= torch.from_numpy(numbers[:, 1:] != numbers[:, :-1]) | ~inside[:, :-1]
        return torch.where(inside, begins.cumsum(1) - 1, -1)

    def _laid(self, feature: Mapping[str, Any], length: int) -> Ints:
        """The words that a feature names, where its tokens stand after padding."""
        named = [-1 if word is None else int(word) for word in feature["word_ids"]]
        if len(named) != len(feature["input_ids"]):
            raise DataError(
                f"MaskingCollator: expected 'word_ids' for each of {len(feature['input_ids'])} 'input_ids', found "
                f"{len(named)}. Cut both or neither; without 'word_ids' words are recovered from the tokens."
            )
        room = (length - len(named), 0) if self.tokenizer.padding_side == "left" else (0, length - len(named))
        return np.pad(np.array(named, np.int64), room, constant_values=-1)

    def _recovered(self, runs: list[list[int]]) -> Iterator[list[int]]:
        """The words of pieces of texts, a number for each token."""
        if not runs:
            return
        texts = self.tokenizer.backend_tokenizer.decode_batch(runs, skip_special_tokens=False)
        again = self.tokenizer(texts, add_special_tokens=False, verbose=False).encodings
        for ids, encoding in zip(runs, again, strict=True):
            torn = self._mark != _INSIDE and self.tokenizer.unk_token_id in ids  # spelled out, it is a word of its own
            yield encoding.word_ids if encoding.ids == ids and not torn else self._by_marks(ids)

    def _by_marks(self, ids: list[int]) -> list[int]:
        pieces = self.tokenizer.convert_ids_to_tokens(ids)
        begins = [piece.startswith(self._mark) != (self._mark == _INSIDE) for piece in pieces]
        return list(accumulate(map(int, begins)))


def _mark(vocabulary: Iterable[str]) -> str:
    """How a vocabulary tells words from pieces of words: the mark that most of its entries begin with.

    >>> _mark(["the", "##s", "##ing", "Ġ"]), _mark(["▁the", "ing", "▁a"]), _mark(["the", "a"])
    ('##', '▁', '')
    """
    marks = Counter(mark for piece in vocabulary for mark in (_INSIDE, *_BEGINS) if piece.startswith(mark))
    return max(marks, key=marks.__getitem__, default="")

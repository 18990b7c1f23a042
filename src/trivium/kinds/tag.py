"""A tag for every word: parts of speech, names, chunks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from trivium.kinds.batch import Batch
from trivium.kinds.entities import TAGGING, tagging_counts
from trivium.kinds.kind import ClassWeight, Cut, Encoded, Rows, name_logits
from trivium.kinds.metrics import Counts, Metric
from trivium.kinds.sequence import class_weights
from trivium.kinds.text import tokenize_rows

OUTSIDE = "O"
_NONE = -100  # a token that is not asked for a tag


@dataclass(frozen=True)
class Tag:
    """The first piece of a word speaks for it (Devlin et al. 2019, section 5.3)."""

    family: ClassVar[str] = "tag"

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """F1 of entities first."""
        return TAGGING

    @property
    def heads(self) -> Sequence[str]:
        """``AutoModelForTokenClassification``."""
        return ("AutoModelForTokenClassification",)

    def configure(self, config: Any, labels: Sequence[str]) -> None:
        """Names of tags."""
        name_logits(config, labels)

    def start(self, head: Any, rows: pa.Table) -> None:
        """Nothing."""

    def weights(self, rows: pa.Table, labels: Sequence[str], wish: ClassWeight) -> Tensor | None:
        """A weight for each tag."""
        gold = np.concatenate([np.zeros(0, np.int64), *self.gold(rows, labels)])
        return class_weights(np.bincount(gold, minlength=len(labels)), labels, wish)

    def encode(self, tokenizer: Any, rows: pa.Table, labels: Sequence[str], cut: Cut) -> Encoded:
        """Pieces of the words of ``tokens``; the first of each is labelled with its tag, the others with -100."""
        tokens = rows["tokens"].to_pylist()
        encoded = tokenize_rows(tokenizer, [" ".join(row) for row in tokens], cut, tokens=tokens)
        if "label" not in rows.column_names:
            return encoded
        gold = self.gold(rows, labels)
        begins = np.concatenate([[0], np.cumsum([len(row) for row in gold])])
        flat = np.concatenate([np.zeros(0, np.int64), *gold])
        texts = np.repeat(np.arange(len(encoded.offsets) - 1), np.diff(encoded.offsets))
        owner = texts if encoded.firsts is None else np.searchsorted(encoded.firsts, texts, side="right") - 1
        asked = _speaks(encoded.words, texts)
        found = np.full(len(encoded.ids), _NONE, np.int64)
        found[asked] = flat[begins[owner[asked]] + encoded.words[asked]]
        return replace(encoded, labels=found, per_token=True)

    def loss(self, logits: Tensor, batch: Batch, weights: Tensor | None) -> Tensor:
        """Cross-entropy of each row, summed over its words."""
        assert batch.labels is not None
        losses = F.cross_entropy(
            logits.float().transpose(1, 2), batch.labels, weights, ignore_index=_NONE, reduction="none"
        )
        return _sums(losses.sum(1), batch)

    def weight(self, batch: Batch) -> Tensor:
        """The words of each row."""
        assert batch.labels is not None
        return _sums((batch.labels != _NONE).float().sum(1), batch)

    def decode(self, logits: Tensor, batch: Batch) -> tuple[Rows, Rows]:
        """For each row, the likeliest tag of every word up to the last that was read, -1 where a word has no piece.

        And the probability of that tag. A word in several windows gets the mean of its logits.
        """
        row, place = _speakers(batch)
        word = batch.words[row, place]
        owner = row if batch.owners is None else batch.owners[row]
        counts = torch.zeros(batch.rows, dtype=torch.long, device=word.device)
        counts.scatter_reduce_(0, owner, word + 1, "amax")
        begins = counts.cumsum(0) - counts
        slot = begins[owner] + word
        total = int(counts.sum())
        sums = logits.new_zeros(total, logits.shape[-1], dtype=torch.float32)
        sums.index_add_(0, slot, logits[row, place].float())
        times = torch.bincount(slot, minlength=total)
        best, tags = (sums / times.clamp(min=1)[:, None]).softmax(-1).max(-1)
        said = torch.where(times > 0, tags, -1).cpu().numpy()
        ends = counts.cumsum(0).cpu().numpy()[:-1]
        return np.split(said, ends), np.split(best.cpu().numpy(), ends)

    def read(self, said: Rows, rows: pa.Table, config: Any) -> Rows:
        """A tag for every word of the row: ``O``, or -1 if there is no such tag, for those that were not read."""
        outside = config.label2id.get(OUTSIDE, -1)
        found = []
        for tags, words in zip(said, rows["tokens"].to_pylist(), strict=True):
            whole = np.full(len(words), -1, np.int64)
            whole[: len(tags)] = tags
            found.append(np.where(whole < 0, outside, whole))
        return found

    def gold(self, rows: pa.Table, labels: Sequence[str]) -> Rows:
        """Indices of tags, a list of ``[words]``."""
        return [np.asarray(row, np.int64) for row in rows["label"].to_pylist()]

    def counts(self, gold: Rows, predicted: Rows, labels: Sequence[str]) -> Counts:
        """Entities and words that are right, missed and made up."""
        return tagging_counts(gold, predicted, labels)


def _speaks(words: npt.NDArray[np.int32], texts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which tokens are the first of their word in their text."""
    new = np.ones(len(words), bool)
    new[1:] = (words[1:] != words[:-1]) | (texts[1:] != texts[:-1])
    return new & (words >= 0)


def _speakers(batch: Batch) -> tuple[Tensor, Tensor]:
    """Where the first tokens of words are: text and position."""
    new = torch.ones_like(batch.attention)
    new[:, 1:] = batch.words[:, 1:] != batch.words[:, :-1]
    text, place = (new & (batch.words >= 0)).nonzero(as_tuple=True)
    return text, place


def _sums(values: Tensor, batch: Batch) -> Tensor:
    """Values of texts summed over each row."""
    if batch.owners is None:
        return values
    return values.new_zeros(batch.rows).index_add(0, batch.owners, values)

"""Which of several choices is right: one score for each, and the highest wins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from trivium.kinds import sequence
from trivium.kinds.batch import Batch
from trivium.kinds.kind import ClassWeight, Cut, Encoded, Rows, name_logits
from trivium.kinds.metrics import RANKING, Counts, Metric, ranking_counts
from trivium.kinds.text import tokenize_rows


@dataclass(frozen=True)
class Rank:
    """A question and its choices, each read as a pair with the question; rows may differ in how many they have."""

    family: ClassVar[str] = "rank"

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Accuracy first."""
        return RANKING

    @property
    def heads(self) -> Sequence[str]:
        """``AutoModelForMultipleChoice``; DeBERTa (v1) has none, and gets a classifier with one logit."""
        return "AutoModelForMultipleChoice", *sequence.HEADS

    def configure(self, config: Any, labels: Sequence[str]) -> None:
        """One score for each text."""
        name_logits(config, labels)

    def start(self, head: Any, rows: pa.Table) -> None:
        """Nothing."""

    def weights(self, rows: pa.Table, labels: Sequence[str], wish: ClassWeight) -> Tensor | None:
        """None: a choice is no class."""
        sequence.no_weights(wish, "rank")
        return None

    def encode(self, tokenizer: Any, rows: pa.Table, labels: Sequence[str], cut: Cut) -> Encoded:
        """A text for each choice: the question, and the choice as its pair; ``windows`` would mix choices up: head."""
        choices: list[list[str]] = rows["choices"].to_pylist()
        widths = np.asarray([len(row) for row in choices], np.int64)
        questions = np.repeat(np.asarray(rows["text"].to_pylist(), object), widths)
        cut = replace(cut, long_text="head") if cut.long_text == "windows" else cut
        flat = [choice for row in choices for choice in row]
        encoded = tokenize_rows(tokenizer, list(questions), cut, pairs=flat)
        encoded = replace(encoded, firsts=np.concatenate([[0], np.cumsum(widths)]).astype(np.int64))
        if "label" not in rows.column_names:
            return encoded
        assert encoded.firsts is not None
        right = np.zeros(len(flat), bool)
        right[encoded.firsts[:-1] + self.gold(rows, labels)] = True
        return replace(encoded, labels=right)

    def loss(self, logits: Tensor, batch: Batch, weights: Tensor | None) -> Tensor:
        """Cross-entropy of each row over its choices."""
        assert batch.labels is not None
        scores, place = _table(logits, batch)
        return -scores.log_softmax(-1)[place][batch.labels]

    def weight(self, batch: Batch) -> Tensor:
        """1 for each row."""
        return torch.ones(batch.rows, device=batch.ids.device)

    def decode(self, logits: Tensor, batch: Batch) -> tuple[Rows, Rows]:
        """Of each row, its choices from the likeliest to the least, and the probability of each; lists."""
        scores, _ = _table(logits, batch)
        order, chances = (
            scores.argsort(stable=True, dim=-1, descending=True).cpu().numpy(),
            scores.softmax(-1).cpu().numpy(),
        )
        widths = torch.isfinite(scores).sum(-1).tolist()
        best = [row[:width] for row, width in zip(order, widths, strict=True)]
        return best, [row[:width] for row, width in zip(chances, widths, strict=True)]

    def read(self, said: Rows, rows: pa.Table, config: Any) -> Rows:
        """What was said, as it is."""
        return said

    def gold(self, rows: pa.Table, labels: Sequence[str]) -> Rows:
        """Which choice is right, ``[rows]``."""
        return rows["label"].to_numpy()

    def counts(self, gold: Rows, predicted: Rows, labels: Sequence[str]) -> Counts:
        """Whether the first of the predicted is right, and where among them the right one is."""
        right = np.asarray(gold, np.int64)
        first = np.asarray([order[0] for order in predicted], np.int64)
        place = np.asarray([1 + list(order).index(i) for order, i in zip(predicted, right, strict=True)])
        return ranking_counts(right, first, place)


def _table(logits: Tensor, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Scores as float32 ``[rows, most choices]``, -inf where a row has fewer, and where in it each text is."""
    assert batch.owners is not None
    owners = batch.owners
    widths = torch.bincount(owners, minlength=batch.rows)
    begins = widths.cumsum(0) - widths
    place = (owners, torch.arange(len(owners), device=owners.device) - begins[owners])
    table = logits.new_full((batch.rows, int(widths.max())), -torch.inf, dtype=torch.float32)
    return table.index_put(place, logits.float().reshape(-1)), place

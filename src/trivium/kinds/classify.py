"""Single-label classification of a text or a pair of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from trivium.kinds import sequence
from trivium.kinds.batch import Batch
from trivium.kinds.kind import ClassWeight, Cut, Encoded, Rows, name_logits
from trivium.kinds.metrics import CLASSIFICATION, Counts, Metric, classification_counts


@dataclass(frozen=True)
class Classify:
    """One label for each row."""

    family: ClassVar[str] = "classify"

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Macro-F1 first: it does not let a frequent label hide the others."""
        return CLASSIFICATION

    @property
    def heads(self) -> Sequence[str]:
        """``AutoModelForSequenceClassification``."""
        return sequence.HEADS

    def configure(self, config: Any, labels: Sequence[str]) -> None:
        """Label *names* in the config."""
        name_logits(config, labels)
        config.problem_type = "single_label_classification"

    def start(self, head: Any, rows: pa.Table) -> None:
        """Nothing: a fresh head holds every label equally likely."""

    def weights(self, rows: pa.Table, labels: Sequence[str], wish: ClassWeight) -> Tensor | None:
        """A weight for each label."""
        counts = np.bincount(rows["label"].to_numpy(), minlength=len(labels))
        return sequence.class_weights(counts, labels, wish)

    def encode(self, tokenizer: Any, rows: pa.Table, labels: Sequence[str], cut: Cut) -> Encoded:
        """Tokens of ``text`` (and ``text_pair``)."""
        encoded = sequence.encode_texts(tokenizer, rows, cut)
        if "label" not in rows.column_names:
            return encoded
        return replace(encoded, labels=np.repeat(self.gold(rows, labels), encoded.widths))

    def loss(self, logits: Tensor, batch: Batch, weights: Tensor | None) -> Tensor:
        """Cross-entropy of each row, weighed by its label."""
        labels = sequence.first_labels(batch)
        return F.cross_entropy(sequence.per_row(logits, batch), labels, weights, reduction="none")

    def weight(self, batch: Batch) -> Tensor:
        """1 for each row."""
        return torch.ones(batch.rows, device=batch.ids.device)

    def decode(self, logits: Tensor, batch: Batch) -> tuple[Rows, Rows]:
        """The likeliest label ``[rows]``, and the probability of each ``[rows, labels]``."""
        probabilities = sequence.per_row(logits, batch).softmax(-1)
        return probabilities.argmax(-1).cpu().numpy(), probabilities.cpu().numpy()

    def read(self, said: Rows, rows: pa.Table, config: Any) -> Rows:
        """What was said, as it is."""
        return said

    def gold(self, rows: pa.Table, labels: Sequence[str]) -> Rows:
        """Indices of labels, ``[rows]``."""
        return rows["label"].to_numpy()

    def counts(self, gold: Rows, predicted: Rows, labels: Sequence[str]) -> Counts:
        """One-hot true positives, false positives and false negatives."""
        return classification_counts(np.asarray(gold, np.int64), np.asarray(predicted, np.int64), len(labels))

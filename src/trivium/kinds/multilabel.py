"""Any number of labels for a text or a pair of texts."""

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
from trivium.kinds.metrics import MULTILABEL, Counts, Metric, multilabel_counts


@dataclass(frozen=True)
class Multilabel:
    """Every label on its own is right or not."""

    family: ClassVar[str] = "multilabel"

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Micro-F1 first."""
        return MULTILABEL

    @property
    def heads(self) -> Sequence[str]:
        """``AutoModelForSequenceClassification``."""
        return sequence.HEADS

    def configure(self, config: Any, labels: Sequence[str]) -> None:
        """Label names, and a sigmoid for each in place of one softmax."""
        name_logits(config, labels)
        config.problem_type = "multi_label_classification"

    def start(self, head: Any, rows: pa.Table) -> None:
        """Nothing."""

    def weights(self, rows: pa.Table, labels: Sequence[str], wish: ClassWeight) -> Tensor | None:
        """How much more a label counts where it is right; balanced: as much as all rows where it is not."""
        if wish == "none":
            return None
        if wish == "balanced":
            right = self.gold(rows, labels).sum(0)
            return torch.tensor(np.maximum(len(rows) - right, 1) / np.maximum(right, 1), dtype=torch.float32)
        return torch.tensor(sequence.named_weights(labels, wish), dtype=torch.float32)

    def encode(self, tokenizer: Any, rows: pa.Table, labels: Sequence[str], cut: Cut) -> Encoded:
        """Tokens of ``text`` (and ``text_pair``)."""
        encoded = sequence.encode_texts(tokenizer, rows, cut)
        if "label" not in rows.column_names:
            return encoded
        return replace(encoded, labels=np.repeat(self.gold(rows, labels), encoded.widths, axis=0))

    def loss(self, logits: Tensor, batch: Batch, weights: Tensor | None) -> Tensor:
        """Binary cross-entropy of each row, the mean over labels."""
        logits, right = sequence.per_row(logits, batch), sequence.first_labels(batch).float()
        return F.binary_cross_entropy_with_logits(logits, right, reduction="none", pos_weight=weights).mean(-1)

    def weight(self, batch: Batch) -> Tensor:
        """1 for each row."""
        return torch.ones(batch.rows, device=batch.ids.device)

    def decode(self, logits: Tensor, batch: Batch) -> tuple[Rows, Rows]:
        """Labels with a probability of at least one half, bool ``[rows, labels]``, and the probabilities."""
        probabilities = sequence.per_row(logits, batch).sigmoid()
        return (probabilities >= 0.5).cpu().numpy(), probabilities.cpu().numpy()

    def read(self, said: Rows, rows: pa.Table, config: Any) -> Rows:
        """What was said, as it is."""
        return said

    def gold(self, rows: pa.Table, labels: Sequence[str]) -> Rows:
        """Which labels are right, bool ``[rows, labels]``."""
        found = np.zeros((rows.num_rows, len(labels)), bool)
        for row, label_set in enumerate(rows["label"].to_pylist()):
            found[row, label_set] = True
        return found

    def counts(self, gold: Rows, predicted: Rows, labels: Sequence[str]) -> Counts:
        """True positives, false positives and false negatives of every label, and whether the whole row is right."""
        return multilabel_counts(np.asarray(gold, bool), np.asarray(predicted, bool))

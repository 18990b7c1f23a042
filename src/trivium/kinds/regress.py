"""A number for a text or a pair of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from trivium.kinds import sequence
from trivium.kinds.batch import Batch
from trivium.kinds.kind import ClassWeight, Cut, Encoded, Rows, name_logits
from trivium.kinds.metrics import REGRESSION, Counts, Metric, regression_counts


@dataclass(frozen=True)
class Regress:
    """Squared error, in units of the spread of the training labels, so that no rate depends on their scale."""

    family: ClassVar[str] = "regress"

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Pearson's correlation first."""
        return REGRESSION

    @property
    def heads(self) -> Sequence[str]:
        """``AutoModelForSequenceClassification`` with one logit."""
        return sequence.HEADS

    def configure(self, config: Any, labels: Sequence[str]) -> None:
        """One number, called as the task calls it."""
        name_logits(config, labels)
        config.problem_type = "regression"

    def start(self, head: Any, rows: pa.Table) -> None:
        """Let the last layer begin at the mean of the training labels, with steps as large as their spread."""
        gold = self.gold(rows, ())
        last = [m for m in head.modules() if isinstance(m, nn.Linear) and m.out_features == 1][-1]
        with torch.no_grad():
            last.weight.mul_(_spread(gold))
            last.bias.fill_(float(gold.mean()))

    def weights(self, rows: pa.Table, labels: Sequence[str], wish: ClassWeight) -> Tensor | None:
        """What makes the spread of the training labels 1."""
        sequence.no_weights(wish, "regress")
        return torch.tensor([1 / _spread(self.gold(rows, labels)) ** 2], dtype=torch.float32)

    def encode(self, tokenizer: Any, rows: pa.Table, labels: Sequence[str], cut: Cut) -> Encoded:
        """Tokens of ``text`` (and ``text_pair``)."""
        encoded = sequence.encode_texts(tokenizer, rows, cut)
        if "label" not in rows.column_names:
            return encoded
        return replace(encoded, labels=np.repeat(self.gold(rows, labels).astype(np.float32), encoded.widths))

    def loss(self, logits: Tensor, batch: Batch, weights: Tensor | None) -> Tensor:
        """Squared error of each row."""
        error = (sequence.per_row(logits, batch)[:, 0] - sequence.first_labels(batch)).square()
        return error if weights is None else error * weights

    def weight(self, batch: Batch) -> Tensor:
        """1 for each row."""
        return torch.ones(batch.rows, device=batch.ids.device)

    def decode(self, logits: Tensor, batch: Batch) -> tuple[Rows, Rows]:
        """The number ``[rows]``; how sure it is, it cannot say ``[rows, 0]``."""
        said = sequence.per_row(logits, batch)[:, 0].cpu().numpy()
        return said, np.zeros((len(said), 0), np.float32)

    def read(self, said: Rows, rows: pa.Table, config: Any) -> Rows:
        """What was said, as it is."""
        return said

    def gold(self, rows: pa.Table, labels: Sequence[str]) -> Rows:
        """The numbers, float64 ``[rows]``."""
        return rows["label"].to_numpy()

    def counts(self, gold: Rows, predicted: Rows, labels: Sequence[str]) -> Counts:
        """Sums, squares and products."""
        return regression_counts(np.asarray(gold, np.float64), np.asarray(predicted, np.float64))


def _spread(gold: Any) -> float:
    return 1.0 if np.ptp(gold) == 0 else float(gold.std())

"""Single-label classification of a text or a pair of texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch.nn.functional as F
from torch import Tensor

from trivium.kinds.kind import Encoded
from trivium.kinds.metrics import CLASSIFICATION, Counts, Metric, classification_counts
from trivium.kinds.text import tokenize


@dataclass(frozen=True)
class Classify:
    """One label for each row."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Macro-F1 first: it does not let a frequent label hide the others."""
        return CLASSIFICATION

    def encode(self, tokenizer: Any, rows: pa.Table, max_length: int) -> Encoded:
        """Tokens of ``text`` (and ``text_pair``), cut at ``max_length``."""
        pairs = rows["text_pair"].to_pylist() if "text_pair" in rows.column_names else None
        labels = rows["label"].to_numpy() if "label" in rows.column_names else None
        return tokenize(tokenizer, rows["text"].to_pylist(), max_length, pairs=pairs, labels=labels)

    def head(self, config: Any, labels: Sequence[str]) -> Any:
        """An ``AutoModelForSequenceClassification`` with the label *names* in its config."""
        from transformers import AutoModelForSequenceClassification

        config.id2label = dict(enumerate(labels))
        config.label2id = {name: i for i, name in enumerate(labels)}
        config.problem_type = "single_label_classification"
        return AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each row."""
        return F.cross_entropy(logits.float(), labels, reduction="none")

    def decode(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest label, and the probability of each."""
        probabilities = logits.float().softmax(-1)
        return probabilities.argmax(-1), probabilities

    def counts(self, gold: npt.NDArray[Any], predicted: npt.NDArray[Any], labels: int) -> Counts:
        """One-hot true positives, false positives and false negatives."""
        return classification_counts(gold.astype(np.int64), predicted.astype(np.int64), labels)

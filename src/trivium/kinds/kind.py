"""What every kind of task can do, and the tokens it makes of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from trivium.kinds.metrics import Counts, Metric


@dataclass(frozen=True)
class Encoded:
    """Tokenised texts, end to end: text i is ``ids[offsets[i]:offsets[i + 1]]``.

    Attributes:
        ids: Token ids, int32 ``[tokens]``.
        words: Which word of its text a token belongs to, int32 ``[tokens]``; -1 for special tokens.
        types: Which of two texts a token belongs to, uint8 ``[tokens]``.
        offsets: Where each text starts, and the end of the last, int64 ``[texts + 1]``.
        labels: What each text is labelled with; none where nothing is.
    """

    ids: npt.NDArray[np.int32]
    words: npt.NDArray[np.int32]
    types: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text, ``[texts]``."""
        return np.diff(self.offsets)


class Kind(Protocol):
    """A kind of task. Loss and answers are per row, so that rows can be weighed, dropped and compared."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics it can be judged by, as functions of summed counts; the first is the default."""
        ...

    def encode(self, tokenizer: Any, rows: pa.Table, max_length: int) -> Encoded:
        """Turn rows into tokens, at most ``max_length`` each."""
        ...

    def head(self, config: Any, labels: Sequence[str]) -> Any:
        """A fresh transformers model whose head answers tasks of this kind; the caller gives it the shared backbone."""
        ...

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each row, ``[rows]``."""
        ...

    def decode(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Answer of each row ``[rows]``, and how sure of each label ``[rows, labels]``."""
        ...

    def counts(self, gold: npt.NDArray[Any], predicted: npt.NDArray[Any], labels: int) -> Counts:
        """What each row adds to the sums that the metrics are functions of, ``[rows, counts]``."""
        ...

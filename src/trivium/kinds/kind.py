"""What every kind of task can do, and the tokens it makes of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from trivium.errors import ConfigError
from trivium.kinds.batch import Batch
from trivium.kinds.metrics import Counts, Metric

Rows = Any  # one value for each row: an array where all have the same shape, a list where they have not
LongText = Literal["head", "head+tail", "windows"]
ClassWeight = Literal["none", "balanced"] | Mapping[str, float]


@dataclass(frozen=True)
class Cut:
    """How long an input may be, and what becomes of a longer row.

    Attributes:
        max_length: Longest input in tokens, special tokens included.
        long_text: ``head``: only its beginning is read. ``head+tail``: a quarter of the room for its beginning, the
            rest for its end (Sun et al. 2019, section 5.3.1). ``windows``: all of it, in several inputs whose logits
            are averaged. Questions over a context are always read in windows.
        stride: Tokens that neighbouring windows share; none is a quarter of ``max_length``.
    """

    max_length: int = 128
    long_text: LongText = "head"
    stride: int | None = None

    def shared(self, room: int) -> int:
        """Tokens that neighbouring windows share where each has room for so many.

        Raises:
            ConfigError: a window would not get on.
        """
        stride = min(self.max_length // 4, room // 2) if self.stride is None else self.stride
        if stride >= room:
            raise ConfigError(
                f"stride: expected fewer tokens than a window has room for ({room} of max_length {self.max_length}), "
                f"found {stride}."
            )
        return stride


@dataclass(frozen=True)
class Encoded:
    """Tokenised texts, end to end: text i is ``ids[offsets[i]:offsets[i + 1]]``.

    Attributes:
        ids: Token ids, int32 ``[tokens]``.
        words: Which word of its row a token belongs to, int32 ``[tokens]``; -1 for special tokens.
        types: Which of two texts a token belongs to, uint8 ``[tokens]``.
        offsets: Where each text starts, and the end of the last, int64 ``[texts + 1]``.
        labels: What each text is labelled with, ``[texts, …]``, or each token, ``[tokens]``; none where nothing is.
        firsts: The first text of each row, and the end of the last row's, int64 ``[rows + 1]``; none where every row
            is one text.
        chars: Where each token begins and ends in the text that answers are sought in, int32 ``[tokens, 2]``, -1
            elsewhere; none where nothing is sought.
        per_token: Whether labels are those of tokens.
        origins: What each row was cut from, int64 ``[rows]``: the position of a text among those that were given, or
            what a document is called; none where a row is a text as it was given.
    """

    ids: npt.NDArray[np.int32]
    words: npt.NDArray[np.int32]
    types: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[Any] | None = None
    firsts: npt.NDArray[np.int64] | None = None
    chars: npt.NDArray[np.int32] | None = None
    per_token: bool = False
    origins: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.offsets if self.firsts is None else self.firsts) - 1

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each row's longest text, ``[rows]``."""
        texts = np.diff(self.offsets)
        return texts if self.firsts is None else np.maximum.reduceat(texts, self.firsts[:-1])

    @cached_property
    def widths(self) -> npt.NDArray[np.int64]:
        """Texts of each row, ``[rows]``."""
        return np.ones(len(self), np.int64) if self.firsts is None else np.diff(self.firsts)


def name_logits(config: Any, names: Sequence[str]) -> None:
    """Write into a model's config what its logits stand for."""
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}


class Kind(Protocol):
    """A kind of task: how rows become tokens, what its head is, what its loss is, how answers are read and judged.

    Losses, weights and answers are per row, so that rows can be weighed, dropped, computed in parts and compared.

    Attributes:
        family: Its name; a subclass has that of the kind it derives from, and with it that kind's rows and answers.
    """

    family: ClassVar[str]

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics it can be judged by, as functions of summed counts; the first is the default."""
        ...

    @property
    def heads(self) -> Sequence[str]:
        """Names of the transformers ``AutoModelFor…`` whose head answers it; the first that an encoder has counts."""
        ...

    def configure(self, config: Any, labels: Sequence[str]) -> None:
        """Say in a model's config what the head is to be."""
        ...

    def start(self, head: Any, rows: pa.Table) -> None:
        """Give a fresh head what the training rows alone can say of its weights."""
        ...

    def weights(self, rows: pa.Table, labels: Sequence[str], wish: ClassWeight) -> Tensor | None:
        """How much each label counts in the loss, float32 ``[labels]``, from the training rows; none: all the same.

        Over the training rows they are 1 in the mean, so that no rate depends on them; those of several labels at once
        say how much more a label counts where it is right than where it is not.

        Raises:
            ConfigError: labels of this kind cannot be weighed, or ``wish`` names one that is not there.
        """
        ...

    def encode(self, tokenizer: Any, rows: pa.Table, labels: Sequence[str], cut: Cut) -> Encoded:
        """Turn rows into tokens, labelled if there is a column ``label``; ``labels`` are those of the task."""
        ...

    def loss(self, logits: Tensor, batch: Batch, weights: Tensor | None) -> Tensor:
        """What each row adds to the loss, float32 ``[rows]``, where ``weights`` are of the labels, ``[labels]``."""
        ...

    def weight(self, batch: Batch) -> Tensor:
        """What the sum of ``loss`` is divided by, row by row: the answers that are asked for, float32 ``[rows]``."""
        ...

    def decode(self, logits: Tensor, batch: Batch) -> tuple[Rows, Rows]:
        """What the model says of each row, and how sure it is; numpy arrays, or lists where rows differ in length."""
        ...

    def read(self, said: Rows, rows: pa.Table, config: Any) -> Rows:
        """What ``decode`` said, in the terms of ``gold``, with the help of the rows and the head's config."""
        ...

    def gold(self, rows: pa.Table, labels: Sequence[str]) -> Rows:
        """What the rows are labelled with."""
        ...

    def counts(self, gold: Rows, predicted: Rows, labels: Sequence[str]) -> Counts:
        """What each row adds to the sums that the metrics are functions of, ``[rows, counts]``."""
        ...

"""Which stretch of a context answers a question, as in SQuAD; or that none does, where the training rows show such."""

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
from trivium.kinds.kind import ClassWeight, Cut, Encoded, Rows, name_logits
from trivium.kinds.metrics import Counts, Metric
from trivium.kinds.sequence import no_weights, per_row
from trivium.kinds.squad import SPAN, span_counts
from trivium.kinds.text import tokenize_rows

LONGEST = 30  # tokens of an answer, as in BERT's SQuAD script


@dataclass(frozen=True)
class Span:
    """Question and context are read together, a long context in windows; the best stretch of all windows answers.

    A window without the answer points to its first token, and so does every window of an unanswerable row (Devlin et
    al. 2019, sections 4.2 and 4.3).
    """

    family: ClassVar[str] = "span"

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """F1 of words first."""
        return SPAN

    @property
    def heads(self) -> Sequence[str]:
        """``AutoModelForQuestionAnswering``."""
        return ("AutoModelForQuestionAnswering",)

    def configure(self, config: Any, labels: Sequence[str]) -> None:
        """Two logits for each token: that an answer begins or ends there."""
        name_logits(config, labels)

    def start(self, head: Any, rows: pa.Table) -> None:
        """Remember whether there are questions without an answer."""
        head.config.unanswerable = any(not answers for answers in rows["label"].to_pylist())

    def weights(self, rows: pa.Table, labels: Sequence[str], wish: ClassWeight) -> Tensor | None:
        """None: there are no classes."""
        no_weights(wish, "span")
        return None

    def encode(self, tokenizer: Any, rows: pa.Table, labels: Sequence[str], cut: Cut) -> Encoded:
        """Question and windows of the context; a window is labelled with the tokens where the first answer lies."""
        questions, contexts = rows["text"].to_pylist(), rows["text_pair"].to_pylist()
        encoded = tokenize_rows(tokenizer, questions, cut, pairs=contexts, seek=True)
        if "label" not in rows.column_names:
            return encoded
        return replace(encoded, labels=_targets(encoded, rows["label"].to_pylist()))

    def loss(self, logits: Tensor, batch: Batch, weights: Tensor | None) -> Tensor:
        """Mean cross-entropy of beginning and end, and over the windows of each row."""
        assert batch.labels is not None
        possible = _possible(batch)
        each = [
            F.cross_entropy(logits[..., i].float().masked_fill(~possible, -1e4), batch.labels[:, i], reduction="none")
            for i in (0, 1)
        ]
        return per_row((each[0] + each[1]) / 2, batch)

    def weight(self, batch: Batch) -> Tensor:
        """1 for each row."""
        return torch.ones(batch.rows, device=batch.ids.device)

    def decode(self, logits: Tensor, batch: Batch) -> tuple[Rows, Rows]:
        """Of each row: where the best stretch begins and ends, and by how much no answer is better.

        Returns:
            float64 ``[rows, 3]``: first and last character (excluded) in the context, and the logit of no answer minus
            that of the stretch; and the probability of the stretch in its window, ``[rows, 1]``.
        """
        assert batch.chars is not None
        begin, end = logits.float().unbind(-1)
        inside = batch.chars[..., 0] >= 0
        scores = begin.masked_fill(~inside, -torch.inf)[:, :, None] + end.masked_fill(~inside, -torch.inf)[:, None, :]
        length = scores.shape[1]
        allowed = torch.ones(length, length, dtype=torch.bool, device=scores.device).triu().tril(LONGEST - 1)
        best, place = scores.masked_fill(~allowed, -torch.inf).flatten(1).max(1)
        text = torch.arange(len(place), device=place.device)
        first, last = batch.chars[text, place // length, 0], batch.chars[text, place % length, 1]
        possible = _possible(batch)
        total = sum(part.masked_fill(~possible, -torch.inf).logsumexp(1) for part in (begin, end))
        found = torch.stack([first.double(), last.double(), best.double(), (begin + end)[:, 0].double()], 1)
        return _best_windows(found.cpu().numpy(), (best - total).exp().cpu().numpy(), batch)

    def read(self, said: Rows, rows: pa.Table, config: Any) -> Rows:
        """The answers as text; empty for none, which only a model may say that has seen unanswerable questions."""
        may = getattr(config, "unanswerable", False)
        contexts = rows["text_pair"].to_pylist()
        return [
            "" if (may and none > 0) or end <= 0 else context[int(begin) : int(end)].strip()
            for context, (begin, end, none) in zip(contexts, said, strict=True)
        ]

    def gold(self, rows: pa.Table, labels: Sequence[str]) -> Rows:
        """The accepted answers of each row, a list of lists of texts."""
        return [[answer["text"] for answer in answers] for answers in rows["label"].to_pylist()]

    def counts(self, gold: Rows, predicted: Rows, labels: Sequence[str]) -> Counts:
        """Exact matches and F1, by the official normalisation."""
        return span_counts(gold, predicted)


def _possible(batch: Batch) -> Tensor:
    """Where an answer may be: in the context, or on the first token for none."""
    assert batch.chars is not None
    inside = batch.chars[..., 0] >= 0
    inside[:, 0] = True
    return inside


def _targets(encoded: Encoded, answers: Sequence[Sequence[Mapping[str, Any]]]) -> npt.NDArray[np.int64]:
    """First and last token of each row's first answer in each of its texts, int64 ``[texts, 2]``; 0 where it is not."""
    assert encoded.firsts is not None
    assert encoded.chars is not None
    found = np.zeros((len(encoded.offsets) - 1, 2), np.int64)
    for row, accepted in enumerate(answers):
        if not accepted:
            continue
        start = accepted[0]["start"]
        end = start + len(accepted[0]["text"])
        for text in range(encoded.firsts[row], encoded.firsts[row + 1]):
            chars = encoded.chars[encoded.offsets[text] : encoded.offsets[text + 1]]
            context = np.flatnonzero(chars[:, 0] >= 0)
            if len(context) and chars[context[0], 0] <= start and end <= chars[context[-1], 1]:
                first = context[np.searchsorted(chars[context, 1], start, side="right")]
                last = context[np.searchsorted(chars[context, 0], end, side="left") - 1]
                found[text] = first, max(first, last)
    return found


def _best_windows(found: npt.NDArray[Any], sure: npt.NDArray[Any], batch: Batch) -> tuple[Rows, Rows]:
    """The best stretch among the windows of each row; no answer is as good as in the window that likes it least."""
    owners = np.arange(len(found)) if batch.owners is None else batch.owners.cpu().numpy()
    rows = int(owners[-1]) + 1
    none = np.full(rows, np.inf)
    np.minimum.at(none, owners, found[:, 3])
    order = np.lexsort((-found[:, 2], owners))  # by row, the best first; of equals the first window
    best = order[np.searchsorted(owners[order], np.arange(rows))]
    gap = none - found[best, 2]
    return np.column_stack([found[best, :2], gap]), sure[best, None]

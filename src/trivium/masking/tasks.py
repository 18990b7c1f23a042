"""Maskers that ask a model of the task: what its loss hangs on, and what looks like an answer."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from trivium.core import Floats, Ints, Task
from trivium.encoders import Encoder
from trivium.encoders.streams import between
from trivium.kinds import Batch, Encoded, kind_of
from trivium.masking.asking import (
    Asks,
    answers,
    at_rest,
    batches,
    edges,
    encode,
    leaf_at,
    states,
    wrong_kind,
)
from trivium.masking.protocol import Known
from trivium.masking.scored import Draw, ScoredMasker
from trivium.masking.units import Units
from trivium.masking.words import Occurrences, WordTable, spelled

_LEAST = 1e-12  # the smallest gradient that counts as one


@dataclass(frozen=True)
class Saliency(Draw):
    """Hide the words that the task's loss hangs on: those with a large gradient with respect to their embedding.

    A word is worth the same wherever it stands: the norm of the gradient at its tokens, averaged over its pieces and
    over all its occurrences in the training rows. Other words are worth as much as these in the mean. Words are drawn
    in proportion. Any kind of task will do.

    Source: Typhoon (2023, arXiv 2303.15619), which keeps a running mean for each type of token while it trains; the
    mean over a pass of the training rows is what that settles on once the weights do not change.
    """

    seeded: ClassVar[bool] = True

    def fit(self, known: Known) -> ScoredMasker:
        """Learn the task, then look at the gradients of its training rows."""
        encoder = known.models.finetuned(known.task)
        encoded = encode(encoder, known.task)
        found = Occurrences.of(encoded, self.unit)
        norms = np.append(0.0, np.cumsum(gradient_norms(encoder, known.task, encoded)))
        each = (norms[found.ends] - norms[found.begins]) / (found.ends - found.begins)
        keys, first, which, times = np.unique(found.keys, return_index=True, return_inverse=True, return_counts=True)
        means = np.maximum(np.bincount(which, each, len(keys)) / times, _LEAST)
        names = keys.tolist()
        words = [spelled(encoder.tokenizer, encoded.ids[found.begins[i] : found.ends[i]]) for i in first]
        table = WordTable.of(
            dict(zip(names, np.log(means).tolist(), strict=True)),
            dict(zip(names, words, strict=True)),
            math.log(means.mean()) if names else 0.0,
        )
        return self.by(table, {"words": len(names)})


def gradient_norms(encoder: Encoder, task: Task, encoded: Encoded) -> Floats:
    """How much the loss of each row hangs on each of its tokens.

    Args:
        encoder: Has a head for the task.
        task: The task.
        encoded: Labelled rows.

    Returns:
        The Euclidean norm of the gradient of a row's loss with respect to the embedding of each token, float64
        ``[tokens]``.
    """
    norms, kind = np.zeros(len(encoded.ids)), kind_of(task)
    with at_rest(encoder), leaf_at(encoder.backbone.get_input_embeddings()) as leaf:
        for rows, batch in batches(encoder, encoded):
            logits = encoder.answer(task.name, states(encoder, batch), batch)
            (slopes,) = torch.autograd.grad(kind.loss(logits, batch, None).sum(), leaf.made)
            norms[_places(encoded, rows)] = slopes.norm(dim=-1)[batch.attention].double().cpu().numpy()
    return norms


@dataclass(frozen=True)
class AnswerLike(Draw):
    """Hide what somebody is likely to ask about: what looks like part of an answer, whatever the question.

    An extractor learns where answers stand in the contexts of the training rows without being shown the questions. A
    unit is worth the probability that it lies inside the answer. Units are drawn in proportion.

    Source: after the policies of Ye et al. (2020, arXiv 2012.15856; 2021, arXiv 2104.08840), which learn to mask spans
    that are likely to be asked about; an extractor in place of their policies.
    """

    seeded: ClassVar[bool] = True

    def fit(self, known: Known) -> ScoredMasker:
        """Learn where answers stand.

        Raises:
            ConfigError: the task has no answers that stand in a context.
        """
        task = known.task
        if task.kind != "span":
            raise wrong_kind("answerlike", "span", task)
        rows = task.rows("train")
        rows = rows.filter(pa.array([len(accepted) > 0 for accepted in rows["label"].to_pylist()], pa.bool_()))
        rows = rows.set_column(rows.column_names.index("text"), "text", pa.array([""] * len(rows), pa.string()))
        blind = replace(task, name=f"{task.name}-answerlike", tables={"train": rows})
        return self.by(Inside(known.models.finetuned(blind), blind.name), {"rows": len(rows)})


class _Frame(NamedTuple):
    """What stands around a context whose question is empty: ids before and after it, and the types of all."""

    before: Tensor
    after: Tensor
    types: tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Inside(Asks):
    """The log-probability that a unit lies inside an answer.

    The answer begins at or before the unit and ends at or after it: P(start ≤ its first token) · P(end ≥ its last).

    A text is laid out as the extractor learned contexts, after an empty question; one that is too long for the encoder
    is cut into windows of nearly the same length. The first token of each takes the chance that no answer is there.

    Attributes:
        encoder: The extractor.
        task: What its head is called.
    """

    encoder: Encoder
    task: str

    def ask(self, batch: Batch, units: Units) -> Tensor:
        """Log-probabilities, float32 ``[texts, width]``."""
        begun, ended = self.reached(batch)
        first, last = edges(units)
        return units.total(torch.where(first, begun, 0.0) + torch.where(last, ended, 0.0))

    def reached(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probabilities of each token, ``[texts, length]``: an answer begins up to here; it ends from here on."""
        begun, ended = torch.zeros(batch.ids.shape), torch.zeros(batch.ids.shape)
        windows = list(self._windows(batch))
        if windows:
            logits = answers(self.encoder, self.task, self._laid_out(batch, windows))
            start = len(self._frame.before)
            for (text, places), each in zip(windows, logits, strict=True):
                possible = torch.cat([each[:1], each[start : start + len(places)]])
                logs = possible.log_softmax(0)[1:]
                begun[text, places] = logs[:, 0].logcumsumexp(0)
                ended[text, places] = logs[:, 1].flip(0).logcumsumexp(0).flip(0)
        return begun, ended

    def _windows(self, batch: Batch) -> Iterator[tuple[int, Tensor]]:
        """The places of the tokens that are read at once, and their text."""
        most = getattr(self.encoder.backbone.config, "max_position_embeddings", None) or 512
        room = most // 16 * 16 - len(self._frame.before) - len(self._frame.after)  # RoBERTa has 514, and counts from 2
        for text, there in enumerate(batch.maskable):
            places = there.nonzero().squeeze(1)
            if len(places):
                yield from ((text, window) for window in places.tensor_split(-(-len(places) // room)))

    def _laid_out(self, batch: Batch, windows: list[tuple[int, Tensor]]) -> Batch:
        before, after, types = self._frame
        ids = [torch.cat([before, batch.ids[text, places], after]) for text, places in windows]
        kinds = [torch.cat([types[0], types[1].expand(len(places)), types[2]]) for _, places in windows]
        padded = pad_sequence(ids, batch_first=True, padding_value=self.encoder.tokenizer.pad_token_id)
        there = pad_sequence([torch.ones(len(each), dtype=torch.bool) for each in ids], batch_first=True)
        asked = pad_sequence(kinds, batch_first=True) if self.encoder.wants_types else None
        return Batch(padded, there, torch.full_like(padded, -1), asked)

    @cached_property
    def _frame(self) -> _Frame:
        backend = self.encoder.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        laid = backend.encode("", "a")
        context = [place for place, text in enumerate(laid.sequence_ids) if text == 1]
        first, end = context[0], context[-1] + 1
        ids, types = torch.tensor(laid.ids), torch.tensor(laid.type_ids)
        return _Frame(ids[:first], ids[end:], (types[:first], types[first : first + 1], types[end:]))


def _places(encoded: Encoded, rows: Ints) -> Ints:
    """Where the tokens of some rows stand, in the order in which a batch of them has them."""
    firsts = np.arange(len(encoded) + 1) if encoded.firsts is None else encoded.firsts
    texts = between(firsts[rows], firsts[rows + 1])
    return between(encoded.offsets[texts], encoded.offsets[texts + 1])

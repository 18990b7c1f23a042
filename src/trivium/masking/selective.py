"""Selective masking: words that a classifier needs for its answer, and a tagger that finds such words in any text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from trivium import seeds
from trivium.core import Floats, Ints, Task
from trivium.encoders import Encoder
from trivium.encoders.streams import between
from trivium.errors import ConfigError
from trivium.kinds import Batch, Encoded, kind_of
from trivium.masking.asking import Asks, answers, at_rest, batches, edges, encode, states, wrong_kind
from trivium.masking.protocol import Known
from trivium.masking.scored import Draw, ScoredMasker
from trivium.masking.units import Units
from trivium.masking.words import Occurrences, spelled

Bools = npt.NDArray[np.bool_]

_TAGS = ("O", "M")  # of no importance, important


@dataclass(frozen=True)
class Selective(Draw):
    """Hide the words that a classifier needs for its answer (Train No Evil).

    A training row that the classifier gets right is built up word by word. A word with which it is nearly as sure of
    the answer as with the whole row is marked, and left out again. A second model learns to tell marked words from
    others, so that any text can be hidden in.

    Stop words are neither read nor marked. Of a row in several windows, only the beginning is looked at. Where a row
    has several labels, its answer is all of them and no other.

    Attributes:
        temperature: 0, the words likeliest to be marked; above it, by the odds of a mark to the power of
            1 / temperature.
        delta: How much less sure of the answer still counts as nearly as sure, in probability.
        rows: Most rows to build up, drawn by chance; a row costs as many looks as it has words.

    Source: Gu et al. 2020, Train No Evil: Selective Masking for Task-Guided Pre-Training, section 2.
    """

    seeded: ClassVar[bool] = True

    temperature: float = 0.0
    delta: float = 0.05
    rows: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.delta < 1 or self.rows < 1:
            raise ConfigError(
                f"masker: expected 'delta' from 0 and below 1, and 'rows' from 1, found {self.delta} and {self.rows}."
            )

    def fit(self, known: Known) -> ScoredMasker:
        """Learn the task, mark its words, and learn to mark.

        Raises:
            ConfigError: the task has no labels for whole rows, or no row with a word in it is got right.
        """
        if known.task.kind not in ("classify", "multilabel"):
            raise wrong_kind("selective", "classify or multilabel", known.task)
        encoder = known.models.finetuned(known.task)
        task = _drawn(known.task, known.seed, self.rows)
        encoded = encode(encoder, task, windows=False)
        words = Occurrences.of(encoded)
        written = _written(encoder.tokenizer, encoded, words)
        whole, right = chances(encoder, task, encoded)
        asked = right[words.texts] & ~_stop_words(written)
        if not asked.any():
            raise ConfigError(
                f"masker selective: expected training rows of task '{task.name}' that have words and that the encoder "
                f"gets right, found none among {len(right)}. Train it for longer, or choose another masker."
            )
        marked = important(encoder, task, encoded, words, asked, whole - self.delta)
        tags = _tags(task, words, written, marked, right)
        about = {"rows": int(right.sum()), "marked": round(float(marked[asked].mean()), 4)}
        return self.by(Marked(known.models.finetuned(tags), tags.name), about)


def chances(encoder: Encoder, task: Task, encoded: Encoded) -> tuple[Floats, Bools]:
    """How probable the right answer to each row is, and whether it is the one that is given.

    Args:
        encoder: Has a head for the task.
        task: Of kind ``classify`` or ``multilabel``.
        encoded: Labelled rows, each a single text.

    Returns:
        Probabilities, float64 ``[rows]``, and bool ``[rows]``.
    """
    assert encoded.labels is not None
    kind = kind_of(task)
    factors = len(task.labels) if task.kind == "multilabel" else 1  # its loss is the mean over labels
    chance, right = np.zeros(len(encoded)), np.zeros(len(encoded), bool)
    with at_rest(encoder), torch.no_grad():
        for rows, batch in batches(encoder, encoded):
            logits = encoder.answer(task.name, states(encoder, batch), batch)
            chance[rows] = (-factors * kind.loss(logits, batch, None).double()).exp().cpu().numpy()
            right[rows] = (kind.decode(logits, batch)[0] == encoded.labels[rows]).reshape(len(rows), -1).all(1)
    return chance, right


def important(
    encoder: Encoder, task: Task, encoded: Encoded, words: Occurrences, asked: Bools, enough: Floats
) -> Bools:
    """Which words bring the right answer within reach; all rows are built up side by side.

    Args:
        encoder: Has a head for the task.
        task: Of kind ``classify`` or ``multilabel``.
        encoded: Labelled rows, each a single text.
        words: Their words.
        asked: Which of them to add, one after the other, bool ``[words]``; the others are left out.
        enough: The probability of the right answer above which the word that was added last is important, ``[rows]``.

    Returns:
        bool ``[words]``.
    """
    marked, shown = np.zeros(len(asked), bool), encoded.words < 0
    for added in _in_turn(words.texts, np.flatnonzero(asked)):
        begins, ends, rows = words.begins[added], words.ends[added], words.texts[added]
        shown[between(begins, ends)] = True
        found = chances(encoder, task, _only(encoded, rows, shown))[0] > enough[rows]
        shown[between(begins[found], ends[found])] = False
        marked[added] = found
    return marked


@dataclass(frozen=True, eq=False)
class Marked(Asks):
    """The log-odds that a tagger marks a word; every token of a word is worth as much as the word.

    Attributes:
        encoder: The tagger.
        task: What its head is called; the second of its two tags is the mark.
    """

    encoder: Encoder
    task: str

    def ask(self, batch: Batch, units: Units) -> Tensor:
        """Log-odds, float32 ``[texts, width]``; the first piece speaks for its word, as it did in training."""
        logits = answers(self.encoder, self.task, batch)
        words = Units.in_batch(batch)
        odds = torch.where(edges(words)[0], logits[..., 1] - logits[..., 0], 0.0)
        return units.mean(words.spread(words.total(odds)))


def _drawn(task: Task, seed: int, most: int) -> Task:
    """The task with some of its training rows, in their order."""
    rows = task.rows("train")
    drawn = np.sort(seeds.numpy_rng(seed, "selective").permutation(len(rows))[:most])
    return replace(task, tables={"train": rows.take(pa.array(drawn))})


def _written(tokenizer: Any, encoded: Encoded, words: Occurrences) -> Sequence[str]:
    """How each word is written."""
    _, first, which = np.unique(words.keys, return_index=True, return_inverse=True)
    known = [spelled(tokenizer, encoded.ids[words.begins[i] : words.ends[i]]) for i in first]
    return [known[i] for i in which]


def _stop_words(written: Sequence[str]) -> Bools:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return np.array([word.lower() in ENGLISH_STOP_WORDS for word in written], bool)


def _in_turn(texts: Ints, words: Ints) -> Iterator[Ints]:
    """The first of the words of each text, then the second of each that has one, and so on."""
    owners = texts[words]
    turn = np.arange(len(words)) - np.searchsorted(owners, owners)
    order = np.argsort(turn, kind="stable")
    yield from np.split(words[order], np.flatnonzero(np.diff(turn[order])) + 1)


def _only(encoded: Encoded, rows: Ints, shown: Bools) -> Encoded:
    """Some rows, with those of their tokens that are shown."""
    assert encoded.labels is not None
    begins, ends = encoded.offsets[rows], encoded.offsets[rows + 1]
    tokens, owners = between(begins, ends), np.repeat(np.arange(len(rows)), ends - begins)
    kept = shown[tokens]
    lengths = np.bincount(owners[kept], minlength=len(rows))
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int64)
    tokens = tokens[kept]
    return Encoded(encoded.ids[tokens], encoded.words[tokens], encoded.types[tokens], offsets, encoded.labels[rows])


def _tags(task: Task, words: Occurrences, written: Sequence[str], marked: Bools, right: Bools) -> Task:
    """Telling marked words from others, as a task of its own, in the rows that were built up."""
    tokens: list[list[str]] = [[] for _ in right]
    label: list[list[int]] = [[] for _ in right]
    for text, word, mark in zip(words.texts.tolist(), written, marked.tolist(), strict=True):
        if right[text] and word:
            tokens[text].append(word)
            label[text].append(int(mark))
    rows = [row for row in range(len(right)) if tokens[row]]
    columns = {
        "text": [" ".join(tokens[row]) for row in rows],
        "tokens": [tokens[row] for row in rows],
        "label": [label[row] for row in rows],
    }
    return Task(f"{task.name}-selective", "tag", "accuracy", _TAGS, {"train": pa.table(columns)})

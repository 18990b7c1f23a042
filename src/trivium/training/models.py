"""Encoders to start from, those that maskers ask, and maskers made ready with them.

A masker that learns first is told what it may know: training texts, general text to compare with, and encoders of the
kind that will be trained. What it makes of that is its own business (``masking``); nothing of dev or test gets here.
"""

import inspect
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trivium import seeds
from trivium.core import Corpus, Ints, Stage, Task
from trivium.documents import RandomDocuments, select_documents
from trivium.documents.screens import Screens
from trivium.encoders.encoder import (
    Encoder,
    Pretrained,
    from_pretrained,
    from_scratch,
    load_tokenizer,
    torch_device,
)
from trivium.encoders.streams import padded_tokens
from trivium.encoders.tokenizer import train_tokenizer
from trivium.kinds import Encoded
from trivium.kinds.text import tokenize
from trivium.masking import Fits, Known, Masker, RandomTokens
from trivium.training.loop import Watch, run_stage
from trivium.training.recipes import Spec, make_stage
from trivium.training.turns import planned_updates
from trivium.training.warmup import put_head, warm_up

BACKGROUND = 20_000  # documents that stand for general text
_TEXTS = 20_000  # texts that stand for all where a model is only to get to know them


def make_tokenizer(spec: Spec, task: Task, documents: list[str], auxiliary: Sequence[Task] = ()) -> Any:
    """The tokenizer of an encoder: its own, or one trained on the tasks' training texts and the documents."""
    if isinstance(spec, Pretrained):
        return load_tokenizer(spec.pretrained, spec.revision)
    texts = [text for one in (task, *auxiliary) for text in one.texts("train")]
    return train_tokenizer([*texts, *documents], spec.vocabulary, lower=spec.lower)


def new_encoder(spec: Spec, tokenizer: Any, max_length: int, seed: int, head: Path | None = None) -> Encoder:
    """An encoder to start from; from scratch, its weights are a function of the seed.

    ``head`` is the folder of a gap-filling head that ``warm_up`` keeps, for a pretrained encoder that has none.
    """
    with seeds.torch_scope(seed, "encoder"):
        if not isinstance(spec, Pretrained):
            return from_scratch(spec, tokenizer, max_length)
        encoder = from_pretrained(spec)
    if head is not None:
        put_head(encoder, head)
    return encoder


def encode_documents(tokenizer: Any, texts: list[str], max_length: int, ids: Ints | None = None) -> Encoded:
    """Tokenise documents into windows of at most ``max_length`` tokens, losing nothing.

    Args:
        tokenizer: A fast transformers tokenizer.
        texts: The documents.
        max_length: Of a window.
        ids: What the documents are called in messages, ``[documents]``; their positions, if not given.
    """
    encoded = tokenize(tokenizer, texts, max_length, windows=True)
    return encoded if ids is None else replace(encoded, origins=ids[encoded.origins])


@dataclass(frozen=True)
class StudyModels:
    """Encoders of the kind that will be trained, for maskers that ask one (``masking.Models``).

    Each is made when it is first asked for, and copied whenever it is: whoever gets one may change it. They are made to
    be asked and not to win, so their training is brief; of many texts, 20,000 stand for all.

    Attributes:
        spec: The encoder to start from.
        tokenizer: Its tokenizer.
        task: Whose training rows may be learned from; its other rows are not looked at.
        texts: What will be hidden in.
        seed: Of everything random.
        head: Folder of a warm gap-filling head (``warm_up``), for a pretrained encoder that came without one. Without
            it, such an encoder is warmed up on the texts.
        max_length: Longest input in tokens while they learn.
        updates: Updates in which an encoder from scratch learns the language, and at most so many to adapt one.
        epochs: Passes over the texts to adapt one, and over the training rows to fine-tune one (Devlin et al. 2019: 2
            to 4).
    """

    spec: Spec
    tokenizer: Any
    task: Task
    texts: Sequence[str]
    seed: int = 0
    head: Path | None = None
    max_length: int = 128
    updates: int = 500
    epochs: float = 3
    _tuned: dict[str, Encoder] = field(default_factory=dict, init=False, repr=False, compare=False)

    def language(self) -> Encoder:
        """The pretrained encoder; one from scratch after filling random gaps in the texts."""
        return deepcopy(self._language)

    def adapted(self) -> Encoder:
        """``language()`` after filling random gaps in the texts, at the rates of ``adapt``."""
        return deepcopy(self._adapted)

    def finetuned(self, task: Task) -> Encoder:
        """``language()`` after learning the training rows of a task; its dev rows steer nothing."""
        rows = _training_rows(task)
        if rows.fingerprint not in self._tuned:
            stage = self.stage("finetune", name="models-finetune", epochs=self.epochs, patience=None)
            self._tuned[rows.fingerprint] = self._learn(self.language(), stage, rows)
        return deepcopy(self._tuned[rows.fingerprint])

    def stage(self, preset: str, **changes: Any) -> Stage:
        """A stage of a preset, with rates that suit the encoder and inputs as long as these models learn from."""
        return make_stage({"preset": preset, "max_length": self.max_length, **changes}, self.spec, preset)

    @cached_property
    def _language(self) -> Encoder:
        seed = seeds.child(self.seed, "models")
        encoder = new_encoder(self.spec, self.tokenizer, self.max_length, seed, self.head)
        if torch_device() == "cuda":
            encoder = encoder.cuda()
        if isinstance(self.spec, Pretrained):
            warm_up(encoder, self._sample)
            return encoder.eval()
        return self._learn(encoder, self.stage("adapt", name="models-language", updates=self.updates))

    @cached_property
    def _adapted(self) -> Encoder:
        whole = self.stage("adapt", name="models-adapt", epochs=self.epochs)
        updates = min(planned_updates(whole, 1, {"documents": padded_tokens(self._encoded)}), self.updates)
        return self._learn(self.language(), replace(whole, updates=updates, epochs=None))

    @cached_property
    def _sample(self) -> list[str]:
        if len(self.texts) <= _TEXTS:
            return list(self.texts)
        some = seeds.numpy_rng(self.seed, "models", "texts").choice(len(self.texts), _TEXTS, replace=False)
        return [self.texts[i] for i in np.sort(some)]

    @cached_property
    def _encoded(self) -> Encoded:
        return encode_documents(self.tokenizer, self._sample, self.max_length)

    def _learn(self, encoder: Encoder, stage: Stage, rows: Task | None = None) -> Encoder:
        """Train an encoder, in place, through a stage."""
        run_stage(
            encoder,
            stage,
            rows or _training_rows(self.task),
            documents=self._encoded if stage.masks else None,
            masker=RandomTokens(),
            seed=seeds.child(self.seed, "models", stage.name),
        )
        return encoder


def make_ready(
    masker: Masker | Fits, known: Known, *, resume: Path | None = None, watch: Watch | None = None
) -> Masker:
    """The masker itself, or what it makes of what may be known.

    Args:
        masker: One that hides, or that learns from texts first.
        known: What it may know.
        resume: Folder in which one that takes long may keep how far it is, and go on from; given to a ``fit`` that has
            an argument of this name.
        watch: Told how much is done and how much there is; likewise.
    """
    if not isinstance(masker, Fits):
        return masker
    asked = inspect.signature(masker.fit).parameters
    offered = {"resume": resume, "watch": watch}
    return masker.fit(known, **{name: given for name, given in offered.items() if given is not None and name in asked})


def compares(masker: Masker | Fits) -> bool:
    """Whether a masker wants general text to compare with: it says so in ``compares``, a constant of its class."""
    return isinstance(masker, Fits) and bool(getattr(masker, "compares", False))


def seed_of(masker: Masker | Fits, seed: int) -> int:
    """The seed of what a masker learns: 0, the same for all, unless its class says ``seeded``: it draws at random."""
    return seed if getattr(masker, "seeded", False) else 0


def background_of(corpus: Corpus, task: Task, screens: Screens | None = None) -> list[str]:
    """A random part of a corpus, screened as every selection is, that stands for general text.

    Args:
        corpus: The documents.
        task: The task with its held-out splits, which the screens alone look at.
        screens: What is left out.

    Returns:
        At most 20,000 documents, the same ones always.

    Raises:
        DataError: nothing is left.
    """
    some = RandomDocuments(max_documents=BACKGROUND)
    return select_documents(corpus, task, some, seed=0, screens=screens or Screens()).texts()


def what_is_known(
    spec: Spec,
    tokenizer: Any,
    task: Task,
    documents: Sequence[str],
    *,
    background: Sequence[str] = (),
    seed: int = 0,
    head: Path | None = None,
    max_length: int = 128,
) -> Known:
    """What a masker may know of an arm: its training rows, its documents, and encoders of its kind.

    Args:
        spec: The arm's encoder.
        tokenizer: Its tokenizer.
        task: The task, of which the training rows are taken.
        documents: What the arm reads; hidden in like the training texts.
        background: General text, for a masker that compares.
        seed: Of all chance.
        head: Folder of a warm gap-filling head, for a pretrained encoder that came without one.
        max_length: Longest input of the arm, in tokens.
    """
    texts = [*task.passages()[0], *documents]
    models = StudyModels(spec, tokenizer, task, texts, seed, head, max_length)
    return Known.of(task, texts, tokenizer, models, background=background, seed=seed)


def _training_rows(task: Task) -> Task:
    return replace(task, tables={"train": task.rows("train")})

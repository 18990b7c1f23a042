"""What a masker is, and what one may know that learns from texts before it hides anything."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from trivium.core import JSON, Stage, Task
from trivium.encoders import Encoder
from trivium.kinds import Batch, Encoded
from trivium.kinds.text import tokenize
from trivium.masking.units import Units

_WINDOW = 512  # tokens; statistics do not care where a long text is cut


class Masker(Protocol):
    """Decides where. A frozen dataclass whose fields are its keys in the study file, or what ``fit`` makes of one."""

    def choose(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Return bool ``[texts, length]``, true where a token is to be predicted; a subset of ``batch.maskable``."""
        ...


class Models(Protocol):
    """Encoders of the kind that will be trained, for maskers that ask one; each is made when it is first asked for."""

    def language(self) -> Encoder:
        """One that knows the language: the pretrained one, or, from scratch, one that filled random gaps first."""
        ...

    def adapted(self) -> Encoder:
        """The same after filling random gaps in the texts that will be hidden in."""
        ...

    def finetuned(self, task: Task) -> Encoder:
        """The same after learning the training rows of a task; it has a head for it."""
        ...

    def stage(self, preset: str, **changes: Any) -> Stage:
        """A stage with rates that suit these encoders, for those who learn by training them."""
        ...


@dataclass(frozen=True)
class Known:
    """What a masker may know before it hides anything: never a row of dev or test.

    Attributes:
        task: The task, with training rows alone.
        texts: What will be hidden in.
        tokenizer: How they are cut into tokens.
        models: Encoders to ask.
        background: General text to compare with; empty where the study has no corpus.
        seed: Of all chance.
    """

    task: Task
    texts: Sequence[str]
    tokenizer: Any
    models: Models
    background: Sequence[str] = ()
    seed: int = 0

    @classmethod
    def of(cls, task: Task, texts: Sequence[str], tokenizer: Any, models: Models, **more: Any) -> Self:
        """The same, of a task whatever its splits: dev and test are taken off it."""
        return cls(replace(task, tables={"train": task.rows("train")}), texts, tokenizer, models, **more)

    @cached_property
    def encoded(self) -> Encoded:
        """The texts, tokenised whole, in windows where they are long."""
        return tokenize(self.tokenizer, self.texts, _WINDOW, windows=True)

    @cached_property
    def encoded_background(self) -> Encoded:
        """The general text likewise."""
        return tokenize(self.tokenizer, self.background, _WINDOW, windows=True)


@runtime_checkable
class Fits(Protocol):
    """A masker that learns from texts first. A frozen dataclass whose fields are its keys in the study file."""

    def fit(self, known: Known) -> Masker:
        """The masker, ready to choose.

        Raises:
            ConfigError: it needs what the study has not, such as a corpus.
        """
        ...


class Scorer(Protocol):
    """Says how much each unit of a text is worth hiding. The same text gets the same scores, whatever its batch."""

    def scores(self, batch: Batch, units: Units) -> Tensor:
        """Logarithms of weights, float32 ``[texts, width]``."""
        ...

    def save(self, folder: Path) -> JSON:
        """Write what is large into the folder; return the rest."""
        ...

    @classmethod
    def load(cls, folder: Path, about: JSON) -> Self:
        """Read what ``save`` wrote and returned."""
        ...


@runtime_checkable
class Groups(Protocol):
    """A scorer that also says which units are hidden together, such as those of a name."""

    def groups(self, batch: Batch, units: Units) -> Tensor:
        """Which group each unit is part of, int64 ``[texts, width]``, from 0 and below ``width``."""
        ...

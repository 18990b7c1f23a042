"""What a way to choose auxiliary tasks is, what it may ask, and what it says."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

import numpy as np

from trivium.core import COUNT, FROM_ZERO, JSON, LENGTH, PASSES, Floats, Ints, Stage, Task, demand
from trivium.encoders import Encoder
from trivium.errors import ConfigError
from trivium.training.recipes import Spec, make_stage

if TYPE_CHECKING:
    from trivium.auxiliary.importance import Estimator, Importance


Beside = Mapping[str, Ints | None]  # candidates by name, and which of their training rows; none: all of them


@dataclass(frozen=True)
class Rating:
    """How much a candidate promises.

    Attributes:
        name: Of the candidate.
        score: The more the better; what it means is the selector's business.
        low: Lower end of an interval of 95 %; nan where none is known.
        high: Upper end.
    """

    name: str
    score: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Trial:
    """What came of learning a task beside some others, judged by training rows that were kept back.

    Attributes:
        rows: Training rows of each of the others, by name; none: the task alone.
        values: The task's metric, seed by seed.
        losses: Mean loss of a kept row, seed by seed.
        seconds: How long it took, all seeds.
        updates: Updates of each seed.
        counts: What each kept row adds to the sums that metrics are functions of, ``[seeds, rows, counts]``.
    """

    rows: Mapping[str, int]
    values: tuple[float, ...]
    losses: tuple[float, ...]
    seconds: float
    updates: int
    counts: Floats = field(repr=False, compare=False)

    @property
    def value(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.values))


@dataclass(frozen=True)
class Effort:
    """How much is spent on what a bank is asked.

    Attributes:
        seeds: Trainings that every answer is averaged over.
        epochs: Passes over a task that is learned alone.
        trial_epochs: Passes over the task in a trial.
        rows: Most training rows of a task that are looked at one by one; none: all.
        kept: Share of the task's training texts whose rows judge trials, and are not learned from.
        kept_rows: Most of these rows.
        max_length: Longest input in tokens.
        sampling: How turns are shared where several tasks are learned, as in a stage.
        auxiliary_cap: Rows of a candidate that count as its size there, as in a stage.
        lr: Learning rate of these trainings; none: what suits the encoder, as in the presets of stages.
        batch_rows: Rows in a batch of theirs; none: what suits the encoder too.
        freeze: The lowest so many layers, and the embeddings, stay as they are in them.
    """

    seeds: int = 3
    epochs: float = 3
    trial_epochs: float = 3
    rows: int | None = 2000
    kept: float = 0.2
    kept_rows: int = 1000
    max_length: int = 128
    sampling: Literal["proportional", "temperature", "uniform"] = "proportional"
    auxiliary_cap: int | None = None
    lr: float | None = None
    batch_rows: int | None = None
    freeze: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        ranges = {
            COUNT: ("seeds", "rows", "kept_rows", "auxiliary_cap", "batch_rows"),
            LENGTH: ("max_length",),
            PASSES: ("epochs", "trial_epochs"),
            FROM_ZERO: ("lr", "freeze"),
        }
        demand(self, "", ranges)
        if not 0 < self.kept < 1:
            raise ConfigError(f"kept: expected a share between 0 and 1, found {self.kept}.")

    def stage(self, spec: Spec, preset: str, **changes: Any) -> Stage:
        """A stage of its trainings: rates suit the encoder where none are given, and no dev rows steer it."""
        keys = {"max_length": self.max_length, "freeze": self.freeze, "patience": None, "keep_best": False}
        given = {name: value for name in ("lr", "batch_rows") if (value := getattr(self, name)) is not None}
        return make_stage({"preset": preset, **keys, **given, **changes}, spec, preset)

    def multitask(self, spec: Spec) -> Stage:
        """The stage of a trial."""
        return self.stage(
            spec,
            "multitask",
            epochs=self.trial_epochs,
            sampling=self.sampling,
            auxiliary_cap=self.auxiliary_cap,
        )


class Bank(Protocol):
    """What may be asked about a task and its candidates; each answer is worked out once and kept.

    Nothing of the study's dev or test splits is in it. ``task`` has two splits, both made of training rows: ``train``
    to learn from, and ``dev``, rows that were kept back to judge by. Candidates have training rows alone.

    Attributes:
        task: The task.
        candidates: Tasks that could be learned beside it.
        seed: Of chance that is not that of trainings.
        seeds: Of the trainings that answers are averaged over.
    """

    task: Task
    candidates: tuple[Task, ...]
    seed: int
    seeds: tuple[int, ...]

    def language(self, seed: int) -> Encoder:
        """Where every training starts: the pretrained encoder; one from scratch after filling gaps. A copy."""
        ...

    def finetuned(self, task: Task, seed: int) -> Encoder:
        """The same after learning the training rows of one task alone; it has a head for it. A copy."""
        ...

    def joint(self, seed: int) -> Encoder:
        """The same after learning the task and all candidates beside each other; it has a head for each. A copy."""
        ...

    def stage(self, preset: str, **changes: Any) -> Stage:
        """A stage with rates that suit the encoder, and the lengths and batches that trainings here have."""
        ...

    def sample(self, task: Task) -> Task:
        """The task with as many of its training rows as may be looked at, drawn once."""
        ...

    def importance(self, tasks: Sequence[Task], estimator: "Estimator") -> "dict[str, list[Importance]]":
        """How much each head matters to each row of ``sample`` of each task, by name: one for each seed."""
        ...

    def trials(self, sets: Sequence[Beside]) -> list[Trial]:
        """Learn the task beside each of some sets of candidates; independent trainings run side by side."""
        ...


class AuxiliarySelector(Protocol):
    """Decides what to learn beside a task. A frozen dataclass whose fields are its keys in the study file.

    One that subclasses ``Effort`` has keys that say how much may be spent on the bank's answers. A constant ``seeded``
    of its class, true or false, says whether every seed of a study chooses for itself or all share one choice.
    """

    def choose(self, bank: Bank) -> "Choice":
        """What to learn beside the task of a bank, of its candidates.

        Raises:
            ConfigError: a key does not suit the candidates.
        """
        ...


@dataclass(frozen=True)
class Choice(Sequence[Task]):
    """What to learn beside a task: a sequence of tasks, each with the rows that were chosen.

    Attributes:
        tasks: The chosen tasks, best first, with the training rows that are to be learned.
        ratings: Every candidate, best first.
        rows: Of a chosen task whose rows were chosen too: which of its training rows, in order, int64.
        row_scores: What all its training rows were chosen by.
        trials: All that was tried for it, in order.
        how: Settings, fingerprints, counts and cost, as JSON.
    """

    tasks: tuple[Task, ...]
    ratings: tuple[Rating, ...]
    rows: Mapping[str, Ints] = field(default_factory=dict)
    row_scores: Mapping[str, Floats] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    how: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the chosen tasks, best first."""
        return tuple(task.name for task in self.tasks)

    def __len__(self) -> int:
        """How many tasks were chosen; none is a legal answer."""
        return len(self.tasks)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | Sequence[Task]:
        """A chosen task, or several."""
        return self.tasks[index]

    def __iter__(self) -> Iterator[Task]:
        """The chosen tasks, best first."""
        return iter(self.tasks)

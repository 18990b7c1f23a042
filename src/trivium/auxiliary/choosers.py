"""From ratings to a choice: a threshold, the best few, or trials; and, if asked, the best rows of what was chosen."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from trivium import seeds
from trivium.auxiliary.protocol import Bank, Choice, Effort, Rating, Trial
from trivium.core import COUNT, FINITE, Floats, Ints, Task, demand
from trivium.errors import ConfigError

Decide = Literal["trial", "threshold", "top"]


@dataclass(frozen=True)
class Chooser(Effort, ABC):
    """Chooses auxiliary tasks. A frozen dataclass whose fields are its keys in the study file; one method ranks.

    Attributes:
        decide: ``threshold``: all that are rated at least ``threshold``. ``top``: the best ``top``. ``trial``: the best
            k are tried for k = 0, 1, 2, …, and the prefix that does best on rows kept back is taken; none is a legal
            answer.
        threshold: See ``decide``.
        top: See ``decide``.
        patience: Trials in a row that may do worse than the best before there are no more; none tries all prefixes.
    """

    seeded: ClassVar[bool] = False

    decide: Decide = "trial"
    threshold: float = 0.0
    top: int = 2
    patience: int | None = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        super().__post_init__()
        demand(self, "", {COUNT: ("top", "patience"), FINITE: ("threshold",)})

    @abstractmethod
    def rank(self, bank: Bank) -> list[Rating]:
        """Rate every candidate, in their order."""

    def choose(self, bank: Bank) -> Choice:
        """What to learn beside the task."""
        ratings = tuple(sorted(self.rank(bank), key=lambda one: -one.score))
        names, trials = self._decided(bank, ratings)
        candidates = {task.name: task for task in bank.candidates}
        return Choice(tuple(candidates[name] for name in names), ratings, trials=tuple(trials))

    def _decided(self, bank: Bank, ratings: Sequence[Rating]) -> tuple[list[str], list[Trial]]:
        names = [one.name for one in ratings]
        if self.decide == "threshold":
            return [one.name for one in ratings if one.score >= self.threshold], []
        if self.decide == "top":
            return names[: self.top], []
        trials = prefixes(bank, names, self.patience)
        best = max(range(len(trials)), key=lambda k: trials[k].value)  # of equals the shortest
        return names[:best], trials


def prefixes(bank: Bank, names: Sequence[str], patience: int | None) -> list[Trial]:
    """Try the first few of a ranking: none, one, two, and so on.

    Args:
        bank: Tries.
        names: Candidates, best first.
        patience: So many in a row worse than the best so far end it; none: never.
    """
    if patience is None:
        return bank.trials([dict.fromkeys(names[:k]) for k in range(len(names) + 1)])
    found: list[Trial] = []
    best = 0
    while len(found) <= len(names) and len(found) - best <= patience:
        found += bank.trials([dict.fromkeys(names[: len(found)])])
        if found[-1].value > found[best].value:
            best = len(found) - 1
    return found


@dataclass(frozen=True)
class RowChooser(Chooser):
    """Chooses rows of the chosen tasks, too.

    Attributes:
        keep: Share of a chosen task's rows to keep; none keeps those that score at least ``row_threshold``. Of several
            shares the one that does best in a trial is taken, the same for all tasks.
        row_threshold: See ``keep``.
        which: The ``highest``; or, to compare with, as many at ``random``, or the ``lowest``.
    """

    keep: float | tuple[float, ...] | None = 0.5
    row_threshold: float = 0.0
    which: Literal["highest", "random", "lowest"] = "highest"

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        super().__post_init__()
        shares = self.keep if isinstance(self.keep, tuple) else (self.keep,) if self.keep is not None else ()
        if any(not 0 < share <= 1 for share in shares) or self.keep == ():
            raise ConfigError(f"keep: expected shares above 0 and up to 1, found {self.keep}.")
        demand(self, "", {FINITE: ("row_threshold",)})

    @abstractmethod
    def rate_rows(self, bank: Bank, candidate: Task) -> Floats:
        """How much each training row of a candidate promises, ``[rows]``."""

    def choose(self, bank: Bank) -> Choice:
        """What to learn beside the task, and which rows of it."""
        whole = super().choose(bank)
        scores = {task.name: self.rate_rows(bank, task) for task in whole.tasks}
        options = [self._rows(bank, scores, share) for share in self._shares] if scores else [{}]
        trials = bank.trials(options) if len(options) > 1 else []
        rows = options[max(range(len(trials)), key=lambda i: trials[i].value)] if trials else options[0]
        tasks = tuple(
            replace(task, tables={"train": task.rows("train").take(rows[task.name])})
            for task in whole.tasks
            if len(rows[task.name])
        )
        return replace(whole, tasks=tasks, rows=rows, row_scores=scores, trials=(*whole.trials, *trials))

    @property
    def _shares(self) -> tuple[float | None, ...]:
        return self.keep if isinstance(self.keep, tuple) else (self.keep,)

    def _rows(self, bank: Bank, scores: Mapping[str, Floats], share: float | None) -> dict[str, Ints]:
        """The rows to keep of each task, in order."""
        kept = {}
        for name, each in scores.items():
            many = int((each >= self.row_threshold).sum()) if share is None else max(1, round(share * len(each)))
            order = np.argsort(-each, kind="stable")
            if self.which == "lowest":
                order = order[::-1]
            elif self.which == "random":
                order = seeds.numpy_rng(bank.seed, "rows", name).permutation(len(each))
            kept[name] = np.sort(order[:many]).astype(np.int64)
        return kept

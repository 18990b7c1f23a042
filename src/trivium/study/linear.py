"""The linear model beside every study: what an encoder must beat to be worth its while.

Each kind of task has one of its own, fitted on train, its few settings chosen on dev by the task's metric: TF-IDF with
logistic or ridge regression (``linear_texts``), words and their neighbours for tags (``linear_tags``), what a choice
and its question share for multiple choice (``linear_choices``). A span in a context is nothing that a linear model of
words could point at; such studies run without. To add one: a function ``fit`` and a line in ``LINEAR_MODELS``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trivium.core import Split, Task
from trivium.data import count_words
from trivium.kinds import kind_of
from trivium.kinds.kind import Rows
from trivium.study import linear_choices, linear_tags, linear_texts

_WORK = 100_000_000  # words times labels, beyond which each setting takes minutes

Settings = Mapping[str, Any]
Answer = Callable[[Task, Split], tuple[Rows, Rows]]


@dataclass(frozen=True)
class Family:
    """The linear models that are tried for one kind of task.

    Attributes:
        grid: The settings that are tried.
        few: Those that are tried of a task that is very large.
        fit: Fits the training rows with some settings. What it returns answers the rows of a split: what it says of
            each and how sure it is, in the forms in which the kind's ``read`` and ``decode`` give them.
    """

    grid: tuple[Settings, ...]
    few: tuple[Settings, ...]
    fit: Callable[[Task, Settings], Answer]

    def tried(self, task: Task) -> tuple[Settings, ...]:
        """The settings that are tried of a task: few, if the words of its training rows times its labels are many."""
        words = sum(map(count_words, task.texts("train")))
        return self.few if words * len(task.labels) > _WORK else self.grid


LINEAR_MODELS: Mapping[str, Family] = {
    "classify": Family(linear_texts.LOGISTIC, linear_texts.LOGISTIC_FEW, linear_texts.fit_label),
    "multilabel": Family(linear_texts.LOGISTIC, linear_texts.LOGISTIC_FEW, linear_texts.fit_labels),
    "regress": Family(linear_texts.RIDGE, linear_texts.RIDGE, linear_texts.fit_number),
    "rank": Family(linear_choices.GRID, linear_choices.GRID, linear_choices.fit),
    "tag": Family(linear_tags.GRID, linear_tags.GRID, linear_tags.fit),
}


class Linear:
    """Fitted on train, its settings chosen on dev by the task's metric; of equals, the first of the grid.

    Attributes:
        settings: What was chosen.
        dev: The metric on dev with it.
    """

    def __init__(self, task: Task) -> None:
        task = task.sealed()
        family, kind = LINEAR_MODELS[task.kind], kind_of(task)
        gold, tried = kind.gold(task.rows("dev"), task.labels), family.tried(task)
        self.dev, self.settings = -np.inf, tried[0]
        self._answer: Answer
        for settings in tried:
            answer = family.fit(task, settings)
            counts = kind.counts(gold, answer(task, "dev")[0], task.labels).sum(0)
            value = float(kind.metrics[task.metric](counts))
            if value > self.dev:
                self.dev, self.settings, self._answer = value, settings, answer

    def answers(self, task: Task, split: Split) -> tuple[Rows, Rows]:
        """What it says of each row of a split, and how sure it is."""
        return self._answer(task, split)

"""TF-IDF with logistic regression: what an encoder must beat to be worth its while."""

from typing import Any

import numpy as np
import numpy.typing as npt

from trivium.core import Task
from trivium.kinds import kind_of

WORD = r"(?u)\b\w+\b"  # single letters too, unlike scikit-learn's default
GRID: tuple[dict[str, Any], ...] = tuple(
    {"ngrams": ngrams, "strength": strength, "balanced": balanced}
    for ngrams in (1, 2)
    for strength in (1.0, 10.0, 100.0)
    for balanced in (False, True)
)


class Linear:
    """Fitted on train, its settings chosen on dev by the task's metric; of equals, the first in ``GRID``.

    Attributes:
        settings: What was chosen: longest word n-gram, inverse regularisation, whether labels weigh alike.
        dev: The metric on dev with it.
    """

    def __init__(self, task: Task) -> None:
        task = task.sealed()
        kind = kind_of(task)
        gold = task.rows("dev")["label"].to_numpy()
        best = -np.inf
        for settings in GRID:
            pipeline = _fit(task, settings)
            counts = kind.counts(gold, pipeline.predict(task.texts("dev")), len(task.labels)).sum(0)
            value = float(kind.metrics[task.metric](counts))
            if value > best:
                best, self.settings, self._pipeline = value, settings, pipeline
        self.dev = best
        self._labels = len(task.labels)

    def answers(self, texts: list[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The label of each text ``[texts]``, and the probability of every label ``[texts, labels]``."""
        known = self._pipeline.predict_proba(texts)
        probabilities = np.zeros((len(texts), self._labels), np.float32)
        probabilities[:, self._pipeline.classes_] = known  # a label that train never shows keeps probability 0
        return self._pipeline.predict(texts).astype(np.int64), probabilities


def _fit(task: Task, settings: dict[str, Any]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, settings["ngrams"]), sublinear_tf=True, token_pattern=WORD),
        LogisticRegression(
            C=settings["strength"], class_weight="balanced" if settings["balanced"] else None, max_iter=1000
        ),
    )
    return pipeline.fit(task.texts("train"), task.rows("train")["label"].to_numpy())

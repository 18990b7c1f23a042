"""Linear models of a whole text: its label, its labels, or its number, from TF-IDF.

Of a pair, the text is both of its texts together.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trivium.core import Split, Task
from trivium.kinds import kind_of
from trivium.kinds.kind import Rows

WORD = r"(?u)\b\w+\b"  # single letters too, unlike scikit-learn's default
_WEIGHTS = 8_000_000  # of a model; while it is fitted, its solver holds 25 numbers for each
LOGISTIC: tuple[Mapping[str, Any], ...] = tuple(
    {"ngrams": ngrams, "strength": strength, "balanced": balanced}
    for ngrams in (1, 2)
    for strength in (1.0, 10.0, 100.0)
    for balanced in (False, True)
)
LOGISTIC_FEW = tuple(one for one in LOGISTIC if one["ngrams"] == 1 and one["strength"] == 10.0)
RIDGE: tuple[Mapping[str, Any], ...] = tuple(
    {"ngrams": ngrams, "alpha": alpha} for ngrams in (1, 2) for alpha in (0.1, 1.0, 10.0)
)


def fit_label(task: Task, settings: Mapping[str, Any]) -> Callable[[Task, Split], tuple[Rows, Rows]]:
    """Logistic regression of the label.

    Args:
        task: A task of kind ``classify``.
        settings: ``ngrams``, the longest in words; ``strength``, the inverse of the regularisation; ``balanced``,
            whether labels weigh alike.

    Returns:
        What answers a split: the label ``[rows]``, and the probability of each ``[rows, labels]``.
    """
    words, model = _vectorizer(settings, len(task.labels)), _logistic(settings)
    model.fit(words.fit_transform(task.texts("train")), task.rows("train")["label"].to_numpy())

    def answer(task: Task, split: Split) -> tuple[Rows, Rows]:
        found = words.transform(task.texts(split))
        probabilities = np.zeros((found.shape[0], len(task.labels)), np.float32)
        probabilities[:, model.classes_] = model.predict_proba(found)  # a label that train never shows keeps 0
        return model.predict(found).astype(np.int64), probabilities

    return answer


def fit_labels(task: Task, settings: Mapping[str, Any]) -> Callable[[Task, Split], tuple[Rows, Rows]]:
    """Logistic regression of each label for itself.

    Args:
        task: A task of kind ``multilabel``.
        settings: As for ``fit_label``.

    Returns:
        What answers a split: labels that are at least as likely as not, bool ``[rows, labels]``, and the probabilities.
    """
    words = _vectorizer(settings)
    seen, gold = words.fit_transform(task.texts("train")), kind_of(task).gold(task.rows("train"), task.labels)
    share = gold.mean(0, dtype=np.float32)
    models = {i: _logistic(settings).fit(seen, gold[:, i]) for i in np.flatnonzero((share > 0) & (share < 1))}

    def answer(task: Task, split: Split) -> tuple[Rows, Rows]:
        found = words.transform(task.texts(split))
        probabilities = np.tile(share, (found.shape[0], 1))  # 0 or 1 for a label that train has never or always
        for i, model in models.items():
            probabilities[:, i] = model.predict_proba(found)[:, 1]
        return probabilities >= 0.5, probabilities

    return answer


def fit_number(task: Task, settings: Mapping[str, Any]) -> Callable[[Task, Split], tuple[Rows, Rows]]:
    """Ridge regression of the number.

    Args:
        task: A task of kind ``regress``.
        settings: ``ngrams``, the longest in words; ``alpha``, the regularisation.

    Returns:
        What answers a split: the number ``[rows]``, and no probabilities ``[rows, 0]``.
    """
    from sklearn.linear_model import Ridge

    words, model = _vectorizer(settings), Ridge(alpha=settings["alpha"])
    model.fit(words.fit_transform(task.texts("train")), task.rows("train")["label"].to_numpy())

    def answer(task: Task, split: Split) -> tuple[Rows, Rows]:
        said = model.predict(words.transform(task.texts(split)))
        return said, np.zeros((len(said), 0), np.float32)

    return answer


def _vectorizer(settings: Mapping[str, Any], labels: int = 1) -> Any:
    """Words and their neighbours: the most frequent, where a weight of each for each label would be too many."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    ngrams, most = (1, settings["ngrams"]), max(1, _WEIGHTS // labels)
    return TfidfVectorizer(ngram_range=ngrams, sublinear_tf=True, token_pattern=WORD, max_features=most)


def _logistic(settings: Mapping[str, Any]) -> Any:
    from sklearn.linear_model import LogisticRegression

    weight = "balanced" if settings["balanced"] else None
    return LogisticRegression(C=settings["strength"], class_weight=weight, max_iter=1000)

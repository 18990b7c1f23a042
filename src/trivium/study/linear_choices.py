"""A linear model of multiple choice: what a choice shares with its question, and perhaps which words it has.

The words of the choices alone often give the right one away (Schwartz et al. 2017; Gururangan et al. 2018), so a model
that only sees these is a part of what an encoder has to beat.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from trivium.core import Split, Task
from trivium.kinds.kind import Rows
from trivium.study.linear_texts import WORD

GRID: tuple[Mapping[str, Any], ...] = tuple(
    {"words": words, "strength": strength} for words in (False, True) for strength in (1.0, 10.0, 100.0)
)


def fit(task: Task, settings: Mapping[str, Any]) -> Callable[[Task, Split], tuple[Rows, Rows]]:
    """Fit a logistic regression of whether a choice is right; the likeliest of a row's choices answers it.

    Args:
        task: A task of kind ``rank``.
        settings: ``words``, whether the words of a choice count beside what it shares with its question; ``strength``,
            the inverse of the regularisation.

    Returns:
        What answers a split: choices from the likeliest to the least, and the probability of each, lists of
        ``[choices]``.
    """
    from sklearn.linear_model import LogisticRegression

    rows = task.rows("train")
    features = _Features(rows, words=settings["words"])
    labels = rows["label"].to_pylist()
    right = np.concatenate([np.arange(many) == label for many, label in zip(_widths(rows), labels, strict=True)])
    model = LogisticRegression(C=settings["strength"], max_iter=1000).fit(features.of(rows), right)

    def answer(task: Task, split: Split) -> tuple[Rows, Rows]:
        rows = task.rows(split)
        scores = np.split(model.decision_function(features.of(rows)), np.cumsum(_widths(rows))[:-1])
        return [np.argsort(-each, kind="stable") for each in scores], [_softmax(each) for each in scores]

    return answer


def _widths(rows: pa.Table) -> list[int]:
    return [len(choices) for choices in rows["choices"].to_pylist()]


def _softmax(scores: Any) -> Any:
    chances = np.exp(scores - scores.max())
    return (chances / chances.sum()).astype(np.float32)


class _Features:
    """What is known of a choice: TF-IDF cosines with the question, of words and of letters, its length, its words."""

    def __init__(self, rows: pa.Table, *, words: bool) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = [*rows["text"].to_pylist(), *_flat(rows)]
        self.spaces = [
            TfidfVectorizer(sublinear_tf=True, token_pattern=WORD).fit(texts),
            TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(3, 5)).fit(texts),
        ]
        self.words = words

    def of(self, rows: pa.Table) -> Any:
        """For every choice of every row, sparse ``[choices, columns]``; of the dense ones, the mean of a row is 0."""
        from scipy import sparse

        widths = _widths(rows)
        owners = np.repeat(np.arange(len(widths)), widths)
        questions = [space.transform(rows["text"].to_pylist())[owners] for space in self.spaces]
        choices = [space.transform(_flat(rows)) for space in self.spaces]
        shared = [np.asarray(a.multiply(b).sum(1)).ravel() for a, b in zip(questions, choices, strict=True)]
        dense = np.column_stack([*shared, np.log1p([len(choice.split()) for choice in _flat(rows)])])
        begins = np.asarray(np.cumsum(widths) - widths, np.int64)
        means = np.add.reduceat(dense, begins, axis=0) / np.asarray(widths)[:, None]
        found = sparse.csr_matrix(dense - means[owners])
        return sparse.hstack([found, choices[0]], format="csr") if self.words else found


def _flat(rows: pa.Table) -> Sequence[str]:
    return [choice for choices in rows["choices"].to_pylist() for choice in choices]

"""Metrics as functions of sums, so that a bootstrap can weigh rows without looking at them again.

A prediction leaves a row of *counts* behind: for classification, one-hot true positives, false positives and false
negatives of every label. Counts add up over rows, and every metric here is a function of the sum. Resampling rows is
then a matrix product, and a verdict of 2,000 resamples costs less than a second.
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.float64]
Metric = Callable[[Counts], npt.NDArray[np.float64]]


def classification_counts(gold: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], labels: int) -> Counts:
    """True positives, false positives and false negatives of every label, one row per example.

    Args:
        gold: Label indices, ``[rows]``.
        predicted: Label indices, ``[rows]``.
        labels: How many labels there are.

    Returns:
        ``[rows, 3 * labels]``: the three blocks side by side.

    >>> classification_counts(np.array([0, 1]), np.array([0, 0]), 2).astype(int).tolist()
    [[1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 1]]
    """
    one_hot = np.eye(labels)
    truth, said = one_hot[gold], one_hot[predicted]
    return np.concatenate([truth * said, said * (1 - truth), truth * (1 - said)], axis=1)


def _blocks(counts: Counts) -> tuple[Counts, Counts, Counts]:
    tp, fp, fn = np.split(np.asarray(counts, np.float64), 3, axis=-1)
    return tp, fp, fn


def _ratio(above: Counts, below: Counts) -> Counts:
    """0 where nothing could be counted, as scikit-learn's ``zero_division=0``."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def f1_per_label(counts: Counts) -> npt.NDArray[np.float64]:
    """F1 of every label: counts ``[..., 3 * labels]`` to ``[..., labels]``."""
    tp, fp, fn = _blocks(counts)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def accuracy(counts: Counts) -> npt.NDArray[np.float64]:
    """Share of rows that are right; for single-label classification also the micro-averaged F1."""
    tp, _, fn = _blocks(counts)
    return _ratio(tp.sum(-1), (tp + fn).sum(-1))


def macro_f1(counts: Counts) -> npt.NDArray[np.float64]:
    """Mean F1 over the labels that occur in the truth or in the predictions (scikit-learn's ``average="macro"``)."""
    tp, fp, fn = _blocks(counts)
    present = (tp + fp + fn) > 0
    return _ratio((f1_per_label(counts) * present).sum(-1), present.sum(-1).astype(np.float64))


def weighted_f1(counts: Counts) -> npt.NDArray[np.float64]:
    """F1 of each label weighted by how often it is the truth (scikit-learn's ``average="weighted"``)."""
    tp, _, fn = _blocks(counts)
    support = tp + fn
    return _ratio((f1_per_label(counts) * support).sum(-1), support.sum(-1))


def mcc(counts: Counts) -> npt.NDArray[np.float64]:
    """Matthews correlation, the multi-class form R_K (Gorodkin 2004); 0 where it is undefined."""
    tp, fp, fn = _blocks(counts)
    said, truth = tp + fp, tp + fn
    rows = truth.sum(-1)
    covariance = tp.sum(-1) * rows - (said * truth).sum(-1)
    spread = np.sqrt((rows**2 - (said**2).sum(-1)) * (rows**2 - (truth**2).sum(-1)))
    return _ratio(covariance, spread)


CLASSIFICATION: Mapping[str, Metric] = {
    "macro_f1": macro_f1,
    "micro_f1": accuracy,
    "accuracy": accuracy,
    "weighted_f1": weighted_f1,
    "mcc": mcc,
}

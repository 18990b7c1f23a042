"""Calibration: of the answers that a model gives with 80 % confidence, are 80 % right?

What counts as an answer differs by kind: a label for each row, whether each of several labels holds, the best choice,
the tag of each word, a span where one was given. A number comes without a confidence. Recalibrating is out of scope.
"""

import math
from typing import Any

import numpy as np

from trivium.core import JSON, Floats, Score
from trivium.kinds.squad import exact_match

BINS = 10


def confidences(kind: str, found: Score) -> tuple[Floats, Floats]:
    """How sure each answer is, and whether it is right, both float64 ``[answers]``; none for numbers.

    Args:
        kind: The task's kind.
        found: The answers. Words that were not read, and questions that got no answer, are left out.
    """
    gold, said, sure = found.gold, found.predicted, found.probabilities
    if kind == "classify":
        return np.max(sure, axis=1).astype(np.float64), (said == gold).astype(np.float64)
    if kind == "multilabel":
        likely = np.maximum(sure, 1 - np.asarray(sure)).astype(np.float64)
        return likely.ravel(), (said == gold).astype(np.float64).ravel()
    pairs: list[tuple[float, float]] = []
    if kind == "rank":
        pairs = [(float(p[0]), float(order[0] == right)) for right, order, p in zip(gold, said, sure, strict=True)]
    if kind == "span":
        pairs = [(float(p[0]), exact_match(a, ok)) for ok, a, p in zip(gold, said, sure, strict=True) if a]
    if kind == "tag":
        rows = zip(gold, said, sure, strict=True)
        words = (each for row in rows for each in zip(*row, strict=False))  # read words may end before the row does
        pairs = [(float(p), float(tag == right)) for right, tag, p in words if right >= 0 and tag >= 0]
    both = np.asarray(pairs, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def reliability(confidence: Floats, right: Floats) -> dict[str, JSON]:
    """How often answers are right, in ten bins of equal width by how sure they are.

    Args:
        confidence: Of each answer, in [0, 1], ``[answers]``.
        right: 1 for a right answer, 0 for a wrong one, ``[answers]``.

    Returns:
        ``answers``; ``ece``, the expected calibration error, which is the mean over answers of the gap between a bin's
        mean confidence and its share of right answers; ``by_chance``, about the error that a perfectly calibrated model
        with the same confidences would show, for having no more answers than these; and ``bins``, of each its answers,
        mean confidence and share right. Empty where there are no answers.

    Source: Naeini et al. 2015, *Obtaining well calibrated probabilities using Bayesian binning*; Guo et al. 2017, *On
    calibration of modern neural networks*, section 2.

    >>> found = reliability(np.array([0.95, 0.95, 0.65, 0.65]), np.array([1.0, 1.0, 1.0, 0.0]))
    >>> found["ece"], found["bins"][6]
    (0.1, [2, 0.65, 0.5])
    """
    many = len(confidence)
    if many == 0:
        return {}
    place = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    full = np.maximum(counts, 1)
    sure = np.bincount(place, confidence, BINS) / full
    hits = np.bincount(place, right, BINS) / full
    noise = np.sqrt(2 / math.pi * np.maximum(sure * (1 - sure), 0) / full)  # mean distance of a share from its chance
    return {
        "answers": many,
        "ece": _rounded(counts @ np.abs(sure - hits) / many),
        "by_chance": _rounded(counts @ noise / many),
        "bins": [[int(n), _rounded(c), _rounded(h)] for n, c, h in zip(counts, sure, hits, strict=True)],
    }


def _rounded(value: Any) -> float:
    return round(float(value), 6)

"""How SQuAD compares answers (Rajpurkar et al. 2016; 2018 for questions without an answer), as its scripts score them.

An answer is judged after ``normalise``, by the best of the answers that are accepted. Where the script of version 2.0
differs from that of 1.1 (answers of which nothing is left), this is 2.0; on questions that have answers with words in
them the two agree.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from trivium.kinds.metrics import Counts, Metric, mean_of, of_part

_PUNCTUATION = str.maketrans("", "", string.punctuation)  # ASCII only: “ and – stay
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalise(text: str) -> str:
    """An answer without what does not count: case, ASCII punctuation, English articles, and how words are spaced.

    Punctuation goes first and leaves no gap, so ``U.S.`` is ``us`` and the article of ``the-end`` is none.

    >>> normalise("The  U.S.A., an ally")
    'usa ally'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(said: str, accepted: Sequence[str]) -> float:
    """1 if an accepted answer is the same after ``normalise``, else 0.

    Args:
        said: The answer; ``""`` says that there is none.
        accepted: The right answers, any of which will do; empty if there is none, and then an answer of which nothing
            is left after ``normalise`` is right.

    >>> exact_match("the Eiffel Tower!", ["Eiffel tower", "Tower"]), exact_match("Paris", [])
    (1.0, 0.0)
    """
    return _compare(said, accepted)[0]


def f1(said: str, accepted: Sequence[str]) -> float:
    """F1 of the bags of words of the answer and of the accepted answer that it is most like, after ``normalise``.

    Args:
        said: The answer; ``""`` says that there is none.
        accepted: As for ``exact_match``. No answer is like an empty one, except another.

    >>> round(f1("tower in Paris", ["the Eiffel Tower", "a tower of Paris"]), 3), f1("", [])
    (0.667, 1.0)
    """
    return _compare(said, accepted)[1]


def _compare(said: str, accepted: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1: of accepted answers those count of which something is left, or the empty one."""
    answer = normalise(said)
    right = [text for text in map(normalise, accepted) if text] or [""]
    if answer in right:
        return 1.0, 1.0
    words = answer.split()
    return 0.0, max(_overlap(words, text.split()) for text in right)


def _overlap(said: list[str], right: list[str]) -> float:
    shared = (Counter(said) & Counter(right)).total()
    return 2 * shared / (len(said) + len(right))  # of which at least one has a word: they differ


def span_counts(gold: Sequence[Sequence[str]], predicted: Sequence[str]) -> Counts:
    """What an answer found in a text adds up to; see ``f1`` and ``exact_match`` for how it is compared.

    Args:
        gold: The accepted answers of each row; none where the text holds no answer.
        predicted: The answer to each row, ``""`` for none.

    Returns:
        ``[rows, 6]``: exact match, F1 and 1 where there is an answer; the same where there is none. In every row one
        half is 0.

    >>> span_counts([["the Rhine"], []], ["Rhine", "Rhine"]).tolist()
    [[1.0, 1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]
    """
    counts = np.zeros((len(gold), 2, 3))
    for row, (accepted, said) in enumerate(zip(gold, predicted, strict=True)):
        counts[row, 0 if accepted else 1] = *_compare(said, accepted), 1
    return counts.reshape(len(gold), 6)


def _answerable(counts: Counts) -> Counts:
    return counts[..., :3]


def _unanswerable(counts: Counts) -> Counts:
    return counts[..., 3:]


def _both(counts: Counts) -> Counts:
    return _answerable(counts) + _unanswerable(counts)


SPAN: Mapping[str, Metric] = {
    "f1": of_part(_both, mean_of(1)),
    "exact_match": of_part(_both, mean_of(0)),
    "f1_answerable": of_part(_answerable, mean_of(1)),
    "recall_unanswerable": of_part(_unanswerable, mean_of(0)),
}

"""A linear model of tags: each word for itself, told by its letters and its neighbours.

Features are those that taggers have long used (Ratnaparkhi 1996, table 1): the word, its beginnings and endings, its
shape, and the words around it. The tags of neighbours are not among them.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trivium import seeds
from trivium.core import Split, Task
from trivium.kinds.kind import Rows

GRID: tuple[Mapping[str, Any], ...] = tuple({"alpha": alpha} for alpha in (1e-6, 1e-5))

_HASHED = 1 << 18  # columns: room for the features of tens of thousands of words
_AFFIX = 4  # letters, at most
_SHAPES = ((re.compile("[A-Z]+"), "A"), (re.compile("[a-z]+"), "a"), (re.compile("[0-9]+"), "0"))


def fit(task: Task, settings: Mapping[str, Any]) -> Callable[[Task, Split], tuple[Rows, Rows]]:
    """Fit a logistic regression of the tag of each word, by stochastic gradient descent.

    Args:
        task: A task of kind ``tag``.
        settings: ``alpha``, how much large weights cost.

    Returns:
        What answers a split: the tag of every word, and its probability, lists of ``[words]``.
    """
    from sklearn.linear_model import SGDClassifier

    rows = task.rows("train")
    model = SGDClassifier(
        loss="log_loss",
        alpha=settings["alpha"],
        max_iter=5,
        tol=None,
        average=True,
        random_state=seeds.child(0, "linear") % 2**32,
    )
    model.fit(_features(rows["tokens"].to_pylist()), np.concatenate(rows["label"].to_pylist()))

    def answer(task: Task, split: Split) -> tuple[Rows, Rows]:
        sentences = task.rows(split)["tokens"].to_pylist()
        chances = model.predict_proba(_features(sentences))
        ends = np.cumsum([len(sentence) for sentence in sentences])[:-1]
        said = model.classes_[chances.argmax(1)].astype(np.int64)
        return np.split(said, ends), np.split(chances.max(1).astype(np.float32), ends)

    return answer


def _features(sentences: Sequence[Sequence[str]]) -> Any:
    """What is known of every word, sparse ``[words, columns]``."""
    from sklearn.feature_extraction import FeatureHasher

    words = (told for sentence in sentences for told in _told(sentence))
    return FeatureHasher(_HASHED, input_type="string", alternate_sign=False).transform(words)


def _told(sentence: Sequence[str]) -> Iterator[list[str]]:
    """The features of each word of a sentence."""
    padded = ["<s>", "<s>", *(word.lower() for word in sentence), "</s>", "</s>"]
    for place, written in enumerate(sentence):
        before2, before, word, after, after2 = padded[place : place + 5]
        affixes = [f"{side}={part}" for n in range(1, _AFFIX + 1) for side, part in (("^", word[:n]), ("$", word[-n:]))]
        around = [f"-2={before2}", f"-1={before}", f"+1={after}", f"+2={after2}", f"-1+0={before} {word}"]
        yield ["bias", f"0={word}", f"shape={shape(written)}", f"0+1={word} {after}", *affixes, *around]


def shape(word: str) -> str:
    """How a word is written: capitals, small letters and digits in a row become one sign each.

    >>> shape("McDonald's"), shape("3.14"), shape("IL-2")
    ("AaAa'a", '0.0', 'A-0')
    """
    for pattern, sign in _SHAPES:
        word = pattern.sub(sign, word)
    return word

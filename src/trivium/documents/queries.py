"""What of a training text is asked: all of it, its beginning, its key phrases, or its weightiest words.

The forms are TLM's (its code asks full texts, or phrases found by RAKE) and the usual shortenings of long ones.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

Form = Literal["full", "head", "rake", "best"]

_PHRASES = 20  # TLM's code takes so many
_TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def key_phrases(text: str, most: int = _PHRASES) -> list[str]:
    """The phrases of a text that RAKE finds most telling, best first, each as often as it stands there.

    A phrase is a run of words between stop words (English ones) and signs. A word weighs its degree, how many words
    stand in phrases with it, itself included, over how often it occurs; a phrase weighs the sum of its words.

    Source: Rose, Engel, Cramer and Cowley 2010.

    >>> key_phrases("The random forest of the forest service is a forest.", most=2)
    ['random forest', 'forest service']
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    phrases: list[tuple[str, ...]] = [()]
    for token in _TOKEN.findall(text.lower()):
        if token in ENGLISH_STOP_WORDS or not (token[0].isalnum() or token[0] == "_"):
            phrases.append(())
        else:
            phrases[-1] += (token,)
    phrases = [phrase for phrase in phrases if phrase]
    degree: dict[str, int] = defaultdict(int)
    frequency: Mapping[str, int] = Counter(word for phrase in phrases for word in phrase)
    for phrase in phrases:
        for word in phrase:
            degree[word] += len(phrase)
    weights = [sum(degree[word] / frequency[word] for word in phrase) for phrase in phrases]
    order = sorted(range(len(phrases)), key=lambda i: (-weights[i], i))
    return [" ".join(phrases[i]) for i in order[:most]]


def rephrased(texts: Sequence[str], form: Form) -> list[str]:
    """The texts whose words are asked: themselves, or for ``rake`` their key phrases.

    A text in which RAKE finds no phrase, because it is all stop words, is asked in full.
    """
    if form != "rake":
        return list(texts)
    return [" ".join(key_phrases(text)) or text for text in texts]

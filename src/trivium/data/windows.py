"""Long documents, cut into windows that can be retrieved and read one by one."""

import re
from collections.abc import Iterator
from itertools import pairwise

from trivium.data.words import WORD, count_words

# What ends a sentence between two words: a stop with its closing quotes and a space, a full-width stop, a line break.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)\]]*\s+|[。！？][”’」』）]*\s*|\s*\n\s*")


def windows(text: str, window: int) -> list[str]:
    """Cut a text that has more than 1.5 · ``window`` words into windows of at most ``window``; leave others whole.

    Cuts fall between words, at the end of a sentence wherever there is one in reach: a sentence of at most ``window``
    words is never cut. Each window is a verbatim stretch of the text, and together they lose nothing but the white
    space at the cuts. The 1.5 keeps a document that is a little too long from leaving a stump.

    >>> windows("One two three. Four five. Six seven eight nine.", 5)
    ['One two three. Four five.', 'Six seven eight nine.']
    """
    if count_words(text) <= 1.5 * window:
        return [text.strip()]
    return [text[start:end].strip() for start, end in pairwise([0, *_cuts(text, window), len(text)])]


def _cuts(text: str, window: int) -> Iterator[int]:
    """Where windows end, from left to right."""
    taken = 0  # words in the open window
    rest = 0  # of these, words after the last sentence end in it
    pause: int | None = None  # where that sentence ends
    end: int | None = None  # where the last word ends
    for word in WORD.finditer(text):
        gap = "" if end is None else text[end : word.start()]
        if end is not None and gap != " " and (stop := _SENTENCE_END.search(gap)):
            pause, rest = end + stop.end(), 0
        if end is not None and taken == window:
            if pause is None:
                space = re.search(r"\s", gap)
                yield end + space.start() if space else word.start()
                taken = rest = 0
            else:
                yield pause
                taken, pause = rest, None
        taken += 1
        rest += 1
        end = word.end()

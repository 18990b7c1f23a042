"""What a word is: the one analyzer of trivium, used by retrieval, by budgets and by windows.

No stemming and no stop list: a user who looks at matched terms should see words of the documents. For tokens, the
pieces an encoder reads, ask the encoder's tokenizer.
"""

import re
import unicodedata

import xxhash

WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    r"""The words of a text, in order: its ``\w+`` runs (letters, digits, underscore), lower-cased.

    Differs from Lucene's standard analyzer, which the TLM paper used through Elasticsearch: that one follows Unicode's
    word boundaries (UAX 29), so that ``don't`` and ``3.5`` stay whole there and come apart here, and scripts without
    spaces or with combining vowel signs are cut differently. As there, nothing is stemmed and stop words are kept.
    Every sigma is the same letter, wherever in its word it stands.

    >>> words("The EGFR-mutant cells don't grow.")
    ['the', 'egfr', 'mutant', 'cells', 'don', 't', 'grow']
    """
    return [run.lower() for run in WORD.findall(text.replace("Σ", "σ").replace("ς", "σ"))]


def count_words(text: str) -> int:
    """How many words a text has: the length of what ``words`` returns, without making it."""
    return len(WORD.findall(text))


def normal(text: str) -> str:
    """The form in which two texts are called the same: compatibility characters, case, spaces and signs evened out.

    NFKC, case-folded, letters, digits and the marks that belong to letters kept. A text of signs alone, such as an
    emoticon, keeps its signs, or all of them would be the same.

    >>> normal("Ｈello,  World!") == normal("hello world")
    True
    >>> normal(":-)") == normal(":-(")
    False
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return folded.translate(_LETTERS) or "".join(folded.split())


def fingerprint64(text: str) -> int:
    """A 64-bit name for all texts with the same ``normal`` form."""
    return xxhash.xxh3_64_intdigest(normal(text).encode())


class _Letters(dict[int, int | None]):
    """For ``str.translate``: letters, marks and numbers stay. Filled as characters turn up."""

    def __missing__(self, code: int) -> int | None:
        kept = code if unicodedata.category(chr(code))[0] in "LMN" else None
        self[code] = kept
        return kept


_LETTERS = _Letters()

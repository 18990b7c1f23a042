"""The words that hiding is looked at with: some training texts as a reader sees them, and what each word is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trivium import seeds
from trivium.core import Ints
from trivium.errors import ConfigError
from trivium.kinds import Encoded
from trivium.kinds.text import tokenize
from trivium.masking.linguistic import is_punctuation, load_pipeline
from trivium.masking.words import Occurrences

TEXTS = 400
SHOWN = 6
_SHORT = (6, 40)  # words of a text that is pleasant to look at
COARSE = "stop words, digits and signs"
_TAGS = {
    "NOUN": "noun", "PROPN": "proper noun", "VERB": "verb", "ADJ": "adjective", "ADV": "adverb", "NUM": "number",
    "ADP": "preposition", "AUX": "auxiliary verb", "CCONJ": "conjunction", "SCONJ": "subordinator", "DET": "determiner",
    "INTJ": "interjection", "PART": "particle", "PRON": "pronoun", "PUNCT": "punctuation", "SYM": "symbol",
    "SPACE": "space",
}  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """Some texts, those to be shown first, and their words in order.

    Attributes:
        encoded: The texts as tokens.
        pad_id: What pads them.
        shown: How many of them, from the first, are to be shown.
        texts: Which text each word is in, int64 ``[words]``.
        begins: Its first token, an index into the tokens of the texts, int64 ``[words]``.
        ends: The token after its last, likewise.
        before: What stands between it and the word before it.
        written: How it is written.
        classes: What it is.
        classes_by: Who says so: a spaCy pipeline, or ``COARSE``.
        entities: What it names; empty where nobody says so.
    """

    encoded: Encoded
    pad_id: int
    shown: int
    texts: Ints
    begins: Ints
    ends: Ints
    before: tuple[str, ...]
    written: tuple[str, ...]
    classes: tuple[str, ...]
    classes_by: str
    entities: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, tokenizer: Any, texts: Sequence[str], *, seed: int = 0, length: int = 128, pipeline: str | None = None
    ) -> "Sample":
        """A sample of some texts, of each its beginning.

        Args:
            tokenizer: A fast transformers tokenizer.
            texts: Where it is drawn from.
            seed: Of the draw.
            length: Longest input in tokens, special tokens included.
            pipeline: The spaCy pipeline that says what words are; none: classes that need no model.
        """
        encoded, places, chosen = _tokens(tokenizer, _drawn(texts, seed), length)
        found = Occurrences.of(encoded)
        before, written, end, last = [], [], 0, -1
        for text, first, past in zip(found.texts, places[found.begins, 0], places[found.ends - 1, 1], strict=True):
            end = end if text == last else 0
            word = chosen[text][first:past]
            before.append(chosen[text][end:first] + word[: len(word) - len(word.lstrip())])
            written.append(word.strip())
            end, last = past, text
        shown = min(SHOWN, len(np.unique(found.texts)))
        classes, by, entities = _classes(written, found.texts, pipeline)
        return cls(
            encoded, tokenizer.pad_token_id, shown, found.texts, found.begins, found.ends,
            tuple(before), tuple(written), classes, by, entities,
        )  # fmt: skip

    @property
    def pieces(self) -> Ints:
        """Tokens of each word, int64 ``[words]``."""
        return self.ends - self.begins

    def bands(self) -> tuple[list[str], Ints, Mapping[str, list[str]]]:
        """Bands of frequency that hold a quarter of the words each, as nearly as words of one frequency allow.

        Returns:
            Names of the bands, the rarest first; the band of each word, int64 ``[words]``; and of each band some of its
            words.
        """
        folded = [word.casefold() for word in self.written]
        counts = Counter(folded)
        times = np.array([counts[word] for word in folded])
        edges = np.quantile(np.log(times), (0.25, 0.5, 0.75)) if len(times) else np.zeros(3)
        band = np.searchsorted(edges, np.log(times) - 1e-9, side="right")
        names: list[str] = []
        places, examples = np.zeros(len(times), np.int64), {}
        for old in np.unique(band):
            inside = times[band == old]
            low, high = int(inside.min()), int(inside.max())
            name = f"{low:,} to {high:,} times" if low < high else "once" if low == 1 else f"{low:,} times"
            places[band == old] = len(names)
            members = Counter(word for word, of in zip(folded, band, strict=True) if of == old and word)
            names.append(name)
            examples[name] = [word for word, _ in members.most_common(4)]
        return names, places, examples


def installed_pipeline() -> str | None:
    """An English spaCy pipeline that is installed, the smallest usual one if there is a choice."""
    try:
        from spacy.util import get_installed_models
    except ImportError:
        return None
    found = sorted(name for name in get_installed_models() if name.startswith("en_"))
    return "en_core_web_sm" if "en_core_web_sm" in found else next(iter(found), None)


def _drawn(texts: Sequence[str], seed: int) -> list[str]:
    order = seeds.numpy_rng(seed, "hiding", "sample").permutation(len(texts))[:TEXTS]
    return [texts[i] for i in order]


def _tokens(tokenizer: Any, texts: list[str], length: int) -> tuple[Encoded, npt.NDArray[np.int64], list[str]]:
    """The texts as tokens, those that are pleasant to look at first, and where in its text each token stands."""
    texts = [texts[i] for i in _order(Occurrences.of(tokenize(tokenizer, texts, length)).texts, len(texts))]
    encoded = tokenize(tokenizer, texts, length)
    laid = tokenizer(texts, truncation=True, max_length=length).encodings if texts else []
    places = [place for encoding in laid for place in encoding.offsets]
    return encoded, np.array(places, np.int64).reshape(-1, 2), texts


def _order(words: Ints, many: int) -> list[int]:
    first = _short(words, many)
    return [*first, *(i for i in range(many) if i not in set(first))]


def _short(words: Ints, many: int) -> list[int]:
    """The first texts that are neither long nor all but empty; where there are too few, the shortest others too."""
    counts = np.bincount(words, minlength=many)
    fitting = [i for i in range(many) if _SHORT[0] <= counts[i] <= _SHORT[1]][:SHOWN]
    others = [int(i) for i in np.argsort(counts, kind="stable") if counts[i] > 0 and i not in fitting]
    return fitting + sorted(others, key=lambda i: counts[i] < _SHORT[0])[: SHOWN - len(fitting)]


def _classes(written: list[str], texts: Ints, pipeline: str | None) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """What the words are, who says so, and what they name."""
    if pipeline is not None:
        tags, entities, by = _read(written, texts, pipeline)
        if any(tags):
            return tuple(_TAGS.get(tag, "other") for tag in tags), by, entities
        return tuple(map(coarse_class, written)), COARSE, entities
    return tuple(map(coarse_class, written)), COARSE, ()


def _read(written: list[str], texts: Ints, pipeline: str) -> tuple[list[str], tuple[str, ...], str]:
    """Part of speech and type of entity of each word, as a pipeline says; without types where it finds none."""
    from spacy.tokens import Doc

    try:
        nlp = load_pipeline(pipeline)
    except ConfigError:
        return [], (), COARSE
    cuts = np.flatnonzero(np.diff(texts)) + 1
    groups = [list(group) for group in np.split(np.array(written, object), cuts)] if written else []
    docs = nlp.pipe(Doc(nlp.vocab, words=[word or "_" for word in group]) for group in groups)
    found = [(token.pos_, token.ent_type_) for doc in docs for token in doc]
    named = tuple(kind or "no name" for _, kind in found)
    said = f"spaCy, {nlp.meta['lang']}_{nlp.meta['name']} {nlp.meta['version']}"
    return [tag for tag, _ in found], named if any(kind for _, kind in found) else (), said


def coarse_class(word: str) -> str:
    """What a word is, as far as its letters say.

    >>> [coarse_class(word) for word in ("The", "mast", "1,000", "3rd", "...")]
    ['function word', 'other word', 'number', 'other word', 'punctuation']
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    if not word or is_punctuation(word):
        return "punctuation"
    if any(letter.isdigit() for letter in word) and not any(letter.isalpha() for letter in word):
        return "number"
    return "function word" if word.casefold() in ENGLISH_STOP_WORDS else "other word"

"""Maskers that count words: which are keywords of the texts, which are near to those, which tell most of the others.

Each counts once, in ``fit``, and ends in a ``WordTable``. Words that belong together are counted in ``ngrams.py``.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import embedding_bag, normalize

from trivium import seeds
from trivium.core import JSON
from trivium.errors import ConfigError
from trivium.masking.protocol import Known, Masker
from trivium.masking.scored import Draw
from trivium.masking.units import Unit
from trivium.masking.words import Ints, Keys, Occurrences, WordTable, spelled

Floats = npt.NDArray[np.float64]

_SHOWN = 50  # words that are told to people
_AFTER = 20.0  # how far below the last keyword other words are: a weight of e⁻²⁰ of its, so they come after it
_BLOCK = 256  # passages whose pairs of words are held at a time


@dataclass(frozen=True)
class Vocabulary:
    """The different words of the texts, or their different tokens.

    Attributes:
        units: Every occurrence, in order.
        keys: The words, uint64 ``[words]``, in increasing order.
        codes: Which of them each occurrence is, int64 ``[units]``.
        counts: How often each occurs, int64 ``[words]``.
        pieces: Token ids of each, one word after the other, int64 ``[pieces]``.
        begins: Where the pieces of each begin, int64 ``[words]``.
        written: How each is written.
    """

    units: Occurrences
    keys: Keys
    codes: Ints
    counts: Ints
    pieces: Ints
    begins: Ints
    written: tuple[str, ...]

    @classmethod
    def of(cls, known: Known, unit: Unit) -> Self:
        """Those of the texts that will be hidden in."""
        units = Occurrences.of(known.encoded, unit)
        keys, firsts, codes, counts = np.unique(units.keys, return_index=True, return_inverse=True, return_counts=True)
        words = [known.encoded.ids[units.begins[i] : units.ends[i]].astype(np.int64) for i in firsts]
        begins = np.cumsum([0, *map(len, words)])[:-1]
        pieces = np.concatenate([np.zeros(0, np.int64), *words])
        return cls(units, keys, codes, counts, pieces, begins, tuple(spelled(known.tokenizer, ids) for ids in words))

    def table(self, scores: Floats, default: float) -> WordTable:
        """A score for each of them, float ``[words]``, and one for all words that are not among them."""
        return WordTable(self.keys, scores.astype(np.float32), self.written, default)


def how_many(wanted: float, there: int) -> int:
    """A number as it is, or a share of what is there.

    >>> how_many(20, 50), how_many(0.1, 50)
    (20, 5)
    """
    return round(wanted * there) if wanted < 1 else int(wanted)


def check_wanted(name: str, wanted: float, *, share: bool = True) -> None:
    """Refuse what is neither a number from 1 nor, where that is allowed, a share.

    Raises:
        ConfigError: it is not.
    """
    if not (wanted >= 1 and wanted == wanted // 1) and not (share and 0 < wanted < 1):
        either = "a share between 0 and 1, or " if share else ""
        raise ConfigError(f"masker.{name}: expected {either}a whole number from 1, found {wanted}.")


def tficf(known: Known, vocabulary: Vocabulary, unit: Unit) -> Floats:
    """How much each word tells the texts from general text: term frequency × inverse corpus frequency.

    That is log(1 + n(w)) · log((N + 1) / (N(w) + 1)), where n counts words in the texts, N is how many general texts
    there are (in windows of 512 tokens) and N(w) how many of them have the word. So words that all have, as "the", are
    worth nothing. Nor is what has no letter, as numbers and punctuation, or is unknown to the tokenizer.

    Args:
        known: What may be known; its background is the general text.
        vocabulary: The words.
        unit: What they are: words or tokens.

    Returns:
        float64 ``[words]``, from 0.

    Raises:
        ConfigError: there is no general text, or nothing tells the texts from it.

    Source: Reed et al. 2006, TF-ICF: a new term weighting scheme for clustering dynamic data streams.
    """
    if not known.background:
        raise ConfigError(
            "masker: expected general text to compare the task's with, found none. Give the study a 'corpus:', or take "
            "a masker that needs none, such as 'informask' or 'pmi'."
        )
    background = Occurrences.of(known.encoded_background, unit)
    many = len(known.encoded_background.offsets) - 1
    place = np.searchsorted(vocabulary.keys, background.keys)
    shared = np.append(vocabulary.keys, np.uint64(0))[place] == background.keys
    pairs = np.unique(place[shared] * many + background.texts[shared])
    having = np.bincount(pairs // many, minlength=len(vocabulary.keys))
    worth: Floats = np.log(1 + vocabulary.counts) * np.log((many + 1) / (having + 1))
    unknown = known.tokenizer.unk_token or ""
    worth[[not any(map(str.isalpha, word.replace(unknown, ""))) for word in vocabulary.written]] = 0
    if not (worth > 0).any():
        raise ConfigError(
            f"masker: expected words of the texts that not every text of the corpus has, found none among "
            f"{len(worth)} words and {many} texts of the corpus. Give the study more texts, or a larger 'corpus:'."
        )
    return worth


@dataclass(frozen=True)
class TFICF(Draw):
    """Hide the keywords of the texts (after Golchin et al. 2023, Do not mask randomly, who find theirs by embeddings).

    A word is worth the logarithm of its TF-ICF (``tficf``) where it is a keyword. Other words, those never seen among
    them, are worth the same small amount: they are hidden by chance where a text has fewer keywords than its budget.

    Attributes:
        temperature: 0, by default, hides the best keywords of a text, the same every time.
        keywords: How many words are keywords: a share of the different words of the texts, or a number from 1.
    """

    compares: ClassVar[bool] = True

    temperature: float = 0.0
    keywords: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_wanted("keywords", self.keywords)

    def fit(self, known: Known) -> Masker:
        """Count the words of the texts, and in how many general texts each is."""
        vocabulary = Vocabulary.of(known, self.unit)
        worth = tficf(known, vocabulary, self.unit)
        best = _best(worth, max(1, how_many(self.keywords, len(worth))))
        other = float(np.log(worth[best[-1]])) - _AFTER
        scores = np.full(len(worth), other)
        scores[best] = np.log(worth[best])
        table = vocabulary.table(scores, other)
        return self.by(table, {"keywords": len(best), "top": top(table, min(_SHOWN, len(best)))})


@dataclass(frozen=True)
class Difference(Draw):
    """Hide what is near to what tells the texts from general text (Difference-Masking, Wilf et al. 2023).

    The anchors are the words of highest TF-ICF (``tficf``). A word is as near as the anchor whose embedding has the
    highest cosine with its own; embeddings are those that the encoder looks up, averaged over pieces (the paper's are
    what it makes of the word read alone). The N different words of the texts are ranked by that, from 0, and drawn
    without replacement by the weight N - rank. The paper ranks by s · sigmoid(s) where s is the cosine, which gives the
    same ranks. A word never seen has the median weight.

    Attributes:
        anchors: How many words are anchors.
        mix: Share of these weights, in the mean over the words; the rest is the same for all. 1 is these alone.
    """

    compares: ClassVar[bool] = True

    anchors: int = 20
    mix: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_wanted("anchors", self.anchors, share=False)
        if not 0 <= self.mix <= 1:
            raise ConfigError(f"masker.mix: expected a share from 0 to 1, found {self.mix}.")

    def fit(self, known: Known) -> Masker:
        """Find the anchors, and how near to them each word is."""
        vocabulary = Vocabulary.of(known, self.unit)
        best = _best(tficf(known, vocabulary, self.unit), self.anchors)
        near = _nearest(known, vocabulary, best)
        rank = np.argsort(np.argsort(-near, kind="stable"), kind="stable")
        weights = (len(near) - rank) / ((len(near) + 1) / 2)  # 1 in the mean
        scores = np.log(self.mix * weights + 1 - self.mix)
        table = vocabulary.table(scores, float(np.median(scores)))
        return self.by(table, {"anchors": [vocabulary.written[i] for i in best], "top": top(table)})


def _best(worth: Floats, many: int) -> Ints:
    """The words that are worth most, among those worth anything, the best first."""
    order: Ints = np.argsort(-worth, kind="stable")[:many]
    return order[worth[order] > 0]


def _nearest(known: Known, vocabulary: Vocabulary, anchors: Ints) -> Floats:
    """Cosine of each word's embedding with that of its nearest anchor, float64 ``[words]``."""
    weight = known.models.language().backbone.get_input_embeddings().weight.detach().float().cpu()
    pieces, begins = torch.from_numpy(vocabulary.pieces), torch.from_numpy(vocabulary.begins)
    vectors = normalize(embedding_bag(pieces, weight, begins, mode="mean"), dim=1)
    nearest: Floats = (vectors @ vectors[torch.from_numpy(anchors)].T).amax(1).double().numpy()
    return nearest


@dataclass(frozen=True)
class InforMask(Draw):
    """Hide words that the words left beside them tell of (InforMask, Sadeq et al. 2022).

    The relevance of hiding M in a passage is the sum of PMI(w_i, w_j) over i in M and j not in M. Of ``sets`` random
    sets, each a share ``rate`` of the passage, the most relevant is kept, and a word's rate r is how often it was in
    it. As in the paper the sets are tried once, beforehand, and words are then hidden at these rates: here as draws
    without replacement by the odds r / (1 - r), so that the budget is kept.

    PMI(v, w) = log((n(v, w) + 1) / (n(v) n(w) / N + 1)): n counts, among N passages, those that have a word, or both,
    or the same one twice. One is added to what is found and to what chance lets expect, so that few cases say little.
    r likewise = (hidden + 1) / (occurrences + 1 / rate); of a word never seen it is ``rate``. Only the order of sets
    counts, not by how much one is better: where words tell nothing of each other, accidents still make rates differ.

    Attributes:
        sets: How many random sets are tried of each passage.
        window: Words of a passage at most: a longer text is several.
        passages: How many passages are counted at most, taken by chance: they fix the time that it takes.
    """

    seeded: ClassVar[bool] = True

    sets: int = 30
    window: int = 64
    passages: int = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sets", "window", "passages"):
            check_wanted(name, getattr(self, name), share=False)

    def fit(self, known: Known) -> Masker:
        """Count words and pairs of words, try random sets, and see which words are in the best."""
        vocabulary, rng = Vocabulary.of(known, self.unit), seeds.numpy_rng(known.seed, "informask")
        many, passages = len(vocabulary.keys), self._passages(vocabulary, rng)
        pmi = _PairScores.of(passages, many)
        hidden = np.zeros(many)
        for start in range(0, len(passages), _BLOCK):
            block = passages[start : start + _BLOCK]
            block = block[:, : (block >= 0).sum(1).max()]
            hidden += np.bincount(block[self._most_relevant(block, pmi, rng)], minlength=many)
        occurrences = np.bincount(passages[passages >= 0], minlength=many)
        rates = (hidden + 1) / (occurrences + 1 / self.rate)
        table = vocabulary.table(np.log(rates / (1 - rates)), float(np.log(self.rate / (1 - self.rate))))
        return self.by(table, {"passages": len(passages), "top": top(table), "bottom": top(table, last=True)})

    def _passages(self, vocabulary: Vocabulary, rng: np.random.Generator) -> Ints:
        """The words of passages, ``[passages, words]``, the shortest first; -1 after the last word of each."""
        texts = vocabulary.units.texts
        begins = np.flatnonzero((np.arange(len(texts)) - np.searchsorted(texts, texts)) % self.window == 0)
        lengths = np.diff(begins, append=len(texts))
        if len(begins) > self.passages:
            some = rng.choice(len(begins), self.passages, replace=False)
            begins, lengths = begins[some], lengths[some]
        order = np.argsort(lengths, kind="stable")
        place = np.arange(lengths.max(initial=1))
        inside = place < lengths[order, None]
        laid = np.full(inside.shape, -1, np.int64)
        laid[inside] = vocabulary.codes[(begins[order, None] + place)[inside]]
        return laid

    def _most_relevant(self, words: Ints, pmi: "_PairScores", rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Of some random sets of each passage the most relevant, bool ``[passages, words]``."""
        there, (many, width) = words >= 0, words.shape
        one, other = np.triu_indices(width, 1)
        both = there[:, one] & there[:, other]
        found = np.zeros(both.shape, np.float32)
        found[both] = pmi.of_pairs(words[:, one][both], words[:, other][both])
        pairs = np.zeros((many, width, width), np.float32)
        pairs[:, one, other] = pairs[:, other, one] = found
        size = np.floor(there.sum(1) * self.rate + rng.random(many))
        shuffled = np.where(there[:, None], rng.random((many, self.sets, width), np.float32), 2).argsort(-1)
        tried = np.zeros(shuffled.shape, np.float32)
        np.put_along_axis(tried, shuffled, (np.arange(width) < size[:, None, None]).astype(np.float32), -1)
        relevance = ((tried @ pairs) * (1 - tried)).sum(-1)
        best: npt.NDArray[np.bool_] = tried[np.arange(many), relevance.argmax(1)] > 0
        return best


@dataclass(frozen=True)
class _PairScores:
    """Pointwise mutual information of words that are in a passage together.

    Attributes:
        words: How many words there are.
        pairs: The pairs, each as the lower code × words + the higher, int64 ``[pairs]``, in increasing order.
        pmi: What it is of each, float32 ``[pairs]``.
    """

    words: int
    pairs: Ints
    pmi: npt.NDArray[np.float32]

    @classmethod
    def of(cls, passages: Ints, many: int) -> Self:
        """Count words and pairs of words in passages, word codes ``[passages, words]`` with -1 after the last."""
        from scipy import sparse

        passage, column = np.nonzero(passages >= 0)
        words = passages[passage, column]
        counts = sparse.csr_array((np.ones(len(words), np.float32), (passage, words)), (len(passages), many))
        twice = np.bincount(counts.indices, counts.data >= 2, many)
        counts.data[:] = 1
        having = np.bincount(counts.indices, minlength=many)
        together = counts.T.tocsr() @ counts
        together.sort_indices()
        one, other = np.repeat(np.arange(many), np.diff(together.indptr)), together.indices.astype(np.int64)
        half = one <= other
        one, other, found = one[half], other[half], together.data[half]
        found = np.where(one == other, twice[one], found)
        by_chance = having[one] * having[other] / max(1, len(passages))
        return cls(many, one * many + other, np.log((found + 1) / (by_chance + 1)).astype(np.float32))

    def of_pairs(self, one: Ints, other: Ints) -> npt.NDArray[np.float32]:
        """What it is of some pairs that were counted, float32 ``[pairs]``."""
        wanted, where = np.unique(np.minimum(one, other) * self.words + np.maximum(one, other), return_inverse=True)
        return self.pmi[np.searchsorted(self.pairs, wanted)][where]  # in order they are found several times as fast


def top(table: WordTable, many: int = _SHOWN, *, last: bool = False) -> list[JSON]:
    """Words and what they are worth, for people: those worth most, the most first, or those worth least."""
    best = np.argsort(table.values if last else -table.values, kind="stable")[:many]
    return [[table.words[i], round(float(table.values[i]), 4)] for i in best]

"""What a masker hides: how often each word, which kinds of words more than others, and how much maskers have in common.

All is counted in words, whatever a masker hides as a whole: a word of which half the tokens are hidden counts half.
``hiding_sample`` says which texts are looked at, ``hiding_text`` and ``report_hiding`` show what was found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from trivium import seeds
from trivium.core import JSON, Floats, Ints
from trivium.encoders import Encoder, collate
from trivium.masking import Masker, RandomTokens, WholeWord
from trivium.nmg.settled import interval
from trivium.study.hiding_sample import Sample

DRAWS = 16  # of texts that are counted
DRAWS_SHOWN = 256  # of texts that are shown: a word's probability is then right within 0.05
COMPARED = 8  # draws that maskers are compared by
_ROWS = 64  # texts in a batch
_WORK = 5e10  # multiplications for a masker that asks an encoder: some seconds on a core
_FEWEST, _MOST = 16, 200  # texts of such a masker, whatever they cost
_PRIOR = 5  # words hidden at the usual rate that are added to each word's: seldom is not always
_OFTEN = 5  # occurrences of a word that is named
_CLEAR = 4  # standard errors by which it must differ
_TOP = 12
_WORDS = 60  # shown of a text
_BEFORE = 6  # episodes that an interval rests on at least


@dataclass(frozen=True)
class Hidden:
    """What some draws hid.

    Attributes:
        words: Whether any of a word was hidden, bool ``[draws, words]``.
        texts: Which text each word is in, int64 ``[words]``, in order.
    """

    words: npt.NDArray[np.bool_]
    texts: Ints


def describe(masker: Masker, sample: Sample, *, seed: int = 0) -> tuple[JSON, Hidden]:
    """Look at what a masker hides.

    Args:
        masker: One that is ready to choose.
        sample: Where. A masker that asks an encoder is asked about its first texts alone, as many as take seconds.
        seed: Of the draws. Maskers that are given the same seed and sample get the same generators.

    Returns:
        As JSON: ``random``, whether it hides at random and that is all; ``sample`` (``texts``, ``draws``, ``words``),
        ``share`` of words and of tokens that is hidden, ``classes``, ``bands`` and ``entities`` with the lift of each
        over uniform (its share of what is hidden / its share of the words), ``lifted`` and ``avoided`` words, ``texts``
        to show as triples of what stands before a word, the word and the probability that it is hidden, ``weights`` of
        a linear policy, and ``learning`` and ``verdict`` of a learned one. And what was hidden, for ``overlap``.
    """
    last = _affordable(masker, sample)
    many = int(np.searchsorted(sample.texts, last))
    chance, hidden = _draw(masker, sample, last, seed)
    rate = float(chance.mean()) if many else 0.0
    pieces = sample.pieces[:many]
    bands, band, examples = sample.bands()
    lifts = _Lifts(chance)
    kinds = sorted(set(sample.classes[:many]))
    told = {
        "random": isinstance(masker, RandomTokens | WholeWord),
        "sample": {"texts": last, "draws": DRAWS, "words": many},
        "share": {"words": rate, "tokens": float((chance * pieces).sum() / max(1, pieces.sum()))},
        "classes_by": sample.classes_by,
        "classes": lifts.by_size(kinds, np.searchsorted(kinds, sample.classes[:many])),
        "bands": [{**row, "examples": examples[row["name"]]} for row in lifts.of(bands, band[:many])],
        "entities": _entities(sample, many, lifts),
        **_extremes(sample.written[:many], chance, rate),
        "texts": _texts(sample, chance),
        "weights": getattr(getattr(masker, "scorer", None), "weights", {}),
        **_learned(masker),
    }
    return told, Hidden(hidden, sample.texts[:many])


def _draw(masker: Masker, sample: Sample, last: int, seed: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """How much of each word is hidden on the mean, ``[words]``, and in the first draws, which; of the first texts."""
    many = int(np.searchsorted(sample.texts, last))
    chance, hidden = np.zeros(many), np.zeros((COMPARED, many), bool)
    starts = [0, *range(min(sample.shown, last), last, _ROWS)]
    for start, end in zip(starts, [*starts[1:], last], strict=True):
        words = slice(*np.searchsorted(sample.texts, [start, end]))
        if words.start == words.stop:
            continue
        offset = sample.encoded.offsets[start]
        begins, ends = sample.begins[words] - offset, sample.ends[words] - offset
        batch = collate(sample.encoded, np.arange(start, end), sample.pad_id, types=False)
        draws = DRAWS_SHOWN if start == 0 else DRAWS
        for draw in range(draws):
            chosen = masker.choose(batch, seeds.torch_rng(seed, "hiding", start, draw))[batch.attention].numpy()
            before = np.concatenate([[0], np.cumsum(chosen)])
            of_word = before[ends] - before[begins]
            chance[words] += of_word / (ends - begins) / draws
            if draw < COMPARED:
                hidden[draw, words] = of_word > 0
    return chance, hidden


def _affordable(masker: Masker, sample: Sample) -> int:
    """How many of the texts to look at: all, unless an encoder is asked about each."""
    encoders = list(_encoders(masker, 3))
    if not encoders:
        return len(sample.encoded)
    rounds = getattr(getattr(masker, "scorer", None), "rounds", 1)
    work = rounds * sum(sum(weight.numel() for weight in _multiplied(encoder)) for encoder in encoders)
    within = int(np.searchsorted(sample.encoded.offsets[1:], _WORK / max(1, work), side="right"))
    return min(len(sample.encoded), max(_FEWEST, min(_MOST, within)))


def _encoders(thing: Any, depth: int) -> Iterator[Encoder]:
    """The encoders that a masker, or what it is made of, holds."""
    if isinstance(thing, Encoder):
        yield thing
    elif depth and is_dataclass(thing):
        for field in fields(thing):
            yield from _encoders(getattr(thing, field.name, None), depth - 1)


def _multiplied(encoder: Encoder) -> Iterator[Any]:
    """Weights that every token is multiplied with: all but those that are looked up."""
    for module in encoder.backbone.modules():
        if not isinstance(module, nn.Embedding):
            yield from module.parameters(recurse=False)


@dataclass(frozen=True)
class _Lifts:
    """How much more than others the words of a group are hidden.

    Attributes:
        chance: How much of each word is hidden on the mean, ``[words]``.
    """

    chance: Floats

    def of(self, names: Sequence[str], group: Ints) -> list[JSON]:
        """A row for each group that has words; ``group`` says which one each word is in."""
        words = np.bincount(group, minlength=len(names))
        hidden = np.bincount(group, self.chance, len(names))
        all_words, all_hidden = max(1, len(group)), float(hidden.sum()) or 1.0
        rows = []
        for name, n, h in zip(names, words.tolist(), hidden.tolist(), strict=True):
            share, taken = n / all_words, h / all_hidden
            if n:
                rows.append({"name": name, "words": n, "share": share, "hidden": taken, "lift": taken / share})
        return rows

    def by_size(self, names: Sequence[str], group: Ints) -> list[JSON]:
        """The same, the largest group first."""
        return sorted(self.of(names, group), key=lambda row: (-row["words"], row["name"]))


def _entities(sample: Sample, many: int, lifts: _Lifts) -> list[JSON]:
    if not sample.entities:
        return []
    kinds = sorted(set(sample.entities[:many]))
    return lifts.by_size(kinds, np.searchsorted(kinds, sample.entities[:many]))


def _extremes(written: Sequence[str], chance: Floats, rate: float) -> JSON:
    """The words that are hidden most and least beside others: those that clearly are, with a lift that is smoothed."""
    folded = np.array([word.casefold() for word in written], object)
    types, which, counts = np.unique(folded.astype(str), return_inverse=True, return_counts=True)
    hidden = np.bincount(which, chance, len(types))
    lift = (hidden + _PRIOR * rate) / (counts + _PRIOR) / rate if rate else np.ones(len(types))
    error = np.sqrt(counts * rate * (1 - rate) / DRAWS)  # of a random masker
    clear = (types != "") & (counts >= _OFTEN) & (np.abs(hidden - counts * rate) > _CLEAR * error)
    order = [i for i in np.argsort(-lift, kind="stable") if clear[i]]
    rows: list[JSON] = [{"word": str(types[i]), "count": int(counts[i]), "lift": float(lift[i])} for i in order]
    return {
        "lifted": [row for row in rows if row["lift"] > 1][:_TOP],
        "avoided": [row for row in reversed(rows) if row["lift"] < 1][:_TOP],
    }


def _texts(sample: Sample, chance: Floats) -> list[JSON]:
    """The texts that are shown: their words, what stands before each, and the probability that it is hidden."""
    shown = []
    for text in range(sample.shown):
        start, end = np.searchsorted(sample.texts, [text, text + 1])
        words = range(start, min(end, start + _WORDS))
        triples = [[sample.before[i], sample.written[i], round(float(chance[i]), 3)] for i in words]
        shown.append({"words": triples, "left_out": int(end - start) - len(triples)})
    return shown


def _learned(masker: Masker) -> JSON:
    """How a policy was learned: policy minus random, episode by episode, and what fresh episodes said at the end."""
    about = getattr(masker, "about", None) or {}
    history = [float(one["difference"]) for one in about.get("history") or []]
    return {"learning": _running(history) if history else None, "verdict": about.get("verdict")}


def _running(differences: list[float]) -> JSON:
    """The differences, with the mean over the later half of the episodes so far and its 95 % interval.

    The policy changes as it learns, so the earlier half says little of it; the rule that ends the learning looks at the
    same half.
    """
    rows: list[tuple[float, float, float] | None] = []
    for episode in range(1, len(differences) + 1):
        half = differences[episode // 2 : episode]
        rows.append(interval(half) if len(half) >= _BEFORE else None)
    names = ("mean", "low", "high")
    return {
        "differences": differences,
        **{name: [row and row[i] for row in rows] for i, name in enumerate(names)},
    }


def overlap(a: Hidden, b: Hidden) -> JSON:
    """How much two maskers hide of the same: the mean Jaccard similarity of what they hide of a text in a draw.

    Args:
        a: What one hid.
        b: What the other hid of the same texts; texts or words that only one was asked about do not count.

    Returns:
        ``jaccard`` of draws from the same generator, as arms of one seed make them: those who leave the order to chance
        are alike there for that alone. ``apart``: of draws from different ones, where only what they prefer can make
        them alike. ``chance``: of two independent maskers that hide as many words of each text at random. None where
        nothing is hidden.
    """
    texts = min(a.texts.max(initial=-1), b.texts.max(initial=-1)) + 1
    common = np.minimum(*(np.bincount(x.texts, minlength=texts)[:texts] for x in (a, b)))
    of = np.repeat(np.arange(texts), common)
    ours, theirs = (x.words[:, _first_words(x.texts, common)] for x in (a, b))
    others = np.roll(theirs, 1, axis=0)
    here, there, next_there, both, apart = (
        np.stack([np.bincount(of[draw], minlength=texts) for draw in words])
        for words in (ours, theirs, others, ours & theirs, ours & others)
    )
    words = np.broadcast_to(common, here.shape)
    chances = np.vectorize(chance_overlap, otypes=[float])(words, here, there) if texts else np.zeros(0)
    return {
        "jaccard": _mean_ratio(both, here + there - both),
        "apart": _mean_ratio(apart, here + next_there - apart),
        "chance": float(chances[here + there > 0].mean()) if texts and (here + there).any() else None,
    }


def _mean_ratio(some: Ints, of: Ints) -> float | None:
    return float((some[of > 0] / of[of > 0]).mean()) if (of > 0).any() else None


def _first_words(texts: Ints, many: Ints) -> npt.NDArray[np.bool_]:
    """Which words are among so many first of their text."""
    rank = np.arange(len(texts)) - np.searchsorted(texts, texts)
    inside = texts < len(many)
    return inside & (rank < np.append(many, 0)[np.minimum(texts, len(many))])


@lru_cache(maxsize=65_536)
def chance_overlap(words: int, a: int, b: int) -> float:
    """The mean Jaccard similarity of two independent random sets of ``a`` and of ``b`` among so many words.

    What they share is hypergeometric.

    >>> chance_overlap(2, 1, 1)
    0.5
    """
    from scipy.stats import hypergeom

    if a + b == 0:
        return 0.0
    shared = np.arange(max(0, a + b - words), min(a, b) + 1)
    chances = hypergeom.pmf(shared, words, a, b)
    return float((chances * shared / (a + b - shared)).sum())

"""PMI masking: words that belong together are hidden together, so that none gives the others away."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from trivium.core import JSON
from trivium.errors import ConfigError
from trivium.kinds import Batch
from trivium.masking.protocol import Known, Masker
from trivium.masking.scored import Draw
from trivium.masking.statistics import Floats, Vocabulary, check_wanted, how_many, top
from trivium.masking.units import Units
from trivium.masking.words import Ints, Keys, WordTable, keys_in, keys_of

_SHARES = {2: 0.5, 3: 0.25, 4: 0.125, 5: 0.125}  # of the entries, by their words
_FALSE = 0.01  # entries of each length that chance alone may add to those of a corpus, in the mean
_TOLD = 20  # entries of each length that are told to people
_SEEN = 100_000  # words of the texts by which it is told how many fall into an entry


@dataclass(frozen=True)
class PMI(Draw):
    """Hide n-grams whose words belong together as one, and other words alone (PMI-Masking, Levine et al. 2021).

    The entries are n-grams of two to five words (a punctuation mark is one too), half of them of two, a quarter of
    three, an eighth each of four and five. Of each length they are those of highest

        PMI_n = min over segmentations of log(p(w_1 … w_n)² / Π p(part)),

    where a segmentation has at least two parts and p is the share among all n-grams of that length. With the square it
    is the measure of the lists that the authors released; equation 3 of the paper has none. Since a small corpus has
    little but chance in the lower ranks, an entry must also be more frequent than its likeliest segmentation accounts
    for, by a Poisson test that lets in one false entry of each length in a hundred corpora.

    Of entries that overlap in a text, the longer stands, of equals the one of higher PMI_n, then the first. (In the
    paper one that contains the other stands, and chance decides the rest.) Entries and words between them are then
    drawn alike; the last one drawn is cut to fit the budget.

    Attributes:
        temperature: Of no effect: all are drawn alike.
        entries: How many entries there are at most: a share of all words of the texts, counted as often as they occur,
            or a number from 1.
        min_count: An entry occurs more often than this.
    """

    temperature: float = 0.0
    entries: float = 0.01
    min_count: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_wanted("entries", self.entries)
        if self.min_count < 0:
            raise ConfigError(f"masker.min_count: expected a number from 0, found {self.min_count}.")

    def fit(self, known: Known) -> Masker:
        """Count n-grams, and keep those whose words belong together."""
        vocabulary = Vocabulary.of(known, self.unit)
        wanted = how_many(self.entries, len(vocabulary.codes))
        tables = {}
        for words, begins, pmi in collocations(vocabulary.codes, vocabulary.units.texts, self.min_count):
            best = slice(round(wanted * _SHARES[words]))
            grams = vocabulary.codes[begins[best, None] + np.arange(words)]
            written = tuple(" ".join(vocabulary.written[i] for i in gram) for gram in grams)
            tables[words] = WordTable(_keys(vocabulary.keys[grams]), pmi[best].astype(np.float32), written, -math.inf)
        scorer = Collocations(_joined(list(tables.values())))
        about = {
            "entries": {str(words): len(table.keys) for words, table in tables.items()},
            "covered": round(_covered(scorer, vocabulary), 4),
            "top": {str(words): top(table, _TOLD) for words, table in tables.items()},
        }
        return self.by(scorer, about)


def collocations(codes: Ints, texts: Ints, min_count: int) -> Iterator[tuple[int, Ints, Floats]]:
    """The n-grams whose words belong together: of two words, then of three, four and five.

    Args:
        codes: Which word each is, from 0, int64 ``[units]``.
        texts: Which text it is in, ``[units]``, increasing; no n-gram is in two.
        min_count: An n-gram occurs more often than this.

    Yields:
        n; where each n-gram is first, ``[grams]``; its PMI_n, ``[grams]``, the highest first.

    >>> codes = np.concatenate([[0, 1, other] for other in range(2, 32)])  # 30 times "0 1", and log(30² / 89² · 9)
    >>> [(n, begins.tolist(), pmi.round(4).tolist()) for n, begins, pmi in collocations(codes, codes * 0, 10)]
    [(2, [0], [0.0223]), (3, [], []), (4, [], []), (5, [], [])]
    """
    from scipy.special import pdtrc

    counts = np.bincount(codes)
    ids = np.where(counts[codes] > min_count, codes, -1)  # of the n-gram that begins there; -1: none that is frequent
    part = {1: np.log(counts[codes] / max(1, len(codes)))}  # log p of the n-gram that begins there
    whole = dict(part)  # of it or its likeliest segmentation, whichever is likelier
    for n in _SHARES:
        inside = np.flatnonzero(texts[: max(0, len(texts) - n + 1)] == texts[n - 1 :])
        here = inside[(ids[inside] >= 0) & (ids[inside + 1] >= 0)]  # what is frequent has frequent parts
        _, firsts, which, counts = np.unique(
            ids[here] * len(codes) + codes[here + n - 1], return_index=True, return_inverse=True, return_counts=True
        )
        kept = counts > min_count
        begins, often = here[firsts[kept]], counts[kept]
        log_p = np.log(often / max(1, len(inside)))
        split = np.full(len(begins), -np.inf)
        for k in range(1, n):
            split = np.maximum(split, part[k][begins] + whole[n - k][begins + k])
        frequent, number = kept[which], (np.cumsum(kept) - 1)[which]
        here, number = here[frequent], number[frequent]
        ids, part[n], whole[n] = np.full(len(codes), -1), np.full(len(codes), -np.inf), np.full(len(codes), -np.inf)
        ids[here], part[n][here], whole[n][here] = number, log_p[number], np.maximum(log_p, split)[number]
        by_chance = pdtrc(often - 1, len(inside) * np.exp(split))
        sure = np.flatnonzero(by_chance * len(counts) < _FALSE)
        pmi = (2 * log_p - split)[sure]
        order = np.argsort(-pmi, kind="stable")
        yield n, begins[sure][order], pmi[order]


@dataclass(frozen=True)
class Collocations:
    """A scorer that hides entries as one: all score alike, and the words of an entry are a group.

    Attributes:
        entries: PMI_n of each entry, by the key of its words; -inf for all that is none.
    """

    entries: WordTable

    def scores(self, _batch: Batch, units: Units) -> Tensor:
        """Zeros, ``[texts, width]``."""
        return torch.zeros(units.there.shape)

    def groups(self, batch: Batch, units: Units) -> Tensor:
        """The first unit of the entry that a unit is in, or the unit itself, int64 ``[texts, width]``."""
        return torch.from_numpy(self.together(keys_in(batch, units)))

    def together(self, keys: Keys) -> Ints:
        """The same, of the keys of units ``[texts, width]``; 0 where there is none."""
        alone = np.broadcast_to(np.arange(keys.shape[1]), keys.shape)
        first, free = alone.copy(), np.ones(keys.shape, bool)
        for n in reversed(_SHARES):
            if n > keys.shape[1]:
                continue
            pmi = self.entries.look_up(_keys(sliding_window_view(keys, n, axis=1)))
            pmi[~sliding_window_view(free, n, axis=1).all(-1)] = -np.inf
            text, begin = np.nonzero(_standing(pmi, n))
            place = text[:, None], begin[:, None] + np.arange(n)
            first[place], free[place] = begin[:, None], False
        return first

    def save(self, folder: Path) -> JSON:
        """Write the entries as a table of words."""
        self.entries.save(folder)
        return {}

    @classmethod
    def load(cls, folder: Path, _about: JSON) -> Self:
        """Read what ``save`` wrote."""
        return cls(WordTable.load(folder, {"default": -math.inf}))


def _keys(grams: Keys) -> Keys:
    """Keys of n-grams, from those of their words: ``[…, n]`` to ``[…]``."""
    n = grams.shape[-1]
    return keys_of(grams.reshape(-1), np.arange(0, grams.size, n)).reshape(grams.shape[:-1])


def _standing(pmi: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.bool_]:
    """Of entries of n words that overlap the best, then the best of those that it leaves, and so on.

    Args:
        pmi: PMI_n of the entry that begins there, ``[texts, places]``; -inf where none does.
        n: Words of each.

    Returns:
        bool ``[texts, places]``.
    """
    from scipy.ndimage import maximum_filter1d

    values = pmi.ravel()
    found = np.flatnonzero(values > -np.inf)
    rank = np.zeros(pmi.shape, np.int64)
    rank.flat[found[np.lexsort((-found, values[found]))]] = np.arange(1, len(found) + 1)  # of equals, the first is best
    stands = np.zeros(pmi.shape, bool)
    while rank.any():
        best = (rank > 0) & (rank == maximum_filter1d(rank, 2 * n - 1, axis=1, mode="constant"))
        stands |= best
        rank[maximum_filter1d(best, 2 * n - 1, axis=1, mode="constant")] = 0
    return stands


def _joined(tables: list[WordTable]) -> WordTable:
    """One table of all of them, its keys in order."""
    keys = np.concatenate([np.zeros(0, np.uint64), *(table.keys for table in tables)])
    values = np.concatenate([np.zeros(0, np.float32), *(table.values for table in tables)])
    words = [word for table in tables for word in table.words]
    order = np.argsort(keys)
    return WordTable(keys[order], values[order], tuple(words[i] for i in order), -math.inf)


def _covered(scorer: Collocations, vocabulary: Vocabulary) -> float:
    """Share of the first words of the texts that are in an entry."""
    units = vocabulary.units
    keys = np.zeros((1, _SEEN), np.uint64)
    place = np.arange(len(units.keys)) + units.texts  # a gap after each text: no entry is in two
    place = place[place < _SEEN]
    keys[0, place] = units.keys[: len(place)]
    first = scorer.together(keys)[0]
    sizes = np.bincount(first, minlength=_SEEN)
    return float((sizes[first[place]] > 1).mean()) if len(place) else 0.0

"""Whether what was chosen is more like the task than the corpus is: DSIR's KL reduction, for every selector."""

from collections.abc import Sequence

import numpy as np

from trivium.core import Corpus, Ints
from trivium.documents.features import corpus_counts, counted, share

_MOST = 50_000  # documents that stand for the corpus, or for what was chosen


def kl_reduction(
    corpus: Corpus, ids: Ints, texts: Sequence[str], *, buckets: int = 10_000, smoothing: float = 1.0
) -> float:
    """How much less the task diverges from the chosen documents than from the corpus.

    KL(p_task‖p_corpus) − KL(p_task‖p_chosen) over hashed words and word pairs: what an n-gram of the task gains in
    log-likelihood, on average, when the documents are chosen. It needs no training, and in the paper it goes along with
    how well the trained models do (r = 0.82).

    At most 50,000 documents, evenly spaced, stand for the corpus, and as many for what was chosen; both are smoothed
    towards the corpus. Compare selections of about the same size: a few documents, even good ones, are a poor picture
    of anything, and a few random ones fall below 0.

    Args:
        corpus: The corpus.
        ids: The chosen documents, in any order.
        texts: The task's training texts.
        buckets: As ``DSIR`` has them.
        smoothing: As ``DSIR`` has it, above 0.

    Returns:
        Nats for each n-gram; finite. 0 where all of the corpus is chosen, or nothing, or where the task has no word.
        Below 0 where the chosen are less like the task than the corpus is.

    Source: DSIR (Xie et al. 2023), section 5.
    """
    wanted = counted(texts, buckets)
    if not len(ids) or not wanted.any():
        return 0.0
    usual, chosen = (corpus_counts(corpus, buckets, _spaced(some)) for some in (np.arange(len(corpus)), np.sort(ids)))
    prior = share(usual, smoothing)
    gains = np.log(share(chosen, smoothing, prior)) - np.log(share(usual, smoothing, prior))
    return float(wanted @ gains / wanted.sum())


def _spaced(ids: Ints) -> Ints:
    """At most so many of the ids, evenly spaced."""
    many = min(_MOST, len(ids))
    return ids[np.arange(many) * len(ids) // max(many, 1)]

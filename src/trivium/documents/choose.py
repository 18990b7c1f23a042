"""From a ranking to a selection: screens, budget, counts, and the reasons shown to people."""

import math
from collections import Counter
from dataclasses import asdict, dataclass, field, is_dataclass

import numpy as np

from trivium import seeds
from trivium.core import JSON, Corpus, Ints, Queries, Selection, Task
from trivium.documents.divergence import kl_reduction
from trivium.documents.heldout import HELD_OUT
from trivium.documents.protocol import Budget, Progress, Ranking, Selector, part
from trivium.documents.screens import Screening, Screens
from trivium.errors import ConfigError, DataError

_BLOCK = 4096  # documents read at a time


def select_documents(
    corpus: Corpus,
    task: Task,
    selector: Selector,
    *,
    seed: int = 0,
    screens: Screens = Screens(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
) -> Selection:
    """Choose what an encoder should read for a task.

    The selector sees the training texts and nothing else. Then documents are taken in the order of its ranking until
    the next one would break the budget. Left out, and replaced by the next, is a document that equals a dev or test
    text but for case, spaces and punctuation (``data.normal``), and what the screens say. So the held-out splits can
    take documents away, but never bring one in.

    Args:
        corpus: The documents.
        task: The task with its test split, which only the screens look at. A sealed task will do too; then its test
            texts are not screened, and ``how["screened"]`` says so.
        selector: How to choose, for example ``BM25(max_tokens=20_000_000)``.
        seed: Of everything random.
        screens: What else is left out.
        progress: Called now and then with how much is done and how much there is, in no particular unit.

    Returns:
        The chosen documents, best first. ``audit`` has those that were left out for a dev or test text, with the
        evidence. ``how`` holds the selector's settings and the screens', names and fingerprints of corpus and task, the
        seed, and

        - ``counts``: ``candidates`` (documents ranked); left out on the way, each for the first of these reasons that
          holds: ``heldout_equal``, ``contaminated``, ``duplicates``, ``near_duplicates``; chosen: ``documents``,
          ``words``, ``bytes``; and what the selector counted, such as ``queries`` and ``hits`` of BM25;
        - ``sources`` and ``source_words``: chosen documents and their words per source of the corpus, most documents
          first;
        - ``kl_reduction``: how much nearer to the task they are than the corpus is (``divergence.kl_reduction``);
        - ``ended_by``: the limit of the budget that was met; none where the ranking ended before.

    Raises:
        ConfigError: not even the first document fits the budget.
        DataError: nothing is left to choose.
    """
    screening = Screening(task, screens)
    ranking = selector.rank(corpus, Queries.of(task), seeds.numpy_rng(seed, "documents"), part(progress, 0, 3, of=4))
    budget = Budget.of(selector)
    taken = _take(corpus, ranking, screening, budget, part(progress, 3, 4, of=4))
    if len(ranking) and not taken.places:
        raise _nothing(corpus, task, ranking, taken, budget)
    places = np.array(taken.places, np.int64)
    ids = np.asarray(ranking.ids[places], np.int64)
    sources = _sources(corpus, ids)
    how: dict[str, JSON] = {
        "selector": type(selector).__qualname__,
        "settings": asdict(selector) if is_dataclass(selector) else {},
        "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint, "documents": len(corpus)},
        "task": {"name": task.name, "fingerprint": task.fingerprint},
        "screens": asdict(screens),
        "screened": [split for split in HELD_OUT if split in task.tables],
        "seed": seed if selector.seeded else None,
        "counts": {**ranking.counts, "candidates": len(ranking), **screening.left_out, **taken.counts},
        "sources": {source: documents for source, documents, _ in sources},
        "source_words": {source: words for source, _, words in sources},
        "kl_reduction": kl_reduction(corpus, ids, task.texts("train")),
        "ended_by": taken.ended_by,
    }
    scores, ranks, queries = ranking.scores[places], ranking.ranks[places], ranking.queries[places]
    return Selection(ids, scores, ranks, queries, tuple(taken.terms), how, corpus, tuple(screening.audit))


def _sources(corpus: Corpus, ids: Ints) -> list[tuple[str, int, int]]:
    """Of each source: documents and words; most documents first."""
    documents, words = Counter[str](), Counter[str]()
    for source, many in zip(corpus.sources(ids), corpus.words[ids].tolist(), strict=True):
        documents[source] += 1
        words[source] += many
    order = sorted(documents, key=lambda source: (-documents[source], source))
    return [(source, documents[source], words[source]) for source in order]


def examples(selection: Selection, corpus: Corpus, task: Task, n: int = 20) -> list[dict[str, JSON]]:
    """Some of the chosen documents with the reasons, for people to look at.

    Args:
        selection: What was chosen.
        corpus: The corpus it was chosen from.
        task: The task it was chosen for.
        n: How many; they lie evenly between the first and the last, because the first alone would flatter.

    Returns:
        For each, best first, what JSON can say: ``id``, ``source`` and ``text`` of the document, its ``score`` and
        ``rank`` among the hits of the training row that asked for it, ``query_row`` (the row's number in its file,
        from 1), ``query_text``, ``label`` (its name) and ``terms``, the words that both texts share, weightiest first.
        None where there is no score or no row asked.
    """
    places = np.unique(np.linspace(0, len(selection) - 1, min(n, len(selection))).astype(np.int64))
    ids = selection.ids[places]
    rows, texts = task.rows("train"), task.texts("train")
    shown: list[dict[str, JSON]] = []
    for place, text, source in zip(places, corpus.texts(ids), corpus.sources(ids), strict=True):
        row, score = int(selection.queries[place]), float(selection.scores[place])
        asked = row >= 0
        shown.append(
            {
                "id": int(selection.ids[place]),
                "source": source,
                "text": text,
                "score": None if math.isnan(score) else score,
                "rank": int(selection.ranks[place]) if asked else None,
                "query_row": rows["row"][row].as_py() if asked else None,
                "query_text": texts[row] if asked else None,
                "label": _named(task, rows["label"][row].as_py()) if asked else None,
                "terms": list(selection.terms[place]),
            }
        )
    return shown


def _named(task: Task, label: JSON) -> str | None:
    """What a row is labelled with, as people say it; none where that is no label or number of the whole row."""
    if task.kind == "multilabel":
        return ", ".join(task.labels[i] for i in label) or None
    if task.kind == "regress":
        return f"{label:g}"
    return task.labels[label] if task.kind == "classify" else None


@dataclass
class _Taken:
    """What was taken of a ranking so far."""

    places: list[int] = field(default_factory=list)
    terms: list[tuple[str, ...]] = field(default_factory=list)
    words: int = 0
    bytes: int = 0
    ended_by: str | None = None

    @property
    def counts(self) -> dict[str, int]:
        """In the words of the report."""
        return {"documents": len(self.places), "words": self.words, "bytes": self.bytes}


def _take(corpus: Corpus, ranking: Ranking, screening: Screening, budget: Budget, progress: Progress | None) -> _Taken:
    """Go down the ranking until the next document would break the budget.

    Not one that is smaller is sought after that: what a smaller budget takes is the beginning of what a greater one
    takes, and the last documents are no shorter than the others.
    """
    taken = _Taken()
    for start in range(0, len(ranking), _BLOCK):
        ids = ranking.ids[start : start + _BLOCK]
        texts, sizes = corpus.texts(ids), corpus.words[ids].tolist()
        passing = screening.may_read(ids, texts)
        for place, (text, words, passes) in enumerate(zip(texts, sizes, passing, strict=True), start):
            if not passes:
                continue
            size = len(text.encode())
            taken.ended_by = budget.broken(len(taken.places) + 1, taken.words + words, taken.bytes + size)
            if taken.ended_by:
                break
            taken.places.append(place)
            taken.terms.append(ranking.shared(place, text))
            taken.words, taken.bytes = taken.words + words, taken.bytes + size
        if progress:
            progress(start + len(ids), len(ranking))
        if taken.ended_by:
            break
    if progress:
        progress(1, 1)
    return taken


def _nothing(corpus: Corpus, task: Task, ranking: Ranking, taken: _Taken, budget: Budget) -> ConfigError | DataError:
    if taken.ended_by:
        return ConfigError(
            f"documents.{taken.ended_by}: expected room for at least one document of corpus '{corpus.name}', found "
            f"{getattr(budget, taken.ended_by)}, and the first in the ranking is larger. Raise it."
        )
    return DataError(
        f"corpus '{corpus.name}': expected documents that give no dev or test texts of task '{task.name}' away, found "
        f"that all {len(ranking):,} do. Give a corpus that was not made of the task."
    )

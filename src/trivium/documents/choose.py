"""From a ranking to a selection: screens, budget, counts, and the reasons shown to people.

Near-duplicates and passages that merely overlap a held-out text are out of scope.
"""

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, is_dataclass

import numpy as np

from trivium import seeds
from trivium.core import JSON, Corpus, Queries, Selection, Split, Task
from trivium.data import fingerprint64
from trivium.documents.protocol import Budget, Progress, Ranking, Selector
from trivium.errors import ConfigError, DataError

_BLOCK = 4096  # documents read at a time
_HELD_OUT: tuple[Split, ...] = ("dev", "test")


def select_documents(
    corpus: Corpus, task: Task, selector: Selector, *, seed: int = 0, progress: Progress | None = None
) -> Selection:
    """Choose what an encoder should read for a task.

    The selector sees the training texts and nothing else. Then documents are taken in the order of its ranking until
    the next one would break the budget. Left out, and replaced by the next, is a document that equals a dev or test
    text, or one already taken: "equals" but for case, spaces and punctuation (``data.normal``). So the held-out splits
    can take documents away, but never bring one in.

    Args:
        corpus: The documents.
        task: The task with its test split, which only the screen above looks at. A sealed task will do too; then its
            test texts are not screened, and ``how["screened"]`` says so.
        selector: How to choose, for example ``BM25(max_tokens=20_000_000)``.
        seed: Of everything random.
        progress: Called now and then with how much is done and how much there is, in no particular unit.

    Returns:
        The chosen documents, best first. ``how`` holds the selector's settings, names and fingerprints of corpus and
        task, the seed, and

        - ``counts``: ``candidates`` (documents ranked), ``heldout_equal`` and ``duplicates`` (left out on the way),
          ``documents``, ``words`` and ``bytes`` (chosen); with BM25 also ``queries`` and ``hits`` (of all queries);
        - ``sources``: chosen documents per source of the corpus, most first;
        - ``ended_by``: the limit of the budget that was met; none where the ranking ended before.

    Raises:
        ConfigError: not even the first document fits the budget.
        DataError: nothing is left to choose.
    """
    held_out = _held_out(task)
    ranking = selector.rank(corpus, Queries.of(task), seeds.numpy_rng(seed, "documents"), _part(progress, 0, 3))
    budget = Budget.of(selector)
    taken = _take(corpus, ranking, held_out, budget, _part(progress, 3, 1))
    if len(ranking) and not taken.places:
        raise _nothing(corpus, task, ranking, taken, budget)
    places = np.array(taken.places, np.int64)
    ids = np.asarray(ranking.ids[places], np.int64)
    how: dict[str, JSON] = {
        "selector": type(selector).__qualname__,
        "settings": asdict(selector) if is_dataclass(selector) else {},
        "corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint, "documents": len(corpus)},
        "task": {"name": task.name, "fingerprint": task.fingerprint},
        "screened": [split for split in _HELD_OUT if split in task.tables],
        "seed": seed if selector.seeded else None,
        "counts": {**ranking.counts, "candidates": len(ranking), **taken.counts},
        "sources": dict(sorted(Counter(corpus.sources(ids)).items(), key=lambda item: (-item[1], item[0]))),
        "ended_by": taken.ended_by,
    }
    scores, ranks, queries = ranking.scores[places], ranking.ranks[places], ranking.queries[places]
    return Selection(ids, scores, ranks, queries, tuple(taken.terms), how, corpus)


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
                "label": task.labels[rows["label"][row].as_py()] if asked else None,
                "terms": list(selection.terms[place]),
            }
        )
    return shown


@dataclass
class _Taken:
    """What was taken of a ranking so far."""

    places: list[int] = field(default_factory=list)
    terms: list[tuple[str, ...]] = field(default_factory=list)
    words: int = 0
    bytes: int = 0
    heldout_equal: int = 0
    duplicates: int = 0
    ended_by: str | None = None

    @property
    def counts(self) -> dict[str, int]:
        """In the words of the report."""
        return {
            "heldout_equal": self.heldout_equal,
            "duplicates": self.duplicates,
            "documents": len(self.places),
            "words": self.words,
            "bytes": self.bytes,
        }


def _take(
    corpus: Corpus, ranking: Ranking, held_out: Collection[int], budget: Budget, progress: Progress | None
) -> _Taken:
    """Go down the ranking until the next document would break the budget.

    Not one that is smaller is sought after that: what a smaller budget takes is the beginning of what a greater one
    takes, and the last documents are no shorter than the others.
    """
    taken, seen = _Taken(), set[int]()
    for start in range(0, len(ranking), _BLOCK):
        ids = ranking.ids[start : start + _BLOCK]
        for place, (text, words) in enumerate(zip(corpus.texts(ids), corpus.words[ids].tolist(), strict=True), start):
            name = fingerprint64(text)
            if name in held_out:
                taken.heldout_equal += 1
                continue
            if name in seen:
                taken.duplicates += 1
                continue
            size = len(text.encode())
            taken.ended_by = budget.broken(len(taken.places) + 1, taken.words + words, taken.bytes + size)
            if taken.ended_by:
                break
            seen.add(name)
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


def _held_out(task: Task) -> set[int]:
    """Names of all texts of dev and test; of a pair, of each and of both together."""
    texts: set[str] = set()
    for split in [split for split in _HELD_OUT if split in task.tables]:
        rows = task.rows(split)
        texts.update(task.texts(split))
        texts.update(
            text for column in ("text", "text_pair") if column in rows.column_names for text in rows[column].to_pylist()
        )
    return set(map(fingerprint64, texts))


def _part(progress: Progress | None, before: int, share: int) -> Progress | None:
    """A bar for one part of the way, of which ``before`` quarters are done and ``share`` quarters are its own."""
    if progress is None:
        return None
    return lambda done, total: progress(before * total + share * done, 4 * total)


def _nothing(corpus: Corpus, task: Task, ranking: Ranking, taken: _Taken, budget: Budget) -> ConfigError | DataError:
    if taken.ended_by:
        return ConfigError(
            f"documents.{taken.ended_by}: expected room for at least one document of corpus '{corpus.name}', found "
            f"{getattr(budget, taken.ended_by)}, and the first in the ranking is larger. Raise it."
        )
    return DataError(
        f"corpus '{corpus.name}': expected documents that are not dev or test texts of task '{task.name}', found that "
        f"all {len(ranking):,} are. Give a corpus that was not made of the task."
    )

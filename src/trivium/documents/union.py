"""The hits of all queries taken together: each document once, rank by rank."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from trivium.documents.protocol import Ranking


class Union:
    """The union of the hits of queries, in 12 bytes for each document of the corpus.

    A document has the lowest rank at which a query has it, then the highest score there; among equals the first query
    stays. Documents come in the order of their ranks: first what is somebody's best hit, then what is somebody's
    second, and so on; of equal rank the higher score first, then the lower id. So a small budget is spent on all
    queries alike.
    """

    def __init__(self, documents: int) -> None:
        self.rank = np.full(documents, np.iinfo(np.int32).max, np.int32)
        self.score = np.zeros(documents, np.float32)
        self.query = np.full(documents, -1, np.int32)
        self.counts = {"queries": 0, "hits": 0}

    @classmethod
    def load(cls, file: Path, documents: int) -> Self:
        """What ``save`` wrote, or a new one if there is nothing that can be read."""
        union = cls(documents)
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as saved:
                for name in ("rank", "score", "query"):
                    getattr(union, name)[:] = saved[name]
                union.counts = dict(zip(union.counts, saved["counts"].tolist(), strict=True))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, NotImplementedError, RuntimeError):
            return cls(documents)
        return union

    def save(self, file: Path) -> None:
        """Write it whole, or leave what was there. Where nothing can be written, a search is not stopped for that."""
        scratch = file.with_suffix(f".{uuid.uuid4().hex[:12]}.tmp")
        counts = np.array(list(self.counts.values()))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with scratch.open("wb") as opened:
                np.savez(opened, rank=self.rank, score=self.score, query=self.query, counts=counts)
            scratch.replace(file)
        except OSError:
            scratch.unlink(missing_ok=True)

    def take(self, ids: npt.NDArray[np.int32], scores: npt.NDArray[np.float32]) -> None:
        """Take the hits of the next queries.

        Args:
            ids: Documents, best first, -1 after the last, ``[queries, k]``.
            scores: Their scores.
        """
        from trivium.documents import kernels

        kernels.merge(ids, scores, self.counts["queries"], self.rank, self.score, self.query)
        self.counts["queries"] += len(ids)
        self.counts["hits"] += int((ids >= 0).sum())

    def ranking(
        self, counts: Mapping[str, float] | None = None, shared: Callable[[int, str], tuple[str, ...]] | None = None
    ) -> Ranking:
        """All documents that some query has, in order.

        Args:
            counts: More to tell, beside the numbers of queries and hits.
            shared: Given a query's number and a document's text, the words that speak for the hit.
        """
        ids = np.flatnonzero(self.query >= 0)
        ids = ids[np.lexsort((ids, -self.score[ids], self.rank[ids]))]
        rank, query = self.rank[ids].astype(np.int64), self.query[ids].astype(np.int64)
        score = self.score[ids].astype(np.float64)
        ranking = Ranking(ids, score, rank, query, {**self.counts, **(counts or {})})
        if shared is None:
            return ranking
        return replace(ranking, shared=lambda place, text: shared(int(query[place]), text))

"""How quickly documents are found, in how much memory, and how exactly: trivium beside bm25s and tantivy.

    python bench/documents.py                                     a made-up corpus, some minutes
    python bench/documents.py 'corpus/*.jsonl.gz' data/sciie      yours: files of a corpus, then a task
    python bench/documents.py --help

Each engine lives in a process of its own, so that its memory is its own. In every round all of them are asked the same
queries in turn, so that a busy machine slows all alike; what is printed are medians over the rounds. bm25s and tantivy
are measured where they are installed (pip install bm25s tantivy); trivium does not need them.
"""

import argparse
import importlib.util
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

import trivium as tv
from trivium.core import Corpus
from trivium.data import words


class Work(NamedTuple):
    """What each engine is given; paths, because it runs in another process."""

    corpus: str
    cache: Path
    threads: int


class Searched(NamedTuple):
    """What a round of queries took, and what it found."""

    seconds: float
    processor: float
    ids: list[np.ndarray[Any, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the choice of documents by BM25.")
    parser.add_argument("corpus", nargs="?", help="files of a corpus; a made-up one, if not given")
    parser.add_argument("task", nargs="?", help="a task, whose training texts are the queries")
    parser.add_argument("--documents", type=int, default=200_000, help="of the made-up corpus, 80 words each (200000)")
    parser.add_argument("--queries", type=int, default=500, help="asked in a round (500)")
    parser.add_argument(
        "--words", type=int, default=200, help="of a query: texts are joined until it has so many (200)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--per-query", type=int, nargs="+", default=[50, 5000])
    parser.add_argument("--pruned", type=float, nargs="+", default=[0.5, 0.2], help="max_df of pruned searches")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--judged", type=int, default=20, help="queries whose hits are compared with brute force (20)")
    parser.add_argument("--only", nargs="+", choices=sorted(ENGINES), default=list(ENGINES), help="engines")
    given = parser.parse_args()
    if given.corpus and not given.task:
        parser.error("a corpus needs a task to ask questions")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRIVIUM_CACHE"] = str(Path(folder) / "cache")
        place, rows = (given.corpus, tv.load_task(given.task).texts("train")) if given.corpus else ("", [])
        if not given.corpus:
            place, rows = make_up(Path(folder), given.documents, given.queries * given.rounds, given.words)
        compare(Work(place, Path(folder), given.threads), longer(rows, given.words), given)


def compare(work: Work, queries: list[str], given: argparse.Namespace) -> None:
    corpus = tv.load_corpus(work.corpus)
    asked = [queries[n * given.queries : (n + 1) * given.queries] for n in range(given.rounds)]
    asked = [some for some in asked if some]
    told = np.mean([len(words(query)) for query in queries])
    print(f"{len(corpus):,} documents of {corpus.words.mean():.0f} words, {work.threads} threads;")
    print(f"{len(asked)} rounds of {len(asked[0])} queries of {told:.0f} words. Rates are medians over the rounds:")
    print("queries a second, and queries in a second of processor time.")
    names = [name for name in given.only if name == "trivium" or importlib.util.find_spec(name)]
    crew = {name: Engine(name, work) for name in names}
    print("\n           build   documents/s    disk MB   memory MB (before, built)")
    for name, engine in crew.items():
        seconds, disk, before, after = engine.built
        print(
            f"{name:8} {seconds:6.1f} s {len(corpus) / seconds:13,.0f} {disk:10,.0f} {before:11,.0f} {after:7,.0f}",
            flush=True,
        )
    for k in given.per_query:
        truth = brute_force(corpus, asked[0][: given.judged], k)
        runs = [(name, 1.0) for name in names] + [("trivium", share) for share in given.pruned if "trivium" in names]
        found: dict[tuple[str, float], list[Searched]] = {run: [] for run in runs}
        for some in asked:
            for name, share in runs:
                found[name, share].append(crew[name].search(some, k, share))
        exact = np.unique(np.concatenate(found[names[0], 1.0][0].ids))
        rivals = [rate(found[name, 1.0]) for name in names if name != "trivium"]
        print(f"\nk = {k:,}                  queries/s   of processor   recall   of exact union   × faster rival")
        for run, searched in found.items():
            right = recall(searched[0].ids[: len(truth)], truth)
            union = np.isin(exact, np.concatenate(searched[0].ids)).mean()
            title = run[0] if run[1] == 1 else f"{run[0]}, max_df {run[1]:g}"
            times = f"{rate(searched) / max(rivals):8.1f}" if rivals and run[0] == "trivium" else ""
            rates = f"{rate(searched):10,.1f} {rate(searched, 'processor'):14,.1f}"
            print(f"{title:24} {rates} {right:8.3f} {union:16.3f} {times}", flush=True)
    print("\nmost memory ever held, MB:", ", ".join(f"{name} {engine.peak():,.0f}" for name, engine in crew.items()))


def rate(searched: Sequence[Searched], measure: str = "seconds") -> float:
    return float(np.median([len(one.ids) / getattr(one, measure) for one in searched]))


def recall(found: Sequence[np.ndarray[Any, Any]], truth: Sequence[np.ndarray[Any, Any]]) -> float:
    return float(np.mean([np.isin(right, ids).mean() for ids, right in zip(found, truth, strict=True)] or [np.nan]))


def brute_force(corpus: Corpus, queries: list[str], k: int) -> list[np.ndarray[Any, Any]]:
    """The best documents by a matrix of counts in double precision, sharing no code with any engine."""
    if not queries:
        return []
    known: dict[str, int] = {}
    for query in queries:
        for word in words(query):
            known.setdefault(word, len(known))
    rows, columns = array("i"), array("i")
    for row, text in enumerate(texts(corpus)):
        numbers = [known[word] for word in words(text) if word in known]
        rows.extend([row] * len(numbers))
        columns.extend(numbers)
    counts = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(corpus), len(known)))
    holders = np.bincount(counts.indices, minlength=len(known))
    saturation = 1.2 * (0.25 + 0.75 * corpus.words / corpus.words.mean())
    counts.data /= counts.data + np.repeat(saturation, np.diff(counts.indptr))
    idf = np.log1p((len(corpus) - holders + 0.5) / (holders + 0.5))
    best = []
    for query in queries:
        weights = np.zeros(len(known))
        for word, repeats in Counter(words(query)).items():
            weights[known[word]] = repeats * idf[known[word]]
        scores = counts @ weights
        order = np.lexsort((np.arange(len(scores)), -scores))[:k]
        best.append(order[scores[order] > 0])
    return best


class Engine:
    """An engine in a process of its own."""

    def __init__(self, name: str, work: Work) -> None:
        self.pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self.built: tuple[float, float, float, float] = self.pool.submit(build, name, work).result()

    def search(self, queries: list[str], k: int, share: float) -> Searched:
        return self.pool.submit(search, queries, k, share).result()

    def peak(self) -> float:
        return self.pool.submit(peak).result()


_ENGINE: Any = None


def build(name: str, work: Work) -> tuple[float, float, float, float]:
    """In an engine's process: index the corpus; returns seconds, MB on disk, MB in memory before and after."""
    global _ENGINE
    _WATCHED.start()
    corpus = tv.load_corpus(work.corpus)
    before = held()
    _ENGINE = ENGINES[name](work)
    _ENGINE.warm()
    begun = time.perf_counter()
    _ENGINE.build(corpus)
    seconds = time.perf_counter() - begun
    _ENGINE.search(["warm up and compile"], 50, 1.0)
    disk = sum(file.stat().st_size for file in _ENGINE.folder.rglob("*") if file.is_file())
    return seconds, disk / 1e6, before, held()


def search(queries: list[str], k: int, share: float) -> Searched:
    begun, used = time.perf_counter(), time.process_time()
    ids = _ENGINE.search(queries, k, share)
    return Searched(time.perf_counter() - begun, time.process_time() - used, ids)


@dataclass
class Trivium:
    work: Work

    def warm(self) -> None:
        from trivium.documents.index import Index

        list(Index.build(["compile"]).search(["compile"], 1))

    def build(self, corpus: Corpus) -> None:
        from trivium.documents.index import Index

        self.index = Index.of(corpus)
        self.folder = Path(os.environ["TRIVIUM_CACHE"]) / "shards"

    def search(self, queries: list[str], k: int, share: float) -> list[np.ndarray[Any, Any]]:
        found = self.index.pruned(share).search(queries, k, threads=self.work.threads)
        return [ids[ids >= 0] for hits in found for ids in hits.ids]


@dataclass
class Bm25s:
    work: Work

    def warm(self) -> None:
        self.tokens(["import"])

    def build(self, corpus: Corpus) -> None:
        import bm25s

        self.engine = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend="numba")
        self.engine.index(self.tokens(corpus.table["text"].to_pylist()), show_progress=False)
        self.folder = self.work.cache / "bm25s"
        self.engine.save(self.folder)

    def tokens(self, texts: list[str]) -> Any:
        import bm25s

        return bm25s.tokenize(texts, token_pattern=r"(?u)\w+", stopwords=None, show_progress=False)

    def search(self, queries: list[str], k: int, share: float) -> list[np.ndarray[Any, Any]]:
        asked = self.tokens(queries)
        found = self.engine.retrieve(asked, k=k, n_threads=self.work.threads, show_progress=False)
        return [ids[scores > 0] for ids, scores in zip(found.documents, found.scores, strict=True)]


@dataclass
class Tantivy:
    work: Work

    def warm(self) -> None:
        import tantivy  # noqa: F401

    def build(self, corpus: Corpus) -> None:
        import tantivy

        self.folder = self.work.cache / "tantivy"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        schema = tantivy.SchemaBuilder()
        schema.add_text_field("text", index_option="freq")
        schema.add_unsigned_field("id", stored=True, fast=True)
        self.schema = schema.build()
        self.index = tantivy.Index(self.schema, path=str(self.folder))
        writer = self.index.writer(heap_size=256_000_000, num_threads=self.work.threads)
        for row, text in enumerate(texts(corpus)):
            document = tantivy.Document()
            document.add_unsigned("id", row)
            document.add_text("text", text)
            writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()
        self.index.reload()
        self.searcher = self.index.searcher()

    def search(self, queries: list[str], k: int, share: float) -> list[np.ndarray[Any, Any]]:
        with ThreadPoolExecutor(self.work.threads) as pool:
            return list(pool.map(lambda query: self.one(query, k), queries))

    def one(self, query: str, k: int) -> np.ndarray[Any, Any]:
        import tantivy

        parts = []
        for word, repeats in Counter(words(query)).items():
            term = tantivy.Query.term_query(self.schema, "text", word, index_option="freq")
            parts.append((tantivy.Occur.Should, tantivy.Query.boost_query(term, float(repeats))))
        hits = self.searcher.search(tantivy.Query.boolean_query(parts), k, count=False).hits
        return np.array(self.searcher.fast_field_values("id", [address for _, address in hits]), np.int64)


ENGINES: dict[str, Callable[[Work], Any]] = {"trivium": Trivium, "bm25s": Bm25s, "tantivy": Tantivy}


def make_up(folder: Path, documents: int, queries: int, length: int) -> tuple[str, list[str]]:
    """Documents of 80 words, and queries, words as frequent as Zipf's law has them."""
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, 200_001)
    draws = np.cumsum(chances / chances.sum())

    names = np.array([f"w{n}" for n in range(len(draws))], object)

    def lines(count: int, words: int) -> Iterator[str]:
        for start in range(0, count, 1000):
            drawn = np.searchsorted(draws, rng.random((min(1000, count - start), words)))
            yield from (" ".join(line) for line in names[drawn])

    with (folder / "corpus.txt").open("w") as file:
        file.writelines(f"{line}\n\n" for line in lines(documents, 80))
    return str(folder / "corpus.txt"), list(lines(queries, length))


def texts(corpus: Corpus) -> Iterator[str]:
    for chunk in corpus.table["text"].iterchunks():
        yield from chunk.to_pylist()


def longer(texts: list[str], length: int) -> list[str]:
    """Texts joined, one after the other, until each has so many words."""
    queries, parts, size = [], [], 0
    for text in texts:
        parts.append(text)
        size += len(words(text))
        if size >= length:
            queries.append(" ".join(parts))
            parts, size = [], 0
    return queries or [" ".join(parts)]


def held() -> float:
    """Memory of this process's own, in MB; pages of mapped files, which the system takes back at need, do not count."""
    status = Path("/proc/self/status")
    if status.exists():
        return (
            next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("RssAnon")) / 1e3
        )
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class Watched(Thread):
    """Looks twenty times a second at how much memory is held."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0.0

    def run(self) -> None:
        while True:
            self.most = max(self.most, held())
            time.sleep(0.05)


_WATCHED = Watched()


def peak() -> float:
    return _WATCHED.most


if __name__ == "__main__":
    main()

"""How quickly documents are found, and in how much memory.

    python bench/documents.py                                     a made-up corpus, a minute
    python bench/documents.py 'corpus/*.jsonl.gz' data/sciie      yours: files of a corpus, then tasks
    python bench/documents.py --help

Each engine runs in a process of its own, so that its peak memory is its own. bm25s is measured beside ours where it is
installed; trivium does not need it.
"""

import argparse
import importlib.util
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import trivium as tv
from trivium.core import Corpus


class Work(NamedTuple):
    """What each engine is given: paths, because it runs in another process."""

    corpus: str
    tasks: tuple[str, ...]
    per_query: int
    threads: tuple[int, ...]
    cache: Path | None


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the choice of documents by BM25.")
    parser.add_argument("corpus", nargs="?", help="files of a corpus; a made-up one, if not given")
    parser.add_argument("tasks", nargs="*", help="tasks, whose training texts are the queries")
    parser.add_argument("--per-query", type=int, default=50, help="documents for each query (50)")
    parser.add_argument("--documents", type=int, default=100_000, help="of the made-up corpus (100000)")
    parser.add_argument("--cache", type=Path, help="where prepared corpora lie")
    given = parser.parse_args()
    if given.corpus and not given.tasks:
        parser.error("a corpus needs at least one task to ask questions")
    with tempfile.TemporaryDirectory() as folder:
        made_up = None if given.corpus else make_up(Path(folder), given.documents)
        corpus, tasks = made_up or (given.corpus, tuple(given.tasks))
        cache = Path(folder) / "cache" if made_up else given.cache
        work = Work(corpus, tasks, given.per_query, tuple(sorted({1, os.cpu_count() or 1})), cache)
        tv.load_corpus(corpus, cache=cache)  # made once, here: reading files is not what is measured
        for engine in ENGINES:
            if engine == "bm25s" and importlib.util.find_spec("bm25s") is None:
                print("\nbm25s: not installed, left out")
                continue
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                print(f"\n{engine}", *pool.submit(ENGINES[engine], work).result(), sep="\n  ", flush=True)


def make_up(folder: Path, documents: int) -> tuple[str, tuple[str, ...]]:
    """Documents of 80 words and 2,000 queries of 30, words as frequent as Zipf's law has them."""
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, 200_001)
    draws = np.cumsum(chances / chances.sum())

    def lines(count: int, words: int) -> Iterator[str]:
        for _ in range(count):
            yield " ".join(f"w{n}" for n in np.searchsorted(draws, rng.random(words)))

    (folder / "corpus.txt").write_text("\n\n".join(lines(documents, 80)))
    (folder / "made-up").mkdir()
    for split, count in (("train", 2000), ("dev", 10)):
        rows = (f"{line},{i % 2}" for i, line in enumerate(lines(count, 30)))
        (folder / "made-up" / f"{split}.csv").write_text("\n".join(["text,label", *rows]))
    return str(folder / "corpus.txt"), (str(folder / "made-up"),)


def measure_trivium(work: Work) -> list[str]:
    return [*measure_index(work), *measure_selection(work)]


def measure_index(work: Work) -> list[str]:
    from trivium.documents.index import Index

    corpus, size = opened(work)
    list(Index.build(["a b"]).search(["a"], 1))  # compiles
    before = peak()
    index, spent = timed(lambda: Index.build(texts(corpus)))
    said = built(len(corpus), size, spent)
    said.append(f"index: {len(index.documents) / 1e6:,.1f} M postings, {held(index):,.0f} MB")
    for task, queries in asked(work):
        for threads in work.threads:
            _, spent = timed(lambda q=queries, t=threads: list(index.search(q, work.per_query, t)))
            said.append(found(task, queries, spent, threads))
    return [*said, memory(before)]


def measure_selection(work: Work) -> list[str]:
    corpus, said = tv.load_corpus(work.corpus, cache=work.cache), []
    for path in work.tasks:
        task = tv.load_task(path)
        chosen, spent = timed(lambda t=task: tv.select_documents(corpus, t, tv.BM25(per_query=work.per_query)))
        counts = ", ".join(f"{n:,} {name}" for name, n in chosen.how["counts"].items())
        sources = ", ".join(f"{name} {n / len(chosen):.0%}" for name, n in list(chosen.how["sources"].items())[:5])
        rates = spent.rates(documents=len(chosen))
        said.append(f"select_documents, {task.name}: index, screens and reasons included, in {rates}")
        said += [f"  {counts}", f"  most from {sources}"]
    return said


def measure_bm25s(work: Work) -> list[str]:
    import bm25s

    corpus, size = opened(work)
    analyzer: dict[str, Any] = {"token_pattern": r"(?u)\w+", "stopwords": None, "show_progress": False}
    engine = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend="numba")
    before = peak()

    def build() -> None:
        engine.index(bm25s.tokenize(list(texts(corpus)), **analyzer), show_progress=False)

    _, spent = timed(build)
    said = built(len(corpus), size, spent)
    for task, queries in asked(work):
        for threads in work.threads:

            def search(queries: list[str] = queries, threads: int = threads) -> None:
                tokens = bm25s.tokenize(queries, **analyzer)
                engine.retrieve(tokens, k=work.per_query, n_threads=threads, show_progress=False)

            search(queries[:2])  # compiles
            _, spent = timed(search)
            said.append(found(task, queries, spent, threads))
    said.append(memory(before))
    return said


ENGINES: dict[str, Callable[[Work], list[str]]] = {"trivium": measure_trivium, "bm25s": measure_bm25s}


def opened(work: Work) -> tuple[Corpus, int]:
    """The corpus and the bytes of its texts, which are in the page cache from here on."""
    corpus = tv.load_corpus(work.corpus, cache=work.cache)
    return corpus, sum(len(text.encode()) for text in texts(corpus))


def texts(corpus: Corpus) -> Iterator[str]:
    for chunk in corpus.table["text"].iterchunks():
        yield from chunk.to_pylist()


def asked(work: Work) -> Iterator[tuple[str, list[str]]]:
    for path in work.tasks:
        task = tv.load_task(path)
        yield task.name, task.texts("train")


class Spent(NamedTuple):
    """Time that something took."""

    seconds: float
    processor: float  # of all threads; the fairer measure where others use the machine too

    def rates(self, **amounts: float) -> str:
        """So many documents, or what it was, in a second."""
        by_clock = ", ".join(f"{n / self.seconds:,.0f} {unit}/s" for unit, n in amounts.items())
        by_processor = ", ".join(f"{n / self.processor:,.0f} {unit}" for unit, n in amounts.items())
        return f"{self.seconds:.1f} s: {by_clock} (in a second of processor time: {by_processor})"


def timed(function: Callable[[], Any]) -> tuple[Any, Spent]:
    begun, used = time.perf_counter(), time.process_time()
    result = function()
    return result, Spent(time.perf_counter() - begun, time.process_time() - used)


def built(documents: int, size: int, spent: Spent) -> list[str]:
    rates = spent.rates(documents=documents, MB=size / 1e6)
    return [f"build: {documents:,} documents, {size / 1e6:,.0f} MB in {rates}"]


def found(task: str, queries: list[str], spent: Spent, threads: int) -> str:
    words, plural = np.mean([len(query.split()) for query in queries]), "s" * (threads > 1)
    rates = spent.rates(queries=len(queries))
    return f"search, {task}: {len(queries):,} queries of {words:.0f} words, {threads} thread{plural}, in {rates}"


def held(index: Any) -> float:
    return (index.starts.nbytes + index.documents.nbytes + index.weights.nbytes) / 1e6


def peak() -> float:
    """Most memory that this process ever held, in MB; pages of the mapped corpus count."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def memory(before: float) -> str:
    return f"peak memory: {peak():,.0f} MB, of which {before:,.0f} MB before building (libraries, mapped corpus)"


if __name__ == "__main__":
    main()

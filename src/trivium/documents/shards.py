"""Postings on disk: a corpus cut into shards, each named by the texts it holds.

A shard knows nothing of the rest of its corpus: how often words occur, not what they weigh. So it is made once, serves
every corpus that contains the same run of documents, and a corpus to which files were added, or which has them in
another order, makes only the shards that are new. An interrupted build goes on after the last shard it finished.
"""

import json
import shutil
import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash
from filelock import FileLock

from trivium.core import Corpus, digest
from trivium.data.analyzer import hashed
from trivium.engine import cores
from trivium.errors import ConfigError
from trivium.store import atomic_folder, cache_folder

Progress = Callable[[int, int], None]

_VERSION = 1  # of what a shard is; a new one makes every shard anew
_MOST = 1 << 17  # documents of a shard: some 150 MB while it is made, and work for many cores
_BLOCK = 4096  # documents counted at a time


@dataclass(frozen=True)
class Shard:
    """The postings of a run of documents, which count from 0 in it; in memory, or memory-mapped.

    Attributes:
        words: Names of its words (``data.analyzer``), ascending, uint64.
        starts: Where the postings of each word start, and the end of the last, int64 ``[words + 1]``.
        documents: Postings: document, ascending within a word, int32.
        amounts: Postings: how often the word occurs there, uint16; 65,535 is that or more.
        lengths: Words of each document, int32.
    """

    words: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int32]
    amounts: npt.NDArray[np.uint16]
    lengths: npt.NDArray[np.int32]

    @classmethod
    def make(cls, texts: Iterator[pa.LargeStringArray], progress: Callable[[int], None] = lambda _: None) -> Self:
        """Index texts; text i becomes document i.

        Holds some 14 bytes for each distinct word of each document meanwhile, and never the texts.

        Args:
            texts: The documents in blocks, read once.
            progress: Told how many documents each block had.
        """
        from trivium.documents import kernels

        keys, values, used = np.zeros(1 << 16, np.uint64), np.full(1 << 16, -1, np.int32), 0
        lengths: list[npt.NDArray[np.int32]] = [np.zeros(0, np.int32)]
        blocks = []
        for block in texts:
            names, ends = hashed(block)
            keys, values = _room(keys, values, used + len(names))
            numbers, used = kernels.number(names, keys, values, used)
            blocks.append(kernels.count(numbers, ends, used))
            lengths.append(np.diff(ends).astype(np.int32))
            progress(len(block))
        taken = values >= 0
        order = np.argsort(keys[taken])
        renumbered = np.empty(used, np.int32)
        renumbered[values[taken][order]] = np.arange(used)
        frequency = np.zeros(used, np.int64)
        for terms, _, _ in blocks:
            terms[:] = renumbered[terms]
            frequency += np.bincount(terms, minlength=used)
        starts = np.concatenate([[0], np.cumsum(frequency)]).astype(np.int64)
        documents, amounts = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.uint16)
        ends, first = starts[:-1].copy(), 0
        for terms, counts, distinct in blocks:
            kernels.place(terms, counts, distinct, first, ends, documents, amounts)
            first += len(distinct)
        return cls(keys[taken][order], starts, documents, amounts, np.concatenate(lengths))

    def save(self, folder: Path) -> None:
        """Write five arrays into a folder."""
        for field in fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name), allow_pickle=False)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Memory-map what ``save`` wrote."""
        return cls(*(np.load(folder / f"{f.name}.npy", mmap_mode="r", allow_pickle=False) for f in fields(cls)))

    def __len__(self) -> int:
        """How many documents it has."""
        return len(self.lengths)

    def find(self, names: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where the postings of some words start and where they end; the same place for a word it does not have."""
        if not len(self.words):
            return np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
        place = np.minimum(np.searchsorted(self.words, names), len(self.words) - 1)
        here = self.words[place] == names
        return np.where(here, self.starts[place], 0), np.where(here, self.starts[place + 1], 0)


def shards_of(corpus: Corpus, progress: Progress | None = None) -> list[Path]:
    """The folders of a corpus's shards, in the order of its documents; those that are not there are made.

    They lie in the cache folder (``store.cache_folder``), which other machines must see too if they are to search.

    Raises:
        ConfigError: the cache folder cannot be written to.
    """
    root = cache_folder() / "shards"
    cuts = list(_cuts(corpus, _known(root)))
    done, lock = 0, threading.Lock()

    def told(documents: int) -> None:
        nonlocal done
        with lock:
            done += documents
            if progress:
                progress(done, len(corpus))

    def made(cut: _Cut) -> Path:
        folder = root / cut.name
        with FileLock(_lock(root, cut.name)):  # a rival process makes it meanwhile, or we do
            if _documents(folder) == cut.documents:
                told(cut.documents)
                return folder
            for scratch in root.glob(f".tmp-{cut.name}-*"):  # a crash left it
                shutil.rmtree(scratch)
            with atomic_folder(folder) as scratch:
                Shard.make(_blocks(corpus, cut.first, cut.documents), told).save(scratch)
                about = {"documents": cut.documents, "first": cut.first_name, "version": _VERSION}
                (scratch / "shard.json").write_text(json.dumps(about))
        return folder

    try:
        with ThreadPoolExecutor(cores()) as pool:
            return list(pool.map(made, cuts))
    except OSError as error:
        raise ConfigError(
            f"documents: expected a cache folder with room to write to, found that {root} is none ({error}). Name "
            "another in the environment variable TRIVIUM_CACHE."
        ) from error


class _Cut(NamedTuple):
    """A run of a corpus's documents: where it starts, how long it is, and what it is called."""

    first: int
    documents: int
    name: str
    first_name: str


def _cuts(corpus: Corpus, known: Mapping[str, Sequence[int]]) -> Iterator[_Cut]:
    """Cut a corpus where shards that are there begin and end, and the rest at the greatest size.

    Args:
        corpus: The corpus.
        known: Sizes of the shards that are there, by the name of their first document.
    """
    size, place = len(corpus), 0
    begins = [*_begins(corpus), size]
    while place < size:
        first = _name(corpus, place, 1)
        sizes = sorted({n for n in known.get(first, ()) if place + n <= size}, reverse=True)
        cut = next((c for n in sizes if (c := _Cut(place, n, _name(corpus, place, n), first)).name in known), None)
        if cut is None:
            later = (b for b in begins[bisect_right(begins, place) :] if b == size or _name(corpus, b, 1) in known)
            end = min(next(later), place + _MOST)
            cut = _Cut(place, end - place, _name(corpus, place, end - place), first)
        yield cut
        place += cut.documents


def _known(root: Path) -> dict[str, list[int]]:
    """Sizes of the shards under a folder by the name of their first document, and nothing by their own."""
    known: dict[str, list[int]] = defaultdict(list)
    for about in root.glob("*/shard.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(about.read_text())
            if told["version"] == _VERSION:
                known[told["first"]].append(int(told["documents"]))
                known.setdefault(about.parent.name, [])
    return known


def _documents(folder: Path) -> int | None:
    """How many documents a shard has, if it is there and whole."""
    try:
        shard = Shard.open(folder)
        told = json.loads((folder / "shard.json").read_text())
        whole = len(shard) == told["documents"] and len(shard.documents) == len(shard.amounts) == shard.starts[-1]
        return len(shard) if whole and told["version"] == _VERSION else None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None  # missing or damaged: it is made anew


def _begins(corpus: Corpus) -> list[int]:
    """Where the documents of each file begin."""
    begins, before, last = [], 0, None
    for chunk in corpus.table["file"].iterchunks():
        files = chunk.indices.to_numpy()
        changes = np.flatnonzero(np.diff(files, prepend=-1 if last is None else last))
        begins += (before + changes).tolist()
        before, last = before + len(files), files[-1] if len(files) else last
    return begins


def _name(corpus: Corpus, first: int, documents: int) -> str:
    """A name for a run of texts, however the table is chunked."""
    texts, lengths = xxhash.xxh3_128(), xxhash.xxh3_128()
    for block in corpus.table["text"].slice(first, documents).iterchunks():
        _, offsets, data = block.buffers()
        places = np.frombuffer(offsets, np.int64)[block.offset : block.offset + len(block) + 1]
        lengths.update(np.diff(places).tobytes())
        if data is not None:
            texts.update(memoryview(data)[places[0] : places[-1]])
    return digest([_VERSION, texts.hexdigest(), lengths.hexdigest()])


def _blocks(corpus: Corpus, first: int, documents: int) -> Iterator[pa.LargeStringArray]:
    for chunk in corpus.table["text"].slice(first, documents).iterchunks():
        for start in range(0, len(chunk), _BLOCK):
            yield chunk.slice(start, _BLOCK)


def _room(
    keys: npt.NDArray[np.uint64], values: npt.NDArray[np.int32], names: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """A table for ``kernels.number`` in which so many names take no more than half."""
    from trivium.documents import kernels

    if 2 * names <= len(keys):
        return keys, values
    size = 1 << (2 * names).bit_length()
    wider, numbers = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
    taken = values >= 0
    order = np.argsort(values[taken])
    kernels.number(keys[taken][order], wider, numbers, 0)
    return wider, numbers


def _lock(root: Path, name: str) -> Path:
    locks = root / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    return locks / name

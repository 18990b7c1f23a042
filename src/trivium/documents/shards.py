"""Postings on disk: a corpus cut into shards, each named by the texts it holds.

A shard knows nothing of the rest of its corpus: how often words occur, not what they weigh. So it is made once, serves
every corpus that contains the same run of documents, and a corpus to which files were added, or which has them in
another order, makes only the shards that are new. An interrupted build goes on after the last shard it finished.
"""

import errno
import json
import os
import shutil
import threading
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash
from filelock import FileLock

from trivium.core import Corpus, digest
from trivium.data.analyzer import hashed
from trivium.engine import cores
from trivium.errors import ConfigError
from trivium.store import atomic_folder, atomic_write, cache_folder, compared, contents, tell

Progress = Callable[[int, int], None]

_VERSION = 2  # of what a shard is; a new one makes every shard anew
_MOST = 1 << 17  # documents of a shard: some 200 MB while it is made, and work for many cores
_MAKERS = 4  # shards that are made side by side
_DAY = 86_400.0
_POSTINGS, _ABOUT = "postings.bin", "shard.json"
_ARRAYS: Mapping[str, Any] = {
    "words": np.uint64,
    "starts": np.int64,
    "documents": np.int32,
    "lengths": np.int32,
    "amounts": np.uint16,
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
_BLOCK = 4096  # documents counted at a time


@dataclass(frozen=True)
class Shard:
    """The postings of a run of documents, which count from 0 in it; in memory, or memory-mapped.

    Attributes:
        words: Names of its words (``data.analyzer``), ascending, uint64.
        starts: Where the postings of each word start, and the end of the last, int64 ``[words + 1]``.
        documents: Postings: document, ascending within a word, int32.
        lengths: Words of each document, int32.
        amounts: Postings: how often the word occurs there, uint16; 65,535 is that or more.
        folder: Where it lies, if it does.
    """

    words: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    amounts: npt.NDArray[np.uint16]
    folder: Path | None = None

    @classmethod
    def make(cls, texts: Iterator[pa.LargeStringArray], progress: Callable[[int], None] = lambda _: None) -> Self:
        """Index texts; text i becomes document i.

        Holds some 17 bytes for each distinct word of each document meanwhile, and never the texts.

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
        return cls(keys[taken][order], starts, documents, np.concatenate(lengths), amounts)

    def save(self, folder: Path, first: str) -> None:
        """Write it into a folder: the arrays one behind the other, widest numbers first, and how long each is.

        Args:
            folder: Where to.
            first: The name of its first document.
        """
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        with (folder / _POSTINGS).open("wb") as file:
            for array in arrays.values():
                array.tofile(file)
            file.flush()
            os.fsync(file.fileno())
        sizes = {name: len(array) for name, array in arrays.items()}
        digest = contents(folder)[_POSTINGS][1]
        about = {"version": _VERSION, "first": first, "sizes": sizes, "xxh3_128": digest}
        (folder / _ABOUT).write_text(json.dumps(about))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Memory-map what ``save`` wrote: one map, because a process may have few files open.

        Raises:
            OSError: it is not there.
            ValueError: it is of another version, or not whole.
        """
        about = json.loads((folder / _ABOUT).read_text())
        sizes = [about["sizes"][name] * np.dtype(kind).itemsize for name, kind in _ARRAYS.items()]
        data = np.memmap(folder / _POSTINGS, np.uint8, "r")
        if about["version"] != _VERSION or len(data) != sum(sizes):
            raise ValueError(f"{folder}: no whole shard of version {_VERSION}")
        parts = np.split(data.view(np.ndarray), np.cumsum(sizes)[:-1])
        arrays = {name: part.view(kind) for part, (name, kind) in zip(parts, _ARRAYS.items(), strict=True)}
        return cls(**arrays, folder=folder)

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
    listed = root / f"of-{corpus.fingerprint}.json"
    if (folders := _listed(listed, len(corpus))) is not None:
        return folders
    cuts = list(_cuts(corpus, *_known(root)))
    done, lock = 0, threading.Lock()

    def told(documents: int) -> None:
        nonlocal done
        with lock:
            done += documents
            if progress:
                progress(done, len(corpus))

    def made(cut: _Cut) -> Path:
        folder = root / cut.name
        if _documents(folder) == cut.documents:  # looked at without a lock: the cache may be for reading alone
            told(cut.documents)
            return folder
        with FileLock(_lock(root, cut.name)):  # a rival process makes it meanwhile, or we do
            if _documents(folder) == cut.documents:
                told(cut.documents)
                return folder
            for scratch in root.glob(f".tmp-{cut.name}-*"):  # a crash left it; the lock is ours
                shutil.rmtree(scratch, ignore_errors=True)
            with atomic_folder(folder) as scratch:
                shard = Shard.make(_blocks(corpus, cut.first, cut.documents), told)
                shard.save(scratch, cut.first_name)
        return folder

    try:
        with ThreadPoolExecutor(min(cores(), _MAKERS)) as pool:
            folders = list(pool.map(made, cuts))
        _sweep(root)
        with suppress(OSError):  # it saves reading the corpus the next time, no more
            for scratch in root.glob(f".tmp-{listed.name}-*"):  # a crash left it, or a rival's that is no more needed
                scratch.unlink()
            atomic_write(listed, json.dumps({"version": _VERSION, "shards": [folder.name for folder in folders]}))
        return folders
    except OSError as error:
        if error.errno not in _FULL:
            raise
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


def _cuts(corpus: Corpus, names: Collection[str], known: Mapping[str, Collection[int]]) -> Iterator[_Cut]:
    """Cut a corpus where shards that are there begin and end, and the rest at the greatest size.

    Args:
        corpus: The corpus.
        names: Of the shards that are there.
        known: Their sizes, by the name of their first document.
    """
    size, place = len(corpus), 0
    begins = _begins(corpus)
    while place < size:
        first = _name(corpus, place, 1)
        sizes = sorted({n for n in known.get(first, ()) if place + n <= size}, reverse=True)
        cut = next((c for n in sizes if (c := _Cut(place, n, _name(corpus, place, n), first)).name in names), None)
        if cut is None:
            end = min(size, place + _MOST)
            files = begins[bisect_right(begins, place) : bisect_left(begins, end)] if known else []
            end = next((b for b in files if _name(corpus, b, 1) in known), end)
            cut = _Cut(place, end - place, _name(corpus, place, end - place), first)
        yield cut
        place += cut.documents


def _known(root: Path) -> tuple[set[str], dict[str, set[int]]]:
    """Names of the shards under a folder, and their sizes by the name of their first document."""
    names: set[str] = set()
    known: dict[str, set[int]] = defaultdict(set)
    for about in root.glob(f"*/{_ABOUT}"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(about.read_text())
            if told["version"] == _VERSION:
                names.add(about.parent.name)
                known[told["first"]].add(int(told["sizes"]["lengths"]))
    return names, known


def _listed(file: Path, documents: int) -> list[Path] | None:
    """The shards of a corpus as they were listed when they were made, if all are there and whole."""
    try:
        told = json.loads(file.read_text())
        folders = [file.parent / name for name in told["shards"]]
        whole = told["version"] == _VERSION and sum(_documents(folder) or 0 for folder in folders) == documents
        return folders if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sweep(root: Path) -> None:
    """Delete what crashes left behind; what is younger than a day may be at work."""
    for scratch in root.glob(".tmp-*"):
        with suppress(OSError):
            if time.time() - scratch.stat().st_mtime > _DAY:
                shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink()


def _documents(folder: Path) -> int | None:
    """How many documents a shard has, if it is there and whole; that it is damaged is told."""
    if not folder.exists():
        return None
    try:
        shard, about = Shard.open(folder), json.loads((folder / _ABOUT).read_text())
        size = (folder / _POSTINGS).stat().st_size
        if found := compared(folder / _ABOUT, {_POSTINGS: (size, about.get("xxh3_128"))}):  # older ones have none
            raise ValueError(found)
        return len(shard)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        tell(f"the index kept in {folder} is damaged and is made anew: {error}")
        return None


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

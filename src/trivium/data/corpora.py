"""Unlabelled documents from files of any size: streamed once into a memory-mapped file, and found there again.

Bounded memory: some ten thousand documents are held at a time, whatever the size of the corpus (the longest row, and a
``.json`` list, must fit too). The cache is named by the content of the files, so that moving, renaming the folder or
listing them in another order changes nothing. Cleaning and near-duplicates are out of scope.
"""

import glob
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.ipc as ipc
import xxhash
from filelock import FileLock

from trivium.core import Corpus
from trivium.data.columns import corpus_columns, read_text
from trivium.data.files import Source, data_files, matching
from trivium.data.formats import Table
from trivium.data.hub import HUB, hub_splits
from trivium.data.place import Cell, problem, shortened
from trivium.data.windows import windows
from trivium.data.words import count_words
from trivium.errors import ConfigError, DataError
from trivium.store import atomic_folder, cache_folder, compared, contents, tell

Progress = Callable[[int, int], None]

_DONE = "done.json"
_VERSION = 1  # of what this module makes of a file; a new one makes every cache anew
_BATCH_DOCUMENTS = 10_000
_BATCH_CHARACTERS = 1 << 24
_MOST_SOURCES = 1 << 16
_SHOWN = 5
_DOCUMENTS = "documents.arrow"
_SCHEMA = pa.schema(
    {
        "text": pa.large_string(),
        "source": pa.dictionary(pa.int32(), pa.string()),
        "words": pa.int32(),
        "file": pa.dictionary(pa.int32(), pa.string()),
        "row": pa.int64(),
    }
)


def load_corpus(
    pattern: str | Path | Sequence[str | Path],
    *,
    columns: Mapping[str, str] | None = None,
    window: int = 128,
    cache: Path | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """Load a corpus of documents.

    Args:
        pattern: Files, folders, patterns such as ``"data/**/*.jsonl.gz"``, or hub addresses (``"hub:owner/name"``, of
            which the train split is read, or all if there is none). Formats as for tasks, and .txt, where paragraphs
            between blank lines are documents.
        columns: Our names (``text``, ``source``) to the file's. If none are given, the text is recognised, and a column
            ``source`` is read if there is one; documents without a source have their file's name.
        window: A document of more than 1.5 times so many words is cut into windows of at most so many.
        cache: Folder for what is made of the files; none takes the environment variable ``TRIVIUM_CACHE``, else
            ``~/.cache/trivium``.
        name: What to call it; none takes the file's or folder's name.
        progress: Called now and then with the bytes read and the bytes there are.

    Returns:
        The corpus, documents in the order of file names and rows. Its ``notes`` tell of documents dropped and cut.

    Raises:
        ConfigError: an argument is not what it should be.
        DataError: nothing matches, or a file is not what it should be; the message says where.
    """
    if window < 1:
        raise ConfigError(f"corpus.window: expected at least 1 word, found {window}.")
    patterns = [str(pattern)] if isinstance(pattern, str | Path) else [str(one) for one in pattern]
    sources, notes = _sources(patterns)
    fingerprint = _fingerprint(sources, columns, window)
    corpora = (cache.expanduser() if cache else cache_folder()) / "corpora"
    folder = corpora / fingerprint
    if (opened := _open(folder)) is None:
        try:
            _make(folder, sources, columns, window, progress)
        except OSError as error:  # reading raises DataError
            raise ConfigError(
                f"corpus: expected a cache folder with room to write to, found that {corpora} is none ({error}). Name "
                "another in the environment variable TRIVIUM_CACHE."
            ) from error
        opened = _open(folder)
    assert opened is not None
    table, more = opened
    return Corpus(name or _name(patterns[0], sources), fingerprint, table, (*notes, *more))


def _sources(patterns: Sequence[str]) -> tuple[list[Source], list[str]]:
    """All sources, each once, by name; and what was left aside."""
    files: dict[Path, Path] = {}
    hub: dict[str, Source] = {}
    notes: list[str] = []
    for pattern in patterns:
        if pattern.startswith(HUB):
            splits = hub_splits(pattern)
            hub |= {splits[split].name: splits[split] for split in (["train"] if "train" in splits else splits)}
            continue
        found, aside = matching(pattern)
        files |= {path.resolve(): path for path in found}
        if aside:
            notes.append(f"{pattern}: no data files, left aside: {shortened(path.name for path in aside)}.")
    if not files and not hub:
        raise DataError("corpus: expected files, patterns or hub addresses, found none. Give at least one.")
    return sorted([*data_files(list(files.values())), *hub.values()], key=lambda source: source.name), notes


def _name(pattern: str, sources: Sequence[Source]) -> str:
    if len(sources) == 1:
        return sources[0].stem
    plain = Path(pattern.removeprefix(HUB)).absolute()
    return next(path.name for path in (plain, *plain.parents) if not glob.has_magic(str(path)))


def _fingerprint(sources: Sequence[Source], columns: Mapping[str, str] | None, window: int) -> str:
    hasher = xxhash.xxh3_128()
    settings = [_VERSION, None if columns is None else sorted(columns.items()), window]
    hasher.update(json.dumps(settings).encode())
    for source in sources:
        hasher.update(f"\0{source.name}\0{source.size}\0".encode())
        source.feed(hasher.update)
    return str(hasher.hexdigest())


def _open(folder: Path) -> tuple[pa.Table, list[str]] | None:
    """The documents and their notes, if they are there and whole; that they are damaged is told."""
    if not folder.exists():
        return None
    try:
        done = json.loads((folder / _DONE).read_text(encoding="utf-8"))
        size = (folder / _DOCUMENTS).stat().st_size
        if found := compared(folder / _DONE, {_DOCUMENTS: (size, done.get("xxh3_128"))}):  # older ones have none
            raise ValueError(found)
        table = ipc.open_file(pa.memory_map(str(folder / _DOCUMENTS))).read_all()
        if table.schema != _SCHEMA or table.num_rows != done["documents"]:
            raise ValueError(f"expected {done['documents']} documents, found {table.num_rows} or other columns")
        return table, list(map(str, done["notes"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        tell(f"the documents kept in {folder} are damaged and are read anew: {error}")
        return None


def _make(
    folder: Path, sources: Sequence[Source], columns: Mapping[str, str] | None, window: int, progress: Progress | None
) -> None:
    """Fill the folder, complete, in one rename."""
    locks = folder.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / folder.name):
        if _open(folder) is not None:  # a rival process made it while we waited
            return
        for scratch in folder.parent.glob(f".tmp-{folder.name}-*"):  # a crash left it
            shutil.rmtree(scratch)
        with atomic_folder(folder) as scratch:
            tally = _write(scratch / _DOCUMENTS, sources, columns, window, progress)
            digest = contents(scratch)[_DOCUMENTS][1]
            done = {"documents": tally.documents, "notes": tally.notes(window), "xxh3_128": digest}
            (scratch / _DONE).write_text(json.dumps(done, indent=1, ensure_ascii=False), encoding="utf-8")


class _Document(NamedTuple):
    text: str
    source: str
    words: int
    file: int
    row: int


@dataclass
class _Tally:
    """What happened to documents on their way, in numbers that do not grow with the corpus."""

    documents: int = 0
    empty: int = 0
    where: list[str] = field(default_factory=list)  # the first few empty ones
    long: int = 0
    windows: int = 0

    def notes(self, window: int) -> list[str]:
        """What must be said about it."""
        notes = []
        if self.empty:
            rest = f" and {self.empty - len(self.where)} more" if self.empty > len(self.where) else ""
            notes.append(f"{self.empty} documents without a word dropped: {', '.join(self.where)}{rest}.")
        if self.long:
            notes.append(
                f"{self.long} documents of more than {1.5 * window:g} words cut into {self.windows} windows of at most "
                f"{window} words, at the ends of sentences where possible."
            )
        return notes


def _write(
    path: Path, sources: Sequence[Source], columns: Mapping[str, str] | None, window: int, progress: Progress | None
) -> _Tally:
    """Stream all documents into an Arrow file, batch by batch."""
    tally, batch = _Tally(), _Batch([source.name for source in sources])
    before, total = 0, sum(source.size for source in sources)
    options = ipc.IpcWriteOptions(emit_dictionary_deltas=True)  # sources are not known before the last row
    with pa.OSFile(str(path), "wb") as file, ipc.new_file(file, _SCHEMA, options=options) as writer:
        for number, source in enumerate(sources):
            with source.open() as table:
                for document in _documents(number, source, table, columns, window, tally):
                    batch.add(document)
                    if batch.full:
                        writer.write_batch(batch.take())
                        if progress:
                            progress(before + table.position(), total)
            before += source.size
        writer.write_batch(batch.take())
    if not tally.documents:
        raise problem(
            shortened([source.shown for source in sources], 3),
            expected="documents",
            found="not a single word",
            way_out="Look at the files, or name another column: corpus.columns: {text: ...}.",
        )
    if progress:
        progress(total, total)
    return tally


def _documents(
    number: int, source: Source, table: Table, given: Mapping[str, str] | None, window: int, tally: _Tally
) -> Iterator[_Document]:
    """The documents of one source, empty ones left out and long ones in windows."""
    columns, stem = corpus_columns(table.columns, given, source.shown), source.stem
    for row, values in table.read(list(columns.values())):
        text = read_text(values[0], Cell(source.shown, row, columns["text"]))
        words = count_words(text or "")
        if text is None or not words:
            tally.empty += 1
            if len(tally.where) < _SHOWN:
                tally.where.append(f"{source.name} row {row}")
            continue
        origin = stem
        if "source" in columns and values[1] is not None:
            origin = read_text(str(values[1]), Cell(source.shown, row, columns["source"])) or origin
        pieces = [text.strip()] if words <= 1.5 * window else windows(text, window)
        if len(pieces) > 1:
            tally.long += 1
            tally.windows += len(pieces)
        for piece in pieces:
            tally.documents += 1
            yield _Document(piece, origin, words if len(pieces) == 1 else count_words(piece), number, row)


class _Batch:
    """Documents on their way into one Arrow record batch."""

    def __init__(self, files: Sequence[str]) -> None:
        self.files = pa.array(files, pa.string())
        self.sources: dict[str, int] = {}
        self.documents: list[_Document] = []
        self.characters = 0

    def add(self, document: _Document) -> None:
        """Take one more."""
        if self.sources.setdefault(document.source, len(self.sources)) >= _MOST_SOURCES:
            raise problem(
                f"{self.files[document.file]} row {document.row}",
                expected=f"at most {_MOST_SOURCES:,} different sources in the corpus",
                found=f"one more, '{document.source[:80]}'",
                way_out="Say which column to read and leave the source out: corpus.columns: {text: ...}.",
            )
        self.documents.append(document)
        self.characters += len(document.text)

    @property
    def full(self) -> bool:
        """Whether it should be written before it takes more memory."""
        return len(self.documents) >= _BATCH_DOCUMENTS or self.characters >= _BATCH_CHARACTERS

    def take(self) -> pa.RecordBatch:
        """The documents as Arrow, and start anew; sources keep their numbers, so their list only grows."""
        texts, sources, words, files, rows = zip(*self.documents, strict=True) if self.documents else ((),) * 5
        known = pa.array(list(self.sources), pa.string())
        numbers = pa.array([self.sources[source] for source in sources], pa.int32())
        arrays = [
            pa.array(texts, pa.large_string()),
            pa.DictionaryArray.from_arrays(numbers, known),
            pa.array(words, pa.int32()),
            pa.DictionaryArray.from_arrays(pa.array(files, pa.int32()), self.files),
            pa.array(rows, pa.int64()),
        ]
        self.documents, self.characters = [], 0
        return pa.record_batch(arrays, schema=_SCHEMA)

"""Where rows come from: files, found by name or pattern, and data sets of the Hugging Face hub (``data.hub``).

Both are a ``Source``: something with a name that opens as a ``Table``.
"""

import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from trivium.data.formats import BINARY, FORMATS, Format, Table
from trivium.data.lines import COMPRESSIONS
from trivium.data.place import Place, meant, problem, shortened

_BLOCK = 1 << 20


class Source(Protocol):
    """Something that rows come from."""

    @property
    def shown(self) -> str:
        """How messages call it: as the user wrote it."""
        ...

    @property
    def name(self) -> str:
        """How rows remember it: without the folder that the data happen to lie in."""
        ...

    @property
    def stem(self) -> str:
        """Its name without folders and suffixes."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def open(self) -> AbstractContextManager[Table]:
        """Its rows; raises a DataError where they cannot be read."""
        ...

    def feed(self, update: Callable[[bytes], None]) -> None:
        """Hand on all that its rows depend on, for a fingerprint."""
        ...


@dataclass(frozen=True)
class DataFile:
    """A data file that exists and has a known suffix; made by ``data_files``.

    Attributes:
        path: Where it lies.
        name: How rows remember it.
        formats: Who reads it, by suffix.
    """

    path: Path
    name: str
    formats: Mapping[str, Format] = field(default_factory=lambda: FORMATS, repr=False, compare=False)

    @property
    def shown(self) -> str:
        """Its path as the user wrote it."""
        return str(self.path)

    @property
    def stem(self) -> str:
        """Its name without folders and suffixes."""
        return stem_of(self.path)

    @property
    def size(self) -> int:
        """Bytes on disk, compressed if it is."""
        return self.path.stat().st_size

    @contextmanager
    def open(self) -> Iterator[Table]:
        """Its rows; raises a DataError where they cannot be read."""
        place = Place(self.shown)
        if not os.access(self.path, os.R_OK):
            raise place.error(expected="a file you may read", found="none", way_out="Change its permissions.")
        if not self.size:
            raise place.error(expected="rows", found="an empty file", way_out="Write it again, or leave it out.")
        with self.formats[suffix_of(self.path, self.formats)](self.path, place) as table:
            yield table

    def feed(self, update: Callable[[bytes], None]) -> None:
        """Its bytes, as they lie on disk."""
        with self.path.open("rb") as file:
            while block := file.read(_BLOCK):
                update(block)


def suffix_of(path: Path, formats: Mapping[str, Format] = FORMATS) -> str:
    """The key of ``formats`` for a file, or an empty string if its suffix is not known.

    >>> suffix_of(Path("a/train.JSONL.gz")), suffix_of(Path("a/train.parquet.gz")), suffix_of(Path("a.docx"))
    ('.jsonl', '', '')
    """
    packed = path.suffix.lower() in COMPRESSIONS
    suffix = (path.with_suffix("") if packed else path).suffix.lower()
    return suffix if suffix in formats and not (packed and suffix in BINARY) else ""


def stem_of(path: Path) -> str:
    """The name of a file without its suffixes.

    >>> stem_of(Path("a/train-00000-of-00002.jsonl.gz"))
    'train-00000-of-00002'
    """
    packed = path.suffix.lower() in COMPRESSIONS
    return (path.with_suffix("") if packed else path).stem


def data_files(paths: Sequence[Path], formats: Mapping[str, Format] = FORMATS) -> tuple[DataFile, ...]:
    """These files, each named by its path below the folder that they all share.

    Raises:
        DataError: a file does not exist, is a folder, or has a suffix that nobody reads.
    """
    for path in paths:
        if not path.is_file():
            raise problem(
                str(path), expected="a data file", found="a folder" if path.is_dir() else "none", way_out=_nearby(path)
            )
        if not suffix_of(path, formats):
            raise problem(
                str(path),
                expected=f"one of {', '.join(formats)}, and of plain text also {' or '.join(COMPRESSIONS)}",
                found=f"'{''.join(path.suffixes) or path.name}'",
                way_out="Save it as one of these.",
            )
    shared = os.path.commonpath([path.absolute().parent for path in paths]) if paths else ""
    return tuple(DataFile(path, path.absolute().relative_to(shared).as_posix(), formats) for path in paths)


def listed(folder: Path, formats: Mapping[str, Format] = FORMATS) -> list[Path]:
    """The data files that lie directly in a folder, by name."""
    files = (path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    return sorted(path for path in files if suffix_of(path, formats))


def matching(pattern: str, formats: Mapping[str, Format] = FORMATS) -> tuple[list[Path], list[Path]]:
    """The data files that a path, a folder or a pattern such as ``data/*.parquet`` stands for, by name.

    Returns:
        The files, and those that the pattern caught but that are no data files.

    Raises:
        DataError: there are none.
    """
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path], []
    caught = listed(path, formats) if path.is_dir() else _glob(path)
    caught = [found for found in caught if found.is_file()]
    files = [found for found in caught if suffix_of(found, formats)]
    if not files:
        other = f"only {shortened([found.name for found in caught], 3)}" if caught else "none"
        raise problem(
            pattern,
            expected=f"data files ({', '.join(formats)})",
            found=other,
            way_out=_nearby(path / "*" if path.is_dir() else path),
        )
    return files, [found for found in caught if not suffix_of(found, formats)]


def _glob(pattern: Path) -> list[Path]:
    # not Path.glob: that one catches hidden files too, and takes no pattern that starts at the root
    return sorted(map(Path, glob.glob(str(pattern), recursive=True)))  # noqa: PTH207


def _nearby(path: Path) -> str:
    """What lies where somebody looked for a file, with a guess at what was meant."""
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    names = sorted(f"{found.name}{'/' * found.is_dir()}" for found in folder.iterdir() if found.name[0] != ".")
    return f"{meant(path.name, names)}In {_as_written(path, folder)} there {_are(names)}."


def _as_written(path: Path, folder: Path) -> str:
    return str(next((parent for parent in path.parents if parent.absolute() == folder), folder))


def _are(names: Sequence[str]) -> str:
    return f"is {shortened(names)}" if names else "is nothing"

"""Where rows come from: files, found by name or pattern, and data sets of the Hugging Face hub (``data.hub``).

Both are a ``Source``: something with a name that opens as a ``Table``.
"""

import glob
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from trivium.data.formats import BINARY, FORMATS, Format, Table
from trivium.data.lines import COMPRESSIONS
from trivium.data.place import Place, meant, problem, shortened

_BLOCK = 1 << 20
_SHOWN = 200  # characters of a path that cannot be one


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


def located(path: str | Path) -> Path:
    """A path as a user wrote it, ``~`` filled in; whether something is there is not asked.

    Raises:
        DataError: there can be nothing: it is empty, too long, no Unicode, in a folder that may not be entered, or in
            the home of somebody unknown.
    """
    try:
        if not str(path).strip():
            raise ValueError("nothing")
        if "\0" in str(path):
            raise ValueError("a NUL character in it")
        str(path).encode()
        found = Path(path).expanduser()
        found.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        shown = repr(str(path)[:_SHOWN])
        raise problem(shown, expected="a path", found=str(why), way_out="Correct it, or rename the file.") from error
    return found


def entries(folder: Path) -> list[Path]:
    """All that lies in a folder; raises a DataError where it may not be read."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise problem(
            str(folder), expected="a folder you may read", found=str(error.strerror), way_out="Change its permissions."
        ) from error


def data_files(paths: Sequence[Path], formats: Mapping[str, Format] = FORMATS) -> tuple[DataFile, ...]:
    """These files, each named by its path below the folder that they all share.

    Raises:
        DataError: a file does not exist, is a folder, or has a suffix that nobody reads.
    """
    for path in paths:
        if not path.is_file():
            found = "a folder" if path.is_dir() else "a link that leads nowhere" if path.is_symlink() else "none"
            raise problem(str(path), expected="a data file", found=found, way_out=_nearby(path))
        if not suffix_of(path, formats):
            raise problem(
                str(path),
                expected=f"one of {', '.join(formats)}, and of plain text also {' or '.join(COMPRESSIONS)}",
                found=f"'{''.join(path.suffixes) or path.name}'",
                way_out="Save it as one of these.",
            )
    shared = os.path.commonpath([path.absolute().parent for path in paths]) if paths else ""
    return tuple(DataFile(path, Path(os.path.relpath(path.absolute(), shared)).as_posix(), formats) for path in paths)


def listed(folder: Path, formats: Mapping[str, Format] = FORMATS) -> list[Path]:
    """The data files that lie directly in a folder, by name."""
    files = (path for path in entries(folder) if path.is_file() and path.name[0] != ".")
    return sorted(path for path in files if suffix_of(path, formats))


def matching(pattern: str, formats: Mapping[str, Format] = FORMATS) -> tuple[list[Path], list[Path]]:
    """The data files that a path, a folder or a pattern such as ``data/*.parquet`` stands for, by name.

    Returns:
        The files, and those that the pattern caught but that are no data files.

    Raises:
        DataError: there are none.
    """
    path = located(pattern)
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
    """What a pattern catches, by name. Not ``Path.glob``, which catches hidden files and takes no absolute pattern."""
    if "**" not in pattern.parts:
        return sorted(map(Path, glob.glob(str(pattern))))  # noqa: PTH207
    at = pattern.parts.index("**")
    roots = _glob(Path(*pattern.parts[:at])) if at else [Path()]
    rest = Path(*pattern.parts[at + 1 :]) if pattern.parts[at + 1 :] else Path("*")
    folders = (folder for root in roots if root.is_dir() for folder in _folders(root))
    return sorted({path for folder in folders for path in _glob(Path(glob.escape(str(folder))) / rest)})


def _folders(root: Path) -> Iterator[Path]:
    """A folder and all below it but hidden ones, each once, for links may lead in circles; found without links first.

    ``glob`` would follow two links to their parent folder some 2**40 times.
    """
    seen: set[tuple[int, int]] = set()
    plain, links = deque([root]), deque[Path]()
    while plain or links:
        folder = (plain or links).popleft()
        try:
            about, inside = folder.stat(), sorted(folder.iterdir())
        except OSError:  # may not be entered: as with ``glob``, it catches nothing there
            continue
        if (about.st_dev, about.st_ino) in seen:
            continue
        seen.add((about.st_dev, about.st_ino))
        yield folder
        for path in inside:
            if path.name[0] != "." and path.is_dir():
                (links if path.is_symlink() else plain).append(path)


def _nearby(path: Path) -> str:
    """What lies where somebody looked for a file, with a guess at what was meant."""
    folder = next((parent for parent in path.absolute().parents if parent.is_dir()), path)
    names = sorted(f"{found.name}{'/' * found.is_dir()}" for found in entries(folder) if found.name[0] != ".")
    return f"{meant(path.name, names)}In {_as_written(path, folder)} there {_are(names)}."


def _as_written(path: Path, folder: Path) -> str:
    return str(next((parent for parent in path.parents if parent.absolute() == folder), folder))


def _are(names: Sequence[str]) -> str:
    return f"is {shortened(names)}" if names else "is nothing"

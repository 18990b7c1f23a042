"""The run folder: artifacts named by what they were made from, and writes that cannot be half done.

An artifact's key is a digest of everything it depends on. The same key is never made twice; another key never
overwrites it. ``done.json`` is written last, with the size and the digest of every file: an artifact is compared with
it before it is used, in every process once, and one that is damaged is made anew. Records of a finished run, and the
folders of its models, have such a list too, and whoever reads them looks at it.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import xxhash
from filelock import FileLock, Timeout

from trivium.core import JSON, digest
from trivium.errors import ArtifactError, TriviumError

Content = tuple[int, str | None]  # a file's size in bytes and its xxh3-128 digest; no digest where none was written

_DONE = "done.json"
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)  # what a damaged list ends in
_LOG = logging.getLogger("trivium")
_COMPARED: set[tuple[Path, int, int]] = set()  # lists whose files this process has read and found to be what they say
_TOLD: set[str] = set()
_REFUSALS: Mapping[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", "Free some room"),
    errno.EDQUOT: ("the quota is used up", "Free some room"),
    errno.EFBIG: ("a file grew larger than is allowed", "Raise the limit (ulimit -f)"),
    errno.EROFS: ("the disk is for reading alone", "Make it writable"),
    errno.EACCES: ("this user may not", "Change its permissions"),
    errno.EPERM: ("this user may not", "Change its permissions"),
    errno.EIO: ("the disk has errors", "Look at the system's log"),
}
_CACHE: ContextVar[Path | None] = ContextVar("trivium.store", default=None)


@contextmanager
def caching_in(folder: Path) -> Iterator[None]:
    """Keep what is made of corpora elsewhere inside the ``with`` block: what is made to be timed is not to be found."""
    before = _CACHE.set(folder)
    try:
        yield
    finally:
        _CACHE.reset(before)


def cache_folder() -> Path:
    """Where what is made of corpora is kept: ``TRIVIUM_CACHE`` of the environment, else ``~/.cache/trivium``."""
    elsewhere = _CACHE.get()
    if elsewhere is not None:
        return elsewhere
    return Path(os.environ.get("TRIVIUM_CACHE") or "~/.cache/trivium").expanduser().absolute()


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder; on success it becomes ``folder``, complete, in one rename.

    A crash leaves only ``.tmp-*``, which the next run sweeps. What is in it is on the disk before the rename is, so
    that this holds for a power cut too.
    """
    scratch, old = _beside(folder), _beside(folder)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        for path in (*scratch.rglob("*"), scratch):
            _let_others_read(path, scratch)
            _sync(path)
        if folder.exists():  # a damaged one: out of the way whole, never half deleted
            folder.rename(old)
        scratch.rename(folder)
        _sync(folder.parent)
    except BaseException:  # Ctrl-C too; re-raised, so nothing is hidden
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def atomic_write(path: Path, text: str) -> None:
    """Write a whole file or leave the old one."""
    with atomic_file(path) as file:
        file.write(text)


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[str]]:
    """Yield a text file to write piece by piece; on success it becomes ``path`` in one rename, else the old stays."""
    scratch = _beside(path)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    try:
        with scratch.open("w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def link(source: Path, target: Path) -> None:
    """Give a file that nobody will change a second name, which takes no room; a copy, where there can be no link."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copy2(source, target)


def room(folder: Path) -> int:
    """Bytes of all files in a folder, those of a file with several names once."""
    files = [file.stat() for file in folder.rglob("*") if file.is_file()]
    return sum({(file.st_dev, file.st_ino): file.st_size for file in files}.values())


def contents(folder: Path) -> dict[str, Content]:
    """Size and digest of every file in a folder, by its path there."""
    return {str(file.relative_to(folder)): _content(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def damage(folder: Path, expected: Mapping[str, Content]) -> str | None:
    """What of a folder is not as ``contents`` said when it was whole; none where all is. More files do not matter."""
    name = ""
    try:
        for name, (size, wanted) in sorted(expected.items()):
            there = (folder / name).stat().st_size
            if there != size:
                return f"{name}: expected {size} bytes, found {there}"
            if wanted is not None and (found := _content(folder / name)[1]) != wanted:
                return f"{name}: expected content with the xxh3-128 digest {wanted}, found {found}"
    except FileNotFoundError:
        return f"{name} is not there"
    except OSError as error:
        return f"{name}: {error.strerror or error}"
    return None


def compared(listing: Path, expected: Mapping[str, Content]) -> str | None:
    """``damage`` of the folder of a list, whose files are read once in a process; after that their sizes are looked at.

    Reading takes about a second for a gigabyte where the disk gives as much, a tenth of that from memory.
    """
    about = listing.stat()
    key = listing.absolute(), about.st_ino, about.st_mtime_ns
    if key in _COMPARED:
        expected = {name: (size, None) for name, (size, _) in expected.items()}
    found = damage(listing.parent, expected)
    if found is None:
        _COMPARED.add(key)
    return found


def mark_done(folder: Path, names: Iterable[str]) -> None:
    """Write down what some files of a folder are, for ``changed`` to look at."""
    atomic_write(folder / _DONE, _listed({}, {name: _content(folder / name) for name in sorted(names)}))


def mark_undone(folder: Path) -> None:
    """Take that list away, before the files are written again."""
    (folder / _DONE).unlink(missing_ok=True)


def changed(folder: Path, *names: str) -> str | None:
    """What of a folder is not as ``done.json`` there says; none where all is, or where nothing is said.

    Args:
        folder: An artifact, or a folder that was marked as done.
        names: The files to look at; all that are written down, if none is named.
    """
    try:
        expected = _said(folder)[1]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except _UNREADABLE as error:
        return f"{_DONE}: {error}"
    return damage(folder, {name: expected[name] for name in names or expected if name in expected})


def demand_unchanged(folder: Path) -> None:
    """Refuse a folder that is not as it was written.

    Raises:
        ArtifactError: ``changed`` has something to say.
    """
    found = changed(folder)
    if found is not None:
        raise ArtifactError(
            f"{folder}: expected what a study wrote there, found that it has changed ({found}). Run the study again, "
            f"which makes it anew; or, if you changed it yourself, delete {_DONE} there."
        )


def tell(damage: str) -> None:
    """Warn of something damaged, once: whoever waits for a lock looks before and after."""
    if damage not in _TOLD:
        _TOLD.add(damage)
        _LOG.warning("%s", damage)


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array whole, or leave what was there: a ``.npy`` file with its digest behind it."""
    scratch = _beside(path)
    try:
        with scratch.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        found = _content(scratch)[1]
        with scratch.open("ab") as file:
            file.write(bytes.fromhex(found))
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def read_array(path: Path, shape: tuple[int, ...], kind: npt.DTypeLike) -> npt.NDArray[Any] | None:
    """What ``write_array`` wrote, memory-mapped; none where it is not there, or damaged, which is told.

    An array of an older version has no digest, and is taken by its shape and kind.
    """
    try:
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        with path.open("rb") as file:
            behind = path.stat().st_size - found.offset - found.nbytes  # type: ignore[attr-defined]
            told = os.pread(file.fileno(), behind, path.stat().st_size - behind).hex()
            whole = not told or told == _digest(file, path.stat().st_size - behind)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        tell(f"{path} is damaged and is made anew: {error}")
        return None
    if found.shape == shape and found.dtype == kind and whole:
        return found
    tell(f"{path} is damaged and is made anew: its content is not what was written")
    return None


def refusal(error: BaseException, place: Path) -> str | None:
    """What to tell of an error by which a disk refused to be written to or read from; none for any other error.

    Args:
        error: Of Python, or of a library that wraps it: numpy and those in Rust keep its number in words alone.
        place: What was being written, if the error does not know it.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (told := re.search(r"\(os error (\d+)\)", str(error))):
        number = int(told[1])
    if number is None and re.search(r"\d+ requested and \d+ written|[Nn]ot enough free space to write", str(error)):
        number = errno.ENOSPC
    if number is None or number not in _REFUSALS:
        return None
    found, way_out = _REFUSALS[number]
    where = getattr(error, "filename", None) or place
    return (
        f"{where}: expected a place to read and write, found that {found} ({os.strerror(number)}). {way_out}, "
        "or give another folder (--runs; what is kept of corpora lies in TRIVIUM_CACHE), and run again: what is "
        "finished is kept."
    )


@contextmanager
def explaining(place: Path) -> Iterator[None]:
    """Say in words what a disk refuses.

    Raises:
        ArtifactError: it refused.
    """
    try:
        yield
    except TriviumError:
        raise
    except Exception as error:
        told = refusal(error, place)
        if told is None:
            raise
        raise ArtifactError(told) from error


@dataclass(frozen=True)
class Artifact:
    """Something that was made, and where it lies.

    Attributes:
        folder: Where.
        key: Digest of all it depends on.
        seconds: How long it took to make.
        reused: Whether it was there already.
    """

    folder: Path
    key: str
    seconds: float
    reused: bool


class Store:
    """The artifacts of a run folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.artifacts = root / "artifacts"

    def make(self, kind: str, inputs: JSON, write: Callable[[Path], None]) -> Artifact:
        """Make an artifact, unless it is there and whole.

        One that is damaged is made anew, with a warning of the logger ``trivium`` that says what is wrong with it.

        Args:
            kind: What it is, the first half of its folder's name.
            inputs: All that it depends on, as JSON.
            write: Fills the folder it is given.

        Raises:
            ArtifactError: the disk is full, or cannot be written to.
        """
        key = digest([kind, inputs])
        folder = self.artifacts / f"{kind}-{key}"
        with explaining(folder):
            return self._make(kind, key, inputs, folder, write)

    def _make(self, kind: str, key: str, inputs: JSON, folder: Path, write: Callable[[Path], None]) -> Artifact:
        locks = self.artifacts / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / folder.name):  # a rival process waits here, and then finds it done
            done = _done(folder)
            if done is not None:
                return Artifact(folder, key, done["seconds"], reused=True)
            begun = time.monotonic()
            with atomic_folder(folder) as scratch:
                write(scratch)
                seconds = round(time.monotonic() - begun, 3)
                about = {"kind": kind, "key": key, "seconds": seconds, "inputs": inputs}
                (scratch / _DONE).write_text(_listed(about, contents(scratch)))
            return Artifact(folder, key, seconds, reused=False)

    def partial(self, kind: str, inputs: JSON) -> Path:
        """Where the maker of an artifact may keep a checkpoint until it is done."""
        return self.artifacts / f".partial-{kind}-{digest([kind, inputs])}"

    def sweep(self) -> None:
        """Delete what a crash left behind: of artifacts, of checkpoints, and of the folders of models."""
        for scratch in [*self.root.rglob(".tmp-*")]:
            if scratch.is_dir():
                shutil.rmtree(scratch)
            else:
                scratch.unlink(missing_ok=True)  # one in a folder that is gone by now

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Be the only process that runs in this folder.

        Raises:
            ArtifactError: another one is running here.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock, holder = FileLock(self.root / ".lock", timeout=0), self.root / ".pid"
        try:
            lock.acquire()
        except Timeout:
            pid = (holder.read_text().strip() if holder.exists() else "") or "unknown"
            raise ArtifactError(
                f"{self.root}: another process (pid {pid}) is running this study. Wait for it, or give another "
                "folder with --runs."
            ) from None
        try:
            holder.write_text(str(os.getpid()))
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def _beside(path: Path) -> Path:
    """A new name next to a path, on the same disk, so that a rename is atomic.

    Not from ``tempfile``, which makes what it makes unreadable to anybody else: a run folder is for colleagues too.
    """
    return path.with_name(f".tmp-{path.name}-{uuid.uuid4().hex[:12]}")


def _let_others_read(path: Path, folder: Path) -> None:
    """Give a file the rights that the user's mask left its folder; safetensors makes what nobody else may read."""
    if path.is_file() and not path.is_symlink():
        mode = path.stat().st_mode
        path.chmod(mode | (folder.stat().st_mode & 0o666))


def _sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _content(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def _digest(file: IO[bytes], size: int) -> str:
    """Of the first so many bytes."""
    hasher = xxhash.xxh3_128()
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        hasher.update(block)
        size -= len(block)
    return str(hasher.hexdigest())


def _listed(about: JSON, files: Mapping[str, Content]) -> str:
    """``done.json``: something about a folder, what its files are, and a digest of all that."""
    done = {
        **about,
        "files": {name: size for name, (size, _) in files.items()},
        "xxh3_128": {name: found for name, (_, found) in files.items()},
    }
    return json.dumps({**done, "self": digest(done)}, indent=1)


def _said(folder: Path) -> tuple[JSON, dict[str, Content]]:
    """What ``done.json`` says, and of which files. One of an older version has sizes alone.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not what was written; any of ``_UNREADABLE``.
    """
    done = json.loads((folder / _DONE).read_text())
    own = done.pop("self", None)
    if own is not None and own != digest(done):
        raise ValueError(f"expected content with the digest {own}, found {digest(done)}")
    digests = done.get("xxh3_128", {}) if own is None else done["xxh3_128"]
    return done, {name: (size, digests.get(name)) for name, size in done["files"].items()}


def _done(folder: Path) -> JSON | None:
    """What ``done.json`` says, if it is there and every file is what it says; if not, why not is told."""
    if not folder.exists():
        return None
    try:
        done, files = _said(folder)
        found = compared(folder / _DONE, files)
    except FileNotFoundError:
        found = f"{_DONE} is not there"
    except _UNREADABLE as error:
        found = f"{_DONE}: {error}"
    if found is None:
        return done
    tell(f"{folder} is damaged and is made anew: {found}")
    return None

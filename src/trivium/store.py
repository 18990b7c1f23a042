"""The run folder: artifacts named by what they were made from, and writes that cannot be half done.

An artifact's key is a digest of everything it depends on. The same key is never made twice; another key never
overwrites it. ``done.json`` is written last, so a folder that has it is whole.
"""

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from trivium.core import JSON, digest
from trivium.errors import ArtifactError

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
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


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
        """Make an artifact, unless it is there.

        Args:
            kind: What it is, the first half of its folder's name.
            inputs: All that it depends on, as JSON.
            write: Fills the folder it is given.
        """
        key = digest([kind, inputs])
        folder = self.artifacts / f"{kind}-{key}"
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
                files = {
                    str(f.relative_to(scratch)): f.stat().st_size for f in sorted(scratch.rglob("*")) if f.is_file()
                }
                done = {"kind": kind, "key": key, "seconds": seconds, "inputs": inputs, "files": files}
                (scratch / "done.json").write_text(json.dumps(done, indent=1))
            return Artifact(folder, key, seconds, reused=False)

    def partial(self, kind: str, inputs: JSON) -> Path:
        """Where the maker of an artifact may keep a checkpoint until it is done."""
        return self.artifacts / f".partial-{kind}-{digest([kind, inputs])}"

    def sweep(self) -> None:
        """Delete what a crash left behind."""
        for scratch in (*self.root.glob(".tmp-*"), *self.artifacts.glob(".tmp-*")):
            shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink()

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
            pid = holder.read_text().strip() if holder.exists() else "unknown"
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


def _sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _done(folder: Path) -> JSON | None:
    """What ``done.json`` says, if it is there and every file has the size it says."""
    try:
        done = json.loads((folder / "done.json").read_text())
        whole = all((folder / name).stat().st_size == size for name, size in done["files"].items())
    except (OSError, ValueError, KeyError):
        return None
    return done if whole else None

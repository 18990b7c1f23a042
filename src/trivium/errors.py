"""Every error a user can cause.

TriviumError
├── ConfigError    the study file or a command line: unknown key, value out of range
├── DataError      a data file: unreadable, a missing column, a label nobody knows
├── LeakError      something asked for a split that it must not see
├── ArtifactError  the run folder: a damaged artifact, a folder in use
└── TrainingError  the loss is no number any more, or far too large

A message says where, what was expected, what was found, and the way out. The command line prints it without a
traceback and exits 1, or 2 for a ConfigError.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class TriviumError(Exception):
    """The root: catching it catches every mistake that trivium can explain."""


class ConfigError(TriviumError):
    """The study file, an argument or a ``key=value`` is not what it should be."""


class DataError(TriviumError):
    """A data file is not what it should be."""


class LeakError(TriviumError):
    """A split was asked for by something that must not see it."""


class ArtifactError(TriviumError):
    """The run folder holds something damaged, or somebody else is writing to it."""


class TrainingError(TriviumError):
    """Training cannot go on: the loss is no number any more, or far too large."""


@contextmanager
def while_doing(what: str) -> Iterator[None]:
    """Say of training that cannot go on inside the ``with`` block what it was for.

    >>> try:
    ...     with while_doing("learning what to hide"):
    ...         raise TrainingError("the loss is no number any more")
    ... except TrainingError as error:
    ...     print(error)
    learning what to hide: the loss is no number any more
    """
    try:
        yield
    except TrainingError as error:
        raise TrainingError(f"{what}: {error}") from error

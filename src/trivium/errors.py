"""Every error a user can cause.

TriviumError
├── ConfigError    the study file or a command line: unknown key, value out of range
├── DataError      a data file: unreadable, a missing column, a label nobody knows
├── LeakError      something asked for a split that it must not see
├── ArtifactError  the run folder: a damaged artifact, a folder in use
└── TrainingError  the loss is no number any more

A message says where, what was expected, what was found, and the way out. The command line prints it without a
traceback and exits 1, or 2 for a ConfigError.
"""


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
    """Training cannot go on: the loss is no number any more."""

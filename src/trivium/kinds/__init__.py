"""What a task is: how rows become tokens, which head answers, what the loss is, how an answer is read and judged.

A kind is a frozen dataclass with a few short methods (see ``Kind``). To add one, write it in a file of its own and
name it in ``KINDS``; loading its rows from files is the business of ``data.tasks``.
"""

from collections.abc import Mapping

from trivium.core import Task
from trivium.errors import ConfigError
from trivium.kinds.classify import Classify
from trivium.kinds.kind import Encoded, Kind

__all__ = ["KINDS", "Classify", "Encoded", "Kind", "kind_of"]

KINDS: Mapping[str, Kind] = {"classify": Classify()}


def kind_of(task: Task) -> Kind:
    """The kind of a task.

    Raises:
        ConfigError: nobody knows the kind, or the kind does not know the task's metric.
    """
    if task.kind not in KINDS:
        raise ConfigError(f"task '{task.name}': unknown kind '{task.kind}'; known are {', '.join(KINDS)}.")
    kind = KINDS[task.kind]
    if task.metric not in kind.metrics:
        raise ConfigError(
            f"task '{task.name}': a {task.kind} task cannot be judged by '{task.metric}'; "
            f"give task.metric as one of {', '.join(kind.metrics)}."
        )
    return kind

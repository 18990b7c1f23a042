"""What a task is: how rows become tokens, which head answers, what the loss is, how an answer is read and judged.

A kind is a frozen dataclass with a few short methods (see ``Kind``). To add one, write it in a file of its own and
name it in ``KINDS``; loading its rows from files is the business of ``data.tasks``. A user's variant of one is a
subclass that ``task.kind`` names as ``"module:Class"``, and is registered nowhere.
"""

from collections.abc import Mapping

from trivium.config import build, own_class
from trivium.core import Task
from trivium.errors import ConfigError
from trivium.kinds.batch import Batch
from trivium.kinds.classify import Classify
from trivium.kinds.kind import Cut, Encoded, Kind
from trivium.kinds.multilabel import Multilabel
from trivium.kinds.rank import Rank
from trivium.kinds.regress import Regress
from trivium.kinds.span import Span
from trivium.kinds.tag import Tag

__all__ = [
    "KINDS",
    "Batch",
    "Classify",
    "Cut",
    "Encoded",
    "Kind",
    "Multilabel",
    "Rank",
    "Regress",
    "Span",
    "Tag",
    "kind_of",
]

KINDS: Mapping[str, Kind] = {
    "classify": Classify(),
    "multilabel": Multilabel(),
    "regress": Regress(),
    "rank": Rank(),
    "tag": Tag(),
    "span": Span(),
}

# what answers are made with, wherever a model is used
_SHARED = ("heads", "configure", "encode", "decode", "read", "gold", "counts")


def kind_of(task: Task) -> Kind:
    """The kind of a task.

    Raises:
        ConfigError: nobody knows the kind, or the kind does not know the task's metric.
    """
    if task.kind not in KINDS:
        raise ConfigError(f"task '{task.name}': unknown kind '{task.kind}'; known are {', '.join(KINDS)}.")
    kind = KINDS[task.kind] if task.variant is None else _variant(task.variant, KINDS[task.kind])
    if task.metric not in kind.metrics:
        raise ConfigError(
            f"task '{task.name}': a {task.kind} task cannot be judged by '{task.metric}'; "
            f"give task.metric as one of {', '.join(kind.metrics)}."
        )
    if task.kind == "classify" and task.metric == "f1" and len(task.labels) != 2:
        raise ConfigError(
            f"task '{task.name}': f1 is that of the second of two labels, and there are {len(task.labels)}; give "
            "task.metric as macro_f1 or micro_f1."
        )
    return kind


def _variant(spelled: str, ours: Kind) -> Kind:
    """A user's variant of a kind of ours.

    Raises:
        ConfigError: it is none, or changes what its models need to be used by others.
    """
    cls = own_class(spelled, KINDS, "task.kind")
    if not issubclass(cls, type(ours)):
        raise ConfigError(f"task.kind: expected a subclass of {type(ours).__name__}, found '{spelled}'.")
    changed = [name for name in _SHARED if getattr(cls, name) is not getattr(type(ours), name)]
    if changed:
        raise ConfigError(
            f"task.kind: expected '{spelled}' to leave {' and '.join(changed)} to {type(ours).__name__}, so that its "
            "models answer without it; a variant may change loss, weight, weights, start and metrics."
        )
    return build(cls, {}, "task.kind")

"""Which column is the text and which the label, and what may stand in a text.

What the user says counts; where the user says nothing, the usual names do, if they leave no doubt.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from trivium.data.place import Cell, meant, problem, shortened
from trivium.errors import ConfigError, DataError

# Names that data sets for text classification go by. A layout that is part of another one found is not in doubt.
_TEXTS: Sequence[tuple[str, ...]] = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text",),
    ("sentence",),
    ("content",),
)
_LABELS = ("label", "labels", "target", "class", "category")
_DOCUMENTS = ("text", "content", "document", "passage", "body", "abstract", "sentence")
_ROLES = ("text", "text_pair", "label")
_TASK = "in the study file: task.columns: {text: ..., label: ...}"  # how a user says which column is meant


def flow_yaml(value: object) -> str:
    """A value as it would be written on one line of the study file.

    >>> flow_yaml(["neg", "yes"])
    "[neg, 'yes']"
    """
    text: str = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False)
    return text.strip()[1:-1]  # dumped in a list: alone, a plain value would get an end-of-document mark


def task_columns(found: Sequence[str], given: Mapping[str, str] | None, where: str) -> dict[str, str]:
    """Which columns of a file are ``text``, perhaps ``text_pair``, and ``label``.

    Args:
        found: The columns it has.
        given: What the user says, our name to the file's; what is not said is recognised.
        where: The file, for messages.

    Returns:
        Our names to the file's.

    Raises:
        ConfigError: ``given`` names something that a task does not have.
        DataError: a column is not there, or there are none, or several, that could be meant.

    >>> task_columns(["id", "premise", "hypothesis", "label"], None, "nli.csv")
    {'text': 'premise', 'text_pair': 'hypothesis', 'label': 'label'}
    """
    chosen = _given(found, given, _ROLES, "task", where)
    if "text" not in chosen:
        chosen = text_columns(found, where) | chosen
    if "label" not in chosen:
        chosen["label"] = _recognised_label(found, where)
    return {role: chosen[role] for role in _ROLES if role in chosen}


def text_columns(found: Sequence[str], where: str, say: str = _TASK) -> dict[str, str]:
    """Which columns of a file are ``text`` and perhaps ``text_pair`` by their names alone; as ``task_columns``."""
    names = _plain(found)
    present = [layout for layout in _TEXTS if set(layout) <= set(names)]
    widest = [layout for layout in present if not any(set(layout) < set(other) for other in present)]
    widest = [layout for layout in widest if "text" in layout] or widest  # our own name: whoever uses it means it
    if len(widest) != 1:
        known = [" + ".join(names[name] for name in layout) for layout in widest]
        raise _in_doubt(found, known, where, "text", say)
    return dict(zip(_ROLES, (names[name] for name in widest[0]), strict=False))


def corpus_columns(found: Sequence[str], given: Mapping[str, str] | None, where: str) -> dict[str, str]:
    """Which columns of a file are ``text`` and, perhaps, ``source``; as ``task_columns``.

    Where the user says anything, a source is read only if the user says so.
    """
    chosen = _given(found, given, ("text", "source"), "corpus", where)
    if "text" not in chosen:
        names = _plain(found)
        known = [names[name] for name in _DOCUMENTS if name in names]
        if "text" in names:
            known = [names["text"]]
        if len(known) != 1:
            raise _in_doubt(found, known, where, "text", "in the study file: corpus.columns: {text: ...}")
        chosen["text"] = known[0]
    if given is None and "source" in found:
        chosen["source"] = "source"
    return chosen


def read_text(value: Any, cell: Cell) -> str | None:
    """A text as a file has it; none where there is none (nothing, nan, or only white space).

    Raises:
        DataError: it is no text, or holds characters that are none.
    """
    if not isinstance(value, str):
        if value is None or value != value:  # nan is not equal to itself
            return None
        raise cell.error(
            expected="text",
            found=f"{repr(value)[:80]} ({type(value).__name__})",
            way_out="Correct the row, or name another column as the text.",
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise cell.error(
            expected="text in Unicode",
            found=f"half of a surrogate pair, \\u{ord(value[error.start]):04x}",
            way_out="Write the file again with a JSON library that escapes whole characters.",
        ) from error
    if "\0" in value:
        raise cell.error(expected="text", found="a NUL character", way_out="Take it out; no text has one.")
    return value if value and not value.isspace() else None


def _given(
    found: Sequence[str], given: Mapping[str, str] | None, roles: Sequence[str], of: str, where: str
) -> dict[str, str]:
    for role, column in (given or {}).items():
        if role not in roles:
            raise ConfigError(
                f"{of}.columns: unknown name '{role}'. {meant(role, roles)}Known are {', '.join(roles)}, each followed "
                "by the column of the file that it is called by there."
            )
        if column not in found:
            said = f"{of}.columns" if of == "corpus" else f"{of}.columns or the training file"
            unlabelled = "; a file without labels is no dev or test split, so move it away" if role == "label" else ""
            raise problem(
                where,
                expected=f"a column '{column}' for the {role}, as {said} has it",
                found=f"the columns {shortened(found, 20)}",
                way_out=f"{meant(column, found)}Correct {of}.columns or the file{unlabelled}.",
            )
    return dict(given or {})


def _plain(found: Sequence[str]) -> dict[str, str]:
    """Names without case and surrounding space, to the names as they are; a name that is so already comes first."""
    return {name.strip().casefold(): name for name in found} | {name: name for name in found}


def _recognised_label(found: Sequence[str], where: str) -> str:
    names = _plain(found)
    present = [names[name] for name in _LABELS if name in names]
    if "label" in names:  # our own name: whoever uses it means it
        return names["label"]
    if len(present) != 1:
        raise _in_doubt(found, present, where, "label", _TASK)
    return present[0]


def _in_doubt(found: Sequence[str], known: Sequence[str], where: str, role: str, say: str) -> DataError:
    doubt = f", of which {' and '.join(known)} could be meant" if known else ""
    return problem(
        where,
        expected=f"one column that is plainly the {role}",
        found=f"the columns {shortened(found, 20)}{doubt}",
        way_out=f"Say which it is {say} (the first line of a csv or tsv must name the columns).",
    )

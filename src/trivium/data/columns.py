"""Which column is the text and which the label, and what may stand in a text.

What the user says counts; where the user says nothing, the usual names do, if they leave no doubt.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from trivium.data.place import WHOLE_CHARACTERS, Cell, meant, problem, shortened
from trivium.errors import ConfigError, DataError

Given = Mapping[
    str, str | int | Sequence[str | int]
]  # our name to the file's, as a user says it; a number counts from 0
Chosen = Mapping[str, str | tuple[str, ...]]  # our name to the file's: one column, or several

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
LABELS = ("label", "labels", "target", "class", "category")
_DOCUMENTS = ("text", "content", "document", "passage", "body", "abstract", "sentence")
_ROLES = ("text", "text_pair", "label")
_TASK = "in the study file: task.columns: {text: ..., label: ...}"  # how a user says which column is meant


def flow_yaml(value: object) -> str:
    """A value as it would be written on one line of the study file.

    >>> flow_yaml(["neg", "yes"])
    "[neg, 'yes']"
    """
    text = _dumped([value], default_flow_style=True, width=10**6)
    return text.strip()[1:-1]  # dumped in a list: alone, a plain value would get an end-of-document mark


def block_yaml(value: object) -> str:
    """A value as YAML of many lines, which reads as the same value.

    >>> print(block_yaml({"labels": ["neg", "pos"]}), end="")
    labels:
    - neg
    - pos
    """
    return _dumped(value)


class _Dumper(yaml.SafeDumper):
    """Escapes what only YAML takes for the end of a line, and would otherwise read as a space."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    broken = any(mark in text for mark in ("\x85", "\u2028", "\u2029"))
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if broken else None)


_Dumper.add_representer(str, _text)


def _dumped(value: object, **how: Any) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=False, **how)  # a safe dumper
    return text


def task_columns(
    found: Sequence[str],
    given: Given | None,
    where: str,
    labels: Sequence[str] = LABELS,
    several: Collection[str] = (),
) -> Chosen:
    """Which columns of a file are ``text``, perhaps ``text_pair``, and ``label``.

    Args:
        found: The columns it has.
        given: What the user says, our name to the file's; what is not said is recognised.
        where: The file, for messages.
        labels: Names that the label goes by, our own first.
        several: Which of ours may be several columns.

    Returns:
        Our names to the file's.

    Raises:
        ConfigError: ``given`` names something that a task does not have.
        DataError: a column is not there, or there are none, or several, that could be meant.

    >>> task_columns(["id", "premise", "hypothesis", "label"], None, "nli.csv")
    {'text': 'premise', 'text_pair': 'hypothesis', 'label': 'label'}
    """
    chosen = given_columns(found, given, _ROLES, where, several)
    if "text" not in chosen:
        chosen = {**text_columns(found, where), **chosen}
    if "label" not in chosen:
        chosen["label"] = recognised(found, labels, where, "label")
    return {role: chosen[role] for role in _ROLES if role in chosen}


def text_columns(found: Sequence[str], where: str, say: str = _TASK) -> dict[str, str]:
    """Which columns of a file are ``text`` and perhaps ``text_pair`` by their names alone; as ``task_columns``."""
    names = _plain(found)
    present = [layout for layout in _TEXTS if set(layout) <= set(names)]
    widest = [layout for layout in present if not any(set(layout) < set(other) for other in present)]
    widest = [layout for layout in widest if "text" in layout] or widest  # our own name: whoever uses it means it
    if len(widest) != 1:
        known = [" + ".join(names[name] for name in layout) for layout in widest]
        raise in_doubt(found, known, where, "text", say)
    return dict(zip(_ROLES, (names[name] for name in widest[0]), strict=False))


def corpus_columns(found: Sequence[str], given: Mapping[str, str] | None, where: str) -> dict[str, str]:
    """Which columns of a file are ``text`` and, perhaps, ``source``; as ``task_columns``.

    Where the user says anything, a source is read only if the user says so.
    """
    named = given_columns(found, given, ("text", "source"), where, of="corpus")
    chosen = {role: column for role, column in named.items() if isinstance(column, str)}
    if "text" not in chosen:
        names = _plain(found)
        known = [names[name] for name in _DOCUMENTS if name in names]
        if "text" in names:
            known = [names["text"]]
        if len(known) != 1:
            raise in_doubt(found, known, where, "text", "in the study file: corpus.columns: {text: ...}")
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
            way_out=WHOLE_CHARACTERS,
        ) from error
    if "\0" in value:
        raise cell.error(expected="text", found="a NUL character", way_out="Take it out; no text has one.")
    return value if value and not value.isspace() else None


def given_columns(
    found: Sequence[str],
    given: Given | None,
    roles: Sequence[str],
    where: str,
    several: Collection[str] = (),
    of: str = "task",
) -> dict[str, str | tuple[str, ...]]:
    """The columns that a user names, each looked up in a file.

    Args:
        found: The columns it has.
        given: What the user says: a name, a position from 0, or, for those in ``several``, a list of either.
        roles: Our names.
        where: The file, for messages.
        several: Which of ours may be several columns.
        of: Which part of the study file says so, for messages.

    Raises:
        ConfigError: ``given`` names something that a ``of`` does not have.
        DataError: a column is not there.

    >>> given_columns(["q", "a", "b"], {"text": 0, "choices": ["a", "b"]}, ("text", "choices"), "f", ("choices",))
    {'text': 'q', 'choices': ('a', 'b')}
    """
    chosen: dict[str, str | tuple[str, ...]] = {}
    for role, column in (given or {}).items():
        if role not in roles:
            raise ConfigError(
                f"{of}.columns: unknown name '{role}'. {meant(role, roles)}Known are {', '.join(roles)}, each followed "
                "by the column of the file that it is called by there."
            )
        if isinstance(column, str | int):
            chosen[role] = _there(found, column, role, of, where)
        elif role in several and column:
            chosen[role] = tuple(_there(found, one, role, of, where) for one in column)
        else:
            raise ConfigError(f"{of}.columns.{role}: expected one column, found {flow_yaml(list(column))}.")
    return chosen


def _there(found: Sequence[str], column: str | int, role: str, of: str, where: str) -> str:
    if isinstance(column, int) and 0 <= column < len(found):
        return found[column]
    if column in found:
        return str(column)
    said = f"{of}.columns" if of == "corpus" else f"{of}.columns or the training file"
    unlabelled = "; a file without labels is no dev or test split, so move it away" if role == "label" else ""
    raise problem(
        where,
        expected=f"a column {f'number {column}' if isinstance(column, int) else repr(column)} for the {role}, as {said}"
        " has it",
        found=f"the columns {shortened(found, 20)}",
        way_out=f"{meant(str(column), found)}Correct {of}.columns or the file{unlabelled}.",
    )


def recognised(found: Sequence[str], names: Sequence[str], where: str, role: str) -> str:
    """The one column that goes by any of these names; whoever uses the first of them means it.

    Raises:
        DataError: there is none, or more than one.
    """
    plain = _plain(found)
    present = [plain[name] for name in names if name in plain]
    if names[0] in plain or len(present) == 1:
        return present[0]
    raise in_doubt(found, present, where, role)


def _plain(found: Sequence[str]) -> dict[str, str]:
    """Names without case and surrounding space, to the names as they are; a name that is so already comes first."""
    return {name.strip().casefold(): name for name in found} | {name: name for name in found}


def in_doubt(found: Sequence[str], known: Sequence[str], where: str, role: str, say: str = _TASK) -> DataError:
    """The error for a column that nobody names and that cannot be recognised."""
    doubt = f", of which {' and '.join(known)} could be meant" if known else ""
    return problem(
        where,
        expected=f"one column that is plainly the {role}",
        found=f"the columns {shortened(found, 20)}{doubt}",
        way_out=f"Say which it is {say} (the first line of a csv or tsv must name the columns).",
    )

"""A first study file for somebody's files, with the reason for every line beside it."""

import re
from collections.abc import Sequence
from pathlib import Path

from trivium.config import load_config
from trivium.data import Sniffed, sniff
from trivium.data.columns import flow_yaml
from trivium.errors import ConfigError
from trivium.store import atomic_write

_TOKENS = 2_000_000


def write_study(data: Sequence[str], output: Path, *, force: bool = False) -> str:
    """Look at files and write a study file for them.

    Args:
        data: Files, folders, globs or hub addresses: a labelled task, and text to choose from.
        output: Where to write it.
        force: Overwrite what is there.

    Returns:
        What was found, and what to do next, for a terminal.

    Raises:
        ConfigError: the file is there already.
        DataError: no labelled task is among the data.
    """
    if output.exists() and not force:
        raise ConfigError(f"{output}: this file is there already. Give another with -o, or --force to overwrite it.")
    found = sniff(data)
    atomic_write(output, _study(found, output.stem))
    load_config(output)
    rows = ", ".join(f"{n:,} {split}" for split, n in found.rows.items())
    labels = f", labels {flow_yaml(list(found.labels))}" if _named(found) else ""
    lines = [f"task    {found.task_path}: {found.kind}, {rows} rows{labels}"]
    lines += [f"corpus  {path}" for path in found.corpus] or ["corpus  none given, so there is nothing to read yet"]
    lines += [f"note    {note}" for note in found.notes]
    return "\n".join([*lines, "", f"wrote {output}. Next: trivium check {output}, then trivium run {output}"])


def _name(wish: str) -> str:
    """A name that a run folder may have, as near to a wish as can be.

    >>> _name("my reviews, 2nd"), _name("_"), _name("отзывы")
    ('my-reviews-2nd', 'study', 'study')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", wish).strip("._-")[:50] or "study"


def _named(found: Sniffed) -> bool:
    """Whether the labels of the task have names that its owner gave them."""
    return found.kind in ("classify", "multilabel", "tag")


def _study(found: Sniffed, name: str) -> str:
    task = {"kind": found.kind, "path": found.task_path, "metric": found.metric}
    columns = {role: [*column] if isinstance(column, tuple) else column for role, column in found.columns.items()}
    lines = [
        f"name: {flow_yaml(_name(name if name != 'study' else Path(found.task_path).name.partition('.')[0]))}",
        "seeds: 3                          # more seeds see smaller differences; 5 is good",
        "",
        *(f"# {' '.join(note.split())}" for note in found.notes),  # a name in it may hold a line break
        "task:",
        *(f"  {key}: {flow_yaml(value)}" for key, value in task.items()),
        f"  columns: {flow_yaml(columns)}",
        *([f"  # labels: {flow_yaml(list(found.labels))}"] if _named(found) else []),
        "",
        *_corpus(found),
        "",
        "encoder: {scratch: mini}          # or {pretrained: FOLDER-OR-HUB-NAME}, or minilm",
        "",
        "arms:                             # what is compared; equal updates, the same seeds",
        "  finetune: {stages: [{preset: finetune}]}",
    ]
    arms = [
        "  random:                         # random documents: does reading help at all?",
        f"    documents: {{kind: random, max_tokens: {_TOKENS}}}",
        "    stages: [{preset: tlm-joint}, {preset: finetune}]",
        "  tlm:                            # the documents the task asks for: does choosing help?",
        f"    documents: {{kind: bm25, per_query: 50, max_tokens: {_TOKENS}}}",
        "    stages: [{preset: tlm-joint}, {preset: finetune}]",
    ]
    lines += arms if found.corpus else [f"  # {line}" for line in arms]
    return "\n".join(
        [*lines, "", "baseline: finetune                # the arm that the others are measured against", ""]
    )


def _corpus(found: Sniffed) -> list[str]:
    if not found.corpus:
        return ["# corpus: data/*.jsonl           # the pile of text to choose from"]
    path = flow_yaml(found.corpus[0] if len(found.corpus) == 1 else list(found.corpus))
    return [
        "corpus:",
        f"  path: {path}",
        *([f"  columns: {flow_yaml(dict(found.corpus_columns))}"] if found.corpus_columns else []),
        "  window: 128                     # longer documents are cut into windows of so many words",
    ]

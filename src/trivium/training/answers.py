"""Answers as a file: JSON lines or CSV by its suffix, written piece by piece, whole or not at all."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any

from trivium.errors import ConfigError
from trivium.store import atomic_file

Answers = Iterable[dict[str, Any]]


def as_line(answer: Any) -> str:
    """An answer as a line of JSON; what JSON has no word for, such as a date that was kept, as text."""
    return json.dumps(answer, ensure_ascii=False, default=str) + "\n"


def write_lines(answers: Answers, file: IO[str], batch: int) -> int:
    """Write answers as JSON lines, so many at a time, each time handed on at once; returns how many there were."""
    done, rest = 0, iter(answers)
    while block := list(islice(rest, batch)):
        file.write("".join(map(as_line, block)))
        file.flush()
        done += len(block)
    return done


def write_table(answers: Answers, file: IO[str], batch: int) -> int:
    """Write answers as CSV: a column ``probabilities.<label>`` for each label, and lists as JSON."""
    done, writer = 0, csv.writer(file)
    for row in map(_flat, answers):
        if not done:
            writer.writerow(row)
        writer.writerow(row.values())
        done += 1
    return done


FORMATS: Mapping[str, Callable[[Answers, IO[str], int], int]] = {".jsonl": write_lines, ".csv": write_table}


def demand_format(path: Path) -> None:
    """Refuse a file whose suffix is not known, before any work.

    Raises:
        ConfigError: it is not.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"--output: expected a file that ends in {' or '.join(FORMATS)}, found '{path}'. The suffix says how "
            "answers are written."
        )


def write_answers(answers: Answers, path: Path, batch: int) -> int:
    """Write answers into a file, which is there when all are, and not before.

    Args:
        answers: As ``predict`` yields them.
        path: Ends in .jsonl or .csv.
        batch: How many are written at a time.

    Returns:
        How many there were.

    Raises:
        ConfigError: the suffix is another.
    """
    demand_format(path)
    with atomic_file(path) as file:
        return FORMATS[path.suffix.lower()](answers, file, batch)


def _flat(answer: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_cells(answer))


def _cells(answer: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in answer.items():
        if name == "probabilities" and isinstance(value, dict):
            yield from ((f"{name}.{label}", chance) for label, chance in value.items())
        else:
            yield name, as_line(value).rstrip("\n") if isinstance(value, list | dict) else value

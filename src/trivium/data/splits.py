"""Which rows train, which choose, which judge: finding the splits of a task, and carving those that are missing."""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trivium.core import Split
from trivium.data.files import DataFile, Source, data_files, entries, listed, located, stem_of, suffix_of
from trivium.data.formats import FORMATS, Format
from trivium.data.hub import HUB, hub_splits
from trivium.data.place import meant, problem, shortened
from trivium.errors import ConfigError

SPLITS: Mapping[str, Split] = {
    "train": "train",
    "dev": "dev",
    "validation": "dev",
    "valid": "dev",
    "val": "dev",
    "test": "test",
}
_SHARD = re.compile(r"(?P<split>.+?)(?P<shard>-\d+-of-\d+)?")  # train, or the hub's train-00000-of-00002

Names = Mapping[Split, Sequence[str]]  # what a data set of its own calls its splits, the one that is preferred first


class Row(NamedTuple):
    """A row that has been read.

    Attributes:
        text: Its text.
        pair: Its second text, if rows are pairs.
        label: What its kind makes of the label: a name, several, a number, ….
        key: The same for all rows whose texts are the same but for case, spaces and punctuation.
        source: Where it comes from.
        number: Which data row it is there, counted from 1.
        extra: Choices, or tokens.
    """

    text: str
    pair: str | None
    label: Any
    key: tuple[int, int]
    source: Source
    number: int
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """Where the splits of a task are.

    Attributes:
        name: What to call the task.
        sources: Sources of each split, in order; there is always a train split.
        notes: What was left aside.
    """

    name: str
    sources: Mapping[Split, tuple[Source, ...]]
    notes: tuple[str, ...] = ()


def find_splits(
    path: str | Path | Mapping[str, str | Path],
    formats: Mapping[str, Format] = FORMATS,
    names: Names | None = None,
) -> Found:
    """Find the train, dev and test rows that a path, a mapping or a hub address stands for.

    Args:
        path: As ``load_task`` takes it.
        formats: Who reads a file, by suffix.
        names: Names that splits go by in this data set, beside the usual ones.

    Raises:
        ConfigError: a mapping names something that is no split.
        DataError: nothing is there, no train split, or two files that could be the same split.
    """
    if isinstance(path, Mapping):
        return _of_mapping(path, formats)
    if str(path).startswith(HUB):
        return _of_hub(str(path), names or {})
    path = located(path)
    if path.is_dir():
        return _of_folder(path, formats, names or {})
    return Found(stem_of(path), {"train": data_files([path], formats)})


def split_of(path: Path, names: Names | None = None) -> Split | None:
    """The split that a file is by its name, if any.

    >>> split_of(Path("validation.csv.gz")), split_of(Path("reviews.csv"))
    ('dev', None)
    """
    return _splits(names or {}).get(_plain(path))


def _plain(path: Path) -> str:
    """The name of a file without suffixes and without its number among several."""
    match = _SHARD.fullmatch(stem_of(path).lower())
    return match["split"] if match else ""


def _splits(names: Names) -> Mapping[str, Split]:
    """The split for every name that one goes by, the data set's own first."""
    own = {name: split for split, several in names.items() for name in several}
    return own | {name: split for name, split in SPLITS.items() if name not in own}


def _of_mapping(paths: Mapping[str, str | Path], formats: Mapping[str, Format]) -> Found:
    for name in paths:
        if name not in SPLITS:
            raise ConfigError(f"task.path: unknown split '{name}'. {meant(name, SPLITS)}Known are train, dev and test.")
    if "train" not in paths:
        raise ConfigError(f"task.path: no 'train' among {shortened(paths)}; a task needs rows to train on.")
    files = data_files([located(path) for path in paths.values()], formats)
    train = files[list(paths).index("train")]
    name = train.stem if split_of(train.path) is None else train.path.absolute().parent.name
    return Found(name, _one_each(list(zip(map(SPLITS.__getitem__, paths), files, strict=True)), "task.path"))


def _of_folder(folder: Path, formats: Mapping[str, Format], names: Names) -> Found:
    plain = formats.get(".txt") is FORMATS[".txt"]
    rows = [path for path in listed(folder, formats) if not plain or suffix_of(path) != ".txt"]  # it has no labels
    present = _preferred([(split, path) for path in rows if (split := split_of(path, names))], names)
    if not any(split == "train" for split, _ in present):
        there = sorted(path.name for path in entries(folder))
        raise problem(
            str(folder),
            expected="a file of training rows, named train.csv, train.jsonl, train.parquet, …",
            found=shortened(there) or "an empty folder",
            way_out="Rename it, give the file itself as task.path, or name the files: "
            "task.path: {train: ..., dev: ..., test: ...}.",
        )
    files = data_files([path for _, path in present], formats)
    sources = _one_each([(split, file) for (split, _), file in zip(present, files, strict=True)], str(folder))
    used = {path for _, path in present}
    twice = [path.name for path in rows if path not in used and split_of(path, names)]
    aside = [path.name for path in rows if not split_of(path, names)]
    notes = [f"{folder}: of the same split as others, left aside: {shortened(twice)}."] if twice else []
    notes += [f"{folder}: named like no split, left aside: {shortened(aside)}."] if aside else []
    return Found(folder.absolute().resolve().name, sources, tuple(notes))


def _preferred(files: Sequence[tuple[Split, Path]], names: Names) -> list[tuple[Split, Path]]:
    """Of the files of a split that a data set calls by several names, those of the name it prefers."""

    def rank(split: Split, path: Path) -> int:
        known = list(names.get(split, ()))
        return known.index(_plain(path)) if _plain(path) in known else len(known)

    best = {split: min(rank(other, path) for other, path in files if other == split) for split, _ in files}
    return [(split, path) for split, path in files if rank(split, path) == best[split]]


def _one_each(files: Sequence[tuple[Split, DataFile]], where: str) -> Mapping[Split, tuple[Source, ...]]:
    """One file for each split, or several shards of one."""
    found: dict[Split, list[DataFile]] = defaultdict(list)
    for split, file in files:
        found[split].append(file)
    for split, several in found.items():
        if len(several) > 1 and not all("-of-" in file.stem for file in several):
            raise problem(
                where,
                expected=f"one file for the {split} split",
                found=shortened([file.name for file in several]),
                way_out="Move the others away, or name the files: task.path: {train: ..., dev: ..., test: ...}.",
            )
    return {split: tuple(several) for split, several in found.items()}


def _of_hub(address: str, names: Names) -> Found:
    splits = hub_splits(address)
    sources: dict[Split, tuple[Source, ...]] = {}
    for name, split in _splits(names).items():
        if name in splits:
            sources.setdefault(split, (splits[name],))
    if "train" not in sources:
        raise problem(
            address,
            expected="a split 'train'",
            found=f"the splits {shortened(splits)}",
            way_out="Download it and name the files: task.path: {train: ..., dev: ..., test: ...}.",
        )
    taken = {source.shown for several in sources.values() for source in several}
    aside = [name for name, source in splits.items() if source.shown not in taken]
    notes = (f"{address}: the splits {shortened(aside)} were left aside.",) if aside else ()
    return Found(sources["train"][0].stem, sources, notes)


def _labels(rows: Sequence[Row], _: float) -> Sequence[str]:
    return [row.label for row in rows]


def _input(row: Row) -> Hashable:
    return row.key


def carve(
    rows: Sequence[Row],
    share: float,
    most: int,
    rng: np.random.Generator,
    strata: Callable[[Sequence[Row], float], Sequence[str]] = _labels,
    group: Callable[[Row], Hashable] = _input,
) -> tuple[list[Row], list[Row]]:
    """Take a stratified sample of rows out of others.

    Rows of the same group stay together; where they are of different strata, they stay behind. Every stratum keeps at
    least one group, and gives at least one if it has two.

    Args:
        rows: Rows with labels.
        share: How much of each stratum to take, in (0, 1).
        most: Rows to take at most (but one group of each stratum).
        rng: Chooses.
        strata: Given the rows and the share, the stratum of each; labels, if nobody says otherwise.
        group: What rows that stay together have in common; the input, if nobody says otherwise.

    Returns:
        The rows left and the rows taken, both in the order they came in.
    """
    share = min(share, most / len(rows))
    stratum = strata(rows, share)
    same: dict[Hashable, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        same[group(row)].append(i)
    groups: dict[str, list[list[int]]] = defaultdict(list)
    for members in same.values():
        if len({stratum[i] for i in members}) == 1:
            groups[stratum[members[0]]].append(members)
    taken: set[int] = set()
    for name in sorted(groups):
        taken.update(_sample(groups[name], share, rng))
    left = [row for i, row in enumerate(rows) if i not in taken]
    return left, [rows[i] for i in sorted(taken)]


def _sample(groups: Sequence[list[int]], share: float, rng: np.random.Generator) -> list[int]:
    """About a share of the rows of one stratum, in whole groups; never all groups, and never none of several."""
    room = max(1, round(share * sum(map(len, groups))))
    order = [groups[i] for i in rng.permutation(len(groups))[1:]]
    taken: list[int] = []
    for group in order:
        if len(taken) + len(group) <= room:
            taken += group
    return taken or (min(order, key=len) if order else [])

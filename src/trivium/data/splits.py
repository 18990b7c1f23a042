"""Which rows train, which choose, which judge: finding the splits of a task, and carving those that are missing."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trivium.core import Split
from trivium.data.files import DataFile, Source, data_files, listed, stem_of, suffix_of
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
_SHARD = re.compile(r"(?P<split>[a-z]+)(?P<shard>-\d+-of-\d+)?")  # train, or the hub's train-00000-of-00002


class Row(NamedTuple):
    """A row that has been read.

    Attributes:
        text: Its text.
        pair: Its second text, if rows are pairs.
        label: The name of its label.
        key: The same for all rows whose texts are the same but for case, spaces and punctuation.
        source: Where it comes from.
        number: Which data row it is there, counted from 1.
    """

    text: str
    pair: str | None
    label: str
    key: tuple[int, int]
    source: Source
    number: int


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


def find_splits(path: str | Path | Mapping[str, str | Path]) -> Found:
    """Find the train, dev and test rows that a path, a mapping or a hub address stands for.

    Raises:
        ConfigError: a mapping names something that is no split.
        DataError: nothing is there, no train split, or two files that could be the same split.
    """
    if isinstance(path, Mapping):
        return _of_mapping(path)
    if str(path).startswith(HUB):
        return _of_hub(str(path))
    path = Path(path).expanduser()
    if path.is_dir():
        return _of_folder(path)
    return Found(stem_of(path), {"train": data_files([path])})


def split_of(path: Path) -> Split | None:
    """The split that a file is by its name, if any.

    >>> split_of(Path("validation.csv.gz")), split_of(Path("reviews.csv"))
    ('dev', None)
    """
    match = _SHARD.fullmatch(stem_of(path).lower())
    return SPLITS.get(match["split"]) if match else None


def _of_mapping(paths: Mapping[str, str | Path]) -> Found:
    for name in paths:
        if name not in SPLITS:
            raise ConfigError(f"task.path: unknown split '{name}'. {meant(name, SPLITS)}Known are train, dev and test.")
    if "train" not in paths:
        raise ConfigError(f"task.path: no 'train' among {shortened(paths)}; a task needs rows to train on.")
    files = data_files([Path(path).expanduser() for path in paths.values()])
    train = files[list(paths).index("train")]
    name = train.stem if split_of(train.path) is None else train.path.absolute().parent.name
    return Found(name, _one_each(list(zip(map(SPLITS.__getitem__, paths), files, strict=True)), "task.path"))


def _of_folder(folder: Path) -> Found:
    rows = [path for path in listed(folder) if suffix_of(path) != ".txt"]  # a .txt has no labels
    present = [(split, path) for path in rows if (split := split_of(path))]
    if not any(split == "train" for split, _ in present):
        names = sorted(path.name for path in folder.iterdir())
        raise problem(
            str(folder),
            expected="a file of training rows, named train.csv, train.jsonl, train.parquet, …",
            found=shortened(names) or "an empty folder",
            way_out="Rename it, give the file itself as task.path, or name the files: "
            "task.path: {train: ..., dev: ..., test: ...}.",
        )
    files = data_files([path for _, path in present])
    sources = _one_each([(split, file) for (split, _), file in zip(present, files, strict=True)], str(folder))
    aside = [path.name for path in rows if not split_of(path)]
    notes = (f"{folder}: named like no split, left aside: {shortened(aside)}.",) if aside else ()
    return Found(folder.absolute().resolve().name, sources, notes)


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


def _of_hub(address: str) -> Found:
    splits = hub_splits(address)
    sources: dict[Split, tuple[Source, ...]] = {}
    for name, source in splits.items():
        if name in SPLITS:
            sources.setdefault(SPLITS[name], (source,))
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


def carve(rows: Sequence[Row], share: float, most: int, rng: np.random.Generator) -> tuple[list[Row], list[Row]]:
    """Take a stratified sample of rows out of others.

    Rows with the same input stay together; where they have different labels, they stay behind. Every label keeps at
    least one input, and gives at least one if it has two.

    Args:
        rows: Rows with labels.
        share: How much of each label to take, in (0, 1).
        most: Rows to take at most (but one of each label).
        rng: Chooses.

    Returns:
        The rows left and the rows taken, both in the order they came in.
    """
    same: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        same[row.key].append(i)
    by_label: dict[str, list[list[int]]] = defaultdict(list)
    for group in same.values():
        if len({rows[i].label for i in group}) == 1:
            by_label[rows[group[0]].label].append(group)
    share = min(share, most / len(rows))
    taken: set[int] = set()
    for label in sorted(by_label):
        taken.update(_sample(by_label[label], share, rng))
    left = [row for i, row in enumerate(rows) if i not in taken]
    return left, [rows[i] for i in sorted(taken)]


def _sample(groups: Sequence[list[int]], share: float, rng: np.random.Generator) -> list[int]:
    """About a share of the rows of one label, in whole groups; never all groups, and never none of several."""
    room = max(1, round(share * sum(map(len, groups))))
    order = [groups[i] for i in rng.permutation(len(groups))[1:]]
    taken: list[int] = []
    for group in order:
        if len(taken) + len(group) <= room:
            taken += group
    return taken or (min(order, key=len) if order else [])

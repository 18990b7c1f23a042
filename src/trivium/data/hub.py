"""Data sets of the Hugging Face hub: the only part of trivium's data that can reach the network.

It does so only for an address that starts with ``hub:``. The ``datasets`` library downloads, caches and obeys
``HF_HUB_OFFLINE``, ``HF_HOME`` and ``HF_TOKEN``; what it gives is read in batches from its memory-mapped cache.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from trivium.data.formats import Table
from trivium.data.place import problem

HUB = "hub:"
_BATCH = 1024


@dataclass(frozen=True)
class HubSplit:
    """One split of a data set, as a source of rows.

    Attributes:
        rows: A ``datasets.Dataset``.
        shown: How messages and rows call it.
        stem: The name of the data set without its owner.
    """

    rows: Any
    shown: str
    stem: str

    @property
    def name(self) -> str:
        """The address: it has no folder to leave out."""
        return self.shown

    @property
    def size(self) -> int:
        """Bytes of its Arrow table."""
        return int(self.rows.data.nbytes)

    @contextmanager
    def open(self) -> Iterator[Table]:
        """Its rows."""
        done = 0

        def read(wanted: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
            nonlocal done
            for batch in self._batches(wanted):
                for values in zip(*(batch[name].to_pylist() for name in wanted), strict=True):
                    done += 1
                    yield done, list(values)

        held = {name: getattr(f, "feature", f) for name, f in self.rows.features.items()}  # of a list, what is in it
        names = {name: tuple(f.names) for name, f in held.items() if hasattr(f, "names")}
        total = max(len(self.rows), 1)
        yield Table(tuple(self.rows.column_names), read, lambda: self.size * done // total, names)

    def feed(self, update: Callable[[bytes], None]) -> None:
        """Its rows as Arrow writes them, and its features."""
        update(repr(self.rows.features).encode())
        for batch in self._batches(self.rows.column_names):
            for piece in batch.combine_chunks().to_batches():
                update(piece.serialize())

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        yield from self.rows.select_columns(list(columns)).with_format("arrow").iter(batch_size=_BATCH)


def hub_splits(address: str) -> Mapping[str, HubSplit]:
    """All splits of ``hub:owner/name`` or ``hub:owner/name:config``, by their name there.

    Raises:
        DataError: there is no such data set, or it cannot be reached.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    name, _, config = address.removeprefix(HUB).partition(":")
    try:
        splits = load_dataset(name, config or None)  # nosec B615  # as it is now; its rows are fingerprinted
    except (OSError, ValueError, RuntimeError, LookupError, DatasetsError) as error:  # RuntimeError: it needs a script
        raise problem(
            address,
            expected="a data set of the Hugging Face hub, hub:owner/name or hub:owner/name:config",
            found=f"{type(error).__name__}: {error}",
            way_out="Check the name and the connection, or download the data and give the path of its files.",
        ) from error
    stem = name.rstrip("/").rpartition("/")[2]
    return {str(split): HubSplit(rows, f"{address}/{split}", stem) for split, rows in splits.items()}

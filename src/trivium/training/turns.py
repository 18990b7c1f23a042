"""Whose turn it is: documents, the task, its texts, and the tasks that are learned beside it take turns, a batch each.

Within a cycle the stage's ``mix`` decides; among several tasks, their sizes or the stage's ``sampling``. The n-th turn
is a function of the seed and n, so that a run that goes on reads what it would have read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from trivium.core import Stage, Stream
from trivium.errors import ConfigError
from trivium.seeds import numpy_rng

DOCUMENTS, TEXTS = "<documents>", "<texts>"  # who reads beside the tasks; no names that a file would give a task
_ORDER: tuple[Stream, ...] = ("documents", "texts", "auxiliary", "task")  # a cycle ends with the task (TLM's code)
_LEADING: tuple[Stream, ...] = ("task", "auxiliary", "texts", "documents")  # the first that is there is what passes


@dataclass
class _Pool:
    """Tasks that share turns: in every epoch each has its share, in a fresh order.

    Attributes:
        shares: Turns of each task in an epoch.
        seed: Of the order.
        name: The rest of its randomness.
    """

    shares: Mapping[str, int]
    seed: int
    name: str
    _epoch: int = field(default=-1, init=False)
    _order: list[tuple[str, int]] = field(default_factory=list, init=False)

    @cached_property
    def size(self) -> int:
        """Turns in an epoch."""
        return sum(self.shares.values())

    def turn(self, n: int) -> tuple[str, int]:
        """Whose the n-th turn is, and how many that one had before."""
        epoch, place = divmod(n, self.size)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        name, before = self._order[place]
        return name, epoch * self.shares[name] + before

    def _shuffled(self, epoch: int) -> list[tuple[str, int]]:
        names = [name for name, share in self.shares.items() for _ in range(share)]
        if len(self.shares) > 1:
            order = numpy_rng(self.seed, "turns", self.name, epoch).permutation(len(names))
            names = [names[i] for i in order]
        seen = dict.fromkeys(self.shares, 0)
        found = []
        for name in names:
            found.append((name, seen[name]))
            seen[name] += 1
        return found


@dataclass(frozen=True)
class Turns:
    """Whose turn each update of a stage is.

    Attributes:
        cycle: Names of pools, in order, again and again.
        pools: Who shares the turns of each.
        epoch: Updates in which the stage's epoch passes: all of its task; without one, of the tasks beside it, of its
            texts, or of its documents.
    """

    cycle: tuple[str, ...]
    pools: Mapping[str, _Pool]
    epoch: float

    def turn(self, update: int) -> tuple[str, int]:
        """Who reads in an update (``DOCUMENTS``, ``TEXTS`` or a task by name), and how many batches it had before."""
        whole, place = divmod(update, len(self.cycle))
        pool = self.cycle[place]
        return self.pools[pool].turn(whole * self.cycle.count(pool) + self.cycle[:place].count(pool))

    def updates(self, stage: Stage) -> int:
        """Updates of the stage, whichever way its length is given."""
        if stage.updates is not None:
            return stage.updates
        assert stage.epochs is not None
        return max(1, math.ceil(stage.epochs * self.epoch))


def take_turns(stage: Stage, rows: Mapping[str, int], tokens: Mapping[Stream, int], seed: int) -> Turns:
    """Decide whose turn it is in each update.

    Args:
        stage: Its ``mix`` and, where it learns tasks beside its own, ``sampling``, ``temperature`` and
            ``auxiliary_cap``.
        rows: Training rows of its task, by name, and after it of the tasks beside it.
        tokens: Tokens of the documents and of the texts, padding included; those that are not there may be left out.
        seed: Of the order of turns among tasks.

    Raises:
        ConfigError: the mix has an auxiliary stream and there are no such tasks, or ``sampling`` names another.
    """
    (own, many), *others = rows.items()
    if "auxiliary" in stage.mix and not others:
        raise ConfigError(
            f"stage '{stage.name}': its mix has auxiliary tasks and there are none. Give some, or take 'auxiliary' out."
        )
    batches = {own: math.ceil(many / stage.batch_rows)}
    beside = {name: _capped(count, stage) for name, count in others}
    shares: dict[str, Mapping[str, int]] = {
        "documents": {DOCUMENTS: 1},
        "texts": {TEXTS: 1},
        "auxiliary": beside,
        "task": batches,
    }
    cycle: list[str] = [stream for stream in _ORDER if stream in stage.mix for _ in range(stage.mix[stream])]
    if "auxiliary" in stage.mix and stage.sampling is not None:
        shares["task"] = _shared_out(stage, own, {**batches, **beside})
        cycle = ["task" if stream == "auxiliary" else stream for stream in cycle]
    pools = {name: _Pool(shares[name], seed, f"{stage.name}/{name}") for name in dict.fromkeys(cycle)}
    leading = next(name for name in _LEADING if name in pools)
    if leading in ("texts", "documents"):
        turns = math.ceil(tokens.get(leading, 0) / stage.batch_tokens)
    else:
        turns = pools[leading].size
    return Turns(tuple(cycle), pools, turns / cycle.count(leading) * len(cycle))


def planned_updates(
    stage: Stage,
    rows: int,
    tokens: Mapping[Stream, int],
    beside: Mapping[str, int] | None = None,
    *,
    task: str = "task",
) -> int:
    """Updates of a stage, whichever way its length is given.

    Args:
        stage: The stage.
        rows: Training rows of the task.
        tokens: Tokens of the documents and of the texts, padding included.
        beside: Training rows of the tasks that are learned beside it, by name.
        task: Its name, where others are learned beside it.
    """
    return take_turns(stage, {task: rows, **(beside or {})}, tokens, 0).updates(stage)


def _capped(rows: int, stage: Stage) -> int:
    """Batches in which an auxiliary task is read, as far as it counts."""
    return math.ceil(min(rows, stage.auxiliary_cap or rows) / stage.batch_rows)


def _shared_out(stage: Stage, own: str, batches: Mapping[str, int]) -> Mapping[str, int]:
    """Turns of each task in an epoch in which the stage's own task is read once."""
    if isinstance(stage.sampling, Mapping):
        if not stage.sampling.get(own) or not set(stage.sampling) <= set(batches) or min(stage.sampling.values()) < 0:
            raise ConfigError(
                f"stage '{stage.name}', sampling: expected a ratio above 0 for '{own}', and ratios from 0 for some of "
                f"{', '.join(name for name in batches if name != own)}; found {dict(stage.sampling)}."
            )
        wish = {name: float(stage.sampling.get(name, 0)) for name in batches}
    else:
        power = {"proportional": 1.0, "uniform": 0.0, "temperature": 1 / stage.temperature}[stage.sampling or ""]
        wish = {name: float(size) ** power for name, size in batches.items()}
    return {name: max(1, round(batches[own] * each / wish[own])) for name, each in wish.items() if each > 0}

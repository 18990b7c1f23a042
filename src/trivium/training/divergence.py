"""What to say when training diverged: which update it was, what it read, at which rate, and the way out.

Losses lie on the device, of a task one for each row, until their mean turns out to be no number, or far too large; only
then are they looked through. So no update waits for its loss, and yet the first that went wrong is named.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from trivium.core import JSON, Ints
from trivium.data.place import shortened
from trivium.encoders.streams import BatchStream
from trivium.errors import TrainingError
from trivium.training.optimizer import rate_at
from trivium.training.turns import DOCUMENTS, TEXTS

if TYPE_CHECKING:
    from trivium.training.loop import StageRun

RISE = 1000.0  # times what a loss was at first, and times 1: one that a model comes back from was never seen so high
_SHOWN = 12  # rows of a batch that are named
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Part:
    """What a part of a batch added to a loss.

    Attributes:
        update: In which update, counted from 0.
        name: Which loss: ``mlm``, ``task``, or that of an auxiliary task.
        loss: What it added to the mean of the batch, ``[]``.
        rows: The loss of each row, ``[rows]``; none where rows have none of their own.
    """

    update: int
    name: str
    loss: Tensor
    rows: Tensor | None


@dataclass(frozen=True)
class Fault:
    """The first update that went wrong.

    Attributes:
        update: Which, counted from 0.
        loss: Its loss; none where that was a number, and its gradient was not.
        rows: Of each loss that has them, which rows' losses are no numbers, ``[rows]``.
    """

    update: int
    loss: float | None
    rows: Mapping[str, Flags]


@dataclass
class Losses:
    """The losses and gradients of the updates since somebody last looked at their mean; on the device.

    Attributes:
        parts: Losses, in the order of updates.
        norms: The norm of the gradient of each update.
        update: The update that is being made, counted from 0.
    """

    parts: list[Part] = field(default_factory=list)
    norms: list[tuple[int, Tensor]] = field(default_factory=list)
    update: int = 0

    def note(self, name: str, loss: Tensor, rows: Tensor | None) -> None:
        """Keep what a part of a batch added to a loss."""
        self.parts.append(Part(self.update, name, loss.detach(), None if rows is None else rows.detach()))

    def forget(self) -> None:
        """All but the last update: a gradient that is no number shows in the losses of the next."""
        last = max((update for update, _ in self.norms), default=-1)
        self.parts = [part for part in self.parts if part.update == last]
        self.norms = self.norms[-1:]

    @property
    def sound(self) -> bool:
        """Whether the last gradient was a number: if not, the weights are none by now."""
        return not self.norms or math.isfinite(float(self.norms[-1][1]))

    def fault(self, limits: Mapping[str, float]) -> Fault | None:
        """The first update with a loss above its limit, or with a loss or a gradient that is no number."""
        norms = dict(self.norms)
        for update in sorted({part.update for part in self.parts} | norms.keys()):
            parts = [part for part in self.parts if part.update == update]
            totals: dict[str, float] = {}
            for part in parts:
                totals[part.name] = totals.get(part.name, 0.0) + float(part.loss)
            bad = [
                one for name, one in totals.items() if not (math.isfinite(one) and one <= limits.get(name, math.inf))
            ]
            if bad:
                return Fault(update, bad[0], _bad_rows(parts))
            if update in norms and not math.isfinite(float(norms[update])):
                return Fault(update, None, {})
        return None


def _bad_rows(parts: Sequence[Part]) -> dict[str, Flags]:
    found: dict[str, list[Tensor]] = {}
    for part in parts:
        if part.rows is not None:
            found.setdefault(part.name, []).append(part.rows)
    return {name: ~torch.cat(rows).isfinite().cpu().numpy() for name, rows in found.items()}


def limits(events: Sequence[JSON], names: Sequence[str]) -> dict[str, float]:
    """How large each loss may become, by what it was at first; nothing of those that were not yet written down.

    >>> limits([{"event": "loss", "mlm": 5.0, "task": 0.5}, {"event": "loss", "mlm": 9.0}], ["mlm", "task", "other"])
    {'mlm': 5000.0, 'task': 1000.0}
    """
    first = {name: found[0] for name in names if (found := _means(events, name))}
    return {name: RISE * max(1.0, mean) for name, mean in first.items()}


def exploded(events: Sequence[JSON], name: str, mean: float) -> bool:
    """Whether a mean loss is far too large for the second time running; once, a strange row may do it.

    >>> events = [{"event": "loss", "task": mean} for mean in (1.0, 2000.0)]
    >>> exploded(events, "task", 5000.0), exploded(events[:1], "task", 5000.0), exploded(events, "task", 2.0)
    (True, False, False)
    """
    before = _means(events, name)
    return bool(before) and min(mean, before[-1]) > limits(events, [name])[name]


def _means(events: Sequence[JSON], name: str) -> list[float]:
    return [event[name] for event in events if event["event"] == "loss" and event.get(name) is not None]


def diverged(run: "StageRun") -> TrainingError:
    """What to raise when a mean loss of a stage, or a weight, turned out to be no number, or the loss too large."""
    stage, events = run.stage, run.trace.events
    fault = run.losses.fault(limits(events, list(run.sums)))
    update = run.trace.updates - 1 if fault is None else fault.update
    rate = stage.lr * rate_at(stage, update, run.updates)
    if fault is None:
        wrong = "the weights are no numbers any more after"
    elif fault.loss is None:
        wrong = "the gradient is no number any more in"
    elif math.isfinite(fault.loss):
        wrong = f"the loss rose to {fault.loss:.3g} in"
    else:
        wrong = "the loss is no number any more in"
    return TrainingError(
        f"stage '{stage.name}', seed {run.seed}: {wrong} update {update + 1} of {run.updates} (learning rate "
        f"{rate:.2g}, at its peak {stage.lr:g}). {_told(run, update, fault)}Lower the rate (stages: [{{name: "
        f"{stage.name}, lr: {stage.lr / 3:.1g}}}]) or raise 'warmup'."
    )


def _told(run: "StageRun", update: int, fault: Fault | None) -> str:
    """What an update read, and which of it alone has a loss that is no number, if it is not all of it."""
    read, strange = [], []
    for loss, name, stream, rows in run.read(update):
        read.append(_named(run, name, stream, rows))
        bad = None if fault is None else fault.rows.get(loss)
        if bad is not None and len(bad) == len(rows) and 0 < bad.sum() < len(rows):
            strange.append(_named(run, name, stream, rows[bad]))
    only = f"The loss is no number only of {' and '.join(strange)}: look at what stands there. " if strange else ""
    return f"It read {' and '.join(read)}. {only}"


def _named(run: "StageRun", name: str, stream: BatchStream, rows: Ints) -> str:
    """Rows of a stream as a user finds them again."""
    origins = stream.encoded.origins
    if name == DOCUMENTS:
        return f"windows {_listed(rows)}" if origins is None else f"documents {_listed(origins[rows])}"
    if name == TEXTS:
        assert origins is not None  # they are windows
        first = np.unique(run.task.passages()[1], return_index=True)[1]  # several rows may have the same text
        return f"texts of task '{run.task.name}', {_placed(run.task.rows('train'), first[origins[rows]])}"
    return f"task '{name}', {_placed(run.learned[name].task.rows('train'), rows)}"


def _placed(table: pa.Table, rows: Ints) -> str:
    """Training rows as their file numbers them; by position, counted from 1, where nobody says which file it was."""
    if not {"file", "row"} <= set(table.column_names):
        return f"train rows {_listed(rows + 1)}"
    places = table.select(["file", "row"]).take(pa.array(np.unique(rows))).to_pylist()
    files = {place["file"] for place in places}
    if len(files) == 1:
        return f"{files.pop()} rows {shortened([str(place['row']) for place in places], _SHOWN)}"
    return shortened([f"{place['file']} row {place['row']}" for place in places], _SHOWN)


def _listed(numbers: Ints) -> str:
    return shortened(map(str, np.unique(numbers).tolist()), _SHOWN)

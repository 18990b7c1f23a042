"""What maskers share that ask a model: how it is asked, what is hidden from it at a time, and how it is kept."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trivium.core import JSON, Ints, Task
from trivium.encoders import Encoder
from trivium.encoders.encoder import inputs_of, torch_device
from trivium.encoders.streams import collate, cut
from trivium.errors import ConfigError
from trivium.kinds import Batch, Encoded, kind_of
from trivium.masking.memory import Memory
from trivium.masking.scored import Draw
from trivium.masking.units import Units

TOKENS = 8192  # computed at once, padding included
_LOGITS = 1024  # positions that the vocabulary is laid out for at once


@dataclass(frozen=True, eq=False)
class Asks(ABC):
    """A scorer that asks encoders: those among its fields. Its other fields are its settings, as JSON."""

    @cached_property
    def _memory(self) -> Memory:
        return Memory(self.ask)

    @abstractmethod
    def ask(self, batch: Batch, units: Units) -> Tensor:
        """What the units are worth, float32 ``[texts, width]``."""

    def scores(self, batch: Batch, units: Units) -> Tensor:
        """What the units are worth, float32 ``[texts, width]``; asked once about each text."""
        return self._memory.scores(batch, units)

    def save(self, folder: Path) -> JSON:
        """Write every encoder into a folder that is called as its field; return the settings."""
        settings = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Encoder):
                value.save(folder / field.name)
            else:
                settings[field.name] = value
        return settings

    @classmethod
    def load(cls, folder: Path, about: JSON) -> Self:
        """Read what ``save`` wrote and returned; encoders go where there is most room to compute."""
        names = [field.name for field in fields(cls) if field.name not in about]
        return cls(**{name: Encoder.load(folder / name).to(torch_device()) for name in names}, **about)


@dataclass(frozen=True)
class Gaps:
    """Texts with gaps, on the encoder's device; a text stands here once for each round that hides some of it.

    Attributes:
        batch: The texts as they are.
        ids: The same with the mask token in the gaps, int64 ``[askings, length]``.
        positions: Where the gaps are, as indices into ``ids.flatten()``, int64 ``[gaps]``.
        targets: What is hidden there, int64 ``[gaps]``.
    """

    batch: Batch
    ids: Tensor
    positions: Tensor
    targets: Tensor


@contextmanager
def at_rest(encoder: Encoder) -> Iterator[None]:
    """Ask an encoder without dropout and in float32; after that it goes on training if it did before."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        with torch.autocast(encoder.device.type, enabled=False):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def states(encoder: Encoder, batch: Batch, ids: Tensor | None = None) -> Tensor:
    """Hidden states ``[texts, length, width]``, of ``ids`` in place of the batch's own where given.

    They are computed in a padded rectangle, since packed attention is bfloat16.
    """
    given = inputs_of(batch)
    found: Tensor = encoder.backbone(**(given if ids is None else {**given, "input_ids": ids})).last_hidden_state
    return found


@dataclass(frozen=True)
class InRounds(Draw):
    """The keys of maskers that ask about units while they are hidden.

    Attributes:
        temperature: 0, the largest scores; above it, by the exponential of score / temperature.
        rounds: Rounds in which the units of a text are hidden, every so-manieth at a time, each once. 6 hides a sixth
            of a text, about as much as the model was trained with.
    """

    temperature: float = 0.0
    rounds: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds < 1:
            raise ConfigError(
                f"masker.rounds: expected at least 1, found {self.rounds}. 6 hides about as much as BERT does."
            )


def in_rounds(units: Units, rounds: int) -> tuple[Tensor, Tensor]:
    """Deal the units of each text out to rounds: the first to the first round, the second to the second, and so on.

    So a unit is in exactly one round, with units around it to tell it from, and its round depends on its text alone.

    Args:
        units: What is hidden as a whole.
        rounds: How many rounds there are; a text with fewer units has fewer.

    Returns:
        The text of each asking, int64 ``[askings]``, and what is hidden of it, bool ``[askings, length]``.

    >>> text, hidden = in_rounds(Units(torch.tensor([[-1, 0, 1, 1, 2, -1]]), torch.tensor([3])), 2)
    >>> text.tolist(), hidden.int().tolist()
    ([0, 0], [[0, 1, 0, 0, 1, 0], [0, 0, 1, 1, 0, 0]])
    """
    text, turn = (torch.arange(rounds) < units.count[:, None]).nonzero(as_tuple=True)
    of = units.of[text]
    return text, (of >= 0) & (of % rounds == turn[:, None])


def told(encoder: Encoder, batch: Batch, units: Units, rounds: int, ask: Callable[[Gaps], Tensor]) -> Tensor:
    """Ask about every token of some texts while its unit is hidden.

    Args:
        encoder: Who is asked.
        batch: The texts, on the CPU.
        units: What is hidden as a whole.
        rounds: In how many rounds.
        ask: A number for each gap, ``[gaps]``.

    Returns:
        The numbers where the tokens stand, float32 ``[texts, length]``; 0 on tokens that are never hidden.
    """
    numbers = torch.zeros(batch.ids.shape)
    asked = zip(
        *(torch.split(part, max(1, TOKENS // batch.ids.shape[1])) for part in in_rounds(units, rounds)), strict=True
    )
    with at_rest(encoder):
        for text, hidden in asked:
            if len(text):
                asking, place = hidden.nonzero(as_tuple=True)
                gaps = _gaps(encoder, batch.pick(text), hidden)
                numbers[text[asking], place] = ask(gaps).detach().float().cpu()
    return numbers


def _gaps(encoder: Encoder, batch: Batch, hidden: Tensor) -> Gaps:
    ids = batch.ids.masked_fill(hidden, encoder.tokenizer.mask_token_id)
    positions = hidden.flatten().nonzero().squeeze(1)
    there = encoder.device
    return Gaps(batch.to(there), ids.to(there), positions.to(there), batch.ids[hidden].to(there))


def guesses(encoder: Encoder, hidden: Tensor, gaps: Gaps, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What ``of`` says of the vocabulary logits at the gaps and of the hidden tokens, ``[gaps]``.

    Args:
        encoder: Who guesses.
        hidden: Its hidden states of the texts with gaps, ``[askings, length, width]``.
        gaps: The gaps.
        of: From float32 logits ``[some, vocabulary]`` and targets ``[some]`` to ``[some]``.
    """
    parts = zip(torch.split(gaps.positions, _LOGITS), torch.split(gaps.targets, _LOGITS), strict=True)
    return torch.cat([of(encoder.fill(hidden, positions).float(), targets) for positions, targets in parts])


def answers(encoder: Encoder, task: str, batch: Batch) -> Tensor:
    """The logits of a task's head for a batch on the CPU, on the CPU, ``[texts, …]``; computed in pieces."""
    step = max(1, TOKENS // batch.ids.shape[1])
    found = []
    with at_rest(encoder), torch.no_grad():
        for start in range(0, len(batch.ids), step):
            part = batch.texts(start, start + step).to(encoder.device)
            found.append(encoder.answer(task, states(encoder, part), part).float().cpu())
    return torch.cat(found)


def encode(encoder: Encoder, task: Task, *, windows: bool = True) -> Encoded:
    """The training rows of a task, cut as they were when the encoder learned it; one text for each without windows."""
    how = encoder.cut_of(task.name)
    if not windows and how.long_text == "windows":
        how = replace(how, long_text="head")
    return kind_of(task).encode(encoder.tokenizer, task.rows("train"), task.labels, how)


def batches(encoder: Encoder, encoded: Encoded) -> Iterator[tuple[Ints, Batch]]:
    """All rows, those of similar length together, on the encoder's device; with which rows they are."""
    order = np.argsort(encoded.lengths, kind="stable")
    for rows in cut(order, encoded, None, TOKENS):
        batch = collate(encoded, rows, encoder.tokenizer.pad_token_id, types=encoder.wants_types)
        yield rows, batch.to(encoder.device)


class Leaf:
    """What went into a layer and came out of it; gradients go back to what came out, and no further.

    Attributes:
        given: ``[…, in]``, of the last time that the layer ran.
        made: ``[…, out]``, likewise.
    """

    given: Tensor
    made: Tensor


@contextmanager
def leaf_at(layer: nn.Module) -> Iterator[Leaf]:
    """Watch a layer; gradients are wanted with respect to its output, whatever weights are frozen."""
    leaf = Leaf()

    def watch(_layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
        leaf.given, leaf.made = given[0].detach(), made.detach().requires_grad_()
        return leaf.made

    handle = layer.register_forward_hook(watch)
    try:
        with torch.enable_grad():
            yield leaf
    finally:
        handle.remove()


def edges(units: Units) -> tuple[Tensor, Tensor]:
    """Where units have their first token, and where their last, bool ``[texts, length]`` each."""
    turns = F.pad(units.of[:, 1:] != units.of[:, :-1], (1, 1), value=True)
    inside = units.of >= 0
    return turns[:, :-1] & inside, turns[:, 1:] & inside


def wrong_kind(masker: str, expected: str, task: Task) -> ConfigError:
    """What to raise where a masker does not suit a task."""
    return ConfigError(
        f"masker {masker}: expected a task of kind {expected}, found '{task.name}' of kind {task.kind}. Choose another "
        "masker for it; saliency and gradalign take any kind."
    )

"""An episode: the same texts with gaps in different places, the same training after it, and what came of each.

All that is not the places of the gaps is the same for all ways of an episode: which texts, in which order, how a hidden
token is hidden, the fresh head, dropout. So two ways that hide the same words come out exactly equal.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trivium import seeds
from trivium.core import Ints, Task
from trivium.encoders.streams import between, collate, padded_tokens, subset
from trivium.errors import DataError
from trivium.kinds import Batch, Cut, Encoded, kind_of
from trivium.kinds.text import tokenize_rows
from trivium.masking import Known
from trivium.nmg.settings import NMG
from trivium.training.evaluation import answers, score
from trivium.training.loop import run_stage


@dataclass(frozen=True)
class Parts:
    """The training texts in three parts: none of them is dev or test.

    Attributes:
        learn: Texts that episodes are played with, as indices of passages.
        reward: Rows that say how an episode went, as indices of training rows.
        verdict: Rows that say, at the end, whether the policy is any better than chance.
    """

    learn: Ints
    reward: Ints
    verdict: Ints


def split(of_row: Ints, settings: NMG, seed: int) -> Parts:
    """Part the training texts; the rows of a text stay together.

    Args:
        of_row: Which text each training row is about.
        settings: Its ``validation`` and ``validation_rows``.
        seed: Of the parting.

    Raises:
        DataError: there are too few texts.
    """
    texts = int(of_row.max(initial=-1)) + 1
    kept = round(settings.validation * texts)
    if kept < 1 or texts - 2 * kept < 1:
        raise DataError(f"nmg: expected at least 5 different training texts to learn a policy from, found {texts}.")
    rng = seeds.numpy_rng(seed, "nmg", "parts")
    order = rng.permutation(texts)

    def rows(passages: Ints) -> Ints:
        found = np.flatnonzero(np.isin(of_row, passages))
        return np.sort(rng.permutation(found)[: settings.validation_rows])

    return Parts(np.sort(order[2 * kept :]), rows(order[:kept]), rows(order[kept : 2 * kept]))


@dataclass(frozen=True)
class Chosen:
    """A masker that was told, for each text, where to hide."""

    places: dict[int, Tensor]

    @classmethod
    def of(cls, batch: Batch, hidden: Tensor) -> "Chosen":
        """Of the texts of a batch, bool ``[texts, length]``."""
        rows = zip(batch.names(), hidden, batch.attention, strict=True)
        return cls({name: row[there] for name, row, there in rows})

    def choose(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Return bool ``[texts, length]``."""
        chosen = torch.zeros_like(batch.attention)
        for row, name in enumerate(batch.names()):
            places = self.places[name]
            chosen[row, : len(places)] = places
        return chosen


@dataclass(frozen=True)
class Outcome:
    """What came of one way to hide.

    Attributes:
        likelihood: Log-likelihood of the kept rows' labels, the mean over them.
        value: The task's metric on them.
        rows: The log-likelihood of each of them; their mean is ``likelihood``.
    """

    likelihood: float
    value: float
    rows: tuple[float, ...] = field(default=(), repr=False)


class Snapshot:
    """The weights of a module, to go back to: in memory, copied into the tensors that are there."""

    def __init__(self, *modules: nn.Module) -> None:
        tensors = {id(t): t for m in modules for t in (*m.parameters(), *m.buffers())}
        self.kept = [(tensor, tensor.detach().clone()) for tensor in tensors.values()]

    def restore(self) -> None:
        """Set every weight to what it was."""
        with torch.no_grad():
            for tensor, before in self.kept:
                tensor.copy_(before)


@dataclass(frozen=True)
class Texts:
    """The texts of an episode.

    Attributes:
        episode: Which.
        encoded: The texts, tokenised; a long one in windows.
        batch: All of them in one rectangle.
        windows: Which window of the whole each is, int64 ``[texts of the batch]``.
        task: The rows about them, as a task with training rows alone.
    """

    episode: str
    encoded: Encoded
    batch: Batch
    windows: Ints
    task: Task


class Arena:
    """Where episodes are played: an encoder that is put back after each way, texts, and rows to judge by."""

    def __init__(self, known: Known, settings: NMG) -> None:
        self.settings, self.seed, self.task = settings, known.seed, known.task
        self.encoder = known.models.language()
        self.encoder.remember(settings.freeze)
        self.texts, self.of_row = known.task.passages()
        self.parts = split(self.of_row, settings, known.seed)
        cut = Cut(settings.max_length, "windows", 0)
        learned = [self.texts[i] for i in self.parts.learn]
        self.encoded = tokenize_rows(known.tokenizer, learned, cut)
        self.start = Snapshot(self.encoder.backbone, self.encoder.mlm)
        self._stages(known)

    def _stages(self, known: Known) -> None:
        """The two stages of every way, with the rates that suit the encoder unless the settings say others."""
        own = self.settings
        length = padded_tokens(self.encoded) / self.encoded.widths.sum()
        common: dict[str, Any] = {"max_length": own.max_length, "keep_best": False, "freeze": own.freeze}
        fill: dict[str, Any] = {"epochs": own.fill_epochs, "batch_tokens": round(own.batch_rows * length), **common}
        tune: dict[str, Any] = {"epochs": own.finetune_epochs, "batch_rows": own.batch_rows, "patience": None, **common}
        if own.fill_rate is not None:
            fill["lr"] = own.fill_rate
        if own.finetune_rate is not None:
            tune["lr"] = own.finetune_rate
        self.fill = known.models.stage("adapt", name="fill", **fill)
        self.tune = known.models.stage("finetune", name="tune", **tune)

    def deal(self, episode: str) -> Texts:
        """The texts of an episode, and the rows about them."""
        rng = seeds.numpy_rng(self.seed, "nmg", "contexts", episode)
        many = min(self.settings.contexts, len(self.parts.learn))
        drawn = np.sort(rng.choice(len(self.parts.learn), many, replace=False))
        rows = np.flatnonzero(np.isin(self.of_row, self.parts.learn[drawn]))
        rows = np.sort(rng.permutation(rows)[: self.settings.rows])
        encoded = subset(self.encoded, drawn)
        batch = collate(encoded, np.arange(many), self.encoder.tokenizer.pad_token_id, types=self.encoder.wants_types)
        firsts = self.encoded.firsts
        assert firsts is not None
        windows = between(firsts[drawn], firsts[drawn + 1])
        return Texts(episode, encoded, replace(batch, owners=None), windows, self.rows(rows))

    def rows(self, rows: Ints) -> Task:
        """Some of the training rows."""
        return replace(self.task, tables={"train": self.task.rows("train").take(rows)})

    @cached_property
    def kept(self) -> dict[str, tuple[Task, Encoded]]:
        """The rows to judge by, tokenised: ``reward`` and ``verdict``."""
        kind, cut = kind_of(self.task), Cut(self.tune.max_length, self.tune.long_text, self.tune.stride)
        found = {}
        for name, rows in (("reward", self.parts.reward), ("verdict", self.parts.verdict)):
            task = self.rows(rows)
            found[name] = task, kind.encode(self.encoder.tokenizer, task.rows("train"), task.labels, cut)
        return found

    def play(self, texts: Texts, hidden: Tensor, *, on: str = "reward", keep: bool = False) -> Outcome:
        """Hide, fill, fine-tune, and judge; the encoder is as before when it returns.

        Args:
            texts: The episode's.
            hidden: Where, bool ``[texts of the batch, length]``.
            on: Which rows to judge by: ``reward`` or ``verdict``.
            keep: Let the encoder go on from here, with the gaps filled and not fine-tuned.
        """
        seed = seeds.child(self.seed, "nmg", "episode", texts.episode)
        masker = Chosen.of(texts.batch, hidden)
        self.start.restore()
        run_stage(self.encoder, self.fill, texts.task, documents=texts.encoded, masker=masker, seed=seed)
        after = Snapshot(self.encoder.backbone, self.encoder.mlm) if keep else self.start
        run_stage(self.encoder, self.tune, texts.task, masker=masker, seed=seed)
        outcome = self._judge(on)
        self.start = after
        self.start.restore()
        return outcome

    def _judge(self, on: str) -> Outcome:
        task, encoded = self.kept[on]
        said, sure, losses = answers(self.encoder, task, encoded, task.rows("train"))
        return Outcome(-float(losses.mean()), score(task, "train", said, sure).value, tuple((-losses).tolist()))

"""The one training loop: a stage is run over named streams until its updates are spent or dev stops getting better.

Everything random in update n is drawn from a child seed named after n, so a run that was killed and started again goes
through the same states as one that was not. What is logged lies on the device until it is asked for: no update waits.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trivium import seeds
from trivium.core import Ints, Split, Stage, Stream, Task
from trivium.encoders.encoder import Encoder
from trivium.encoders.streams import BatchStream, padded, padded_tokens
from trivium.errors import ConfigError, TrainingError
from trivium.kinds import Batch, Cut, Encoded, Kind, kind_of
from trivium.kinds.text import tokenize
from trivium.masking import Masker, corrupt
from trivium.training import checkpoint
from trivium.training.agreement import backbone_layers, cosines
from trivium.training.combine import Gradients, Meetings, combine, shared_weights
from trivium.training.divergence import Losses, diverged, exploded
from trivium.training.evaluation import answers, score
from trivium.training.optimizer import make_optimizer, rate_at
from trivium.training.parallel import world
from trivium.training.parts import Work, parts
from trivium.training.turns import DOCUMENTS, TEXTS, take_turns

CHECKPOINT_SECONDS = 60.0
_ASK_EVERY = 8  # updates
_READERS: Mapping[Stream, str] = {"documents": DOCUMENTS, "texts": TEXTS}  # streams without labels
Watch = Callable[[int, int], None]


@dataclass
class Trace:
    """What happened in a stage.

    Attributes:
        updates: Updates made.
        tokens: Tokens read, padding not counted.
        padded: Tokens computed, padding counted.
        maskable: Tokens that could have been hidden, in the batches in which some were to be.
        hidden: Tokens that were: those whose loss was computed, whatever stood in their place.
        seconds: Time spent.
        events: Looks at dev, mean losses, how often gradients of auxiliary tasks conflicted so far (where the stage
            compares them), how far the two losses' gradients agreed (where it asks), and where memory did not suffice,
            in the order of updates.
        best: Value and negative loss at the best look at dev, and the update it was at.
        stale: Looks since then.
    """

    updates: int = 0
    tokens: int = 0
    padded: int = 0
    maskable: int = 0
    hidden: int = 0
    seconds: float = 0.0
    events: list[dict[str, Any]] = field(default_factory=list)
    best: tuple[float, float, int] | None = None
    stale: int = 0


@dataclass(frozen=True)
class Learned:
    """A task that a stage learns.

    Attributes:
        task: The task.
        kind: Its kind.
        weights: How much each label counts in the loss, ``[labels]``; none: all the same.
    """

    task: Task
    kind: Kind
    weights: Tensor | None


class StageRun:
    """One stage on its way; ``run_stage`` drives it."""

    def __init__(
        self,
        encoder: Encoder,
        stage: Stage,
        task: Task,
        documents: Encoded | None,
        masker: Masker,
        seed: int,
        auxiliary: Sequence[Task] = (),
    ) -> None:
        self.encoder, self.stage, self.task, self.masker, self.seed = encoder, stage, task, masker, seed
        _demand_room(encoder, stage)
        beside = _by_name(task, auxiliary if "auxiliary" in stage.mix else ())
        rows = {one.name: len(one.rows("train")) for one in (task, *beside.values())}
        read = self._read(documents)
        self.turns = take_turns(stage, rows, {stream: padded_tokens(it) for stream, it in read.items()}, seed)
        self.updates = self.turns.updates(stage)
        self.cut = Cut(stage.max_length, stage.long_text, stage.stride)
        learned = [task, *beside.values()] if "task" in stage.mix else [*beside.values()]
        self.learned = {one.name: _learned(one, stage, encoder.device) for one in learned}
        self._add_heads(learned)
        self.streams = {one.name: self._stream(one.name, self._rows(one, "train")) for one in learned}
        self.streams |= {_READERS[stream]: self._stream(_READERS[stream], it) for stream, it in read.items()}
        self.meetings = {name: Meetings() for name in beside} if stage.combine != "alternate" else {}
        if self.meetings:
            self.shared = shared_weights(encoder)
            self.primary = replace(self.streams[task.name], name=f"{stage.name}/primary")
        self.compared = self._compared() if stage.gradients_every else {}
        self.dev = self._rows(task, "dev") if "task" in stage.mix and "dev" in task.tables else None
        self.every = stage.evaluate_every or max(1, self.updates // 10)
        self.optimizer = make_optimizer(encoder, stage)
        self.world = world()
        self.micro_tokens = stage.micro_tokens
        self.trace = Trace()
        self.best: checkpoint.Weights | None = None
        self.sums = {name: torch.zeros((), device=encoder.device) for name in ("mlm", "task", *beside)}
        self.batches = dict.fromkeys(self.sums, 0)
        self.losses = Losses()
        self.log_every = max(1, self.updates // 50)

    def _read(self, documents: Encoded | None) -> dict[Stream, Encoded]:
        """What the stage reads without labels, by stream.

        Raises:
            ConfigError: it reads documents, and there are none.
        """
        stage, read = self.stage, dict[Stream, Encoded]()
        if "documents" in stage.mix:
            if not documents:
                raise ConfigError(f"stage '{stage.name}' reads documents, and there are none. Give it some to read.")
            read["documents"] = documents
        if "texts" in stage.mix:
            texts, _ = self.task.passages()
            read["texts"] = tokenize(self.encoder.tokenizer, texts, stage.max_length, windows=True)
        return read

    def _rows(self, task: Task, split: Split) -> Encoded:
        return kind_of(task).encode(self.encoder.tokenizer, task.rows(split), task.labels, self.cut)

    def _stream(self, name: str, encoded: Encoded) -> BatchStream:
        stage, encoder = self.stage, self.encoder
        limit: dict[str, int] = {"max_rows": stage.batch_rows}
        if name in _READERS.values():
            limit = {"max_tokens": stage.batch_tokens}
        called = {DOCUMENTS: "documents", TEXTS: "texts", self.task.name: "task"}.get(name, f"auxiliary/{name}")
        pad = encoder.tokenizer.pad_token_id
        return BatchStream(encoded, f"{stage.name}/{called}", self.seed, pad, types=encoder.wants_types, **limit)

    def _add_heads(self, learned: Sequence[Task]) -> None:
        """A head for the task, even of a stage that does not learn it, and for every other that is learned."""
        stage, encoder = self.stage, self.encoder
        for one in {one.name: one for one in (self.task, *learned)}.values():
            if stage.reset_head or not encoder.has_head(one.name):
                names = () if one is self.task else (one.name,)
                with seeds.torch_scope(self.seed, "head", stage.name, *names):
                    encoder.add_head(one)
        for one in reversed(learned):  # the stage's own task last: the tokenizer remembers its length
            encoder.keep_cut(one, self.cut)

    def step(self, update: int) -> None:
        """One update: a batch of the stream whose turn it is, in as many parts as memory asks for."""
        self.losses.update = update
        if self.stage.gradients_every and update % self.stage.gradients_every == 0:
            self._compare_gradients(update)
        name, turn = self.turns.turn(update)
        primary = self._primary_gradients(update) if name in self.meetings else None
        self._learn(name, self.streams[name].batch(turn), update)
        if primary is not None:
            self.meetings[name].add(combine(self.stage.combine, self.shared, primary, self.world))
        norm = torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), self.stage.clip)
        self.losses.norms.append((update, norm))
        share = rate_at(self.stage, update, self.updates)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.trace.updates = update + 1

    def read(self, update: int) -> list[tuple[str, str, BatchStream, Ints]]:
        """What an update read: of each batch its loss, whose it is, the stream, and which of its rows."""
        name, turn = self.turns.turn(update)
        batches = [(name, self.streams[name], turn)]
        if name in self.meetings:
            batches.append((self.task.name, self.primary, update))
        return [(self._called(whose), whose, stream, stream.rows(n)) for whose, stream, n in batches]

    def _primary_gradients(self, update: int) -> Gradients:
        """What the task itself says of the shared weights in an auxiliary turn, by a batch that serves nothing else."""
        self._learn(self.task.name, self.primary.batch(update), update, "primary")
        found = [weight.grad for weight in self.shared]
        self.optimizer.zero_grad(set_to_none=True)
        return found

    def _compared(self) -> dict[str, tuple[str, BatchStream]]:
        """Who is asked for the gradient of each of the two losses, by batches that serve nothing else.

        Hidden words are those of documents, or of texts, or, of a stage that reads neither, of the task's rows.
        """
        reader = next((name for name in _READERS.values() if name in self.streams), self.task.name)
        asked = {"mlm": reader, "task": self.task.name}
        called = f"{self.stage.name}/compared"
        return {loss: (name, replace(self.streams[name], name=called)) for loss, name in asked.items()}

    def _compare_gradients(self, update: int) -> None:
        """Note how far the two losses agree about the backbone, and leave all else as it was.

        Gaps and dropout are children of the update and its batch, so what is drawn here moves no other draw.
        """
        sums, batches = {name: value.clone() for name, value in self.sums.items()}, dict(self.batches)
        micro_tokens, events, noted = self.micro_tokens, len(self.trace.events), len(self.losses.parts)
        layers, found = backbone_layers(self.encoder), {}
        silent: Mapping[str, Any] = {"mlm": {"answer": 0.0}, "task": {"fill": 0.0}}  # a batch may have both losses
        for loss, (name, stream) in self.compared.items():
            work = self._work(name, stream.batch(update // (self.stage.gradients_every or 1)), update, "compared")
            self._add_gradients(replace(work, **silent[loss]), update, "compared")
            found[loss] = {layer: [weight.grad for weight in weights] for layer, weights in layers.items()}
            self.optimizer.zero_grad(set_to_none=True)
        self.sums, self.batches, self.micro_tokens = sums, batches, micro_tokens
        del self.trace.events[events:], self.losses.parts[noted:]
        self.trace.events.append({"event": "gradients", "update": update, **cosines(**found)})

    def _learn(self, name: str, batch: Batch, update: int, *child: str) -> None:
        """Gradients of a batch, and what it took; ``child`` names draws apart from those of the update's own batch."""
        work = self._work(name, batch, update, *child)
        self._add_gradients(work, update, *child)
        self.trace.tokens += int(batch.attention.sum())
        self.trace.padded += batch.ids.numel()
        if work.gaps is not None:
            self.trace.maskable += int(batch.maskable.sum())
            self.trace.hidden += len(work.gaps.targets)

    def _work(self, name: str, batch: Batch, update: int, *child: str) -> Work:
        """A batch with its gaps, if it is to have any, and what its losses are to be divided by."""
        gaps, fill, tokenizer = None, 0.0, self.encoder.tokenizer
        if name in _READERS.values() or self.stage.mlm_weight > 0:
            where, how = (
                seeds.torch_rng(self.seed, self.stage.name, what, update, *child) for what in ("mask", "corrupt")
            )
            chosen = self.masker.choose(batch, where)
            gaps = corrupt(batch.ids, chosen, tokenizer.mask_token_id, len(tokenizer), how)
            fill = 1 / max(1, len(gaps.targets))
            self._count("mlm")
        if name in _READERS.values():
            return Work(batch, gaps, fill)
        self._count(self._called(name))
        learned = self.learned[name]
        weight = float(learned.kind.weight(batch).sum())
        return Work(batch, gaps, fill, name, 1 / weight if weight > 0 else 0.0)

    def _add_gradients(self, work: Work, update: int, *child: str) -> None:
        """Gradients of a batch, in parts that fit: where memory does not suffice, in smaller ones, from the start."""
        own = () if self.world.rank == 0 else (self.world.rank,)
        while True:
            before, noted = {name: value.clone() for name, value in self.sums.items()}, len(self.losses.parts)
            seeds.reseed_torch(self.seed, self.stage.name, "dropout", update, *child, *own)
            try:
                for part in parts(work, self.micro_tokens, self.world.rank, self.world.size):
                    with self.encoder.autocast():
                        loss = self._loss(part.to(self.encoder.device))
                    loss.backward()  # type: ignore[no-untyped-call]
                break
            except torch.OutOfMemoryError as error:
                self._smaller(work, update, error)
                self.optimizer.zero_grad(set_to_none=True)
                self.sums = before
                del self.losses.parts[noted:]
        self.world.add_gradients(self.encoder.parameters())

    def _smaller(self, work: Work, update: int, error: Exception) -> None:
        """Compute in parts of half the size from now on.

        Raises:
            TrainingError: they are single texts already.
        """
        if self.micro_tokens <= work.batch.ids.shape[1]:
            raise TrainingError(
                f"stage '{self.stage.name}': the device ran out of memory over a single text of up to "
                f"{work.batch.ids.shape[1]} tokens. Lower max_length ({self.stage.max_length}), or take a smaller "
                "encoder."
            ) from error
        self.micro_tokens = min(self.micro_tokens, work.tokens) // 2
        self.trace.events.append({"event": "memory", "update": update, "micro_tokens": self.micro_tokens})

    def _loss(self, work: Work) -> Tensor:
        """What a part adds to the batch's loss: ρ2·mlm + task on the same input (TLM, section 3), or one alone."""
        hidden = self.encoder.hidden(work.batch, None if work.gaps is None else work.gaps.ids)
        if work.task is None:
            return self._fill_loss(hidden, work)
        task = self._answer_loss(hidden, work, work.task)
        if work.gaps is None:
            return task
        weight = self.stage.mlm_weight
        loss = weight * self._fill_loss(hidden, work) + task
        return loss / (1 + weight) if self.stage.loss_norm == "code" else loss

    def _fill_loss(self, hidden: Tensor, work: Work) -> Tensor:
        assert work.gaps is not None
        positions, targets, fill = work.gaps.positions, work.gaps.targets, work.fill
        if len(positions) == 0:  # too short to hide anything in: no gradient but 0, and no nan
            positions, targets, fill = work.batch.ids.new_zeros(1), work.batch.ids[:1, 0], 0.0
        losses = F.cross_entropy(self.encoder.fill(hidden, positions).float(), targets, reduction="sum")
        return self._note("mlm", losses * fill)

    def _answer_loss(self, hidden: Tensor, work: Work, name: str) -> Tensor:
        learned = self.learned[name]
        each = learned.kind.loss(self.encoder.answer(name, hidden, work.batch), work.batch, learned.weights)
        return self._note(self._called(name), each.sum() * work.answer, each)

    def _called(self, name: str) -> str:
        return "task" if name == self.task.name else name

    def _count(self, name: str) -> None:
        self.batches[name] += 1

    def _note(self, name: str, loss: Tensor, rows: Tensor | None = None) -> Tensor:
        self.sums[name] += loss.detach().float()
        self.losses.note(name, loss, rows)
        return loss

    def log_losses(self) -> None:
        """Write down the mean losses since the last time.

        Raises:
            TrainingError: one of them is no number, or far too large for the second time running.
        """
        means: dict[str, float | None] = {}
        for name, total in self.sums.items():
            count = self.batches[name]
            means[name] = float(self.world.add(total)) / count if count else None
            total.zero_()
            self.batches[name] = 0
        known = {name: mean for name, mean in means.items() if mean is not None}
        if any(not math.isfinite(mean) or exploded(self.trace.events, name, mean) for name, mean in known.items()):
            raise diverged(self)
        self.losses.forget()
        self.trace.events.append({"event": "loss", "update": self.trace.updates, **means})
        if self.meetings:
            met = {name: meetings.told() for name, meetings in self.meetings.items()}
            self.trace.events.append({"event": "conflicts", "update": self.trace.updates, "tasks": met})

    def look(self) -> bool:
        """Judge on dev; true where the stage's patience is at its end."""
        assert self.dev is not None
        predicted, sure, losses = answers(self.encoder, self.task, self.dev, self.task.rows("dev"))
        judged = score(self.task, "dev", predicted, sure)
        both = torch.tensor([judged.value, -float(losses.mean())], dtype=torch.float64, device=self.encoder.device)
        found = tuple(self.world.told(both).tolist())
        self.trace.events.append(
            {
                "event": "look",
                "update": self.trace.updates,
                "tokens": self.trace.tokens,
                "value": found[0],
                "loss": -found[1],
            }
        )
        if self.trace.best is None or found > self.trace.best[:2]:
            self.trace.best, self.trace.stale = (*found, self.trace.updates), 0
            if self.stage.keep_best:
                self.best = checkpoint.weights_of(self.encoder)
        else:
            self.trace.stale += 1
        return self.stalled

    @property
    def stalled(self) -> bool:
        """Whether patience is at its end: not in the first half, where the rate is high and dev goes up and down."""
        patience = self.stage.patience
        return patience is not None and self.trace.stale >= patience and 2 * self.trace.updates >= self.updates

    def may_save(self) -> bool:
        """Whether processes may ask each other about a checkpoint now: seldom, since all wait for the answer."""
        return self.world.size == 1 or self.trace.updates % _ASK_EVERY == 0

    def save(self, folder: Path) -> None:
        """Write a checkpoint; none of a model that is broken, since going on from there would not tell since when."""
        sums = {name: self.world.add(value).item() for name, value in self.sums.items()}
        if not all(map(math.isfinite, sums.values())) or not self.losses.sound:
            return
        if self.world.rank == 0:
            meetings = {name: asdict(met) for name, met in self.meetings.items()}
            state = {"sums": sums, "batches": self.batches, "micro_tokens": self.micro_tokens, "meetings": meetings}
            checkpoint.save(folder, self.encoder, self.optimizer, self.best, {"trace": asdict(self.trace), **state})
        self.world.wait()

    def restore(self, folder: Path) -> None:
        """Go to where a checkpoint was written, if there is one."""
        found = checkpoint.restore(folder, self.encoder, self.optimizer)
        if found is not None:
            self.best, state = found
            self.trace = Trace(**state["trace"])
            self.trace.best = tuple(self.trace.best) if self.trace.best else None  # type: ignore[assignment]
            self.batches, self.micro_tokens = state["batches"], state["micro_tokens"]
            self.meetings = {name: Meetings(**met) for name, met in state["meetings"].items()}
            for name, value in state["sums"].items():
                self.sums[name].fill_(value if self.world.rank == 0 else 0.0)  # they were added up


def run_stage(
    encoder: Encoder,
    stage: Stage,
    task: Task,
    *,
    documents: Encoded | None = None,
    auxiliary: Sequence[Task] = (),
    masker: Masker,
    seed: int,
    resume: Path | None = None,
    watch: Watch | None = None,
) -> Trace:
    """Train an encoder, in place, through one stage.

    Args:
        encoder: What to train; it gets a head for the task if it has none.
        stage: What to do.
        task: The task; only its train and dev splits are looked at, dev to steer early stopping.
        documents: Tokenised documents, for stages that read them.
        auxiliary: Tasks to learn beside it, for stages that do; only their training rows are looked at.
        masker: Where to hide tokens.
        seed: Of order, masks, dropout and fresh heads.
        resume: Folder of the checkpoints to write now and then, and to go on from if there are any.
        watch: Told, after every update, how many are done and how many there are.

    Returns:
        What happened.

    Raises:
        TrainingError: the loss is no number any more, or far too large.
        ConfigError: the stage's inputs are longer than the encoder can read.
    """
    with seeds.torch_scope(seed, stage.name):
        beside = [other.sealed() for other in auxiliary]
        run = StageRun(encoder, stage, task.sealed(), documents, masker, seed, beside)
        with encoder.dropping(stage.dropout), encoder.compiled(stage.compile):
            _drive(run, resume, watch or (lambda done, total: None))
        if not all(bool(weights.isfinite().all()) for weights in encoder.parameters()):
            raise diverged(run)
        if run.best is not None:
            checkpoint.put_weights(encoder, run.best)
        if stage.masks:
            encoder.unlearned = frozenset()
        encoder.eval()
    return run.trace


def _drive(run: StageRun, resume: Path | None, watch: Watch) -> None:
    """Update by update to the end, with logs, looks at dev and checkpoints on the way."""
    if resume is not None:
        run.restore(resume)
    saved = time.monotonic()
    begun = saved - run.trace.seconds
    run.encoder.train()
    done = run.stalled
    while run.trace.updates < run.updates and not done:
        run.step(run.trace.updates)
        last = run.trace.updates == run.updates
        if last or run.trace.updates % run.log_every == 0:
            run.log_losses()
        if run.dev is not None and (last or run.trace.updates % run.every == 0):
            done = run.look()
        now = time.monotonic()
        run.trace.seconds = now - begun
        if resume is not None and run.may_save() and run.world.agreed(now - saved > CHECKPOINT_SECONDS):
            run.save(resume)
            saved = time.monotonic()  # and not ``now``: on a slow disk every update would save
        watch(run.trace.updates, run.updates)


def _learned(task: Task, stage: Stage, device: torch.device) -> Learned:
    kind = kind_of(task)
    weights = kind.weights(task.rows("train"), task.labels, stage.class_weight)
    return Learned(task, kind, None if weights is None else weights.to(device))


def _by_name(task: Task, auxiliary: Sequence[Task]) -> dict[str, Task]:
    """Auxiliary tasks by name.

    Raises:
        ConfigError: two have the same, or it is that of the task: each has a head by its name.
    """
    taken = tuple(_READERS.values())
    names = [task.name, *(other.name for other in auxiliary)]
    twice = next((name for name in names if names.count(name) > 1 or name in taken), None)
    if twice is not None:
        raise ConfigError(
            f"auxiliary tasks: expected different names, none of them {' or '.join(taken)}; found '{twice}' among "
            f"{', '.join(names)}. Give load_task(…, name=…)."
        )
    return {other.name: other for other in auxiliary}


def _demand_room(encoder: Encoder, stage: Stage) -> None:
    """Refuse inputs that are longer than the encoder can read.

    Raises:
        ConfigError: they are.
    """
    most = getattr(encoder.backbone.config, "max_position_embeddings", None)
    if most is not None and padded(stage.max_length) > most:
        raise ConfigError(
            f"stage '{stage.name}': expected max_length up to {most // 16 * 16}, the most this encoder can read, "
            f"found {stage.max_length}."
        )

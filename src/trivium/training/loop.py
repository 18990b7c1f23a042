"""The one training loop: a stage is run over named streams until its updates are spent or dev stops getting better.

Everything random in update n is drawn from a child seed named after n, so a run that was killed and started again goes
through the same states as one that was not. What is logged lies on the device until it is asked for: no update waits.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trivium import seeds
from trivium.core import Stage, Stream, Task
from trivium.errors import ConfigError, TrainingError
from trivium.kinds import Encoded, Kind, kind_of
from trivium.masking import Batch, Masker, corrupt
from trivium.training import checkpoint
from trivium.training.encoder import Encoder
from trivium.training.evaluation import answers, score
from trivium.training.optimizer import make_optimizer, rate_at
from trivium.training.streams import BatchStream, padded, padded_tokens

CHECKPOINT_SECONDS = 60.0
Watch = Callable[[int, int], None]


@dataclass
class Trace:
    """What happened in a stage.

    Attributes:
        updates: Updates made.
        tokens: Tokens read, padding not counted.
        padded: Tokens computed, padding counted.
        seconds: Time spent.
        events: Looks at dev and mean losses, in the order of updates.
        best: Value and negative loss at the best look at dev, and the update it was at.
        stale: Looks since then.
    """

    updates: int = 0
    tokens: int = 0
    padded: int = 0
    seconds: float = 0.0
    events: list[dict[str, Any]] = field(default_factory=list)
    best: tuple[float, float, int] | None = None
    stale: int = 0


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
    ) -> None:
        self.encoder, self.stage, self.task, self.masker, self.seed = encoder, stage, task, masker, seed
        most = getattr(encoder.backbone.config, "max_position_embeddings", None)
        if most is not None and padded(stage.max_length) > most:
            raise ConfigError(
                f"stage '{stage.name}': expected max_length up to {most // 16 * 16}, the most this encoder can read, "
                f"found {stage.max_length}."
            )
        self.kind: Kind = kind_of(task)
        self.streams = _streams(encoder, stage, task, documents, seed)
        self.cycle: list[Stream] = [s for s in self.streams for _ in range(stage.mix[s])]
        tokens = 0 if documents is None else padded_tokens(documents)
        self.updates = planned_updates(stage, len(task.rows("train")), tokens)
        if stage.reset_head or not encoder.has_head(task.name):
            with seeds.torch_scope(seed, "head", stage.name):
                encoder.add_head(task.name, self.kind, task.labels)
        if "task" in stage.mix:
            encoder.tokenizer.model_max_length = stage.max_length  # saved with it: who predicts cuts as training did
        self.dev = None
        if "task" in stage.mix and "dev" in task.tables:
            self.dev = self.kind.encode(encoder.tokenizer, task.rows("dev"), stage.max_length)
        self.every = stage.evaluate_every or max(1, self.updates // 10)
        self.optimizer = make_optimizer(encoder, stage)
        self.trace = Trace()
        self.best: checkpoint.Weights | None = None
        self.sums = {name: torch.zeros(2, device=encoder.device) for name in ("mlm", "task")}
        self.log_every = max(1, self.updates // 50)

    def step(self, update: int) -> None:
        """One update: a batch of the stream whose turn it is."""
        whole, place = divmod(update, len(self.cycle))
        stream = self.cycle[place]
        turn = whole * self.cycle.count(stream) + self.cycle[:place].count(stream)
        batch = self.streams[stream].batch(turn)
        seeds.reseed_torch(self.seed, self.stage.name, "dropout", update)
        rng = seeds.torch_rng(self.seed, self.stage.name, "mask", update)
        with autocast(self.encoder.device):
            loss = self._documents_loss(batch, rng) if stream == "documents" else self._task_loss(batch, rng)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), self.stage.clip)
        share = rate_at(self.stage, update, self.updates)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * share
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.trace.tokens += int(batch.attention.sum())
        self.trace.padded += batch.ids.numel()
        self.trace.updates = update + 1

    def _documents_loss(self, batch: Batch, rng: torch.Generator) -> Tensor:
        hidden, gaps = self._masked(batch, rng)
        return self._note("mlm", self._fill_loss(hidden, gaps))

    def _task_loss(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """ρ2·mlm + task on the same masked input (TLM, section 3), or the task alone on the whole text."""
        weight = self.stage.mlm_weight
        if weight == 0:
            batch = batch.to(self.encoder.device)
            return self._note("task", self._answer_loss(self.encoder.hidden(batch), batch))
        hidden, gaps = self._masked(batch, rng)
        mlm = self._note("mlm", self._fill_loss(hidden, gaps))
        task = self._note("task", self._answer_loss(hidden, batch.to(self.encoder.device)))
        return (weight * mlm + task) / (1 + weight if self.stage.loss_norm == "code" else 1)

    def _masked(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Hide, run the backbone, and say where the gaps are and what was there."""
        tokenizer, device = self.encoder.tokenizer, self.encoder.device
        chosen = self.masker.choose(batch, rng)
        gaps = corrupt(batch.ids, chosen, tokenizer.mask_token_id, len(tokenizer), rng)
        hidden = self.encoder.hidden(batch.to(device), gaps.ids.to(device))
        return hidden, (gaps.positions.to(device), gaps.targets.to(device))

    def _fill_loss(self, hidden: Tensor, gaps: tuple[Tensor, Tensor]) -> Tensor:
        positions, targets = gaps
        if len(positions) == 0:  # texts too short to hide anything in: no gradient, and no nan
            return hidden.sum() * 0.0
        return F.cross_entropy(self.encoder.fill(hidden, positions).float(), targets)

    def _answer_loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        assert batch.labels is not None
        return self.kind.loss(self.encoder.answer(self.task.name, hidden, batch), batch.labels).mean()

    def _note(self, name: str, loss: Tensor) -> Tensor:
        self.sums[name] += torch.stack([loss.detach().float(), loss.new_ones((), dtype=torch.float32)])
        return loss

    def log_losses(self) -> None:
        """Write down the mean losses since the last time.

        Raises:
            TrainingError: one of them is no number.
        """
        means = {}
        for name, sums in self.sums.items():
            total, count = sums.tolist()
            means[name] = total / count if count else None
            sums.zero_()
        if any(mean is not None and not math.isfinite(mean) for mean in means.values()):
            raise _diverged(self)
        self.trace.events.append({"event": "loss", "update": self.trace.updates, **means})

    def look(self) -> bool:
        """Judge on dev; true where the stage's patience is at its end."""
        assert self.dev is not None
        predicted, probabilities, losses = answers(self.encoder, self.task, self.dev)
        judged = score(self.task, "dev", self.dev.labels, predicted, probabilities)
        found = (judged.value, -float(losses.mean()))
        self.trace.events.append(
            {
                "event": "look",
                "update": self.trace.updates,
                "tokens": self.trace.tokens,
                "value": judged.value,
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

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        sums = {name: value.tolist() for name, value in self.sums.items()}
        checkpoint.save(folder, self.encoder, self.optimizer, self.best, {"trace": asdict(self.trace), "sums": sums})

    def restore(self, folder: Path) -> None:
        """Go to where a checkpoint was written, if there is one."""
        found = checkpoint.restore(folder, self.encoder, self.optimizer)
        if found is not None:
            self.best, state = found
            self.trace = Trace(**state["trace"])
            self.trace.best = tuple(self.trace.best) if self.trace.best else None  # type: ignore[assignment]
            for name, value in state["sums"].items():
                self.sums[name].copy_(torch.tensor(value))


def run_stage(
    encoder: Encoder,
    stage: Stage,
    task: Task,
    *,
    documents: Encoded | None = None,
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
        masker: Where to hide tokens.
        seed: Of order, masks, dropout and fresh heads.
        resume: Folder of the checkpoint to write now and then, and to go on from if it is there.
        watch: Told, after every update, how many are done and how many there are.

    Returns:
        What happened.

    Raises:
        TrainingError: the loss is no number any more.
        ConfigError: the stage's inputs are longer than the encoder can read.
    """
    with seeds.torch_scope(seed, stage.name):
        run = StageRun(encoder, stage, task.sealed(), documents, masker, seed)
        with encoder.dropping(stage.dropout):
            _drive(run, resume, watch or (lambda done, total: None))
        if not all(bool(weights.isfinite().all()) for weights in encoder.parameters()):
            raise _diverged(run)
        if run.best is not None:
            checkpoint.put_weights(encoder, run.best)
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
        try:
            run.step(run.trace.updates)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"stage '{run.stage.name}': the device ran out of memory. Lower batch_tokens "
                f"({run.stage.batch_tokens}) or batch_rows ({run.stage.batch_rows})."
            ) from error
        last = run.trace.updates == run.updates
        if last or run.trace.updates % run.log_every == 0:
            run.log_losses()
        if run.dev is not None and (last or run.trace.updates % run.every == 0):
            done = run.look()
        now = time.monotonic()
        run.trace.seconds = now - begun
        if resume is not None and now - saved > CHECKPOINT_SECONDS:
            run.save(resume)
            saved = time.monotonic()  # and not ``now``: on a slow disk every update would save
        watch(run.trace.updates, run.updates)


def _diverged(run: StageRun) -> TrainingError:
    stage = run.stage
    return TrainingError(
        f"stage '{stage.name}', seed {run.seed}: the loss is no number any more by update {run.trace.updates} of "
        f"{run.updates} (learning rate {stage.lr:g}). Lower the rate (stages: [{{name: {stage.name}, "
        f"lr: {stage.lr / 3:.1g}}}]) or raise 'warmup'."
    )


def planned_updates(stage: Stage, rows: int, tokens: int) -> int:
    """Updates of a stage, whichever way its length is given.

    Args:
        stage: The stage.
        rows: Training rows of the task.
        tokens: Tokens of the documents, padding included.
    """
    if stage.updates is not None:
        return stage.updates
    assert stage.epochs is not None
    if "task" in stage.mix:
        cycles = stage.epochs * math.ceil(rows / stage.batch_rows) / stage.mix["task"]
    else:
        cycles = stage.epochs * math.ceil(tokens / stage.batch_tokens) / stage.mix["documents"]
    return max(1, math.ceil(cycles * sum(stage.mix.values())))


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 where the device computes in it; nothing elsewhere, since emulating it is slower than float32."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.autocast(device.type, torch.bfloat16) if native else nullcontext()


def _streams(
    encoder: Encoder, stage: Stage, task: Task, documents: Encoded | None, seed: int
) -> dict[Stream, BatchStream]:
    """The stage's streams, documents first: the last batch of a cycle is the task's (TLM's code, section 2.2)."""
    pad, types = encoder.tokenizer.pad_token_id, encoder.wants_types
    streams: dict[Stream, BatchStream] = {}
    if "documents" in stage.mix:
        assert documents is not None, "the caller checks that an arm with a documents stream has documents"
        name = f"{stage.name}/documents"
        streams["documents"] = BatchStream(documents, name, seed, pad, max_tokens=stage.batch_tokens, types=types)
    if "task" in stage.mix:
        rows = kind_of(task).encode(encoder.tokenizer, task.rows("train"), stage.max_length)
        name = f"{stage.name}/task"
        streams["task"] = BatchStream(rows, name, seed, pad, max_rows=stage.batch_rows, types=types)
    return streams

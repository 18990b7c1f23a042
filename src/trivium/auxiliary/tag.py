"""How much a step of each candidate lowers the task's loss, looked at while all are learned together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from trivium import seeds
from trivium.auxiliary.choosers import Chooser
from trivium.auxiliary.projections import rated
from trivium.auxiliary.protocol import Bank, Rating
from trivium.core import Floats, Stage, Task
from trivium.encoders import Encoder
from trivium.encoders.encoder import inputs_of, torch_device
from trivium.encoders.streams import collate
from trivium.errors import ConfigError
from trivium.kinds import Batch
from trivium.masking import RandomTokens
from trivium.masking.asking import at_rest
from trivium.training.loop import StageRun
from trivium.training.optimizer import rate_at

_LEAST = 1e-9  # the smallest loss that another is divided by


@dataclass(frozen=True)
class Tag(Chooser):
    """Rate by affinity between tasks (TAG): learn all together, and now and then look one step ahead.

    A look takes the shared weights a step down a candidate's loss, and asks what that did to the task's:
    1 - L_task(θ - η ∇L_candidate) / L_task(θ), the heads as they are and without dropout. Its step η is the learning
    rate of that update. A score is the mean over looks and seeds: above 0, steps for the candidate were steps for the
    task. The interval is Student's t over all looks, taken as if they were independent.

    A candidate has a head of its own. So one that is the task with labels exchanged is rated as highly as the task
    itself: what is shared is the same.

    Source: Fifty et al. 2021 (arXiv 2109.04617), section 4. They look at all pairs of tasks, and judge a step by the
    batch at hand; here only the task is looked at, and all steps are judged by the same rows.

    Attributes:
        every: Updates between two looks.
        look_rows: Rows of each candidate that a look takes its step for, drawn anew each time; and of the task, drawn
            once, that all looks are judged by.
    """

    every: int = 10
    look_rows: int = 32

    def __post_init__(self) -> None:
        """Refuse what cannot be looked at."""
        super().__post_init__()
        for name in ("every", "look_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, found {getattr(self, name)}.")

    def rank(self, bank: Bank) -> list[Rating]:
        """The mean of all looks at each candidate."""
        looks = np.concatenate([self._looks(bank, seed) for seed in bank.seeds])
        return [rated(one.name, looks[:, i]) for i, one in enumerate(bank.candidates)]

    def _looks(self, bank: Bank, seed: int) -> Floats:
        """Affinities to the task in one training, ``[looks, candidates]``."""
        stage = bank.stage(
            "multitask",
            epochs=self.trial_epochs,
            sampling=self.sampling,
            auxiliary_cap=self.auxiliary_cap,
            patience=None,
            keep_best=False,
        )
        names, found = [one.name for one in bank.candidates], list[list[float]]()

        def look(run: StageRun) -> None:
            ahead = {name: self._drawn(run, name, bank.seed, run.trace.updates) for name in names}
            step = stage.lr * rate_at(stage, run.trace.updates - 1, run.updates)
            found.append(affinities(run, self._drawn(run, run.task.name, bank.seed, 0), ahead, step))

        encoder = bank.language(seed).to(torch_device())
        learn_looking(encoder, stage, bank.task, bank.candidates, seeds.child(seed, "tag"), self.every, look)
        return np.array(found)

    def _drawn(self, run: StageRun, name: str, seed: int, update: int) -> Batch:
        """Some training rows of a task."""
        encoded, encoder = run.streams[name].encoded, run.encoder
        rng = seeds.numpy_rng(seed, "tag", name, update)
        rows = rng.choice(len(encoded), min(self.look_rows, len(encoded)), replace=False)
        batch = collate(encoded, rows, encoder.tokenizer.pad_token_id, types=encoder.wants_types)
        return batch.to(encoder.device)


def learn_looking(
    encoder: Encoder,
    stage: Stage,
    task: Task,
    auxiliary: tuple[Task, ...],
    seed: int,
    every: int,
    look: Callable[[StageRun], None],
) -> None:
    """Train an encoder, in place, through one stage, and let somebody look at it on the way.

    The updates are those of ``run_stage`` without looks at dev, bit for bit, as long as ``look`` changes no weight:
    what is random in an update is a function of the seed and the update.

    Args:
        encoder: What to train.
        stage: What to do.
        task: The task; only its training rows are looked at.
        auxiliary: Tasks to learn beside it, likewise.
        seed: Of order, dropout and fresh heads.
        every: Updates between two looks; a shorter stage is looked at when it ends.
        look: Given the stage on its way.

    Raises:
        TrainingError: the loss is no number any more.
    """
    alone, *beside = [replace(one, tables={"train": one.rows("train")}) for one in (task, *auxiliary)]
    with seeds.torch_scope(seed, stage.name):
        run = StageRun(encoder, stage, alone, None, RandomTokens(), seed, beside)
        every = min(every, run.updates)
        encoder.train()
        with encoder.dropping(stage.dropout):  # after the heads were made: it is their rate, too
            for update in range(run.updates):
                run.step(update)
                if (update + 1) % every == 0:
                    run.log_losses()
                    look(run)
        run.log_losses()
    encoder.eval()


def affinities(run: StageRun, judge: Batch, ahead: Mapping[str, Batch], step: float) -> list[float]:
    """How much of the task's loss a step down each other loss takes away.

    Nothing is changed: what lies ahead is computed with copies of the shared weights.

    Args:
        run: A stage on its way.
        judge: Rows of its task.
        ahead: Rows of others that it learns, by name.
        step: Length of the step, in gradients.

    Returns:
        1 - L_task(θ - step · ∇L_other) / L_task(θ) for each of ``ahead``, in order.
    """
    weights = {name: value for name, value in run.encoder.backbone.named_parameters() if value.requires_grad}
    found = []
    with at_rest(run.encoder):
        with torch.no_grad():
            before = float(_loss(run, run.task.name, judge, weights).clamp(min=_LEAST))
        for name, batch in ahead.items():
            loss = _loss(run, name, batch, weights)
            slopes = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, materialize_grads=True)
            with torch.no_grad():
                moved = {key: weights[key] - step * slope for key, slope in zip(weights, slopes, strict=True)}
                found.append(1 - float(_loss(run, run.task.name, judge, moved)) / before)
    return found


def _loss(run: StageRun, name: str, batch: Batch, weights: Mapping[str, Tensor]) -> Tensor:
    """The mean loss of some rows where the backbone has other weights, float64."""
    learned, backbone = run.learned[name], run.encoder.backbone
    hidden = functional_call(backbone, dict(weights), kwargs=inputs_of(batch)).last_hidden_state
    each = learned.kind.loss(run.encoder.answer(name, hidden, batch), batch, learned.weights)
    return each.double().sum() / learned.kind.weight(batch).sum().clamp(min=1)

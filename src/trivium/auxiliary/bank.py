"""What is known of a task and its candidates: trainings and what was measured in them, kept in a store."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trivium import seeds
from trivium.auxiliary import jobs
from trivium.auxiliary.importance import Estimator, Importance
from trivium.auxiliary.protocol import Beside, Effort, Trial
from trivium.core import JSON, Floats, Ints, Stage, Task
from trivium.data.saved import save_task
from trivium.encoders import Encoder, Scratch
from trivium.encoders.encoder import torch_device
from trivium.errors import DataError
from trivium.masking import RandomTokens
from trivium.store import Artifact, Store
from trivium.training.loop import run_stage
from trivium.training.models import make_tokenizer
from trivium.training.recipes import Spec

Phase = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Ground:
    """What trainings begin from.

    Attributes:
        spec: The encoder.
        origin: What its weights depend on, as JSON.
        store: Where what was found is kept.
        workers: Trainings side by side.
        watch: Told what is being done, how much of it is done and how much there is.
    """

    spec: Spec
    origin: JSON
    store: Store
    workers: int = 1
    watch: Phase = lambda what, done, total: None


@dataclass
class StoredBank:
    """Answers what ways to choose ask (``protocol.Bank``); each answer is an artifact.

    Attributes:
        task: The task; its train split to learn from, its dev split rows that were kept back from train.
        candidates: Tasks that could be learned beside it, with training rows alone.
        seed: Of chance that is not that of trainings.
        seeds: Of the trainings.
        effort: How much is spent.
        ground: What trainings begin from.
        made: Everything that was asked for so far.
        tried: All trials so far, each once.
        measured: Of each task whose heads were measured, the mean of its importances over rows, seed by seed, float64
            ``[seeds, layers, heads]``.
    """

    task: Task
    candidates: tuple[Task, ...]
    seed: int
    seeds: tuple[int, ...]
    effort: Effort
    ground: Ground
    made: list[Artifact] = field(default_factory=list)
    tried: list[Trial] = field(default_factory=list)
    measured: dict[str, Floats] = field(default_factory=dict)

    def language(self, seed: int) -> Encoder:
        """Where every training starts; a copy."""
        return jobs.start(self._start, seed)

    def finetuned(self, task: Task, seed: int) -> Encoder:
        """The same after learning one task alone; it is trained whenever it is asked for."""
        encoder = self.language(seed)
        alone = replace(task, tables={"train": task.rows("train")})
        stage = self.stage("finetune", epochs=self.effort.epochs)
        run_stage(encoder, stage, alone, masker=RandomTokens(), seed=seeds.child(seed, "auxiliary"))
        return encoder

    def joint(self, seed: int) -> Encoder:
        """The same after learning all tasks beside each other; a copy."""
        item = self._item(jobs.JOINT, [self.task, *self.candidates], self._multitask, seed)
        (made,) = self._do("learning all beside each other", [item])
        return Encoder.load(made.folder).to(torch_device())

    def stage(self, preset: str, **changes: Any) -> Stage:
        """A stage with rates that suit the encoder; no dev rows steer it."""
        return self.effort.stage(self.ground.spec, preset, **changes)

    def sample(self, task: Task) -> Task:
        """The task with as many of its training rows as may be looked at."""
        rows, most = task.rows("train"), self.effort.rows
        if most is None or len(rows) <= most:
            return replace(task, tables={"train": rows})
        chosen = np.sort(seeds.numpy_rng(self.seed, "rows", task.name).choice(len(rows), most, replace=False))
        return replace(task, tables={"train": rows.take(chosen)})

    def importance(self, tasks: Sequence[Task], estimator: Estimator) -> dict[str, list[Importance]]:
        """How much each head matters to each row of ``sample`` of each task: one for each seed."""
        stage = self.stage("finetune", epochs=self.effort.epochs)
        items = []
        for task in tasks:
            looked_at = self._kept(self.sample(task))
            for seed in self.seeds:
                more = {"looked_at": looked_at.folder.name, "estimator": estimator}
                item = self._item(jobs.IMPORTANCE, [task], stage, seed, more)
                items.append({**item, "looked_at": str(looked_at.folder.resolve()), "estimator": estimator})
        made = self._do("measuring heads", items)
        found: dict[str, list[Importance]] = {task.name: [] for task in tasks}
        for i, one in enumerate(made):
            found[tasks[i // len(self.seeds)].name].append(Importance.load(one.folder / "importance"))
        self.measured |= {name: np.stack([one.matrix() for one in each]) for name, each in found.items()}
        return found

    def trials(self, sets: Sequence[Beside]) -> list[Trial]:
        """Learn the task beside each of some sets of candidates, and judge by the rows that were kept back."""
        known = {task.name: task for task in self.candidates}
        chosen = [[_some(known[name], rows) for name, rows in sorted(beside.items())] for beside in sets]
        items = [
            self._item(jobs.TRIAL, [self.task, *others], self._multitask if others else self._alone, seed)
            for others in chosen
            for seed in self.seeds
        ]
        made = self._do("trying", items)
        many = len(self.seeds)
        found = [_trial(others, made[i * many : (i + 1) * many]) for i, others in enumerate(chosen)]
        self.tried += [trial for trial in found if trial not in self.tried]
        return found

    @property
    def _multitask(self) -> Stage:
        return self.effort.multitask(self.ground.spec)

    @property
    def _alone(self) -> Stage:
        """The same as ``_multitask`` without anything beside: as many batches of the task, at the same rates."""
        return replace(self._multitask, mix={"task": 1}, sampling=None)

    @cached_property
    def _start(self) -> JSON:
        """What ``jobs.start`` is told."""
        ground, everyone = self.ground, [self.task, *self.candidates]
        scratch = isinstance(ground.spec, Scratch)  # else nothing depends on who else is there
        inputs = {"origin": ground.origin, "tasks": [task.fingerprint for task in everyone] if scratch else None}
        tokenizer = self._keep(
            "vocabulary",
            inputs,
            lambda folder: make_tokenizer(ground.spec, self.task, [], self.candidates).save_pretrained(folder),
        )
        about = {
            "encoder": {name: value for name, value in asdict(ground.spec).items() if value is not None},
            "tokenizer": str(tokenizer.folder.resolve()),
            "max_length": self.effort.max_length,
        }
        if not scratch:
            return about
        items = []
        for seed in self.seeds:
            key = {**inputs, "seed": seed, "max_length": self.effort.max_length}
            items.append({**self._job(jobs.LANGUAGE, key, everyone, seed), "start": about})
        made = self._do("filling gaps", items)
        folders = {str(seed): str(one.folder.resolve()) for seed, one in zip(self.seeds, made, strict=True)}
        return {**about, "languages": folders}

    def _item(self, what: str, tasks: Sequence[Task], stage: Stage, seed: int, more: JSON = None) -> JSON:
        """A job that trains."""
        about = self._start
        inputs = {
            "origin": self.ground.origin,
            "tokenizer": Path(about["tokenizer"]).name,
            "max_length": self.effort.max_length,
            "tasks": [task.fingerprint for task in tasks],
            "stage": asdict(stage),
            "seed": seed,
            "more": more,
        }
        return {**self._job(what, inputs, tasks, seed), "start": about, "stage": asdict(stage)}

    def _job(self, what: str, inputs: JSON, tasks: Sequence[Task], seed: int) -> JSON:
        folders = [str(self._kept(task).folder.resolve()) for task in tasks]
        root = str(self.ground.store.root.resolve())
        return {"what": what, "root": root, "inputs": inputs, "tasks": folders, "seed": seed}

    def _kept(self, task: Task) -> Artifact:
        return self._keep("task", task.fingerprint, lambda folder: save_task(task, folder))

    def _keep(self, kind: str, inputs: JSON, write: Callable[[Path], Any]) -> Artifact:
        return self._remember([self.ground.store.make(kind, inputs, write)])[0]

    def _do(self, what: str, items: Sequence[JSON]) -> list[Artifact]:
        """Do jobs, and tell how far they are: jobs of different length count alike."""
        done = [0.0] * len(items)

        def receive(index: int, message: JSON) -> None:
            done[index] = message["done"] / max(1, message["total"])
            self.ground.watch(what, round(100 * sum(done)), 100 * len(items))

        return self._remember(jobs.run_jobs(items, self.ground.workers, receive))

    def _remember(self, made: Iterable[Artifact]) -> list[Artifact]:
        found = list(made)
        self.made += found
        return found


def keep_back(task: Task, share: float, most: int, seed: int) -> Task:
    """Part the training rows of a task: to learn from, and to judge by.

    Rows about the same text stay together.

    Args:
        task: The task; its dev and test splits are not looked at.
        share: Of the texts whose rows are kept back.
        most: Rows at most.
        seed: Of the parting.

    Returns:
        The task with two splits: ``train``, and the rows that were kept back as ``dev``.

    Raises:
        DataError: there are too few texts.
    """
    rows, (_, of_row) = task.rows("train"), task.passages()
    texts = int(of_row.max(initial=-1)) + 1
    rng = seeds.numpy_rng(seed, "auxiliary", "kept")
    drawn = rng.permutation(texts)[: round(share * texts)]
    many = np.cumsum(np.bincount(of_row, minlength=texts)[drawn])  # rows of the first texts, whole texts alone
    kept: Ints = np.flatnonzero(np.isin(of_row, drawn[many <= most]))
    if not 0 < len(kept) < len(rows):
        raise DataError(
            f"task '{task.name}': expected enough training texts to keep {share:.0%} back that trials are judged by, "
            f"found {texts}. Keep a larger share, or more rows (kept_rows: {most})."
        )
    stay = np.setdiff1d(np.arange(len(rows)), kept)
    return replace(task, tables={"train": rows.take(stay), "dev": rows.take(kept)})


def _some(task: Task, rows: Ints | None) -> Task:
    return task if rows is None else replace(task, tables={"train": task.rows("train").take(rows)})


def _trial(others: Sequence[Task], made: Sequence[Artifact]) -> Trial:
    about = [json.loads((one.folder / "trial.json").read_text()) for one in made]
    counts = [np.load(one.folder / "rows.npz", allow_pickle=False)["counts"] for one in made]
    return Trial(
        {task.name: len(task.rows("train")) for task in others},
        tuple(one["value"] for one in about),
        tuple(one["loss"] for one in about),
        sum(one.seconds for one in made),
        about[0]["updates"],
        np.stack(counts),
    )
